"""What a member sees when something breaks: one sentence and a reference. The log has the rest.

Covers app commands and gateway events; a reply's own failures are told by the responder.
"""

from __future__ import annotations

import logging
import secrets
from typing import Any

import aiohttp
import discord
from discord import app_commands

from bot.errors import EncoreError, StoreError, StoreRefused

log = logging.getLogger(__name__)


class CommandTree(app_commands.CommandTree[Any]):
    """A command tree whose errors end in one ephemeral sentence."""

    async def on_error(self, interaction: discord.Interaction[Any], error: app_commands.AppCommandError, /) -> None:
        name = interaction.command.qualified_name if interaction.command else "a command"
        await tell(interaction, sentence(error, f"/{name}"))


def sentence(error: BaseException, what: str) -> str:
    """Return what to tell whoever used `what`; an unforeseen error is logged under the reference it returns."""
    if isinstance(error, app_commands.CommandInvokeError):
        error = error.original
    match error:
        case app_commands.MissingPermissions():
            return "You don't have the permission for this."
        case app_commands.BotMissingPermissions():
            return f"I lack a permission here: {', '.join(error.missing_permissions).replace('_', ' ')}."
        case app_commands.CommandOnCooldown():
            return f"Please wait {error.retry_after:.0f} seconds before you use this again."
        case app_commands.NoPrivateMessage():
            return "This works in a server only."
        case app_commands.CheckFailure():
            return str(error) or "You may not use this."
        case app_commands.CommandNotFound() | app_commands.CommandSignatureMismatch():
            return "This command has changed; try again in a minute."
        case EncoreError() if not isinstance(error, StoreError):  # a StoreError names the operator's files
            log.warning("%s: %s", what, error)
            return str(error)
    reference = secrets.token_hex(4)
    foreseen = isinstance(error, StoreError) and not isinstance(error, StoreRefused)  # locked, full or damaged
    log.error("%s failed (reference %s): %s", what, reference, error, exc_info=None if foreseen else error)
    if isinstance(error, StoreError):
        return f"I can't write to my memory right now; please try again in a moment (reference {reference})."
    return f"That did not work; please try again (reference {reference})."


async def tell(interaction: discord.Interaction[Any], text: str) -> None:
    """Answer an interaction for the member's eyes only, whether it was answered before or not."""
    try:
        if interaction.response.is_done():
            await interaction.followup.send(text, ephemeral=True)
        else:
            await interaction.response.send_message(text, ephemeral=True)
    except (discord.HTTPException, aiohttp.ClientError, OSError) as error:
        # The interaction expired or Discord is down: nobody is left to tell.
        log.warning("an answer to an interaction was lost: %s", error)


async def press(interaction: discord.Interaction[Any], what: str, error: Exception) -> None:
    """Tell who pressed a button or sent a modal that it failed: discord.py would only log it."""
    await tell(interaction, sentence(error, what))
