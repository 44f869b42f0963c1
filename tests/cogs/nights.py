"""A Nightly that does as a test says, a live world around it, and what moderators do there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bot.errors import AdapterChangeRefused, NightRefused, NightRunning
from bot.learning_records import Cause, Night, NightOutcome, NightProgress, NightState
from bot.night_cards import Card
from bot.nightly import Compared, NightStatus
from cogs.training import Training
from models.arms import CanaryVerdict, Decision
from tests.cogs.commands import embed_of
from tests.world import World, live_world

BEGAN = 1_795_000_000.0
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c6360606060000000050001"
    "a5f645400000000049454e44ae426082"
)


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


@dataclass
class FakeUntold:
    queue: list[Night | CanaryVerdict | Card] = field(default_factory=list)

    async def first(self) -> Night | CanaryVerdict | Card | None:
        return self.queue[0] if self.queue else None

    async def told(self) -> None:
        self.queue.pop(0)


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
        self.untold = FakeUntold()
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

    async def run(
        self, cause: Cause, on_progress: Any = None, *, actor_id: int | None = None, on_canary: Any = None
    ) -> Night:
        if self.refusal is not None:
            raise self.refusal
        if self._end is not None:
            raise NightRunning("A night is under way already; /training status shows how far it is.")
        if self.frozen:
            raise NightRefused("Learning is frozen by a moderator.")
        self.begun.append((cause, actor_id))
        self.is_due = False
        self._tell, self._end = on_progress, asyncio.get_running_loop().create_future()
        if self.verdict is not None:
            await on_canary(self.verdict)
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


@asynccontextmanager
async def night_world(folder: Path, nightly: FakeNightly, steps: Steps) -> AsyncIterator[World]:
    """Open a live world whose nights are `nightly`'s and whose clock is `steps`'."""
    async with live_world(folder, nightly=nightly) as world:
        await world.bot.remove_cog("Training")
        world.bot.tree.remove_command("training")
        await world.bot.add_cog(Training(world.bot, nightly, sleep=steps))  # type: ignore[arg-type]
        yield world


async def choose_mod_room(world: World) -> None:
    """Name the moderators' channel."""
    await world.store.change_server_settings(world.guild.id, 1, moderators_channel_id=world.mod_room.id)


async def begin(world: World, nightly: FakeNightly, where: Any = "general") -> Any:
    """Start a night with /training run and give its first progress; return the answer to the moderator."""
    result = await world.slash(world.moderator, where, "training run")
    await world.eventually(lambda: nightly.is_running)
    nightly.tell("Collecting the ratings.")
    (answer,) = await world.eventually(lambda: [m for m in (result.response, *result.followups) if m and m.content])
    return answer


async def titles(world: World, where: Any) -> list[str]:
    return [str(embed_of(message).title) for message in world.replies(where) if message.embeds]


def write_report(nightly: FakeNightly, of: Any, *, report: bytes = b"<html>", pictures: tuple[str, ...] = ()) -> None:
    folder = nightly.folder(of)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.html").write_bytes(report)
    for name in pictures:
        (folder / name).write_bytes(PNG)


async def ended(world: World, nightly: FakeNightly, of: Any) -> Any:
    """Run a night to its end and return its morning card's message in the moderators' channel."""
    await choose_mod_room(world)
    await begin(world, nightly)
    await world.eventually(lambda: world.replies("mod-room"))
    nightly.end(of)
    return (await world.eventually(lambda: found if len(found := world.replies("mod-room")) == 2 else None))[-1]


__all__ = [
    "BEGAN",
    "Canary",
    "Decision",
    "FakeNightly",
    "Serving",
    "Steps",
    "begin",
    "choose_mod_room",
    "ended",
    "night",
    "night_world",
    "progress",
    "titles",
    "verdict",
    "write_report",
]
