"""The demo's learning: a week of simulated fans, a night at once, and the way back, as the page's panel asks for them.

One thing at a time. A night goes the way of every night (`bot.night_shift`), so its status and its morning card also
show in the moderators' channel; only what the page needs of it is kept here.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

from bot.demo.desk import DeskRefused, DeskState, Heard, NightSeen, Wish
from bot.errors import EncoreError
from bot.fans import FANS, FanWeek, WeekProgress
from bot.learning_records import Night, NightState
from bot.morning_card import morning_card
from bot.night_cards import BASE_NAME
from models.learning.words import wanted

if TYPE_CHECKING:
    from bot.nightly import Nightly, NightStatus

log = logging.getLogger(__name__)

_DEMO = 0  # the actor of what is done at the page
_BUSY = "One thing at a time: wait until this has ended."
_SHOWN = 200  # characters of what was said


class LearningDesk:
    """`week` makes the simulation of a seed; `learn` runs a night and shows it to moderators."""

    def __init__(
        self,
        nightly: Nightly,
        *,
        week: Callable[[int], FanWeek],
        learn: Callable[[], Awaitable[Night]],
    ) -> None:
        self._nightly = nightly
        self._week = week
        self._learn = learn
        self._doing: Wish | None = None
        self._progress: WeekProgress | None = None
        self._trouble = ""
        self._weeks = 0
        self._task: asyncio.Task[None] | None = None
        self._report: Path | None = None

    async def begin(self, wish: Wish) -> None:
        """Begin a week or a night and return, or roll back; raises DeskRefused."""
        status = await self._nightly.status()
        if self._doing is not None or status.running is not None:
            raise DeskRefused(_BUSY)
        self._trouble = ""
        if wish is Wish.ROLLBACK:
            await self._roll_back()
        else:
            self._doing = wish
            self._task = asyncio.create_task(self._do(self._pass_week if wish is Wish.WEEK else self._learn))

    async def aclose(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def report(self) -> Path | None:
        """Return the newest night's report, None while there is none."""
        return self._report

    async def state(self) -> DeskState:
        status = await self._nightly.status()
        doing = self._doing or (Wish.NIGHT if status.running else None)
        sentence, done, total = self._how_far(doing, status)
        last = status.last if status.last is not None and status.last.state is not NightState.RUNNING else None
        self._report = self._nightly.report(last) if last is not None else None
        return DeskState(
            doing=doing,
            sentence=sentence,
            done=done,
            total=total,
            heard=self._heard(),
            simulated=self._simulated(),
            night=_seen(last, has_report=self._report is not None) if last is not None else None,
            serving=_serving(status),
            back=_back(status),
        )

    # ------------------------------------------------------------------ one wish

    async def _do(self, work: Callable[[], Awaitable[object]]) -> None:
        try:
            await work()
        except EncoreError as error:
            self._trouble = str(error)
        except Exception:
            log.exception("the demo's learning failed")
            self._trouble = "Something broke; the log has the details."
        finally:
            self._doing = None

    async def _pass_week(self) -> None:
        def note(progress: WeekProgress) -> None:
            if self._progress is None or progress.line:
                self._progress = progress

        self._progress = None
        self._weeks += 1
        await self._week(self._weeks).run(note)

    async def _roll_back(self) -> None:
        try:
            await self._nightly.rollback(None, _DEMO)
        except EncoreError as error:
            raise DeskRefused(str(error)) from error

    # ------------------------------------------------------------------ words

    def _how_far(self, doing: Wish | None, status: NightStatus) -> tuple[str, int, int]:
        if doing is Wish.WEEK:
            week = self._progress
            if week is None:
                return "Fans are coming in.", 0, 0
            return f"Day {week.day} of 7: {week.replies} answers, {week.votes} thumbs.", week.replies, week.of
        if doing is Wish.NIGHT:
            now = status.running
            return ("Collecting the ratings.", 0, 0) if now is None else (now.sentence, now.done, now.total)
        return self._trouble, 0, 0

    def _heard(self) -> Heard | None:
        if self._progress is None or not self._progress.line:
            return None
        last = self._progress
        return Heard(_short(last.line), _short(last.reply), last.ups, last.downs)

    def _simulated(self) -> str:
        trolls = sum(fan.is_troll for fan in FANS)
        fans = len(FANS) - trolls
        return f"Simulated: {fans} fans who like it when Encore speaks for itself, and {trolls} trolls against them"


def _seen(night: Night, *, has_report: bool) -> NightSeen:
    return NightSeen(
        id=night.id,
        outcome=night.outcome.value if night.outcome else night.state.value,
        title=morning_card(night).title,
        sentences=(*night.sentences, *night.warnings),
        wanted=wanted(night.more_ratings_needed, trained=night.has_trained),
        has_report=has_report,
    )


def _serving(status: NightStatus) -> str:
    told = status.serving.adapter or BASE_NAME
    canary = status.serving.canary
    return told if canary is None else f"{told}, and {canary.adapter} in {canary.share:.0%} of the conversations"


def _back(status: NightStatus) -> str:
    """Return what answers after a rollback; empty where nothing was learned that could be taken back."""
    serving = status.serving
    if serving.canary is not None:
        return serving.adapter or BASE_NAME
    if serving.previous:
        return serving.previous[0] or BASE_NAME
    return BASE_NAME if serving.adapter else ""


def _short(words: str) -> str:
    flat = " ".join(words.split())
    return flat if len(flat) <= _SHOWN else flat[: _SHOWN - 1] + "…"
