"""/room start, stop and schedule: what moderators are told, and that members are refused."""

from __future__ import annotations

import pytest

from tests.cogs.commands import assert_hidden, assert_refused, audit, leaves, run, show_to_members, words
from tests.cogs.room.turns import DAY, Turns, bring, schedule, start, the_room
from tests.world import World

# ---------------------------------------------------------------------- who may


COMMANDS = ("room start", "room stop", "room schedule")


async def test_every_command_is_in_the_table_of_these_tests(world: World) -> None:
    assert set(leaves(world.backend.find_command("room", world.guild.id, type=1))) == set(COMMANDS)


async def test_commands_are_hidden_from_members_and_from_direct_messages(world: World) -> None:
    assert_hidden(world, "room")
    assert not any(name.startswith("room") for name in world.alice.available_commands(world.general))


async def test_descriptions_are_short_sentences_without_a_full_stop(world: World) -> None:
    for told in words(world.backend.find_command("room", world.guild.id, type=1)):
        assert 8 <= len(told) <= 100
        assert not told.endswith(".")


@pytest.mark.parametrize("command", COMMANDS)
async def test_member_who_was_shown_a_command_is_refused(world: World, command: str) -> None:
    show_to_members(world, "room")
    options = {"channel": world.stage} if command == "room start" else {}
    await assert_refused(world, await world.slash(world.alice, "general", command, **options))
    assert await the_room(world) is None


# ---------------------------------------------------------------------- commands


async def test_start_says_where_and_how_often_and_is_audited(world: World) -> None:
    await bring(world, "Tell me a story.")
    told = await start(world, prompts_per_day=6)
    assert told.startswith(
        f"{world.stage.mention} is the rating room now, with 6 prompts a day. The next one comes <t:"
    )
    assert await audit(world) == [(world.moderator.id, "room start", {"channel_id": world.stage.id, "per_day": 6})]


async def test_start_without_prompts_names_the_command_that_brings_some(world: World) -> None:
    assert await start(world) == (
        f"{world.stage.mention} is the rating room now, with 4 prompts a day. "
        "No prompts are left; bring some with `encore prompts import FILE`.\n"
        "Reactions teach me once their member agrees: /mod consent posts the question."
    )


async def test_start_in_a_channel_that_is_closed_to_me_is_refused(world: World) -> None:
    await world.set_bot_permissions("stage", send_messages=False)
    assert await start(world) == (
        f"In {world.stage.mention} I lack Send Messages; grant that first, then start it again."
    )
    assert await the_room(world) is None
    assert await audit(world) == []


async def test_start_elsewhere_moves_the_room(world: World) -> None:
    await start(world)
    await run(world, "room start", channel=world.general, prompts_per_day=1)
    room = await the_room(world)
    assert room is not None
    assert (room.channel_id, room.interval_seconds) == (world.general.id, DAY)
    assert "with a prompt a day" in await schedule(world)


async def test_stop_closes_the_room_and_is_audited(world: World, turns: Turns) -> None:
    await bring(world, "one")
    assert (await run(world, "room stop")).content.startswith("There is no rating room")
    await start(world)
    assert (await run(world, "room stop")).content == (
        "The rating room is closed; ratings of what stands there still count."
    )
    assert (await audit(world))[0] == (world.moderator.id, "room stop", {})
    await turns.tick()
    assert world.replies("stage") == []


async def test_schedule_tells_how_the_room_stands(world: World, turns: Turns) -> None:
    assert await schedule(world) == "There is no rating room in this server; begin one with /room start."
    await bring(world, "one", "two", "three")
    await start(world)
    await turns.tick()
    told = await schedule(world)
    assert f"The rating room is {world.stage.mention}, with 4 prompts a day. The next one comes <t:" in told
    assert f"2 of 3 prompts are left. Started by <@{world.moderator.id}>" in told
    assert told.endswith("Reactions teach me once their member agrees: /mod consent posts the question.")


async def test_schedule_tells_what_holds_the_room_back(world: World) -> None:
    await start(world)
    assert "No prompts are left" in await schedule(world)
    await bring(world, "one")
    await world.store.change_server_settings(world.guild.id, 1, paused=True)
    assert "I am paused in this server until /encore resume." in await schedule(world)
    await world.set_bot_permissions("stage", send_messages=False)
    assert f"In {world.stage.mention} I lack Send Messages, so I post nothing." in await schedule(world)
