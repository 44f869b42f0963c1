"""A world whose nights do as the test says, and whose clock goes on when it says so."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.cogs.nights import FakeNightly, Steps, night_world
from tests.world import World


@pytest.fixture
def nightly(tmp_path: Path) -> FakeNightly:
    return FakeNightly(tmp_path)


@pytest.fixture
def steps() -> Steps:
    return Steps()


@pytest.fixture
async def world(tmp_path: Path, nightly: FakeNightly, steps: Steps) -> AsyncIterator[World]:
    async with night_world(tmp_path, nightly, steps) as world:
        yield world
