from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from bot import text
from bot.streaming import CURSOR, Controls, Pacer, StreamingMessage, SurfaceBusy, SurfaceGone
from tests.bot.screen import Screen


@contextlib.asynccontextmanager
async def streaming(screen: Screen, interval: float = 0.0) -> AsyncIterator[tuple[StreamingMessage, asyncio.Event]]:
    lost = asyncio.Event()
    sent: list[int] = []

    async def on_sent(message_id: int, part: int) -> None:
        sent.append(message_id)

    message = StreamingMessage(screen, Pacer(interval), reply_id=1, on_sent=on_sent, lost=lost)
    yield message, lost
    await message.stop_edits()
    assert tuple(sent) == message.message_ids


async def test_the_final_text_is_sent_without_a_cursor_whatever_came_before() -> None:
    screen = Screen()
    async with streaming(screen, interval=60) as (message, _):
        for end in range(1, 6):
            message.update("hello"[:end])
            await asyncio.sleep(0)
        await message.finish("hello", Controls.FINISHED)
    assert screen.shown() == {100: ("hello", Controls.FINISHED)}


async def test_edits_are_latest_wins_and_fewer_than_updates() -> None:
    screen = Screen(slow_seconds=0.005)
    async with streaming(screen, interval=0.02) as (message, _):
        for end in range(100):
            message.update("x" * end)
            await asyncio.sleep(0.001)
        await message.finish("x" * 100, Controls.FINISHED)
    assert 2 < len(screen.log) < 40
    assert all(content.endswith(CURSOR) for _, _, content, _ in screen.log[:-1])


async def test_a_long_text_grows_into_several_messages_with_buttons_on_the_last() -> None:
    screen = Screen()
    async with streaming(screen) as (message, _):
        message.update("a" * 1500)
        await asyncio.sleep(0.01)
        await message.finish("a" * 1500 + "\n\n" + "b" * 1500, Controls.FINISHED)
    assert screen.shown() == {100: ("a" * 1500, Controls.NONE), 101: ("b" * 1500, Controls.FINISHED)}


async def test_hidden_reasoning_is_not_shown_while_it_streams() -> None:
    screen = Screen()
    async with streaming(screen) as (message, _):
        message.update("<think>the plan")
        await asyncio.sleep(0.01)
        assert screen.log == []
        message.update("<think>the plan</think>Hi")
        await asyncio.sleep(0.01)
        assert screen.shown() == {100: ("Hi" + CURSOR, Controls.STREAMING)}
        await message.finish("Hi", Controls.FINISHED)


async def test_a_begun_tag_is_held_back_while_the_text_grows() -> None:
    screen = Screen()
    async with streaming(screen) as (message, _):
        message.update("so cute >_<")
        await asyncio.sleep(0.01)
        assert screen.shown() == {100: ("so cute >_" + CURSOR, Controls.STREAMING)}
        await message.finish("so cute >_<", Controls.FINISHED)


async def test_a_tag_within_an_answer_is_held_back_until_it_proves_to_be_text() -> None:
    screen = Screen()
    async with streaming(screen) as (message, _):
        for completion in ("Use the <think>", "Use the <think> tag"):
            message.update(completion)
            await asyncio.sleep(0.01)
        assert screen.shown() == {100: ("Use the" + CURSOR, Controls.STREAMING)}
        await message.finish("Use the <think> tag", Controls.FINISHED)


async def test_a_streamed_mention_pings_nobody() -> None:
    screen = Screen()
    async with streaming(screen) as (message, _):
        message.update("@everyone")
        await asyncio.sleep(0.01)
        await message.finish("@everyone", Controls.FINISHED)
    assert all("@everyone" not in content for _, _, content, _ in screen.log)


async def test_a_short_wait_in_the_queue_needs_no_message() -> None:
    screen = Screen()
    async with streaming(screen) as (message, _):
        message.wait_in_queue(3)
        await asyncio.sleep(0.01)
        assert screen.log == []
        assert screen.typed == 1
        message.update("Hi")
        await asyncio.sleep(0.01)
        await message.finish("Hi", Controls.FINISHED)
    assert screen.log[0][2] == "Hi" + CURSOR


