"""The writer that loses nothing, and what an emoji is worth."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from pathlib import Path

import pytest

from bot.database import connect
from bot.errors import StoreBusy, StoreDamaged, StoreError, StoreFull, StoreRefused
from bot.ratings import Ratings, value_of
from bot.records import DEFAULT_EMOJI, ReactionEvent, ReactionKind
from tests.bot.stores import new_reply, opened


def add(message_id: int, member_id: int, value: float = 1.0) -> ReactionEvent:
    return ReactionEvent(ReactionKind.ADD, message_id, member_id, "👍", value)


class FakeStore:
    """Takes groups of events; fails as told, holds while `gate` is closed."""

    def __init__(self, *failures: StoreError) -> None:
        self.failures = list(failures)
        self.groups: list[list[ReactionEvent]] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def apply_reactions(self, events: Sequence[ReactionEvent]) -> None:
        await self.gate.wait()
        if self.failures:
            raise self.failures.pop(0)
        if any(event.value < -5 for event in events):
            raise StoreRefused("no such value")
        self.groups.append(list(events))

    @property
    def events(self) -> list[ReactionEvent]:
        return [event for group in self.groups for event in group]


class Pauses:
    """Stands in for asyncio.sleep and notes how long was asked for."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)
        await asyncio.sleep(0)


async def test_what_gathers_while_a_group_is_written_is_the_next_group() -> None:
    store = FakeStore()
    async with Ratings(store) as ratings:
        store.gate.clear()
        ratings.offer(add(1, 1))
        await asyncio.sleep(0)
        for member in range(2, 6):
            ratings.offer(add(1, member))
        assert ratings.waiting == 5
        store.gate.set()
        await ratings.drain()
        assert ratings.waiting == 0
    assert [[event.member_id for event in group] for group in store.groups] == [[1], [2, 3, 4, 5]]


async def test_drain_waits_for_all_that_was_offered_before() -> None:
    store = FakeStore()
    async with Ratings(store) as ratings:
        store.gate.clear()
        ratings.offer(add(1, 1))
        await asyncio.sleep(0)
        ratings.offer(add(1, 2))
        draining = asyncio.create_task(ratings.drain())
        for _ in range(5):
            await asyncio.sleep(0)
        assert not draining.done()
        store.gate.set()
        await draining
        assert len(store.events) == 2
        await ratings.drain()  # with nothing to do


async def test_drain_of_a_closed_writer_is_a_mistake() -> None:
    with pytest.raises(RuntimeError, match="async with"):
        await Ratings(FakeStore()).drain()


