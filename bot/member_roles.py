"""Which roles members have now, of whom the bot keeps no list: Discord says it with what they write, and when asked.

With what is read back it doesn't say it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable

import aiohttp
import discord

from bot.attention import role_ids

log = logging.getLogger(__name__)

_FRESH_SECONDS = 60.0
_KEPT = 10_000  # members
_AT_ONCE = 100  # members of whom Discord tells at once
_PATIENCE_SECONDS = 5.0
_UNTOLD = (discord.ClientException, aiohttp.ClientError, OSError)  # TimeoutError is an OSError

_Roles = tuple[int, ...]


class MemberRoles:
    """For all servers; `clock` gives seconds that only grow."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: OrderedDict[tuple[int, int], tuple[float, _Roles]] = OrderedDict()  # since when

    def note(self, author: object) -> None:
        """Remember what came with a new message about who wrote it."""
        if isinstance(author, discord.Member):
            self._keep(author.guild.id, author.id, role_ids(author))

    async def of(self, guild: discord.Guild, member_ids: Iterable[int]) -> dict[int, _Roles]:
        """Return the roles of members, at most a minute old; who isn't a member any more has none.

        Asks Discord once about all who weren't heard of within that minute; of those it doesn't answer about in time,
        what was known before, if anything.
        """
        wanted = set(member_ids)
        old = sorted(member_id for member_id in wanted if not self._is_fresh(guild.id, member_id))
        for start in range(0, len(old), _AT_ONCE):
            await self._ask(guild, old[start : start + _AT_ONCE])
        known = {member_id: self._known.get((guild.id, member_id)) for member_id in wanted}
        return {member_id: found[1] for member_id, found in known.items() if found is not None}

    async def _ask(self, guild: discord.Guild, member_ids: list[int]) -> None:
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                members = await guild.query_members(user_ids=member_ids, limit=_AT_ONCE, cache=False)
        except _UNTOLD as error:
            log.warning("Discord doesn't say which roles those have whose words are read: %r", error)
            return
        found = {member.id: role_ids(member) for member in members}
        for member_id in member_ids:
            self._keep(guild.id, member_id, found.get(member_id, ()))

    def _keep(self, guild_id: int, member_id: int, roles: _Roles) -> None:
        self._known[guild_id, member_id] = self._clock(), roles
        self._known.move_to_end((guild_id, member_id))
        if len(self._known) > _KEPT:
            self._known.popitem(last=False)

    def _is_fresh(self, guild_id: int, member_id: int) -> bool:
        since, _ = self._known.get((guild_id, member_id), (-_FRESH_SECONDS, ()))
        return self._clock() - since < _FRESH_SECONDS
