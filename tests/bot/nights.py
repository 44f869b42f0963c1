"""What the tests of nights share: the services on one folder, a job that does as told, and an engine of names."""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bot.arms import Arms
from bot.cases import Cases
from bot.night_work import NightWork
from bot.nightly import Nightly
from bot.promotion import Promotion, needed
from bot.settings import Settings
from bot.store import Store
from models.adapters import Adapters, Serving
from models.arms import CanaryRating, CanaryVerdict, Decision
from models.errors import AdapterRefused
from models.learning import job as jobs
from models.spec import ModelSpec
from tests.bot import fake_night
from tests.bot.learning import MODEL_SHA, ended_reply, vote
from tests.bot.stores import Clock, open_store
from tests.models.adapter_files import stage

SPEC = ModelSpec("tiny", None, MODEL_SHA, "none", "for tests", "any")


class FakeEngine:
    """Knows names alone. `on_swap` is called in the middle of each swap and may raise."""

    def __init__(self, adapters: Sequence[str] = ()) -> None:
        self.adapters = tuple(adapters)
        self.swaps: list[tuple[str, ...]] = []
        self.on_swap: Callable[[], Any] = lambda: None

    async def swap(self, adapters: Mapping[str, Path]) -> None:
        await asyncio.sleep(0)
        self.on_swap()
        for name, path in adapters.items():
            if not path.is_file():
                raise AdapterRefused(f"The adapter {name} has no file.")
        self.swaps.append(tuple(adapters))
        self.adapters = tuple(adapters)


class _Silent:
    """A responder that answers nobody."""

    def silence(self, guild_id: int | None, member_id: int | None = None) -> None:
        pass


@dataclass
class Judge:
    """Answers with `decision` and notes what it was asked."""

    decision: Decision | None = Decision.CONTINUE
    worse: float = 0.2
    conversations: tuple[int, int] = (1, 1)
    asked: list[list[CanaryRating]] = field(default_factory=list)
    shown_in: list[Path | None] = field(default_factory=list)

    async def __call__(self, ratings: Sequence[CanaryRating], night: Path | None) -> CanaryVerdict | None:
        self.asked.append(list(ratings))
        self.shown_in.append(night)
        if self.decision is None:
            return None
        return CanaryVerdict(self.decision, self.worse, 1.0, (0.5, 0.5), self.conversations, "So it says.")


@dataclass
class House:
    store: Store
    clock: Clock
    adapters: Adapters
    engine: FakeEngine
    promotion: Promotion
    work: NightWork
    nightly: Nightly
    arms: Arms
    judge: Judge
    folder: Path
    drawn: list[tuple[Path, str]]  # the reports that the bot had drawn, and what each says first

    async def rate(self, count: int = 2) -> list[int]:
        """Make replies that a night may learn from, each with one vote, and return them."""
        replies = [await ended_reply(self.store) for _ in range(count)]
        for reply in replies:
            await vote(self.store, reply, 2)
        return replies

    async def lock(self) -> None:
        """Lock a server, as /lock does."""
        nobody: Any = _Silent()
        await Cases(self.store, nobody, clock=self.clock).lock(7, 9)

    def install(self, name: str) -> str:
        return self.adapters.install(stage(self.folder / f"staged-{name}", name, base_sha256=MODEL_SHA))

    async def promote(self, name: str) -> None:
        """Install an adapter and serve it."""

        async def nothing() -> None:
            pass

        await self.promotion.promote(self.install(name), last_check=nothing)

    def served(self) -> Serving:
        """Return what is served, which engine, disk and memory agree on."""
        on_disk = self.adapters.serving()
        assert on_disk == self.promotion.serving
        assert needed(on_disk) <= set(self.engine.adapters)
        return on_disk


@asynccontextmanager
async def house(
    folder: Path,
    *,
    job: str = "promote",
    clock: Clock | None = None,
    share: float = 0.0,
    keep: int = 5,
    hour: int = -1,
    timezone: Any = None,
    limit_hours: float = 1.0,
    engine: FakeEngine | None = None,
    model_sha256: str = MODEL_SHA,
) -> AsyncIterator[House]:
    """Open the services as a start does, on what an earlier one left in `folder`; `job` is a mode of `fake_night`."""
    clock = clock or Clock()
    settings = Settings(data_dir=folder, night_limit_hours=limit_hours)
    async with await open_store(settings.database, clock=clock) as store:
        adapters = Adapters(folder / "adapters", model_sha256)
        serving, warnings = adapters.heal()
        engine = engine or FakeEngine(sorted(needed(serving)))
        judge = Judge()
        fake: Any = engine
        promotion = Promotion(
            store, adapters, serving,
            engine=fake, share=share, keep=keep, clock=clock, judge=judge, warnings=warnings,
            nights=folder / "nights",
        )  # fmt: skip
        spec = ModelSpec("tiny", None, model_sha256, "none", "for tests", "any")
        drawn: list[tuple[Path, str]] = []

        async def draw(night: Path) -> None:
            end = jobs.read_end(night)
            assert end is not None
            drawn.append((night, end.sentences[0]))

        command = (sys.executable, str(fake_night.__file__), job)
        work = NightWork(
            store, spec, promotion, settings,
            folder=folder / "nights", clock=clock, command=command, snowflakes=False, draw=draw,
        )  # fmt: skip
        nightly = Nightly(store, work, promotion, hour=hour, clock=clock, timezone=timezone, draw=random.Random(0))
        arms = Arms(store, lambda: promotion.serving, clock=clock)
        yield House(store, clock, adapters, engine, promotion, work, nightly, arms, judge, folder, drawn)
