"""Backups of the database: made while Encore runs, checked before they count, put back in one step.

Both functions block in a thread of their own and leave either the old state or the new one, whenever they are killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from bot.database import APPLICATION_ID, aside, beside, connect, explained, migrations, problems, take_lock, version_of
from bot.errors import StoreBusy, StoreDamaged, StoreError

_BEFORE_RESTORE = "before-restore"
_KEPT = (_BEFORE_RESTORE, "damaged")  # why a copy was kept, as its name says
COPY_DAYS = 30  # that it is kept for: no member's deletion reaches it


async def backup(database: Path, destination: Path, *, overwrite: bool = False) -> None:
    """Copy a database, in use or not, to one file of mode 0600; needs no lock and stops nobody's work.

    Raises StoreError when `destination` exists and `overwrite` is false, StoreDamaged when the copy fails its check,
    StoreFull when there is no room.
    """
    await asyncio.to_thread(_backup, database, destination, overwrite)


async def restore(backup: Path, database: Path, *, clock: Callable[[], float] = time.time) -> Path | None:
    """Put a backup in the place of `database` and return where the old one is kept (None: there was none).

    Takes the data folder's lock: raises StoreBusy while Encore runs. Raises StoreDamaged when the backup is damaged and
    StoreError when it is no backup of Encore or from a newer version; the old database then stays as it is.
    """
    return await asyncio.to_thread(_restore, backup, database, clock())


def kept_aside(database: Path) -> list[Path]:
    """Return the copies of a database that lie beside it because it was damaged or another took its place."""
    found = (path for why in _KEPT for path in database.parent.glob(f"{database.name}.{why}-*"))
    return sorted(path for path in found if not path.name.endswith(("-wal", "-shm")))


def gone_by(copies: Sequence[Path]) -> date | None:
    """Return the day by which `remove_kept`, called once a day, has removed all of some copies.

    None: the name of one doesn't say when it was kept, so it stays.
    """
    kept = [at for path in copies if (at := _kept_at(path)) is not None]
    if not kept or len(kept) < len(copies):
        return None
    return (datetime.fromtimestamp(max(kept), UTC) + timedelta(days=COPY_DAYS + 1)).date()


def remove_kept(database: Path, before: float) -> int:
    """Remove the copies that were kept aside before a time, in seconds since the epoch; return how many. Blocks.

    When it was kept is in a copy's name: its own time is that of the last change to it. Raises OSError.
    """
    old = [path for path in kept_aside(database) if (at := _kept_at(path)) is not None and at < before]
    for path in old:
        for suffix in ("-shm", "-wal", ""):  # the copy last: killed in between, the next round finds it again
            beside(path, suffix).unlink(missing_ok=True)
    return len(old)


def _kept_at(kept: Path) -> float | None:
    """Return when a copy was kept, by what `bot.database.aside` wrote in its name; None when that isn't there."""
    found = re.search(r"-(\d{8}-\d{6})(-\d+)?$", kept.name)
    try:
        return datetime.strptime(found[1], "%Y%m%d-%H%M%S").replace(tzinfo=UTC).timestamp() if found else None
    except ValueError:
        return None


def _backup(database: Path, destination: Path, overwrite: bool) -> None:
    if not database.is_file():
        raise StoreError(f"There is no database at {database}: set DATA_DIR to the folder that Encore uses.")
    if destination.is_dir():
        raise StoreError(f"{destination} is a folder: name the backup's file.")
    if destination.exists() and not overwrite:
        raise StoreError(f"{destination} exists: choose another name, or ask to overwrite it.")
    if destination.exists() and destination.samefile(database):
        raise StoreError(f"{destination} is the database itself: choose another name.")
    with explained(database), _reading(database) as source, explained(destination), _partial(destination) as partial:
        if found := _copy(source, partial):
            raise StoreDamaged(f"{database} is damaged ({found[0]}), so no backup was made: run `encore doctor`.")
        _replace(partial, destination)


