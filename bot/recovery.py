"""Replies that the last process left unfinished: each is finished, answered now, or marked as interrupted.

Runs once a start. Nothing is answered twice: a reply that shows anywhere is only ever completed or marked. Messages
that mentioned the bot while it was away were never claimed and are not answered: nobody wants last night's answers now.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

import aiohttp
import discord

from bot import text, ui
from bot.answer import CUT_NOTE
from bot.errors import StoreError
from bot.moderation import advice
from bot.moderation.guard import left_out
from bot.records import Outcome, Provenance, Reply, ReplyState
from bot.streaming import CURSOR, Controls, SurfaceBusy, SurfaceGone
from bot.surface import DiscordSurface
from models.types import FinishReason

if TYPE_CHECKING:
    from bot.gate import Reading
    from bot.history import Histories
    from bot.records import Ask, ServerSettings, UnfinishedReply
    from bot.responder import Responder
    from bot.store import Store

log = logging.getLogger(__name__)

INTERRUPTED_NOTE = "I was restarted while writing this; ask me again or press regenerate."
ANSWER_LATE_SECONDS = 15 * 60.0
_LOOKED_THROUGH = 100  # messages after the asked one among which one that was sent but not noted is looked for
_CURSOR = re.compile(rf"{CURSOR}(?=(?:\n```)?\Z)")  # a code block under way is closed behind it
_RETRY_SECONDS = (1.0, 2.0, 4.0, 8.0)

Read: TypeAlias = "Callable[[Ask, discord.Message, ServerSettings], Awaitable[Reading]]"  # by a server's rules


class Recovery:
    """Deal with unfinished replies: first those that show somewhere, then those to answer now, all at once."""

    def __init__(
        self, client: discord.Client, store: Store, responder: Responder, histories: Histories, *, read: Read
    ) -> None:
        self._client = client
        self._store = store
        self._responder = responder
        self._histories = histories
        self._read = read

    async def run(self, unfinished: Sequence[UnfinishedReply]) -> None:
        """Deal with each; one that fails is logged and left for the next start."""
        unshown = [reply for left in unfinished if (reply := await self._guarded(left.id, self._settle)) is not None]
        await asyncio.gather(*(self._guarded(reply.id, self._answer_late) for reply in unshown))

    async def _guarded(self, reply_id: int, step: Callable[[Reply], Awaitable[Reply | None]]) -> Reply | None:
        try:
            reply = await self._store.reply(reply_id)
            if reply is None:
                return None
            try:
                return await step(reply)
            except (SurfaceGone, discord.NotFound, discord.Forbidden):
                await self._interrupt(reply, "")  # nothing can be shown there any more
        except (StoreError, SurfaceBusy, discord.HTTPException, aiohttp.ClientError, OSError) as error:
            log.warning("reply %s stays unfinished until the next start: %s", reply_id, error)
        except Exception:
            log.exception("reply %s could not be recovered", reply_id)
        return None

    async def _settle(self, reply: Reply) -> Reply | None:
        """Finish or mark what shows or was generated to its end; return the reply when neither is so.

        In a locked server nothing more of a reply shows than did before: its rest is given up.
        """
        channel = self._channel(reply)
        reply = await self._adopt(channel, reply)
        if (await self._store.server_settings(reply.ask.guild_id)).locked:
            shown = replace(reply, outcome=None)
            await (self._mark(channel, shown) if reply.message_ids else self._interrupt(shown, ""))
            return None
        if reply.outcome is not None and (text.visible(reply.outcome.completion) or reply.outcome.hidden_for):
            await self._complete(channel, reply, reply.outcome)
        elif reply.message_ids:
            await self._mark(channel, reply)
        else:
            return reply
        return None

    async def _adopt(self, channel: discord.PartialMessageable, reply: Reply) -> Reply:
        """Attach a message that was sent and not noted, known by its buttons: the process died in between."""
        after = discord.Object(max((reply.ask.asked_message_id, *reply.message_ids)))
        async for message in channel.history(limit=_LOOKED_THROUGH, after=after, oldest_first=True):
            if message.author == self._client.user and ui.reply_id_shown(message) == reply.id:
                await self._store.attach_message(reply.id, message.id, len(reply.message_ids))
                reply = replace(reply, message_ids=(*reply.message_ids, message.id))
        return reply

    async def _complete(self, channel: discord.PartialMessageable, reply: Reply, outcome: Outcome) -> None:
        """Show the whole text, which was kept before it could be shown."""
        said = text.visible(outcome.completion)
        state, notes = ReplyState.DONE, list(advice.cautions(said))
        if outcome.hidden_for is not None:
            state = ReplyState.STOPPED
            notes = [left_out(outcome.hidden_for, begun=bool(said), chinese=advice.is_chinese(said))]
        elif outcome.finish_reason == FinishReason.LENGTH:
            notes.append(CUT_NOTE)
        elif outcome.finish_reason != FinishReason.END:
            state = ReplyState.INTERRUPTED
            notes.append(INTERRUPTED_NOTE)
        final = "\n".join(filter(None, [text.close_fence(said), *map(text.subtext, notes)]))
        earlier = await self._store.earlier_version(reply.ask)
        await self._show(channel, reply, text.split(text.harmless(final)), compare_with=earlier)
        await self._store.finish_reply(reply.id, replace(outcome, state=state))
        log.info("reply %s: shown to its end after a restart", reply.id)

    async def _mark(self, channel: discord.PartialMessageable, reply: Reply) -> None:
        """Keep what stands on Discord of a reply whose rest is lost, and say so below it."""
        parts = [(await channel.fetch_message(message_id)).content for message_id in reply.message_ids]
        said = [_CURSOR.sub("", part) for part in parts if part.endswith(CURSOR) or not _is_small_print(part)]
        last = said[-1] if len(said) == len(parts) else ""
        ending = "\n".join(filter(None, [last, text.subtext(INTERRUPTED_NOTE)]))
        await self._show(channel, reply, text.split(ending), first=len(parts) - 1)
        await self._interrupt(reply, "\n".join(said))

    async def _answer_late(self, reply: Reply) -> None:
        """Answer what was claimed and never shown, if it is recent and still stands there."""
        ask = reply.ask
        age = discord.utils.utcnow() - discord.utils.snowflake_time(ask.asked_message_id)
        server = await self._store.server_settings(ask.guild_id)
        # What members wrote in a rating room's channel must not come into the answer to an operator's prompt.
        of_operator = ask.provenance is Provenance.OPERATOR
        late = age.total_seconds() > ANSWER_LATE_SECONDS
        if late or of_operator or ask.continues_reply_id is not None or server.paused:
            await self._interrupt(reply, "")
            return
        known = self._client.get_channel(ask.channel_id)
        source = known if isinstance(known, discord.abc.Messageable) else self._channel(reply)
        asked = await source.fetch_message(ask.asked_message_id)
        # It may have been edited, or its author been muted or have opted out, since it was let through.
        reading, history = await self._read(ask, asked, server), await self._histories.until(asked)
        if reading.refusal is not None or not history:
            await self._interrupt(reply, "")
            return
        earlier = await self._store.earlier_version(ask)
        surface = DiscordSurface(self._channel(reply), ask, reply_to=asked.id, compare_with=earlier)
        await self._responder.resume(reply.id, ask, history, surface, server, notes=reading.notes)

    async def _interrupt(self, reply: Reply, completion: str) -> None:
        outcome = reply.outcome or Outcome(ReplyState.INTERRUPTED, completion)
        await self._store.finish_reply(reply.id, replace(outcome, state=ReplyState.INTERRUPTED))
        log.info("reply %s: marked as interrupted", reply.id)

    async def _show(
        self,
        channel: discord.PartialMessageable,
        reply: Reply,
        contents: Sequence[str],
        *,
        first: int = 0,
        compare_with: int | None = None,
    ) -> None:
        """Put `contents` into the reply's messages from part `first` on, and send the parts that have none yet."""
        surface = DiscordSurface(channel, reply.ask, reply_to=reply.ask.asked_message_id, compare_with=compare_with)
        for part, content in enumerate(contents, first):
            controls = Controls.FINISHED if part == first + len(contents) - 1 else Controls.NONE
            message_id = reply.message_ids[part] if part < len(reply.message_ids) else None
            sent = await _place(surface, reply.id, message_id, content, part, controls)
            if sent != message_id:
                await self._store.attach_message(reply.id, sent, part)

    def _channel(self, reply: Reply) -> discord.PartialMessageable:
        return self._client.get_partial_messageable(reply.ask.channel_id, guild_id=reply.ask.guild_id)


async def _place(
    surface: DiscordSurface, reply_id: int, message_id: int | None, content: str, part: int, controls: Controls
) -> int:
    """Edit or send one message, trying again while Discord is busy; return its id."""
    for delay in (*_RETRY_SECONDS, None):
        try:
            if message_id is None:
                return await surface.send(content, part=part, reply_id=reply_id, controls=controls)
            await surface.edit(message_id, content, reply_id=reply_id, controls=controls)
            return message_id
        except SurfaceBusy:
            if delay is None:
                raise
            await asyncio.sleep(delay)
    raise AssertionError("the last attempt returns or raises")


def _is_small_print(content: str) -> bool:
    """Return whether a message says something of the bot itself only, such as a place in the queue."""
    return all(line.startswith(text.subtext("")) for line in content.splitlines())
