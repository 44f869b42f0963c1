"""Whom the character answers, event to store row, in the words of a member."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import discord
import pytest

from bot.errors import StoreBusy, StoreFull
from bot.records import Provenance, ReplyState
from bot.settings import Settings
from tests.world import live_world


async def test_mention_is_answered_once_with_a_visible_reply_that_pings_nobody(tmp_path: Path) -> None:
    async with live_world(tmp_path) as world:
        asked = await world.ask(world.alice, "general", "hello there")
        [shown] = await world.answered_in("general")
        await world.quiet()
        assert world.replies("general") == [shown]
        assert shown.content == "hello there"
        assert shown.reference["message_id"] == str(asked.id)
        assert not shown.mention_everyone
        reply = await world.reply_shown_by(shown)
        assert (reply.ask.asked_message_id, reply.ask.member_id) == (asked.id, world.alice.id)
        assert (reply.state, reply.ask.provenance) == (ReplyState.DONE, Provenance.DEMO)
        assert reply.outcome is not None
        assert reply.outcome.completion == "hello there"
        assert reply.message_ids == (shown.id,)


async def test_talk_that_does_not_concern_it_is_left_alone(tmp_path: Path) -> None:
    async with live_world(tmp_path) as world:
        said = await world.say(world.alice, "general", "I like trains")
        await world.say(world.bob, "general", "me too", reply_to=said)
        await world.quiet()
        assert world.replies("general") == []


async def test_reply_to_its_message_continues_the_talk(tmp_path: Path) -> None:
    async with live_world(tmp_path) as world:
        await world.ask(world.alice, "general", "my cat is called Tofu")
        [first] = await world.answered_in("general")
        await world.say(world.alice, "general", "and my dog Miso", reply_to=first)
        [_, second] = await world.answered_in("general", 2)
        assert second.content == "and my dog Miso"
        prompt = await world.prompt_of(second)
        assert prompt.index("my cat is called Tofu") < prompt.index("and my dog Miso")
        assert prompt.count("my cat is called Tofu") == 2, "the question and its answer, each once"


async def test_direct_message_is_answered(tmp_path: Path) -> None:
    async with live_world(tmp_path) as world:
        await world.dm(world.alice, "psst")
        [shown] = await world.answered_in(world.dm_channel(world.alice))
        assert shown.content == "psst"
        reply = await world.reply_shown_by(shown)
        assert reply.ask.guild_id is None
        assert "Mei" not in await world.prompt_of(shown), "one person needs no label"


async def test_free_channel_is_answered_without_a_mention(tmp_path: Path) -> None:
    async with live_world(tmp_path) as world:
        await world.store.add_free_channel(world.guild.id, world.stage.id, world.moderator.id)
        await world.say(world.alice, "stage", "anyone here?")
        [shown] = await world.answered_in("stage")
        assert shown.content == "anyone here?"
        await world.say(world.alice, "general", "anyone here?")
        await world.quiet()
        assert world.replies("general") == []


async def test_members_who_address_each_other_in_a_free_channel_are_left_alone(tmp_path: Path) -> None:
    async with live_world(tmp_path) as world:
        await world.store.add_free_channel(world.guild.id, world.stage.id, world.moderator.id)
        first = await world.say(world.alice, "stage", f"{world.bob.mention} lunch?")
        await world.say(world.bob, "stage", "sure", reply_to=first)
        await world.quiet()
        assert world.replies("stage") == []


async def test_without_the_message_content_intent_mentions_work_and_free_channels_stay_silent(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, edit_interval_seconds=0.02)
    async with live_world(tmp_path, settings=settings, approved_intents=discord.Intents.default()) as world:
        await world.store.add_free_channel(world.guild.id, world.stage.id, world.moderator.id)
        await world.say(world.alice, "stage", "nobody can read this")
        await world.ask(world.bob, "stage", "but this")
        [shown] = await world.answered_in("stage")
        await world.quiet()
        assert world.replies("stage") == [shown]
        prompt = await world.prompt_of(shown)
        assert "but this" in prompt
        assert "Mei" not in prompt, "a message without text is no turn"


async def test_duplicate_event_is_answered_once(tmp_path: Path) -> None:
    async with live_world(tmp_path, seconds_per_token=0.002) as world:
        payloads: list[Any] = []
        world.backend.subscribers.append(lambda event, payload: payloads.append((event, payload)))
        await world.ask(world.alice, "general", "only once, please")
        [message] = [payload for event, payload in payloads if event == "MESSAGE_CREATE"]
        world.env._gateway_feed("MESSAGE_CREATE", message)
        [shown] = await world.answered_in("general")
        world.env._gateway_feed("MESSAGE_CREATE", message)
        await world.quiet()
        assert world.replies("general") == [shown]


async def test_paused_server_gets_no_answers_until_it_is_resumed(tmp_path: Path) -> None:
    async with live_world(tmp_path) as world:
        await world.store.change_server_settings(world.guild.id, world.moderator.id, paused=True)
        await world.ask(world.alice, "general", "hello?")
        await world.quiet()
        assert world.replies("general") == []
        await world.store.change_server_settings(world.guild.id, world.moderator.id, paused=False)
        await world.ask(world.alice, "general", "and now?")
        await world.answered_in("general")


async def test_channel_where_it_may_not_write_costs_nothing(tmp_path: Path) -> None:
    async with live_world(tmp_path) as world:
        await world.set_bot_permissions("stage", send_messages=False)
        asked = await world.ask(world.alice, "stage", "hello?")
        await world.quiet()
        assert world.replies("stage") == []
        assert await world.store.next_variant(asked.id) == 0, "nothing was claimed"


async def test_without_the_permission_to_read_back_it_answers_without_a_visible_reply(tmp_path: Path) -> None:
    async with live_world(tmp_path) as world:
        await world.set_bot_permissions("stage", read_message_history=False)
        await world.ask(world.alice, "stage", "hello?")
        [shown] = await world.answered_in("stage")
        assert (shown.content, shown.reference) == ("hello?", None)


async def test_everyone_in_an_answer_pings_nobody(tmp_path: Path) -> None:
    async with live_world(tmp_path) as world:
        await world.say(world.alice, "general", f"{world.mention} @everyone @here {world.bob.mention} <@&1>")
        [shown] = await world.answered_in("general")
        assert not shown.mention_everyone
        assert "@everyone" not in shown.content
        assert "@here" not in shown.content
        assert world.bob.mention not in shown.content


async def test_chinese_goes_through_unharmed_from_event_to_rows(tmp_path: Path) -> None:
    async with live_world(tmp_path) as world:
        await world.ask(world.alice, "general", "今天天气怎么样？")
        [shown] = await world.answered_in("general")
        assert shown.content == "今天天气怎么样？"
        reply = await world.reply_shown_by(shown)
        assert reply.outcome is not None
        assert reply.outcome.completion == "今天天气怎么样？"
        assert "Mei 小美: 今天天气怎么样？" in await world.prompt_of(shown)


async def test_a_bare_mention_is_answered(tmp_path: Path) -> None:
    async with live_world(tmp_path) as world:
        await world.say(world.alice, "general", world.mention)
        [shown] = await world.answered_in("general")
        assert "Encore" in shown.content


@pytest.mark.parametrize("kind", ["pin", "thread"])
async def test_system_messages_are_no_talk(tmp_path: Path, kind: str) -> None:
    async with live_world(tmp_path) as world:
        await world.store.add_free_channel(world.guild.id, world.stage.id, world.moderator.id)
        said = await world.say(world.moderator, "stage", f"{world.bob.mention} look")
        if kind == "pin":
            async with world.lock:
                await world.moderator.set_pinned(said, True)
        else:
            await world.create_thread(world.moderator, "Aside", message=said)
        await world.quiet()
        assert world.replies("stage") == []


async def test_store_that_can_not_be_written_is_told_and_nothing_is_generated(tmp_path: Path) -> None:
    async with live_world(tmp_path) as world:
        claim = world.store.claim_reply

        async def full(_: Any) -> int:
            raise StoreFull("The disk is full; make room.")

        world.store.claim_reply = full  # type: ignore[method-assign]
        await world.ask(world.alice, "general", "hello")
        [shown] = await world.answered_in("general")
        assert shown.content.startswith("-# I can't keep notes right now")
        assert world.custom_ids(shown) == []
        world.store.claim_reply = claim  # type: ignore[method-assign]
        await world.ask(world.alice, "general", "and now?")
        [_, shown] = await world.answered_in("general", 2)
        assert (await world.reply_shown_by(shown)).state is ReplyState.DONE


async def test_store_that_can_not_be_read_is_logged_and_the_bot_lives_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with live_world(tmp_path) as world:
        server_settings = world.store.server_settings

        async def busy(_: Any) -> Any:
            raise StoreBusy("The database is locked.")

        world.store.server_settings = busy  # type: ignore[method-assign]
        await world.ask(world.alice, "general", "hello")
        await world.eventually(lambda: "is passed over" in caplog.text)
        world.store.server_settings = server_settings  # type: ignore[method-assign]
        await world.ask(world.alice, "general", "and now?")
        await world.answered_in("general")


async def test_question_deleted_before_the_answer_began_is_not_answered(tmp_path: Path) -> None:
    async with live_world(tmp_path) as world:
        reading, go_on = asyncio.Event(), asyncio.Event()
        request = world.bot.http.request

        async def slowly(route: Any, **options: Any) -> Any:
            if route.method == "GET" and route.path.endswith("/messages"):
                reading.set()
                await go_on.wait()
            return await request(route, **options)

        world.bot.http.request = slowly
        asked = await world.ask(world.alice, "general", "never mind")
        await reading.wait()
        await world.delete(world.alice, asked)
        await world.quiet(0.05)
        go_on.set()
        await world.quiet()
        assert world.replies("general") == []
        assert await world.store.next_variant(asked.id) == 0


async def test_question_deleted_while_its_answer_is_claimed_is_not_answered(tmp_path: Path) -> None:
    async with live_world(tmp_path) as world:
        claiming, go_on = asyncio.Event(), asyncio.Event()
        claim = world.store.claim_reply

        async def slowly(ask: Any) -> int | None:
            claiming.set()
            await go_on.wait()
            return await claim(ask)

        world.store.claim_reply = slowly  # type: ignore[method-assign]
        asked = await world.ask(world.alice, "general", "never mind")
        await claiming.wait()
        await world.delete(world.alice, asked)
        await world.quiet(0.05)
        go_on.set()
        reply = await world.eventually(lambda: world.store.reply(1))

        async def ended() -> bool:
            return not await world.store.unfinished_replies()

        await world.eventually(ended)
        assert world.replies("general") == []
        assert (await world.store.reply(reply.id)).state is ReplyState.STOPPED  # type: ignore[union-attr]


async def test_mention_of_its_own_role_is_a_mention(tmp_path: Path) -> None:
    async with live_world(tmp_path) as world:
        role = world.guild.roles["Encore"]
        known = world.bot.get_guild(world.guild.id).get_role(role.id)
        known.tags = discord.RoleTags({"bot_id": world.bot.user.id})  # SimCord does not say whose role it is
        await world.say(world.alice, "general", f"<@&{role.id}> hello there")
        [shown] = await world.answered_in("general")
        assert shown.content == "hello there"
        other = world.guild.roles["Moderator"]
        await world.say(world.alice, "general", f"<@&{other.id}> not you")
        await world.quiet()
        assert len(world.replies("general")) == 1
