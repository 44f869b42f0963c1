"""The queries on what moderators set for a server, with the audit of it. A part of `bot.store.Store`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import aiosqlite

from bot import rows
from bot.database import Database
from bot.records import AuditEntry, ServerSettings


class ServerQueries:
    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock
        self._settings: dict[int, ServerSettings] = {}  # exact, since this process is the file's only writer

    async def server_settings(self, guild_id: int | None) -> ServerSettings:
        """Return what moderators set, defaults elsewhere; answered from memory after the first time."""
        key = rows.guild_key(guild_id)
        if key not in self._settings:
            found = await self._database.read("SELECT name, value FROM guild_settings WHERE guild_id = ?", (key,))
            # A change may have been committed while this read was under way: then the newer value is already here.
            self._settings.setdefault(key, _decoded(found))
        return self._settings[key]

    async def change_server_settings(self, guild_id: int | None, actor_id: int, **changes: Any) -> ServerSettings:
        """Change the named settings, fields of ServerSettings or of its Sampling, and audit each real change.

        Raises TypeError for a name that is no setting; values are the caller's to check.
        """
        key = rows.guild_key(guild_id)
        try:
            async with self._database.transaction() as connection:
                found = await connection.execute_fetchall(
                    "SELECT name, value FROM guild_settings WHERE guild_id = ?", (key,)
                )
                before = _decoded(found)
                after = rows.server_settings(changes, before)
                old, new = rows.flat_settings(before), rows.flat_settings(after)
                changed = {name: [old[name], value] for name, value in new.items() if value != old[name]}
                for name, (_, value) in changed.items():
                    await connection.execute_fetchall(
                        "INSERT OR REPLACE INTO guild_settings (guild_id, name, value) VALUES (?, ?, ?)",
                        (key, name, json.dumps(value)),
                    )
                if told := changed.get("system_prompt", [None, None])[1]:
                    await connection.execute_fetchall(
                        "INSERT OR IGNORE INTO server_prompts (sha256, member_id) VALUES (?, ?)",
                        (hashlib.sha256(told.encode()).hexdigest(), actor_id),
                    )
                if changed:
                    await self._audit(connection, key, actor_id, "settings", changed)
        except BaseException:
            self._settings.pop(key, None)  # cancelled at the commit, it may or may not have happened
            raise
        self._settings[key] = after
        return after

    async def free_channels(self, guild_id: int | None) -> set[int]:
        """Return the channels where the bot answers without a mention."""
        found = await self._database.read(
            "SELECT channel_id FROM free_channels WHERE guild_id = ?", (rows.guild_key(guild_id),)
        )
        return {int(row[0]) for row in found}

    async def add_free_channel(self, guild_id: int | None, channel_id: int, actor_id: int) -> bool:
        """Return False when it was one already."""
        return await self._change_channel(
            "INSERT INTO free_channels (guild_id, channel_id) VALUES (?, ?)"
            " ON CONFLICT DO NOTHING RETURNING channel_id",
            (rows.guild_key(guild_id), channel_id),
            actor_id,
            "channels add",
        )

    async def remove_free_channel(self, guild_id: int | None, channel_id: int, actor_id: int) -> bool:
        """Return False when it was none."""
        return await self._change_channel(
            "DELETE FROM free_channels WHERE guild_id = ? AND channel_id = ? RETURNING channel_id",
            (rows.guild_key(guild_id), channel_id),
            actor_id,
            "channels remove",
        )

    async def add_audit(self, guild_id: int | None, actor_id: int, action: str, detail: Mapping[str, Any]) -> None:
        async with self._database.transaction() as connection:
            await self._audit(connection, rows.guild_key(guild_id), actor_id, action, detail)

    async def audit(self, guild_id: int | None, limit: int) -> list[AuditEntry]:
        """Return a server's newest entries, the newest first."""
        found = await self._database.read(
            "SELECT id, guild_id, actor_id, action, detail, created_at FROM audit"
            " WHERE guild_id = ? ORDER BY id DESC LIMIT ?",
            (rows.guild_key(guild_id), limit),
        )
        return [rows.audit_entry(row) for row in found]

    async def _change_channel(self, sql: str, key: tuple[int, int], actor_id: int, action: str) -> bool:
        guild_id, channel_id = key
        async with self._database.transaction() as connection:
            changed = bool(list(await connection.execute_fetchall(sql, key)))
            if changed:
                await self._audit(connection, guild_id, actor_id, action, {"channel_id": channel_id})
        return changed

    async def _audit(
        self, connection: aiosqlite.Connection, guild_id: int, actor_id: int, action: str, detail: Mapping[str, Any]
    ) -> None:
        await insert_audit(connection, guild_id, actor_id, action, detail, self._clock())


async def insert_audit(
    connection: aiosqlite.Connection, guild_key: int, actor_id: int, action: str, detail: Mapping[str, Any], at: float
) -> None:
    """Add an entry to the audit within a transaction, so that no change is without its own."""
    await connection.execute_fetchall(
        "INSERT INTO audit (guild_id, actor_id, action, detail, created_at) VALUES (?, ?, ?, ?, ?)",
        (guild_key, actor_id, action, json.dumps(dict(detail)), at),
    )


def _decoded(found: Iterable[Sequence[Any]]) -> ServerSettings:
    return rows.server_settings({name: json.loads(value) for name, value in found})
