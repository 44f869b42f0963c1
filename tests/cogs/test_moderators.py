"""Every /encore command: what a moderator gets, what it leaves in the store, and that a member is refused."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import discord
import pytest

from bot.checks import NotModerator
from bot.records import DEFAULT_EMOJI, ServerSettings
from bot.server_options import EMOJI_LIMIT, OPTIONS
from bot.settings import Settings
from models.types import Sampling
from tests.cogs.nights import Canary, FakeNightly, Serving
from tests.cogs.rating import a_reply, press, said, votes
from tests.world import World, live_world

SETTINGS = "encore settings set"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with live_world(tmp_path) as world:
        yield world


async def run(world: World, command: str, *, by: Any = None, where: Any = "general", **options: Any) -> Any:
    """Run `/encore COMMAND` as a moderator and return the one answer, which only they see."""
    result = await world.slash(by or world.moderator, where, f"encore {command}", **options)
    found = await world.eventually(lambda: [m for m in (result.response, *result.followups) if m and _filled(m)])
    assert [message.ephemeral for message in found] == [True]
    callbacks = [r.json for r in world.env.http_requests if f"/interactions/{result._interaction.id}/" in r.path]
    assert callbacks == [{"type": 5, "data": {"flags": 64}}], "deferred, for the asker's eyes, before anything else"
    return found[0]


def _filled(message: Any) -> bool:
    return bool(message.content or message.embeds)


def _fields(message: Any) -> dict[str, str]:
    (embed,) = message.embeds
    return {field.name: field.value for field in embed.fields}


async def settings(world: World) -> ServerSettings:
    return await world.store.server_settings(world.guild.id)


async def audit(world: World) -> list[tuple[int, str, dict[str, Any]]]:
    entries = await world.store.audit(world.guild.id, 10)
    return [(entry.actor_id, entry.action, entry.detail) for entry in entries]


# ---------------------------------------------------------------------- who may


COMMANDS: list[tuple[str, dict[str, Any]]] = [
    ("status", {}),
    ("stats", {}),
    ("pause", {}),
    ("resume", {}),
    ("channels add", {}),
    ("channels remove", {}),
    ("channels list", {}),
    ("settings show", {}),
    ("settings set", {"name": "seed", "value": "1"}),
    ("settings emoji", {"emoji": "👍", "weight": 2.0}),
]


def _leaves(command: dict[str, Any], path: str = "") -> Iterator[str]:
    nested = [option for option in command.get("options", ()) if option["type"] in (1, 2)]
    name = f"{path} {command['name']}".strip()
    if not nested:
        yield name
    for option in nested:
        yield from _leaves(option, name)


def _let_everyone_see(world: World) -> Any:
    """Grant alice the command in the server's integration settings, which overrides its default permissions."""
    command = world.backend.find_command("encore", world.guild.id, type=1)
    assert command is not None
    world.guild.set_command_permissions(int(command["id"]), {world.alice: True})
    return command


async def test_every_command_is_in_the_table_of_these_tests(world: World) -> None:
    command = world.backend.find_command("encore", world.guild.id, type=1)
    assert {f"encore {name}" for name, _ in COMMANDS} == set(_leaves(command))


async def test_commands_are_hidden_from_members_and_from_direct_messages(world: World) -> None:
    command = world.backend.find_command("encore", world.guild.id, type=1)
    assert int(command["default_member_permissions"]) == discord.Permissions(manage_guild=True).value
    assert command["contexts"] == [0] or command["dm_permission"] is False
    assert not any(name.startswith("encore") for name in world.alice.available_commands(world.general))
    assert any(name.startswith("encore") for name in world.moderator.available_commands(world.general))


@pytest.mark.parametrize(("command", "options"), COMMANDS, ids=[name for name, _ in COMMANDS])
async def test_member_who_was_shown_a_command_is_refused(world: World, command: str, options: dict[str, Any]) -> None:
    _let_everyone_see(world)
    result = await world.answered(await world.slash(world.alice, "general", f"encore {command}", **options))
    assert await said(world, result) == "Only members who may manage this server can use this command."
    assert [type(error) for error in world.errors] == [NotModerator]
    world.env._errors.clear()  # SimCord keeps refusals among what handlers raised
    assert await audit(world) == []
    assert await settings(world) == ServerSettings()
    assert await world.store.free_channels(world.guild.id) == set()


