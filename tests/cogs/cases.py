"""The moderators' queue in tests: reports, the cards of cases, and their buttons."""

from __future__ import annotations

from typing import Any

from tests.cogs.commands import run
from tests.cogs.rating import a_reply, said
from tests.world import World


async def report(world: World, message: Any, reason: str = "that is rude", *, by: Any = None) -> str:
    """Report a reply with the command and return what the member is told."""
    return str((await run(world, "report", by=by or world.bob, message=str(message), reason=reason)).content)


async def card(world: World, *, count: int = 1) -> Any:
    """Return the newest card in the moderators' channel."""
    cards = await world.eventually(lambda: [m for m in world.replies("mod-room") if m.embeds][count - 1 :])
    return cards[-1]


async def a_case(world: World) -> Any:
    """Have bob report a reply to alice; return its card."""
    await report(world, (await a_reply(world)).id)
    return await card(world)


async def decide(world: World, shown: Any, action: str, *, by: Any = None) -> str:
    """Press a button of a case and return what the moderator is told."""
    custom_id = next(name for name in world.custom_ids(shown) if name.startswith(f"encore:case:{action}:"))
    result = await world.answered(await world.click(by or world.moderator, shown, custom_id=custom_id))
    return await said(world, result)


async def asked_to_delete(world: World, shown: Any) -> Any:
    """Press a case's "Delete it" and return the question that the moderator is asked."""
    custom_id = next(name for name in world.custom_ids(shown) if name.startswith("encore:case:delete:"))
    result = await world.answered(await world.click(world.moderator, shown, custom_id=custom_id))
    (question,) = await world.eventually(lambda: [m for m in (result.response, *result.followups) if m and m.content])
    assert "can't be undone" in question.content
    return question


async def delete_members(world: World, shown: Any) -> str:
    """Delete a case's message of a member, and return what became of it."""
    question = await asked_to_delete(world, shown)
    await world.click(world.moderator, question, label="Delete it")
    await world.eventually(lambda: "undone" not in question.content and question.content != "One moment ...")
    return str(question.content)


async def open_count(world: World) -> int:
    return (await world.store.open_cases(world.guild.id, 1))[1]
