"""The queries of moderation: cases and their decisions, mutes, what is never learned. A part of `bot.store.Store`."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import aiosqlite

from bot import rows
from bot.database import Database
from bot.moderation.limits import Scope
from bot.records import DISCORD_EPOCH_SECONDS, Case, CaseSource, Decision, Report
from bot.store_raters import set_banned
from bot.store_servers import insert_audit

_COLUMNS = """
    cases.id, guild_id, source, channel_id, nullif(message_id, 0), reply_id, nullif(subject_id, 0), quote, reports,
    opened_at, card_channel_id, card_message_id, decision, decided_by, further,
    (SELECT json_group_array(json_array(member_id, reason, reported_at)) FROM (
        SELECT member_id, reason, reported_at FROM reports WHERE case_id = cases.id ORDER BY reported_at, member_id
    ))
"""

_DECIDE = f"""
    UPDATE cases SET decision = coalesce(decision, ?1), decided_by = coalesce(decided_by, ?2),
        decided_at = coalesce(decided_at, ?3),
        further = iif(decision IS NULL, further, json_insert(further, '$[#]', ?1))
    WHERE id = ?4 AND (decision IS NULL OR '{Decision.DISMISS}' NOT IN (decision, ?1)
        AND ?1 NOT IN (SELECT decision UNION SELECT value FROM json_each(further))) RETURNING id
"""
# The case's reply; of a member's message, the replies that answer it or read it.
_NEVER_LEARN = """
    INSERT OR IGNORE INTO never_learn (reply_id, marked_at) SELECT id, ?4 FROM replies
    WHERE id = ?1 OR (?1 IS NULL AND guild_id = ?3 AND (asked_message_id = ?2
        OR EXISTS (SELECT 1 FROM json_each(prompt_message_ids) WHERE value = ?2)
        OR id IN (SELECT reply_id FROM reply_messages WHERE message_id = ?2)))
"""
# And whatever reads the message from now on; or the reply, with what carries it on: their words are in its prompt.
_NEVER_LEARN_MESSAGE = """
    WITH RECURSIVE parts (id) AS (SELECT ?1 UNION SELECT reply_id FROM reply_messages WHERE message_id = ?2
        UNION SELECT replies.id FROM replies JOIN parts ON continues_reply_id = parts.id)
    INSERT OR IGNORE INTO never_learn_messages (message_id, marked_at)
    SELECT message_id, ?4 FROM reply_messages WHERE reply_id IN parts UNION SELECT ?2, ?4 WHERE ?1 IS NULL AND ?2 > 0
"""
# Who wrote the message, or asked for the reply, and opted out, or had their data deleted since.
_FORGOTTEN = f"""
    ?5 IN (SELECT member_id FROM optouts) OR ?5 IN
    (SELECT member_id FROM deletions WHERE ?4 AND requested_at >= (?4 >> 22) / 1000.0 + {DISCORD_EPOCH_SECONDS})
"""
_MUTES = {Scope.ROLE: ("muted_roles", "role_id"), Scope.MEMBER: ("mutes", "member_id")}


@dataclass(frozen=True, slots=True)
class Mute:
    """Whom the bot doesn't answer in a server; `until` None: until a moderator ends it."""

    scope: Scope
    subject_id: int
    until: float | None


