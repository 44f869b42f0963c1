"""Direct messages, where no moderator is: the operator's bans and quotas, and whom a report goes to."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from bot.settings import Settings
from tests.cogs.test_chat_buttons import refused
from tests.world import World, live_world


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with live_world(tmp_path) as world:
        yield world


async def told(world: World, result: Any) -> str:
    answered = await world.answered(result)
    found = await world.eventually(lambda: [m for m in (answered.response, *answered.followups) if m and m.content])
    return str(found[-1].content)


async def test_member_whom_the_operator_banned_is_answered_nowhere(world: World) -> None:
    await world.dm(world.alice, "hello")
    [before] = await world.answered_in(world.dm_channel(world.alice))
    await world.restart(banned_members=frozenset({world.alice.id}))
    await world.dm(world.alice, "and now?")
    await world.ask(world.alice, "general", "and here?")
    assert "has muted you for me" in await refused(world, world.alice, before, "Regenerate")
    await world.dm(world.bob, "me?")
    await world.answered_in(world.dm_channel(world.bob))
    assert len(world.replies(world.dm_channel(world.alice))) == 1 and world.replies("general") == []
    await world.restart(banned_members=frozenset())
    await world.dm(world.alice, "thank you")
    await world.answered_in(world.dm_channel(world.alice), 2)


async def test_direct_messages_have_the_quotas_of_the_settings(world: World) -> None:
    await world.restart(dm_messages_per_day=1)
    await world.dm(world.alice, "one")
    await world.dm(world.alice, "two")
    shown = [message.content for message in await world.answered_in(world.dm_channel(world.alice), 2)]
    assert sum("all of your answers for today" in content for content in shown) == 1
    await world.ask(world.alice, "general", "three")
    assert [message.content for message in await world.answered_in("general")] == ["three"]


async def test_direct_messages_have_no_limit_where_the_settings_say_so(world: World) -> None:
    await world.restart(dm_messages_per_minute=0, dm_messages_per_day=0, dm_tokens_per_day=0)
    for number in range(12):
        await world.dm(world.alice, f"number {number}")
        await world.answered_in(world.dm_channel(world.alice), number + 1)
    assert not any("-#" in message.content for message in world.replies(world.dm_channel(world.alice)))


async def test_report_of_a_direct_message_says_whom_to_tell(world: World) -> None:
    await world.dm(world.alice, "hello")
    place = world.dm_channel(world.alice)
    [reply] = await world.answered_in(place)
    for contact, told_of in (("", "a moderator of a server that we share"), ("dpo@example.org", "dpo@example.org")):
        await world.restart(privacy_contact=contact)
        answer = await told(
            world, await world.slash(world.alice, place, "report", message=str(reply.id), reason="rude")
        )
        assert f"Direct messages have no moderators: tell {told_of}, who" in answer
    assert (await world.store.open_cases(0, 1))[1] == 0


def test_privacy_says_whom_to_tell_of_a_direct_message() -> None:
    from bot.privacy.notice import privacy_text

    assert "Direct messages have none: there, tell who answers for me" in privacy_text(Settings(), model="m")
