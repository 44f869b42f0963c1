"""From reactions to ratings: the writer that commits them in groups, and what an emoji is worth.

Knows nothing of Discord's events: the cog turns those into ReactionEvents and says whose count. What words are worth is
`bot.verdicts`'.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import TracebackType
from typing import Protocol, Self

from bot.errors import StoreError, StoreRefused
from bot.records import ReactionEvent
from bot.verdicts import detect_verdict

__all__ = ["Ratings", "ReactionStore", "detect_verdict", "value_of"]

log = logging.getLogger(__name__)

_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.05, 5.0
_MOST_WAITING = 200_000  # events; some hundred bytes each


class ReactionStore(Protocol):
    """What the writer needs of a store."""

    async def apply_reactions(self, events: Sequence[ReactionEvent], /) -> None: ...


class Ratings:
    """Write offered reactions in their order, each group that gathered meanwhile in one transaction.

    While the store is locked, full or damaged the group waits and is tried again, ever more seldom. Only what comes
    while `most_waiting` events wait is dropped. Discord still has it: `on_gap` is called when the store has caught up,
    for the two to be compared.
    """

    def __init__(
        self,
        store: ReactionStore,
        *,
        most_waiting: int = _MOST_WAITING,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._store = store
        self._most_waiting = most_waiting
        self._dropping = False
        self.on_gap: Callable[[], None] = lambda: None
        self._sleep = sleep
        self._offered: list[ReactionEvent] = []
        self._writing: list[ReactionEvent] = []
        self._drains: list[asyncio.Future[None]] = []
        self._wake = asyncio.Event()
        self._writer: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """Return how many events are not committed yet."""
        return len(self._offered) + len(self._writing)

    def offer(self, event: ReactionEvent) -> None:
        """Queue an event, or drop it when too many wait; returns at once."""
        if self.waiting >= self._most_waiting:
            if not self._dropping:
                log.warning("%d reactions wait to be stored: further ones are dropped until they are", self.waiting)
            self._dropping = True
            return
        self._offered.append(event)
        self._wake.set()

    async def drain(self) -> None:
        """Wait until all that was offered before is committed."""
        if self._writer is None:
            raise RuntimeError("Ratings is not open: use `async with`.")
        drained = asyncio.get_running_loop().create_future()
        self._drains.append(drained)
        self._wake.set()
        await drained

    async def __aenter__(self) -> Self:
        self._writer = asyncio.create_task(self._write(), name="ratings writer")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self, grace_seconds: float = 5.0) -> None:
        """Commit what is queued and stop; what a broken store won't take within the grace is logged and left.

        Discord still has those reactions: the next start reads them again.
        """
        writer = self._writer
        if writer is None:
            return
        try:
            async with asyncio.timeout(grace_seconds):
                await self.drain()
        except TimeoutError:
            log.error("%d reactions could not be stored before the end; the next start reads them again", self.waiting)
        finally:
            self._writer = None
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)

    async def _write(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            self._writing, self._offered = self._offered, []
            drains, self._drains = self._drains, []
            if self._writing:
                await self._commit(self._writing)
                self._writing = []
                if self._dropping and self.waiting <= self._most_waiting // 2:
                    self._dropping = False
                    self.on_gap()
            for drained in drains:
                if not drained.done():
                    drained.set_result(None)

    async def _commit(self, events: Sequence[ReactionEvent]) -> None:
        """Apply `events`, however long it takes; only an event whose values the schema refuses is given up."""
        pause, told = _FIRST_PAUSE_SECONDS, False
        while True:
            try:
                await self._store.apply_reactions(events)
            except StoreRefused as error:
                if await self._alone(events):
                    log.error("gave up a reaction: %s", error)
                return
            except StoreError as error:
                if not told:
                    log.warning("%d reactions wait to be stored: %s", self.waiting, error)
                    told = True
                await self._sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)
            except Exception:  # a bug must not end the writer: later reactions would pile up unseen
                if await self._alone(events):
                    log.exception("gave up a reaction")
                return
            else:
                if told:
                    log.info("reactions are stored again")
                return

    async def _alone(self, events: Sequence[ReactionEvent]) -> bool:
        """Return whether a group that failed is a single event; else commit its events one by one."""
        if len(events) == 1:
            return True
        for event in events:
            await self._commit((event,))
        return False


# An emoji's colour or text form (U+FE0E, U+FE0F) and its skin tone are the same opinion.
_FORMS = dict.fromkeys([0xFE0E, 0xFE0F, *range(0x1F3FB, 0x1F400)])
_CUSTOM = re.compile(r"(?:<a?:)?\w*:(\d{5,})>?")


@functools.lru_cache(maxsize=4096)
def _normal(emoji: str) -> str:
    custom = _CUSTOM.fullmatch(emoji)
    return custom[1] if custom else emoji.translate(_FORMS)  # a custom emoji's name may change, its id never does


def value_of(emoji: str, table: Mapping[str, float]) -> float | None:
    """Return what an emoji is worth in a server's table; None when it says nothing.

    Forms and skin tones are one emoji; a custom one (`name:id` or `<:name:id>`) is known by its id.
    """
    if emoji in table:
        return table[emoji]
    wanted = _normal(emoji)
    return next((value for listed, value in table.items() if _normal(listed) == wanted), None)
