"""/encore settings: what moderators change, what is refused, and room for their system prompt."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bot.records import ServerSettings
from bot.server_options import EMOJI_LIMIT, OPTIONS
from models.types import Sampling
from tests.cogs.commands import audit, fields, run, settings
from tests.world import World, live_world

SETTINGS = "encore settings set"


@pytest.mark.parametrize(
    ("name", "value", "stored"),
    [
        ("temperature", "0.3", 0.3),
        ("temperature", "0,3", 0.3),
        ("top_p", "0.5", 0.5),
        ("min_p", "0", 0.0),
        ("repeat_penalty", "1.2", 1.2),
        ("repeat_last_n", "64", 64),
        ("max_new_tokens", "100", 100),
        ("seed", "0", 0),
        ("answer_bots", "yes", True),
        ("unprompted_chance", "0.05", 0.05),
        ("system_prompt", "你是一只猫。 Be brief.", "你是一只猫。 Be brief."),
    ],
)
async def test_setting_is_changed_audited_and_shown(world: World, name: str, value: str, stored: object) -> None:
    told = (await run(world, "encore settings set", name=name, value=value)).content
    assert told.startswith(f"{name} is now ")
    option = OPTIONS[name]
    assert option.value(await settings(world)) == stored
    before = option.value(ServerSettings())
    assert await audit(world) == [(world.moderator.id, "settings", {name: [before, stored]})]
    assert fields(await run(world, "encore settings show"))[name].startswith(option.show(await settings(world)))
    await run(world, "encore settings set", name=name, value="default")
    assert await settings(world) == ServerSettings()


async def test_one_setting_leaves_the_others(world: World) -> None:
    await run(world, "encore settings set", name="temperature", value="0.3")
    await run(world, "encore settings set", name="top_p", value="0.5")
    assert (await settings(world)).sampling == Sampling(temperature=0.3, top_p=0.5)


@pytest.mark.parametrize(
    ("name", "value", "remedy"),
    [
        ("temperature", "hot", "use a number from 0 to 2"),
        ("temperature", "nan", "use a number from 0 to 2"),
        ("temperature", "-1", "use a number from 0 to 2"),
        ("top_p", "0", "use a number from 0.01 to 1"),
        ("min_p", "2", "use a number from 0 to 1"),
        ("repeat_penalty", "0.5", "use a number from 1 to 2"),
        ("repeat_last_n", "1.5", "use a whole number from 0 to 4096"),
        ("max_new_tokens", "99999", "use a whole number from 16 to 4096"),
        ("seed", "-1", "use a whole number from 0 to 2147483647, or random"),
        ("seed", "٣", "use a whole number from 0 to 2147483647, or random"),
        ("answer_bots", "maybe", "use yes or no"),
        ("unprompted_chance", "2", "use a number from 0 to 1"),
        ("unprompted_channel", "general", "use a channel such as #general, or none"),
        ("system_prompt", "x" * 2001, "use a text of 1 to 2000 characters"),
        ("system_prompt", "\u200b", "use a text of 1 to 2000 characters"),
    ],
)
async def test_wrong_value_changes_nothing_and_says_what_to_use(
    world: World, name: str, value: str, remedy: str
) -> None:
    told = (await run(world, "encore settings set", name=name, value=value)).content
    assert told.startswith(f"{name} can't be “")
    assert told.endswith(f"; {remedy}.")
    assert await settings(world) == ServerSettings()
    assert await audit(world) == []


async def test_seed_random_takes_the_seed_away(world: World) -> None:
    await run(world, "encore settings set", name="seed", value="7")
    await run(world, "encore settings set", name="seed", value="random")
    assert (await settings(world)).seed is None


async def test_unprompted_channel_must_be_one_where_the_bot_can_talk(world: World) -> None:
    await world.set_bot_permissions("stage", send_messages=False)
    for value, reason in ((world.stage.mention, "I lack Send Messages"), ("<#123456789012345678>", "can't be that")):
        assert reason in (await run(world, "encore settings set", name="unprompted_channel", value=value)).content
    assert (await settings(world)).unprompted_channel_id is None
    await run(world, "encore settings set", name="unprompted_channel", value=world.general.mention)
    assert (await settings(world)).unprompted_channel_id == world.general.id
    assert fields(await run(world, "encore settings show"))["unprompted_channel"].startswith(world.general.mention)
    await run(world, "encore settings set", name="unprompted_channel", value="none")
    assert (await settings(world)).unprompted_channel_id is None


async def test_moderators_channel_must_be_one_where_reports_with_pictures_can_be_posted(world: World) -> None:
    await world.set_bot_permissions("mod-room", embed_links=False, attach_files=False)
    told = (await run(world, "encore settings set", name="moderators_channel", value=world.mod_room.mention)).content
    assert "I lack Embed Links and Attach Files" in told
    assert (await settings(world)).moderators_channel_id is None
    await world.set_bot_permissions("mod-room", embed_links=True, attach_files=True)
    told = (await run(world, "encore settings set", name="moderators_channel", value=world.mod_room.mention)).content
    assert told == f"moderators_channel is now {world.mod_room.mention}."
    assert (await settings(world)).moderators_channel_id == world.mod_room.id
    assert fields(await run(world, "encore settings show"))["moderators_channel"].startswith(world.mod_room.mention)


async def test_moderators_channel_that_members_can_read_is_pointed_out(world: World) -> None:
    told = (await run(world, "encore settings set", name="moderators_channel", value=world.general.mention)).content
    assert told == f"moderators_channel is now {world.general.mention}. Everyone here can read that channel."


async def test_chance_without_a_channel_says_what_is_missing(world: World) -> None:
    told = (await run(world, "encore settings set", name="unprompted_chance", value="0.1")).content
    assert "Choose the channel" in told


@pytest.mark.parametrize(
    ("name", "typed", "values"),
    [
        ("temperature", "", ["0.5", "1", "0.8", "default"]),
        ("temperature", "def", ["default"]),
        ("answer_bots", "", ["yes", "no", "default"]),
        ("seed", "", ["random", "0", "default"]),
        ("system_prompt", "", ["default"]),
    ],
)
async def test_picker_offers_values(world: World, name: str, typed: str, values: list[str]) -> None:
    offered = await world.autocomplete(world.moderator, "general", SETTINGS, "value", typed, name=name)
    assert [choice["value"] for choice in offered] == values


async def test_picker_offers_the_channels_where_the_bot_can_talk(world: World) -> None:
    await world.set_bot_permissions("stage", send_messages=False)
    await world.eventually(lambda: _offers_no_stage(world))


async def _offers_no_stage(world: World) -> bool:
    offered = await world.autocomplete(world.moderator, "general", SETTINGS, "value", "", name="unprompted_channel")
    names = {choice["name"]: choice["value"] for choice in offered}
    return names.get("#general") == world.general.mention and "#stage" not in names


async def test_settings_of_every_length_fit_one_embed(world: World) -> None:
    table = {f"{'e' * 32}:{10**18 + n}": -5.0 for n in range(EMOJI_LIMIT)}
    await world.store.change_server_settings(
        world.guild.id, 1, emoji=table, system_prompt="`*_" * 666, unprompted_channel_id=10**18
    )
    shown = fields(await run(world, "encore settings show"))
    assert set(OPTIONS) < set(shown)
    assert shown["system_prompt"].endswith("… (default: the operator's)")
    assert shown["Emoji that count"].endswith("more")


# ---------------------------------------------------------------------- room for the system prompt


@pytest.fixture
async def small(tmp_path: Path) -> AsyncIterator[World]:
    async with live_world(tmp_path, context_tokens=2048) as world:
        yield world


async def test_system_prompt_that_leaves_no_room_is_refused_with_the_limit(small: World) -> None:
    long = "你是一个温柔的角色。" * 200
    told = (await run(small, "encore settings set", name="system_prompt", value=long)).content
    assert told == (
        "system_prompt stays as it was: system_prompt takes 6,000 tokens and 896 fit beside messages and answers of "
        "256 tokens; shorten it or lower max_new_tokens."
    )
    assert await settings(small) == ServerSettings()
    assert await audit(small) == []


async def test_answers_so_long_that_the_system_prompt_has_no_room_are_refused(small: World) -> None:
    await run(small, "encore settings set", name="system_prompt", value="x" * 800)
    told = (await run(small, "encore settings set", name="max_new_tokens", value="2000")).content
    assert "max_new_tokens stays as it was: system_prompt takes 800 tokens and 256 fit" in told
    assert (await settings(small)).sampling == Sampling()
    assert "now 128" in (await run(small, "encore settings set", name="max_new_tokens", value="128")).content


async def test_member_is_told_that_a_moderator_has_to_shorten_the_system_prompt(small: World) -> None:
    await small.store.change_server_settings(small.guild.id, small.moderator.id, system_prompt="x" * 1900)
    await small.ask(small.alice, "general", "hi")
    (reply,) = await small.answered_in("general")
    assert reply.content == (
        "-# system_prompt takes 1,900 tokens and 896 fit beside messages and answers of 256 tokens; "
        "a moderator has to shorten it."
    )
