"""The queries on the operator's prompts and the rating rooms where they are answered. A part of `bot.store.Store`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable

from bot import rows
from bot.database import Database
from bot.learning_records import OperatorPrompt, RatingRoom
from bot.records import Provenance, ReplyState

_PROMPT = "id, text, language, created_at, used_at, uses"
_ROOM = "guild_id, channel_id, interval_seconds, started_by, started_at, posted_at"


class RoomQueries:
    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    async def add_prompts(self, prompts: Iterable[tuple[str, str]]) -> int:
        """Keep prompts, each (text, language), all or none; return how many were new."""
        told = json.dumps([(rows.storable(text), language) for text, language in prompts], ensure_ascii=False)
        made = await self._database.write(
            "INSERT INTO operator_prompts (text, language, created_at)"
            " SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), ? FROM json_each(?) WHERE 1 ORDER BY key"
            " ON CONFLICT (text) DO NOTHING RETURNING id",
            (self._clock(), told),
        )
        return len(made)

    async def take_prompt(self) -> OperatorPrompt | None:
        """Return the prompt that was used least, the oldest of these, and count this use; None: there are none."""
        taken = await self._database.write(
            "UPDATE operator_prompts SET uses = uses + 1, used_at = ?"
            " WHERE id = (SELECT id FROM operator_prompts ORDER BY uses, id LIMIT 1)"
            f" RETURNING {_PROMPT}",
            (self._clock(),),
        )
        return OperatorPrompt(*taken[0]) if taken else None

    async def prompts(self, limit: int) -> list[OperatorPrompt]:
        """Return the prompts in the order in which they will be used."""
        found = await self._database.read(f"SELECT {_PROMPT} FROM operator_prompts ORDER BY uses, id LIMIT ?", (limit,))
        return [OperatorPrompt(*row) for row in found]

    async def count_prompts(self) -> tuple[int, int]:
        """Return how many prompts there are, and how many of them were never used."""
        found = await self._database.read("SELECT count(*), count(*) FILTER (WHERE uses = 0) FROM operator_prompts")
        return found[0][0], found[0][1]

    async def start_room(self, guild_id: int, channel_id: int, interval_seconds: float, actor_id: int) -> RatingRoom:
        """Make a channel the server's rating room, in place of another; keeps when the last prompt was posted.

        One that was stopped meanwhile knows it by its replies: started again and again, it posts no more than before.
        """
        made = await self._database.write(
            "INSERT INTO rooms (guild_id, channel_id, interval_seconds, started_by, started_at, posted_at)"
            " SELECT ?1, ?2, ?3, ?4, ?5, max(created_at) FROM replies WHERE guild_id = ?1 AND provenance = ?6"
            " AND variant = 0"
            " ON CONFLICT (guild_id) DO UPDATE SET channel_id = excluded.channel_id,"
            " interval_seconds = excluded.interval_seconds, started_by = excluded.started_by,"
            f" started_at = excluded.started_at RETURNING {_ROOM}",
            (guild_id, channel_id, interval_seconds, actor_id, self._clock(), Provenance.OPERATOR.value),
        )
        return RatingRoom(*made[0])

    async def stop_room(self, guild_id: int) -> bool:
        """Return whether there was one."""
        return bool(await self._database.write("DELETE FROM rooms WHERE guild_id = ? RETURNING guild_id", (guild_id,)))

    async def note_room_post(self, guild_id: int) -> None:
        """Note that a prompt was posted now."""
        await self._database.write("UPDATE rooms SET posted_at = ? WHERE guild_id = ?", (self._clock(), guild_id))

    async def rated_in_room(self, room: RatingRoom, limit: int) -> list[bool]:
        """Say of a room's newest `limit` answers since it was started, the newest first, whether anybody rated them."""
        found = await self._database.read(
            "SELECT EXISTS (SELECT 1 FROM votes WHERE votes.reply_id = replies.id) FROM replies"
            " WHERE guild_id = ? AND channel_id = ? AND provenance = ? AND variant = 0 AND state = ?"
            " AND created_at >= ? ORDER BY created_at DESC, id DESC LIMIT ?",
            (
                *(room.guild_id, room.channel_id, Provenance.OPERATOR.value, ReplyState.DONE.value),
                *(room.started_at, limit),
            ),
        )
        return [bool(rated) for (rated,) in found]

    async def rating_room(self, guild_id: int) -> RatingRoom | None:
        found = await self._database.read(f"SELECT {_ROOM} FROM rooms WHERE guild_id = ?", (guild_id,))
        return RatingRoom(*found[0]) if found else None

    async def rating_rooms(self) -> list[RatingRoom]:
        found = await self._database.read(f"SELECT {_ROOM} FROM rooms ORDER BY guild_id")
        return [RatingRoom(*row) for row in found]
