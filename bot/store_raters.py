"""The queries on raters: who moderates, is trusted or banned, and votes how much. A part of `bot.store.Store`."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import aiosqlite

from bot import rows
from bot.database import Database
from bot.store_servers import insert_audit

_COLUMNS = "guild_id, member_id, coalesce(trust_given, trusted), banned, joined_at, trust_given"

_SAID = (("ratings", "reply_id"), ("comparisons", "reply_b"), ("corrections", "reply_id"))


@dataclass(frozen=True, slots=True)
class RaterRow:
    """What is known of a rater in one server. `trust_given` is what moderators said; None: whoever moderates is
    trusted. `trusted` is what comes of it."""

    guild_id: int | None
    member_id: int
    trusted: bool
    banned: bool
    joined_at: float | None
    trust_given: bool | None = None


class RaterQueries:
    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    async def note_rater(
        self,
        guild_id: int | None,
        member_id: int,
        *,
        trusted: bool | None = None,
        banned: bool | None = None,
        joined_at: float | None = None,
    ) -> None:
        """Keep what is known of a rater in one server; None leaves what was known. `trusted`: they moderate."""
        await self._database.write(
            "INSERT INTO raters (guild_id, member_id, trusted, banned, joined_at)"
            " VALUES (?1, ?2, coalesce(?3, 0), coalesce(?4, 0), ?5)"
            " ON CONFLICT (guild_id, member_id) DO UPDATE SET trusted = coalesce(?3, trusted),"
            " banned = coalesce(?4, banned), joined_at = coalesce(?5, joined_at)",
            (rows.guild_key(guild_id), member_id, _bit(trusted), _bit(banned), joined_at),
        )

    async def raters(self) -> list[RaterRow]:
        """Return what is known of raters, in all servers."""
        return [_rater(row) for row in await self._database.read(f"SELECT {_COLUMNS} FROM raters")]

    async def rater(self, guild_id: int | None, member_id: int) -> RaterRow | None:
        found = await self._database.read(
            f"SELECT {_COLUMNS} FROM raters WHERE guild_id = ? AND member_id = ?",
            (rows.guild_key(guild_id), member_id),
        )
        return _rater(found[0]) if found else None

    async def voters(self, guild_id: int | None, limit: int) -> list[tuple[RaterRow, int]]:
        """Return a server's raters with their standing votes there: the banned and trusted first, then by votes."""
        found = await self._database.read(
            "WITH cast_here AS (SELECT votes.member_id, count(*) AS votes FROM votes JOIN replies ON id = reply_id"
            " WHERE guild_id = ?1 AND source <> 'import' GROUP BY votes.member_id),"
            " known AS (SELECT * FROM raters WHERE guild_id = ?1)"
            " SELECT ?1, member_id, coalesce(trust_given, trusted, 0), coalesce(banned, 0), joined_at, trust_given,"
            " coalesce(votes, 0)"
            " FROM (SELECT member_id FROM cast_here UNION SELECT member_id FROM known)"
            " LEFT JOIN cast_here USING (member_id) LEFT JOIN known USING (member_id)"
            " ORDER BY 4 DESC, 3 DESC, 7 DESC, member_id LIMIT ?2",
            (rows.guild_key(guild_id), limit),
        )
        return [(_rater(row[:6]), int(row[6])) for row in found]

    async def known_raters(self, guild_id: int | None, member_ids: Collection[int]) -> set[int]:
        """Return which of these rated in a server."""
        found = await self._database.read(
            "SELECT member_id FROM raters WHERE guild_id = ? AND member_id IN (SELECT value FROM json_each(?))",
            (rows.guild_key(guild_id), json.dumps(sorted(member_ids))),
        )
        return {int(row[0]) for row in found}

    async def replies_of_server(self, guild_id: int | None, reply_ids: Collection[int]) -> set[int]:
        """Return which of these replies were given in a server."""
        found = await self._database.read(
            "SELECT id FROM replies WHERE guild_id = ? AND id IN (SELECT value FROM json_each(?))",
            (rows.guild_key(guild_id), json.dumps(sorted(reply_ids))),
        )
        return {int(row[0]) for row in found}

    async def trust_rater(self, guild_id: int | None, member_id: int, actor_id: int, trusted: bool) -> bool:
        """Have a rater's votes count as a trusted one's in a server, or as any member's though they moderate; audited.

        Return False when moderators said so already, and when nothing may be kept of the member.
        """
        key = rows.guild_key(guild_id)
        async with self._database.transaction() as connection:
            made = await connection.execute_fetchall(
                "INSERT INTO raters (guild_id, member_id, trust_given) VALUES (?1, ?2, ?3)"
                " ON CONFLICT (guild_id, member_id) DO UPDATE SET trust_given = ?3 WHERE trust_given IS NOT ?3"
                " RETURNING member_id",
                (key, member_id, int(trusted)),
            )
            if changed := bool(list(made)):
                action = "raters trust" if trusted else "raters distrust"
                await insert_audit(connection, key, actor_id, action, {"member_id": member_id}, self._clock())
        return changed

    async def ban_rater(self, guild_id: int | None, member_id: int, actor_id: int, *, banned: bool = True) -> bool:
        """Ban a rater or end that, with its entry in the audit; return False when it was so already."""
        key = rows.guild_key(guild_id)
        async with self._database.transaction() as connection:
            changed = await set_banned(connection, key, member_id, banned)
            if changed:
                action = "raters ban" if banned else "raters unban"
                await insert_audit(connection, key, actor_id, action, {"member_id": member_id}, self._clock())
        return changed

    async def prune_raters(self) -> int:
        """Delete what is known of raters of whose ratings in a server none is left; return of how many.

        What moderators said of them stays: whom they banned, trust or distrust.
        """
        said = " UNION ".join(
            f"SELECT guild_id, {table}.member_id FROM {table} JOIN replies ON replies.id = {column}"
            for table, column in _SAID
        )
        gone = await self._database.write(
            "DELETE FROM raters WHERE banned = 0 AND trust_given IS NULL"
            f" AND (guild_id, member_id) NOT IN ({said}) RETURNING 1"
        )
        return len(gone)


async def set_banned(connection: aiosqlite.Connection, guild_key: int, member_id: int, banned: bool) -> bool:
    """Ban a rater or end that within a transaction; return False when it was so already."""
    sql = (
        "INSERT INTO raters (guild_id, member_id, trusted, banned) VALUES (?, ?, 0, 1)"
        " ON CONFLICT (guild_id, member_id) DO UPDATE SET banned = 1 WHERE banned = 0 RETURNING member_id"
        if banned
        else "UPDATE raters SET banned = 0 WHERE guild_id = ? AND member_id = ? AND banned = 1 RETURNING member_id"
    )
    return bool(list(await connection.execute_fetchall(sql, (guild_key, member_id))))


def _rater(row: Sequence[Any]) -> RaterRow:
    given = None if row[5] is None else bool(row[5])
    return RaterRow(row[0] or None, row[1], bool(row[2]), bool(row[3]), row[4], given)


def _bit(value: bool | None) -> int | None:
    return None if value is None else int(value)
