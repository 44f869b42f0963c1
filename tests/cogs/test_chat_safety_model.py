"""The operator's own classifier, a real transformers model in a process of its own, in the path of the talk."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bot.screening import Screening
from models.safety_process import ProcessClassifier, open_classifier
from tests.bot.test_screening import HATEFUL
from tests.cogs.nights import choose_mod_room
from tests.models.tiny_classifier import write_tiny_classifier
from tests.world import World, live_world

REFUSED = "-# I don't answer this: this server's rules do not allow it."


@pytest.fixture(scope="module")
def safety_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A classifier that has learned what Encore's own doesn't find: that "bad" is hate."""
    taught = {"you are bad": "hate", "bad": "hate", "are you bad": "hate", "you are kind": "fine", "a b c": "fine"}
    return write_tiny_classifier(tmp_path_factory.mktemp("tiny"), ["fine", "hate"], taught=taught)


@pytest.fixture
async def classifier(safety_model: str) -> AsyncIterator[ProcessClassifier]:
    async with open_classifier(safety_model) as classifier:
        assert isinstance(classifier, ProcessClassifier)
        yield classifier


async def ready(classifier: ProcessClassifier) -> None:
    async with asyncio.timeout(120):
        await classifier.ready()


def process_of(safety_model: str) -> int:
    """Return the id of the process that has the classifier."""
    for line in Path("/proc").glob("[0-9]*/cmdline"):
        if line.read_bytes().endswith(f"models.safety_worker\0{safety_model}\0".encode()):
            return int(line.parent.name)
    raise AssertionError("it doesn't run")


async def ask(world: World, text: str) -> str:
    """Ask as Alice and return what stands below it."""
    before = len(world.replies("general"))
    await world.ask(world.alice, "general", text)
    return str((await world.answered_in("general", before + 1))[-1].content)


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds the process by /proc")
async def test_marked_text_is_hidden_and_a_killed_classifier_loses_no_message(
    tmp_path: Path, classifier: ProcessClassifier, safety_model: str
) -> None:
    async with live_world(tmp_path, screening=Screening(classifier)) as world:
        await choose_mod_room(world)
        assert await ask(world, "you are bad") == "you are bad", "it is still starting, and Encore's own knows no harm"
        await ready(classifier)
        assert await ask(world, "you are bad") == REFUSED
        [card] = await world.eventually(lambda: [m for m in world.replies("mod-room") if m.embeds])
        assert "Found in their message: hate" in str(card.embeds[0]["description"])
        assert await ask(world, "you are kind") == "you are kind"
        world.engine.says = "you are kind. you are bad."
        assert (await ask(world, "a b c")).startswith("you are kind.\n-# The rest is left out")
        world.engine.says = None

        os.kill(process_of(safety_model), signal.SIGKILL)
        assert await ask(world, "you are bad") == "you are bad", "it is answered by Encore's own, not lost"
        assert await ask(world, HATEFUL[0]) == REFUSED, "which screens meanwhile"
        await ready(classifier)
        assert await ask(world, "you are bad") == REFUSED
