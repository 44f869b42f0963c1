"""A growing text -> Discord messages: latest-wins edits at a pace a channel, and a final state that is always sent.

Owns which part of the text shows in which message. Knows a Surface, not Discord.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import Protocol
from weakref import WeakValueDictionary

from bot import text

log = logging.getLogger(__name__)

CURSOR = " ▍"  # marks text that is not finished
THINKING = text.subtext("Thinking …")  # in the place of a queue notice, until there is text
_TYPING_SECONDS = 8.0  # Discord shows "is typing" for ten
_WAITING_NOTICE_SECONDS = 1.5  # a shorter wait needs no message
_HELD_SECONDS = 0.05  # between two looks at a text of which nothing more may be shown
_FINAL_RETRY_SECONDS = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0, 120.0)  # the slot is free meanwhile


class Controls(StrEnum):
    """Which buttons go with a message."""

    WAITING = "waiting"  # stop
    STREAMING = "streaming"  # stop
    FINISHED = "finished"  # thumbs, regenerate, continue
    NONE = "none"


class SurfaceGone(Exception):
    """The message, the channel or the permission to write there is gone; nothing more can be shown."""


class SurfaceBusy(Exception):
    """Discord refused for now (rate limit, server error); trying again later may work."""


class Surface(Protocol):
    """Where a reply shows. Every method raises SurfaceGone or SurfaceBusy."""

    async def send(self, content: str, *, part: int, reply_id: int, controls: Controls) -> int:
        """Post the reply's part number `part` and return its message id."""
        ...

    async def edit(self, message_id: int, content: str, *, reply_id: int, controls: Controls) -> None: ...

    async def typing(self) -> None:
        """Show for some seconds that an answer is on its way."""
        ...


