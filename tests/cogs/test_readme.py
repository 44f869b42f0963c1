"""The README's table of slash commands is the bot's."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from tests.cogs.commands import leaves
from tests.cogs.nights import FakeNightly
from tests.world import live_world

README = (Path(__file__).resolve().parents[2] / "README.md").read_text("utf-8")


def _documented() -> Iterator[str]:
    """Yield the commands of the table; "`/room start`, `stop`" are two."""
    for cell in re.findall(r"^\| (`/.+?) \|", README, re.MULTILINE):
        group = ""
        for name in re.findall(r"`(.+?)`", cell):
            if name.startswith("/"):
                group = name[1:].rpartition(" ")[0]
            yield name[1:] if name.startswith("/") else f"{group} {name}"


async def test_readme_lists_every_slash_command(tmp_path: Path) -> None:
    async with live_world(tmp_path, nightly=FakeNightly(tmp_path)) as world:
        groups = [command.to_dict(world.bot.tree) for command in world.bot.tree.get_commands()]
    slash = [name for group in groups if group["type"] == 1 for name in leaves(group)]
    assert sorted(_documented()) == sorted(slash)
