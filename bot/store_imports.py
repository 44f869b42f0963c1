"""The query that keeps an imported file, whole or not at all. A part of `bot.store.Store`."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
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


@dataclass(frozen=True, slots=True)
class KeptImport:
    """How many replies of a file are new, and how many were there already."""

    new: int
    known: int


class ImportQueries:
    _take_seq: Callable[[int], int]

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    async def add_import(
        self, imported: Imported, *, model: str, model_sha256: str, prompt_version: int
    ) -> KeptImport | None:
        """Keep the replies and labels of a file for one model; return None when the file was kept before.

        A reply that another file brought is kept once: its raters are joined, and what a rater says of it now holds.
        Where SYSTEM_PROMPT or how prompts are built has changed since, it is asked for as it would be now. Messages
        that were asked get negative ids, which no Discord message has.
        """
        now, systems = self._clock(), sorted({reply.system_sha256 for reply in imported.replies})
        recipe_sha256 = hashlib.sha256(json.dumps([prompt_version, systems]).encode()).hexdigest()
        key = f"import:{model_sha256}:{imported.sha256}:{recipe_sha256}"
        async with self._database.transaction() as connection:
            if await connection.execute_fetchall("SELECT 1 FROM meta WHERE key = ?", (key,)):
                return None
            known = await _Known.read(connection, model_sha256)
            placed = [known.place(reply) for reply in imported.replies]
            recipe = (prompt_version, model, model_sha256, json.dumps(asdict(Sampling())))
            new = [(reply, at) for reply, at in zip(imported.replies, placed, strict=True) if at.is_new]
            before = now - _APART_SECONDS * (1 + sum(len(reply.votes) for reply in imported.replies))
            await _insert(connection, _REPLY, [_row(reply, at, recipe, before) for reply, at in new])
            await _insert(
                connection,
                "UPDATE replies SET prompt_token_ids = ?, system_sha256 = ?, prompt_version = ? WHERE id = ?",
                [
                    (rows.pack_tokens(reply.prompt_token_ids), reply.system_sha256, prompt_version, at.reply_id)
                    for reply, at in zip(imported.replies, placed, strict=True)
                    if not at.is_new
                ],
            )
            await _insert(
                connection,
                "INSERT INTO arms (reply_id, conversation) VALUES (?, ?)",
                [(at.reply_id, reply.conversation_id) for reply, at in new],
            )
            numbered = [(at.reply_id, reply) for reply, at in zip(imported.replies, placed, strict=True)]
            await _insert(
                connection,
                "INSERT INTO gold (reply_id, good, actor_id, labelled_at) VALUES (?, ?, ?, ?)"
                " ON CONFLICT DO UPDATE SET good = excluded.good, actor_id = excluded.actor_id,"
                " labelled_at = excluded.labelled_at WHERE good <> excluded.good",
                [(reply_id, int(r.gold), imported.rater_id, now) for reply_id, r in numbered if r.gold is not None],
            )
            await _insert(
                connection,
                "INSERT INTO ratings (reply_id, member_id, message_id, source, value, rated_at, seq)"
                " VALUES (?, ?, 0, 'import', ?, ?, ?) ON CONFLICT DO UPDATE SET value = excluded.value,"
                " rated_at = excluded.rated_at, seq = excluded.seq WHERE value <> excluded.value",
                self._ratings(numbered, now),
            )
            await _insert(
                connection,
                "INSERT INTO comparisons (reply_a, reply_b, member_id, preference, compared_at) VALUES (?, ?, ?, ?, ?)"
                " ON CONFLICT DO UPDATE SET preference = excluded.preference, compared_at = excluded.compared_at"
                " WHERE preference <> excluded.preference",
                [_comparison(pair, placed, now) for pair in imported.comparisons],
            )
            await _insert(
                connection,
                "INSERT INTO raters (guild_id, member_id, trusted) VALUES (0, ?, 1) ON CONFLICT DO NOTHING",
                [(rater_id,) for rater_id in imported.trusted],
            )
            await connection.execute_fetchall("INSERT INTO meta (key, value) VALUES (?, ?)", (key, str(now)))
        return KeptImport(len(new), len(placed) - len(new))

    def _ratings(self, numbered: Sequence[tuple[int, ImportedReply]], now: float) -> list[tuple[Any, ...]]:
        """Return the rows of the votes.

        Those without a time come in an order that is drawn, prompt by prompt: in a file that is sorted by its labels
        the newest, by which a night judges, would all be good ones or all bad.
        """
        drawn = sorted(numbered, key=lambda one: one[1].conversation_id)
        votes = [
            (reply_id, rater_id, good, reply.created_at) for reply_id, reply in drawn for rater_id, good in reply.votes
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


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a reply is or comes to be."""

    reply_id: int
    asked_message_id: int
    variant: int
    is_new: bool


