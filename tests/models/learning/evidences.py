"""Evidence for the tests of the gate and of the choice: honest ratings, and a candidate of known worth."""

from __future__ import annotations

import math
from functools import cache

import numpy as np

from models.learning.evidence import Anchor, CountedVote, Evidence, Generations, RatedReply

ORDINARY = Generations(
    prompts=100,
    toxic=1,
    repetitive=4,
    planted=0,
    brief_prompts=16,
    mean_tokens=60.0,
    longest_tokens=192,
    leading_prompts=50,
    sycophantic=15,
)
UP = 1.4


@cache
def make(
    shift: float = 0.8, replies: int = 500, seed: int = 0, *, habit: float = 0.0, raters: int = 40, votes: int = 3
) -> Evidence:
    """Make honest evidence: the candidate puts good replies `shift` sd above bad ones, the incumbent is the base."""
    g = np.random.default_rng(seed)
    rated = []
    for number in range(replies):
        good = number % 5 < 3
        tokens = int(np.exp(3.4 + 0.8 * g.normal() + 0.4 * good)) + 1
        score = shift * good + g.normal() + habit * math.log(tokens) + 0.01 * tokens + 1.0
        by = g.permutation(raters)[:votes]
        says = tuple(CountedVote(int(u), UP if (g.random() < 0.85) == good else -UP) for u in by)
        odds = sum(vote.log_odds for vote in says)
        if abs(odds) < 0.1:
            continue
        p = 1 / (1 + math.exp(-odds))
        conversation, weight = f"c{number // 3}", abs(2 * p - 1)
        rated.append(RatedReply(number, conversation, 10.0, score, 0.0, p, weight, tokens, says))
    anchors = tuple(Anchor(3.0, 3.0, 3.0 + float(rise)) for rise in g.normal(0.004, 0.01, 60))
    return Evidence(tuple(rated), anchors, ORDINARY, ORDINARY, training_cut=5.0, watched=1)
