"""/encore settings emoji: which reactions count, and by how much."""

from __future__ import annotations

import pytest

from bot.records import DEFAULT_EMOJI, ServerSettings
from bot.server_options import EMOJI_LIMIT
from tests.cogs.commands import audit, fields, run, settings
from tests.cogs.rating import a_reply, votes
from tests.world import World


async def test_emoji_is_given_a_weight_and_counts_by_it(world: World) -> None:
    told = (await run(world, "encore settings emoji", emoji="🥦", weight=-2.0)).content
    assert told == "A reaction with 🥦 counts -2 from now on; votes given before stay as they are."
    assert (await settings(world)).emoji == {**DEFAULT_EMOJI, "🥦": -2.0}
    reply = await a_reply(world)
    await world.react(world.bob, reply, "🥦")
    assert await votes(world, reply) == {world.bob.id: ("reaction:🥦", -2.0)}
    ((actor, action, _),) = await audit(world)
    assert (actor, action) == (world.moderator.id, "settings")


async def test_emoji_is_taken_out_by_weight_zero_in_any_of_its_forms(world: World) -> None:
    for form, entry in (("👍🏽", "👍"), ("❤", "❤️")):
        assert "doesn't count any more" in (await run(world, "encore settings emoji", emoji=form, weight=0.0)).content
        assert entry not in (await settings(world)).emoji


async def test_emoji_of_the_server_is_known_by_its_id(world: World) -> None:
    emoji = world.guild.create_emoji("encore")
    await run(world, "encore settings emoji", emoji=f"<:encore:{emoji.id}>", weight=1.0)
    await run(world, "encore settings emoji", emoji=f"<a:renamed:{emoji.id}>", weight=3.0)
    table = (await settings(world)).emoji
    assert table == {**DEFAULT_EMOJI, f"renamed:{emoji.id}": 3.0}
    assert f"<:renamed:{emoji.id}> +3" in fields(await run(world, "encore settings show"))["Emoji that count"]


@pytest.mark.parametrize(
    "given", ["hello", ":)", "1", "👍 👎", "👍👎", "<@1>", "x👍", "@everyone", "👍" * 20, "!\ufe0f", "‼️‼️", "〰️👍"]
)
async def test_what_is_no_emoji_is_refused(world: World, given: str) -> None:
    told = (await run(world, "encore settings emoji", emoji=given, weight=1.0)).content
    assert "use one emoji" in told
    assert await settings(world) == ServerSettings()


@pytest.mark.parametrize(
    "given", ["1️⃣", "🏳️‍🌈", "👨‍👩‍👧‍👦", "🇩🇪", "🧑‍⚕️", "✔️", "㊗️", "‼️", "⁉️", "\u2139\ufe0f", "〰️", "〽️", "‼"]
)
async def test_emoji_of_every_kind_are_taken(world: World, given: str) -> None:
    await run(world, "encore settings emoji", emoji=given, weight=1.0)
    assert (await settings(world)).emoji[given] == 1.0


async def test_table_of_emoji_has_an_end(world: World) -> None:
    table = {chr(0x1F400 + n): 1.0 for n in range(EMOJI_LIMIT)}
    await world.store.change_server_settings(world.guild.id, 1, emoji=table)
    assert f"at most {EMOJI_LIMIT} emoji" in (await run(world, "encore settings emoji", emoji="🥦", weight=1.0)).content
    assert "counts +2" in (await run(world, "encore settings emoji", emoji=chr(0x1F400), weight=2.0)).content