class _Known:
    """What was imported so far for one model, and the ids that are free."""

    def __init__(self, last_id: int, lowest_asked: int) -> None:
        self._next_id, self._next_asked = last_id + 1, lowest_asked - 1
        self._replies: dict[tuple[str, bytes], _Place] = {}  # by the conversation and the completion's tokens
        self._asked: dict[str, int] = {}
        self._variants: defaultdict[int, int] = defaultdict(int)  # how many a message that was asked has

    @classmethod
    async def read(cls, connection: aiosqlite.Connection, model_sha256: str) -> _Known:
        ((last_id, lowest),) = await connection.execute_fetchall(
            "SELECT coalesce((SELECT max(seq) FROM sqlite_sequence WHERE name = 'replies'), 0),"
            " (SELECT min(0, coalesce(min(asked_message_id), 0)) FROM replies)"
        )
        known = cls(last_id, lowest)
        for reply_id, asked, variant, conversation, completion in await connection.execute_fetchall(
            "SELECT id, asked_message_id, variant, conversation, completion_token_ids FROM replies"
            " JOIN arms ON arms.reply_id = replies.id WHERE provenance = ? AND model_sha256 = ?",
            (Provenance.IMPORT.value, model_sha256),
        ):
            known._replies[conversation, bytes(completion)] = _Place(reply_id, asked, variant, is_new=False)
            known._asked[conversation] = asked
            known._variants[asked] = max(known._variants[asked], variant + 1)
        return known

    def place(self, reply: ImportedReply) -> _Place:
        """Return where a reply is, or the next free place beside the others of its prompt."""
        if found := self._replies.get((reply.conversation_id, rows.pack_tokens(reply.completion_token_ids))):
            return found
        if reply.conversation_id not in self._asked:
            self._asked[reply.conversation_id] = self._next_asked
            self._next_asked -= 1
        asked = self._asked[reply.conversation_id]
        placed = _Place(self._next_id, asked, self._variants[asked], is_new=True)
        self._next_id += 1
        self._variants[asked] += 1
        return placed


def _row(reply: ImportedReply, at: _Place, recipe: tuple[Any, ...], before: float) -> tuple[Any, ...]:
    """Return a reply's row; `before` is a moment before all ratings without a time of their own."""
    time = min(before, before if reply.created_at is None else reply.created_at)
    prompt_version, *model = recipe
    return (
        *(at.reply_id, at.asked_message_id, at.variant, at.asked_message_id, Provenance.IMPORT.value),
        *(time, time, time, prompt_version, reply.system_sha256, *model),
        rows.storable(reply.completion),
        rows.pack_tokens(reply.prompt_token_ids),
        rows.pack_tokens(reply.completion_token_ids),
    )


def _comparison(pair: ImportedPair, placed: Sequence[_Place], now: float) -> tuple[Any, ...]:
    chosen, rejected = placed[pair.chosen].reply_id, placed[pair.rejected].reply_id
    told = Preference.A if chosen < rejected else Preference.B
    at = min(now, now if pair.created_at is None else pair.created_at)
    return min(chosen, rejected), max(chosen, rejected), pair.rater_id, told.value, at


async def _insert(connection: aiosqlite.Connection, sql: str, values: list[tuple[Any, ...]]) -> None:
    async with connection.executemany(sql, values):
        pass
