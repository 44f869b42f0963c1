"""Who may do what, checked in code: Discord's default permissions only hide a command.

Knows permissions alone; what a refusal looks like is in error_handler.
"""

from __future__ import annotations

from typing import Any

import discord
from discord import app_commands

Talkable = discord.TextChannel | discord.VoiceChannel | discord.Thread  # where the bot can talk to several members


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


def missing_to_talk(place: Talkable) -> str:
    """Name the permissions that the bot needs in a channel to talk there and lacks, empty when it has them."""
    return _named(_to_talk(place))


def missing_to_report(place: Talkable) -> str:
    """Name the permissions that the bot needs in a channel to report there, with pictures and files, and lacks."""
    has = place.permissions_for(place.guild.me)
    return _named({**_to_talk(place), "Embed Links": has.embed_links, "Attach Files": has.attach_files})


def _to_talk(place: Talkable) -> dict[str, bool]:
    has = place.permissions_for(place.guild.me)
    sends = has.send_messages_in_threads if isinstance(place, discord.Thread) else has.send_messages
    return {
        "View Channel": has.view_channel,
        "Send Messages in Threads" if isinstance(place, discord.Thread) else "Send Messages": sends,
        "Read Message History": has.read_message_history,
    }


def _named(permissions: dict[str, bool]) -> str:
    return " and ".join(name for name, granted in permissions.items() if not granted)
