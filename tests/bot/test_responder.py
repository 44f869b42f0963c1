"""One answer, from the claim of a question to its stored end: shown once, stopped, failed, and carried on."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from bot.records import ReplyState
from bot.streaming import Controls, SurfaceBusy, SurfaceGone
from models.types import Sampling
from tests.bot.answering import MEI, Room, until
from tests.bot.screen import Screen


async def test_an_answer_is_shown_and_kept_with_its_recipe(room: Room) -> None:
    screen = Screen()
    reply = await room.respond(room.ask("今天天气怎么样？"), screen)
    assert reply is not None
    assert screen.text == "今天天气怎么样？"
    assert screen.shown()[reply.message_ids[0]][1] is Controls.FINISHED
    assert reply.state is ReplyState.DONE
    assert reply.outcome is not None
    assert reply.outcome.completion == "今天天气怎么样？"
    assert room.model.tokenizer.decode(reply.outcome.completion_token_ids) == "今天天气怎么样？"
    assert reply.prompt is not None
    assert "Mei: 今天天气怎么样？" in room.model.tokenizer.decode(reply.prompt.token_ids)
    assert reply.prompt.member_ids == (MEI,)
    assert reply.generation is not None
    assert reply.generation.model_sha256 == room.engine.info.model_sha256
    assert reply.outcome.first_token_milliseconds is not None


async def test_one_message_is_answered_once(room: Room) -> None:
    ask = room.ask("hello")
    first, second = Screen(), Screen()
    replies = await asyncio.gather(room.respond(ask, first), room.respond(ask, second))
    assert sorted(reply is None for reply in replies) == [False, True]
    assert sorted([len(first.log) > 0, len(second.log) > 0]) == [False, True]


async def test_a_regeneration_is_a_second_version(room: Room) -> None:
    ask = room.ask("hello")
    await room.respond(ask, Screen())
    again = await room.respond(replace(ask, variant=1), Screen())
    assert again is not None
    assert again.ask.variant == 1


async def test_stop_keeps_what_was_said_and_says_so(room: Room) -> None:
    room.engine.seconds_per_token = 0.01
    screen = Screen()
    task = asyncio.create_task(room.respond(room.ask("word " * 100), screen))
    await until(lambda: any("word" in content for _, _, content, _ in screen.log))
    assert room.responder.asker_of(1) == MEI
    assert room.responder.stop(1)
    reply = await task
    assert reply.state is ReplyState.STOPPED
    assert 0 < len(reply.outcome.completion) < 500
    assert screen.text.endswith("-# Stopped.")
    assert not room.responder.stop(1)


async def test_deleting_the_question_stops_the_answer(room: Room) -> None:
    room.engine.seconds_per_token = 0.01
    screen = Screen()
    ask = room.ask("word " * 100)
    task = asyncio.create_task(room.respond(ask, screen))
    await until(lambda: screen.log)
    assert room.responder.stop_for_message(ask.asked_message_id)
    assert (await task).state is ReplyState.STOPPED


async def test_an_answer_whose_channel_is_gone_ends_quietly(room: Room) -> None:
    room.engine.seconds_per_token = 0.005
    screen = Screen(failures=[SurfaceGone(), SurfaceGone()])
    reply = await room.respond(room.ask("word " * 200), screen)
    assert reply.state is ReplyState.STOPPED
    assert len(reply.outcome.completion) < 1000
    assert room.model.scheduler.running == 0


async def test_an_answer_that_discord_refuses_to_finish_stays_for_the_next_start(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bot.streaming._FINAL_RETRY_SECONDS", (0.001,))
    room.engine.seconds_per_token = 0.01
    screen = Screen()
    task = asyncio.create_task(room.respond(room.ask("hello there"), screen))
    await until(lambda: screen.log)
    screen.failures = [SurfaceBusy()] * 100
    reply = await task
    assert reply.state is ReplyState.STREAMING
    assert reply.outcome.completion == "hello there"
    assert [unfinished.id for unfinished in await room.store.unfinished_replies()] == [reply.id]


async def test_an_answer_that_discord_never_shows_has_failed(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bot.streaming._FINAL_RETRY_SECONDS", (0.001,))
    reply = await room.respond(room.ask("hello"), Screen(failures=[SurfaceBusy()] * 10))
    assert reply.state is ReplyState.FAILED
    assert reply.outcome.completion == "hello"


async def test_a_broken_engine_is_told_with_a_reference(room: Room) -> None:
    room.engine.fail_after = 3
    screen = Screen()
    reply = await room.respond(room.ask("hello there"), screen)
    assert reply.state is ReplyState.FAILED
    assert f"reference {reply.id}" in screen.text
    assert "Traceback" not in screen.text


async def test_a_full_queue_is_told_in_a_sentence(room: Room) -> None:
    room.engine.seconds_per_token = 0.05
    asks = [room.ask("word " * 50) for _ in range(4)]
    tasks = [asyncio.create_task(room.respond(ask, Screen())) for ask in asks]
    await until(lambda: room.model.scheduler.waiting == 2)
    screen = Screen()
    reply = await room.respond(room.ask("one more"), screen)
    assert reply.state is ReplyState.FAILED
    assert "try again" in screen.text
    await room.responder.aclose()
    assert {(await task).state for task in tasks} == {ReplyState.INTERRUPTED}


async def test_a_message_that_is_too_long_is_told_in_a_sentence(room: Room) -> None:
    screen = Screen()
    reply = await room.respond(room.ask("字" * 2000), screen)
    assert reply.state is ReplyState.FAILED
    assert "shorten" in screen.text


async def test_a_cut_answer_offers_to_go_on_and_does(room: Room) -> None:
    room.server = replace(room.server, sampling=Sampling(max_new_tokens=10))
    screen = Screen()
    ask = room.ask("one two three four five")
    first = await room.respond(ask, screen)
    assert "I can continue" in screen.text
    more = Screen()
    again = replace(ask, variant=1, continues_reply_id=first.id)
    second = await room.responder.carry_on(again, first, more, room.server)
    assert second is not None
    assert first.outcome.completion + second.outcome.completion == "one two three four f"


async def test_small_print_stands_below_the_code_block_that_an_answer_was_cut_in(room: Room) -> None:
    room.server = replace(room.server, sampling=Sampling(max_new_tokens=15))
    await room.respond(room.ask("So: ```print(1) print(2)```"), screen := Screen())
    assert screen.text == "So: ```print(1)\n```\n-# Cut at the length limit; I can continue."


async def test_a_servers_seed_is_kept_and_a_version_gets_another(room: Room) -> None:
    room.server = replace(room.server, seed=7)
    ask = room.ask("hello")
    first = await room.respond(ask, Screen())
    second = await room.respond(replace(ask, variant=1), Screen())
    assert (first.generation.seed, second.generation.seed) == (7, 8)
