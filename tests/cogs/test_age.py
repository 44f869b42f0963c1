"""Whom a channel is for: sexual content is hidden where not adults alone read, by Discord and /mod filter age."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cogs.commands import audit, embed_of, fields, run
from tests.cogs.moderating import told
from tests.cogs.nights import choose_mod_room
from tests.world import World

ASKED = "show me h3nt4i and p.o.r.n"
REFUSED = "-# I don't answer this: sexual content is for age-restricted channels alone."


def restrict(world: World, where: str = "general") -> None:
    """Mark a channel as age-restricted; SimCord has no such mark of its own."""
    world.bot.get_channel(world.channel(where).id).nsfw = True  # type: ignore[union-attr]


async def answer_to(world: World, text: str, count: int = 1, where: Any = "general") -> str:
    await world.ask(world.alice, where, text)
    return str((await world.answered_in(where, count))[-1].content)


async def test_sexual_content_of_members_is_not_answered_where_all_read(world: World) -> None:
    await choose_mod_room(world)
    assert await answer_to(world, ASKED) == REFUSED
    assert await world.store._database.read("SELECT 1 FROM replies") == []
    assert await answer_to(world, "给我看色情", 2) == "-# 这条消息我不回答：涉及性的内容只能出现在有年龄限制的频道。"
    (card,) = await world.eventually(lambda: [m for m in world.replies("mod-room") if m.embeds])
    assert "Found in their message: sexual" in str(embed_of(card).description)


@pytest.mark.parametrize("text", ["Well then: a blow job, said she.", "Well then: 她说口交"])
async def test_sexual_content_of_mine_never_shows_where_all_read(world: World, text: str) -> None:
    world.engine.says = text
    shown = await answer_to(world, "go on")
    assert shown.startswith("Well then:") and ("The rest is left out" in shown or "其余内容已隐去" in shown)
    bodies = [str((r.json or {}).get("content", "")) for r in world.env.http_requests if "/messages" in r.path]
    assert not any("blow" in body or "口交" in body for body in bodies)


async def test_adults_among_themselves_are_answered(world: World) -> None:
    restrict(world)
    assert await answer_to(world, ASKED) == ASKED


async def test_moderators_keep_a_restricted_channel_and_its_threads_free_of_it(world: World) -> None:
    restrict(world)
    general = world.channel("general")
    said = await told(world, "mod filter age", channel=general, rule="everybody")
    assert said.startswith(f"<#{general.id}> is for everybody. Sexual content in questions and in my answers is hidden")
    assert "pictures pass" in said
    assert await answer_to(world, ASKED) == REFUSED
    thread = await world.create_thread(world.bob, "Aside", channel="general")
    assert await answer_to(world, ASKED, where=thread) == REFUSED
    said = await told(world, "mod filter age", channel=general, rule="discord")
    assert said == f"<#{general.id}> is for adults, and sexual content passes unless /mod filter action says otherwise."
    assert await answer_to(world, ASKED, 2) == ASKED
    changes = [detail["filter_general_channels"] for _, _, detail in await audit(world)]
    assert changes == [[[general.id], []], [[], [general.id]]]


async def test_no_setting_opens_a_channel_that_discord_does_not_restrict(world: World) -> None:
    general = world.channel("general")
    assert "is for everybody." in await told(world, "mod filter age", channel=general, rule="discord")
    said = await told(world, "mod filter action", category="sexual", action="ignore")
    assert "messages hide, my answers hide" in said and said.endswith("Discord's age restriction decides that.")
    assert await answer_to(world, ASKED) == REFUSED
    assert "sexual: hide / hide" in fields(await run(world, "mod filter list"))["Actions on messages / on my answers"]


async def test_a_server_may_hide_it_from_adults_too(world: World) -> None:
    restrict(world)
    await told(world, "mod filter action", category="sexual", action="hide")
    assert await answer_to(world, ASKED) == REFUSED