async def test_member_who_was_shown_the_commands_is_offered_no_values(world: World) -> None:
    _let_everyone_see(world)
    assert await world.autocomplete(world.alice, "general", SETTINGS, "value", "", name="seed") == []


async def test_commands_keep_within_discords_limits(world: World) -> None:
    (command,) = [c.to_dict(world.bot.tree) for c in world.bot.tree.get_commands() if c.name == "encore"]

    def count(node: dict[str, Any]) -> int:
        own = len(node["name"]) + len(node.get("description", ""))
        values = sum(len(c["name"]) + len(str(c["value"])) for c in node.get("choices", ()))
        assert len(node.get("options", ())) <= 25
        assert len(node.get("choices", ())) <= 25
        assert all(len(choice["name"]) <= 100 for choice in node.get("choices", ()))
        return own + values + sum(map(count, node.get("options", ())))

    assert count(command) <= 8000


# ---------------------------------------------------------------------- room for the system prompt


@pytest.fixture
async def small(tmp_path: Path) -> AsyncIterator[World]:
    async with live_world(tmp_path, context_tokens=2048) as world:
        yield world


async def test_system_prompt_that_leaves_no_room_is_refused_with_the_limit(small: World) -> None:
    long = "你是一个温柔的角色。" * 200
    told = (await run(small, "settings set", name="system_prompt", value=long)).content
    assert told == (
        "system_prompt stays as it was: system_prompt takes 6,000 tokens and 896 fit beside messages and answers of "
        "256 tokens; shorten it or lower max_new_tokens."
    )
    assert await settings(small) == ServerSettings()
    assert await audit(small) == []


async def test_answers_so_long_that_the_system_prompt_has_no_room_are_refused(small: World) -> None:
    await run(small, "settings set", name="system_prompt", value="x" * 800)
    told = (await run(small, "settings set", name="max_new_tokens", value="2000")).content
    assert "max_new_tokens stays as it was: system_prompt takes 800 tokens and 256 fit" in told
    assert (await settings(small)).sampling == Sampling()
    assert "now 128" in (await run(small, "settings set", name="max_new_tokens", value="128")).content


async def test_member_is_told_that_a_moderator_has_to_shorten_the_system_prompt(small: World) -> None:
    await small.store.change_server_settings(small.guild.id, small.moderator.id, system_prompt="x" * 1900)
    await small.ask(small.alice, "general", "hi")
    (reply,) = await small.answered_in("general")
    assert reply.content == (
        "-# system_prompt takes 1,900 tokens and 896 fit beside messages and answers of 256 tokens; "
        "a moderator has to shorten it."
    )


# ---------------------------------------------------------------------- status and stats


async def test_status_names_the_adapter_and_the_canary_that_serve(tmp_path: Path) -> None:
    nightly = FakeNightly(tmp_path)
    async with live_world(tmp_path, nightly=nightly) as world:
        assert _fields(await run(world, "status"))["Adapter"] == "2026-11-24-kto"
        nightly.serving = Serving("2026-11-24-kto", Canary("2026-11-25-sft", 0.5, 0.0))
        shown = _fields(await run(world, "status"))["Adapter"]
    assert shown == "2026-11-24-kto; 2026-11-25-sft in 50% of the conversations"


async def test_status_tells_what_serves_and_where(world: World) -> None:
    await run(world, "channels add", where="stage")
    shown = _fields(await run(world, "status"))
    info = world.model.engine.info
    assert info.model in shown["Model"]
    assert info.quantization in shown["Model"]
    assert shown["Adapter"] == "None"
    assert shown["Languages"] == info.languages
    assert shown["Queue"] == f"0 of {info.slots} replies under way, 0 waiting"
    assert shown["Up for"] == "0 minutes"
    assert shown["Free channels"] == world.stage.mention
    assert shown["Message content intent"].startswith("On")


async def test_status_says_when_it_is_paused(world: World) -> None:
    await run(world, "pause")
    (embed,) = (await run(world, "status")).embeds
    assert embed.description == "Paused: I answer nobody until /encore resume."


