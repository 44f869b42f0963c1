"""The votes of a night as columns: cleaned, weighted, one row for each reply and voice.

Owns what one vote may count for before anyone's reliability is known: several votes of a rater on a reply are one, a
vote on a reply to one's own prompt counts half, raters who vote as one are one voice. Doesn't judge who is right.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from models.learning.activity import is_new, proven

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from models.learning.examples import RaterFacts, Vote

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
Flags: TypeAlias = NDArray[np.bool_]

NOTHING = 1e-9  # a sum of votes below this says nothing
OWN_PROMPT_WEIGHT = 0.5
OWN_PROMPT_CAP = 0.5  # of the median proven rater's votes: more votes than that on one's own prompts share this much


@dataclass(frozen=True, slots=True)
class VoteTable:
    """Rows (votes,) ordered by reply, then voice; `replies` and `raters` give the ids behind the row numbers.

    `strength` is in (0, 1]: 1 is a full vote. Voices are raters until `merged` joins some; `voice_of` is (raters,).
    """

    replies: Ints
    raters: Ints
    voice_of: Ints
    reply: Ints
    voice: Ints
    up: Flags
    strength: Floats
    rated_at: Floats  # seconds since the epoch

    @property
    def voices(self) -> int:
        return int(self.voice_of.max()) + 1 if len(self.voice_of) else 0

    def votes_each(self) -> Floats:
        """Count the votes of each voice (voices,)."""
        return np.bincount(self.voice, minlength=self.voices).astype(np.float64)


def tabulate(votes: Iterable[Vote], facts: Mapping[int, RaterFacts]) -> VoteTable:
    """Make the table of all votes but those of banned raters and those that say nothing (0 in sum).

    Nor of those who stand in for labels: their replies are gold, and as raters who are always right they would teach
    that the others err, two votes each that few vote much.
    """
    left_out = {rater_id for rater_id, fact in facts.items() if fact.banned or fact.stands_in}
    rows = [
        (v.reply_id, v.rater_id, v.value * v.weight, v.own_prompt, v.rated_at)
        for v in votes
        if v.rater_id not in left_out and v.value != 0 and v.weight > 0
    ]
    # Sums are taken in this order, whatever the order of the votes: the result is the same to the bit.
    rows.sort()
    columns = list(zip(*rows, strict=True)) or [()] * 5
    reply_id, rater_id = (np.array(column, dtype=np.int64) for column in columns[:2])
    first, row = _distinct(reply_id, rater_id)
    value = np.clip(np.bincount(row, np.array(columns[2], dtype=np.float64), len(first)), -1, 1)
    is_own = np.bincount(row, np.array(columns[3], dtype=np.bool_), len(first)) > 0
    said = np.abs(value) > NOTHING
    first, value, is_own = first[said], value[said], is_own[said]
    replies, reply = np.unique(reply_id[first], return_inverse=True)
    raters, rater = np.unique(rater_id[first], return_inverse=True)
    new = np.array([is_new(facts.get(one)) for one in raters.tolist()], dtype=np.bool_)
    return VoteTable(
        replies=replies,
        raters=raters,
        voice_of=np.arange(len(raters), dtype=np.int64),
        reply=reply,
        voice=rater,
        up=value > 0,
        strength=np.abs(value) * _own_prompt_factor(rater, is_own, new),
        rated_at=np.array(columns[4], dtype=np.float64)[first],
    )


def merged(table: VoteTable, clusters: Sequence[frozenset[int]]) -> VoteTable:
    """Join the raters (ids) of each cluster into one voice, whose vote on a reply is the mean of its members' there."""
    if not clusters:
        return table
    voice_of = np.arange(len(table.raters), dtype=np.int64)
    for cluster in clusters:
        members = np.searchsorted(table.raters, sorted(cluster))
        voice_of[members] = members[0]
    _, voice_of = np.unique(voice_of, return_inverse=True)
    voice = voice_of[table.voice]
    order = np.lexsort((voice, table.reply))
    reply, voice = table.reply[order], voice[order]
    first, row = _distinct(reply, voice)
    signed = np.where(table.up, table.strength, -table.strength)[order]
    value = np.bincount(row, signed, len(first)) / np.maximum(np.bincount(row, minlength=len(first)), 1)
    said = np.abs(value) > NOTHING
    first, value = first[said], value[said]
    return VoteTable(
        replies=table.replies,
        raters=table.raters,
        voice_of=voice_of,
        reply=reply[first],
        voice=voice[first],
        up=value > 0,
        strength=np.abs(value),
        rated_at=table.rated_at[order][first],
    )


def _distinct(reply: Ints, rater: Ints) -> tuple[Ints, Ints]:
    """Return where each distinct (reply, rater) first is, and which distinct one each place holds; both are sorted."""
    starts = np.ones(len(reply), dtype=np.bool_)
    starts[1:] = (reply[1:] != reply[:-1]) | (rater[1:] != rater[:-1])
    return np.flatnonzero(starts), np.cumsum(starts) - 1


def _own_prompt_factor(rater: Ints, is_own: Flags, new: Flags) -> Floats:
    if not is_own.any():
        return np.ones(len(rater))
    votes = np.bincount(rater, minlength=len(new)).astype(np.float64)
    allowed = OWN_PROMPT_CAP * float(np.median(votes[proven(votes, new)]))
    own_votes = np.bincount(rater, is_own, len(new))
    factor = OWN_PROMPT_WEIGHT * np.minimum(1, allowed / np.maximum(OWN_PROMPT_WEIGHT * own_votes, 1e-9))
    return np.where(is_own, factor[rater], 1.0)
