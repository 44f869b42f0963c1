"""What a server's rules do to what members ask and to what they read, in their words."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from bot.moderation.limits import day_of
from bot.records import ReplyState
from bot.screening import Screening
from bot.streaming import CURSOR
from models.safety import Scores
from tests.bot.test_screening import HATEFUL, Embedded
from tests.cogs.nights import FakeNightly, choose_mod_room
from tests.cogs.test_chat_buttons import refused
from tests.world import World, live_world

WORD = "-# I don't answer this: this server's word filter does not allow it."


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with live_world(tmp_path, screening=Screening(Embedded()), nightly=FakeNightly(tmp_path)) as world:
        yield world


async def allow(world: World, **settings: Any) -> None:
    await world.store.change_server_settings(world.guild.id, world.moderator.id, **settings)


async def cards(world: World, count: int = 1) -> list[dict[str, Any]]:
    found = await world.eventually(lambda: [m for m in world.replies("mod-room") if m.embeds][count - 1 :] and True)
    assert found
    return [embed for m in world.replies("mod-room") for embed in m.embeds]


# ---------------------------------------------------------------------- what is asked


async def test_question_with_a_filtered_word_is_not_answered_and_comes_before_the_moderators(world: World) -> None:
    await choose_mod_room(world)
    await allow(world, filter_words=["darn"])
    asked = await world.ask(world.alice, "general", "what a d.a.r.n day")
    [told] = await world.answered_in("general")
    assert (told.content, told.components) == (WORD, [])
    assert told.reference["message_id"] == str(asked.id)
    [card] = await cards(world)
    assert "This server's filter found something" in card["title"]
    assert "Found in their message: word" in card["description"] and "d.a.r.n" in card["description"]
    assert await world.store.reply(1) is None


async def test_spammer_does_not_fill_the_moderators_queue(world: World) -> None:
    await choose_mod_room(world)
    await allow(world, filter_words=["darn"], filter_patterns=["nitro"])
    for number in range(4):
        await world.ask(world.alice, "general", "darn")
        await world.answered_in("general", number + 1)
    await world.ask(world.alice, "general", "darn nitro")
    await world.ask(world.bob, "general", "darn")
    found = await cards(world, 3)
    await world.quiet()
    assert len(await cards(world, 3)) == len(found) == 3


async def test_what_was_not_answered_is_no_part_of_the_talk(world: World) -> None:
    await allow(world, filter_words=["darn"])
    await world.ask(world.alice, "general", "darn secret handshake")
    await world.answered_in("general")
    await world.ask(world.bob, "general", "what did they say?")
    prompt = await world.prompt_of((await world.answered_in("general", 2))[-1])
    assert "handshake" not in prompt


async def test_server_may_leave_refusals_unsaid(world: World) -> None:
    await allow(world, filter_words=["darn"], explain_refusals=False)
    await world.ask(world.alice, "general", "darn")
    await world.quiet()
    assert world.replies("general") == []
    await world.ask(world.alice, "general", "hello")
    assert (await world.answered_in("general"))[0].content == "hello"


async def test_adults_among_themselves_may_use_listed_words(world: World) -> None:
    await allow(world, filter_words=["darn"])
    channel = world.bot.get_channel(world.general.id)
    channel.nsfw = True
    await world.ask(world.alice, "general", "what a darn day")
    assert (await world.answered_in("general"))[0].content == "what a darn day"


async def test_hateful_question_is_not_answered_by_the_classifier(world: World) -> None:
    await world.ask(world.alice, "general", HATEFUL[0])
    [told] = await world.answered_in("general")
    assert told.content == "-# I don't answer this: this server's rules do not allow it."


async def test_question_with_a_key_is_answered_with_a_note(world: World) -> None:
    world.engine.says = "Thank you."
    await world.ask(world.alice, "general", "my key is hf_" + "a1B2" * 9)
    [told] = await world.answered_in("general")
    assert told.content == "Thank you.\n-# Please mind what you write here: it looked like a password or key."


async def test_edited_question_is_read_again_before_another_version(world: World) -> None:
    await allow(world, filter_words=["darn"])
    asked = await world.ask(world.alice, "general", "hello")
    [shown] = await world.answered_in("general")
    await world.edit(world.alice, asked, f"{world.mention} darn")
    told = await refused(world, world.alice, shown, "Regenerate")
    assert told == WORD.removeprefix("-# ")
    assert len(world.replies("general")) == 1


async def test_question_that_is_edited_while_it_is_read_is_read_again(tmp_path: Path) -> None:
    reading, go_on = asyncio.Event(), asyncio.Event()

    class Slow:
        async def scores(self, text: str) -> Scores:
            reading.set()
            await go_on.wait()
            return {}

    async with live_world(tmp_path, screening=Screening(Slow())) as world:
        await allow(world, filter_words=["darn"])
        asked = await world.ask(world.alice, "general", "hello")
        await reading.wait()
        await world.edit(world.alice, asked, f"{world.mention} darn, tell me")
        go_on.set()
        [told] = await world.answered_in("general")
        assert told.content == WORD


# ---------------------------------------------------------------------- what is answered


async def test_answer_never_shows_what_is_hidden(world: World) -> None:
    await choose_mod_room(world)
    world.engine.says = "So it goes. Write to kim.lee@mail-host.com now. And on it goes."
    world.engine.seconds_per_token = 0.002
    await world.ask(world.alice, "general", "whom should I write to?")
    [shown] = await world.answered_in("general")
    assert shown.content == "So it goes. Write to\n-# The rest is left out: it looked like personal data."
    contents = [str((r.json or {}).get("content", "")) for r in world.env.http_requests if "/messages" in r.path]
    assert any(content.endswith(CURSOR) for content in contents)
    assert not any("kim.lee" in content for content in contents if "-#" in content or CURSOR in content)
    reply = await world.reply_shown_by(shown)
    assert reply.state is ReplyState.STOPPED
    assert reply.outcome is not None and reply.outcome.finish_reason == "hidden:personal"
    [card] = await cards(world)
    assert "Found in my answer to them: personal" in card["description"]


# ---------------------------------------------------------------------- how much


async def test_who_asks_too_fast_is_told_once_and_answered_again_later(world: World) -> None:
    await allow(world, quotas={"member": {"messages_per_minute": 2}})
    for number in range(5):
        await world.ask(world.alice, "general", f"number {number}")
        await world.eventually(lambda count=number: len(world.replies("general")) >= min(count + 1, 3))
    await world.ask(world.bob, "general", "me too")
    shown = [message.content for message in await world.answered_in("general", 4)]
    assert shown[:2] == ["number 0", "number 1"]
    assert shown[2].startswith("-# You ask more than I may answer in a minute; I answer again <t:")
    assert shown[3:] == ["me too"]


async def test_budget_of_tokens_holds_over_a_restart_and_its_buttons(world: World) -> None:
    await allow(world, quotas={"member": {"tokens_per_day": 20}})
    await world.ask(world.alice, "general", "a question of more than a few tokens, as questions are")
    [shown] = await world.answered_in("general")
    await world.eventually(lambda: world.store.usage(day_of(time.time())))
    told = await refused(world, world.alice, shown, "Regenerate")
    assert told.startswith("I have given all of your answers for today; I answer again <t:")
    await world.restart()
    await world.ask(world.alice, "general", "and now?")
    later = (await world.answered_in("general", 2))[-1]
    assert later.content.startswith("-# I have given all of your answers for today")


async def test_budget_of_tokens_holds_when_members_ask_at_once(world: World) -> None:
    await allow(world, quotas={"channel": {"tokens_per_day": 10}})
    world.engine.seconds_per_token = 0.005
    for number in range(8):
        await world.ask((world.alice, world.bob)[number % 2], "general", f"question {number}")
    shown = await world.answered_in("general", 3)
    [answer] = [message for message in shown if not message.content.startswith("-#")]
    told = "-# What I am writing for this channel may take all that is left for today; ask again <t:"
    assert sum(message.content.startswith(told) for message in shown) == 2, "each member is told once"
    usage = await world.eventually(lambda: world.store.usage(day_of(time.time())))
    reply = await world.reply_shown_by(answer)
    assert reply.prompt is not None and reply.outcome is not None
    took = len(reply.prompt.token_ids) + len(reply.outcome.completion_token_ids)
    assert {count.tokens for count in usage if count.tokens} == {took}


@pytest.mark.parametrize("how", ["it fails", "it is stopped", "its question is deleted"])
async def test_an_answer_that_breaks_off_holds_no_tokens_for_longer(world: World, how: str) -> None:
    await allow(world, quotas={"member": {"tokens_per_day": 5000}})
    world.engine.seconds_per_token = 0.01
    world.engine.fail_after = 5 if how == "it fails" else None
    asked = await world.ask(world.alice, "general", "tell me a long story " * 20)
    shown = await world.eventually(lambda: world.replies("general"))
    if how == "it is stopped":
        await world.click(world.alice, shown[0], label="Stop")
    elif how == "its question is deleted":
        await world.delete(world.alice, asked)
    await world.answered_in("general")
    world.engine.fail_after = None
    await world.ask(world.alice, "general", "once more")
    assert (await world.answered_in("general", 2))[-1].content == "once more"


async def test_role_and_channel_have_limits_of_their_own(world: World) -> None:
    await allow(
        world, quotas={"member": {"messages_per_day": 0}, f"channel:{world.general.id}": {"messages_per_day": 1}}
    )
    await world.ask(world.alice, "general", "hello")
    [told] = await world.answered_in("general")
    assert "all of your answers" in told.content
    await allow(world, quotas={f"channel:{world.general.id}": {"messages_per_day": 1}})
    await world.ask(world.bob, "general", "hello")
    await world.answered_in("general", 2)
    await world.ask(world.bob, "general", "hello again")
    shown = await world.answered_in("general", 3)
    assert shown[1].content == "hello"
    assert "all of this channel's answers" in shown[2].content
