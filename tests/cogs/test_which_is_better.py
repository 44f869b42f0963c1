"""Which of two versions of an answer members find better."""

from __future__ import annotations

from typing import Any

import pytest

from bot import ui
from bot.feedback_ui import OPTED_OUT
from bot.records import Preference
from bot.streaming import Controls
from tests.cogs.rating import a_reply, said
from tests.world import World


async def _pair(world: World) -> tuple[int, int, Any]:
    """Return two replies' ids and a message that asks which is better."""
    a = await world.reply_shown_by(await a_reply(world, "first"))
    b = await world.reply_shown_by(await a_reply(world, "second"))
    view: Any = ui.reply_view(b.id, Controls.FINISHED, compare_with=a.id)
    channel = world.bot.get_partial_messageable(world.stage.id, guild_id=world.guild.id)
    sent = await channel.send("which is better?", view=view)
    await world.store.attach_message(b.id, sent.id, 1)
    return a.id, b.id, world.replies("stage")[-1]


@pytest.mark.parametrize(
    ("choice", "told"),
    [
        ("a", "A, the one before, is better"),
        ("b", "B, this one, is better"),
        ("both", "both versions are good"),
        ("neither", "neither version is good"),
    ],
)
async def test_preference_is_kept_and_named(world: World, choice: str, told: str) -> None:
    a, b, question = await _pair(world)
    result = await world.answered(await world.click(world.bob, question, custom_id=f"encore:better:{a}:{b}:{choice}"))
    assert told in await said(world, result)
    assert await world.store.preferences(a, b) == {world.bob.id: Preference(choice)}


async def test_preference_can_be_changed_and_is_each_members_own(world: World) -> None:
    a, b, question = await _pair(world)
    for member, choice in ((world.bob, "a"), (world.alice, "b"), (world.bob, "neither")):
        await said(world, await world.click(member, question, custom_id=f"encore:better:{a}:{b}:{choice}"))
    assert await world.store.preferences(a, b) == {
        world.bob.id: Preference.NEITHER,
        world.alice.id: Preference.B,
    }


async def test_preference_of_who_opted_out_is_not_said_to_be_noted(world: World) -> None:
    a, b, question = await _pair(world)
    await world.store.opt_out(world.bob.id, True)
    result = await world.answered(await world.click(world.bob, question, custom_id=f"encore:better:{a}:{b}:a"))
    assert await said(world, result) == OPTED_OUT
    assert await world.store.preferences(a, b) == {}
