from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import EngineFailed, QueueFull
from models.scheduler import Scheduler
from models.types import EngineInfo, Finish, FinishReason, Piece, Request, Sampling


class HeldEngine:
    """Starts every stream with one piece and holds it until `release`; remembers who came when and who is inside."""

    def __init__(self, slots: int) -> None:
        self.info = EngineInfo("held", "held", "", "none", "CPU", 100, slots, "a test", "any")
        self.admitted: list[str] = []
        self.inside: list[str] = []
        self.most_inside = 0
        self.cancelled: list[str] = []
        self._release: dict[str, asyncio.Event] = {}
        self._failing: set[str] = set()

    def release(self, name: str, *, failing: bool = False) -> None:
        if failing:
            self._failing.add(name)
        self._release[name].set()

    async def stream(self, request: Request, *, cancel: asyncio.Event) -> AsyncGenerator[Piece, None]:
        name = str(request.adapter)  # by it the tests tell their streams apart
        released = self._release[name] = asyncio.Event()
        self.admitted.append(name)
        self.inside.append(name)
        self.most_inside = max(self.most_inside, len(self.inside))
        try:
            yield Piece(name, (1,))
            waits = [asyncio.ensure_future(event.wait()) for event in (released, cancel)]
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()
            if name in self._failing:
                raise EngineFailed("The held engine failed; ask again.")
            reason = FinishReason.CANCELLED if cancel.is_set() else FinishReason.END
            yield Piece("", finish=Finish(reason, 1, 0, 1, 0.0, 0.0))
        except (GeneratorExit, asyncio.CancelledError):
            self.cancelled.append(name)
            raise
        finally:
            self.inside.remove(name)

    async def aclose(self) -> None:
        pass


class Asker:
    """One member who asks: consumes a stream in a task and keeps what came of it."""

    def __init__(self, scheduler: Scheduler, name: str, lane: str = "") -> None:
        self.name = name
        self.cancel = asyncio.Event()
        self.places: list[int] = []
        self.pieces: list[Piece] = []
        request = Request((1,), Sampling(), 0, lane=lane, adapter=name)
        self._pieces = scheduler.stream(request, cancel=self.cancel, on_place=self.places.append)
        self.task = asyncio.create_task(self._consume())

    async def _consume(self) -> None:
        async with contextlib.aclosing(self._pieces):
            async for piece in self._pieces:
                self.pieces.append(piece)

    @property
    def reason(self) -> FinishReason | None:
        finish = self.pieces[-1].finish
        return finish.reason if finish else None


async def settle() -> None:
    """Let every task go as far as it can."""
    for _ in range(20):
        await asyncio.sleep(0)


async def ask(scheduler: Scheduler, *named_lanes: str) -> dict[str, Asker]:
    """Ask once for each `name@lane`, in this order."""
    askers: dict[str, Asker] = {}
    for named_lane in named_lanes:
        name, _, lane = named_lane.partition("@")
        askers[name] = Asker(scheduler, name, lane)
        await settle()
    return askers


async def finish_one_by_one(engine: HeldEngine, *askers: Asker) -> None:
    while engine.inside:
        engine.release(engine.inside[0])
        await settle()
    await asyncio.gather(*(asker.task for asker in askers))


async def test_admits_as_many_streams_as_the_engine_has_slots() -> None:
    engine = HeldEngine(slots=2)
    scheduler = Scheduler(engine, queue_limit=10)
    askers = await ask(scheduler, "a1@a", "b1@b", "c1@c")
    assert (engine.inside, scheduler.running, scheduler.waiting) == (["a1", "b1"], 2, 1)
    await finish_one_by_one(engine, *askers.values())
    assert all(asker.reason is FinishReason.END for asker in askers.values())
    assert (scheduler.running, scheduler.waiting) == (0, 0)


async def test_lane_that_floods_the_queue_does_not_hold_up_another() -> None:
    engine = HeldEngine(slots=2)
    scheduler = Scheduler(engine, queue_limit=20)
    askers = await ask(scheduler, *(f"flood{number}@flood" for number in range(10)), "other@other")
    engine.release("flood0")
    await settle()
    assert engine.inside == ["flood1", "other"]
    await finish_one_by_one(engine, *askers.values())


async def test_of_equally_busy_lanes_the_one_served_longest_ago_is_next() -> None:
    engine = HeldEngine(slots=1)
    scheduler = Scheduler(engine, queue_limit=20)
    askers = await ask(scheduler, "a1@a", "a2@a", "a3@a", "b1@b", "b2@b", "c1@c")
    await finish_one_by_one(engine, *askers.values())
    assert engine.admitted == ["a1", "b1", "c1", "a2", "b2", "a3"]


async def test_inside_a_lane_first_come_is_first_served() -> None:
    engine = HeldEngine(slots=1)
    scheduler = Scheduler(engine, queue_limit=20)
    askers = await ask(scheduler, "a1@a", "a2@a", "a3@a")
    await finish_one_by_one(engine, *askers.values())
    assert engine.admitted == ["a1", "a2", "a3"]


