"""The queries on what members and channels used of their budgets today. A part of `bot.store.Store`."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from bot.database import Database
from bot.moderation.limits import Count, Scope

_TABLES = {Scope.MEMBER: ("member_usage", "member_id"), Scope.CHANNEL: ("channel_usage", "channel_id")}


class LimitQueries:
    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    async def keep_usage(self, counts: Iterable[Count]) -> None:
        """Keep what subjects used on a day, in the place of what was kept of them."""
        async with self._database.transaction() as connection:
            for count in counts:
                table, column = _TABLES[count.scope]
                await connection.execute_fetchall(
                    f"INSERT OR REPLACE INTO {table} (guild_id, {column}, day, messages, tokens)"
                    " VALUES (?, ?, ?, ?, ?)",
                    (count.guild_id, count.subject_id, count.day, count.messages, count.tokens),
                )

    async def usage(self, day: int) -> list[Count]:
        """Return what was used on a day; what is kept of earlier ones is removed."""
        found: list[Count] = []
        for scope, (table, column) in _TABLES.items():
            await self._database.write(f"DELETE FROM {table} WHERE day < ?", (day,))
            kept = await self._database.read(
                f"SELECT guild_id, {column}, day, messages, tokens FROM {table} WHERE day = ?", (day,)
            )
            found += (Count(guild, scope, subject, *rest) for guild, subject, *rest in kept)
        return found
