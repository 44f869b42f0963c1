"""A reply on Discord: sends and edits its messages, and says in the responder's words why one could not be.

Knows one channel and one ask; when and what to send is decided by `streaming`.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import aiohttp
import discord

from bot import ui
from bot.streaming import SurfaceBusy, SurfaceGone

if TYPE_CHECKING:
    from bot.records import Ask
    from bot.streaming import Controls

log = logging.getLogger(__name__)

_TOO_MANY_REQUESTS = 429


class DiscordSurface:
    """Shows one reply. The first message answers `reply_to` visibly (None: it stands by itself), further parts follow.

    `compare_with` is the earlier version that a finished regeneration is compared with. `is_unwanted` is asked before
    the first message: a question can be deleted while its answer is still being claimed, when there is none to stop.
    """

    def __init__(
        self,
        channel: discord.PartialMessageable,
        ask: Ask,
        *,
        reply_to: int | None,
        compare_with: int | None = None,
        is_unwanted: Callable[[], bool] = lambda: False,
    ) -> None:
        self._channel = channel
        self._ask = ask
        self._reply_to = reply_to
        self._compare_with = compare_with
        self._is_unwanted = is_unwanted

    async def send(self, content: str, *, part: int, reply_id: int, controls: Controls) -> int:
        if part == 0 and self._is_unwanted():
            raise SurfaceGone("the message that it answers was deleted")
        view = ui.reply_view(reply_id, controls, compare_with=self._compare_with)
        with _told():
            message = await self._channel.send(
                content,
                reference=self._reference() if part == 0 else None,  # type: ignore[arg-type]  # None is no reference
                mention_author=False,
                allowed_mentions=discord.AllowedMentions.none(),
                suppress_embeds=True,
                view=view,  # type: ignore[arg-type]  # None is no view
                # Discord makes no second message of one nonce for some minutes: a part that was sent by a process
                # killed before it could note so, or whose answer was lost, is not sent again.
                nonce=f"{self._ask.asked_message_id}.{self._ask.variant}.{part}"[:25],
            )
        if message.content.strip() != content.strip():  # Discord gave back the one that was sent before
            await self.edit(message.id, content, reply_id=reply_id, controls=controls)
        return message.id

    async def edit(self, message_id: int, content: str, *, reply_id: int, controls: Controls) -> None:
        view = ui.reply_view(reply_id, controls, compare_with=self._compare_with)
        with _told():
            await self._channel.get_partial_message(message_id).edit(
                content=content, view=view, allowed_mentions=discord.AllowedMentions.none()
            )

    async def typing(self) -> None:
        with _told():
            await self._channel.typing()

    def _reference(self) -> discord.MessageReference | None:
        if self._reply_to is None:
            return None
        return discord.MessageReference(
            message_id=self._reply_to,
            channel_id=self._channel.id,
            guild_id=self._ask.guild_id,
            fail_if_not_exists=False,
        )


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Turn Discord's refusals into SurfaceGone, for good, and SurfaceBusy, for now."""
    try:
        yield
    except (discord.NotFound, discord.Forbidden) as error:
        raise SurfaceGone(str(error)) from error
    except discord.RateLimited as error:
        raise SurfaceBusy(str(error)) from error
    except discord.HTTPException as error:
        if error.status == _TOO_MANY_REQUESTS or error.status >= 500:
            raise SurfaceBusy(str(error)) from error
        # A request that Discord calls wrong stays wrong (an archived thread, a word its filter blocks).
        log.warning("Discord refused a message for good: %s", error)
        raise SurfaceGone(str(error)) from error
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise SurfaceBusy(str(error)) from error
