"""When what is older than its limit goes: every day, but never under a night that learns from it."""

from __future__ import annotations

import asyncio
from pathlib import Path

from bot.learning_records import Cause, NightOutcome
from bot.privacy.retention import Retention
from bot.settings import Settings
from tests.bot.nights import house

_DAY = 86_400.0


class _Sleeps:
    """Lets the rounds go on one at a time, and notes how long they wanted to wait."""

    def __init__(self) -> None:
        self.asked: list[float] = []
        self._let_go = asyncio.Semaphore(0)
        self._asked = asyncio.Event()

    async def __call__(self, seconds: float) -> None:
        self.asked.append(seconds)
        self._asked.set()
        await self._let_go.acquire()

    async def next(self) -> float:
        """Return how long a round waits, and let the one after it begin."""
        await self._asked.wait()
        self._asked.clear()
        self._let_go.release()
        return self.asked[-1]


async def test_nothing_is_removed_under_a_night_which_would_read_as_taken_back(tmp_path: Path) -> None:
    async with house(tmp_path, job="wait") as h:
        await h.rate(3)
        h.clock.now += 364 * _DAY
        await h.rate(3)
        night = asyncio.create_task(h.nightly.run(Cause.COMMAND))
        while not list(h.work.folder.glob("*/job.json")):
            await asyncio.sleep(0.01)
        h.clock.now += 2 * _DAY
        sleep = _Sleeps()
        rounds = asyncio.create_task(
            Retention(h.store, Settings(), nights=h.work.folder, clock=h.clock, sleep=sleep).keep()
        )
        assert await sleep.next() == 3600.0
        assert await sleep.next() == 3600.0
        (h.work.folder / "go").touch()
        assert (await night).outcome is NightOutcome.PROMOTED
        while await sleep.next() == 3600.0:
            pass
        rounds.cancel()
        assert sleep.asked[-1] == _DAY
        assert await h.store.reply(1) is None, "the night is over"
        assert await h.store.reply(4) is not None
