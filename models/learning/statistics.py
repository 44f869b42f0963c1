"""Statistics of a paired comparison on rated replies, where replies share conversations and raters.

Owns estimates and their errors; knows nothing of rules or verdicts. Everything is deterministic for a given seed.

A reply's mass is its weight, positive if it is thought good and negative if bad. The gain is the candidate's weighted
preference AUC (a good reply's log-ratio above a bad one's, ties half) less the incumbent's, on the same replies.

Errors are two-way clustered. Conversations hold 1-6 replies of one topic; a rater's taste is in all that they rated. So
the gain is bootstrapped by conversation, by rater, and by their intersection, and the variances are combined as
V_conversation + V_rater - V_both (Cameron, Gelbach & Miller 2011). Weights are exponential (Rubin 1981; Owen & Eckles
2012), so that no resample lacks a class. A reply's weight by rater is 1 + sum over votes of share x (weight - 1).

Why not two others: Owen's pigeonhole bootstrap (2007) multiplies conversation and rater weights, and so counts plain
noise up to three times. Unsigned shares credit who voted down with the reply being good, and so hide a taste.

The bound uses Student's t with Satterthwaite's degrees of freedom, each dimension's being its effective number of
clusters (sum u^2)^2 / sum u^4 of their influences u, less one: a gain that three raters carry has two degrees, not 59.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import sparse, special, stats

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
Flags: TypeAlias = NDArray[np.bool_]

LENGTH_POWERS = 3
RIDGE = 1e-3  # of the mass; keeps separable data finite
CHUNK = 256  # resamples at once


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure, its standard error and that error's degrees of freedom; all NaN with nothing to estimate it from."""

    value: float
    error: float
    freedom: float

    def low(self, level: float) -> float:
        """Return the one-sided lower bound that the truth is below with probability `level`."""
        return self.value - float(stats.t.isf(level, self.freedom)) * self.error

    def high(self, level: float) -> float:
        """Return the one-sided upper bound."""
        return self.value + float(stats.t.isf(level, self.freedom)) * self.error


NOTHING = Estimate(float("nan"), float("nan"), float("nan"))


@dataclass(frozen=True, slots=True)
class Groups:
    """How much of a reply's mass is each cluster's: matrices (replies, clusters).

    All of it is its conversation's. Of the raters' it is each vote's share of the log-odds, *signed*: who voted against
    the label has a negative one. What is left to 1 is nobody's (a prior, a moderator's label).
    """

    conversation: sparse.csr_array
    rater: sparse.csr_array
    both: sparse.csr_array


def groups(conversation: Ints, reply: Ints, rater: Ints, share: Floats) -> Groups:
    """Make the groups of `conversation` (replies,) and of the votes' `reply`, `rater` and `share` (votes,)."""
    count = len(conversation)
    both = conversation[reply] * (int(rater.max(initial=0)) + 1) + rater
    return Groups(
        conversation=_membership(np.arange(count), conversation, np.ones(count), count),
        rater=_membership(reply, rater, share, count),
        both=_membership(reply, both, share, count),
    )


def _membership(reply: Ints, cluster: Ints, share: Floats, count: int) -> sparse.csr_array:
    names, code = np.unique(cluster, return_inverse=True)
    return sparse.csr_array((share, (reply, code)), shape=(count, len(names)))


def ranks_above(rows: Floats, columns: Floats) -> NDArray[np.float32]:
    """Return (rows, columns): 1 where the row's score is above the column's, 1/2 where they tie, else 0."""
    row, column = rows[:, None], columns[None, :]
    # float32: products of these matrices are what costs, and 1e-6 of an AUC matters to nobody.
    return np.asarray((row > column) + np.float32(0.5) * (row == column), dtype=np.float32)


