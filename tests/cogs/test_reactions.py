"""Reactions, from a member's hand to the store."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from bot.errors import StoreBusy
from bot.records import ReactionEvent, ReactionKind, ServerSettings
from cogs.feedback import Feedback
from tests.cogs.rating import a_reply, votes
from tests.world import World


async def test_reaction_becomes_a_vote(world: World) -> None:
    reply = await a_reply(world)
    await world.react(world.alice, reply, "👍")
    await world.react(world.bob, reply, "🤮")
    assert await votes(world, reply) == {
        world.alice.id: ("reaction:👍", 1.0),
        world.bob.id: ("reaction:🤮", -1.0),
    }


async def test_removed_reaction_retracts_the_vote(world: World) -> None:
    reply = await a_reply(world)
    await world.react(world.alice, reply, "👍")
    await world.unreact(world.alice, reply, "👍")
    assert await votes(world, reply) == {}


async def test_change_of_mind_counts_and_the_older_opinion_again_once_it_is_withdrawn(world: World) -> None:
    reply = await a_reply(world)
    await world.react(world.alice, reply, "👍")
    await world.react(world.alice, reply, "👎")
    assert await votes(world, reply) == {world.alice.id: ("reaction:👎", -1.0)}
    await world.unreact(world.alice, reply, "👎")
    assert await votes(world, reply) == {world.alice.id: ("reaction:👍", 1.0)}


async def test_clearing_a_message_retracts_every_reaction(world: World) -> None:
    reply = await a_reply(world)
    await world.react(world.alice, reply, "👍")
    await world.react(world.bob, reply, "🔥")
    await world.clear_reactions(reply)
    assert await votes(world, reply) == {}


async def test_clearing_one_emoji_leaves_the_others(world: World) -> None:
    reply = await a_reply(world)
    await world.react(world.alice, reply, "👎")
    await world.react(world.bob, reply, "🔥")
    await world.clear_reactions(reply, "👎")
    assert await votes(world, reply) == {world.bob.id: ("reaction:🔥", 1.0)}


async def test_own_and_other_bots_reactions_are_ignored(world: World) -> None:
    reply = await a_reply(world)
    other_bot = world.guild.add_member(world.env.create_user("helper", bot=True))
    channel = world.bot.get_partial_messageable(world.general.id, guild_id=world.guild.id)
    await channel.get_partial_message(reply.id).add_reaction("👍")
    await world.react(other_bot, reply, "👍")
    assert await votes(world, reply) == {}


async def test_emoji_without_a_weight_says_nothing(world: World) -> None:
    reply = await a_reply(world)
    await world.react(world.alice, reply, "🥦")
    assert await votes(world, reply) == {}


@pytest.mark.parametrize("emoji", ["❤", "❤️", "👍🏽", "👍🏿"])
async def test_text_form_and_skin_tone_are_the_same_opinion(world: World, emoji: str) -> None:
    reply = await a_reply(world)
    await world.react(world.alice, reply, emoji)
    assert await votes(world, reply) == {world.alice.id: (f"reaction:{emoji}", 1.0)}


async def test_emoji_of_the_server_counts_by_its_weight(world: World) -> None:
    reply = await a_reply(world)
    emoji = world.guild.create_emoji("encore")
    await world.store.change_server_settings(world.guild.id, world.moderator.id, emoji={f"encore:{emoji.id}": 2.0})
    await world.react(world.alice, reply, f"encore:{emoji.id}")
    await world.react(world.bob, reply, "👍")
    assert await votes(world, reply) == {world.alice.id: (f"reaction:encore:{emoji.id}", 2.0)}


async def test_super_reaction_is_the_same_vote(world: World) -> None:
    reply = await a_reply(world)
    payload = {
        "user_id": str(world.alice.id),
        "channel_id": str(world.general.id),
        "message_id": str(reply.id),
        "guild_id": str(world.guild.id),
        "emoji": {"id": None, "name": "🔥"},
    }
    for kind in ({"burst": True, "type": 1, "burst_colors": ["#ff0000"]}, {"burst": False, "type": 0}):
        world.backend.emit("MESSAGE_REACTION_ADD", payload | kind)
    assert await votes(world, reply) == {world.alice.id: ("reaction:🔥", 1.0)}


async def test_reaction_on_the_second_part_of_a_reply_counts_for_the_whole(world: World) -> None:
    await world.store.change_server_settings(world.guild.id, world.moderator.id, max_new_tokens=4096)
    await world.ask(world.alice, "general", "@here " * 320)  # each made harmless by one more character
    parts = await world.answered_in("general", 2)
    assert len(parts) == 2
    first, second = [await world.reply_shown_by(part) for part in parts]
    assert first.id == second.id
    await world.react(world.bob, parts[1], "👍")
    assert await votes(world, parts[0]) == {world.bob.id: ("reaction:👍", 1.0)}


async def test_reaction_to_a_direct_message_counts(world: World) -> None:
    await world.dm(world.alice, "hello")
    reply = (await world.answered_in(world.dm_channel(world.alice)))[-1]
    await world.react(world.alice, reply, "👍")
    assert await votes(world, reply) == {world.alice.id: ("reaction:👍", 1.0)}


async def test_reaction_to_what_is_no_reply_changes_nothing(world: World) -> None:
    reply = await a_reply(world)
    chatter = await world.say(world.bob, "stage", "just talking")
    await world.react(world.alice, chatter, "👍")
    assert await votes(world, reply) == {}
    assert (await world.store.counts(world.guild.id)).votes_up == 0


async def test_old_message_from_before_a_restart_counts(world: World) -> None:
    reply = await a_reply(world)
    await world.restart()
    await world.react(world.bob, reply, "⭐")
    assert await votes(world, reply) == {world.bob.id: ("reaction:⭐", 1.0)}


async def test_reaction_down_posts_nothing(world: World) -> None:
    reply = await a_reply(world)
    before = len(world.messages("general"))
    await world.react(world.bob, reply, "👎")
    assert await votes(world, reply) == {world.bob.id: ("reaction:👎", -1.0)}
    await world.quiet()
    assert len(world.messages("general")) == before


def _event(kind: ReactionKind, emoji: str = "👍") -> Any:
    return SimpleNamespace(
        message_id=1, user_id=2, guild_id=3, member=None, emoji=SimpleNamespace(id=None, name=emoji), kind=kind
    )


class _Services:
    """A bot whose store is slow to tell a server's settings the first time."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.user = SimpleNamespace(id=99)
        self.store = self.ratings = self
        self.offered: list[ReactionEvent] = []
        self.known = asyncio.Event()
        self.failure = failure
        self.asked = 0

    async def server_settings(self, guild_id: int | None) -> ServerSettings:
        self.asked += 1
        if self.failure:
            raise self.failure
        if self.asked == 1:
            await self.known.wait()
        return ServerSettings()

    def offer(self, event: ReactionEvent) -> None:
        self.offered.append(event)


async def test_no_event_overtakes_one_whose_server_is_still_being_read() -> None:
    services: Any = _Services()
    cog = Feedback(services)
    first = asyncio.create_task(cog.on_raw_reaction_add(_event(ReactionKind.ADD)))
    await asyncio.sleep(0)
    second = asyncio.create_task(cog.on_raw_reaction_remove(_event(ReactionKind.REMOVE)))
    await asyncio.sleep(0)
    third = asyncio.create_task(cog.on_raw_reaction_add(_event(ReactionKind.ADD, "🔥")))
    await asyncio.sleep(0)
    services.known.set()
    await asyncio.gather(first, second, third)
    assert [(event.kind, event.emoji) for event in services.offered] == [
        (ReactionKind.ADD, "👍"),
        (ReactionKind.REMOVE, "👍"),
        (ReactionKind.ADD, "🔥"),
    ]


async def test_unreadable_settings_count_by_the_usual_weights() -> None:
    services: Any = _Services(StoreBusy("The database is locked; stop the other program."))
    await Feedback(services).on_raw_reaction_add(_event(ReactionKind.ADD, "👎"))
    assert services.offered == [ReactionEvent(ReactionKind.ADD, 1, 2, "👎", -1.0)]