@pytest.mark.parametrize(
    "failure", [StoreBusy("locked"), StoreFull("full"), StoreDamaged("damaged"), StoreError("i/o")]
)
async def test_group_is_tried_again_ever_more_seldom_and_told_once(
    failure: StoreError, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "bot.ratings")
    store, pauses = FakeStore(*[failure] * 9), Pauses()
    offered = [add(1, member) for member in range(50)]
    async with Ratings(store, sleep=pauses) as ratings:
        for event in offered:
            ratings.offer(event)
        await ratings.drain()
    assert store.events == offered
    assert pauses.seconds == [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    assert [record.getMessage() for record in caplog.records] == [
        f"50 reactions wait to be stored: {failure}",
        "reactions are stored again",
    ]


async def test_queue_is_bounded_and_dropping_told_once(caplog: pytest.LogCaptureFixture) -> None:
    store = FakeStore()
    gaps: list[int] = []
    async with Ratings(store, most_waiting=3) as ratings:
        ratings.on_gap = lambda: gaps.append(len(store.events))
        store.gate.clear()
        for member in range(1, 7):
            ratings.offer(add(1, member))
            await asyncio.sleep(0)
        assert ratings.waiting == 3
        store.gate.set()
        await ratings.drain()
        ratings.offer(add(1, 7))
        await ratings.drain()
    assert [event.member_id for event in store.events] == [1, 2, 3, 7]
    assert gaps == [3], "whoever fills the gap was not told, or while the store still refused"
    told = [record.getMessage() for record in caplog.records]
    assert told == ["3 reactions wait to be stored: further ones are dropped until they are"]


async def test_refused_event_is_given_up_alone(caplog: pytest.LogCaptureFixture) -> None:
    store = FakeStore()
    async with Ratings(store) as ratings:
        for event in (add(1, 1), add(1, 2, -9.0), add(1, 3)):
            ratings.offer(event)
        await ratings.drain()
        ratings.offer(add(1, 4))
        await ratings.drain()
    assert [event.member_id for event in store.events] == [1, 3, 4]
    assert [record.getMessage() for record in caplog.records] == ["gave up a reaction: no such value"]


async def test_end_commits_what_is_queued() -> None:
    store = FakeStore()
    async with Ratings(store) as ratings:
        ratings.offer(add(1, 1))
    assert len(store.events) == 1


async def test_end_does_not_wait_for_ever_for_a_broken_store(caplog: pytest.LogCaptureFixture) -> None:
    ratings = Ratings(FakeStore(*[StoreFull("full")] * 1000))
    async with ratings:
        ratings.offer(add(1, 1))
        await ratings.aclose(grace_seconds=0.01)
    assert "1 reactions could not be stored before the end" in caplog.text


async def test_failure_that_nobody_foresaw_does_not_stop_the_writer(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(FakeStore):
        async def apply_reactions(self, events: Sequence[ReactionEvent]) -> None:
            if any(event.member_id == 2 for event in events):
                raise KeyError("a bug")
            await super().apply_reactions(events)

    store = Broken()
    async with Ratings(store) as ratings:
        for member in (1, 2, 3):
            ratings.offer(add(1, member))
        await ratings.drain()
    assert [event.member_id for event in store.events] == [1, 3]
    assert "a bug" in caplog.text


async def test_locked_database_loses_no_reaction(tmp_path: Path) -> None:
    async with opened(tmp_path, busy_timeout_seconds=0.0) as store:
        reply_id = await new_reply(store, 1)
        with contextlib.closing(connect(tmp_path / "encore.sqlite3")) as foreign:
            async with Ratings(store) as ratings:
                foreign.execute("BEGIN EXCLUSIVE")
                for member in range(100):
                    ratings.offer(add(1, member))
                    await asyncio.sleep(0)
                assert await store.votes(reply_id) == []
                foreign.execute("ROLLBACK")
                await ratings.drain()
        assert len(await store.votes(reply_id)) == 100


async def test_full_disk_loses_no_reaction(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        reply_id = await new_reply(store, 1)
        async with store._database.transaction() as connection:
            (row,) = await connection.execute_fetchall("PRAGMA page_count")
            await connection.execute_fetchall(f"PRAGMA max_page_count = {row[0]}")
        refused = asyncio.Event()

        async def pause(seconds: float) -> None:
            refused.set()
            await asyncio.sleep(0.001)

        async with Ratings(store, sleep=pause) as ratings:
            for member in range(2000):
                ratings.offer(add(1, member))
            await refused.wait()
            assert await store.votes(reply_id) == []
            async with store._database.transaction() as connection:
                await connection.execute_fetchall("PRAGMA max_page_count = 1000000")
            await ratings.drain()
        assert len(await store.votes(reply_id)) == 2000
        assert await store.check() == []


@pytest.mark.parametrize(
    ("emoji", "value"),
    [
        ("👍", 1.0),
        ("👍🏽", 1.0),
        ("👍🏿", 1.0),
        ("❤", 1.0),
        ("❤️", 1.0),
        ("❤\ufe0e", 1.0),
        ("⭐️", 1.0),
        ("👎🏻", -1.0),
        ("❤️‍🔥", None),
        ("💔", None),
        ("🎉", None),
        ("pog:123456", None),
        ("", None),
    ],
)
def test_emoji_is_worth_the_same_in_every_form_and_skin_tone(emoji: str, value: float | None) -> None:
    assert value_of(emoji, DEFAULT_EMOJI) == value


@pytest.mark.parametrize("listed", ["pog:123456", "<:pog:123456>", "<a:pog:123456>"])
@pytest.mark.parametrize("given", ["pog:123456", "renamed:123456"])
def test_custom_emoji_is_known_by_its_id(listed: str, given: str) -> None:
    assert value_of(given, {listed: 0.5}) == 0.5
    assert value_of("pog:654321", {listed: 0.5}) is None


def test_emoji_of_no_weight_is_listed_all_the_same() -> None:
    assert value_of("👍", {"👍": 0.0}) == 0.0
