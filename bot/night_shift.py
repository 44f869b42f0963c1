"""The nightly clock: nights run when they are due or asked for, the canary is watched, and moderators see all of it.

Owns when `bot.nightly` is asked, and that nothing which goes wrong stops the clock. What a night is and what is served
is `bot.nightly`'s; where and how often it shows is `bot.notices`'.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from bot import night_cards
from bot.errors import EncoreError, NightRefused, NightRunning, NothingNew
from bot.learning_records import Cause
from bot.morning_card import morning_card
from bot.night_cards import Card
from bot.notices import LiveStatus
from models.arms import CanaryVerdict

if TYPE_CHECKING:
    from bot.learning_records import Night, NightProgress
    from bot.night_work import OnProgress
    from bot.nightly import Nightly
    from bot.notices import Notices

log = logging.getLogger(__name__)

_CLOCK_SECONDS = 60.0
_CANARY_SECONDS = 300.0
_AFTER_TROUBLE_SECONDS = 900.0  # a disk that is full now is not asked every minute
# The picture that says most, where a night made several.
_PICTURES = ("preference", "auc", "canary", "rater", "loss")

_N = TypeVar("_N", bound="Night | None")


class NightShift:
    """`keep_time` and `keep_watch` run for ever; `sleep` is for tests."""

    def __init__(
        self,
        nightly: Nightly,
        notices: Notices,
        *,
        edit_seconds: float = 4.0,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._nightly = nightly
        self._notices = notices
        self._edit_seconds = edit_seconds
        self._sleep = sleep
        self._refusal_told = False

    async def learn(
        self,
        cause: Cause,
        *,
        actor_id: int | None = None,
        asked_in: tuple[int, int] | None = None,
        on_begun: Callable[[], None] = lambda: None,
    ) -> Night:
        """Run a night, show how it goes, and post its card; raises as `Nightly.run` does.

        `asked_in` (guild, channel) stands in for the moderators' channel of a server that has none. `on_begun` is
        called when the night can't be refused any more.
        """
        return await self._shown(
            lambda tell: self._nightly.run(cause, tell, actor_id=actor_id, on_canary=self._tell_of_canary),
            asked_in,
            on_begun,
        )

    async def keep_time(self) -> None:
        """Tell what a command did meanwhile, take up what the last process left, then run nights as they are due."""
        await self._guarded(self._tell_untold())
        await self._guarded(self._shown(self._nightly.resume_unfinished))
        while True:
            await self._sleep(_CLOCK_SECONDS)
            if not await self._guarded(self._learn_if_due()):
                await self._sleep(_AFTER_TROUBLE_SECONDS)

    async def keep_watch(self) -> None:
        """Have the canary judged every few minutes, and say when that ended it."""
        while True:
            await self._sleep(_CANARY_SECONDS)
            await self._guarded(self._watch())

    async def _tell_untold(self) -> None:
        channels = await self._notices.channels()
        while (of := await self._nightly.untold.first()) is not None:
            if isinstance(of, CanaryVerdict):
                await self._tell_of_canary(of)
            elif isinstance(of, Card):
                await self._notices.post(of, channels)
            else:
                await self._report(of, channels)
            await self._nightly.untold.told()

    async def _learn_if_due(self) -> None:
        if not await self._nightly.due():
            return
        try:
            await self.learn(Cause.SCHEDULE)
        except NothingNew as error:
            log.info("no night: %s", error)
        except NightRefused as error:
            if not self._refusal_told:  # where it is due still, it is refused every few minutes
                await self._notices.post(night_cards.refused(str(error)), await self._notices.channels())
                self._refusal_told = True
            raise
        self._refusal_told = False

    async def _watch(self) -> None:
        verdict = await self._nightly.watch_canary()
        if verdict is not None:
            await self._tell_of_canary(verdict)

    async def _tell_of_canary(self, verdict: CanaryVerdict) -> None:
        if (card := night_cards.canary_ended(verdict)) is not None:
            await self._notices.post(card, await self._notices.channels())

    async def _shown(
        self,
        work: Callable[[OnProgress], Coroutine[Any, Any, _N]],
        asked_in: tuple[int, int] | None = None,
        on_begun: Callable[[], None] = lambda: None,
    ) -> _N:
        channels = await self._notices.channels(asked_in=asked_in)
        live = LiveStatus(self._notices, channels, pause_seconds=self._edit_seconds, sleep=self._sleep)

        def tell(progress: NightProgress) -> None:
            live.update(progress)
            on_begun()

        try:
            night = await work(tell)
            if night is not None:
                await live.finish(night.id, night_cards.ended(night))
                await self._report(night, channels)
            return night
        finally:
            await live.stop()

    async def _report(self, night: Night, channel_ids: list[int]) -> None:
        """Post the morning card; picture, report and the names of a server's members only where moderators read it."""
        files = await asyncio.to_thread(self._files, night)
        report = self._nightly.report(night)
        where = f"The report is nights/{night.id}/{report.name} in the data folder." if report else ""
        servers = {channel_id: guild_id for guild_id, channel_id in (await self._notices.moderators()).items()}
        for channel_id in channel_ids:
            guild_id = servers.get(channel_id)
            if guild_id is not None:
                known = await self._notices.known(guild_id, night_cards.members_named(night))
                await self._notices.post(morning_card(night, known), [channel_id], files=files, unattached=where)
            else:
                await self._notices.post(morning_card(night), [channel_id], unattached=where)

    def _files(self, night: Night) -> list[Path]:
        """Return the picture and the report that go with a night's card."""
        report = self._nightly.report(night)
        pictures = sorted(self._nightly.folder(night).glob("*.png"), key=_rank)
        return [*pictures[:1], *([report] if report else [])]

    async def _guarded(self, work: Coroutine[Any, Any, Any]) -> bool:
        """Do one thing of the clock's, which goes on whatever happens; return False after trouble."""
        try:
            await work
        except NightRunning:  # a moderator's, or another process's
            return True
        except EncoreError as error:
            log.warning("learning: %s", error)
            return False
        except Exception:
            log.exception("learning: something of the clock's failed")
            return False
        return True


def _rank(picture: Path) -> tuple[int, str]:
    found = (place for place, name in enumerate(_PICTURES) if name in picture.stem)
    return next(found, len(_PICTURES)), picture.name
