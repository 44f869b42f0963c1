"""The channels where it answers every message: /encore channels, and what Discord has to allow there."""

from __future__ import annotations

import json
from pathlib import Path

from bot.settings import Settings
from tests.cogs.commands import audit, fields, run
from tests.cogs.rating import a_reply
from tests.world import World, live_world


async def test_channel_is_added_listed_and_removed(world: World) -> None:
    place = world.stage
    assert (
        await run(world, "encore channels add", channel=place)
    ).content == f"I now answer every message in {place.mention}."
    assert await world.store.free_channels(world.guild.id) == {place.id}
    assert "already" in (await run(world, "encore channels add", channel=place)).content
    (embed,) = (await run(world, "encore channels list")).embeds
    assert embed.description == place.mention
    assert "only when mentioned" in (await run(world, "encore channels remove", channel=place)).content
    assert "nothing to remove" in (await run(world, "encore channels remove", channel=place)).content
    assert await world.store.free_channels(world.guild.id) == set()
    assert await audit(world) == [
        (world.moderator.id, "channels remove", {"channel_id": place.id}),
        (world.moderator.id, "channels add", {"channel_id": place.id}),
    ]


async def test_channel_defaults_to_where_the_command_is_used(world: World) -> None:
    await run(world, "encore channels add", where="stage")
    assert await world.store.free_channels(world.guild.id) == {world.stage.id}
    await run(world, "encore channels remove", where="stage")
    assert await world.store.free_channels(world.guild.id) == set()


async def test_removing_a_thread_that_it_was_called_into_ends_the_talk_until_it_is_called_again(world: World) -> None:
    thread = await world.create_thread(world.alice, "a scene", channel="stage")
    await a_reply(world, where=thread)
    async with world.lock:
        world.backend.add_thread_member(thread.id, world.bot.user.id)
    assert "only when mentioned" in (await run(world, "encore channels remove", where=thread)).content
    assert world.bot.user.id not in world.backend.get_channel(thread.id).thread_members
    assert await audit(world) == [(world.moderator.id, "channels remove", {"channel_id": thread.id})]
    await world.say(world.alice, thread, "and now?")
    await world.quiet()
    assert len(world.replies(thread)) == 1
    await a_reply(world, "come back", where=thread)
    await world.say(world.alice, thread, "and now?")
    await world.answered_in(thread, 3)


async def test_deleted_channel_is_no_free_channel_any_more(world: World) -> None:
    await run(world, "encore channels add", where="stage")
    await world.delete_channel("stage")

    async def gone() -> bool:
        return await world.store.free_channels(world.guild.id) == set()

    await world.eventually(gone)
    assert (await audit(world))[0] == (world.bot.user.id, "channels remove", {"channel_id": world.stage.id})


async def test_thread_can_be_a_free_channel(world: World) -> None:
    thread = await world.create_thread(world.alice, "a scene", channel="stage")
    await world.eventually(lambda: world.bot.get_guild(world.guild.id).get_thread(thread.id))
    await run(world, "encore channels add", channel=thread)
    assert await world.store.free_channels(world.guild.id) == {thread.id}


async def test_channel_without_send_permission_is_refused_by_name_of_the_permission(world: World) -> None:
    await world.set_bot_permissions("stage", send_messages=False, read_message_history=False)
    told = (await run(world, "encore channels add", channel=world.stage)).content
    assert "Send Messages and Read Message History" in told
    assert await world.store.free_channels(world.guild.id) == set()


async def test_list_names_a_channel_whose_permission_was_taken_away(world: World) -> None:
    await run(world, "encore channels add", channel=world.stage)
    await world.set_bot_permissions("stage", send_messages=False)
    shown = await world.eventually(lambda: _listed(world, "#stage"))
    assert shown == "I lack Send Messages there."


async def _listed(world: World, name: str) -> str | None:
    return fields(await run(world, "encore channels list")).get(name)


async def test_missing_intent_is_named_with_its_remedy(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, edit_interval_seconds=0.02, message_content_intent=False)
    async with live_world(tmp_path, settings=settings) as world:
        told = (await run(world, "encore channels add", channel=world.stage)).content
        assert "message content intent is off" in told
        assert "MESSAGE_CONTENT_INTENT=true" in told
        assert await world.store.free_channels(world.guild.id) == {world.stage.id}
        for command in ("encore status", "encore channels list"):
            assert fields(await run(world, command))["Message content intent"].startswith("Off")
        told = (await run(world, "encore settings set", name="unprompted_chance", value="0.1")).content
        assert "message content intent is off" in told


async def test_many_free_channels_fit_one_embed(world: World) -> None:
    for n in range(60):
        await world.store.add_free_channel(world.guild.id, 10**18 + n, 1)
    for command in ("encore status", "encore channels list"):
        assert "and 20 more" in json.dumps([e.to_dict() for e in (await run(world, command)).embeds])
