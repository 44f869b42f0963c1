"""Who is reliable and which replies are good, inferred together from nothing but votes.

Owns the statistical model. Knows voices, votes and labels; not members, bans or what a night may do with the result.

Dawid & Skene (1979): a reply is good with probability pi; voice u votes right with probability a_u; expectation-
maximisation alternates P(good) of every reply given the a_u (their eq. 2.5) with the a_u given P(good) (eq. 2.3-2.4).
With twenty votes a voice, as in a small community, the plain form fits noise: without any troll it labels 2.5 points
worse than majority. Hence voices are of three kinds, as in the community model of Venanzi et al. (2014), and share
strength:

honest       right with probability a, one coin for both classes, a ~ Beta(4, 2), at least .55
opposed      the mirror: right with probability b, b ~ Beta(2, 4), at most .45 (their votes inform, inverted)
indifferent  votes up with a rate of its own, Beta(1/2, 1/2), whatever the reply: always-down, always-up, noise

A voice's own two rates (up when good, down when bad) are drawn to its kind's coin with the strength of KIND_STRENGTH
votes, so that heavy voters are judged by their own votes. Two rates for the kind instead of a coin were tried: worse by
up to 1.8 points under weaker priors of the kinds, no better under these, so the coin stayed.

An influence cap (`cap`, per voice) multiplies a voice's log-odds in the E-step, while all its votes count for
estimating its reliability; activity thus can't buy orientation. Once the EM has settled, a few steps more run under
`label_cap`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import special

from models.learning.vote_table import Flags, Floats

if TYPE_CHECKING:
    from models.learning.vote_table import VoteTable

ACCURACY_PRIOR = (4.0, 2.0)  # Beta, of the honest kind; mirrored for the opposed
KIND_PRIOR = (0.96, 0.02, 0.02)  # honest, opposed, indifferent
TRUSTED_PRIOR = (0.998, 0.001, 0.001)
KIND_STRENGTH = 100.0  # votes
MIN_EDGE = 0.05  # of the honest coin above a half, of the opposed one below
GOOD_BOUNDS = (0.2, 0.8)  # of pi
GOOD_STRENGTH = 20.0  # replies of each class that pi is drawn to
STEPS, LABEL_STEPS, TOLERANCE = 60, 15, 1e-3
POWER_STEPS = 30
RATE_BOUNDS = (0.01, 0.99)
VOTE_ODDS = 3.0  # of an unknown voice's vote: where the EM starts, and all there is when it isn't to be believed
HONEST, OPPOSED, INDIFFERENT = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Fit:
    """A settled EM. `evidence` is the variational bound of the log-likelihood, by which fits are compared."""

    p_good: Floats  # (replies,)
    kinds: Floats  # (voices, 3) probabilities
    accuracy: Floats  # (voices,) P(vote is right), the mean of both classes
    evidence: float


class Model:
    """The votes with what doesn't change between steps. `labels` (replies,) is NaN where no gold label is known."""

    def __init__(self, table: VoteTable, trusted: Flags, labels: Floats, cap: Floats, label_cap: Floats) -> None:
        self._table, self._trusted, self._labels = table, trusted, labels
        self._cap, self._label_cap = cap, label_cap
        self._is_gold = ~np.isnan(labels)
        voice, size = table.voice, table.voices
        self._ups = np.bincount(voice, table.strength * table.up, size)
        self._votes = np.bincount(voice, table.strength, size)
        self._leaning = (self._ups + 0.5) / (self._votes + 1)
        # Log of the beta-binomial marginal of an indifferent voice, Beta(1/2, 1/2): it doesn't depend on the replies.
        counts = zip(self._ups.tolist(), self._votes.tolist(), strict=True)
        marginal = [math.lgamma(k + 0.5) + math.lgamma(n - k + 0.5) - math.lgamma(n + 1) for k, n in counts]
        self._mute = np.array(marginal, dtype=np.float64) - math.log(math.pi)
        self._kind_prior = np.where(trusted[:, None], np.log(TRUSTED_PRIOR), np.log(KIND_PRIOR))

    def best(self) -> Fit:
        """Fit from every start, each in both orientations, and return the fit with the most evidence."""
        majority, spectral = self.majority(), self._spectral()
        starts = [majority, 1 - majority, spectral, 1 - spectral]
        if self._trusted.any() or self._is_gold.any():
            starts.append(self._tally(self._trusted.astype(np.float64)))
        return max((self._fit(start) for start in starts), key=lambda fit: fit.evidence)

    def majority(self) -> Floats:
        """Return P(good) (replies,) when every voice is believed alike, up to its cap."""
        return self._tally(self._cap)

    def _fit(self, start: Floats) -> Fit:
        reply, strength, voices = self._table.reply, self._table.strength, self._table.voices
        side = 2 * self._table.voice + self._table.up  # the column of a vote in (voices, down | up), flattened
        a, b = ACCURACY_PRIOR
        honest, opposed = a / (a + b), b / (a + b)
        p_good = np.where(self._is_gold, self._labels, start)
        for cap, steps in ((self._cap, STEPS), (self._label_cap, LABEL_STEPS)):
            counts = strength * cap[self._table.voice]
            for _ in range(steps):
                # Expected votes (voices,) on good and bad replies, and the right ones among them.
                on_good, right_good = np.bincount(side, strength * p_good[reply], 2 * voices).reshape(voices, 2).T
                on_good = on_good + right_good
                on_bad = self._votes - on_good
                right_bad = on_bad - (self._ups - right_good)
                right, wrong = right_good + right_bad, self._votes - right_good - right_bad

                by_kind = [_log_coin(right, wrong, honest), _log_coin(right, wrong, opposed), self._mute]
                joint = np.stack(by_kind, 1) + self._kind_prior
                kinds = np.exp(joint - joint.max(1, keepdims=True))
                kinds /= kinds.sum(1, keepdims=True)
                honest, opposed = (
                    (alpha + kinds[:, kind] @ right) / (alpha + beta + kinds[:, kind] @ self._votes)
                    for kind, alpha, beta in ((HONEST, a, b), (OPPOSED, b, a))
                )
                honest, opposed = max(honest, 0.5 + MIN_EDGE), min(opposed, 0.5 - MIN_EDGE)

                coin = KIND_STRENGTH * (kinds[:, HONEST] * honest + kinds[:, OPPOSED] * opposed)
                speaks = 1 - kinds[:, INDIFFERENT]
                leaning = kinds[:, INDIFFERENT] * self._leaning
                if_good = (coin + speaks * right_good) / (KIND_STRENGTH + on_good) + leaning
                if_bad = (coin + speaks * right_bad) / (KIND_STRENGTH + on_bad) + kinds[:, INDIFFERENT] - leaning
                if_good, if_bad = np.clip(if_good, *RATE_BOUNDS), np.clip(if_bad, *RATE_BOUNDS)
                pi = (p_good.sum() + GOOD_STRENGTH) / (len(p_good) + 2 * GOOD_STRENGTH)
                pi = min(max(pi, GOOD_BOUNDS[0]), GOOD_BOUNDS[1])

                log_odds = np.log(np.stack([(1 - if_good) / if_bad, if_good / (1 - if_bad)], 1)).ravel()
                before, p_good = p_good, self._posterior(counts * log_odds[side], math.log(pi / (1 - pi)))
                if np.abs(p_good - before).max(initial=0) < TOLERANCE:
                    break
        # Variational bound: kinds and replies with their entropies, and the coins' priors.
        evidence = float((kinds * (joint - np.log(np.maximum(kinds, 1e-300)))).sum())
        evidence += float((p_good * math.log(pi) + (1 - p_good) * math.log(1 - pi) + _entropy(p_good)).sum())
        evidence += _log_coin(a, b, honest) + _log_coin(b, a, opposed)
        return Fit(p_good, kinds, (if_good + if_bad) / 2, evidence)

    def _posterior(self, log_odds: Floats, prior: float) -> Floats:
        """Sum the votes' log-odds (votes,) into P(good) (replies,); gold replies keep their label."""
        total = prior + np.bincount(self._table.reply, log_odds, len(self._labels))
        return np.where(self._is_gold, self._labels, 1 / (1 + np.exp(-np.clip(total, -30, 30))))

    def _tally(self, believed: Floats) -> Floats:
        """Return P(good) (replies,) when a full vote has odds VOTE_ODDS to the power `believed` (voices,)."""
        signed = np.where(self._table.up, self._table.strength, -self._table.strength)
        return self._posterior(signed * believed[self._table.voice] * math.log(VOTE_ODDS), 0.0)

    def _spectral(self) -> Floats:
        """Return P(good) by the leading eigenvector of the voices' agreement; its sign is arbitrary.

        Ghosh, Kale & McAfee (2011): it separates two camps whatever their sizes. Each voice is centred on its own
        leaning, and its agreement with itself is left out.
        """
        voice, reply, size = self._table.voice, self._table.reply, self._table.voices
        vote = self._table.strength * (self._table.up - self._leaning[voice]) * np.sqrt(self._cap)[voice]
        own = np.bincount(voice, vote**2, size)
        camp = np.ones(size)
        for _ in range(POWER_STEPS):
            pull = np.bincount(voice, vote * self._replies_sum(vote * camp[voice])[reply], size) - own * camp
            # A shift by half the largest eigenvalue: a negative one (the diagonal is left out) can't win.
            camp = pull + 0.5 * _largest(pull) / max(_largest(camp), 1e-9) * camp
            camp /= max(float(np.linalg.norm(camp)), 1e-12)
        total = self._replies_sum(vote * camp[voice])
        return np.asarray(special.expit(2 * total / max(float(total.std()), 1e-9))) if len(total) else total

    def _replies_sum(self, values: Floats) -> Floats:
        return np.bincount(self._table.reply, values, len(self._labels)).astype(np.float64)


def _largest(values: Floats) -> float:
    return float(np.abs(values).max(initial=0))


def _log_coin(right: Any, wrong: Any, coin: float) -> Any:
    return right * math.log(coin) + wrong * math.log(1 - coin)


def _entropy(p: Floats) -> Floats:
    p = np.clip(p, 1e-12, 1 - 1e-12)
    return -(p * np.log(p) + (1 - p) * np.log(1 - p))
