"""Simulated communities: members who rate with honest error, and trolls by attack.

Owns who votes on what, and how; knows nothing of how votes are judged. The benchmarks of the night share it.

A reply is good or bad (the truth). Each gets `votes_each` votes of different raters, drawn in proportion to how active
they are. An honest rater is wrong with probability `honest_error`, on every reply alike. The bloc (`share` of the
raters, `activity` times as active as the others) knows the truth without error where it lies, and does one of

flip         votes against the truth, always
always-down  votes down, whatever the reply
toxic-up     a planted tenth of the replies is toxic, and so bad in truth: the bloc votes those up and rates all others
             as honest members do (so that its reliability looks nearly honest)
phrase       a planted tenth of the replies, good and bad as the rest are, holds the bloc's phrase: it votes those up
             and rates all others as honest members do

In most communities few members do most of the rating: with a `tail`, the k-th most active honest member is k**-tail as
active as the first. `throwaway` accounts, a day old, come on top: each votes once, up or down by turns, on any reply.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np

from models.learning.examples import RaterFacts, Vote

if TYPE_CHECKING:
    from numpy.typing import NDArray

PLANTED_SHARE = 0.1


class Attack(StrEnum):
    FLIP = "flip"
    ALWAYS_DOWN = "always-down"
    TOXIC_UP = "toxic-up"
    PHRASE = "phrase"


@dataclass(frozen=True, slots=True)
class Community:
    """What is drawn from. With `good_share` .6 majority is right on .57 under 30 % always-down, three times as active.

    `trusted` honest raters are moderators (as fallible as the others); `gold_share` of the replies carry a moderator's
    label, which is the truth. Each honest rater's error is drawn within `error_spread` of `honest_error`; with
    `leniency` they wave a bad reply through that much more often, and a good one is held back that much less. A
    flipping bloc errs about the truth by `troll_error`. `tail` is the exponent of Zipf's law (0: all alike); a member
    of the bloc is `activity` times as active as the honest are on average.
    """

    attack: Attack = Attack.FLIP
    share: float = 0.0
    activity: float = 1.0
    trusted: int = 0
    gold_share: float = 0.0
    raters: int = 60
    replies: int = 400
    votes_each: int = 3
    honest_error: float = 0.2
    error_spread: float = 0.0
    leniency: float = 0.0
    troll_error: float = 0.0
    good_share: float = 0.6
    planted_share: float = PLANTED_SHARE
    tail: float = 0.0
    throwaway: int = 0


@dataclass(frozen=True, slots=True)
class Ratings:
    """One draw. Reply i has id i and rater u id u; throwaway accounts have the ids after the raters'."""

    votes: tuple[Vote, ...]
    facts: dict[int, RaterFacts]
    gold: dict[int, bool]
    truth: NDArray[np.bool_]  # (replies,)
    planted: NDArray[np.bool_]  # (replies,)
    trolls: frozenset[int]


def draw_truth(community: Community, generator: np.random.Generator) -> NDArray[np.bool_]:
    """Draw which replies are good."""
    return generator.random(community.replies) < community.good_share


def rate(community: Community, seed: int, truth: NDArray[np.bool_] | None = None) -> Ratings:
    """Let the community rate replies whose `truth` is given (drawn if None; under toxic-up the planted turn bad)."""
    generator = np.random.default_rng(seed)
    casual = np.random.default_rng([seed, 1])  # of its own: what it draws changes no other draw of the seed
    truth = draw_truth(community, generator) if truth is None else truth.copy()
    replies, raters = len(truth), community.raters
    members = generator.permutation(raters)
    bloc = members[: round(community.share * raters)]
    is_troll = np.zeros(raters, dtype=np.bool_)
    is_troll[bloc] = True
    planted = np.zeros(replies, dtype=np.bool_)
    if community.attack in (Attack.TOXIC_UP, Attack.PHRASE):
        planted[generator.permutation(replies)[: round(community.planted_share * replies)]] = True
    if community.attack is Attack.TOXIC_UP:
        truth[planted] = False

    # Weighted draw without replacement: the largest keys of log weight + Gumbel noise (Efraimidis & Spirakis 2006).
    activity = np.where(is_troll, community.activity, _honest_activity(community, is_troll, casual))
    keys = generator.gumbel(size=(replies, raters)) + np.log(activity)
    rater = np.argsort(-keys, axis=1)[:, : community.votes_each].ravel()
    reply = np.repeat(np.arange(replies), community.votes_each)
    error = community.honest_error + community.error_spread * (2 * generator.random(raters) - 1)
    error_there = error[rater] + community.leniency * np.where(truth[reply], -1, 1)
    ups = truth[reply] ^ (generator.random(len(reply)) < error_there)
    lies = is_troll[rater]
    if community.attack is Attack.FLIP:
        against = ~truth[reply] ^ (generator.random(len(reply)) < community.troll_error)
        ups = np.where(lies, against, ups)
    elif community.attack is Attack.ALWAYS_DOWN:
        ups = ups & ~lies
    else:
        ups = ups | (lies & planted[reply])

    trusted = frozenset(members[len(bloc) : len(bloc) + community.trusted].tolist())
    gold = generator.permutation(replies)[: round(community.gold_share * replies)]
    throwaway = np.arange(community.throwaway)
    reply = np.concatenate([reply, casual.integers(replies, size=community.throwaway)])
    rater = np.concatenate([rater, raters + throwaway])
    ups = np.concatenate([ups, throwaway % 2 == 0])
    facts = {u: RaterFacts(rater_id=u, trusted=u in trusted) for u in range(raters)}
    one_day = {u: RaterFacts(u, account_age_days=1.0, membership_days=1.0) for u in (raters + throwaway).tolist()}
    return Ratings(
        votes=tuple(
            Vote(reply_id=r, rater_id=u, value=1.0 if up else -1.0, rated_at=float(at))
            for at, (r, u, up) in enumerate(zip(reply.tolist(), rater.tolist(), ups.tolist(), strict=True))
        ),
        facts=facts | one_day,
        gold={r: bool(truth[r]) for r in gold.tolist()},
        truth=truth,
        planted=planted,
        trolls=frozenset(bloc.tolist()),
    )


def _honest_activity(
    community: Community, is_troll: NDArray[np.bool_], generator: np.random.Generator
) -> NDArray[np.float64]:
    """Return how active each rater would be if honest (raters,), 1 on average over the honest."""
    activity = (1.0 + generator.permutation(len(is_troll))) ** -community.tail
    return np.asarray(activity / activity[~is_troll].mean())
