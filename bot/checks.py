"""Who may do what, checked in code: Discord's default permissions only hide a command.

Knows permissions alone; what a refusal looks like is in error_handler.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from discord import app_commands

if TYPE_CHECKING:
    import discord


class NotModerator(app_commands.CheckFailure):
    """Someone without the permission called a moderators' command; `str()` is fit for them."""

    def __init__(self) -> None:
        super().__init__("Only members who may manage this server can use this command.")


def is_moderator(interaction: discord.Interaction[Any]) -> bool:
    """Return whether whoever acts may manage the server; nobody is a moderator in direct messages."""
    permissions = interaction.permissions
    return interaction.guild_id is not None and (permissions.manage_guild or permissions.administrator)


def may_steer(interaction: discord.Interaction[Any], asker_id: int) -> bool:
    """Return whether whoever acts may stop or regenerate a reply: the asker, or who may manage messages there."""
    return interaction.user.id == asker_id or (
        interaction.guild_id is not None and interaction.permissions.manage_messages
    )
