"""Who generates next: a bounded queue in front of an engine, fair between lanes (channels).

The next to be admitted comes from the lane with the fewest running streams, of these the lane served longest ago;
inside a lane, first come, first served. When the queue is full, the newest of the longest lane gives way to a lane that
stays shorter. Generates nothing itself and keeps nothing beyond the process.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections import Counter, deque
from collections.abc import AsyncGenerator, Callable, Iterator
from dataclasses import dataclass, field

from models.errors import EngineFailed, QueueFull
from models.types import Engine, Finish, FinishReason, Piece, Request

log = logging.getLogger(__name__)


@dataclass(eq=False, slots=True)
class _Ticket:
    """A request in the queue. `turn` is set when it may run or gave way; `place` is the last one that it was told."""

    request: Request
    cancel: asyncio.Event
    on_place: Callable[[int], None] | None
    turn: asyncio.Event = field(default_factory=asyncio.Event)
    place: int = 0
    gave_way: bool = False


class Scheduler:
    """Admits `engine.info.slots` streams at once; at most `queue_limit` more may wait."""

    def __init__(self, engine: Engine, *, queue_limit: int) -> None:
        self._engine = engine
        self._slots = engine.info.slots
        self._queue_limit = queue_limit
        self._waiting: dict[str, deque[_Ticket]] = {}  # lanes in which somebody waits, none empty
        self._running: set[_Ticket] = set()
        self._running_in: Counter[str] = Counter()
        self._last_served: dict[str, int] = {}
        self._served = 0
        self._closed = False

    @property
    def running(self) -> int:
        return len(self._running)

    @property
    def waiting(self) -> int:
        return sum(map(len, self._waiting.values()))

    async def stream(
        self, request: Request, *, cancel: asyncio.Event, on_place: Callable[[int], None] | None = None
    ) -> AsyncGenerator[Piece, None]:
        """Wait for a slot, then generate; ends with a CANCELLED piece if `cancel` is set, also while waiting.

        `on_place` is told the place in the queue (1 = next) at first and whenever it changes, and 0 when its turn has
        come; never if a slot was free.
        Closing the generator gives the slot back. Raises QueueFull, and what the engine raises.
        """
        ticket = _Ticket(request, cancel, on_place)
        self._enter(ticket)
        try:
            if not await _admitted(ticket):
                yield Piece("", finish=Finish(FinishReason.CANCELLED, len(request.prompt_token_ids), 0, 0, 0.0, 0.0))
                return
            if ticket.gave_way:
                raise self._full()
            pieces = self._engine.stream(request, cancel=cancel)
            try:
                async for piece in pieces:
                    yield piece
            finally:
                if isinstance(pieces, AsyncGenerator):
                    await pieces.aclose()
        finally:
            self._leave(ticket)

    async def aclose(self) -> None:
        """Take no more requests and cancel those that wait or run; each still ends with its CANCELLED piece."""
        self._closed = True
        for ticket in [*self._running, *self._queued()]:
            ticket.cancel.set()

    def _enter(self, ticket: _Ticket) -> None:
        if self._closed:
            raise EngineFailed("Encore is stopping; ask again when it is back.")
        free = len(self._running) < self._slots
        if not free and not ticket.cancel.is_set() and self.waiting >= self._queue_limit:
            self._make_room(ticket.request.lane)
        self._waiting.setdefault(ticket.request.lane, deque()).append(ticket)
        self._admit()

    def _make_room(self, lane: str) -> None:
        """Turn away the newest of the longest lane; raises QueueFull if `lane` would be as long, one more included."""
        longest = max(self._waiting.values(), key=len, default=deque[_Ticket]())
        if len(longest) <= len(self._waiting.get(lane, ())) + 1:
            raise self._full()
        given = longest.pop()  # out of the queue at once: the bound holds before its consumer wakes
        given.gave_way = True
        given.turn.set()

    def _full(self) -> QueueFull:
        return QueueFull(f"{self._queue_limit} requests are waiting already; try again in a moment.")

    def _leave(self, ticket: _Ticket) -> None:
        lane = ticket.request.lane
        if ticket in self._running:
            self._running.remove(ticket)
            self._running_in[lane] -= 1
            if not self._running_in[lane]:
                del self._running_in[lane]
        elif not ticket.gave_way:
            self._waiting[lane].remove(ticket)
            if not self._waiting[lane]:
                del self._waiting[lane]
        self._admit()
        if not self._running:
            self._last_served.clear()  # nobody waits either: who was served when no longer matters

    def _admit(self) -> None:
        """Fill the free slots, then tell those that still wait where they stand."""
        while self._waiting and len(self._running) < self._slots:
            ticket = next(self._order())
            lane = ticket.request.lane
            self._waiting[lane].popleft()
            if not self._waiting[lane]:
                del self._waiting[lane]
            self._running.add(ticket)
            self._running_in[lane] += 1
            self._served += 1
            self._last_served[lane] = self._served
            ticket.turn.set()
            if ticket.place:
                _tell(ticket, 0)
        for place, ticket in enumerate(self._order(), start=1):
            if ticket.place != place:
                _tell(ticket, place)

    def _order(self) -> Iterator[_Ticket]:
        """Yield those that wait in the order in which they would be admitted if nothing else came or went."""
        arrival = {lane: number for number, lane in enumerate(self._waiting)}
        lanes = [(self._running_in[lane], self._last_served.get(lane, 0), arrival[lane], lane) for lane in arrival]
        heapq.heapify(lanes)
        taken: Counter[str] = Counter()
        served = self._served
        while lanes:
            running, _, number, lane = lanes[0]
            queue = self._waiting[lane]
            yield queue[taken[lane]]
            taken[lane] += 1
            served += 1
            if taken[lane] < len(queue):
                heapq.heapreplace(lanes, (running + 1, served, number, lane))
            else:
                heapq.heappop(lanes)

    def _queued(self) -> Iterator[_Ticket]:
        for queue in self._waiting.values():
            yield from queue


async def _admitted(ticket: _Ticket) -> bool:
    """Wait for the ticket's turn or its cancellation; return whether it may run."""
    if not ticket.turn.is_set() and not ticket.cancel.is_set():
        waits = [asyncio.ensure_future(event.wait()) for event in (ticket.turn, ticket.cancel)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
    return ticket.turn.is_set() and not ticket.cancel.is_set()


def _tell(ticket: _Ticket, place: int) -> None:
    ticket.place = place
    if ticket.on_place is None:
        return
    try:
        ticket.on_place(ticket.place)
    except Exception:
        # Told from inside another request's turn, which must not fail for this one's sake.
        log.exception("a request could not be told its place in the queue")
