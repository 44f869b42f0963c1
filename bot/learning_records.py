"""Frozen rows and values of learning: nights, what they say, gold labels, rating rooms; no behaviour, no I/O.

A part of `bot.records`, kept apart for its size. Times are UTC seconds since the epoch (float).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Cause(StrEnum):
    """Who or what asked for a night."""

    SCHEDULE = "schedule"
    MODERATOR = "moderator"  # /training run
    COMMAND = "command"  # encore night
    DEMO = "demo"  # the page's button


# Names of figures that list members by id; one who is deleted stays there as 0.
TAKEN_BACK_BY, MEMBERS_LEFT_OUT = "taken_back_by", "members_left_out"
LEFT_OUT_DAYS = 30  # since the night that was spoilt


class NightState(StrEnum):
    RUNNING = "running"
    FINISHED = "finished"  # its outcome says what came of it
    FAILED = "failed"  # its sentences say why


class NightOutcome(StrEnum):
    PROMOTED = "promoted"
    REJECTED = "rejected"
    INSUFFICIENT = "insufficient"  # evidence or ratings: see `more_ratings_needed`
    RETRACTED = "retracted"  # a rating that it had learned from was taken back meanwhile; another night is due


@dataclass(frozen=True, slots=True)
class Night:
    """One night; its folder is `nights/ID`, its report `nights/ID/report.html` (see `Nightly.report`).

    `sentences` are for people, the first is the verdict. `figures` are numbers by name, as the night's job gave them.
    """

    id: str
    cause: Cause
    state: NightState
    started_at: float
    finished_at: float | None = None
    actor_id: int | None = None
    attempts: int = 1  # 1 + how often it was taken up again, after a kill or a failure
    outcome: NightOutcome | None = None
    adapter: str | None = None
    more_ratings_needed: int | None = None
    sentences: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    figures: Mapping[str, Any] = field(default_factory=dict)

    @property
    def has_trained(self) -> bool:
        """Return whether it came to candidates; it doesn't where there is too little to learn from."""
        return "objective" in self.figures

    @property
    def taken_back_by(self) -> tuple[int, ...]:
        """Return the members who took back themselves what it had learned from."""
        return tuple(filter(None, self.figures.get(TAKEN_BACK_BY, ())))

    @property
    def members_left_out(self) -> tuple[int, ...]:
        """Return the members whose ratings it did without, since they had ended nights by taking some back."""
        return tuple(filter(None, self.figures.get(MEMBERS_LEFT_OUT, ())))


@dataclass(frozen=True, slots=True)
class NightProgress:
    """Where a running night is: `done` of `total` units of a step (total 0: can't be measured), and one sentence."""

    night_id: str
    step: str
    done: int
    total: int
    sentence: str
    at: float


@dataclass(frozen=True, slots=True)
class GoldLabel:
    """A reply that a moderator (or an imported file) called good or bad."""

    reply_id: int
    good: bool
    actor_id: int
    labelled_at: float


@dataclass(frozen=True, slots=True)
class OperatorPrompt:
    """A prompt that the operator brought. `language` is a tag such as `en`, empty where it isn't known."""

    id: int
    text: str
    language: str
    created_at: float
    used_at: float | None
    uses: int


@dataclass(frozen=True, slots=True)
class RatingRoom:
    """The channel where the bot answers the operator's prompts, one every `interval_seconds`."""

    guild_id: int
    channel_id: int
    interval_seconds: float
    started_by: int
    started_at: float
    posted_at: float | None