async def test_stats_count_what_members_said(world: World) -> None:
    first, second = await a_reply(world, "one"), await a_reply(world, "two")
    await world.react(world.alice, first, "👍")
    await world.react(world.bob, first, "👎")
    shown = await press(world, world.bob, second, "down")
    await said(world, await world.submit_modal(world.bob, shown, {"reasons": ["boring"]}))
    await votes(world, first)
    assert _fields(await run(world, "stats")) == {
        "Replies": "2",
        "Rated replies": "2 (100%)",
        "Raters": "2",
        "Votes up": "1",
        "Votes down": "2",
        "Comparisons": "0",
        "Corrections": "1",
    }


async def test_stats_of_a_new_server_are_zeros(world: World) -> None:
    shown = _fields(await run(world, "stats"))
    assert set(shown.values()) == {"0"}


# ---------------------------------------------------------------------- pause


async def test_pause_silences_and_resume_wakes(world: World) -> None:
    assert "paused" in (await run(world, "pause")).content
    assert (await settings(world)).paused
    assert (await run(world, "pause")).content == "I am already paused."
    assert "awake" in (await run(world, "resume")).content
    assert not (await settings(world)).paused
    assert (await run(world, "resume")).content == "I am not paused."
    assert await audit(world) == [
        (world.moderator.id, "settings", {"paused": [True, False]}),
        (world.moderator.id, "settings", {"paused": [False, True]}),
    ]


# ---------------------------------------------------------------------- channels


async def test_channel_is_added_listed_and_removed(world: World) -> None:
    place = world.stage
    assert (
        await run(world, "channels add", channel=place)
    ).content == f"I now answer every message in {place.mention}."
    assert await world.store.free_channels(world.guild.id) == {place.id}
    assert "already" in (await run(world, "channels add", channel=place)).content
    (embed,) = (await run(world, "channels list")).embeds
    assert embed.description == place.mention
    assert "only when mentioned" in (await run(world, "channels remove", channel=place)).content
    assert "nothing to remove" in (await run(world, "channels remove", channel=place)).content
    assert await world.store.free_channels(world.guild.id) == set()
    assert await audit(world) == [
        (world.moderator.id, "channels remove", {"channel_id": place.id}),
        (world.moderator.id, "channels add", {"channel_id": place.id}),
    ]


async def test_channel_defaults_to_where_the_command_is_used(world: World) -> None:
    await run(world, "channels add", where="stage")
    assert await world.store.free_channels(world.guild.id) == {world.stage.id}
    await run(world, "channels remove", where="stage")
    assert await world.store.free_channels(world.guild.id) == set()


async def test_removing_a_thread_that_it_was_called_into_ends_the_talk_until_it_is_called_again(world: World) -> None:
    thread = await world.create_thread(world.alice, "a scene", channel="stage")
    await a_reply(world, where=thread)
    async with world.lock:
        world.backend.add_thread_member(thread.id, world.bot.user.id)
    assert "only when mentioned" in (await run(world, "channels remove", where=thread)).content
    assert world.bot.user.id not in world.backend.get_channel(thread.id).thread_members
    assert await audit(world) == [(world.moderator.id, "channels remove", {"channel_id": thread.id})]
    await world.say(world.alice, thread, "and now?")
    await world.quiet()
    assert len(world.replies(thread)) == 1
    await a_reply(world, "come back", where=thread)
    await world.say(world.alice, thread, "and now?")
    await world.answered_in(thread, 3)


async def test_deleted_channel_is_no_free_channel_any_more(world: World) -> None:
    await run(world, "channels add", where="stage")
    await world.delete_channel("stage")

    async def gone() -> bool:
        return await world.store.free_channels(world.guild.id) == set()

    await world.eventually(gone)
    assert (await audit(world))[0] == (world.bot.user.id, "channels remove", {"channel_id": world.stage.id})


async def test_thread_can_be_a_free_channel(world: World) -> None:
    thread = await world.create_thread(world.alice, "a scene", channel="stage")
    await world.eventually(lambda: world.bot.get_guild(world.guild.id).get_thread(thread.id))
    await run(world, "channels add", channel=thread)
    assert await world.store.free_channels(world.guild.id) == {thread.id}


