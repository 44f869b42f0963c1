"""Run a built bot on the real Discord, and say in one sentence why it can't start there or had to end.

Knows Discord's refusals; what the bot does is none of its business.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

import aiohttp
import discord

from bot.errors import StartError

if TYPE_CHECKING:
    from bot.client import EncoreBot

log = logging.getLogger(__name__)

_PORTAL = "https://discord.com/developers/applications"
_TOKEN_REFUSED = 4004  # close code of the gateway, after a token was reset while the bot ran
_LONGEST_WAIT_SECONDS = 60.0
_PATIENCE_SECONDS = 120.0  # with an address set by hand where nothing listens; a proxy may start after Encore


async def run(
    bot: EncoreBot, token: str, *, patience_seconds: float = _PATIENCE_SECONDS, first_wait_seconds: float = 1.0
) -> None:
    """Log in and stay connected until the bot is closed or this task is cancelled; then close the bot in order.

    A gateway that fails is tried again, for ever: it is down. Only DISCORD_GATEWAY may be wrong, so where nothing
    listens there, the trying ends after `patience_seconds`. Raises StartError.
    """

    async def tell_ready() -> None:
        log.info("ready as %s in %d servers", bot.user, len(bot.guilds))

    bot.add_listener(tell_ready, "on_ready")
    try:
        async with bot:
            await bot.login(token)
            await _connect(bot, patience_seconds, first_wait_seconds)
    except discord.LoginFailure:
        raise StartError(_refused_token()) from None
    except discord.PrivilegedIntentsRequired:
        raise StartError(
            "Discord refused the message-content intent: switch on Message Content Intent under Bot on "
            f"{_PORTAL}, or set MESSAGE_CONTENT_INTENT=false."
        ) from None
    except discord.ConnectionClosed as error:
        if error.code == _TOKEN_REFUSED:
            raise StartError(_refused_token()) from error
        raise StartError(f"Discord ended the connection for good (code {error.code}): start Encore again.") from error
    except (discord.HTTPException, discord.GatewayNotFound) as error:
        raise StartError(
            f"Discord could not be used ({error}): try again in some minutes, and see https://discordstatus.com."
        ) from error
    except (aiohttp.ClientError, OSError) as error:
        raise StartError(
            f"Discord could not be reached ({type(error).__name__}): check the network, "
            "and DISCORD_API_BASE and DISCORD_GATEWAY if they are set."
        ) from error


async def _connect(bot: EncoreBot, patience_seconds: float, wait_seconds: float) -> None:
    """Stay connected, the first connection tried again until it is there."""
    since = time.monotonic()
    while True:
        try:
            return await bot.connect()
        except AttributeError as error:
            # discord.py goes on with what the connection knew, and breaks when the first one never was.
            why = error.__context__
            if bot.ws is not None or why is None:
                raise
        address = bot.settings.discord_gateway
        if not (address and isinstance(why, aiohttp.ClientConnectorError)):
            since = time.monotonic()  # Discord's own, or somebody answers there
        elif time.monotonic() - since >= patience_seconds:
            raise StartError(
                f"DISCORD_GATEWAY: {address} can't be reached ({why}); correct it, or leave it empty for Discord's own."
            ) from why
        log.warning("the gateway can't be used yet (%s); trying again in %.0f s", type(why).__name__, wait_seconds)
        await asyncio.sleep(wait_seconds)
        wait_seconds = min(2 * wait_seconds, _LONGEST_WAIT_SECONDS)


def _refused_token() -> str:
    return (
        f"Discord refused the bot token: press Bot > Reset Token on {_PORTAL} and put the new one into DISCORD_TOKEN."
    )
