"""A Nightly that does as a test says, for the cog that shows it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bot.errors import AdapterChangeRefused, NightRefused, NightRunning
from bot.learning_records import Cause, Night, NightOutcome, NightProgress, NightState
from bot.nightly import Compared, NightStatus
from models.arms import CanaryVerdict, Decision

BEGAN = 1_795_000_000.0


@dataclass(frozen=True)
class Canary:
    adapter: str
    share: float
    since: float


@dataclass(frozen=True)
class Serving:
    adapter: str | None = None
    canary: Canary | None = None
    previous: tuple[str | None, ...] = ()


def night(night_id: str = "2026-11-24", **changes: Any) -> Night:
    """Return a night that ended with a promotion."""
    usual = Night(
        night_id,
        Cause.SCHEDULE,
        NightState.FINISHED,
        BEGAN,
        finished_at=BEGAN + 754,
        outcome=NightOutcome.PROMOTED,
        adapter=f"{night_id}-kto",
        sentences=("The new adapter is better.",),
    )
    return replace(usual, **changes)


def progress(sentence: str, done: int = 0, total: int = 0, *, night_id: str = "2026-11-24") -> NightProgress:
    return NightProgress(night_id, "train", done, total, sentence, BEGAN)


def verdict(decision: Decision) -> CanaryVerdict:
    return CanaryVerdict(decision, 0.95, 1.2, (0.4, 0.6), (30, 31), "40 % good against 60 %.")


class FakeNightly:
    """A night runs until the test ends it: `tell` gives its progress, `end` its row."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "nights"
        self.nights: list[Night] = []
        self.serving = Serving("2026-11-24-kto", previous=("2026-11-20-sft", None))
        self.installed = ("2026-11-24-kto", "2026-11-20-sft")
        self.running: NightProgress | None = None
        self.frozen = False
        self.next_at: float | None = BEGAN + 86_400
        self.warnings: tuple[str, ...] = ()
        self.is_due = False
        self.left: Night | None = None  # what resume_unfinished ends with
        self.verdict: CanaryVerdict | None = None
        self.refusal: Exception | None = None
        self.begun: list[tuple[Cause, int | None]] = []
        self.rolled_back: list[tuple[str | None, int]] = []
        self._tell: Callable[[NightProgress], None] | None = None
        self._end: asyncio.Future[Night] | None = None

    # ------------------------------------------------------------------ what a test does

    @property
    def is_running(self) -> bool:
        return self._end is not None

    def tell(self, sentence: str, done: int = 0, total: int = 0) -> None:
        assert self._tell is not None
        self.running = progress(sentence, done, total)
        self._tell(self.running)

    def end(self, ended: Night | Exception) -> None:
        assert self._end is not None
        if isinstance(ended, Night):
            self._end.set_result(ended)
        else:
            self._end.set_exception(ended)

    # ------------------------------------------------------------------ what the cog asks

    def folder(self, night: Night) -> Path:
        return self.root / night.id

    def report(self, night: Night) -> Path | None:
        path = self.folder(night) / "report.html"
        return path if path.is_file() else None

    async def run(self, cause: Cause, on_progress: Any = None, *, actor_id: int | None = None) -> Night:
        if self.refusal is not None:
            raise self.refusal
        if self._end is not None:
            raise NightRunning("A night is under way already; /training status shows how far it is.")
        if self.frozen:
            raise NightRefused("Learning is frozen by a moderator.")
        self.begun.append((cause, actor_id))
        self.is_due = False
        self._tell, self._end = on_progress, asyncio.get_running_loop().create_future()
        try:
            ended = await self._end
        finally:
            self._tell = self._end = self.running = None
        self.nights.insert(0, ended)
        return ended

    async def due(self) -> bool:
        return self.is_due and self._end is None

    async def resume_unfinished(self, on_progress: Any = None) -> Night | None:
        left, self.left = self.left, None
        return left

    async def watch_canary(self) -> CanaryVerdict | None:
        told, self.verdict = self.verdict, None
        return told

    async def rollback(self, to: str | None, actor_id: int) -> Serving:
        if self.refusal is not None:
            raise AdapterChangeRefused(str(self.refusal))
        self.rolled_back.append((to, actor_id))
        self.serving = Serving(self.serving.previous[0] if to is None else None if to == "base" else to)
        return self.serving

    async def freeze(self, actor_id: int) -> bool:
        changed, self.frozen = not self.frozen, True
        return changed

    async def unfreeze(self, actor_id: int) -> bool:
        changed, self.frozen = self.frozen, False
        return changed

    async def status(self) -> NightStatus:
        last = self.nights[0] if self.nights else None
        serving: Any = self.serving
        return NightStatus(self.running, serving, self.verdict, self.next_at, self.frozen, last, self.warnings)

    async def history(self, limit: int) -> list[Night]:
        return self.nights[:limit]

    async def compare(self, a: str, b: str) -> list[Compared]:
        known = {night.id: night.figures for night in self.nights}
        if missing := {a, b} - known.keys():
            raise NightRefused(f"There is no night {missing.pop()}; /training history lists them.")
        names = dict.fromkeys([*known[a], *known[b]])
        return [Compared(name, known[a].get(name), known[b].get(name)) for name in names]

    def adapters(self) -> tuple[str, ...]:
        return self.installed


class Steps:
    """Stands in for `asyncio.sleep`: each sleep of `longer_than` seconds or more waits until the test lets it go on."""

    def __init__(self, longer_than: float = 10.0) -> None:
        self._longer_than = longer_than
        self._waiting: list[tuple[float, asyncio.Future[None]]] = []

    async def __call__(self, seconds: float) -> None:
        if seconds < self._longer_than:
            await asyncio.sleep(0)
            return
        step: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((seconds, step))
        await step

    def waits(self, seconds: float) -> bool:
        return any(waited == seconds and not step.done() for waited, step in self._waiting)

    def let_go(self, seconds: float) -> None:
        """End all sleeps of so many seconds."""
        for waited, step in self._waiting:
            if waited == seconds and not step.done():
                step.set_result(None)
        self._waiting = [(waited, step) for waited, step in self._waiting if not step.done()]


__all__ = ["BEGAN", "Canary", "Decision", "FakeNightly", "Serving", "Steps", "night", "progress", "verdict"]
