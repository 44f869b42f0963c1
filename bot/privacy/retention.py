"""How long anything is kept: once a day, what is older than the operator's limits goes, and old copies of the database.

Owns when and what; a limit of 0 days keeps for ever. What nights made of old ratings stays until its adapter goes;
their rows stay for the history, and name nobody any more.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bot.backups import COPY_DAYS, remove_kept
from bot.errors import EncoreError
from bot.learning_records import MEMBERS_LEFT_OUT, TAKEN_BACK_BY, Night
from bot.moderation.limits import day_of
from bot.night_cards import naming
from bot.privacy.members import MEMBERS

if TYPE_CHECKING:
    from bot.settings import Settings
    from bot.store import Store

log = logging.getLogger(__name__)

_DAY = 86_400.0
_HOUR = 3600.0


@dataclass(frozen=True, slots=True)
class Pruned:
    """What a day's round removed."""

    replies: int
    audit: int
    nights: int
    cases: int = 0
    copies: int = 0


class Retention:
    """`nights` has the nights' folders; `sleep` is for tests."""

    def __init__(
        self,
        store: Store,
        settings: Settings,
        *,
        nights: Path,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._store = store
        self._settings = settings
        self._nights = nights
        self._clock = clock
        self._sleep = sleep

    async def keep(self) -> None:
        """Go round at the start and every day after that, for ever; a round that fails is tried the next day.

        It waits while a night runs: a rating that is removed then is one that was taken back, and ends the night.
        """
        while True:
            try:
                if await self._store.running_night() is not None:
                    await self._sleep(_HOUR)
                    continue
                pruned = await self.prune()
                if pruned != Pruned(0, 0, 0):
                    log.info("older than their limits, so removed: %s", pruned)
            except (EncoreError, OSError) as error:
                log.warning("what is older than its limit stays for now: %s", error)
            await self._sleep(_DAY)

    async def prune(self) -> Pruned:
        """Remove what is older than its limit, and what was counted before today. Raises StoreError, OSError."""
        settings = self._settings
        await self._store.usage(day_of(self._clock()))
        replies = await self._store.prune_replies(self._before(settings.retention_days_replies))
        if settings.retention_days_replies:
            await self._store.prune_raters()
        audit = await self._store.prune_audit(self._before(settings.retention_days_audit))
        cases = await self._store.prune_cases(self._before(settings.retention_days_audit))
        ended = await self._store.nights_ended_before(self._before(settings.retention_days_nights))
        for night_id in ended:
            night = await self._store.night(night_id)
            if night is not None and (unnamed := _without_names(night)) != night:
                await self._store.unname_night(unnamed)
        nights = await asyncio.to_thread(self._strip, ended)
        copies = await asyncio.to_thread(remove_kept, self._store.path, self._before(COPY_DAYS))
        return Pruned(replies, audit, nights, cases, copies)

    def _before(self, days: int) -> float:
        return self._clock() - days * _DAY if days else float("-inf")

    def _strip(self, nights: list[str]) -> int:
        """Empty the folders of nights, but for whose data they held: their adapters may still be served."""
        stripped = 0
        for night in nights:
            folder = self._nights / night
            found = [path for path in folder.iterdir() if path.name != MEMBERS] if folder.is_dir() else []
            for path in found:
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink()
            stripped += bool(found)
        return stripped


def _without_names(night: Night) -> Night:
    """Return a night whose sentences count members instead of naming them; its lists keep their lengths."""
    lists = {
        name: [0] * len(night.figures[name]) for name in (TAKEN_BACK_BY, MEMBERS_LEFT_OUT) if name in night.figures
    }
    return replace(
        night,
        actor_id=None,
        sentences=tuple(naming(sentence, frozenset()) for sentence in night.sentences),
        warnings=tuple(naming(sentence, frozenset()) for sentence in night.warnings),
        figures={**night.figures, **lists},
    )
