"""Which slot of a server reads a prompt, where llama.cpp must not choose for itself: among adapters.

llama.cpp takes the slot whose prompt is most alike, whichever adapter read it, and forgets that prompt: two adapters
under one system prompt would take each other's slots for ever. Here a conversation keeps its slot, and what is new
takes the one that was unused for longest. Knows nothing of what a slot holds but the prompt that it was last given.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field


@dataclass(slots=True)
class _Slot:
    reader: tuple[str | None, float] | None = None  # adapter and scale
    prompt: tuple[int, ...] = ()
    taken: int = 0  # the how manieth request took it last
    running: list[asyncio.Event] = field(default_factory=list)


class Slots:
    """All slots of one server; used on the event loop alone."""

    def __init__(self, count: int) -> None:
        self._slots = [_Slot() for _ in range(count)]
        self._requests = 0

    def take(self, reader: tuple[str | None, float], prompt: tuple[int, ...], ended: asyncio.Event) -> int:
        """Return the slot for a prompt that `reader` (an adapter and its scale) reads until `ended` is set.

        When none is free, the request waits inside llama.cpp for the one returned.
        """
        for slot in self._slots:
            slot.running = [event for event in slot.running if not event.is_set()]
        fewest = min(len(slot.running) for slot in self._slots)
        free = [index for index, slot in enumerate(self._slots) if len(slot.running) == fewest]
        known = {index: _common(self._slots[index].prompt, prompt) for index in free}
        continued = [
            index
            for index in free
            if self._slots[index].reader == reader and 2 * known[index] >= len(self._slots[index].prompt)
        ]
        if continued:
            chosen = max(continued, key=lambda index: known[index])
        else:
            chosen = min(free, key=lambda index: self._slots[index].taken)
        self._requests += 1
        taken = self._slots[chosen]
        taken.reader, taken.prompt, taken.taken = reader, prompt, self._requests
        taken.running.append(ended)
        return chosen


def _common(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    """Return the length of the common beginning."""
    for length, (left, right) in enumerate(zip(one, other, strict=False)):
        if left != right:
            return length
    return min(len(one), len(other))
