"""The queries of moderation: cases and their decisions, mutes, what is never learned. A part of `bot.store.Store`."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from typing import Any

import aiosqlite

from bot import rows
from bot.database import Database
from bot.records import Case, CaseSource, Decision, Report
from bot.store_raters import set_banned
from bot.store_servers import insert_audit

_COLUMNS = """
    cases.id, guild_id, source, channel_id, nullif(message_id, 0), reply_id, nullif(subject_id, 0), quote, reports,
    opened_at, card_channel_id, card_message_id, decision, decided_by,
    (SELECT json_group_array(json_array(member_id, reason, reported_at)) FROM (
        SELECT member_id, reason, reported_at FROM reports WHERE case_id = cases.id ORDER BY reported_at, member_id
    ))
"""


class CaseQueries:
    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock
        self._mutes: dict[tuple[int, int], float] | None = None  # (guild, member) -> until when

    # ------------------------------------------------------------------ cases

    async def report_reply(self, reply_id: int, message_id: int, member_id: int, reason: str) -> tuple[int, bool]:
        """Add a member's report to the open case of a reply, made when there is none; return its id, and if it is new.

        A member who reports again changes their reason. Raises StoreRefused when there is no such reply.
        """
        now = self._clock()
        async with self._database.transaction() as connection:
            await connection.execute_fetchall(
                "INSERT INTO cases (guild_id, source, channel_id, message_id, reply_id, subject_id, quote, opened_at)"
                " SELECT guild_id, ?2, channel_id, ?3, id, member_id, '', ?4 FROM replies WHERE id = ?1"
                " ON CONFLICT DO NOTHING",
                (reply_id, CaseSource.REPORT.value, message_id, now),
            )
            [(case_id, reports)] = await connection.execute_fetchall(
                "SELECT id, reports FROM cases WHERE reply_id = ? AND decided_at IS NULL", (reply_id,)
            )
            again = await connection.execute_fetchall(
                "UPDATE reports SET reason = ?3 WHERE case_id = ?1 AND member_id = ?2 RETURNING case_id",
                (case_id, member_id, rows.storable(reason)),
            )
            if not list(again):
                await connection.execute_fetchall(
                    "INSERT INTO reports (case_id, member_id, reason, reported_at) VALUES (?, ?, ?, ?)",
                    (case_id, member_id, rows.storable(reason), now),
                )
                await connection.execute_fetchall("UPDATE cases SET reports = reports + 1 WHERE id = ?", (case_id,))
        return int(case_id), not reports

    async def open_case(
        self, guild_id: int, source: CaseSource, channel_id: int, message_id: int | None, subject_id: int, quote: str
    ) -> int:
        """Make the case of a message that has no reply; of a member who opted out neither name nor words are kept."""
        made = await self._database.write(
            "INSERT INTO cases (guild_id, source, channel_id, message_id, subject_id, quote, opened_at)"
            " SELECT ?1, ?2, ?3, ?4, CASE WHEN out THEN 0 ELSE ?5 END, CASE WHEN out THEN '' ELSE ?6 END, ?7"
            " FROM (SELECT ?5 IN (SELECT member_id FROM optouts) AS out) RETURNING id",
            (guild_id, source.value, channel_id, message_id or 0, subject_id, rows.storable(quote), self._clock()),
        )
        return int(made[0][0])

    async def case(self, case_id: int) -> Case | None:
        found = await self._database.read(f"SELECT {_COLUMNS} FROM cases WHERE id = ?", (case_id,))
        return _case(found[0]) if found else None

    async def open_cases(self, guild_id: int, limit: int) -> tuple[list[Case], int]:
        """Return a server's newest open cases, the newest first, and how many are open in all."""
        found = await self._database.read(
            f"SELECT {_COLUMNS} FROM cases WHERE guild_id = ? AND decided_at IS NULL ORDER BY id DESC LIMIT ?",
            (guild_id, limit),
        )
        counted = await self._database.read(
            "SELECT count(*) FROM cases WHERE guild_id = ? AND decided_at IS NULL", (guild_id,)
        )
        return [_case(row) for row in found], int(counted[0][0])

    async def place_card(self, case_id: int, channel_id: int, message_id: int) -> None:
        """Note where a case stands in the moderators' channel."""
        await self._database.write(
            "UPDATE cases SET card_channel_id = ?, card_message_id = ? WHERE id = ?", (channel_id, message_id, case_id)
        )

    async def decide(self, case: Case, decision: Decision, actor_id: int) -> bool:
        """Close a case and do what was decided, with its entry in the audit; return False when it was closed already.

        Deleting messages is Discord's; the rest of a decision happens here, all of it or nothing.
        """
        try:
            async with self._database.transaction() as connection:
                closed = await connection.execute_fetchall(
                    "UPDATE cases SET decision = ?, decided_by = ?, decided_at = ? WHERE id = ? AND decided_at IS NULL"
                    " RETURNING id",
                    (decision.value, actor_id, self._clock(), case.id),
                )
                if not list(closed):
                    return False
                detail: dict[str, Any] = {"case": case.id}
                if case.reply_id is not None:
                    detail["reply_id"] = case.reply_id
                if decision is Decision.UNLEARN:
                    await connection.execute_fetchall(
                        "INSERT OR IGNORE INTO never_learn (reply_id, marked_at) VALUES (?, ?)",
                        (case.reply_id, self._clock()),
                    )
                if decision in (Decision.MUTE, Decision.BAN):
                    assert case.subject_id is not None
                    detail["member_id"] = case.subject_id
                    if decision is Decision.MUTE:
                        await _mute(connection, case.guild_id, case.subject_id, None)
                    else:
                        await set_banned(connection, case.guild_id, case.subject_id, True)
                await insert_audit(connection, case.guild_id, actor_id, f"case {decision.value}", detail, self._clock())
            return True
        finally:
            self._mutes = None  # cancelled at the commit, it may or may not have happened

    async def prune_cases(self, before: float) -> int:
        """Delete the cases opened before a time, and mutes that are over; return how many cases."""
        await self._database.write("DELETE FROM mutes WHERE until < ?", (self._clock(),))
        return len(await self._database.write("DELETE FROM cases WHERE opened_at < ? RETURNING 1", (before,)))

    # ------------------------------------------------------------------ members

    async def is_muted(self, guild_id: int | None, member_id: int) -> bool:
        """Return whether a member isn't to be answered in a server; from memory after the first time."""
        if self._mutes is None:
            found = await self._database.read("SELECT guild_id, member_id, until FROM mutes")
            self._mutes = {(guild, member): math.inf if until is None else until for guild, member, until in found}
        until = self._mutes.get((rows.guild_key(guild_id), member_id))
        return until is not None and self._clock() < until

    async def mute(self, guild_id: int, member_id: int, actor_id: int, minutes: int | None) -> None:
        """Have a member not answered in a server, for some minutes or (None) until that is ended; audited."""
        until = None if minutes is None else self._clock() + minutes * 60
        try:
            async with self._database.transaction() as connection:
                await _mute(connection, guild_id, member_id, until)
                detail = {"member_id": member_id, "minutes": minutes}
                await insert_audit(connection, guild_id, actor_id, "mod mute", detail, self._clock())
        finally:
            self._mutes = None

    async def unmute(self, guild_id: int, member_id: int, actor_id: int) -> bool:
        """Return False when the member wasn't muted."""
        was = await self.is_muted(guild_id, member_id)
        try:
            async with self._database.transaction() as connection:
                await connection.execute_fetchall(
                    "DELETE FROM mutes WHERE guild_id = ? AND member_id = ?", (guild_id, member_id)
                )
                if was:
                    await insert_audit(
                        connection, guild_id, actor_id, "mod unmute", {"member_id": member_id}, self._clock()
                    )
            return was
        finally:
            self._mutes = None

    # ------------------------------------------------------------------ locks

    async def locked_servers(self) -> list[int]:
        found = await self._database.read(
            "SELECT guild_id FROM guild_settings WHERE name = 'locked' AND value = 'true'"
        )
        return [int(row[0]) for row in found]


async def _mute(connection: aiosqlite.Connection, guild_id: int, member_id: int, until: float | None) -> None:
    await connection.execute_fetchall(
        "INSERT OR REPLACE INTO mutes (guild_id, member_id, until) VALUES (?, ?, ?)", (guild_id, member_id, until)
    )


def _case(row: Sequence[Any]) -> Case:
    case_id, guild_id, source, channel_id, message_id, reply_id, subject_id, quote, count, opened_at = row[:10]
    card_channel, card_message, decision, decided_by, reports = row[10:]
    return Case(
        id=case_id,
        guild_id=guild_id,
        source=CaseSource(source),
        channel_id=channel_id,
        message_id=message_id,
        reply_id=reply_id,
        subject_id=subject_id,
        quote=quote,
        report_count=count,
        opened_at=opened_at,
        card=(card_channel, card_message) if card_message else None,
        decision=Decision(decision) if decision else None,
        decided_by=decided_by,
        reports=tuple(Report(*report) for report in json.loads(reports)),
    )
