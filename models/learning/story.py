"""What a night's report tells: one frozen value with all that its steps left, and nothing of it that names a member.

Owns its shape alone; models.learning.story_files reads it from a night's folder, models.learning.report draws it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from models.learning.phrases import Phrase
from models.learning.verdict import Check


@dataclass(frozen=True, slots=True)
class Interval:
    """A share, or a gain of one (.05 = 5 points), between the gate's bounds; NaN what couldn't be measured.

    Either bound is one-sided: the truth is beyond it with probability `level`.
    """

    value: float = math.nan
    low: float = math.nan
    high: float = math.nan
    level: float = math.nan

    @property
    def measured(self) -> bool:
        return math.isfinite(self.value + self.low + self.high + self.level)


@dataclass(frozen=True, slots=True)
class CandidateStory:
    """One candidate; `outcome` is None when it was dropped before it was judged, `dropped` then says why."""

    name: str
    objective: str
    outcome: str | None = None
    dropped: str = ""
    gain: Interval = Interval()
    checks: tuple[Check, ...] = ()
    losses: tuple[float, ...] = ()  # by step
    parity: str = ""  # a sentence
    gguf_sha256: str = ""


@dataclass(frozen=True, slots=True)
class BeforeAfter:
    """What was and what would be answered to one of the fixed prompts; no member wrote any of it."""

    prompt: str
    language: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class RaterTrust:
    """`accuracy` is how often a rater is right, as inferred; `influence` in [0, 1] what a vote of theirs counts."""

    number: int
    accuracy: float
    influence: float
    votes: int
    trusted: bool
    group: int = 0  # raters who vote as one share a number from 1; 0: votes alone


@dataclass(frozen=True, slots=True)
class CanaryPoint:
    """One conversation of the canary, at its first rating: whether the candidate answered, how good it was rated."""

    at: float  # seconds since the epoch
    candidate: bool
    good: float


@dataclass(frozen=True, slots=True)
class CanaryStory:
    decision: str
    probability_worse: float
    sentence: str
    points: tuple[CanaryPoint, ...]


@dataclass(frozen=True, slots=True)
class NightStory:
    """All of one night. `counts` are by the names of the result's figures; `shown` is the candidate told of.

    `win_rate` is the share of pairs of a good and a bad reply in which it ranks the good one above. `watched` is None
    where the night didn't come to look for phrases.
    """

    night: str
    outcome: str
    sentences: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    more_ratings_needed: int | None = None
    now: float | None = None  # seconds since the epoch: when the ratings were frozen
    incumbent: str | None = None
    shown: str = ""
    win_rate: Interval = Interval()
    counts: Mapping[str, float] = field(default_factory=dict)
    candidates: tuple[CandidateStory, ...] = ()
    replies: tuple[BeforeAfter, ...] = ()
    watched: tuple[Phrase, ...] | None = None
    raters: tuple[RaterTrust, ...] = ()
    frozen: bool = False
    seconds: Mapping[str, float] = field(default_factory=dict)  # by step
    hashes: Mapping[str, str] = field(default_factory=dict)  # sha256 by what it is of
    canary: CanaryStory | None = None
