"""The live world: what people do returns at once, while the bot works in real time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import discord
import pytest
from simcord.backend.errors import BackendError, SetupError

from bot.demo.live import Change, ChangeKind, Recent
from bot.demo.world import LiveWorld
from tests.bot.demo.toy import ToyBot


async def eventually(predicate: Callable[[], Any], seconds: float = 5.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := predicate()):
        assert time.monotonic() < deadline, "it never happened"
        await asyncio.sleep(0.005)
    return value


@pytest.fixture
async def world() -> AsyncIterator[LiveWorld]:
    async with LiveWorld(ToyBot()) as world:
        yield world


def shown(world: LiveWorld, where: Any = "general") -> str:
    replies = world.replies(where)
    return str(replies[-1].content) if replies else ""


async def test_mention_is_answered_in_real_time(world: LiveWorld) -> None:
    await world.say(world.mei, "general", f"{world.mention} 今天天气怎么样？")
    await eventually(lambda: shown(world).endswith("-# done"))
    assert "今天天气怎么样？" in shown(world)
    assert world.errors == []


async def test_reaction_and_stop_button_work_while_a_reply_streams() -> None:
    async with LiveWorld(ToyBot(words=1000, pace_seconds=0.005)) as world:
        await world.say(world.mei, "general", f"{world.mention} tell me a long story")
        await eventually(lambda: "word3" in shown(world))
        reply = world.replies("general")[-1]

        started = time.monotonic()
        await world.react(world.alex, reply, "👍")
        result = await world.click(world.mei, reply, label="Stop")
        assert time.monotonic() - started < 0.5, "an action waited for the stream"

        await world.answered(result)
        await eventually(lambda: "(stopped)" in shown(world))
        assert world.bot.reactions == [("add", world.alex.id, "👍")]
        assert "word999" not in shown(world)
        assert (result.response.content, result.response.ephemeral) == ("Stopped.", True)
        assert world.errors == []


async def test_actions_from_many_tasks_never_overlap(world: LiveWorld) -> None:
    await asyncio.gather(*(world.say(member, "stage", f"line {n}") for n in range(5) for member in world.people))
    assert len(world.messages("stage")) == 20


async def test_slash_command_takes_typed_options(world: LiveWorld) -> None:
    result = await world.slash(world.mei, "general", "paint", colour="red", times=3, whom=world.alex, loud=True)
    await world.answered(result)
    assert result.response.content == "PAINTED 3X RED FOR ALEX"


async def test_autocomplete_returns_the_bots_choices(world: LiveWorld) -> None:
    choices = await world.autocomplete(world.mei, "general", "paint", "colour", "青")
    assert choices == [{"name": "青色", "value": "青色"}]


async def test_deferred_ephemeral_answer_arrives_later(world: LiveWorld) -> None:
    result = await world.slash(world.mei, "general", "secret")
    await eventually(lambda: result.response and result.response.content == "The secret is 42.")
    [message] = world.messages("general", viewer=world.mei)
    assert message.is_ephemeral
    assert world.messages("general", viewer=world.alex) == []


async def test_button_opens_a_modal_that_can_be_submitted(world: LiveWorld) -> None:
    await world.say(world.mei, "general", f"{world.mention} hi")
    await eventually(lambda: shown(world).endswith("-# done"))
    opened = await world.answered(await world.click(world.mei, world.replies("general")[-1], custom_id="toy:why"))
    fields = [row["components"][0]["custom_id"] for row in opened.modal["components"]]
    sent = await world.answered(await world.submit_modal(world.mei, opened, {fields[0]: "too short"}))
    assert sent.response.content == "Thanks: too short"


async def test_message_command_gets_the_message(world: LiveWorld) -> None:
    message = await world.say(world.mei, "general", "remember this")
    result = await world.answered(await world.context_menu(world.alex, "Quote this", message))
    assert "remember this" in result.response.content


async def test_direct_messages_have_replies_reactions_and_buttons(world: LiveWorld) -> None:
    first = await world.dm(world.mei, "psst")
    dm = world.dm_channel(world.mei)
    await eventually(lambda: shown(world, dm).endswith("-# done"))
    reply = world.replies(dm)[-1]
    await world.react(world.mei, reply, "❤️")
    result = await world.answered(await world.click(world.mei, reply, label="Stop"))
    await world.dm(world.mei, "again", reply_to=first)
    assert result.response.content == "Stopped."
    assert ("add", world.mei.id, "❤️") in world.bot.reactions
    assert not world.can_see(world.alex, dm.id)
    with pytest.raises(SetupError, match="own direct messages"):
        await world.say(world.alex, dm, "let me in")


async def test_thread_from_a_message_reaches_the_bot(world: LiveWorld) -> None:
    message = await world.say(world.mei, "general", "a topic")
    thread = await world.create_thread(world.mei, "About it", message=message)
    await world.say(world.alex, thread, f"{world.mention} hello in here")
    await eventually(lambda: "hello in here" in shown(world, thread))
    with pytest.raises(SetupError, match="already has a thread"):
        await world.create_thread(world.mei, "Twice", message=message)


async def test_thread_in_a_hidden_channel_is_refused(world: LiveWorld) -> None:
    with pytest.raises(BackendError, match="Missing Access"):
        await world.create_thread(world.mei, "In secret", channel="mod-room")


async def test_members_can_not_see_the_mod_room_or_write_announcements(world: LiveWorld) -> None:
    assert not world.can_see(world.mei, world.mod_room.id)
    assert world.can_see(world.moderator, world.mod_room.id)
    with pytest.raises(BackendError, match="Missing Permissions"):
        await world.say(world.mei, "announcements", "me too")
    await world.say(world.moderator, "announcements", "welcome")


async def test_members_can_not_use_the_moderators_commands(world: LiveWorld) -> None:
    with pytest.raises(SetupError, match="default-member-permissions"):
        await world.slash(world.mei, "general", "settings show")
    result = await world.answered(await world.slash(world.moderator, "general", "settings speed", speed="fast"))
    assert result.response.content == "Speed: fast"


async def test_bot_without_permission_gets_discords_error(world: LiveWorld) -> None:
    await world.set_bot_permissions("stage", send_messages=False)
    await world.say(world.mei, "stage", f"{world.mention} hi")
    [error] = await eventually(lambda: world.errors)
    assert isinstance(error, discord.Forbidden)
    assert error.code == 50013
    assert world.replies("stage") == []


async def test_error_in_a_button_is_observable(world: LiveWorld) -> None:
    await world.say(world.mei, "general", f"{world.mention} hi")
    await eventually(lambda: shown(world).endswith("-# done"))
    await world.click(world.mei, world.replies("general")[-1], label="Break")
    await eventually(lambda: [str(error) for error in world.errors] == ["broken on purpose"])


async def test_restart_kills_the_old_bot_and_keeps_the_world() -> None:
    async with LiveWorld(ToyBot(words=1000, pace_seconds=0.005)) as world:
        await world.say(world.mei, "general", f"{world.mention} a long story")
        await eventually(lambda: "word3" in shown(world))
        await world.restart_bot(ToyBot(words=2))
        frozen = shown(world)
        assert [task for task in world.env.tasks if not task.done()] == []

        await world.say(world.mei, "stage", f"{world.mention} are you there?")
        await eventually(lambda: shown(world, "stage").endswith("word1\n-# done"))
        assert shown(world) == frozen, "the killed bot went on writing"
        reply = world.replies("general")[-1]
        result = await world.answered(await world.click(world.mei, reply, label="Stop"))
        assert result.response.content == "Stopped."


async def test_world_forgets_old_messages_records_and_ids() -> None:
    async with LiveWorld(ToyBot(), keep_messages=10) as world:
        for number in range(50):
            await world.say(world.mei, "stage", f"line {number}")
        assert [message.content for message in world.messages("stage")] == [f"line {n}" for n in range(40, 50)]
        assert isinstance(world.backend.transcript, Recent)
        assert isinstance(world.env.http_requests, Recent)


def test_recent_keeps_the_newest_items() -> None:
    recent = Recent(10)
    for number in range(1000):
        recent.append(number)
    assert recent[-1] == 999
    assert 10 <= len(recent) <= 20


async def test_watchers_hear_of_ephemeral_answers_reactions_and_typing(world: LiveWorld) -> None:
    heard: list[Change] = []
    world.backend.watchers.append(heard.append)
    await world.answered(await world.slash(world.mei, "general", "secret"))
    await eventually(lambda: len(heard) >= 2)
    [secret] = world.messages("general")
    assert heard == [
        Change(ChangeKind.MESSAGE, world.general.id, secret.id, created=True),
        Change(ChangeKind.MESSAGE, world.general.id, secret.id),
    ]
    heard.clear()
    said = await world.say(world.mei, "general", f"{world.mention} hi")
    await world.react(world.mei, said, "🔥")
    await eventually(lambda: Change(ChangeKind.TYPING, world.general.id, user_id=world.backend.bot_user.id) in heard)
    assert Change(ChangeKind.MESSAGE, world.general.id, said.id) in heard


async def test_ids_of_guild_channels_and_people_are_the_same_in_every_run(world: LiveWorld) -> None:
    other = LiveWorld(ToyBot())
    assert other.guild.id == world.guild.id
    assert [person.id for person in other.people] == [person.id for person in world.people]
    assert other.mod_room.id == world.mod_room.id


async def test_loop_and_clock_are_the_processs_own_while_the_world_runs(world: LiveWorld) -> None:
    loop = asyncio.get_running_loop()
    assert "call_soon" not in vars(loop) or loop.call_soon.__func__ is asyncio.BaseEventLoop.call_soon  # type: ignore[attr-defined]
    assert time.monotonic is not None and time.monotonic.__module__ == "time"
