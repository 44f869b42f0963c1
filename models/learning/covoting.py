"""Which raters vote as one: many accounts of a member, or a brigade that follows a list.

Owns the evidence that two raters copy each other. Says nothing of whether they are right: a cluster is one voice, and
that voice is then judged as any other.

Two raters are joined when they rated enough replies in common and either
- agree far more than chance, the replies' quality and this community's habit explain: the log-likelihood ratio of
  "copies of each other" over "each by themselves" exceeds the logarithm of the number of pairs looked at over
  FALSE_JOINS, so that about that many pairs a night are joined by luck; or
- rate nearly the same replies the same way within seconds of each other, much closer than members here usually do.
Raters who always vote the same way agree by chance, and are left alone by the first rule.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from models.learning.vote_table import Flags, Floats, Ints

if TYPE_CHECKING:
    from models.learning.vote_table import VoteTable

MIN_COMMON = 8  # replies that both rated
COPY_AGREEMENT = 0.98
FALSE_JOINS = 0.01
EXPECTED_BOUNDS = (0.7, 0.95)  # two raters who are right 4 times in 5 agree on .68, each by themselves
HABIT_STRENGTH = 2.0  # votes of other raters on a reply that weigh as much as the community's habit
TWIN_AGREEMENT, TWIN_SHARED = 0.95, 0.8
TWIN_SECONDS, TWIN_FRACTION = 30.0, 0.2  # closer than this, and than this fraction of the usual gap
MAX_PAIRS = 2_000_000  # of votes on the same reply; beyond that a sample of the replies is looked at


@dataclass(frozen=True, slots=True)
class _CoVotes:
    """Pairs of votes on one reply, as row numbers (pairs,)."""

    left: Ints
    right: Ints


def clusters(table: VoteTable, exempt: Flags, *, seed: int) -> tuple[frozenset[int], ...]:
    """Return the groups (rater ids) of two or more who vote as one; `exempt` (raters,) are never joined.

    `seed` draws the replies that are looked at when there are too many to look at all.
    """
    co = _co_votes(table, seed)
    if len(co.left) < MIN_COMMON:
        return ()
    agree = table.up[co.left] == table.up[co.right]
    raters = len(table.raters)
    a, b = table.voice[co.left], table.voice[co.right]
    key, pair, common = np.unique(np.minimum(a, b) * raters + np.maximum(a, b), return_inverse=True, return_counts=True)
    expected = _expected_agreement(table, co, agree)
    ratio = np.where(agree, np.log(COPY_AGREEMENT / expected), np.log((1 - COPY_AGREEMENT) / (1 - expected)))
    enough = common >= MIN_COMMON
    copies = np.bincount(pair, ratio) > np.log(max(int(enough.sum()), 1) / FALSE_JOINS)
    joined = enough & (copies | _twins(table, co, agree, pair, common, key))
    left, right = key // raters, key % raters
    joined &= ~(exempt[left] | exempt[right])
    return _groups(table.raters[left[joined]].tolist(), table.raters[right[joined]].tolist())


def _co_votes(table: VoteTable, seed: int) -> _CoVotes:
    """List every pair of votes on the same reply, or those of a sample of the replies."""
    per_reply = np.bincount(table.reply, minlength=len(table.replies))
    looked_at = np.ones(len(per_reply), dtype=np.bool_)
    pairs = per_reply * (per_reply - 1) // 2
    if pairs.sum() > MAX_PAIRS:
        order = np.random.default_rng(seed).permutation(len(pairs))
        looked_at[order[np.cumsum(pairs[order]) > MAX_PAIRS]] = False
    rows = np.flatnonzero(looked_at[table.reply])
    reply = table.reply[rows]
    left: list[Ints] = []
    right: list[Ints] = []
    # Rows are ordered by reply: its votes are neighbours, and a reply of n votes ends at distance n - 1.
    for distance in range(1, int(per_reply.max(initial=0))):
        near = np.flatnonzero(reply[:-distance] == reply[distance:]) if distance < len(rows) else np.empty(0, np.int64)
        if not len(near):
            break
        left.append(rows[near])
        right.append(rows[near + distance])
    nothing = np.empty(0, np.int64)
    return _CoVotes(np.concatenate([nothing, *left]), np.concatenate([nothing, *right]))


def _expected_agreement(table: VoteTable, co: _CoVotes, agree: Flags) -> Floats:
    """Estimate, for each pair of votes, how probably two raters who vote by themselves agree there.

    The larger of what their own leanings give, and what the reply's other votes give, drawn to the community's habit:
    the median over raters of how often one agrees with the others (a bloc of less than half can't move it far).
    """
    raters = len(table.raters)
    a, b = table.voice[co.left], table.voice[co.right]
    lean = (np.bincount(table.voice, table.up, raters) + 1) / (table.votes_each() + 2)
    leanings = lean[a] * lean[b] + (1 - lean[a]) * (1 - lean[b])
    met = np.bincount(a, minlength=raters) + np.bincount(b, minlength=raters)
    agreed = np.bincount(a, agree, raters) + np.bincount(b, agree, raters)
    habit = float(np.median((agreed[met > 0] + 1) / (met[met > 0] + 2)))
    reply = table.reply[co.left]
    others = np.bincount(table.reply)[reply] - 2
    ups = np.bincount(table.reply, table.up)[reply] - table.up[co.left] - table.up[co.right]
    share = ups / np.maximum(others, 1)
    quality = (others * (share**2 + (1 - share) ** 2) + HABIT_STRENGTH * habit) / (others + HABIT_STRENGTH)
    return np.clip(np.maximum(leanings, quality), *EXPECTED_BOUNDS)


def _twins(table: VoteTable, co: _CoVotes, agree: Flags, pair: Ints, common: Ints, key: Ints) -> Flags:
    """Find the pairs that rate nearly the same replies the same way at nearly the same time."""
    gap = np.abs(table.rated_at[co.left] - table.rated_at[co.right])
    usual = float(np.median(gap))
    if usual <= 0:  # no times are known
        return np.zeros(len(key), dtype=np.bool_)
    close = np.bincount(pair, gap <= min(TWIN_SECONDS, TWIN_FRACTION * usual))
    votes, raters = table.votes_each(), len(table.raters)
    shared = common / (votes[key // raters] + votes[key % raters] - common)
    in_step = close >= TWIN_SHARED * common
    return in_step & (shared >= TWIN_SHARED) & (np.bincount(pair, agree) >= TWIN_AGREEMENT * common)


def _groups(left: list[int], right: list[int]) -> tuple[frozenset[int], ...]:
    """Return the connected components of a graph given by its edges."""
    group_of: dict[int, set[int]] = {}
    for a, b in zip(left, right, strict=True):
        group = group_of.get(a, {a}) | group_of.get(b, {b})
        for member in group:
            group_of[member] = group
    distinct = {min(group): frozenset(group) for group in group_of.values()}
    return tuple(distinct[first] for first in sorted(distinct))
