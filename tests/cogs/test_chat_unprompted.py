"""The character speaks up by itself, where and as often as moderators let it."""

from __future__ import annotations

import random
from pathlib import Path

from tests.world import live_world


class AlwaysDraws(random.Random):
    """Draws one number for ever."""

    def __init__(self, number: float) -> None:
        super().__init__()
        self._number = number

    def random(self) -> float:
        return self._number


async def test_unprompted_talk_is_off_by_default(tmp_path: Path) -> None:
    async with live_world(tmp_path, draw=AlwaysDraws(0.0)) as world:
        await world.say(world.alice, "general", "just talking")
        await world.quiet()
        assert world.replies("general") == []


async def test_unprompted_talk_keeps_to_one_channel_and_gets_rarer_until_someone_answers(tmp_path: Path) -> None:
    async with live_world(tmp_path, draw=AlwaysDraws(0.3)) as world:
        await world.store.change_server_settings(
            world.guild.id, world.moderator.id, unprompted_chance=0.5, unprompted_channel_id=world.stage.id
        )
        await world.say(world.alice, "general", "not here")
        await world.say(world.alice, "stage", "one")  # 0.3 < 0.5
        await world.answered_in("stage", 1)
        await world.say(world.alice, "stage", "two")  # 0.3 > 0.25
        await world.quiet()
        assert len(world.replies("stage")) == 1
        assert world.replies("general") == []
        await world.ask(world.alice, "stage", "nice of you")
        await world.answered_in("stage", 2)
        await world.say(world.alice, "stage", "three")
        await world.answered_in("stage", 3)