async def test_channel_without_send_permission_is_refused_by_name_of_the_permission(world: World) -> None:
    await world.set_bot_permissions("stage", send_messages=False, read_message_history=False)
    told = (await run(world, "channels add", channel=world.stage)).content
    assert "Send Messages and Read Message History" in told
    assert await world.store.free_channels(world.guild.id) == set()


async def test_list_names_a_channel_whose_permission_was_taken_away(world: World) -> None:
    await run(world, "channels add", channel=world.stage)
    await world.set_bot_permissions("stage", send_messages=False)
    shown = await world.eventually(lambda: _listed(world, "#stage"))
    assert shown == "I lack Send Messages there."


async def _listed(world: World, name: str) -> str | None:
    return _fields(await run(world, "channels list")).get(name)


async def test_missing_intent_is_named_with_its_remedy(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, edit_interval_seconds=0.02, message_content_intent=False)
    async with live_world(tmp_path, settings=settings) as world:
        told = (await run(world, "channels add", channel=world.stage)).content
        assert "message content intent is off" in told
        assert "MESSAGE_CONTENT_INTENT=true" in told
        assert await world.store.free_channels(world.guild.id) == {world.stage.id}
        for command in ("status", "channels list"):
            assert _fields(await run(world, command))["Message content intent"].startswith("Off")
        told = (await run(world, "settings set", name="unprompted_chance", value="0.1")).content
        assert "message content intent is off" in told


# ---------------------------------------------------------------------- settings


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
    told = (await run(world, "settings set", name=name, value=value)).content
    assert told.startswith(f"{name} is now ")
    option = OPTIONS[name]
    assert option.value(await settings(world)) == stored
    before = option.value(ServerSettings())
    assert await audit(world) == [(world.moderator.id, "settings", {name: [before, stored]})]
    assert _fields(await run(world, "settings show"))[name].startswith(option.show(await settings(world)))
    await run(world, "settings set", name=name, value="default")
    assert await settings(world) == ServerSettings()


async def test_one_setting_leaves_the_others(world: World) -> None:
    await run(world, "settings set", name="temperature", value="0.3")
    await run(world, "settings set", name="top_p", value="0.5")
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
    told = (await run(world, "settings set", name=name, value=value)).content
    assert told.startswith(f"{name} can't be “")
    assert told.endswith(f"; {remedy}.")
    assert await settings(world) == ServerSettings()
    assert await audit(world) == []


async def test_seed_random_takes_the_seed_away(world: World) -> None:
    await run(world, "settings set", name="seed", value="7")
    await run(world, "settings set", name="seed", value="random")
    assert (await settings(world)).seed is None


async def test_unprompted_channel_must_be_one_where_the_bot_can_talk(world: World) -> None:
    await world.set_bot_permissions("stage", send_messages=False)
    for value, reason in ((world.stage.mention, "I lack Send Messages"), ("<#123456789012345678>", "can't be that")):
        assert reason in (await run(world, "settings set", name="unprompted_channel", value=value)).content
    assert (await settings(world)).unprompted_channel_id is None
    await run(world, "settings set", name="unprompted_channel", value=world.general.mention)
    assert (await settings(world)).unprompted_channel_id == world.general.id
    assert _fields(await run(world, "settings show"))["unprompted_channel"].startswith(world.general.mention)
    await run(world, "settings set", name="unprompted_channel", value="none")
    assert (await settings(world)).unprompted_channel_id is None


async def test_moderators_channel_must_be_one_where_reports_with_pictures_can_be_posted(world: World) -> None:
    await world.set_bot_permissions("mod-room", embed_links=False, attach_files=False)
    told = (await run(world, "settings set", name="moderators_channel", value=world.mod_room.mention)).content
    assert "I lack Embed Links and Attach Files" in told
    assert (await settings(world)).moderators_channel_id is None
    await world.set_bot_permissions("mod-room", embed_links=True, attach_files=True)
    told = (await run(world, "settings set", name="moderators_channel", value=world.mod_room.mention)).content
    assert told == f"moderators_channel is now {world.mod_room.mention}."
    assert (await settings(world)).moderators_channel_id == world.mod_room.id
    assert _fields(await run(world, "settings show"))["moderators_channel"].startswith(world.mod_room.mention)


