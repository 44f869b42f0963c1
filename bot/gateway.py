"""Run a built bot on the real Discord, and say in one sentence why it can't start there or had to end.

Knows Discord's refusals; what the bot does is none of its business.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import aiohttp
import discord

from bot.errors import StartError

if TYPE_CHECKING:
    from bot.client import EncoreBot

log = logging.getLogger(__name__)

_PORTAL = "https://discord.com/developers/applications"
_TOKEN_REFUSED = 4004  # close code of the gateway, after a token was reset while the bot ran


async def run(bot: EncoreBot, token: str) -> None:
    """Log in and stay connected until the bot is closed or this task is cancelled; then close the bot in order.

    Raises StartError.
    """

    async def tell_ready() -> None:
        log.info("ready as %s in %d servers", bot.user, len(bot.guilds))

    bot.add_listener(tell_ready, "on_ready")
    try:
        async with bot:
            await bot.start(token)
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


def _refused_token() -> str:
    return (
        f"Discord refused the bot token: press Bot > Reset Token on {_PORTAL} and put the new one into DISCORD_TOKEN."
    )
