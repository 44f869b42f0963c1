"""How an answer shows while it grows and when it ends, through discord.py's own requests."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import discord
import pytest

from bot.demo.live import Change, ChangeKind
from bot.records import ReplyState
from bot.settings import Settings
from bot.streaming import CURSOR, THINKING
from tests.world import World, live_world

STORY = " ".join(f"word{number}" for number in range(35))


def server_error(status: int) -> discord.HTTPException:
    response: Any = SimpleNamespace(status=status, reason="refused")
    return discord.DiscordServerError(response, "down") if status >= 500 else discord.HTTPException(response, "slow")


def refuse(world: World, method: str, error: Exception, *, times: int) -> list[str]:
    """Let the bot's next `times` requests of a method fail; the list returned fills with those let through."""
    http, passed = world.bot.http, []
    request, left = http.request, times

    async def refusing(route: Any, **options: Any) -> Any:
        nonlocal left
        if route.method == method and "/messages" in route.path:
            if left > 0:
                left -= 1
                raise error
            passed.append(route.path)
        return await request(route, **options)

    http.request = refusing
    return passed


async def test_answer_streams_by_fewer_edits_than_tokens_and_ends_whole(tmp_path: Path) -> None:
    async with live_world(tmp_path, seconds_per_token=0.002) as world:
        edits: list[Change] = []
        world.backend.watchers.append(edits.append)
        await world.ask(world.alice, "general", STORY)
        await world.eventually(lambda: any(m.content.endswith(CURSOR) for m in world.replies("general")))
        growing = world.replies("general")[0].content.removesuffix(CURSOR)
        assert STORY.startswith(growing)
        [shown] = await world.answered_in("general")
        assert shown.content == STORY
        count = sum(change.message_id == shown.id for change in edits)
        assert 2 < count < len(STORY) / 4


async def test_final_edit_is_sent_however_seldom_edits_are(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, edit_interval_seconds=60.0, message_content_intent=True)
    async with live_world(tmp_path, settings=settings, seconds_per_token=0.001) as world:
        await world.ask(world.alice, "general", STORY)
        [shown] = await world.answered_in("general")
        assert shown.content == STORY


async def test_typing_shows_before_the_first_word(tmp_path: Path) -> None:
    async with live_world(tmp_path, seconds_per_token=0.02) as world:
        changes: list[Change] = []
        world.backend.watchers.append(changes.append)
        await world.ask(world.alice, "general", "hello")
        await world.answered_in("general")
        own = world.backend.bot_user.id
        typed = changes.index(Change(ChangeKind.TYPING, world.general.id, user_id=own))
        sent = next(i for i, c in enumerate(changes) if c.created and c.message_id == world.replies("general")[0].id)
        assert typed < sent


async def test_long_answer_is_split_with_code_fences_whole(tmp_path: Path) -> None:
    async with live_world(tmp_path, context_tokens=32768) as world:
        await world.allow_long_answers()
        code = "\n".join(f"print({number})  # a line of a program" for number in range(90))
        world.engine.says = f"Here it is:\n```python\n{code}\n```\nEnjoy!"
        await world.ask(world.alice, "general", "write me a program")
        shown = await world.answered_in("general", 2)
        assert len(shown) == 2
        assert all(len(message.content) <= 2000 for message in shown)
        assert all(message.content.count("```") == 2 for message in shown)
        assert shown[1].content.startswith("```python\n")
        together = "\n".join(message.content for message in shown)
        assert all(f"print({number})" in together for number in range(90))
        assert [bool(world.custom_ids(message)) for message in shown] == [False, True], "buttons go with the last part"
        assert shown[0].reference is not None
        assert shown[1].reference is None
        first, second = [await world.reply_shown_by(message) for message in shown]
        assert first.id == second.id


async def test_hidden_reasoning_is_never_shown_and_is_kept(tmp_path: Path) -> None:
    async with live_world(tmp_path, seconds_per_token=0.002) as world:
        shown_texts: list[str] = []
        world.backend.watchers.append(lambda _: shown_texts.extend(m.content for m in world.replies("general")))
        world.engine.says = "<think>they want a joke</think>Why did the chicken cross the road?"
        await world.ask(world.alice, "general", "a joke, please")
        [shown] = await world.answered_in("general")
        assert shown.content == "Why did the chicken cross the road?"
        assert not any("they want" in content or "think" in content for content in shown_texts)
        reply = await world.reply_shown_by(shown)
        assert reply.outcome is not None
        assert reply.outcome.completion == world.engine.says


