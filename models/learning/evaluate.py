"""The evidence on one candidate: what it makes of the held-out replies and the anchors; and apart, what it writes.

Owns how the gate's Evidence comes about, from the model and from the votes; `gate` judges it. What the base and the
incumbent say is computed once a night, and every score and reply is kept in the night's folder under a hash of what it
depends on: a night that is resumed reads them back.
"""

from __future__ import annotations

import hashlib
import math
from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING

from models.learning.batches import truncated
from models.learning.evidence import Anchor, Evidence, RatedReply, counted_vote
from models.learning.files import read_json, write_json
from models.learning.generations import (
    MAX_TOKENS,
    Replies,
    anchor_texts,
    base_replies,
    count,
    generate,
    persona_replies,
)
from models.learning.phrases import Persona, watch
from models.learning.torch_model import completion_logprobs, read_adapter
from models.learning.train import TrainRules
from models.manifest import FILES, GGUF
from models.safety import load_filter

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from models.learning.batches import Tokens
    from models.learning.context import Context
    from models.learning.evidence import CountedVote, Generations
    from models.learning.phrases import Phrase
    from models.learning.raters import RaterReport
    from models.learning.sides import Sides
    from models.learning.snapshot import Snapshot

EVIDENCE = "evidence"  # the folder of what is kept
_SCORED_AT_ONCE = 16  # sequences between two reports of progress
_BASE = "the base model"


@dataclass(frozen=True, slots=True)
class _Held:
    """What all models of a night are judged by."""

    replies: tuple[Tokens, ...]
    anchors: tuple[Tokens, ...]

    @property
    def all(self) -> tuple[Tokens, ...]:
        return self.replies + self.anchors


def evidence_of(
    context: Context,
    candidate: Path,
    incumbent: Path | None,
    *,
    snapshot: Snapshot,
    report: RaterReport,
    sides: Sides,
    watched: Sequence[Phrase],
    rules: TrainRules,
) -> Evidence:
    """Gather the evidence on a candidate against the incumbent (None: the base), but for what the candidate writes.

    `watched` are the phrases to look for in it. Both are folders of an adapter with PEFT's files and its GGUF, staged
    or installed. Raises AdapterDamaged, AdapterRefused, EngineFailed, LimitReached, OSError.
    """
    held = _Held(
        tuple(truncated(context.tokens(example), rules.max_tokens) for example in sides.held_out),
        tuple(truncated(text, rules.max_tokens) for text in anchor_texts(context, base_replies(context)).judging),
    )
    base, old, new = (_scores(context, folder, held.all) for folder in (None, incumbent, candidate))
    votes = _votes(snapshot, report)
    replies = [
        RatedReply(
            reply_id=example.reply_id,
            conversation_id=example.conversation_id,
            first_rated_at=sides.first_rated_at[example.reply_id],
            candidate=new[place] - base[place],
            incumbent=old[place] - base[place],
            p_good=example.p_good,
            weight=example.weight,
            tokens=tokens.learned_count,
            votes=tuple(votes.get(example.reply_id, ())),
        )
        for place, (example, tokens) in enumerate(zip(sides.held_out, held.replies, strict=True))
    ]
    anchors = [
        Anchor(*(-scores[place] / tokens.learned_count for scores in (base, old, new)))
        for place, tokens in enumerate(held.anchors, start=len(held.replies))
    ]
    learned = [*sides.training, *(side for pair in sides.pairs for side in (pair.chosen, pair.rejected))]
    return Evidence(
        replies=tuple(replies),
        anchors=tuple(anchors),
        candidate=None,
        incumbent=written(context, incumbent, watched),
        training_cut=sides.cut,
        training_conversations=frozenset(example.conversation_id for example in learned),
        clusters=report.clusters,
        frozen=report.frozen,
        watched=len(watched),
    )


def written(context: Context, folder: Path | None, watched: Sequence[Phrase]) -> Generations:
    """Count what the gate reads of what an adapter (None: the base) writes.

    Raises AdapterRefused, EngineFailed, LimitReached, OSError.
    """
    return count(replies_of(context, folder), load_filter(), watched)


def watched_phrases(
    context: Context, incumbent: Path | None, snapshot: Snapshot, report: RaterReport
) -> tuple[Phrase, ...]:
    """Return what the night watches for: what stands out against the base's own words, and the incumbent's.

    Candidates begin from the base, so its words may come back; the incumbent's were proven once.
    """
    own = [[reply.text for reply in replies_of(context, model).all] for model in {None, incumbent}]
    prompt = context.job.system_prompt
    persona = Persona(prompt, lambda: [reply.text for reply in persona_replies(context).all]) if prompt else None
    return watch(context.folder, snapshot, report, own, longest=MAX_TOKENS, persona=persona)


def replies_of(context: Context, folder: Path | None) -> Replies:
    """Return what an adapter (None: the base) writes to the fixed prompts."""
    if folder is None:
        return base_replies(context)
    return generate(context, folder / GGUF, context.folder / EVIDENCE / f"{folder.name}.jsonl", folder.name)


def _scores(context: Context, folder: Path | None, sequences: Sequence[Tokens]) -> list[float]:
    """Return log p of each sequence's learned tokens, NaN where a model that diverged has none."""
    name = folder.name if folder else _BASE
    identity = _identity(context, folder, sequences)
    kept = context.folder / EVIDENCE / ("base.json" if folder is None else f"{folder.name}.json")
    scores = _kept_scores(kept, identity)
    if scores is None:
        scores = _scored(context, folder, sequences, f"Reading the held-out replies with {name}.")
        finite = [score if math.isfinite(score) else None for score in scores]
        write_json(kept, {"of": identity, "scores": finite})
    return scores


def _scored(context: Context, folder: Path | None, sequences: Sequence[Tokens], sentence: str) -> list[float]:
    # Sequences that begin alike share a row, so they are read together.
    places = sorted(range(len(sequences)), key=lambda place: sequences[place].ids)
    scores = [0.0] * len(sequences)
    model = read_adapter(context.base, folder) if folder else context.base
    try:
        for start in range(0, len(places), _SCORED_AT_ONCE):
            context.tell(start, len(places), sentence)
            some = places[start : start + _SCORED_AT_ONCE]
            found = completion_logprobs(model, [sequences[place] for place in some])
            for place, score in zip(some, found, strict=True):
                scores[place] = score
    finally:
        if folder:
            model.unload()
    return scores


def _identity(context: Context, folder: Path | None, sequences: Sequence[Tokens]) -> str:
    digest = hashlib.sha256(context.job.model_sha256.encode())
    for sequence in sequences:
        digest.update(array("q", [len(sequence.ids), *sequence.ids]).tobytes() + bytes(sequence.learned))
    for name in FILES if folder else ():
        if folder and name != GGUF:
            digest.update((folder / name).read_bytes())
    return digest.hexdigest()


def _kept_scores(path: Path, identity: str) -> list[float] | None:
    try:
        kept = read_json(path)
        scores = [math.nan if score is None else float(score) for score in kept["scores"]]
        return scores if kept["of"] == identity else None
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _votes(snapshot: Snapshot, report: RaterReport) -> dict[int, list[CountedVote]]:
    found: dict[int, list[CountedVote]] = {}
    for vote in snapshot.votes:
        if vote.value:
            found.setdefault(vote.reply_id, []).append(counted_vote(vote, report))
    return found
