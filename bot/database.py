"""The database file: its lock, permissions, integrity and migrations, and the two connections to it.

Knows nothing of replies or votes: those queries are `bot.store`'s. What a power cut may cost: with WAL and
synchronous=NORMAL a killed process loses nothing that was committed, a power cut at most the last commits, and neither
can damage the file. That is the right price here: the start reads reactions again from Discord.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import logging
import os
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import aiosqlite
from filelock import BaseFileLock, FileLock, Timeout

from bot.errors import StoreBusy, StoreDamaged, StoreError, StoreFull, StoreRefused

log = logging.getLogger(__name__)

APPLICATION_ID = int.from_bytes(b"Encr", "big")

_MIGRATIONS = Path(__file__).with_name("migrations")
_LOCK_NAME = "encore.lock"
# The log takes whole pages, and a reaction changes one, anywhere: small pages make a flood's log four times smaller.
_PAGE_BYTES = 1024
# quick_check reads the whole file, 0.2 s per 256 MiB from a warm cache but far more from a slow disk, so a larger file
# is checked at the start only when the last process left its write-ahead log behind, that is, was killed.
_ALWAYS_CHECKED_BYTES = 256 * 2**20
_REFUSED = {
    sqlite3.SQLITE_ERROR,
    sqlite3.SQLITE_CONSTRAINT,
    sqlite3.SQLITE_MISMATCH,
    sqlite3.SQLITE_TOOBIG,
    sqlite3.SQLITE_RANGE,
}
# Folding the write-ahead log into the file ends with fsyncs, and a commit beside one waits 100 ms and more on a busy
# disk. So a connection of its own does it now and then, in a calm second. The writer does it only when a flood (200,000
# reactions at once) has let the log grow to 256 MiB, and then gives the disk space back.
_TRANSACTIONS_A_CHECKPOINT = 1024
_CALM_SECONDS, _CALM_TRANSACTIONS = 1.0, 50
_LONGEST_LOG_PAGES = 256 * 2**20 // _PAGE_BYTES
_KEPT_LOG_BYTES = 64 * 2**20
_OLDEST_SQLITE = (3, 37, 0)  # STRICT tables


class Migration(NamedTuple):
    version: int
    sql: str


def migrations() -> list[Migration]:
    """Return the numbered migrations in order; `0002_name.sql` leads to version 2."""
    files = sorted(_MIGRATIONS.glob("[0-9][0-9][0-9][0-9]_*.sql"))
    return [Migration(int(file.name[:4]), file.read_text(encoding="utf-8")) for file in files]


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn what sqlite3 and the file system raise into a StoreError of one sentence with its remedy."""
    try:
        yield
    except sqlite3.Error as error:
        raise _explain(error, path) from error
    except OSError as error:
        raise _explain_os(error, path) from error
    except (OverflowError, UnicodeEncodeError) as error:
        raise StoreRefused(f"A value doesn't fit into {path} ({error}): report this with the log.") from error


def _explain(error: sqlite3.Error, path: Path) -> StoreError:
    code = getattr(error, "sqlite_errorcode", None) or 0  # absent when the module itself complains
    primary = code & 0xFF
    if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return StoreBusy(f"Another program holds the lock on {path}: close it (a database browser?) and try again.")
    # IOERR_SHMSIZE: the disk had no room for the -shm file.
    if primary == sqlite3.SQLITE_FULL or code == sqlite3.SQLITE_IOERR_SHMSIZE:
        return StoreFull(f"There is no room left on the disk of {path}: free some space and try again.")
    if primary in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return StoreDamaged(f"{path} is damaged: restart Encore, which keeps the file aside and says how to restore.")
    if primary in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
        return StoreError(f"{path} can't be opened for writing: let this account write the file and its folder.")
    if primary in _REFUSED:
        return StoreRefused(f"{path} refused a value or a query ({error}): report this with the log.")
    return StoreError(f"{path} can't be used ({error}): check the disk with `encore doctor`.")