async def test_request_beyond_the_queue_limit_is_refused_and_changes_nothing() -> None:
    engine = HeldEngine(slots=1)
    scheduler = Scheduler(engine, queue_limit=1)
    askers = await ask(scheduler, "a1@a", "a2@a")
    refused = (await ask(scheduler, "a3@a"))["a3"]
    with pytest.raises(QueueFull, match="try again in a moment"):
        await refused.task
    assert (scheduler.running, scheduler.waiting, refused.places) == (1, 1, [])
    await finish_one_by_one(engine, *askers.values())


async def test_flooding_lane_gives_way_to_others_when_the_queue_is_full() -> None:
    engine = HeldEngine(slots=1)
    scheduler = Scheduler(engine, queue_limit=4)
    askers = await ask(scheduler, "f0@flood", "f1@flood", "f2@flood", "f3@flood", "f4@flood", "a1@a", "a2@a")
    for gone in ("f3", "f4"):
        with pytest.raises(QueueFull, match="try again in a moment"):
            await askers.pop(gone).task
    refused = (await ask(scheduler, "a3@a"))["a3"]  # its lane would wait longer than the other
    with pytest.raises(QueueFull):
        await refused.task
    assert scheduler.waiting == 4
    await finish_one_by_one(engine, *askers.values())
    assert sorted(engine.admitted) == ["a1", "a2", "f0", "f1", "f2"]


async def test_queue_limit_is_exact_when_many_arrive_at_once() -> None:
    engine = HeldEngine(slots=1)
    scheduler = Scheduler(engine, queue_limit=5)
    lanes = ["flood"] * 10 + [f"lane{number}" for number in range(10)]
    askers = [Asker(scheduler, f"{lane}-{number}", lane) for number, lane in enumerate(lanes)]
    await asyncio.sleep(0)
    assert scheduler.waiting == 5
    await settle()
    assert (scheduler.running, scheduler.waiting) == (1, 5)
    refused = [asker for asker in askers if asker.task.done()]
    assert all(isinstance(asker.task.exception(), QueueFull) for asker in refused)
    await finish_one_by_one(engine, *(asker for asker in askers if asker not in refused))
    assert sorted(name.partition("-")[0] for name in engine.admitted) == [
        "flood",
        "flood",
        "lane0",
        "lane1",
        "lane2",
        "lane3",
    ]


async def test_queue_limit_counts_only_those_that_wait() -> None:
    engine = HeldEngine(slots=3)
    scheduler = Scheduler(engine, queue_limit=1)
    askers = await ask(scheduler, "a1@a", "a2@a", "a3@a", "a4@a")
    assert (scheduler.running, scheduler.waiting) == (3, 1)
    await finish_one_by_one(engine, *askers.values())


async def test_places_are_told_at_first_and_whenever_they_change() -> None:
    engine = HeldEngine(slots=1)
    scheduler = Scheduler(engine, queue_limit=20)
    askers = await ask(scheduler, "a1@a", "a2@a", "a3@a", "b1@b")
    assert askers["a1"].places == []
    assert askers["a2"].places == [1, 2]  # b1's lane was not served yet
    assert askers["a3"].places == [2, 3]
    assert askers["b1"].places == [1]
    await finish_one_by_one(engine, *askers.values())
    assert askers["a3"].places == [2, 3, 2, 1, 0]
    assert askers["a1"].places == [], "nothing to tell who never waited"
    assert engine.admitted == ["a1", "b1", "a2", "a3"]


async def test_asker_whose_place_cannot_be_told_harms_nobody() -> None:
    engine = HeldEngine(slots=1)
    scheduler = Scheduler(engine, queue_limit=20)
    askers = await ask(scheduler, "a1@a")

    def gone(place: int) -> None:
        raise RuntimeError("the channel is gone")

    deaf = scheduler.stream(Request((1,), Sampling(), 0, adapter="deaf"), cancel=asyncio.Event(), on_place=gone)
    first_piece = asyncio.ensure_future(anext(deaf))
    await settle()
    askers |= await ask(scheduler, "b1@b")
    engine.release("a1")
    await settle()
    assert (await first_piece).text == "deaf"
    await deaf.aclose()
    await settle()
    await finish_one_by_one(engine, *askers.values())


async def test_cancel_while_waiting_ends_as_cancelled_and_moves_the_others_up() -> None:
    engine = HeldEngine(slots=1)
    scheduler = Scheduler(engine, queue_limit=20)
    askers = await ask(scheduler, "a1@a", "a2@a", "a3@a")
    askers["a2"].cancel.set()
    await settle()
    assert askers["a2"].reason is FinishReason.CANCELLED
    assert askers["a3"].places == [2, 1]
    assert scheduler.waiting == 1
    await finish_one_by_one(engine, *askers.values())
    assert engine.admitted == ["a1", "a3"]


async def test_request_cancelled_before_it_begins_never_reaches_the_engine() -> None:
    engine = HeldEngine(slots=1)
    scheduler = Scheduler(engine, queue_limit=0)
    asker = Asker(scheduler, "a1")
    asker.cancel.set()
    await asker.task
    assert asker.reason is FinishReason.CANCELLED
    assert (engine.admitted, scheduler.running, scheduler.waiting) == ([], 0, 0)


