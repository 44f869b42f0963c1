"""A night's folder made of human preferences and a simulated community, for benchmarks that need a whole real night.

Owns the making alone: what the night does with it is models/learning/night.py's, run as its own process like the bot's.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.preferences import read_pairs
from benchmarks.simulation import Attack, Community, rate
from models.learning.job import JOB, SNAPSHOT, Job, read_job, write_job
from models.learning.snapshot import CollectedReply, Snapshot, write_snapshot
from models.prompt import PROMPT_VERSION, PromptBuilder
from models.spec import resolve
from models.tokenizer import prepare

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NOW = 1_790_000_000.0  # a fixed clock: the same arguments make the same night
WEEK_SECONDS = 7 * 86400.0
MOST_TOKENS = 256


@dataclass(frozen=True, slots=True)
class Made:
    """A night that can be started, and what its raters don't know: which replies are good, by id."""

    job: Job
    truth: dict[int, bool]


def make_night(
    folder: Path,
    data: Path,
    models_dir: Path,
    *,
    replies: int,
    seed: int,
    attack: Attack = Attack.FLIP,
    trolls: float = 0.3,
    kept_out: int = 0,
    threads: int = 1,
) -> Made:
    """Write a night on one side, by a fair coin, of `replies` HH pairs, rated by 60 members of whom `trolls` lie.

    The first `kept_out` pairs aren't used. A folder that has its job.json is left as it is, so that an interrupted
    night goes on. Raises FileNotFoundError without the data.
    """
    spec = resolve("embedded", models_dir)
    assert spec.path is not None
    tokenizer = prepare(spec, models_dir)
    pairs = read_pairs(data, tokenizer, PromptBuilder(tokenizer), most_tokens=MOST_TOKENS)[kept_out:]
    generator = np.random.default_rng(seed)
    shown = [pairs[at] for at in generator.permutation(len(pairs))[:replies]]
    truth = generator.random(len(shown)) < 0.5
    community = Community(attack, trolls, trusted=5, replies=len(shown))
    ratings = rate(community, 20_000 + seed, truth)
    pace = WEEK_SECONDS / len(ratings.votes)
    collected = []
    for i, (pair, good) in enumerate(zip(shown, truth.tolist(), strict=True)):
        completion = pair.chosen if good else pair.rejected
        collected.append(
            CollectedReply(
                reply_id=i,
                conversation_id=pair.key,
                created_at=NOW - WEEK_SECONDS + pace * community.votes_each * i,
                author_id=None,
                prompt_token_ids=pair.prompt,
                completion_token_ids=completion,
                prompt_version=PROMPT_VERSION,
                provenance="import",
                completion_text=tokenizer.decode(list(completion)),
                adapter=None,
            )
        )
    votes = tuple(replace(vote, rated_at=NOW - WEEK_SECONDS + pace * vote.rated_at) for vote in ratings.votes)
    snapshot = Snapshot(tuple(collected), votes, ratings.facts, {})
    job = Job(
        night_id=folder.name,
        model_path=spec.path.resolve(),
        model_sha256=spec.sha256,
        model_name=spec.name,
        models_dir=models_dir.resolve(),
        adapters_dir=folder.parent.resolve() / "adapters",
        dataset_sha256="",
        now=NOW,
        seed=seed,
        threads=threads,
    )
    if not (folder / JOB).exists():
        folder.mkdir(parents=True, exist_ok=True)
        digest = write_snapshot(folder / SNAPSHOT, snapshot)
        write_job(folder, replace(job, dataset_sha256=digest))
    return Made(read_job(folder), dict(enumerate(ratings.truth.tolist())))


def start_night(folder: Path) -> subprocess.Popen[str]:
    """Start the night's process in a session of its own; its standard output is its progress."""
    return subprocess.Popen(
        [sys.executable, "-m", "models.learning.night", str(folder)],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def follow(process: subprocess.Popen[str], told: Callable[[dict[str, Any]], bool]) -> None:
    """Hand each line of progress to `told` until it returns True or the process ends."""
    assert process.stdout is not None
    for line in process.stdout:
        if told(json.loads(line)):
            return
