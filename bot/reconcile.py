"""Reactions that came and went while the bot was away -> the store, for the replies of the last month.

Asks Discord which members' reactions stand on each reply message and makes the store agree. Owns no live events; it has
to be told of them (`touch`), so that it never undoes one.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from itertools import groupby
from typing import TYPE_CHECKING

import aiohttp
import discord

from bot.ratings import value_of

if TYPE_CHECKING:
    from bot.ratings import Ratings
    from bot.store import Store

log = logging.getLogger(__name__)

_DAYS = 30
_MESSAGES = 500  # newest messages of replies looked at
_WINDOW = 100  # messages in one page of a channel's history
_FAILURES = (discord.HTTPException, aiohttp.ClientError, OSError)  # one message's, or one channel's, not the run's
_STRANGERS = 500  # raters of whom nothing is known that are looked up in a run
_ATTEMPTS = 5  # a message that keeps getting live events is up to date by those


def emoji_key(emoji: discord.PartialEmoji | discord.Emoji | str) -> str:
    """Return an emoji as the store names it: the character itself, or `name:id` of a server's own."""
    if isinstance(emoji, str):
        return emoji
    return emoji.name if emoji.id is None else f"{emoji.name}:{emoji.id}"


class Reconciler:
    """Compare the reactions of recent replies with the store, one message at a time.

    Who rated meanwhile and isn't known as a rater yet is told to the cogs by an event of the client, `rater_seen`.
    `pace_seconds` lies between two requests: a run stays far below Discord's limits, whatever else the bot does.
    """

    def __init__(
        self,
        client: discord.Client,
        store: Store,
        ratings: Ratings,
        *,
        pace_seconds: float = 0.25,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._client = client
        self._store = store
        self._ratings = ratings
        self._pace_seconds = pace_seconds
        self._clock = clock
        self._sleep = sleep
        self._running = False
        self._touched: set[int] = set()
        self._raters: dict[int, set[int]] = {}  # by server, of this run

    def touch(self, message_id: int) -> None:
        """Note a live reaction event: what was fetched of its message before now no longer counts."""
        if self._running:
            self._touched.add(message_id)

    async def run(self) -> int:
        """Look through all recent replies and return how many messages were made to agree; raises StoreError."""
        rows = sorted(await self._store.recent_reply_messages(self._clock() - _DAYS * 86400, _MESSAGES))
        self._running = True
        reconciled = 0
        try:
            for channel_id, group in groupby(rows, key=lambda row: row[0]):
                messages = list(group)
                guild_id = messages[0][2]
                table = (await self._store.server_settings(guild_id)).emoji
                channel = self._client.get_partial_messageable(channel_id, guild_id=guild_id or None)
                try:
                    reconciled += await self._channel(channel, [message_id for _, message_id, _ in messages], table)
                except _FAILURES as error:  # gone or hidden: its votes stay as they are
                    log.info("channel %s: its reactions can't be compared (%s)", channel_id, error)
            await self._introduce()
        finally:
            self._running = False
            self._touched.clear()
            self._raters.clear()
        log.info("compared the reactions of %s of %s recent messages with the store", reconciled, len(rows))
        return reconciled

    async def _introduce(self) -> None:
        """Look up the raters that nothing is known of: whether they moderate, and since when they are members."""
        known = {(rater.guild_id, rater.member_id) for rater in await self._store.raters()}
        found = [(guild, rater) for guild, raters in self._raters.items() for rater in sorted(raters)]
        for guild_id, rater_id in [key for key in found if key not in known][:_STRANGERS]:
            guild = self._client.get_guild(guild_id)
            try:
                member = await guild.fetch_member(rater_id) if guild is not None else None
            except _FAILURES as error:  # they left
                log.info("a rater of server %s can't be looked up (%s)", guild_id, error)
                continue
            if member is not None:
                self._client.dispatch("rater_seen", member)
            await self._pause()

    async def _channel(self, channel: discord.PartialMessageable, wanted: list[int], table: dict[str, float]) -> int:
        """Go through the `wanted` messages of a channel, oldest first, a page of history at a time."""
        reconciled = 0
        while wanted:
            self._touched.difference_update(wanted)
            after = discord.Object(wanted[0] - 1)
            page = {m.id: m async for m in channel.history(limit=_WINDOW, after=after, oldest_first=True)}
            await self._pause()
            covered = [w for w in wanted if len(page) < _WINDOW or w <= max(page)]
            for message_id in covered:
                if message_id not in page:  # deleted: its votes were given and stay
                    continue
                try:
                    reconciled += await self._message(channel, page[message_id], table)
                except _FAILURES as error:
                    log.info("message %s: its reactions can't be compared (%s)", message_id, error)
            wanted = wanted[len(covered) :]
        return reconciled

    async def _message(
        self, channel: discord.PartialMessageable, message: discord.Message, table: dict[str, float]
    ) -> bool:
        """Make the store agree with one message.

        A live event may be newer than what was fetched, yet reach the store before it: then all is fetched again.
        """
        for _ in range(_ATTEMPTS):
            standing = await self._standing(message, table)
            await self._ratings.drain()
            if message.id not in self._touched:
                await self._store.reconcile_reactions(message.id, standing)
                if message.id not in self._touched:
                    return True
            self._touched.discard(message.id)
            message = await channel.fetch_message(message.id)
            await self._pause()
        log.info("message %s: reactions keep coming in, so only those count", message.id)
        return False

    async def _standing(self, message: discord.Message, table: dict[str, float]) -> dict[tuple[int, str], float | None]:
        standing: dict[tuple[int, str], float | None] = {}
        for reaction in message.reactions:
            emoji = emoji_key(reaction.emoji)
            value = value_of(emoji, table)  # None too: it may have counted when the vote was given
            kinds: list[discord.ReactionType | None] = [None]
            if reaction.burst_count:  # Discord lists super reactions apart; they are the same vote
                kinds.append(discord.ReactionType.burst)
            for kind in kinds:
                async for user in reaction.users(type=kind):
                    if not user.bot:
                        standing[user.id, emoji] = value
                        if message.guild is not None:
                            self._raters.setdefault(message.guild.id, set()).add(user.id)
                await self._pause()
        return standing

    async def _pause(self) -> None:
        await self._sleep(self._pace_seconds)
