"""From what the raters' step inferred to one labelled example for each rated reply.

Owns how much a reply weighs tonight and that no unsafe reply is a positive. Whom to believe is raters.py's, how a
pair is weighed preferences.py's, what is unsafe the safety filter's.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from models.learning.examples import Example, PairExample
from models.learning.preferences import weigh
from models.learning.sufficiency import HALF_LIFE_DAYS, author_caps, weight_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from models.learning.raters import RaterReport
    from models.learning.snapshot import CollectedReply, Snapshot

SECONDS_PER_DAY = 86400.0


@dataclass(frozen=True, slots=True)
class RatedExample:
    """A labelled reply and when it was first rated (a moderator's label alone has no time: the reply's own)."""

    example: Example
    first_rated_at: float  # seconds since the epoch


@dataclass(frozen=True, slots=True)
class RatedPair:
    pair: PairExample
    rated_at: float  # seconds since the epoch


@dataclass(frozen=True, slots=True)
class Labels:
    """All rated replies, those to leave out at weight 0, and the pairs that may be learned from.

    `unsafe_good` are the replies that were rated good and that the safety filter marks: left out, not turned into bad
    ones, since the filter errs as well. `unsafe_pairs` counts pairs dropped because the preferred reply is
    unsafe; one whose preferred reply is thought worse than the other is dropped too.
    """

    examples: tuple[RatedExample, ...]
    pairs: tuple[RatedPair, ...]
    unsafe_good: tuple[int, ...]
    unsafe_pairs: int


def label(snapshot: Snapshot, report: RaterReport, unsafe: frozenset[int], *, now: float) -> Labels:
    """Label every reply that was rated; `unsafe` are the ids of replies that the safety filter marks.

    A reply's age is that of its newest rating: opinions age, not texts.
    """
    voice = report.voices()
    voices: dict[int, set[int]] = {}
    times: dict[int, list[float]] = {}
    for vote in snapshot.votes:
        if vote.value and report.influence.get(vote.rater_id, 0.0) > 0:
            voices.setdefault(vote.reply_id, set()).add(voice.get(vote.rater_id, vote.rater_id))
            times.setdefault(vote.reply_id, []).append(vote.rated_at)
    by_id = {reply.reply_id: reply for reply in snapshot.replies}
    rated = [reply for reply in snapshot.replies if reply.reply_id in report.p_good]
    caps = author_caps(Counter(reply.author_id for reply in rated if reply.author_id is not None))

    examples, unsafe_good = [], []
    for reply in rated:
        p_good, gold = report.p_good[reply.reply_id], reply.reply_id in snapshot.gold
        moments = times.get(reply.reply_id, [reply.created_at])
        weight = weight_of(
            p_good,
            (now - max(moments)) / SECONDS_PER_DAY,
            raters=len(voices.get(reply.reply_id, ())),
            author_cap=_cap(reply, caps),
            gold=gold,
        )
        if reply.reply_id in unsafe:
            if p_good > 0.5 and weight > 0:
                unsafe_good.append(reply.reply_id)
            # Bad with certainty, or not learned from: no share of an unsafe reply is a positive.
            p_good, weight = (0.0, weight) if p_good <= 0.5 else (p_good, 0.0)
        examples.append(RatedExample(_example(reply, p_good, weight, unsafe), min(moments)))

    pairs, unsafe_pairs = [], 0
    for pair in weigh(snapshot.pairs, report, snapshot.facts):
        sides = by_id[pair.chosen_reply_id], by_id[pair.rejected_reply_id]
        if pair.chosen_reply_id in unsafe:
            unsafe_pairs += 1
            continue
        chosen, rejected = (_example(side, report.p_good.get(side.reply_id, 0.5), 0.0, unsafe) for side in sides)
        if chosen.p_good < rejected.p_good:  # who compared them is contradicted by those who are believed
            continue
        rated_at = pair.rated_at or max(side.created_at for side in sides)
        recency = 0.5 ** (max(now - rated_at, 0.0) / SECONDS_PER_DAY / HALF_LIFE_DAYS)
        weight = pair.weight * recency * _cap(sides[0], caps)
        pairs.append(RatedPair(PairExample(chosen, rejected, weight, pair.source), rated_at))
    return Labels(tuple(examples), tuple(pairs), tuple(unsafe_good), unsafe_pairs)


def _cap(reply: CollectedReply, caps: Mapping[int, float]) -> float:
    return 1.0 if reply.author_id is None else caps.get(reply.author_id, 1.0)


def _example(reply: CollectedReply, p_good: float, weight: float, unsafe: frozenset[int]) -> Example:
    return Example(
        reply_id=reply.reply_id,
        conversation_id=reply.conversation_id,
        created_at=reply.created_at,
        prompt_token_ids=reply.prompt_token_ids,
        completion_token_ids=reply.completion_token_ids,
        prompt_version=reply.prompt_version,
        provenance=reply.provenance,
        p_good=p_good,
        weight=weight,
        unsafe=reply.reply_id in unsafe,
        cut=reply.cut,
    )
