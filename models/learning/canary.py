"""The canary: after a promotion some conversations go to the candidate, the others to the incumbent, until it is known.

Owns when to roll back; which arm a conversation is in is `models.arms`'s. Keeps no state: the ratings are the
caller's, who logged the propensity with each reply. Two rules may roll back:

posterior   P(candidate < incumbent - 3 points) > .9, rates being Beta (1, 1) before. The unit is the conversation, as
            that is what was assigned: its replies are not independent. Means are weighted by 1 / propensity (Hajek) and
            count as their effective number (Kish 1965). By quadrature: the same ratings give the same answer.
anytime     a test martingale by betting (Waudby-Smith & Ramdas 2024) against "at most 3 points worse", on the first
            rating of each conversation in order: at 20 it rolls back, and by Ville's inequality a candidate that isn't
            worse is rolled back with probability <= .05 however often one looks.

The posterior is quicker and wrong more often, since it is looked at every few minutes. A rater is heard in a share of
the conversations alone: what they say beyond that counts for nothing, which is known before any arm could tell.
A wrong rollback costs a night; a late one costs the members. Both assume that the arm doesn't change who rates.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from models.arms import SHARES, Arm, Assignment, CanaryRating, CanaryVerdict, Decision, assign
from models.learning.words import counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

__all__ = [
    "SHARES", "Arm", "Assignment", "CanaryRating", "CanaryRules", "CanaryVerdict", "Decision", "assign", "decide",
]  # fmt: skip

NODES = 256
BETS = np.array([0.05, 0.1, 0.2, 0.4])  # of the largest bet that can't lose all; the wealth is their mean


@dataclass(frozen=True, slots=True)
class CanaryRules:
    """A decision by the posterior, either way, waits for `min_conversations` in each arm."""

    margin: float = 0.03
    certainty: float = 0.9
    anytime_level: float = 0.05
    min_conversations: int = 30
    rater_share: float = 0.15  # of the rated conversations so far
    rater_least: int = 5  # conversations that any rater may rate


DEFAULT_CANARY_RULES = CanaryRules()


def decide(ratings: Iterable[CanaryRating], *, rules: CanaryRules = DEFAULT_CANARY_RULES) -> CanaryVerdict:
    """Decide from all ratings so far, in any order."""
    of_conversation: dict[str, list[CanaryRating]] = {}
    for rating in heard(ratings, rules):
        of_conversation.setdefault(rating.conversation_id, []).append(rating)
    counts, rates, posteriors = [], [], []
    for arm in (Arm.CANDIDATE, Arm.INCUMBENT):
        rated = [conversation for conversation in of_conversation.values() if conversation[0].arm is arm]
        good = np.array([np.mean([rating.good for rating in conversation]) for conversation in rated])
        weight = np.array([1 / conversation[0].propensity for conversation in rated])
        counts.append(len(rated))
        rates.append(float(np.average(good, weights=weight)) if len(rated) else float("nan"))
        posteriors.append(_posterior(good, weight))
    worse = probability_below(posteriors[0], posteriors[1], margin=rules.margin)
    wealth = bettor_wealth([conversation[0] for conversation in of_conversation.values()], margin=rules.margin)

    decision = Decision.CONTINUE
    if wealth >= 1 / rules.anytime_level:
        decision = Decision.ROLL_BACK
    elif min(counts) >= rules.min_conversations:
        if worse > rules.certainty:
            decision = Decision.ROLL_BACK
        elif worse < 1 - rules.certainty:
            decision = Decision.KEEP
    sentence = _sentence((rates[0], rates[1]), (counts[0], counts[1]), worse, rules.margin)
    return CanaryVerdict(decision, worse, wealth, (rates[0], rates[1]), (counts[0], counts[1]), sentence)


def heard(ratings: Iterable[CanaryRating], rules: CanaryRules = DEFAULT_CANARY_RULES) -> Iterator[CanaryRating]:
    """Yield, in order of time, what counts: of each rater no more conversations than their share."""
    rated: set[str] = set()
    of_rater: defaultdict[int, set[str]] = defaultdict(set)
    for rating in sorted(ratings, key=lambda r: (r.rated_at, r.conversation_id, r.rater_id)):
        own = of_rater[rating.rater_id]
        if rating.conversation_id in own or len(own) < max(rules.rater_least, rules.rater_share * len(rated)):
            own.add(rating.conversation_id)
            rated.add(rating.conversation_id)
            yield rating


def _sentence(rates: tuple[float, float], counts: tuple[int, int], worse: float, margin: float) -> str:
    if not any(counts):
        return "No conversation has been rated yet."
    candidate, incumbent = (
        f"are {rate:.1%} good in {counted(count, 'conversation')}" if count else "are none yet"
        for rate, count in zip(rates, counts, strict=True)
    )
    told = f"The candidate's ratings {candidate}, the incumbent's {incumbent}"
    if not all(counts):
        return f"{told}."
    return f"{told}; it is more than {100 * margin:g} points worse with probability {worse:.2f}."


def probability_below(one: tuple[float, float], other: tuple[float, float], *, margin: float) -> float:
    """Return P(X < Y - margin) of independent X ~ Beta(*one), Y ~ Beta(*other), by Gauss-Legendre quadrature.

    It is the mean over u of F_X(F_Y^-1(u) - margin); exact to 1e-6.
    """
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    quantiles = stats.beta.ppf((nodes + 1) / 2, *other)
    return float(weights @ stats.beta.cdf(quantiles - margin, *one) / 2)


def bettor_wealth(first_ratings: Sequence[CanaryRating], *, margin: float) -> float:
    """Return the highest wealth so far of one who bets, from 1, that the candidate is worse by more than `margin`.

    Each rating is one bet, on -(z + margin) with z = +-(good - 1/2) / propensity, whose mean is the difference of the
    rates whatever the propensities were; so the wealth is a supermartingale if the candidate isn't worse.
    """
    if not first_ratings:
        return 1.0
    sign = np.array([1.0 if rating.arm is Arm.CANDIDATE else -1.0 for rating in first_ratings])
    good = np.array([rating.good for rating in first_ratings])
    propensity = np.array([rating.propensity for rating in first_ratings])
    outcome = -(sign * (good - 0.5) / propensity + margin)
    # The worst that can happen, known before the rating: a good reply of the candidate's, or a bad one of the other's.
    # Over both arms, since the bet is placed before the conversation is assigned.
    own, opposite = propensity, 1 - propensity
    worst = 0.5 / np.minimum(own, opposite) + margin
    wealth = np.cumsum(np.log1p(BETS[:, None] * outcome / worst), axis=1)
    return float(max(1.0, np.exp(wealth).mean(axis=0).max()))


def _posterior(good: NDArray[np.float64], weight: NDArray[np.float64]) -> tuple[float, float]:
    if not len(good):
        return 1.0, 1.0
    effective = float(weight.sum() ** 2 / (weight**2).sum())
    rate = float(np.average(good, weights=weight))
    return 1 + effective * rate, 1 + effective * (1 - rate)
