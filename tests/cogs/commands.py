"""Slash commands of moderators, as the cog tests use them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import discord

from bot.checks import NotModerator
from bot.records import ServerSettings
from tests.cogs.rating import said
from tests.world import World


async def run(world: World, command: str, *, by: Any = None, where: Any = "general", **options: Any) -> Any:
    """Run a command as a moderator and return its one answer, which only they see."""
    result = await world.slash(by or world.moderator, where, command, **options)
    found = await world.eventually(lambda: [m for m in (result.response, *result.followups) if m and _filled(m)])
    assert [message.ephemeral for message in found] == [True]
    callbacks = [r.json for r in world.env.http_requests if f"/interactions/{result._interaction.id}/" in r.path]
    assert callbacks == [{"type": 5, "data": {"flags": 64}}], "deferred, for the asker's eyes, before anything else"
    return found[0]


def _filled(message: Any) -> bool:
    return bool(message.content or message.embeds)


def embed_of(message: Any) -> discord.Embed:
    """Return the one embed of a stored message or of an answer."""
    (embed,) = message.embeds
    return embed if isinstance(embed, discord.Embed) else discord.Embed.from_dict(embed)


def fields(message: Any) -> dict[str, str]:
    return {str(field.name): str(field.value) for field in embed_of(message).fields}


def show_to_members(world: World, command: str, *, kind: int = 1) -> Any:
    """Grant alice a command in the server's integration settings, which overrides its default permissions."""
    found = world.backend.find_command(command, world.guild.id, type=kind)
    assert found is not None
    world.guild.set_command_permissions(int(found["id"]), {world.alice: True})
    return found


async def assert_refused(world: World, result: Any) -> None:
    """Assert that a member was told no, in words, and that nothing is in the audit."""
    assert await said(world, await world.answered(result)) == (
        "Only members who may manage this server can use this command."
    )
    assert [type(error) for error in world.errors] == [NotModerator]
    world.env._errors.clear()  # SimCord keeps refusals among what handlers raised
    world.env._error_ids.clear()  # the next one may have the id of this one, which is gone
    assert await audit(world) == []


def assert_hidden(world: World, command: str, *, kind: int = 1) -> None:
    """Assert that a command needs Manage Server by default and isn't offered in direct messages."""
    found = world.backend.find_command(command, world.guild.id, type=kind)
    assert found is not None
    assert int(found["default_member_permissions"]) == discord.Permissions(manage_guild=True).value
    assert found["contexts"] == [0] or found["dm_permission"] is False


def leaves(command: dict[str, Any], path: str = "") -> Iterator[str]:
    """Yield the full names of a command's own commands."""
    nested = [option for option in command.get("options", ()) if option["type"] in (1, 2)]
    name = f"{path} {command['name']}".strip()
    if not nested:
        yield name
    for option in nested:
        yield from leaves(option, name)


def words(command: dict[str, Any]) -> Iterator[str]:
    """Yield every description that a command and its options show."""
    yield command["description"]
    for option in command.get("options", ()):
        yield from words(option)


async def settings(world: World) -> ServerSettings:
    return await world.store.server_settings(world.guild.id)


async def audit(world: World) -> list[tuple[int, str, dict[str, Any]]]:
    entries = await world.store.audit(world.guild.id, 10)
    return [(entry.actor_id, entry.action, entry.detail) for entry in entries]