async def test_moderators_channel_that_members_can_read_is_pointed_out(world: World) -> None:
    told = (await run(world, "settings set", name="moderators_channel", value=world.general.mention)).content
    assert told == f"moderators_channel is now {world.general.mention}. Everyone here can read that channel."


async def test_chance_without_a_channel_says_what_is_missing(world: World) -> None:
    told = (await run(world, "settings set", name="unprompted_chance", value="0.1")).content
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
    shown = _fields(await run(world, "settings show"))
    assert set(OPTIONS) < set(shown)
    assert shown["system_prompt"].endswith("… (default: the operator's)")
    assert shown["Emoji that count"].endswith("more")


async def test_many_free_channels_fit_one_embed(world: World) -> None:
    for n in range(60):
        await world.store.add_free_channel(world.guild.id, 10**18 + n, 1)
    for command in ("status", "channels list"):
        assert "and 20 more" in json.dumps([e.to_dict() for e in (await run(world, command)).embeds])


# ---------------------------------------------------------------------- emoji


async def test_emoji_is_given_a_weight_and_counts_by_it(world: World) -> None:
    told = (await run(world, "settings emoji", emoji="🥦", weight=-2.0)).content
    assert told == "A reaction with 🥦 counts -2 from now on; votes given before stay as they are."
    assert (await settings(world)).emoji == {**DEFAULT_EMOJI, "🥦": -2.0}
    reply = await a_reply(world)
    await world.react(world.bob, reply, "🥦")
    assert await votes(world, reply) == {world.bob.id: ("reaction:🥦", -2.0)}
    ((actor, action, _),) = await audit(world)
    assert (actor, action) == (world.moderator.id, "settings")


async def test_emoji_is_taken_out_by_weight_zero_in_any_of_its_forms(world: World) -> None:
    for form, entry in (("👍🏽", "👍"), ("❤", "❤️")):
        assert "doesn't count any more" in (await run(world, "settings emoji", emoji=form, weight=0.0)).content
        assert entry not in (await settings(world)).emoji


async def test_emoji_of_the_server_is_known_by_its_id(world: World) -> None:
    emoji = world.guild.create_emoji("encore")
    await run(world, "settings emoji", emoji=f"<:encore:{emoji.id}>", weight=1.0)
    await run(world, "settings emoji", emoji=f"<a:renamed:{emoji.id}>", weight=3.0)
    table = (await settings(world)).emoji
    assert table == {**DEFAULT_EMOJI, f"renamed:{emoji.id}": 3.0}
    assert f"<:renamed:{emoji.id}> +3" in _fields(await run(world, "settings show"))["Emoji that count"]


@pytest.mark.parametrize(
    "given", ["hello", ":)", "1", "👍 👎", "👍👎", "<@1>", "x👍", "@everyone", "👍" * 20, "!\ufe0f", "‼️‼️", "〰️👍"]
)
async def test_what_is_no_emoji_is_refused(world: World, given: str) -> None:
    told = (await run(world, "settings emoji", emoji=given, weight=1.0)).content
    assert "use one emoji" in told
    assert await settings(world) == ServerSettings()


@pytest.mark.parametrize(
    "given", ["1️⃣", "🏳️‍🌈", "👨‍👩‍👧‍👦", "🇩🇪", "🧑‍⚕️", "✔️", "㊗️", "‼️", "⁉️", "\u2139\ufe0f", "〰️", "〽️", "‼"]
)
async def test_emoji_of_every_kind_are_taken(world: World, given: str) -> None:
    await run(world, "settings emoji", emoji=given, weight=1.0)
    assert (await settings(world)).emoji[given] == 1.0


async def test_table_of_emoji_has_an_end(world: World) -> None:
    table = {chr(0x1F400 + n): 1.0 for n in range(EMOJI_LIMIT)}
    await world.store.change_server_settings(world.guild.id, 1, emoji=table)
    assert f"at most {EMOJI_LIMIT} emoji" in (await run(world, "settings emoji", emoji="🥦", weight=1.0)).content
    assert "counts +2" in (await run(world, "settings emoji", emoji=chr(0x1F400), weight=2.0)).content
