"""Reactions that changed while the bot was away or couldn't keep up: it looks at the messages again."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from simcord.backend.models import Reaction

from cogs.feedback import Feedback
from tests.cogs.rating import a_reply, press, said, votes, votes_become
from tests.world import World


def _react_unseen(message: Any, emoji: str, *members: Any) -> None:
    """Change a message's reactions as while no bot listens: no event comes."""
    message.reactions[:] = [reaction for reaction in message.reactions if reaction.emoji != emoji]
    if members:
        message.reactions.append(Reaction(emoji=emoji, user_ids=[member.id for member in members]))


async def test_reactions_made_while_the_bot_was_away_are_found_at_the_start(world: World) -> None:
    reply, other = await a_reply(world, "one"), await a_reply(world, "two", "stage")
    await world.react(world.alice, reply, "👍")
    await world.react(world.bob, reply, "👎")
    await votes(world, reply)
    helper = world.guild.add_member(world.env.create_user("helper", bot=True))
    _react_unseen(reply, "👍")  # alice took hers back
    _react_unseen(reply, "🔥", world.alice, helper)
    _react_unseen(other, "❤️", world.bob)
    await world.restart()
    await votes_become(world, reply, {world.alice.id: ("reaction:🔥", 1.0), world.bob.id: ("reaction:👎", -1.0)})
    await votes_become(world, other, {world.bob.id: ("reaction:❤️", 1.0)})


async def test_reactions_of_while_a_member_had_opted_out_are_not_found_at_a_later_start(world: World) -> None:
    reply = await a_reply(world)
    await world.store.opt_out(world.bob.id, True)
    await world.react(world.bob, reply, "👍")
    await world.store.opt_out(world.bob.id, False)
    _react_unseen(reply, "🔥", world.alice)
    await world.restart()
    await votes_become(world, reply, {world.alice.id: ("reaction:🔥", 1.0)})


async def test_reactions_dropped_in_a_flood_are_found_once_the_store_takes_events_again(world: World) -> None:
    reply = await a_reply(world)
    await votes(world, reply)
    _react_unseen(reply, "👍", world.alice)
    world.bot.ratings.on_gap()
    await votes_become(world, reply, {world.alice.id: ("reaction:👍", 1.0)})


async def test_votes_by_button_survive_the_comparison(world: World) -> None:
    reply, other = await a_reply(world, "one"), await a_reply(world, "two")
    await said(world, await press(world, world.bob, reply, "up"))
    _react_unseen(other, "👍", world.alice)
    await world.restart()
    await world.eventually(lambda: votes(world, other))
    assert await votes(world, reply) == {world.bob.id: ("button", 1.0)}


async def test_deleted_message_and_hidden_channel_are_skipped(world: World) -> None:
    gone, hidden, seen = await a_reply(world), await a_reply(world, "x", "stage"), await a_reply(world, "y")
    await world.react(world.alice, gone, "👍")
    await votes(world, gone)
    async with world.lock:
        world.backend.delete_message(world.general.id, gone.id)
    await world.set_bot_permissions("stage", view_channel=False)
    _react_unseen(hidden, "👍", world.bob)
    _react_unseen(seen, "👍", world.bob)
    await world.restart()
    await world.eventually(lambda: votes(world, seen))
    assert await votes(world, gone) == {world.alice.id: ("reaction:👍", 1.0)}
    assert await votes(world, hidden) == {}


async def test_direct_messages_are_compared_too(world: World) -> None:
    await world.dm(world.alice, "hello")
    reply = (await world.answered_in(world.dm_channel(world.alice)))[-1]
    _react_unseen(reply, "👍", world.alice)
    await world.restart()
    await votes_become(world, reply, {world.alice.id: ("reaction:👍", 1.0)})


async def test_discord_failing_for_one_message_spoils_no_other(world: World) -> None:
    broken, fine = await a_reply(world, "one"), await a_reply(world, "two")
    for reply in (broken, fine):
        _react_unseen(reply, "👍", world.alice)
    world.env.inject_error("GET", f"/channels/*/messages/{broken.id}/reactions/*", status=500, times=None)
    await world.restart()
    await world.eventually(lambda: votes(world, fine))
    assert await votes(world, broken) == {}


async def _replace_cog(world: World, **options: Any) -> Feedback:
    await world.bot.remove_cog("Feedback")
    cog = Feedback(world.bot, **options)
    await world.bot.add_cog(cog)
    return cog


@pytest.mark.parametrize("pause", range(1, 4))
async def test_reaction_that_changes_during_the_comparison_is_neither_lost_nor_undone(world: World, pause: int) -> None:
    reply = await a_reply(world)
    _react_unseen(reply, "👍", world.alice)
    pauses = 0
    done = asyncio.Event()

    async def change_mind_at_that_pause(_: float) -> None:
        nonlocal pauses
        pauses += 1
        if pauses == pause:
            await world.unreact(world.alice, reply, "👍")
            await world.react(world.bob, reply, "🔥")
            await asyncio.sleep(0.05)
            done.set()

    await _replace_cog(world, sleep=change_mind_at_that_pause)
    world.bot.dispatch("ready")
    if pause == 3:  # the comparison ends before it: the next one starts with the second session
        await world.quiet()
        world.bot.dispatch("ready")
    await asyncio.wait_for(done.wait(), 5)
    await world.quiet()
    assert await votes(world, reply) == {world.bob.id: ("reaction:🔥", 1.0)}


async def test_reaction_that_is_stored_just_before_the_comparison_is_not_undone(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    reply = await a_reply(world)
    write = world.store.reconcile_reactions
    writes = 0

    async def outrun(*arguments: Any) -> None:
        nonlocal writes
        writes += 1
        if writes == 1:
            await world.react(world.bob, reply, "🔥")
            assert await votes(world, reply) == {world.bob.id: ("reaction:🔥", 1.0)}
        await write(*arguments)

    monkeypatch.setattr(world.store, "reconcile_reactions", outrun)
    world.bot.dispatch("ready")
    await world.eventually(lambda: writes == 2)
    assert await votes(world, reply) == {world.bob.id: ("reaction:🔥", 1.0)}


async def test_message_that_never_rests_is_left_to_its_events(world: World) -> None:
    reply = await a_reply(world)
    pauses = 0

    async def always_busy(_: float) -> None:
        nonlocal pauses
        pauses += 1
        await world.unreact(world.alice, reply, "👍")
        await world.react(world.alice, reply, "👍")
        await asyncio.sleep(0.01)

    await _replace_cog(world, sleep=always_busy)
    world.bot.dispatch("ready")
    await world.eventually(lambda: pauses >= 10)
    await world.quiet()
    assert pauses < 15
    assert await votes(world, reply) == {world.alice.id: ("reaction:👍", 1.0)}