async def test_a_long_wait_shows_the_place_in_the_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bot.streaming._WAITING_NOTICE_SECONDS", 0.01)
    screen = Screen()
    async with streaming(screen) as (message, _):
        message.wait_in_queue(3)
        await asyncio.sleep(0.05)
        message.wait_in_queue(2)
        await asyncio.sleep(0.05)
        assert [entry[2] for entry in screen.log] == [
            text.subtext("Number 3 in the queue."),
            text.subtext("Number 2 in the queue."),
        ]
        await message.finish("Hi", Controls.FINISHED)
    assert screen.shown() == {100: ("Hi", Controls.FINISHED)}


async def test_hidden_reasoning_after_a_wait_in_the_queue_shows_as_thinking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bot.streaming._WAITING_NOTICE_SECONDS", 0.0)
    monkeypatch.setattr("bot.streaming._TYPING_SECONDS", 0.02)
    screen = Screen()
    async with streaming(screen) as (message, _):
        message.wait_in_queue(1)
        await asyncio.sleep(0.01)
        waited = screen.typed
        await asyncio.sleep(0.06)
        assert screen.typed == waited, "the place in the queue says enough"
        message.wait_in_queue(0)
        await asyncio.sleep(0.01)
        assert screen.shown() == {100: ("-# Thinking …", Controls.STREAMING)}
        for end in range(6, 15):
            message.update("<think>the plan"[: end + 1])
            await asyncio.sleep(0.01)
        assert screen.typed >= waited + 3
        assert [entry[2] for entry in screen.log] == ["-# Number 1 in the queue.", "-# Thinking …"]
        message.update("<think>the plan</think>Hi")
        await asyncio.sleep(0.03)
        assert screen.shown() == {100: ("Hi" + CURSOR, Controls.STREAMING)}
        typed = screen.typed
        await asyncio.sleep(0.06)
        assert screen.typed == typed
        await message.finish("Hi", Controls.FINISHED)


async def test_hidden_reasoning_takes_no_edits_from_the_channel() -> None:
    now = 0.0
    pacer = Pacer(1.0, clock=lambda: now)

    async def on_sent(message_id: int, part: int) -> None: ...

    message = StreamingMessage(Screen(), pacer, reply_id=1, on_sent=on_sent, lost=asyncio.Event())
    for end in range(20):
        message.update("<think>" + "x" * end)
        await asyncio.sleep(0)
    assert pacer.reserve() == 0.0
    await message.stop_edits()


async def test_a_surface_that_is_gone_cancels_the_generation() -> None:
    screen = Screen(failures=[SurfaceGone()])
    async with streaming(screen) as (message, lost):
        message.update("Hi")
        await asyncio.wait_for(lost.wait(), 1)
        screen.failures = [SurfaceGone()]
        with pytest.raises(SurfaceGone):
            await message.finish("Hi there", Controls.FINISHED)


async def test_a_busy_surface_still_gets_the_final_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bot.streaming._FINAL_RETRY_SECONDS", (0.001, 0.001))
    screen = Screen(failures=[SurfaceBusy(), SurfaceBusy()])
    async with streaming(screen) as (message, lost):
        message.update("H")
        await asyncio.sleep(0.01)
        assert screen.log == []
        await message.finish("Hi", Controls.FINISHED)
        assert not lost.is_set()
    assert screen.shown() == {100: ("Hi", Controls.FINISHED)}


async def test_a_surface_that_stays_busy_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bot.streaming._FINAL_RETRY_SECONDS", (0.001,))
    screen = Screen(failures=[SurfaceBusy(), SurfaceBusy()])
    async with streaming(screen) as (message, _):
        with pytest.raises(SurfaceBusy):
            await message.finish("Hi", Controls.FINISHED)


def test_all_streams_of_a_channel_share_one_timer() -> None:
    now = 0.0
    pacer = Pacer(1.0, clock=lambda: now)
    assert [pacer.reserve() for _ in range(3)] == [0.0, 1.0, 2.0]
    now = 10.0
    assert pacer.reserve() == 0.0
