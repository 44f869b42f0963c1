"""Which of two replies is preferred and how surely, from who said so and what the votes say of whom to believe.

Owns the weighing of opinions on pairs. The raters' accuracies and influence are raters.py's, learned from votes alone:
a comparison teaches nothing about who made it.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from models.learning.dawid_skene import ACCURACY_PRIOR
from models.learning.raters import NEW_INFLUENCE, is_new
from models.learning.sufficiency import author_caps
from models.learning.vote_table import OWN_PROMPT_WEIGHT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from models.learning.examples import RaterFacts
    from models.learning.raters import RaterReport
    from models.learning.snapshot import CollectedPair

STRANGER = ACCURACY_PRIOR[0] / sum(ACCURACY_PRIOR)  # of who compares and never votes: 2/3, so alone a weight of 1/3


def weigh(
    pairs: Sequence[CollectedPair], report: RaterReport, facts: Mapping[int, RaterFacts]
) -> tuple[CollectedPair, ...]:
    """Return the pairs that anything speaks for, the preferred reply as the chosen one, `weight` scaled by |2p - 1|.

    p = P(the chosen one is better) is naive Bayes: log-odds p = sum of s c log(a / (1 - a)) over the opinions, s the
    side, a the rater's accuracy, c what their word counts: influence, halved on their own prompts, and at most the
    median voice's number of pairs in all. Raters who copy each other share one voice; the banned have none; those who
    are read the other way round in votes are so here. Opinions for neither thin the weight out. Pairs without opinions
    (the operator's own) are kept as they are.
    """
    voice = {rater: min(cluster) for cluster in report.clusters for rater in cluster}
    influence = {
        opinion.rater_id: _influence(opinion.rater_id, report, facts) for pair in pairs for opinion in pair.opinions
    }
    caps = author_caps(
        Counter(
            said
            for pair in pairs
            for said in {voice.get(o.rater_id, o.rater_id) for o in pair.opinions if influence[o.rater_id] > 0}
        )
    )
    weighed = []
    for pair in pairs:
        odds = told = undecided = 0.0
        for opinion in pair.opinions:
            rater = opinion.rater_id
            counts = influence[rater] * caps.get(voice.get(rater, rater), 0.0)
            counts *= OWN_PROMPT_WEIGHT if opinion.own_prompt else 1.0
            accuracy = report.accuracy.get(rater, STRANGER)
            odds += opinion.side * counts * math.log(accuracy / (1 - accuracy))
            told, undecided = told + counts, undecided + counts * (opinion.side == 0)
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