def gain_of(candidate: Floats, incumbent: Floats, mass: Floats) -> Floats:
    """Return the gain for each row of `mass` (..., replies); NaN without both classes."""
    advantage = ranks_above(candidate, candidate) - ranks_above(incumbent, incumbent)
    good, bad = np.maximum(mass, 0), np.maximum(-mass, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        wins = ((good.astype(np.float32) @ advantage) * bad).sum(-1)
        return np.asarray(wins / (good.sum(-1) * bad.sum(-1)), dtype=np.float64)


def gain(candidate: Floats, incumbent: Floats, mass: Floats, groups: Groups, *, resamples: int, seed: int) -> Estimate:
    """Estimate the gain in preference AUC by the clustered paired bootstrap."""
    good, bad = mass > 0, mass < 0
    if not (good.any() and bad.any()):
        return NOTHING
    advantage = ranks_above(candidate[good], candidate[bad]) - ranks_above(incumbent[good], incumbent[bad])
    value, influence = _influence(advantage, mass, good, bad)
    generator = np.random.default_rng(seed)
    variances = [
        _bootstrap(members, advantage, mass, good, bad, resamples, generator)
        for members in (groups.conversation, groups.rater, groups.both)
    ]
    return _estimate(value, influence, groups, variances)


def gain_at_equal_length(
    candidate: Floats, incumbent: Floats, tokens: Floats, mass: Floats, groups: Groups
) -> Estimate:
    """Estimate the gain of what in the log-ratios length doesn't explain: "longer is better" gains nothing by that.

    The AUCs are of log-ratios standardised for their length, a location-scale model (Heagerty & Pepe 1999); the errors
    are linearised (Hajek's projection).
    """
    good, bad = mass > 0, mass < 0
    if not (good.any() and bad.any()):
        return NOTHING
    new, old = (_beyond_length(score, tokens, np.abs(mass)) for score in (candidate, incumbent))
    advantage = ranks_above(new[good], new[bad]) - ranks_above(old[good], old[bad])
    value, influence = _influence(advantage, mass, good, bad)
    return _estimate(value, influence, groups, _linear_variances(influence, groups))


def coefficient_beside_length(log_ratio: Floats, tokens: Floats, mass: Floats, groups: Groups) -> Estimate:
    """Estimate the log-ratio's coefficient in a weighted logistic regression of good on log-ratio and log length.

    Both covariates are standardised; the errors are sandwich errors (White 1982), clustered like the gain's.
    """
    weight = np.abs(mass) / np.abs(mass).mean() if np.abs(mass).any() else np.abs(mass)
    columns = [_standardised(values, weight) for values in (log_ratio, np.log(tokens))]
    if not (mass > 0).any() or not (mass < 0).any() or not columns[0].any():
        return NOTHING
    design = np.column_stack([np.ones(len(mass)), *columns])
    is_good = (mass > 0).astype(np.float64)
    beta = np.zeros(3)
    for _ in range(25):
        fitted = special.expit(design @ beta)
        slope = design.T @ (weight * (is_good - fitted)) - RIDGE * len(mass) * beta
        curvature = (design * (weight * fitted * (1 - fitted))[:, None]).T @ design + RIDGE * len(mass) * np.eye(3)
        step = np.linalg.solve(curvature, slope)
        beta += step
        if np.abs(step).max() < 1e-8:
            break
    scores = design * (weight * (is_good - special.expit(design @ beta)))[:, None]
    influence: Floats = scores @ np.linalg.inv(curvature)[1]
    return _estimate(float(beta[1]), influence, groups, _linear_variances(influence, groups))


def mean_change(change: Floats, weight: Floats, groups: Groups) -> Estimate:
    """Estimate the weighted mean of `change`, with clustered errors; the replies of no weight stay out."""
    if not weight.any():
        return NOTHING
    value = float(np.average(change, weights=weight))
    influence = weight * (change - value) / weight.sum()
    return _estimate(value, influence, groups, _linear_variances(influence, groups))


def mean(values: Floats) -> Estimate:
    """Estimate the plain mean of independent values."""
    if len(values) < 2:
        return NOTHING
    return Estimate(float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values))), len(values) - 1)