async def test_stop_ends_the_answer_where_it_is(tmp_path: Path) -> None:
    async with live_world(tmp_path, seconds_per_token=0.01) as world:
        await world.ask(world.alice, "general", STORY)
        growing = await world.eventually(lambda: world.replies("general"))
        await world.eventually(lambda: "word1" in growing[0].content)
        await world.click(world.alice, growing[0], label="Stop")
        [shown] = await world.answered_in("general")
        assert shown.content.endswith("-# Stopped.")
        assert "word34" not in shown.content
        assert (await world.reply_shown_by(shown)).state is ReplyState.STOPPED


async def test_only_the_asker_and_moderators_may_stop(tmp_path: Path) -> None:
    async with live_world(tmp_path, seconds_per_token=0.01) as world:
        await world.ask(world.alice, "general", STORY)
        await world.eventually(lambda: world.replies("general"))
        growing = world.replies("general")[0]
        refused = await world.click(world.troll, growing, label="Stop")
        await world.eventually(lambda: refused.followups)
        assert "Only who asked" in refused.followups[0].content
        assert refused.followups[0].ephemeral
        assert world.responder.running == 1
        await world.click(world.moderator, growing, label="Stop")
        [shown] = await world.answered_in("general")
        assert shown.content.endswith("-# Stopped.")


async def test_deleting_the_question_stops_the_answer(tmp_path: Path) -> None:
    async with live_world(tmp_path, seconds_per_token=0.01) as world:
        asked = await world.ask(world.alice, "general", STORY)
        await world.eventually(lambda: world.replies("general"))
        await world.delete(world.alice, asked)
        [shown] = await world.answered_in("general")
        assert "word34" not in shown.content
        assert (await world.reply_shown_by(shown)).state is ReplyState.STOPPED


async def test_deleting_the_growing_answer_stops_it(tmp_path: Path) -> None:
    async with live_world(tmp_path, seconds_per_token=0.01) as world:
        asked = await world.ask(world.alice, "general", STORY)
        await world.eventually(lambda: world.replies("general"))
        await world.delete(world.moderator, world.replies("general")[0])
        await world.eventually(lambda: not world.responder.running)
        assert world.replies("general") == []
        assert await world.store.unfinished_replies() == []
        assert await world.store.next_variant(asked.id) == 1


async def test_losing_the_channel_stops_the_answer(tmp_path: Path) -> None:
    async with live_world(tmp_path, seconds_per_token=0.01) as world:
        await world.ask(world.alice, "stage", STORY)
        shown = await world.eventually(lambda: world.replies("stage"))
        await world.delete_channel("stage")
        await world.eventually(lambda: not world.responder.running, seconds=2.0)
        assert (await world.reply_shown_by(shown[0])).state is ReplyState.STOPPED


async def test_place_in_the_queue_is_shown(tmp_path: Path) -> None:
    async with live_world(tmp_path, seconds_per_token=0.04, slots=1) as world:
        await world.ask(world.alice, "general", STORY)
        await world.eventually(lambda: world.replies("general"))
        await world.ask(world.bob, "stage", "hello")
        waiting = await world.eventually(lambda: world.replies("stage"))
        assert waiting[0].content == "-# Number 1 in the queue."
        await world.click(world.alice, world.replies("general")[0], label="Stop")
        await world.eventually(lambda: waiting[0].content == "hello")