class CaseQueries:
    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock
        self._mutes: dict[tuple[int, int], float] | None = None  # (guild, member or role) -> until when
        self._banned: frozenset[int] = frozenset()

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
        self,
        guild_id: int,
        source: CaseSource,
        channel_id: int,
        message_id: int | None,
        subject_id: int,
        quote: str,
        reply_id: int | None = None,
    ) -> int:
        """Make the case of a message, or of a reply that has no open one; return its id.

        Of a member who opted out, or had their data deleted since the message, neither name nor words are kept; nor is
        the text of a reply that a deletion took the prompt from.
        """
        made = await self._database.write(
            "INSERT INTO cases (guild_id, source, channel_id, message_id, subject_id, quote, opened_at, reply_id)"
            " SELECT ?1, ?2, ?3, ?4, iif(forgotten, 0, ?5), iif(forgotten OR scrubbed, '', ?6), ?7,"
            " (SELECT id FROM replies WHERE id = ?8 AND id NOT IN (SELECT reply_id FROM cases"
            " WHERE reply_id IS NOT NULL AND decided_at IS NULL))"
            f" FROM (SELECT {_FORGOTTEN} AS forgotten,"
            f" EXISTS (SELECT 1 FROM replies WHERE id = ?8 AND {rows.SCRUBBED}) AS scrubbed) RETURNING id",
            (
                *(guild_id, source.value, channel_id, message_id or 0, subject_id, rows.storable(quote)),
                *(self._clock(), reply_id),
            ),
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
        """Close a case, unless it is, and do what was decided, with its entry in the audit.

        Return False when that was decided already, or when the case is closed and nothing is to be done about it.
        Deleting messages is Discord's; the rest of a decision happens here, all of it or nothing.
        """
        try:
            async with self._database.transaction() as connection:
                is_new = await connection.execute_fetchall(_DECIDE, (decision.value, actor_id, self._clock(), case.id))
                if not list(is_new):
                    return False
                detail: dict[str, Any] = {"case": case.id}
                if case.reply_id is not None:
                    detail["reply_id"] = case.reply_id
                elif case.message_id is not None:
                    detail["message_id"] = case.message_id
                if decision in (Decision.UNLEARN, Decision.DELETE):
                    of_case = (case.reply_id, case.message_id, case.guild_id, self._clock())
                    await connection.execute_fetchall(_NEVER_LEARN, of_case)
                    await connection.execute_fetchall(_NEVER_LEARN_MESSAGE, of_case)
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
        for table, _ in _MUTES.values():
            await self._database.write(f"DELETE FROM {table} WHERE until < ?", (self._clock(),))
        return len(await self._database.write("DELETE FROM cases WHERE opened_at < ? RETURNING 1", (before,)))

    # ------------------------------------------------------------------ members

    def ban(self, member_ids: frozenset[int]) -> None:
        """Have these members answered nowhere while this process lives: the operator's settings hold them, no table."""
        self._banned = member_ids

    async def is_muted(self, guild_id: int | None, member_id: int, role_ids: Iterable[int] = ()) -> bool:
        """Return whether a member with these roles isn't to be answered; from memory after the first time."""
        if member_id in self._banned:
            return True
        muted = await self._muted()
        key, now = rows.guild_key(guild_id), self._clock()
        return any(now < muted.get((key, subject_id), -math.inf) for subject_id in (member_id, *role_ids))

    async def mutes(self, guild_id: int) -> list[Mute]:
        """Return a server's mutes that last, of roles first."""
        found: list[Mute] = []
        for scope, (table, column) in _MUTES.items():
            kept = await self._database.read(
                f"SELECT {column}, until FROM {table} WHERE guild_id = ? AND coalesce(until > ?, 1) ORDER BY {column}",
                (guild_id, self._clock()),
            )
            found += (Mute(scope, *row) for row in kept)
        return found

    async def mute(
        self, guild_id: int, subject_id: int, actor_id: int, minutes: int | None, scope: Scope = Scope.MEMBER
    ) -> None:
        """Have a member, or a role's members, not answered in a server, for some minutes or (None) until that is ended.

        Audited.
        """
        until = None if minutes is None else self._clock() + minutes * 60
        try:
            async with self._database.transaction() as connection:
                await _mute(connection, guild_id, subject_id, until, scope)
                detail = {_MUTES[scope][1]: subject_id, "minutes": minutes}
                await insert_audit(connection, guild_id, actor_id, "mod mute", detail, self._clock())
        finally:
            self._mutes = None

    async def unmute(self, guild_id: int, subject_id: int, actor_id: int, scope: Scope = Scope.MEMBER) -> bool:
        """Return False when the member or role wasn't muted by moderators; whom the operator bans stays so."""
        was = self._clock() < (await self._muted()).get((guild_id, subject_id), -math.inf)
        table, column = _MUTES[scope]
        try:
            async with self._database.transaction() as connection:
                await connection.execute_fetchall(
                    f"DELETE FROM {table} WHERE guild_id = ? AND {column} = ?", (guild_id, subject_id)
                )
                if was:
                    detail = {column: subject_id}
                    await insert_audit(connection, guild_id, actor_id, "mod unmute", detail, self._clock())
            return was
        finally:
            self._mutes = None

    async def _muted(self) -> dict[tuple[int, int], float]:
        """Return until when whom isn't to be answered; Discord gives no id to both a member and a role."""
        if self._mutes is None:
            found = await self._database.read(
                "SELECT guild_id, member_id, until FROM mutes"
                " UNION ALL SELECT guild_id, role_id, until FROM muted_roles"
            )
            self._mutes = {(guild, subject): math.inf if until is None else until for guild, subject, until in found}
        return self._mutes

    # ------------------------------------------------------------------ locks

    async def locked_servers(self) -> list[int]:
        found = await self._database.read(
            "SELECT guild_id FROM guild_settings WHERE name = 'locked' AND value = 'true'"
        )
        return [int(row[0]) for row in found]


async def _mute(
    connection: aiosqlite.Connection, guild_id: int, subject_id: int, until: float | None, scope: Scope = Scope.MEMBER
) -> None:
    table, column = _MUTES[scope]
    await connection.execute_fetchall(
        f"INSERT OR REPLACE INTO {table} (guild_id, {column}, until) VALUES (?, ?, ?)", (guild_id, subject_id, until)
    )


def _case(row: Sequence[Any]) -> Case:
    case_id, guild_id, source, channel_id, message_id, reply_id, subject_id, quote, count, opened_at = row[:10]
    card_channel, card_message, decision, decided_by, further, reports = row[10:]
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
        further=tuple(map(Decision, json.loads(further))),
        reports=tuple(Report(*report) for report in json.loads(reports)),
    )