class Pacer:
    """Spaces the edits of one channel: all its streams together make one edit an interval."""

    def __init__(self, interval_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.interval = interval_seconds
        self._clock = clock
        self._next = 0.0

    def reserve(self) -> float:
        """Take the channel's next edit; return in how many seconds it is due."""
        now = self._clock()
        due = max(now, self._next)
        self._next = due + self.interval
        return due - now


class Pacers:
    """One pacer a channel, kept only as long as a stream there needs it."""

    def __init__(self, interval_seconds: float) -> None:
        self._interval = interval_seconds
        self._of_channel: WeakValueDictionary[int, Pacer] = WeakValueDictionary()

    def of(self, channel_id: int) -> Pacer:
        pacer = self._of_channel.get(channel_id)
        if pacer is None:
            pacer = self._of_channel[channel_id] = Pacer(self._interval)
        return pacer


class StreamingMessage:
    """Show one reply while it grows.

    `on_sent(message_id, part)` runs right after each new message, before anything else is sent, so that a process
    killed a moment later finds its message again. `lost` is set when the surface is gone. `present` returns what of the
    raw completion so far may be shown; it is asked where an edit is made, not with every token.
    """

    def __init__(
        self,
        surface: Surface,
        pacer: Pacer,
        *,
        reply_id: int,
        on_sent: Callable[[int, int], Awaitable[None]],
        lost: asyncio.Event,
        present: Callable[[str], Awaitable[str]] | None = None,
    ) -> None:
        self._surface = surface
        self._pacer = pacer
        self._reply_id = reply_id
        self._on_sent = on_sent
        self._lost = lost
        self._present = present or _all_visible
        self._presented = ("", "")  # a raw completion and what of it may be shown
        self._latest = ""
        self._controls = Controls.WAITING
        self._dirty = asyncio.Event()
        self._closing = asyncio.Event()
        self._turn_came = asyncio.Event()
        self._speaks = False  # some of the answer shows
        self._shown: list[tuple[int, str, Controls]] = []  # (message id, content, controls) a part
        self._rendered: tuple[str, Controls] | None = None  # what all of them together show
        self._started = time.monotonic()
        self._pump = asyncio.create_task(self._run(), name=f"stream-{reply_id}")

    @property
    def message_ids(self) -> tuple[int, ...]:
        return tuple(message_id for message_id, _, _ in self._shown)

    def wait_in_queue(self, place: int) -> None:
        """Say which place in the queue the asker has (1 = next, 0 = its turn has come)."""
        if place:
            self._set(text.subtext(f"Number {place} in the queue."), Controls.WAITING)
        else:
            self._turn_came.set()
            self.update("")

    def update(self, completion: str) -> None:
        """Replace the raw completion so far; the newest one wins at the next edit."""
        self._set(completion, Controls.STREAMING)

    async def finish(self, final: str, controls: Controls) -> None:
        """Send the final text whatever was shown before, trying again while Discord is busy.

        Raises SurfaceGone, and SurfaceBusy when Discord stays busy for four minutes.
        """
        await self.stop_edits()
        content = text.harmless(final)
        for delay in (*_FINAL_RETRY_SECONDS, None):
            try:
                await self._render(content, controls)
                return
            except SurfaceBusy:
                if delay is None:
                    raise
                await asyncio.sleep(delay)

    async def stop_edits(self) -> None:
        """End the pump without cutting off a request that is under way."""
        self._closing.set()
        self._dirty.set()
        await asyncio.wait({self._pump})

    def _set(self, content: str, controls: Controls) -> None:
        self._latest, self._controls = content, controls
        self._dirty.set()

    async def _run(self) -> None:
        typing = asyncio.create_task(self._type())
        try:
            while True:
                await self._dirty.wait()
                await self._hold_waiting_notice()
                self._dirty.clear()
                content, controls = await self._content()
                if (not content or (content, controls) == self._rendered) and not self._closing.is_set():
                    # Nothing new may show, or hidden reasoning goes on: that takes no edit from the channel's others.
                    if await self._closes_within(min(_HELD_SECONDS, self._pacer.interval)):
                        return
                    continue
                if await self._closes_within(self._pacer.reserve()):
                    return
                self._dirty.clear()
                content, controls = await self._content()
                if not content:
                    continue
                self._speaks = content.endswith(CURSOR)
                with contextlib.suppress(SurfaceBusy):  # the next edit, or the final one, says it all again
                    await self._render(content, controls)
        except SurfaceGone:
            self._lost.set()
        except Exception:
            log.exception("reply %s: streaming edits ended early", self._reply_id)
        finally:
            typing.cancel()

    async def _content(self) -> tuple[str, Controls]:
        """Return what is to show now: nothing where typing says enough, or the place in the queue, or the text."""
        latest, controls = self._latest, self._controls
        if controls is Controls.WAITING:
            return latest, controls
        if self._presented[0] != latest:
            self._presented = latest, await self._present(latest)
        if said := text.harmless(self._presented[1]):
            return said + CURSOR, controls
        return THINKING if self._shown else "", controls

    async def _hold_waiting_notice(self) -> None:
        """Keep a queue notice back for a moment: most waits end before anyone needs to read it."""
        while self._controls is Controls.WAITING and not self._shown and not self._closing.is_set():
            left = self._started + _WAITING_NOTICE_SECONDS - time.monotonic()
            if left <= 0:
                return
            self._dirty.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._dirty.wait(), left)

    async def _closes_within(self, seconds: float) -> bool:
        if seconds > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), seconds)
        return self._closing.is_set()

    async def _type(self) -> None:
        """Type until the first word; where the place in the queue shows, that says enough until the turn has come."""
        with contextlib.suppress(SurfaceGone, SurfaceBusy):
            while not self._speaks:
                if not self._shown or self._controls is Controls.STREAMING:
                    await self._surface.typing()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._turn_came.wait(), _TYPING_SECONDS)
                self._turn_came.clear()

    async def _render(self, content: str, controls: Controls) -> None:
        parts = text.split(content)
        for index, part in enumerate(parts):
            wanted = controls if index == len(parts) - 1 else Controls.NONE
            if index >= len(self._shown):
                message_id = await self._surface.send(part, part=index, reply_id=self._reply_id, controls=wanted)
                self._shown.append((message_id, part, wanted))
                await self._on_sent(message_id, index)
            elif self._shown[index][1:] != (part, wanted):
                message_id = self._shown[index][0]
                await self._surface.edit(message_id, part, reply_id=self._reply_id, controls=wanted)
                self._shown[index] = (message_id, part, wanted)
        for index in range(
            len(parts), len(self._shown)
        ):  # the text shrank, as a queue notice never but a think tag may
            message_id, shown, _ = self._shown[index]
            if shown != "…":
                await self._surface.edit(message_id, "…", reply_id=self._reply_id, controls=Controls.NONE)
                self._shown[index] = (message_id, "…", Controls.NONE)
        self._rendered = (content, controls)


async def _all_visible(completion: str) -> str:
    return text.visible(completion, growing=True)
