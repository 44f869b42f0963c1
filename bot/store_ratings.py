"""The queries on what members think of replies: ratings, comparisons, corrections. A part of `bot.store.Store`."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence

import aiosqlite

from bot import rows
from bot.database import Database
from bot.records import (
    Correction,
    Preference,
    ReactionEvent,
    ReactionKind,
    ReplyCounts,
    Vote,
)

_SWAPPED = {Preference.A: Preference.B, Preference.B: Preference.A}
_NO_MESSAGE = 0  # message_id of a signal that hangs on no message, such as a button
_EARLY_EVENTS = 2048

# One statement a group, however large: each trip to SQLite's thread and back waits for the interpreter's lock, up to a
# switch interval (5 ms) beside a busy event loop, and executemany takes that lock anew for each row.
_REACT = """
    INSERT INTO reaction_events (kind, message_id, member_id, emoji, value, rated_at, seq)
    SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'),
           json_extract(value, '$[3]'), json_extract(value, '$[4]'), ?, ? + key
    FROM json_each(?) ORDER BY key
"""


class RatingQueries:
    def __init__(self, database: Database, clock: Callable[[], float], *, last_seq: int) -> None:
        self._database = database
        self._clock = clock
        self._next_seq = last_seq + 1
        self._early: deque[ReactionEvent] = deque(maxlen=_EARLY_EVENTS)

    @staticmethod
    async def last_seq(database: Database) -> int:
        """Return the highest number that a signal has; reads all of them, once a start."""
        return int((await database.read("SELECT coalesce(max(seq), 0) FROM ratings"))[0][0])

    async def apply_reactions(self, events: Iterable[ReactionEvent]) -> None:
        """Apply raw reaction events in their order, in one transaction; those on other messages change nothing."""
        events = list(events)
        await self._database.write(_REACT, self._reactions(events))
        self._early.extend(events)

    async def reconcile_reactions(self, message_id: int, present: Mapping[tuple[int, str], float | None]) -> None:
        """Make a message's reactions those of `present`: {(member_id, emoji): value}, None if it counts for nothing.

        What already stood keeps its value, whatever its emoji counts for now, and its place in time, so that a later
        vote by button is not undone by a restart. What a member had deleted, or gave while they had opted out, stays
        away, though Discord still shows it.
        """
        async with self._database.transaction() as connection:
            kept = await connection.execute_fetchall(
                "SELECT member_id, substr(source, length('reaction:') + 1)"
                " FROM reply_messages JOIN ratings USING (reply_id, message_id) WHERE message_id = ?",
                (message_id,),
            )
            stood = {(member_id, emoji) for member_id, emoji in kept}
            forgotten = await connection.execute_fetchall(
                "SELECT ended.member_id FROM reply_messages JOIN replies ON replies.id = reply_id"
                " JOIN (SELECT member_id, requested_at AS at FROM deletions"
                " UNION ALL SELECT member_id, opted_in_at FROM optins) AS ended"
                " ON ended.at >= created_at WHERE message_id = ?",
                (message_id,),
            )
            gone = {member_id for (member_id,) in forgotten}
            events = [ReactionEvent(ReactionKind.REMOVE, message_id, *key) for key in stood - present.keys()]
            for (member_id, emoji), value in present.items():
                if value is not None and (member_id, emoji) not in stood and member_id not in gone:
                    events.append(ReactionEvent(ReactionKind.ADD, message_id, member_id, emoji, value))
            await connection.execute_fetchall(_REACT, self._reactions(events))

    async def cast_vote(self, reply_id: int, member_id: int, source: str, value: float) -> bool:
        """Count a signal that hangs on no message, such as a button; return False when there is no such reply."""
        cast = await self._database.write(
            "INSERT OR REPLACE INTO ratings (reply_id, member_id, message_id, source, value, rated_at, seq)"
            " SELECT id, ?, ?, ?, ?, ?, ? FROM replies WHERE id = ? RETURNING seq",
            (member_id, _NO_MESSAGE, source, value, self._clock(), self._take_seq(1), reply_id),
        )
        return bool(cast)

    async def retract_vote(self, reply_id: int, member_id: int, source: str) -> bool:
        """Take a signal of `cast_vote` back; return whether it stood. A 👎 takes its correction along."""
        async with self._database.transaction() as connection:
            gone = await connection.execute_fetchall(
                "DELETE FROM ratings WHERE reply_id = ? AND member_id = ? AND source = ? AND message_id = ?"
                " RETURNING value",
                (reply_id, member_id, source, _NO_MESSAGE),
            )
            if any(value < 0 for (value,) in gone):
                await connection.execute_fetchall(
                    "DELETE FROM corrections WHERE reply_id = ? AND member_id = ?", (reply_id, member_id)
                )
        return bool(list(gone))

    async def votes(self, reply_id: int) -> list[Vote]:
        """Return each member's newest signal that still stands."""
        found = await self._database.read(
            "SELECT reply_id, member_id, source, value, rated_at FROM votes WHERE reply_id = ? ORDER BY member_id",
            (reply_id,),
        )
        return [Vote(*row) for row in found]

    async def record_preference(self, reply_a: int, reply_b: int, member_id: int, preference: Preference) -> None:
        """Keep which of two versions a member finds better, in place of what they said before of this pair."""
        if reply_a > reply_b:
            reply_a, reply_b, preference = reply_b, reply_a, _SWAPPED.get(preference, preference)
        await self._database.write(
            "INSERT OR REPLACE INTO comparisons (reply_a, reply_b, member_id, preference, compared_at)"
            " VALUES (?, ?, ?, ?, ?)",
            (reply_a, reply_b, member_id, preference.value, self._clock()),
        )

    async def preferences(self, reply_a: int, reply_b: int) -> dict[int, Preference]:
        """Return what each member finds of a pair, told with these A and B."""
        first, second = sorted((reply_a, reply_b))
        found = await self._database.read(
            "SELECT member_id, preference FROM comparisons WHERE reply_a = ? AND reply_b = ?", (first, second)
        )
        told = {member_id: Preference(preference) for member_id, preference in found}
        if first != reply_a:
            return {member_id: _SWAPPED.get(preference, preference) for member_id, preference in told.items()}
        return told

    async def add_correction(self, correction: Correction) -> None:
        """Keep a member's correction, in place of their earlier one of this reply."""
        await self._database.write(
            "INSERT OR REPLACE INTO corrections"
            " (reply_id, member_id, reasons, comment, should_have_said, corrected_at) VALUES (?, ?, ?, ?, ?, ?)",
            (
                correction.reply_id,
                correction.member_id,
                json.dumps(correction.reasons),
                rows.storable(correction.comment),
                rows.storable(correction.should_have_said),
                self._clock(),
            ),
        )

    async def corrections(self, reply_id: int) -> list[Correction]:
        found = await self._database.read(
            "SELECT reply_id, member_id, reasons, comment, should_have_said FROM corrections"
            " WHERE reply_id = ? ORDER BY corrected_at, member_id",
            (reply_id,),
        )
        return [rows.correction(row) for row in found]

    async def counts(self, guild_id: int | None) -> ReplyCounts:
        """Count a server's replies and what was said of them."""
        of_guild = "(SELECT id FROM replies WHERE guild_id = ?1)"
        found = await self._database.read(
            "SELECT (SELECT count(*) FROM replies WHERE guild_id = ?1), count(DISTINCT reply_id),"
            " count(*) FILTER (WHERE value > 0), count(*) FILTER (WHERE value < 0), count(DISTINCT member_id),"
            f" (SELECT count(*) FROM comparisons WHERE reply_a IN {of_guild}),"
            f" (SELECT count(*) FROM corrections WHERE reply_id IN {of_guild})"
            f" FROM votes WHERE reply_id IN {of_guild}",
            (rows.guild_key(guild_id),),
        )
        return ReplyCounts(*found[0])

    async def _apply_early(self, connection: aiosqlite.Connection, message_id: int) -> None:
        """Apply the reactions to a message that came before it was known to show a reply."""
        early = [event for event in self._early if event.message_id == message_id]
        await connection.execute_fetchall(_REACT, self._reactions(early))

    def _reactions(self, events: Sequence[ReactionEvent]) -> tuple[float, int, str]:
        """Give the values of _REACT. Numbers are taken in the order in which writes queue, so in the order of time."""
        return self._clock(), self._take_seq(len(events)), _json(events)

    def _take_seq(self, count: int) -> int:
        first = self._next_seq
        self._next_seq += count
        return first


def _json(events: Iterable[ReactionEvent]) -> str:
    columns = [(event.kind, event.message_id, event.member_id, event.emoji, event.value) for event in events]
    # Not ASCII: a lone surrogate then fails here, where it can be told, and not when the row is read.
    return json.dumps(columns, ensure_ascii=False)