async def test_place_in_the_queue_counts_down_as_those_before_it_finish(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bot.streaming._WAITING_NOTICE_SECONDS", 0.0)
    async with live_world(tmp_path, seconds_per_token=0.05, slots=1) as world:
        async with world.lock:
            rooms = [world.guild.create_text_channel(f"room-{number}") for number in range(4)]
        shown: list[Any] = []
        for room in rooms:
            await world.ask(world.alice, room, STORY)
            shown.append((await world.eventually(lambda room=room: world.replies(room)))[0])
        seen: list[str] = []
        world.backend.watchers.append(lambda _: seen.append(shown[3].content))
        await world.eventually(lambda: shown[3].content == "-# Number 3 in the queue.")
        for finishing, place in ((0, 2), (1, 1)):
            await world.click(world.alice, shown[finishing], label="Stop")
            await world.eventually(lambda place=place: shown[3].content == f"-# Number {place} in the queue.")
        await world.click(world.alice, shown[2], label="Stop")
        await world.eventually(lambda: shown[3].content.startswith("word0"))
        told = dict.fromkeys(content for content in seen if content.endswith("in the queue."))
        assert list(told) == [f"-# Number {place} in the queue." for place in (3, 2, 1)]


async def test_hidden_reasoning_after_a_wait_in_the_queue_shows_that_it_thinks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bot.streaming._WAITING_NOTICE_SECONDS", 0.0)
    async with live_world(tmp_path, seconds_per_token=0.02, slots=1) as world:
        await world.ask(world.alice, "general", STORY)
        [first] = await world.eventually(lambda: world.replies("general"))
        await world.ask(world.bob, "stage", "hello")
        [waiting] = await world.eventually(lambda: world.replies("stage"))
        assert waiting.content == "-# Number 1 in the queue."
        world.engine.says = f"<think>{STORY}</think>Hi!"
        await world.click(world.alice, first, label="Stop")
        await world.eventually(lambda: waiting.content == THINKING)
        assert [name.split(":")[1] for name in world.custom_ids(waiting)] == ["stop"]
        world.engine.seconds_per_token = 0.0
        await world.eventually(lambda: waiting.content == "Hi!")


async def test_full_queue_is_told_in_one_sentence(tmp_path: Path) -> None:
    async with live_world(tmp_path, seconds_per_token=0.05, slots=1, queue_limit=1) as world:
        await world.ask(world.alice, "general", STORY)
        await world.eventually(lambda: world.responder.running == 1)
        await world.ask(world.alice, "stage", STORY)
        await world.eventually(lambda: world.model.scheduler.waiting == 1)
        await world.ask(world.bob, "general", "me too")
        refused = await world.eventually(
            lambda: next((m for m in world.replies("general") if m.content.startswith("-# ")), None)
        )
        assert "again" in refused.content


async def test_broken_engine_is_told_with_a_reference(tmp_path: Path) -> None:
    async with live_world(tmp_path) as world:
        world.engine.fail_after = 3
        await world.ask(world.alice, "general", "hello there")
        [shown] = await world.answered_in("general")
        reply = await world.reply_shown_by(shown)
        assert shown.content == f"hel\n-# I lost my thread; please ask me again (reference {reply.id})."
        assert reply.state is ReplyState.FAILED


@pytest.mark.parametrize("status", [429, 503])
async def test_edits_that_discord_refuses_for_now_cost_nothing(tmp_path: Path, status: int) -> None:
    async with live_world(tmp_path, seconds_per_token=0.002) as world:
        passed = refuse(world, "PATCH", server_error(status), times=3)
        await world.ask(world.alice, "general", STORY)
        [shown] = await world.answered_in("general")
        assert shown.content == STORY
        assert passed
        assert (await world.reply_shown_by(shown)).state is ReplyState.DONE


async def test_lost_connection_while_sending_makes_no_second_message(tmp_path: Path) -> None:
    async with live_world(tmp_path, seconds_per_token=0.002) as world:
        refuse(world, "POST", ConnectionResetError("gone"), times=2)
        await world.ask(world.alice, "general", STORY)
        [shown] = await world.answered_in("general")
        assert shown.content == STORY


async def test_every_part_is_sent_under_a_name_that_discord_takes_once(tmp_path: Path) -> None:
    async with live_world(tmp_path) as world:
        nonces: list[Any] = []
        request = world.bot.http.request

        async def listening(route: Any, **options: Any) -> Any:
            if route.method == "POST" and route.path.endswith("/messages"):
                nonces.append((options["json"]["nonce"], options["json"]["enforce_nonce"]))
            return await request(route, **options)

        world.bot.http.request = listening
        asked = await world.ask(world.alice, "general", "hello")
        await world.answered_in("general")
        assert nonces == [(f"{asked.id}.0.0", True)]


async def test_closing_the_bot_shows_growing_answers_as_interrupted(tmp_path: Path) -> None:
    async with live_world(tmp_path, seconds_per_token=0.01) as world:
        await world.ask(world.alice, "general", STORY)
        [growing] = await world.eventually(lambda: world.replies("general"))
        await world.bot.close()
        assert growing.content.endswith("-# I am restarting; ask me again in a moment.")
        assert (await world.reply_shown_by(growing)).state is ReplyState.INTERRUPTED
        assert await world.store.unfinished_replies() == []


async def test_sixteen_channels_stream_at_once(tmp_path: Path) -> None:
    async with live_world(tmp_path, seconds_per_token=0.002, slots=16) as world:
        async with world.lock:
            channels = [world.guild.create_text_channel(f"room-{number}") for number in range(16)]
        await asyncio.gather(*(world.ask(world.alice, channel, f"hello {i}") for i, channel in enumerate(channels)))
        for number, channel in enumerate(channels):
            [shown] = await world.answered_in(channel)
            assert shown.content == f"hello {number}"
