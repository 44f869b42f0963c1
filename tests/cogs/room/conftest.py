"""A world whose clock the tests of the rating room move, on a server of Discord's: its members have to agree."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bot.records import Provenance
from tests.cogs.room.turns import Clock, Turns
from tests.world import World, live_world


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def world(tmp_path: Path, clock: Clock) -> AsyncIterator[World]:
    async with live_world(tmp_path, clock=clock, provenance=Provenance.DISCORD) as world:
        yield world


@pytest.fixture
async def turns(world: World, clock: Clock) -> Turns:
    turns = Turns(world, clock)
    await turns.install()
    return turns