def _explain_os(error: OSError, path: Path) -> StoreError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StoreFull(f"There is no room left on the disk of {path}: free some space and try again.")
    return StoreError(f"{path}: {error.strerror or error}; let this account read and write the file and its folder.")


def check_place(path: Path) -> None:
    """Raise StoreError where something else lies in the place of the database or its lock; touches nothing."""
    for file in (path, path.with_name(_LOCK_NAME)):
        target = Path(os.path.realpath(file))
        if file.is_symlink() and (target.is_symlink() or not target.parent.is_dir()):
            raise StoreError(f"{file} is a link to a place that is not there: remove it, or set another DATA_DIR.")
        if file.exists() and not file.is_file():
            raise StoreError(f"{file} is no file: move it away, or set another DATA_DIR.")


def check_owner(connection: sqlite3.Connection, path: Path) -> None:
    """Raise StoreError when another program made the database; an empty one is anybody's."""
    application = int(connection.execute("PRAGMA application_id").fetchone()[0])
    used = version_of(connection) or connection.execute("SELECT 1 FROM sqlite_schema").fetchone()
    if used and application != APPLICATION_ID:
        raise StoreError(f"{path} is the database of another program: move it away, or set another DATA_DIR.")


def take_lock(path: Path) -> BaseFileLock:
    """Take the lock of the data folder that holds `path`; the kernel frees it when this process dies.

    Raises StoreBusy when another process (or another store of this one) has it.
    """
    lock = FileLock(path.with_name(_LOCK_NAME), mode=0o600, thread_local=False)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise StoreBusy(f"Another Encore runs on {path.parent}: stop it, or set another DATA_DIR.") from None
    return lock


def connect(path: Path, *, read_only: bool = False, timeout_seconds: float = 5.0) -> sqlite3.Connection:
    """Open a plain connection in autocommit mode. A read-only one never folds the write-ahead log into the file."""
    mode = "ro" if read_only else "rw"
    address = f"file:{quote(str(path.absolute()))}?mode={mode}"
    return sqlite3.connect(address, uri=True, isolation_level=None, timeout=timeout_seconds, check_same_thread=False)


