"""The queries of whose words a reply may hold, its prompt's and its own. A part of `bot.store.Store`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable

import aiosqlite

from bot import text
from bot.database import Database
from bot.privacy.passed_on import Members, ReadAnswer, settled

# An answer under way has not settled whom it inherits, so it passes on everybody.
_ANSWERS = """
    SELECT DISTINCT answers.id, answers.completion, answers.prompt_member_ids,
        CASE WHEN answers.finished_at IS NULL THEN '[]' ELSE answers.inherited_member_ids END
    FROM json_each(?) AS asked CROSS JOIN reply_messages ON message_id = asked.value
        JOIN replies AS answers ON answers.id = reply_id
"""


class WordQueries:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def members_behind_messages(self, message_ids: Iterable[int]) -> set[int]:
        """Return whose words the replies had read that these messages show parts of."""
        found = await self._database.read(
            "SELECT DISTINCT said.value FROM json_each(?) AS asked"
            " CROSS JOIN reply_messages ON message_id = asked.value JOIN replies ON replies.id = reply_id,"
            " json_each(prompt_member_ids) AS said",
            (json.dumps(list(message_ids)),),
        )
        return {int(row[0]) for row in found}

    @staticmethod
    async def _settle_members(connection: aiosqlite.Connection, reply_id: int) -> None:
        """Keep whom a reply that has ended passes on; where one carries on another, the two are one text."""
        ((members, inherited, read, before, said),) = await connection.execute_fetchall(
            "SELECT prompt_member_ids, inherited_member_ids, prompt_message_ids,"
            " (SELECT completion FROM replies AS parts WHERE parts.id = replies.continues_reply_id), completion"
            " FROM replies WHERE id = ?",
            (reply_id,),
        )
        answers = [
            ReadAnswer(None if completion is None else text.visible(completion), _members(*ids))
            for _, completion, *ids in await connection.execute_fetchall(_ANSWERS, (read,))
        ]
        started = _members(members, inherited)
        if not answers and not started.inherited:
            return
        both = text.visible((before or "") + (said or ""))
        found = await asyncio.to_thread(settled, started, both, answers)  # milliseconds, in a long channel
        if found == started:
            return
        await connection.execute_fetchall(
            "UPDATE replies SET prompt_member_ids = ?, inherited_member_ids = ? WHERE id = ?",
            (json.dumps(found.all), json.dumps(sorted(found.inherited)), reply_id),
        )


def _members(all_ids: str | None, inherited_ids: str) -> Members:
    return Members(tuple(json.loads(all_ids or "[]")), frozenset(json.loads(inherited_ids)))
