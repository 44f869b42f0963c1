"""The query that keeps an imported file, whole or not at all. A part of `bot.store.Store`."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import aiosqlite

from bot import rows
from bot.database import Database
from bot.records import Preference, Provenance
from models.types import Sampling

if TYPE_CHECKING:
    from bot.importer import Imported, ImportedPair, ImportedReply

_APART_SECONDS = 1e-3  # between two ratings of a file, so that they have an order in time
_REPLY = """
    INSERT INTO replies (id, asked_message_id, variant, channel_id, guild_id, member_id, provenance, state,
        created_at, started_at, finished_at, prompt_version, system_sha256, dropped_messages,
        model, model_sha256, sampling, seed, finish_reason, cached_tokens, queue_milliseconds, total_milliseconds,
        prompt_message_ids, prompt_member_ids, completion, prompt_token_ids, completion_token_ids)
    VALUES (?, ?, ?, 0, 0, ?, ?, 'done', ?, ?, ?, ?, ?, 0, ?, ?, ?, 0, 'end', 0, 0.0, 0.0, '[]', '[]', ?, ?, ?)
"""


class ImportQueries:
    _take_seq: Callable[[int], int]

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    async def add_import(self, imported: Imported, *, model: str, model_sha256: str, prompt_version: int) -> bool:
        """Keep the replies and labels of a file for one model; return False when they are kept already.

        Messages that were asked get negative ids, which no Discord message has. Ratings keep the order of the file.
        """
        now, key = self._clock(), f"import:{model_sha256}:{imported.sha256}"
        recipe = (model, model_sha256, json.dumps(asdict(Sampling())))
        async with self._database.transaction() as connection:
            if await connection.execute_fetchall("SELECT 1 FROM meta WHERE key = ?", (key,)):
                return False
            found = await connection.execute_fetchall(
                "SELECT coalesce((SELECT max(seq) FROM sqlite_sequence WHERE name = 'replies'), 0),"
                " (SELECT min(0, coalesce(min(asked_message_id), 0)) FROM replies)"
            )
            ((last_id, lowest),) = found
            numbered = list(enumerate(imported.replies, start=last_id + 1))
            variants: dict[int, itertools.count[int]] = {}
            replies: list[tuple[Any, ...]] = []
            for reply_id, reply in numbered:
                variant = next(variants.setdefault(reply.group, itertools.count()))
                asked, at = lowest - 1 - reply.group, min(now, now if reply.created_at is None else reply.created_at)
                times = (at, at, at, prompt_version, reply.system_sha256)
                wide = (
                    rows.storable(reply.completion),
                    rows.pack_tokens(reply.prompt_token_ids),
                    rows.pack_tokens(reply.completion_token_ids),
                )
                head = (reply_id, asked, variant, asked, Provenance.IMPORT.value)
                replies.append((*head, *times, *recipe, *wide))
            await _insert(connection, _REPLY, replies)
            await _insert(
                connection,
                "INSERT INTO arms (reply_id, conversation) VALUES (?, ?)",
                [(reply_id, reply.conversation_id) for reply_id, reply in numbered],
            )
            await _insert(
                connection,
                "INSERT INTO gold (reply_id, good, actor_id, labelled_at) VALUES (?, ?, ?, ?)",
                [(reply_id, int(r.gold), imported.rater_id, now) for reply_id, r in numbered if r.gold is not None],
            )
            await _insert(
                connection,
                "INSERT INTO ratings (reply_id, member_id, message_id, source, value, rated_at, seq)"
                " VALUES (?, ?, 0, 'import', ?, ?, ?)",
                self._ratings(numbered, now),
            )
            await _insert(
                connection,
                "INSERT INTO comparisons (reply_a, reply_b, member_id, preference, compared_at) VALUES (?, ?, ?, ?, ?)",
                [_comparison(pair, last_id + 1, now) for pair in imported.comparisons],
            )
            await _insert(
                connection,
                "INSERT INTO raters (guild_id, member_id, trusted) VALUES (0, ?, 1) ON CONFLICT DO NOTHING",
                [(rater_id,) for rater_id in imported.trusted],
            )
            await connection.execute_fetchall("INSERT INTO meta (key, value) VALUES (?, ?)", (key, str(now)))
        return True

    def _ratings(self, numbered: Sequence[tuple[int, ImportedReply]], now: float) -> list[tuple[Any, ...]]:
        votes = [
            (reply_id, rater_id, good, reply.created_at)
            for reply_id, reply in numbered
            for rater_id, good in reply.votes
        ]
        first = self._take_seq(len(votes))
        return [
            (
                reply_id,
                rater_id,
                1.0 if good else -1.0,
                now - (len(votes) - place) * _APART_SECONDS if at is None else min(now, at),
                first + place,
            )
            for place, (reply_id, rater_id, good, at) in enumerate(votes)
        ]


def _comparison(pair: ImportedPair, first_id: int, now: float) -> tuple[Any, ...]:
    earlier, later = sorted((pair.chosen, pair.rejected))
    told = Preference.A if pair.chosen == earlier else Preference.B
    at = min(now, now if pair.created_at is None else pair.created_at)
    return first_id + earlier, first_id + later, pair.rater_id, told.value, at


async def _insert(connection: aiosqlite.Connection, sql: str, values: list[tuple[Any, ...]]) -> None:
    async with connection.executemany(sql, values):
        pass
