"""Nights: collect -> learn (a subprocess) -> promote | reject, and what is served afterwards; serving never stops.

Owns when a night runs, its folder and its row, the promotion, the canary's watch, rollback and freeze. Learns nothing
itself: that is `models.learning.night`, which this process runs at low priority and may lose at any time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import tzinfo
from pathlib import Path
from typing import TYPE_CHECKING

from bot.learning_records import Cause, Night, NightProgress
from models.arms import CanaryVerdict

if TYPE_CHECKING:
    from models.adapters import Serving

OnProgress = Callable[[NightProgress], None]


@dataclass(frozen=True, slots=True)
class NightStatus:
    """What `/training status` shows. `warnings` are sentences for moderators, such as of a damaged adapter."""

    running: NightProgress | None
    serving: Serving
    canary: CanaryVerdict | None  # what the watch found last, while a canary runs
    next_at: float | None  # of the next scheduled night; None: NIGHT_HOUR is off or learning is frozen
    frozen: bool
    last: Night | None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Compared:
    """One figure of two nights; None where a night has none of that name."""

    name: str
    a: float | None
    b: float | None


class Nightly:
    """One for a data folder; built by `bot.composition`, reached as `bot.nightly`."""

    def report(self, night: Night) -> Path | None:
        """Return the night's report.html, None when it has none. Its folder is `folder(night)`."""
        raise NotImplementedError

    def folder(self, night: Night) -> Path:
        raise NotImplementedError

    async def run(self, cause: Cause, on_progress: OnProgress | None = None, *, actor_id: int | None = None) -> Night:
        """Run one night to its end and return its row, a failed one too: its `state` and `sentences` say so.

        Raises NightRunning when one is under way, NightRefused when learning is frozen or the model can't learn.
        Cancelled, it kills the job and leaves the night to `resume_unfinished` of the next start.
        """
        raise NotImplementedError

    async def due(self) -> bool:
        """Return whether a scheduled night should begin now: ask every minute, then `run(Cause.SCHEDULE)`.

        True also for a night that was missed while Encore was off, and after a night that ended as `retracted`.
        """
        raise NotImplementedError

    async def resume_unfinished(self, on_progress: OnProgress | None = None) -> Night | None:
        """Take up the night that the last process left; call once at the start. None: there was none."""
        raise NotImplementedError

    async def watch_canary(self) -> CanaryVerdict | None:
        """Judge the canary and act on it (keep, roll back); call every few minutes. None: no canary runs."""
        raise NotImplementedError

    async def rollback(self, to: str | None, actor_id: int) -> Serving:
        """Serve adapter `to` again, `"base"` for none, or with None the one before; at once, without a canary.

        Raises AdapterChangeRefused.
        """
        raise NotImplementedError

    async def freeze(self, actor_id: int) -> bool:
        """Begin no more nights and promote nothing until `unfreeze`; return False when it was so already."""
        raise NotImplementedError

    async def unfreeze(self, actor_id: int) -> bool:
        raise NotImplementedError

    async def status(self) -> NightStatus:
        raise NotImplementedError

    async def history(self, limit: int) -> list[Night]:
        """Return the newest nights, the newest first."""
        raise NotImplementedError

    async def night(self, night_id: str) -> Night | None:
        raise NotImplementedError

    async def compare(self, a: str, b: str) -> list[Compared]:
        """Return the figures of two nights side by side. Raises NightRefused when one isn't known."""
        raise NotImplementedError

    def adapters(self) -> tuple[str, ...]:
        """Return the adapters that `rollback` can name, the newest first; for autocompletion."""
        raise NotImplementedError


def next_at(now: float, *, hour: int, timezone: tzinfo | None = None) -> float:
    """Return the next time at which it is `hour` o'clock in `timezone` (None: this machine's), after `now`."""
    raise NotImplementedError
