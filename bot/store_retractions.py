"""The query of who took back what a night had learned from. A part of `bot.store.Store`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bot.collect import Standing
    from bot.database import Database


def _told(field: str, columns: str) -> str:
    """Return a table of what was said: the JSON arrays of one field of a Standing."""
    taken = ", ".join(f"json_extract(value, '$[{place}]') AS {name}" for place, name in enumerate(columns.split()))
    return f"(SELECT {taken} FROM json_each(?1, '$.{field}'))"


# Each arm finds members whose own row is gone or says otherwise, of replies that are still there. Where the row stands
# it was a ban, a moderator or somebody's consent that took it from the night.
_TOOK_BACK = f"""
    SELECT member FROM (
        SELECT member, reply FROM {_told("votes", "reply member up")} WHERE NOT EXISTS (SELECT 1 FROM votes
            WHERE reply_id = reply AND member_id = member AND votes.value <> 0 AND (votes.value > 0) = up)
        UNION SELECT member, later FROM {_told("comparisons", "earlier later member told")}
            WHERE earlier IN (SELECT id FROM replies) AND NOT EXISTS (SELECT 1 FROM comparisons
            WHERE reply_a = earlier AND reply_b = later AND member_id = member AND preference = told)
        UNION SELECT member, reply FROM {_told("corrections", "reply member")} WHERE NOT EXISTS (SELECT 1
            FROM corrections WHERE reply_id = reply AND member_id = member))
    WHERE reply IN (SELECT id FROM replies) AND member NOT IN (SELECT member_id FROM refusing)
        AND member NOT IN (SELECT member_id FROM deletions WHERE requested_at >= ?2)
"""


class RetractionQueries:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def took_back(self, gone: Standing, *, since: float) -> frozenset[int]:
        """Return who took back or turned round themselves some of what stands no more.

        Not who withdrew their consent, opted out or was deleted `since`: of these nothing is learned anyway, and
        nothing may be noted.
        """
        corrected = set(gone.corrections)
        # A vote against a reply may be a correction alone, which has no row among the votes.
        votes = sorted(said for said in gone.votes if said[2] or said[:2] not in corrected)
        found = await self._database.read(_TOOK_BACK, (json.dumps(gone.as_object() | {"votes": votes}), since))
        return frozenset(int(member) for (member,) in found)
