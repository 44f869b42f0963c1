"""Which of two adapters a conversation is answered by while a canary runs, and what the canary's watch says of them.

Owns the assignment and the words of the canary; judges nothing (`models.learning.canary` does, with scipy). Serving
imports this module, so it needs the standard library alone.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum

SHARES = 0.2, 0.5  # of conversations that may go to the candidate


class Arm(StrEnum):
    CANDIDATE = "candidate"
    INCUMBENT = "incumbent"


class Decision(StrEnum):
    CONTINUE = "continue"
    KEEP = "keep"
    ROLL_BACK = "roll back"


@dataclass(frozen=True, slots=True)
class Assignment:
    """A conversation's arm; `propensity` is the probability with which it came to *this* arm."""

    arm: Arm
    propensity: float


@dataclass(frozen=True, slots=True)
class CanaryRating:
    """One rating while the canary runs; `good` in [0, 1] is how good the reply is thought (1 for a thumb up)."""

    conversation_id: str
    arm: Arm
    propensity: float
    good: float
    rated_at: float  # seconds since the epoch
    rater_id: int


@dataclass(frozen=True, slots=True)
class CanaryVerdict:
    """What the canary says now. Rates are of good conversations' ratings; NaN for an arm without any."""

    decision: Decision
    probability_worse: float  # P(candidate < incumbent - margin)
    wealth: float  # of the bettor against the candidate, at its highest; 1 / anytime_level rolls back
    rates: tuple[float, float]  # candidate, incumbent
    conversations: tuple[int, int]
    sentence: str


def assign(conversation_id: str, *, canary: str, share: float, salt: str = "") -> Assignment:
    """Put a conversation in its arm, always the same in one `canary` and independent between two.

    `canary` names the candidate under test. Both it and a conversation's id can be known to members, so `salt` is to be
    nobody's to know: who can tell the arms apart can vote one of them up. Raises ValueError unless `share` is .2 to .5.
    """
    if not SHARES[0] <= share <= SHARES[1]:
        raise ValueError(f"The candidate's share is {share:g}; choose one from {SHARES[0]:g} to {SHARES[1]:g}.")
    digest = hashlib.sha256(f"{len(canary)}:{canary}:{salt}:{conversation_id}".encode()).digest()
    if int.from_bytes(digest[:8], "big") < share * 2**64:
        return Assignment(Arm.CANDIDATE, share)
    return Assignment(Arm.INCUMBENT, 1 - share)
