"""The queries of privacy: consent, opting out, what is held of a member, its deletion. A part of `bot.store.Store`.

Owns the list of where the database names a member; a test holds it against the schema, so that a new table can't be
forgotten.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aiosqlite

from bot.database import Database
from bot.privacy.journal import RequestKind

if TYPE_CHECKING:
    from bot.privacy.journal import Request

# Rows that are a member's own: exported, and deleted on request. What hangs on a deleted reply goes with it.
OWNED = {
    "ratings": "member_id",
    "comparisons": "member_id",
    "corrections": "member_id",
    "gold": "actor_id",
    "raters": "member_id",
    "consents": "member_id",
    "optins": "member_id",
    "reports": "member_id",
    "member_usage": "member_id",
    "cases": "subject_id",
    "replies": "member_id",
}
# Who is banned or distrusted doesn't come back by this.
_UNLESS = {"raters": " AND banned = 0 AND trust_given IS NOT 0"}
# Rows that name a member and stay, for the reason beside them. Exported too.
KEPT = {
    ("audit", "actor_id"): "who changed what in a server is its moderators' to know",
    ("mutes", "member_id"): "without it, who is muted would be answered again",
    ("optouts", "member_id"): "without it, what you write would be read again",
    ("deletions", "member_id"): "without it, a restored backup would bring your data back",
}
# Columns that name a member in a row which isn't theirs; deletion empties them.
NAMED = {
    ("nights", "actor_id"): "NULL",
    ("rooms", "started_by"): "0",
    ("cases", "decided_by"): "0",
    ("server_prompts", "member_id"): "0",
}
# As what of those is exported: the rest is others' words and names.
_NAMED_EXPORTED = {
    ("nights", "actor_id"): ("nights_you_asked_for", ("id", "cause", "started_at")),
    ("rooms", "started_by"): ("rooms_you_started", ("guild_id", "channel_id", "interval_seconds", "started_at")),
    ("cases", "decided_by"): ("cases_you_decided", ("id", "guild_id", "decision", "decided_at")),
    ("server_prompts", "member_id"): ("system_prompts_you_wrote", ("sha256",)),
}
# Others' words and names; a member's own words in prompts are `bot.privacy.own_words`' to find.
_NOT_EXPORTED = frozenset(
    {"prompt_token_ids", "completion_token_ids", "prompt_member_ids", "inherited_member_ids", "decided_by"}
)
_TEXTS = (("nights", "sentences"), ("nights", "warnings"), ("nights", "figures"), ("audit", "detail"))
_SHORTEST_SNOWFLAKE = 10**15  # a smaller number may stand in a text for anything
_IN_PROMPT = "EXISTS (SELECT 1 FROM json_each(prompt_member_ids) WHERE value = ?1)"


def _without(members: str) -> str:
    return f"(SELECT json_group_array(value) FROM json_each({members}) WHERE value <> ?1)"


@dataclass(frozen=True, slots=True)
class Consent:
    """Whether a member agreed that their words and ratings teach; both None: never asked."""

    given_at: float | None = None
    withdrawn_at: float | None = None

    @property
    def given(self) -> bool:
        return self.given_at is not None and self.withdrawn_at is None


@dataclass(frozen=True, slots=True)
class Coverage:
    """How many of Discord's members whose talk or ratings are held agreed to teach."""

    members: int
    consenting: int
    opted_out: int