def _standardised(values: Floats, weight: Floats) -> Floats:
    centred = values - np.average(values, weights=weight) if weight.any() else np.zeros_like(values)
    spread = float(np.sqrt(np.average(centred**2, weights=weight))) if weight.any() else 0.0
    # Clipped, since one reply far out would otherwise carry the fit.
    return np.clip(centred / spread, -4, 4) if spread > 1e-12 else np.zeros_like(values)


def _beyond_length(score: Floats, tokens: Floats, weight: Floats) -> Floats:
    """Return what of the score is unusual for its length: location by a cubic, scale by a line, of log length.

    The scale matters: a long reply's log-ratio is a sum of more terms, and its noise would drown the short ones'.
    """
    length = _standardised(np.log(tokens), weight)

    def fitted(values: Floats, powers: int) -> Floats:
        design, root = np.vander(length, powers + 1), np.sqrt(weight)
        beta, *_ = np.linalg.lstsq(design * root[:, None], values * root, rcond=None)
        return np.asarray(design @ beta)

    rest = score - fitted(score, LENGTH_POWERS)
    # An incumbent that is the same throughout must stay tied throughout, whatever rounding left of it.
    if np.abs(rest).max() <= 1e-9 * max(np.abs(score).max(), 1.0):
        return np.zeros_like(score)
    return np.asarray(rest / np.exp(fitted(np.log(np.maximum(np.abs(rest), 1e-6)), 1)))


def _influence(advantage: NDArray[np.float32], mass: Floats, good: Flags, bad: Flags) -> tuple[float, Floats]:
    """Return the mean advantage (good replies, bad replies), and each reply's influence on it (Hajek's projection)."""
    by_good, by_bad = mass[good] / mass[good].sum(), mass[bad] / mass[bad].sum()
    of_good, of_bad = advantage @ by_bad, by_good @ advantage
    value = float(by_good @ of_good)
    influence = np.zeros(len(mass))
    influence[good] = by_good * (of_good - value)
    influence[bad] = by_bad * (of_bad - value)
    return value, influence


def _bootstrap(
    members: sparse.csr_array,
    advantage: NDArray[np.float32],
    mass: Floats,
    good: Flags,
    bad: Flags,
    resamples: int,
    generator: np.random.Generator,
) -> float:
    values = []
    by_mass = (members * np.abs(mass)[:, None]).tocsr()
    to_good, to_bad = by_mass[good], by_mass[bad]
    of_good, of_bad = mass[good][:, None], -mass[bad][:, None]
    for start in range(0, resamples, CHUNK):
        size = min(CHUNK, resamples - start)
        change = generator.standard_exponential((members.shape[1], size), dtype=np.float32) - 1
        by_good, by_bad = of_good + to_good @ change, of_bad + to_bad @ change
        wins = (by_bad * (advantage.T @ by_good.astype(np.float32))).sum(0)
        values.append(wins / (by_good.sum(0) * by_bad.sum(0)))
    return float(np.var(np.concatenate(values), ddof=1))


def _linear_variances(influence: Floats, groups: Groups) -> list[float]:
    def variance(members: sparse.csr_array) -> float:
        count = max(members.shape[1], 2)
        return float(((members.T @ influence) ** 2).sum() * count / (count - 1))

    return [variance(members) for members in (groups.conversation, groups.rater, groups.both)]


def _estimate(value: float, influence: Floats, groups: Groups, variances: list[float]) -> Estimate:
    by_conversation, by_rater, by_both = variances
    # V_rater - V_both is an estimate too and may come out negative: never let it make the error smaller.
    variance = max(by_conversation + by_rater - by_both, by_conversation, by_rater)
    if variance <= 0:
        return Estimate(value, 0.0, 1.0)
    doubt = sum(
        (part / variance) ** 2 / max(_effective(members.T @ influence) - 1, 1.0)
        for part, members in ((by_conversation, groups.conversation), (max(by_rater - by_both, 0.0), groups.rater))
    )
    return Estimate(value, float(np.sqrt(variance)), max(1 / doubt, 1.0) if doubt else 1.0)


def _effective(influence: Floats) -> float:
    fourth = float((influence**4).sum())
    return float((influence**2).sum()) ** 2 / fourth if fourth > 0 else 1.0
