"""Nights as moderators and the clock see them: when one runs, one at a time, what the last ones came to.

The one door to learning for cogs, commands and the demo. One night's steps are `bot.night_work`'s, what is served
afterwards `bot.promotion`'s; serving never stops for either.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from bot import night_clock
from bot.errors import NightRefused, NightRunning, NothingNew
from bot.learning_records import Cause, Night, NightOutcome, NightProgress, NightState
from bot.night_ground import FRESH
from bot.night_work import MOST_ATTEMPTS, NightWork, OnProgress
from bot.untold import Untold
from models.arms import CanaryVerdict
from models.errors import ModelError

if TYPE_CHECKING:
    from bot.promotion import Promotion
    from bot.store import Store
    from models.adapters import Serving

log = logging.getLogger(__name__)

OnCanary = Callable[[CanaryVerdict], Awaitable[None]]

REPORT = "report.html"
_BEGUN = "night_begun"  # its name in the store's meta table
_MOST_RETRACTED = 3  # nights in a row that are repeated at once
_JITTER_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class NightStatus:
    """What `/training status` shows. `warnings` are sentences for moderators, such as of a damaged adapter."""

    running: NightProgress | None
    serving: Serving
    canary: CanaryVerdict | None  # what the watch found last, while a canary runs
    next_at: float | None  # of the next scheduled night; None: off, frozen, or the model can't learn
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
    """One for a data folder; built by `bot.composition`, reached as `bot.nightly`.

    A command leaves in `untold` what the bot's moderators are to read when it runs again.
    """

    def __init__(
        self,
        store: Store,
        work: NightWork,
        promotion: Promotion,
        *,
        hour: int,
        clock: Callable[[], float] = time.time,
        timezone: tzinfo | None = None,
        draw: random.Random | None = None,
    ) -> None:
        self._store = store
        self._work = work
        self._promotion = promotion
        self._hour = hour
        self._clock = clock
        self._timezone = timezone
        self._jitter = (draw or random.Random()).uniform(0, _JITTER_SECONDS)
        self._opened_at = clock()
        self.untold = Untold(store)

    # ------------------------------------------------------------------ nights

    def folder(self, night: Night) -> Path:
        return self._work.folder / night.id

    def report(self, night: Night) -> Path | None:
        """Return the night's report.html, None when it has none."""
        path = self.folder(night) / REPORT
        return path if path.is_file() else None

    async def run(
        self,
        cause: Cause,
        on_progress: OnProgress | None = None,
        *,
        actor_id: int | None = None,
        on_canary: OnCanary | None = None,
    ) -> Night:
        """Run one night to its end and return its row, a failed one too: its `state` and `sentences` say so.

        A night that an earlier process left, or that failed and can go on, is taken up instead. `on_canary` is told
        how a canary was ended for it. Where (almost) nothing was said since the last night came to its end, the planned
        one doesn't begin (NothingNew); one that was asked for ends at once where nothing was. Raises NightRunning when
        one is under way, NightRefused when learning is frozen, the model can't learn or a canary was hardly heard,
        StoreError when nothing can be kept. Cancelled, it ends the job and leaves the night to be taken up.
        """
        self._work.require_learning()
        async with self._alone():
            if await self.frozen():
                raise NightRefused("Learning is frozen by a moderator; let it go on with /training unfreeze.")
            if cause is Cause.SCHEDULE:
                await self._store.set_meta(_BEGUN, str(self._occurrence()))
            if (left := await self._store.running_night()) is not None:
                return await self._take_up(left, on_progress)
            try:
                canary = await self._promotion.settle_before_a_night()
            except ModelError as error:
                raise NightRefused(f"The canary could not be ended: {error}") from error
            if canary is not None and on_canary is not None:
                await on_canary(canary)
            if (left := await self._failed_that_goes_on()) is not None:
                return await self._take_up(left, on_progress)
            planned = cause is Cause.SCHEDULE
            judged = await self._work.judged_already(FRESH if planned else 0.0)
            if judged is None:
                return await self._work.work(await self._begin(cause, actor_id), on_progress)
            if planned:
                raise NothingNew(judged.sentence)
            night = replace(await self._begin(cause, actor_id), state=NightState.FINISHED)
            return await self._work.end(replace(night, outcome=NightOutcome.INSUFFICIENT, sentences=(judged.sentence,)))

    async def resume_unfinished(self, on_progress: OnProgress | None = None) -> Night | None:
        """Take up the night that the last process left; call once at the start. None: there was none.

        Raises NightRunning and StoreError.
        """
        if await self._store.running_night() is None:
            return None
        async with self._alone():
            left = await self._store.running_night()
            return await self._take_up(left, on_progress) if left is not None else None

    async def history(self, limit: int) -> list[Night]:
        """Return the newest nights, the newest first."""
        return await self._store.nights(limit)

    async def night(self, night_id: str) -> Night | None:
        return await self._store.night(night_id)

    async def compare(self, a: str, b: str) -> list[Compared]:
        """Return the figures of two nights side by side. Raises NightRefused when one isn't known."""
        figures = []
        for night_id in (a, b):
            night = await self._store.night(night_id)
            if night is None:
                raise NightRefused(f"There is no night {night_id}; /training history lists them.")
            figures.append({n: v for n, v in night.figures.items() if isinstance(v, int | float)})
        names = dict.fromkeys([*figures[0], *figures[1]])
        return [Compared(name, figures[0].get(name), figures[1].get(name)) for name in names]

    async def status(self) -> NightStatus:
        newest = await self._store.nights(1)
        return NightStatus(
            running=self._work.running,
            serving=self._promotion.serving,
            canary=self._promotion.verdict,
            next_at=await self.next_at(),
            frozen=await self.frozen(),
            last=newest[0] if newest else None,
            warnings=tuple(self._promotion.warnings),
        )

    # ------------------------------------------------------------------ when

    async def due(self) -> bool:
        """Return whether a scheduled night should begin now: ask every minute, then `run(Cause.SCHEDULE)`.

        True also for a night that was missed while Encore was off, and after a night that ended as `retracted`.
        """
        next_at = await self.next_at()
        return next_at is not None and next_at <= self._clock() and self._work.running is None

    async def next_at(self) -> float | None:
        """Return when the next scheduled night begins, which may be past; None: never, or not now (see NightStatus)."""
        now = self._clock()
        self._opened_at = min(self._opened_at, now)  # the clock was set back
        if self._hour < 0 or not self._work.can_learn or await self.frozen():
            return None
        newest = await self._store.nights(_MOST_RETRACTED)
        retracted = [night.outcome is NightOutcome.RETRACTED for night in newest]
        if retracted and retracted[0] and not (len(retracted) == _MOST_RETRACTED and all(retracted)):
            return min(newest[0].finished_at or now, now)  # later: the clock was ahead when it ended
        planned, begun = self._occurrence(), await self._begun(now)
        if begun < planned:
            return max(planned, self._opened_at) + self._jitter
        return night_clock.next_at(now, hour=self._hour, timezone=self._timezone) + self._jitter

    def _occurrence(self) -> float:
        hour = max(self._hour, 0)
        return night_clock.occurrence(self._clock(), hour=hour, timezone=self._timezone)

    async def _begun(self, now: float) -> float:
        """Return the occurrence that was begun last; in a new store, the one before now."""
        kept = await self._store.meta(_BEGUN)
        begun = self._occurrence() if kept is None else night_clock.corrected(float(kept), now)
        if kept is None or begun != float(kept):
            await self._store.set_meta(_BEGUN, str(begun))
        return begun

    @property
    def collecting(self) -> asyncio.Lock:
        """Held while a night's data is in no folder yet that says whose it is."""
        return self._work.collecting

    async def abandon(self, nights: Collection[str]) -> None:
        """End the night under way if it is one of these: a member took back what it learns from."""
        await self._work.abandon(nights)

    async def repeat(self) -> None:
        """Have the next scheduled night begin now, where nights are scheduled at all."""
        await self._store.set_meta(_BEGUN, "0")

    async def frozen(self) -> bool:
        return await self._store.learning_frozen()

    async def freeze(self, actor_id: int) -> bool:
        """Begin no more nights and promote nothing until `unfreeze`; return False when a moderator had said so already.

        It outlasts a lock, which froze learning before.
        """
        return await self._store.freeze_learning(True, actor_id)

    async def unfreeze(self, actor_id: int) -> bool:
        """Return False when learning wasn't frozen. Raises NightRefused while a server is locked."""
        if await self._store.locked_servers():
            raise NightRefused("A server is locked, so nothing is learned anywhere; /unlock there ends that.")
        return await self._store.freeze_learning(False, actor_id)

    # ------------------------------------------------------------------ what is served

    def adapters(self) -> tuple[str, ...]:
        """Return the adapters that `rollback` can name, the newest first; for autocompletion."""
        return self._promotion.names()

    async def watch_canary(self) -> CanaryVerdict | None:
        """Judge the canary and act on it (keep, roll back); call every few minutes. None: no canary runs.

        While learning is frozen it may only be rolled back.
        """
        return await self._promotion.watch(may_keep=not await self.frozen())

    async def rollback(self, to: str | None, actor_id: int) -> Serving:
        """Serve adapter `to` again, `"base"` for none, or with None the one before; at once, without a canary.

        Raises AdapterChangeRefused.
        """
        return await self._promotion.rollback(to, actor_id)

    # ------------------------------------------------------------------ one night

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        """Hold the lock of the nights' folder: one night at a time, whichever process or task asks."""
        folder = self._work.folder
        lock = FileLock(folder / "night.lock", mode=0o600, thread_local=False)
        try:
            await asyncio.to_thread(folder.mkdir, mode=0o700, parents=True, exist_ok=True)
            lock.acquire(blocking=False)
        except Timeout:
            raise NightRunning("A night is under way already; /training status shows how far it is.") from None
        except OSError as error:
            raise NightRefused(f"{folder} can't be written ({error.strerror}); make room there.") from error
        try:
            yield
        finally:
            self._work.running = None
            lock.release()

    async def _begin(self, cause: Cause, actor_id: int | None) -> Night:
        now = self._clock()
        date = datetime.fromtimestamp(now, UTC).astimezone(self._timezone).date().isoformat()
        for number in range(1, 10_000):
            night_id = date if number == 1 else f"{date}-{number}"
            night = Night(night_id, cause, NightState.RUNNING, now, actor_id=actor_id)
            if not self.folder(night).exists() and await self._store.begin_night(night):
                return night
        raise NightRefused(f"There are too many nights of {date} in {self._work.folder}; remove some.")

    async def _failed_that_goes_on(self) -> Night | None:
        newest = await self._store.nights(1)
        if not newest or newest[0].state is not NightState.FAILED:
            return None
        if await self._work.can_go_on(newest[0]):
            return newest[0]
        await self._work.give_up(newest[0])
        return None

    async def _take_up(self, night: Night, on_progress: OnProgress | None) -> Night:
        attempts = await self._store.retry_night(night.id)
        again = Night(night.id, night.cause, NightState.RUNNING, night.started_at, None, night.actor_id, attempts)
        if attempts > MOST_ATTEMPTS:
            sentence = f"This night was begun {attempts - 1} times and never came to its end; it isn't tried again."
            return await self._work.fail(again, sentence)
        log.info("taking up the night %s, attempt %d", night.id, attempts)
        return await self._work.work(again, on_progress)
