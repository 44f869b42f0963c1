"""What the tests of moderators' commands share."""

from __future__ import annotations

from typing import Any

from tests.cogs.commands import run
from tests.world import World


async def told(world: World, command: str, **options: Any) -> str:
    return str((await run(world, command, **options)).content)


async def unanswered(world: World, member: Any, text: str = "hello?") -> None:
    """Have a member talk to the bot, and see that nothing comes of it."""
    before = len(world.replies("general"))
    await world.ask(member, "general", text)
    await world.quiet()
    assert len(world.replies("general")) == before
