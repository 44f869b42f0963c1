"""What Encore keeps: replies with their recipes, ratings, comparisons, corrections, nights, server settings, the audit.

This package's only queries are here and in the modules `store_*` beside this one; the file, its lock and its migrations
are `database`'s. Guild None (direct messages) is kept as guild 0. Every method raises StoreError or one of its kinds.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from bot import rows
from bot.backups import backup, restore
from bot.database import Database, problems
from bot.records import Ask, Generation, Outcome, Placement, PromptRecord, Reply, ReplyState, UnfinishedReply
from bot.store_cases import CaseQueries
from bot.store_imports import ImportQueries
from bot.store_limits import LimitQueries
from bot.store_nights import NightQueries
from bot.store_privacy import PrivacyQueries
from bot.store_raters import RaterQueries
from bot.store_ratings import RatingQueries
from bot.store_retractions import RetractionQueries
from bot.store_room import RoomQueries
from bot.store_servers import ServerQueries
from bot.store_words import WordQueries

__all__ = ["Store", "restore"]

_UNFINISHED = (ReplyState.WAITING, ReplyState.STREAMING)


class Store(
    RatingQueries,
    ServerQueries,
    NightQueries,
    RetractionQueries,
    RoomQueries,
    ImportQueries,
    PrivacyQueries,
    CaseQueries,
    LimitQueries,
    RaterQueries,
    WordQueries,
):
    """The queries, each a method; writes hold the one write lock, reads see committed data alone."""

    def __init__(self, database: Database, clock: Callable[[], float], *, last_seq: int) -> None:
        RatingQueries.__init__(self, database, clock, last_seq=last_seq)
        ServerQueries.__init__(self, database, clock)
        NightQueries.__init__(self, database, clock)
        RetractionQueries.__init__(self, database)
        RoomQueries.__init__(self, database, clock)
        ImportQueries.__init__(self, database, clock)
        PrivacyQueries.__init__(self, database, clock)
        CaseQueries.__init__(self, database, clock)
        LimitQueries.__init__(self, database, clock)
        RaterQueries.__init__(self, database, clock)
        WordQueries.__init__(self, database)

    @classmethod
    async def open(
        cls, path: Path, *, clock: Callable[[], float] = time.time, busy_timeout_seconds: float = 5.0
    ) -> Self:
        """Open the database at `path`, made when missing, and take its folder's lock.

        Raises StoreBusy when another Encore runs on the folder, StoreDamaged when the file was damaged (it is kept
        aside, and the next start begins empty).
        """
        database = await Database.open(path, clock=clock, busy_timeout_seconds=busy_timeout_seconds)
        try:
            return cls(database, clock, last_seq=await cls.last_seq(database))
        except BaseException:
            await database.aclose()
            raise

    async def aclose(self) -> None:
        await self._database.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def claim_reply(self, ask: Ask) -> int | None:
        """Make the row of a reply and return its id; None when (asked_message_id, variant) is already claimed."""
        made = await self._database.write(
            "INSERT INTO replies (asked_message_id, variant, channel_id, guild_id, member_id, provenance,"
            " continues_reply_id, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (asked_message_id, variant) DO NOTHING RETURNING id",
            (
                ask.asked_message_id,
                ask.variant,
                ask.channel_id,
                rows.guild_key(ask.guild_id),
                ask.member_id,
                ask.provenance.value,
                ask.continues_reply_id,
                self._clock(),
            ),
        )
        return int(made[0][0]) if made else None

    async def start_reply(
        self, reply_id: int, prompt: PromptRecord, generation: Generation, placement: Placement | None = None
    ) -> bool:
        """Keep the recipe of a reply, and to which conversation and arm it belongs.

        Return False, with nothing kept, when the prompt has words that may not be used any more: of a member who opted
        out, or had their data deleted since the reply was claimed.
        """
        async with self._database.transaction() as connection:
            kept = await connection.execute_fetchall(
                "UPDATE replies SET prompt_token_ids = ?, prompt_version = ?, prompt_message_ids = ?,"
                " prompt_member_ids = ?, inherited_member_ids = ?, dropped_messages = ?, system_sha256 = ?,"
                " model = ?, model_sha256 = ?, adapter = ?, sampling = ?, seed = ?, started_at = ?"
                " WHERE id = ? AND NOT EXISTS (SELECT 1 FROM json_each(?) AS said"
                " WHERE said.value IN (SELECT member_id FROM optouts)"
                " OR said.value IN (SELECT member_id FROM deletions WHERE requested_at >= created_at)) RETURNING id",
                (
                    *(*rows.prompt_values(prompt), *rows.generation_values(generation)),
                    *(self._clock(), reply_id, json.dumps(prompt.member_ids)),
                ),
            )
            if not list(kept):
                return False
            if placement is not None:
                await connection.execute_fetchall(
                    "INSERT OR REPLACE INTO arms (reply_id, conversation, canary, arm, propensity)"
                    " SELECT id, ?, ?, ?, ? FROM replies WHERE id = ?",
                    (*rows.placement_values(placement), reply_id),
                )
        return True

    async def attach_message(self, reply_id: int, message_id: int, part: int) -> None:
        """Note that a message shows a part of a reply, which then streams; a message shows one reply for ever.

        Reactions that came before this note (a member can be faster than Discord's answer to us) count now.
        """
        async with self._database.transaction() as connection:
            known = await connection.execute_fetchall(
                "SELECT 1 FROM reply_messages WHERE message_id = ?", (message_id,)
            )
            await connection.execute_fetchall(
                "INSERT INTO reply_messages (message_id, reply_id, part) SELECT ?, id, ? FROM replies WHERE id = ?"
                " ON CONFLICT (message_id) DO UPDATE SET part = excluded.part WHERE reply_id = excluded.reply_id",
                (message_id, part, reply_id),
            )
            await connection.execute_fetchall(
                "UPDATE replies SET state = 'streaming' WHERE id = ? AND state = 'waiting'", (reply_id,)
            )
            if not known:
                await self._apply_early(connection, message_id)

    async def finish_reply(self, reply_id: int, outcome: Outcome) -> bool:
        """Keep what was generated; return False when the reply had already ended (its end then stays as it is).

        With state STREAMING the completion is kept, and the reply is still unfinished. Where a deletion took the prompt
        meanwhile, no text is kept: it may repeat the member's words. At its end it is settled whom the reply passes on.
        """
        finished_at = None if outcome.state in _UNFINISHED else self._clock()
        async with self._database.transaction() as connection:
            changed = await connection.execute_fetchall(
                "UPDATE replies SET state = ?1, completion = CASE WHEN erased THEN NULL ELSE ?2 END,"
                " completion_token_ids = CASE WHEN erased THEN NULL ELSE ?3 END, finish_reason = ?4,"
                " cached_tokens = ?5, queue_milliseconds = ?6, first_token_milliseconds = ?7,"
                " total_milliseconds = ?8, finished_at = ?9"
                f" FROM (SELECT {rows.SCRUBBED} AS erased FROM replies WHERE id = ?10)"
                " WHERE id = ?10 AND finished_at IS NULL RETURNING id",
                (*rows.outcome_values(outcome), finished_at, reply_id),
            )
            if not list(changed):
                return False
            if finished_at is not None:
                await self._settle_members(connection, reply_id)
        return True

    async def reply(self, reply_id: int) -> Reply | None:
        found = await self._database.read(f"SELECT {rows.REPLY_COLUMNS} FROM replies WHERE id = ?", (reply_id,))
        return rows.reply(found[0]) if found else None

    async def reply_of_message(self, message_id: int) -> Reply | None:
        """Return the reply that a message of the bot shows."""
        found = await self._database.read(
            f"SELECT {rows.REPLY_COLUMNS} FROM replies"
            " WHERE id = (SELECT reply_id FROM reply_messages WHERE message_id = ?)",
            (message_id,),
        )
        return rows.reply(found[0]) if found else None

    async def completions_of_messages(self, message_ids: Iterable[int]) -> dict[int, str]:
        """Return message id -> raw completion of the reply it shows a part of; others are left out.

        So is a reply that had read somebody who opted out since: it may repeat their words.
        """
        found = await self._database.read(
            "SELECT message_id, completion FROM json_each(?) AS asked"
            " CROSS JOIN reply_messages ON message_id = asked.value JOIN replies ON replies.id = reply_id"
            " WHERE completion IS NOT NULL AND NOT EXISTS"
            " (SELECT 1 FROM json_each(prompt_member_ids) AS said JOIN optouts ON optouts.member_id = said.value)",
            (json.dumps(list(message_ids)),),
        )
        return dict(found)

    async def deleted_at(self, member_ids: Iterable[int]) -> dict[int, float]:
        """Return when members last had their data deleted; who never did isn't in it."""
        found = await self._database.read(
            "SELECT member_id, max(requested_at) FROM deletions"
            " WHERE member_id IN (SELECT value FROM json_each(?)) GROUP BY member_id",
            (json.dumps(list(member_ids)),),
        )
        return dict(found)

    async def next_variant(self, asked_message_id: int) -> int:
        """Return the first unclaimed variant of the replies to a message."""
        found = await self._database.read(
            "SELECT coalesce(max(variant) + 1, 0) FROM replies WHERE asked_message_id = ?", (asked_message_id,)
        )
        return int(found[0][0])

    async def earlier_version(self, ask: Ask) -> int | None:
        """Return the id of the version before `ask`, which answers or continues the same; None when it is the first."""
        found = await self._database.read(
            "SELECT id FROM replies WHERE asked_message_id = ? AND variant < ? AND continues_reply_id IS ?"
            " ORDER BY variant DESC LIMIT 1",
            (ask.asked_message_id, ask.variant, ask.continues_reply_id),
        )
        return int(found[0][0]) if found else None

    async def unfinished_replies(self) -> list[UnfinishedReply]:
        """Return the replies without an end, oldest first: at the start, those of a process that died."""
        found = await self._database.read(f"SELECT {rows.REPLY_COLUMNS} FROM replies WHERE finished_at IS NULL")
        replies = [rows.reply(row) for row in found]
        return [
            UnfinishedReply(reply.id, reply.ask, reply.message_ids) for reply in sorted(replies, key=lambda r: r.id)
        ]

    async def recent_reply_messages(self, since: float, limit: int) -> list[tuple[int, int, int | None]]:
        """Return (channel_id, message_id, guild_id) of replies made at or after `since`, the newest first."""
        found = await self._database.read(
            "SELECT channel_id, message_id, nullif(guild_id, 0)"
            " FROM replies JOIN reply_messages ON reply_id = replies.id"
            " WHERE created_at >= ? ORDER BY created_at DESC, message_id DESC LIMIT ?",
            (since, limit),
        )
        return [(channel_id, message_id, guild_id) for channel_id, message_id, guild_id in found]

    async def meta(self, key: str) -> str | None:
        found = await self._database.read("SELECT value FROM meta WHERE key = ?", (key,))
        return str(found[0][0]) if found else None

    async def set_meta(self, key: str, value: str) -> None:
        await self._database.write("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", (key, value))

    @property
    def path(self) -> Path:
        """The database's file, beside which nights and adapters lie."""
        return self._database.path

    async def backup(self, path: Path, *, overwrite: bool = False) -> None:
        """Copy the database to one file while it is in use; see `bot.backups.backup`."""
        await backup(self._database.path, path, overwrite=overwrite)

    async def check(self) -> list[str]:
        """Return what a full integrity check finds; nothing when all is well."""
        return await asyncio.to_thread(problems, self._database.path)
