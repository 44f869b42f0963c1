"""What the tests of the rating room share: its clock, its turns, and what moderators and members do and see there."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from bot.learning_records import RatingRoom
from bot.records import Reply
from bot.room import Rooms
from cogs.room import Room
from tests.cogs.commands import run
from tests.cogs.nights import Steps
from tests.world import World

CLOCK = 60.0  # what the room's clock sleeps
DAY = 86_400.0


class Clock:
    """Time as the store and the rooms see it: `ahead` seconds before everyone else's."""

    ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


class Turns:
    """A room whose clock ticks when the test says so."""

    def __init__(self, world: World, clock: Clock) -> None:
        self.world = world
        self.clock = clock
        self.steps = Steps()

    async def install(self) -> None:
        bot = self.world.bot
        await bot.remove_cog("Room")
        bot.tree.remove_command("room")
        self.steps = Steps()
        await bot.add_cog(Room(bot, rooms=Rooms(self.world.store, clock=self.clock), sleep=self.steps))

    async def tick(self, *, ahead: float = 0.0) -> None:
        """Let some time go by, and the room do what it does then."""
        self.clock.ahead += ahead
        await self.world.eventually(lambda: self.steps.waits(CLOCK))
        self.steps.let_go(CLOCK)
        await asyncio.sleep(0)
        await self.world.eventually(lambda: self.steps.waits(CLOCK))

    async def restart(self) -> None:
        await self.world.restart()
        await self.install()


async def bring(world: World, *prompts: str) -> None:
    """Import prompts, as the operator does."""
    await world.store.add_prompts((text, "en") for text in prompts)


async def start(world: World, **options: Any) -> str:
    return str((await run(world, "room start", channel=world.stage, **options)).content)


async def schedule(world: World) -> str:
    return str((await run(world, "room schedule")).content)


def posted(world: World, where: Any = "stage") -> list[str]:
    """Return the prompts that stand in the room."""
    return [message.content for message in world.replies(where) if "For you to rate" in message.content]


async def reply_to(world: World, prompt: int = 0) -> Reply:
    """Return the stored reply to a prompt that stands in the room, by its place there."""
    messages = [message for message in world.replies("stage") if "For you to rate" not in message.content]
    return await world.reply_shown_by(messages[prompt])


async def the_room(world: World) -> RatingRoom | None:
    return await world.store.rating_room(world.guild.id)
