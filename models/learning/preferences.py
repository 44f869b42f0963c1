"""Which of two replies is preferred and how surely, from who said so and what the votes say of whom to believe.

Owns the weighing of opinions on pairs. The raters' accuracies and influence are raters.py's, learned from votes alone:
a comparison teaches nothing about who made it.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from models.learning.activity import NEW_INFLUENCE, NEW_TOGETHER, is_new, proven
from models.learning.dawid_skene import ACCURACY_PRIOR
from models.learning.sufficiency import MAX_RATER_SHARE
from models.learning.vote_table import OWN_PROMPT_WEIGHT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence, Set

    from models.learning.examples import RaterFacts
    from models.learning.raters import RaterReport
    from models.learning.snapshot import CollectedPair, Opinion

STRANGER = ACCURACY_PRIOR[0] / sum(ACCURACY_PRIOR)  # of who compares and never votes: 2/3, so alone a weight of 1/3
_HALVINGS = 60  # of the interval that holds the total: to a float's last digit


def weigh(
    pairs: Sequence[CollectedPair], report: RaterReport, facts: Mapping[int, RaterFacts]
) -> tuple[CollectedPair, ...]:
    """Return the pairs that anything speaks for, the preferred reply as the chosen one, `weight` scaled by |2p - 1|.

    p = P(the chosen one is better) is naive Bayes: log-odds p = sum of s c log(a / (1 - a)) over the opinions, s the
    side, a the rater's accuracy, c what their word counts: influence, halved on their own prompts, and less where a
    voice would have too large a share of what all say (`_shares`). Raters who copy each other share one voice; the
    banned have none; those who are read the other way round in votes are so here. Opinions for neither thin the weight
    out. Pairs without opinions (the operator's own) are kept as they are.
    """
    voice = report.voices()
    raters = {opinion.rater_id for pair in pairs for opinion in pair.opinions}
    influence = {rater: _influence(rater, report, facts) for rater in raters}
    known = _known(report, facts)

    def counts(opinion: Opinion) -> float:
        return influence[opinion.rater_id] * (OWN_PROMPT_WEIGHT if opinion.own_prompt else 1.0)

    said: Counter[int] = Counter()  # pairs, by voice
    mass: dict[int, float] = {}
    for pair in pairs:
        said.update({voice.get(o.rater_id, o.rater_id) for o in pair.opinions if counts(o)})
        for opinion in pair.opinions:
            if counts(opinion):
                who = voice.get(opinion.rater_id, opinion.rater_id)
                mass[who] = mass.get(who, 0.0) + counts(opinion)
    strangers = {voice.get(rater, rater) for rater in raters if known and rater not in known}
    share = _shares(said, mass, strangers)

    weighed = []
    for pair in pairs:
        odds = told = undecided = 0.0
        for opinion in pair.opinions:
            rater = opinion.rater_id
            count = counts(opinion) * share.get(voice.get(rater, rater), 0.0)
            accuracy = report.accuracy.get(rater, STRANGER)
            odds += opinion.side * count * math.log(accuracy / (1 - accuracy))
            told, undecided = told + count, undecided + count * (opinion.side == 0)
        if not pair.opinions:
            weighed.append(pair)
        elif odds:
            weight = pair.weight * math.tanh(abs(odds) / 2) * (1 - undecided / told)  # tanh(x / 2) = 2 sigmoid(x) - 1
            weighed.append(replace(pair if odds > 0 else pair.turned(), weight=weight))
    return tuple(weighed)


def _influence(rater: int, report: RaterReport, facts: Mapping[int, RaterFacts]) -> float:
    known = facts.get(rater)
    if known is not None and known.banned:
        return 0.0
    return report.influence.get(rater, NEW_INFLUENCE if is_new(known) else 1.0)


def _known(report: RaterReport, facts: Mapping[int, RaterFacts]) -> set[int]:
    """Return who is trusted, or voted and is no new account: nothing speaks for what others compare."""
    trusted = {rater for rater, fact in facts.items() if fact.trusted}
    return trusted | {rater for rater in report.accuracy if not is_new(facts.get(rater))}


def _shares(said: Mapping[int, int], mass: Mapping[int, float], strangers: Set[int]) -> dict[int, float]:
    """Return, by voice, the share of what it said that counts; `said` counts its pairs, `mass` what they weigh.

    At most as many pairs as the median proven voice's count in full. Of all that counts, no voice has more than
    MAX_RATER_SHARE, and the strangers together no more than NEW_TOGETHER: the largest total at which both hold. Where
    they can't, with fewer than seven voices or (beside strangers) six that are known, nothing counts.
    """
    if not said.keys() - strangers:
        return {}
    counts = np.array(list(said.values()), dtype=np.float64)
    typical = float(np.median(counts[proven(counts, np.array([who in strangers for who in said]))]))
    capped = {who: mass[who] * min(1.0, typical / pairs) for who, pairs in said.items()}

    def allowed(total: float) -> dict[int, float]:
        most = {who: min(size, MAX_RATER_SHARE * total) for who, size in capped.items()}
        theirs = sum(size for who, size in most.items() if who in strangers)
        less = min(1.0, NEW_TOGETHER * total / theirs) if theirs else 1.0
        return {who: size * less if who in strangers else size for who, size in most.items()}

    # What is allowed grows with the total, ever slower: halving finds where they meet, and 0 where they don't.
    low, high = 0.0, sum(capped.values())
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if sum(allowed(middle).values()) > middle else (low, middle)
    return {who: size / mass[who] for who, size in allowed(low).items()}
