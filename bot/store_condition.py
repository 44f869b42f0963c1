"""What can be said of a database without opening it for work: `encore doctor` asks while Encore may be running.

Reads alone and leaves everything as it was: no migration, nothing kept aside, no file of SQLite's left beside it.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bot.database import (
    beside,
    check_owner,
    check_place,
    connect,
    explained,
    migrations,
    problems,
    take_lock,
    version_of,
)
from bot.errors import StoreBusy


@dataclass(frozen=True, slots=True)
class Condition:
    """How a database stands. `version` is its schema's, `newest` what this program knows."""

    running: bool  # another Encore has it
    problems: tuple[str, ...] = ()
    version: int = 0
    newest: int = 0
    free_channels: int = 0  # in all servers
    unprompted_channels: int = 0  # where the bot may speak up by itself, in all servers


def condition(path: Path) -> Condition:
    """Look at an existing database; blocks. Raises StoreError when it can't be read, or is another program's."""
    check_place(path)
    with explained(path), _undisturbed(path) as running:
        if found := problems(path):
            return Condition(running, tuple(found))
        with contextlib.closing(connect(path, read_only=True)) as connection:
            check_owner(connection, path)
            return Condition(
                running,
                version=version_of(connection),
                newest=migrations()[-1].version,
                free_channels=_count(connection, "free_channels"),
                unprompted_channels=_count(
                    connection, "guild_settings", "name = 'unprompted_channel_id' AND value <> 'null'"
                ),
            )


@contextlib.contextmanager
def _undisturbed(path: Path) -> Iterator[bool]:
    """Yield whether another Encore has the folder's lock; holds it for moments only, so that one may start meanwhile.

    A reader of a database in WAL mode makes the log and its index when they are missing, and may not delete them.
    """
    try:
        lock = take_lock(path)
    except StoreBusy:
        yield True
        return
    log, index = beside(path, "-wal"), beside(path, "-shm")
    at_rest = not log.exists() and not index.exists()
    lock.release()
    yield False
    if not at_rest:
        return
    with contextlib.suppress(StoreBusy):  # an Encore that started meanwhile: the files are its own
        lock = take_lock(path)
        try:
            if log.exists() and not log.stat().st_size:
                log.unlink()
                index.unlink(missing_ok=True)
        finally:
            lock.release()


def _count(connection: sqlite3.Connection, table: str, where: str = "true") -> int:
    """Count rows of a table; a store that is older than it has none."""
    known = connection.execute("SELECT 1 FROM sqlite_schema WHERE name = ?", (table,)).fetchone()
    return int(connection.execute(f"SELECT count(*) FROM {table} WHERE {where}").fetchone()[0]) if known else 0
