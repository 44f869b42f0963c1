"""What the page's learning panel shows and asks for; whoever runs the demo answers it.

Values and a protocol alone: the page knows neither the store nor the model.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol


class Wish(StrEnum):
    """What a button of the panel asks for."""

    WEEK = "week"
    NIGHT = "night"
    ROLLBACK = "rollback"


class DeskRefused(Exception):
    """A wish can't be granted now; `str()` says why, in one sentence for the page."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What a simulated fan said last, what was answered, and the thumbs that this got."""

    line: str
    reply: str
    ups: int
    downs: int


@dataclass(frozen=True, slots=True)
class NightSeen:
    """A night that ended: `outcome` is promoted, rejected, insufficient, retracted or failed.

    `wanted` says how many ratings it takes.
    """

    id: str
    outcome: str
    title: str
    sentences: tuple[str, ...]
    wanted: str
    has_report: bool


@dataclass(frozen=True, slots=True)
class DeskState:
    """How learning stands. `doing` is the wish under way; `total` 0: how far it is can't be measured.

    `serving` names what answers, with the canary if one runs; `back` what a rollback would bring, empty for nothing.
    """

    doing: Wish | None = None
    sentence: str = ""
    done: int = 0
    total: int = 0
    heard: Heard | None = None
    simulated: str = ""
    night: NightSeen | None = None
    serving: str = ""
    back: str = ""


class Desk(Protocol):
    """Begins what a person asked for and tells how it stands."""

    async def state(self) -> DeskState: ...

    async def begin(self, wish: Wish) -> None:
        """Begin a week or a night and return, or roll back; raises DeskRefused."""
        ...

    def report(self) -> Path | None:
        """Return the last night's report.html, None while there is none."""
        ...

    async def aclose(self) -> None: ...