def _restore(backup: Path, database: Path, now: float) -> Path | None:
    if not backup.is_file():
        raise StoreError(f"There is no backup at {backup}: name a file that `encore backup` wrote.")
    with explained(database):
        database.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = take_lock(database)
        try:
            if database.exists() and backup.samefile(database):
                raise StoreError(f"{backup} is the database itself: name a file that `encore backup` wrote.")
            with _partial(database) as partial:
                _copy_backup(backup, partial)
                kept = _keep_old(database, now)
                _replace(partial, database)
        finally:
            lock.release()
    return kept


def _copy_backup(backup: Path, partial: Path) -> None:
    """Copy and check a backup; the copy is what is checked, since it is what will be used."""
    with _opened_backup(backup) as source:
        found = _copy(source, partial)
    if found:
        raise StoreDamaged(f"{backup} is damaged ({found[0]}): try an older one.")
    newest = migrations()[-1].version
    with _reading(partial) as copy:
        version = version_of(copy)
        application = int(copy.execute("PRAGMA application_id").fetchone()[0])
    if application != APPLICATION_ID or version < 1:
        raise StoreError(f"{backup} is no backup of Encore: name a file that `encore backup` wrote.")
    if version > newest:
        raise StoreError(
            f"{backup} was written by a newer Encore (version {version}, this one knows {newest}): update Encore."
        )


@contextlib.contextmanager
def _opened_backup(backup: Path) -> Iterator[sqlite3.Connection]:
    with contextlib.ExitStack() as stack:
        try:
            source = stack.enter_context(_reading(backup))
        except sqlite3.DatabaseError as error:
            raise StoreDamaged(f"{backup} can't be read as a backup ({error}): try an older one.") from error
        yield source


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(connect(path, read_only=True)) as connection:
        connection.execute("PRAGMA schema_version").fetchone()  # opening alone reads nothing
        yield connection


def _copy(source: sqlite3.Connection, target: Path) -> list[str]:
    """Copy a database as one consistent state; return what a check of the copy finds.

    A whole copy needs no write-ahead log beside it.
    """
    with contextlib.closing(connect(target)) as writing:
        source.backup(writing)
    found = problems(target)
    if not found:
        with contextlib.closing(connect(target)) as writing:
            writing.execute("PRAGMA journal_mode = DELETE")
    return found


def _keep_old(database: Path, now: float) -> Path | None:
    """Give the old database a second name, so that its place is never empty, not even when killed right here.

    Its write-ahead log must leave that place first: SQLite would take it for the restored file's own.
    """
    if not database.exists():
        return None
    kept, log_file = aside(database, _BEFORE_RESTORE, now), beside(database, "-wal")
    if problems(database, quick=True):
        with contextlib.suppress(FileNotFoundError):
            log_file.rename(beside(kept, "-wal"))
    else:
        with contextlib.closing(connect(database)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        if log_file.exists() and log_file.stat().st_size:
            raise StoreBusy(f"Another program has {database} open: close it and try again.")
        log_file.unlink(missing_ok=True)
    beside(database, "-shm").unlink(missing_ok=True)
    try:
        os.link(database, kept)
    except OSError:  # a file system without hard links
        shutil.copy2(database, kept)
    return kept


def _replace(partial: Path, destination: Path) -> None:
    """Make `partial` the file `destination`, on the disk before and after."""
    _sync(partial, os.O_RDWR)
    partial.replace(destination)
    _sync(destination.parent, os.O_RDONLY)


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _partial(destination: Path) -> Iterator[Path]:
    """Give an empty file of mode 0600 beside `destination`, gone afterwards unless it took that name."""
    descriptor, name = tempfile.mkstemp(prefix=f"{destination.name}.", suffix=".partial", dir=destination.parent)
    os.close(descriptor)
    partial = Path(name)
    try:
        yield partial
    finally:
        for suffix in ("", "-journal", "-wal", "-shm"):
            beside(partial, suffix).unlink(missing_ok=True)
