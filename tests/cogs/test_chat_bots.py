"""Other bots, webhooks and the character's own messages: it starts no endless talk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bot.attention import BOT_TURNS
from tests.world import World, live_world


def another_bot(world: World) -> Any:
    return world.guild.add_member(world.env.create_user("otherbot", bot=True))


async def test_other_bots_and_webhooks_are_ignored(tmp_path: Path) -> None:
    async with live_world(tmp_path) as world:
        other, webhook = another_bot(world), world.guild.create_webhook(world.general, "Feed")
        await world.say(other, "general", f"{world.mention} hi")
        await webhook.send(f"{world.mention} news")
        await world.quiet()
        assert world.replies("general") == []


async def test_other_bots_are_answered_when_allowed_but_never_more_than_a_few_times_in_a_row(tmp_path: Path) -> None:
    async with live_world(tmp_path) as world:
        other = another_bot(world)
        await world.store.change_server_settings(world.guild.id, world.moderator.id, answer_bots=True)
        for number in range(BOT_TURNS):
            await world.say(other, "general", f"{world.mention} round {number}")
            await world.answered_in("general", number + 1)
        await world.say(other, "general", f"{world.mention} once more")
        await world.quiet()
        assert len(world.replies("general")) == BOT_TURNS
        await world.say(world.alice, "general", "that is enough, you two")
        await world.say(other, "general", f"{world.mention} again")
        await world.answered_in("general", BOT_TURNS + 1)


async def test_it_never_answers_itself(tmp_path: Path) -> None:
    async with live_world(tmp_path) as world:
        await world.store.change_server_settings(world.guild.id, world.moderator.id, answer_bots=True)
        await world.store.add_free_channel(world.guild.id, world.stage.id, world.moderator.id)
        channel = world.bot.get_channel(world.stage.id)
        await channel.send(f"{world.mention} I talk to myself")
        await world.quiet()
        assert len(world.replies("stage")) == 1


async def test_mention_by_a_bot_that_is_not_answered_pulls_it_into_no_thread(tmp_path: Path) -> None:
    async with live_world(tmp_path) as world:
        other = another_bot(world)
        thread = await world.create_thread(world.bob, "Aside", channel="general")
        await world.say(other, thread, f"{world.mention} come here")
        await world.say(world.alice, thread, "it is quiet here")
        await world.quiet()
        assert world.replies(thread) == []
