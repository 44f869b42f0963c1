"""A surface for tests: remembers everything that was shown, and fails on request."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass, field

from bot.streaming import Controls


@dataclass
class Screen:
    """A surface that remembers everything; `failures` are raised one a call."""

    log: list[tuple[str, int, str, Controls]] = field(default_factory=list)
    failures: list[Exception] = field(default_factory=list)
    typed: int = 0
    slow_seconds: float = 0.0
    ids: itertools.count[int] = field(default_factory=lambda: itertools.count(100))

    async def send(self, content: str, *, part: int, reply_id: int, controls: Controls) -> int:
        await self._act()
        message_id = next(self.ids)
        self.log.append(("send", message_id, content, controls))
        return message_id

    async def edit(self, message_id: int, content: str, *, reply_id: int, controls: Controls) -> None:
        await self._act()
        self.log.append(("edit", message_id, content, controls))

    async def typing(self) -> None:
        self.typed += 1

    async def _act(self) -> None:
        await asyncio.sleep(self.slow_seconds)
        if self.failures:
            raise self.failures.pop(0)

    def shown(self) -> dict[int, tuple[str, Controls]]:
        return {message_id: (content, controls) for _, message_id, content, controls in self.log}

    @property
    def text(self) -> str:
        """Return what a person reads in the end, message after message."""
        return "\n".join(content for content, _ in self.shown().values())