def version_of(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def migrate(connection: sqlite3.Connection, path: Path, *, to: int | None = None) -> None:
    """Bring the schema to version `to` (None: the newest), each migration in a transaction of its own.

    Raises StoreError when the file is newer than this program.
    """
    known = migrations()
    present, newest = version_of(connection), known[-1].version
    if present > newest:
        raise StoreError(
            f"{path} was written by a newer Encore (version {present}, this one knows {newest}): update Encore."
        )
    connection.execute("PRAGMA foreign_keys = OFF")  # a table may be rebuilt; foreign_key_check stands in
    connection.create_function("sha256", 1, lambda text: hashlib.sha256(text.encode()).hexdigest())  # for migrations
    for migration in known:
        if present < migration.version <= (newest if to is None else to):
            try:
                connection.executescript(
                    f"BEGIN IMMEDIATE;\n{migration.sql}\n;PRAGMA user_version = {migration.version};"
                )
                if connection.execute("PRAGMA foreign_key_check").fetchone():
                    raise StoreError(f"{path} can't be brought to version {migration.version}: report this.")
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise


def problems(path: Path, *, quick: bool = False) -> list[str]:
    """Return what an integrity check finds, nothing when the file is whole; reads alone, takes no lock."""
    try:
        with contextlib.closing(connect(path, read_only=True)) as connection:
            pragma = "quick_check" if quick else "integrity_check"
            found = [str(row[0]) for row in connection.execute(f"PRAGMA {pragma}(20)")]
            if not quick:
                orphans = sorted({str(row[0]) for row in connection.execute("PRAGMA foreign_key_check")})
                found += [f"{table}: rows that refer to nothing" for table in orphans]
    except sqlite3.DatabaseError as error:
        if not isinstance(_explain(error, path), StoreDamaged):
            raise _explain(error, path) from error
        found = [str(error)]
    return [line for line in found if line != "ok"]


def aside(path: Path, why: str, now: float) -> Path:
    """Return an unused name beside `path`, such as encore.sqlite3.damaged-20260801-031500."""
    stamp = datetime.fromtimestamp(now, UTC).strftime("%Y%m%d-%H%M%S")
    names = (path.with_name(f"{path.name}.{why}-{stamp}{more}") for more in ("", *(f"-{n}" for n in range(2, 1000))))
    return next(name for name in names if not name.exists())


def beside(path: Path, suffix: str) -> Path:
    """Return SQLite's companion of a database: `-wal` or `-shm`."""
    return path.with_name(path.name + suffix)


def _keep_aside(path: Path, now: float) -> Path:
    kept = aside(path, "damaged", now)
    # The database goes last: killed in between, the next start finds the damage again instead of an empty store.
    for suffix in ("-shm", "-wal", ""):
        with contextlib.suppress(FileNotFoundError):
            beside(path, suffix).rename(beside(kept, suffix))
    return kept


def _create_private(path: Path) -> None:
    # SQLite gives -wal and -shm the mode of the database, so making it first makes all three private.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    path.chmod(0o600)


def _prepare(path: Path, now: float, timeout_seconds: float) -> BaseFileLock:
    """Lock, check and migrate; blocking. The caller owns the lock that comes back."""
    if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
        raise StoreError(f"SQLite {sqlite3.sqlite_version} is too old: use a Python with SQLite 3.37 or newer.")
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    check_place(path)
    lock = take_lock(path)
    try:
        _create_private(path)
        log_file = beside(path, "-wal")
        killed = log_file.exists() and log_file.stat().st_size > 0
        size = path.stat().st_size
        if size and (killed or size <= _ALWAYS_CHECKED_BYTES) and (found := problems(path, quick=True)):
            kept = _keep_aside(path, now)
            raise StoreDamaged(
                f"{path} is damaged ({found[0]}) and was kept as {kept.name}: run `encore restore FILE` with a backup, "
                "or start again with an empty store."
            )
        with contextlib.closing(connect(path, timeout_seconds=timeout_seconds)) as connection:
            check_owner(connection, path)
            connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")  # heard by an empty file alone
            if connection.execute("PRAGMA journal_mode = WAL").fetchone()[0] != "wal":
                raise StoreError(f"{path} is on a file system without shared memory: set DATA_DIR to a local disk.")
            migrate(connection, path)
    except BaseException:
        lock.release()
        raise
    return lock


class Database:
    """An open, locked, migrated file: one writer under one lock, one reader that sees committed data alone."""

    def __init__(
        self,
        path: Path,
        lock: BaseFileLock,
        writer: aiosqlite.Connection,
        reader: aiosqlite.Connection,
        checkpointer: aiosqlite.Connection,
    ) -> None:
        self.path = path
        self._lock = lock
        self._writer = writer
        self._reader = reader
        self._checkpointer = checkpointer
        self._writing = asyncio.Lock()
        self._transactions = 0
        self._checkpoint: asyncio.Task[None] | None = None
        self._closed = False

    @classmethod
    async def open(
        cls, path: Path, *, clock: Callable[[], float] = time.time, busy_timeout_seconds: float = 5.0
    ) -> Database:
        """Lock, check, migrate and open `path`, made with mode 0600 when it is missing.

        Raises StoreBusy (another Encore), StoreDamaged (the file was kept aside), StoreFull or StoreError.
        """
        with explained(path):
            lock = await asyncio.to_thread(_prepare, path, clock(), busy_timeout_seconds)
            opened: list[aiosqlite.Connection] = []
            try:
                for pragmas in (
                    (  # the writer
                        "foreign_keys = ON",
                        "secure_delete = ON",  # what is deleted is overwritten, not only forgotten
                        f"wal_autocheckpoint = {_LONGEST_LOG_PAGES}",
                        f"journal_size_limit = {_KEPT_LOG_BYTES}",
                    ),
                    ("query_only = ON",),  # the reader
                    (),  # the checkpointer
                ):
                    connection = await aiosqlite.connect(path, isolation_level=None, timeout=busy_timeout_seconds)
                    opened.append(connection)
                    for pragma in ("synchronous = NORMAL", *pragmas):
                        await connection.execute_fetchall(f"PRAGMA {pragma}")
            except BaseException:
                for connection in opened:
                    await connection.close()
                lock.release()
                raise
        return cls(path, lock, *opened)

    async def read(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run one SELECT on committed data and return all its rows."""
        self._check_open()
        with explained(self.path):
            return [tuple(row) for row in await self._reader.execute_fetchall(sql, parameters)]

    async def write(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run one statement as its own transaction and return its rows; cancelled, it may have happened."""
        async with self._writing:
            self._check_open()
            with explained(self.path):
                try:
                    returned = [tuple(row) for row in await self._writer.execute_fetchall(sql, parameters)]
                except asyncio.CancelledError:
                    await asyncio.shield(self._roll_back())  # undoes nothing, but comes after the statement
                    raise
            self._count_transaction()
            return returned

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[aiosqlite.Connection]:
        """Hold the write lock from BEGIN IMMEDIATE to COMMIT; any exception, cancellation too, rolls back.

        aiosqlite queues each statement by itself, so without the lock two tasks would share one transaction. Use
        `execute_fetchall` inside: it leaves no open cursor behind. Raises StoreError and its kinds.
        """
        async with self._writing:
            self._check_open()
            with explained(self.path):
                try:
                    await self._writer.execute_fetchall("BEGIN IMMEDIATE")
                    yield self._writer
                    await self._writer.execute_fetchall("COMMIT")
                except BaseException:
                    await asyncio.shield(self._roll_back())
                    raise
            self._count_transaction()

    async def empty_log(self) -> None:
        """Fold the write-ahead log into the file and empty it: it holds what was deleted as it was before."""
        async with self._writing:
            self._check_open()
            with explained(self.path):
                [(busy, *_)] = await self._writer.execute_fetchall("PRAGMA wal_checkpoint(TRUNCATE)")
        if busy:
            log.warning("another program reads %s, so its log holds what was deleted until Encore stops", self.path)

    async def aclose(self) -> None:
        """Close after the transaction under way; safe to call twice."""
        async with self._writing:
            if self._closed:
                return
            self._closed = True
            try:
                if self._checkpoint is not None:
                    self._checkpoint.cancel()  # closing folds the log anyway
                    await asyncio.gather(self._checkpoint, return_exceptions=True)
                with explained(self.path):
                    await self._checkpointer.close()
                    await self._reader.close()
                    await self._writer.close()  # last, so that it folds the log into the file
            finally:
                self._lock.release()

    def _count_transaction(self) -> None:
        self._transactions += 1
        if self._transactions >= _TRANSACTIONS_A_CHECKPOINT and (self._checkpoint is None or self._checkpoint.done()):
            self._checkpoint = asyncio.create_task(self._fold_log(), name="store checkpoint")

    async def _fold_log(self) -> None:
        before = -_CALM_TRANSACTIONS
        while self._transactions - before >= _CALM_TRANSACTIONS:
            before = self._transactions
            await asyncio.sleep(_CALM_SECONDS)
        self._transactions = 0
        try:
            await self._checkpointer.execute_fetchall("PRAGMA wal_checkpoint(PASSIVE)")
        except sqlite3.Error as error:  # the log keeps everything until the next one
            log.warning("the write-ahead log stays: %s", _explain(error, self.path))

    async def _roll_back(self) -> None:
        # A cancelled BEGIN or COMMIT still runs on the connection's thread, so its state is only known there: always
        # ask, and let SQLite say that no transaction is open (nothing began, or the commit had gone through).
        with contextlib.suppress(sqlite3.OperationalError):
            await self._writer.execute_fetchall("ROLLBACK")

    def _check_open(self) -> None:
        if self._closed:
            raise StoreError("The store is closed: start Encore again.")