class PrivacyQueries:
    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock
        self._opted_out: frozenset[int] | None = None

    # ------------------------------------------------------------------ consent

    async def consent(self, member_id: int) -> Consent:
        found = await self._database.read(
            "SELECT given_at, withdrawn_at FROM consents WHERE member_id = ?", (member_id,)
        )
        return Consent(*found[0]) if found else Consent()

    async def keep_choice(self, request: Request) -> bool:
        """Keep what a member chose, when they chose it; return False when it was so already."""
        match request.kind:
            case RequestKind.GIVE:
                return await self.give_consent(request.member_id, at=request.requested_at)
            case RequestKind.WITHDRAW:
                return await self.withdraw_consent(request.member_id, at=request.requested_at)
            case RequestKind.OPT_OUT | RequestKind.OPT_IN:
                out = request.kind is RequestKind.OPT_OUT
                return await self.opt_out(request.member_id, out, at=request.requested_at)
            case RequestKind.DELETE:
                raise AssertionError("a deletion is `erase`'s")

    async def give_consent(self, member_id: int, *, at: float | None = None) -> bool:
        """Return False when it stood already."""
        made = await self._database.write(
            "INSERT INTO consents (member_id, given_at) VALUES (?, ?) ON CONFLICT (member_id) DO UPDATE"
            " SET given_at = excluded.given_at, withdrawn_at = NULL WHERE withdrawn_at IS NOT NULL RETURNING member_id",
            (member_id, self._clock() if at is None else at),
        )
        return bool(made)

    async def withdraw_consent(self, member_id: int, *, at: float | None = None) -> bool:
        """Refuse from now on, also where no consent is needed; return False when it was refused already."""
        made = await self._database.write(
            "INSERT INTO consents (member_id, withdrawn_at) VALUES (?, ?) ON CONFLICT (member_id) DO UPDATE"
            " SET withdrawn_at = excluded.withdrawn_at WHERE withdrawn_at IS NULL RETURNING member_id",
            (member_id, self._clock() if at is None else at),
        )
        return bool(made)

    async def refusing(self) -> frozenset[int]:
        """Return who may teach nowhere: who refused, withdrew or opted out."""
        return frozenset(int(row[0]) for row in await self._database.read("SELECT member_id FROM refusing"))

    async def coverage(self) -> Coverage:
        found = await self._database.read(
            "WITH members AS (SELECT member_id FROM replies WHERE provenance = 'discord'"
            " UNION SELECT ratings.member_id FROM ratings JOIN replies ON id = reply_id"
            " WHERE provenance = 'discord' OR (provenance = 'operator' AND guild_id <> 0))"
            " SELECT (SELECT count(*) FROM members),"
            " (SELECT count(*) FROM members WHERE member_id IN (SELECT member_id FROM consenting)),"
            " (SELECT count(*) FROM optouts)"
        )
        return Coverage(*found[0])

    # ------------------------------------------------------------------ opting out

    async def opted_out(self) -> frozenset[int]:
        """Return the members of whom nothing is read or kept; answered from memory after the first time."""
        if self._opted_out is None:
            found = await self._database.read("SELECT member_id FROM optouts")
            self._opted_out = frozenset(int(member_id) for (member_id,) in found)
        return self._opted_out

    async def opt_out(self, member_id: int, out: bool, *, at: float | None = None) -> bool:
        """Have nothing of a member read or kept from now on, or end that; return False when it was so already.

        The end is noted in any case: a restored backup may know of no opt-out, but Discord still has what was reacted.
        """
        at = self._clock() if at is None else at
        try:
            async with self._database.transaction() as connection:
                if out:
                    changed = await connection.execute_fetchall(
                        "INSERT INTO optouts (member_id, opted_out_at) VALUES (?, ?) ON CONFLICT DO NOTHING"
                        " RETURNING member_id",
                        (member_id, at),
                    )
                else:
                    changed = await connection.execute_fetchall(
                        "DELETE FROM optouts WHERE member_id = ? RETURNING member_id", (member_id,)
                    )
                    await connection.execute_fetchall(
                        "INSERT OR REPLACE INTO optins (member_id, opted_in_at) VALUES (?, ?)", (member_id, at)
                    )
            return bool(list(changed))
        finally:
            self._opted_out = None  # cancelled at the commit, it may or may not have happened

    # ------------------------------------------------------------------ what is held

    async def held(self, member_id: int) -> dict[str, list[dict[str, Any]]]:
        """Return every row that names a member, by table, without what is others'.

        Of replies to others that read them, where those are; of what others did that names them, what says so.
        """
        tables: dict[str, list[dict[str, Any]]] = {}
        for table, column in [*OWNED.items(), *KEPT]:
            columns = [row[1] for row in await self._database.read(f"PRAGMA table_info({table})")]
            told = [name for name in columns if name not in _NOT_EXPORTED]
            found = await self._database.read(f"SELECT {', '.join(told)} FROM {table} WHERE {column} = ?", (member_id,))
            tables[table] = [dict(zip(told, row, strict=True)) for row in found]
        found = await self._database.read(
            "SELECT id, guild_id, channel_id, asked_message_id, created_at FROM replies"
            f" WHERE member_id <> ?1 AND {_IN_PROMPT}",
            (member_id,),
        )
        names = ("id", "guild_id", "channel_id", "asked_message_id", "created_at")
        tables["replies_to_others_that_read_you"] = [dict(zip(names, row, strict=True)) for row in found]
        for (table, column), (name, told_of) in _NAMED_EXPORTED.items():
            found = await self._database.read(
                f"SELECT {', '.join(told_of)} FROM {table} WHERE {column} = ?", (member_id,)
            )
            tables[name] = [dict(zip(told_of, row, strict=True)) for row in found]
        tables["audit_of_others_that_names_you"] = await self._audit_naming(member_id)
        tables["nights_that_name_you"] = await self._nights_naming(member_id)
        return tables

    async def _audit_naming(self, member_id: int) -> list[dict[str, Any]]:
        """Return what others did that names a member, without what else its details say in words or of others."""
        found = await self._database.read(
            "SELECT id, guild_id, action, created_at, detail FROM audit WHERE actor_id <> ?1 AND EXISTS"
            " (SELECT 1 FROM json_tree(detail) WHERE atom = ?1 OR (?1 >= ?2 AND instr(atom, ?1)))",
            (member_id, _SHORTEST_SNOWFLAKE),
        )
        names = ("id", "guild_id", "action", "created_at")
        return [
            {
                **dict(zip(names, row, strict=True)),
                "detail": {
                    name: value
                    for name, value in json.loads(detail).items()
                    if value == member_id or (isinstance(value, int) and abs(value) < _SHORTEST_SNOWFLAKE)
                },
            }
            for *row, detail in found
        ]

    async def _nights_naming(self, member_id: int) -> list[dict[str, Any]]:
        """Return the nights that name a member in what they say, and which of their figures do."""
        if member_id < _SHORTEST_SNOWFLAKE:
            return []
        found = await self._database.read(
            "SELECT id, started_at, figures FROM nights WHERE instr(sentences || warnings || figures, ?)",
            (str(member_id),),
        )
        return [
            {
                "id": night_id,
                "started_at": started_at,
                "figures": [name for name, value in json.loads(figures).items() if str(member_id) in json.dumps(value)],
            }
            for night_id, started_at, figures in found
        ]

    # ------------------------------------------------------------------ deletion

    async def erase(self, deletion: Request) -> dict[str, int] | None:
        """Delete a member's rows and their words in others' prompts, in one transaction; return the counts by table.

        None: this deletion's rows are gone already. What is left to do is in `unfinished_deletions` until
        `finish_deletion`. Afterwards no byte of what was deleted is in the database's files.
        """
        async with self._database.transaction() as connection:
            begun = await connection.execute_fetchall(
                "INSERT INTO deletions (id, member_id, requested_at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
                " RETURNING id",
                (deletion.id, deletion.member_id, deletion.requested_at),
            )
            gone = await self._erase(connection, deletion.member_id) if list(begun) else None
            await connection.execute_fetchall(
                "DELETE FROM deletions WHERE member_id = ? AND id <> ? AND requested_at <= ?",
                (deletion.member_id, deletion.id, deletion.requested_at),
            )
        await self._database.empty_log()
        return gone

    async def unfinished_deletions(self, journal: Iterable[Request]) -> list[Request]:
        """Return the journal's deletions that this database hasn't finished; after a restore, all since the backup."""
        found = await self._database.read("SELECT id FROM deletions WHERE finished_at IS NOT NULL")
        finished = {row[0] for row in found}
        return [asked for asked in journal if asked.kind is RequestKind.DELETE and asked.id not in finished]

    async def finish_deletion(self, deletion_id: str) -> None:
        await self._database.write("UPDATE deletions SET finished_at = ? WHERE id = ?", (self._clock(), deletion_id))

    # ------------------------------------------------------------------ retention

    async def prune_replies(self, before: float) -> int:
        """Delete the replies made before a time, with what was said of them and what guards them; return how many.

        What was imported stays: it is nobody's here, and its file may date it to before it came.
        """
        await self._database.write("DELETE FROM optins WHERE opted_in_at < ?", (before,))
        sql = "DELETE FROM replies WHERE created_at < ? AND provenance <> 'import' RETURNING 1"
        return len(await self._database.write(sql, (before,)))

    async def prune_audit(self, before: float) -> int:
        return len(await self._database.write("DELETE FROM audit WHERE created_at < ? RETURNING 1", (before,)))

    async def nights_ended_before(self, before: float) -> list[str]:
        found = await self._database.read("SELECT id FROM nights WHERE finished_at < ?", (before,))
        return [str(row[0]) for row in found]

    async def _erase(self, connection: aiosqlite.Connection, member_id: int) -> dict[str, int]:
        async def count(sql: str, *parameters: Any) -> int:
            return len(list(await connection.execute_fetchall(f"{sql} RETURNING 1", parameters or (member_id,))))

        gone = {
            table: await count(f"DELETE FROM {table} WHERE {column} = ?{_UNLESS.get(table, '')}")
            for table, column in OWNED.items()
        }
        # A reply to somebody else may repeat their words: it stays for its ratings, without its text, and so do cases.
        await count(
            f"UPDATE cases SET quote = '' WHERE reply_id IN (SELECT id FROM replies WHERE {_IN_PROMPT}) OR message_id"
            f" IN (SELECT message_id FROM reply_messages JOIN replies ON id = reply_id WHERE {_IN_PROMPT})"
        )
        gone["prompts"] = await count(
            "UPDATE replies SET prompt_token_ids = NULL, prompt_message_ids = '[]', completion = NULL,"
            f" completion_token_ids = NULL, prompt_member_ids = {_without('prompt_member_ids')},"
            f" inherited_member_ids = {_without('inherited_member_ids')} WHERE {_IN_PROMPT}"
        )
        for (table, column), nobody in NAMED.items():
            await count(f"UPDATE OR REPLACE {table} SET {column} = {nobody} WHERE {column} = ?")
        if member_id >= _SHORTEST_SNOWFLAKE:  # nights and the audit's details name members by their id
            for table, column in _TEXTS:
                await count(
                    f"UPDATE {table} SET {column} = replace({column}, ?1, '0') WHERE instr({column}, ?1)",
                    str(member_id),
                )
        return gone