async def test_cancelling_the_consuming_task_while_waiting_removes_its_ticket() -> None:
    engine = HeldEngine(slots=1)
    scheduler = Scheduler(engine, queue_limit=20)
    askers = await ask(scheduler, "a1@a", "a2@a", "a3@a")
    askers["a2"].task.cancel()
    await settle()
    assert askers["a2"].task.cancelled()
    assert scheduler.waiting == 1
    await finish_one_by_one(engine, askers["a1"], askers["a3"])
    assert engine.admitted == ["a1", "a3"]


async def test_cancel_in_flight_ends_as_cancelled_and_admits_the_next() -> None:
    engine = HeldEngine(slots=1)
    scheduler = Scheduler(engine, queue_limit=20)
    askers = await ask(scheduler, "a1@a", "a2@a")
    askers["a1"].cancel.set()
    await settle()
    assert askers["a1"].reason is FinishReason.CANCELLED
    assert engine.inside == ["a2"]
    await finish_one_by_one(engine, *askers.values())


async def test_cancelling_the_consuming_task_in_flight_stops_the_engine_and_admits_the_next() -> None:
    engine = HeldEngine(slots=1)
    scheduler = Scheduler(engine, queue_limit=20)
    askers = await ask(scheduler, "a1@a", "a2@a")
    askers["a1"].task.cancel()
    await settle()
    assert engine.cancelled == ["a1"]
    assert engine.inside == ["a2"]
    await finish_one_by_one(engine, askers["a2"])


async def test_abandoned_stream_stops_the_engine_and_frees_its_slot() -> None:
    engine = HeldEngine(slots=1)
    scheduler = Scheduler(engine, queue_limit=20)
    pieces = scheduler.stream(Request((1,), Sampling(), 0, adapter="left"), cancel=asyncio.Event())
    assert (await anext(pieces)).text == "left"
    assert scheduler.running == 1
    await pieces.aclose()
    assert (engine.cancelled, engine.inside, scheduler.running) == (["left"], [], 0)


async def test_engine_failure_reaches_its_asker_and_frees_the_slot() -> None:
    engine = HeldEngine(slots=1)
    scheduler = Scheduler(engine, queue_limit=20)
    askers = await ask(scheduler, "a1@a", "a2@a")
    engine.release("a1", failing=True)
    await settle()
    with pytest.raises(EngineFailed):
        await askers["a1"].task
    assert engine.inside == ["a2"]
    await finish_one_by_one(engine, askers["a2"])
    assert scheduler.running == 0


async def test_closing_cancels_everyone_and_refuses_the_next() -> None:
    engine = HeldEngine(slots=1)
    scheduler = Scheduler(engine, queue_limit=20)
    askers = await ask(scheduler, "a1@a", "a2@a")
    await scheduler.aclose()
    await asyncio.gather(*(asker.task for asker in askers.values()))
    assert [asker.reason for asker in askers.values()] == [FinishReason.CANCELLED] * 2
    assert engine.admitted == ["a1"]
    late = Asker(scheduler, "late")
    with pytest.raises(EngineFailed, match="stopping"):
        await late.task


ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.integers(0, 3)),
        st.tuples(st.sampled_from(["finish", "fail", "cancel", "abandon"]), st.integers(0, 30)),
    ),
    max_size=40,
)


@given(slots=st.integers(1, 3), queue_limit=st.integers(0, 6), actions=ACTIONS)
def test_whatever_happens_slots_are_never_exceeded_and_everyone_is_served(
    slots: int, queue_limit: int, actions: list[tuple[str, int]]
) -> None:
    async def scenario() -> None:
        engine = HeldEngine(slots)
        scheduler = Scheduler(engine, queue_limit=queue_limit)
        askers: list[Asker] = []
        for action, number in actions:
            if action == "ask":
                askers.append(Asker(scheduler, f"asker{len(askers)}", str(number)))
            elif action in ("finish", "fail") and engine.inside:
                engine.release(engine.inside[number % len(engine.inside)], failing=action == "fail")
            elif askers and action == "cancel":
                askers[number % len(askers)].cancel.set()
            elif askers and action == "abandon":
                askers[number % len(askers)].task.cancel()
            await settle()
            waiting = [a for a in askers if not a.task.done() and a.name not in engine.admitted]
            assert sorted(a.places[-1] for a in waiting) == list(range(1, scheduler.waiting + 1))
            assert scheduler.waiting <= queue_limit
            assert scheduler.running == len(engine.inside)
            assert scheduler.waiting == 0 or scheduler.running == slots
        while engine.inside:
            engine.release(engine.inside[0])
            await settle()
        results = await asyncio.gather(*(a.task for a in askers), return_exceptions=True)
        assert engine.most_inside <= slots
        assert (scheduler.running, scheduler.waiting) == (0, 0)
        for asker, result in zip(askers, results, strict=True):
            if result is None:
                assert asker.reason is not None
            else:
                assert isinstance(result, QueueFull | EngineFailed | asyncio.CancelledError)

    asyncio.run(scenario())
