"""Snapshots for the tests of a night: small, seeded, with everything that a real one has."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from models.fetch import sha256_of
from models.learning import generations
from models.learning import night as nights
from models.learning.context import Context
from models.learning.examples import RaterFacts, Vote
from models.learning.files import write_bytes
from models.learning.fixed_prompts import brief_prompts, leading_prompts, neutral_prompts
from models.learning.generations import GeneratedReply
from models.learning.job import SNAPSHOT, Job, Progress, Result, write_job
from models.learning.snapshot import CollectedPair, CollectedReply, Snapshot, write_snapshot
from models.prompt import PROMPT_VERSION
from tests.models.tiny_gguf import cache_tiny_tokenizer, write_tiny_gguf

NOW = 1_790_000_000.0
HOUR = 3600.0

QUICK: dict[str, Any] = {"rank": 4, "alpha": 8, "learning_rate": 5e-3, "epochs": 2, "checkpoint_every": 4}
LENIENT: dict[str, Any] = {"min_effective_replies": 16.0, "min_replies_of_a_class": 6, "resamples": 200}
# A tiny model that learned a taste in seconds has forgotten what little it knew, and talks in circles as before.
PROMOTING: dict[str, Any] = {
    **LENIENT,
    "max_anchor_rise": 100.0,
    "max_length_ratio": 100.0,
    "min_length_ratio": 0.0,
    "toxicity_level": 0.0,
    "repetition_level": 0.0,
    "sycophancy_level": 0.0,
    "max_positives_fall": 100.0,
}


def reply(reply_id: int, **changes: object) -> CollectedReply:
    made = CollectedReply(
        reply_id=reply_id,
        conversation_id=f"conversation {reply_id}",
        created_at=NOW - 1000 * HOUR + reply_id * HOUR,
        author_id=None,
        prompt_token_ids=(1, 10, 2, 1, 11),
        completion_token_ids=(20, 21, 22),
        prompt_version=PROMPT_VERSION,
        provenance="operator",
        completion_text="fine",
        adapter=None,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def votes_on(
    replies: Sequence[CollectedReply], good: Sequence[bool], *, raters: int, each: int, seed: int
) -> list[Vote]:
    """Let `each` of the raters vote on each reply a minute apart, wrong one time in eight."""
    draw = random.Random(seed)
    return [
        Vote(
            reply_id=one.reply_id,
            rater_id=rater,
            value=1.0 if is_good == (draw.random() > 0.125) else -1.0,
            rated_at=one.created_at + 60.0 * (place + 1),
        )
        for one, is_good in zip(replies, good, strict=True)
        for place, rater in enumerate(draw.sample(range(1, raters + 1), each))
    ]


def small_snapshot() -> Snapshot:
    """Four replies, a pair, a label, a trusted rater."""
    replies = tuple(reply(reply_id) for reply_id in (1, 2, 3, 4))
    return Snapshot(
        replies=replies,
        votes=tuple(votes_on(replies, (True, False, True, False), raters=5, each=3, seed=1)),
        facts={1: RaterFacts(1, trusted=True), 2: RaterFacts(2, account_age_days=3.5)},
        gold={4: False},
        pairs=(CollectedPair(3, 4, 0.5, "click", NOW - 1.0),),
    )


def tasteful_snapshot(
    replies: int = 120, *, raters: int = 16, seed: int = 0, pairs: int = 0, taste: bool = True
) -> Snapshot:
    """Return replies with a taste in them, for a model of 256 tokens or more: the good ones begin with 70, bad with 80.

    Without `taste` they all begin with 70. The raters are right seven times in eight. Pairs are of a reply and one more
    to its prompt that begins otherwise.
    """
    draw = random.Random(seed)
    shown, good = [], []
    for number in range(replies):
        prompt = (1, *(draw.randrange(20, 60) for _ in range(6)), 2)
        rest = tuple(draw.randrange(20, 60) for _ in range(draw.randrange(3, 9)))
        good.append(number % 2 == 0)
        ids = (70 if good[-1] or not taste else 80, *rest)
        shown.append(reply(number, prompt_token_ids=prompt, completion_token_ids=ids))
    rivals = []
    for number in range(pairs):
        first, *rest = shown[number].completion_token_ids
        ids = (150 - first, *rest)
        rivals.append(replace(shown[number], reply_id=10_000 + number, completion_token_ids=ids))
    return Snapshot(
        replies=(*shown, *rivals),
        votes=tuple(votes_on(shown, good, raters=raters, each=3, seed=seed)),
        facts={rater: RaterFacts(rater, trusted=rater <= 2) for rater in range(1, raters + 1)},
        gold={},
        pairs=tuple(
            CollectedPair(*((n, 10_000 + n) if good[n] else (10_000 + n, n)), 1.0, "click", shown[n].created_at + 90.0)
            for n in range(pairs)
        ),
    )


def tiny_model(folder: Path) -> Path:
    """Write a tiny random model with its tokenizer, as Encore keeps them, into `folder` and return its GGUF."""
    gguf = write_tiny_gguf(folder / "tiny.gguf")
    cache_tiny_tokenizer(gguf, folder)
    return gguf


def make_night(folder: Path, gguf: Path, snapshot: Snapshot, **changes: Any) -> Job:
    """Write a night on a tiny model that trains and judges in seconds; `changes` are of its job."""
    made = Job(
        night_id=folder.name,
        model_path=gguf,
        model_sha256=sha256_of(gguf),
        model_name="tiny",
        models_dir=gguf.parent,
        adapters_dir=folder.parent / "adapters",
        dataset_sha256=write_snapshot(folder / SNAPSHOT, snapshot),
        now=NOW,
        train_rules=QUICK,
        gate_rules=LENIENT,
    )
    job = replace(made, **changes)
    write_job(folder, job)
    keep_base_replies(folder, job)
    return job


# What makes a night's checks quick, and possible for a model that is never sure of a token: module, name, value.
SMALL_CHECKS: tuple[tuple[str, str, Any], ...] = (
    ("models.learning.generations", "MAX_TOKENS", 4),
    ("models.learning.generations", "MAX_LEADING_TOKENS", 2),
    ("models.learning.generations", "MAX_BRIEF_TOKENS", 4),
    ("models.learning.parity", "_TEXTS", 6),
    ("models.learning.parity", "MIN_PREFIXES", 24),
    ("models.learning.parity", "MARGIN_NATS", 0.005),
)


def keep_base_replies(folder: Path, job: Job) -> None:
    """Keep replies of many words for the base, as if it had written them: a tiny random model repeats one or two."""
    context = Context(folder, job, say=lambda progress: None)
    path = job.models_dir / "base-replies" / f"{job.model_sha256[:16]}.jsonl"
    if path.exists() or not job.model_path.exists():
        return
    draw = random.Random(0)
    count = len(neutral_prompts()) + len(leading_prompts()) + len(brief_prompts())
    written = [GeneratedReply("fine", tuple(draw.sample(range(20, 60), 32)), ended=True) for _ in range(count)]
    lines = [{"of": generations._identity(context, None)}, *(asdict(reply) for reply in written)]
    write_bytes(path, "".join(json.dumps(line) + "\n" for line in lines).encode())


def run_night(folder: Path) -> tuple[Result, list[Progress]]:
    """Run a night here and return what it came to and told."""
    told: list[Progress] = []
    return nights.night(folder, say=told.append), told


def steps(told: list[Progress]) -> list[str]:
    return list(dict.fromkeys(progress.step for progress in told))
