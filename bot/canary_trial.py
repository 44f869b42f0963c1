"""How long a canary is on trial, and what ends it where its ratings alone haven't: pure rules.

What the ratings say is `models.learning.canary`'s; when it is asked and what is served then is `bot.promotion`'s. A
trial is never for ever: after a week it ends by what there is, and what members weren't heard on goes back.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from models.arms import CanaryVerdict, Decision

if TYPE_CHECKING:
    from models.adapters import Canary

# Rated conversations in each arm.
ENOUGH = 10  # the next night decides
LEAST = 3  # fewer say nothing, also after the longest trial
LONGEST_SECONDS = 7 * 86_400.0  # a rating room at its slowest sensible pace has `ENOUGH` by then
_UNJUDGED = CanaryVerdict(Decision.CONTINUE, 0.5, 1.0, (math.nan, math.nan), (0, 0), "")


def is_over(canary: Canary, now: float) -> bool:
    """Return whether a trial has taken as long as any may."""
    return now - canary.since >= LONGEST_SECONDS


def is_heard(verdict: CanaryVerdict | None) -> bool:
    """Return whether members were heard enough for a night to end the trial early."""
    return verdict is not None and min(verdict.conversations) >= ENOUGH


def decided(canary: Canary, verdict: CanaryVerdict | None) -> CanaryVerdict:
    """Decide an undecided trial by what is likelier; None: its ratings can't be judged."""
    found = verdict or _UNJUDGED
    if min(found.conversations) >= LEAST:
        keep = found.probability_worse <= 0.5
        return replace(found, decision=Decision.KEEP if keep else Decision.ROLL_BACK)
    sentence = (
        f"It was not heard enough to stay: {_heard(verdict)}. The adapter stays on disk; "
        f"/training rollback {canary.adapter} serves it again."
    )
    return replace(found, decision=Decision.ROLL_BACK, sentence=sentence)


def goes_on(canary: Canary, verdict: CanaryVerdict | None, now: float) -> str:
    """Say why no night begins while a trial goes on, and what ends it."""
    hours = math.ceil((canary.since + LONGEST_SECONDS - now) / 3600)
    left = f"{math.ceil(hours / 24)} days" if hours > 48 else f"{hours} h"
    return (
        f"The trial of the adapter {canary.adapter} goes on, as {_heard(verdict)}: the next night begins when {ENOUGH} "
        f"of each are rated, or in {left}; /training rollback ends the trial at once."
    )


def _heard(verdict: CanaryVerdict | None) -> str:
    if verdict is None:
        return "its ratings can't be judged now"
    rated, others = verdict.conversations
    return f"members have rated {rated} of its conversations and {others} of the others"
