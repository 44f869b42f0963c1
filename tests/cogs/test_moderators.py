"""Every /encore command: who may use it; what status and stats tell; pause and resume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bot.records import ServerSettings
from tests.cogs.commands import assert_hidden, assert_refused, audit, fields, leaves, run, settings, show_to_members
from tests.cogs.nights import Canary, FakeNightly, Serving
from tests.cogs.rating import a_reply, press, said, votes
from tests.world import World, live_world

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


async def test_every_command_is_in_the_table_of_these_tests(world: World) -> None:
    command = world.backend.find_command("encore", world.guild.id, type=1)
    assert {f"encore {name}" for name, _ in COMMANDS} == set(leaves(command))


async def test_commands_are_hidden_from_members_and_from_direct_messages(world: World) -> None:
    assert_hidden(world, "encore")
    assert not any(name.startswith("encore") for name in world.alice.available_commands(world.general))
    assert any(name.startswith("encore") for name in world.moderator.available_commands(world.general))


@pytest.mark.parametrize(("command", "options"), COMMANDS, ids=[name for name, _ in COMMANDS])
async def test_member_who_was_shown_a_command_is_refused(world: World, command: str, options: dict[str, Any]) -> None:
    show_to_members(world, "encore")
    await assert_refused(world, await world.slash(world.alice, "general", f"encore {command}", **options))
    assert await settings(world) == ServerSettings()
    assert await world.store.free_channels(world.guild.id) == set()


async def test_member_who_was_shown_the_commands_is_offered_no_values(world: World) -> None:
    show_to_members(world, "encore")
    assert await world.autocomplete(world.alice, "general", "encore settings set", "value", "", name="seed") == []


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


# ---------------------------------------------------------------------- status and stats


async def test_status_names_the_adapter_and_the_canary_that_serve(tmp_path: Path) -> None:
    nightly = FakeNightly(tmp_path)
    async with live_world(tmp_path, nightly=nightly) as world:
        assert fields(await run(world, "encore status"))["Adapter"] == "2026-11-24-kto"
        nightly.serving = Serving("2026-11-24-kto", Canary("2026-11-25-sft", 0.5, 0.0))
        shown = fields(await run(world, "encore status"))["Adapter"]
    assert shown == "2026-11-24-kto; 2026-11-25-sft in 50% of the conversations"


async def test_status_tells_what_serves_and_where(world: World) -> None:
    await run(world, "encore channels add", where="stage")
    shown = fields(await run(world, "encore status"))
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
    await run(world, "encore pause")
    (embed,) = (await run(world, "encore status")).embeds
    assert embed.description == "Paused: I answer nobody until /encore resume."


async def test_stats_count_what_members_said(world: World) -> None:
    first, second = await a_reply(world, "one"), await a_reply(world, "two")
    await world.react(world.alice, first, "👍")
    await world.react(world.bob, first, "👎")
    shown = await press(world, world.bob, second, "down")
    await said(world, await world.submit_modal(world.bob, shown, {"reasons": ["boring"]}))
    await votes(world, first)
    assert fields(await run(world, "encore stats")) == {
        "Replies": "2",
        "Rated replies": "2 (100%)",
        "Raters": "2",
        "Votes up": "1",
        "Votes down": "2",
        "Comparisons": "0",
        "Corrections": "1",
    }


async def test_stats_of_a_new_server_are_zeros(world: World) -> None:
    shown = fields(await run(world, "encore stats"))
    assert set(shown.values()) == {"0"}


# ---------------------------------------------------------------------- pause


async def test_pause_silences_and_resume_wakes(world: World) -> None:
    assert "paused" in (await run(world, "encore pause")).content
    assert (await settings(world)).paused
    assert (await run(world, "encore pause")).content == "I am already paused."
    assert "awake" in (await run(world, "encore resume")).content
    assert not (await settings(world)).paused
    assert (await run(world, "encore resume")).content == "I am not paused."
    assert await audit(world) == [
        (world.moderator.id, "settings", {"paused": [True, False]}),
        (world.moderator.id, "settings", {"paused": [False, True]}),
    ]
