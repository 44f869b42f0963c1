"""The file under the store: lock, permissions, damage, transactions, what a killed process leaves."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from bot import database as database_module
from bot.database import Database, connect, migrations, problems
from bot.errors import StoreBusy, StoreDamaged, StoreError, StoreFull, StoreRefused
from bot.store import Store
from tests.bot.stores import Clock, new_ask, new_reply
from tests.bot.stores import opened_anew as opened

ROOT = Path(__file__).parents[2]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def test_folder_database_log_and_lock_are_private(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    async with opened(folder) as store:
        await store.set_meta("key", "value")
        assert mode(folder) == 0o700
        names = {path.name: mode(path) for path in folder.iterdir()}
    assert set(names) == {"encore.sqlite3", "encore.sqlite3-wal", "encore.sqlite3-shm", "encore.lock"}
    assert set(names.values()) == {0o600}


async def test_a_readable_database_becomes_private_when_opened(tmp_path: Path) -> None:
    async with opened(tmp_path):
        pass
    (tmp_path / "encore.sqlite3").chmod(0o644)
    async with opened(tmp_path):
        assert mode(tmp_path / "encore.sqlite3") == 0o600


async def test_second_store_on_a_folder_is_refused_in_one_sentence(tmp_path: Path) -> None:
    async with opened(tmp_path):
        with pytest.raises(StoreBusy, match=r"^Another Encore runs on .*: stop it, or set another DATA_DIR\.$"):
            await Store.open(tmp_path / "encore.sqlite3")
    async with opened(tmp_path) as store:
        assert await store.check() == []


async def test_failed_open_frees_the_lock(tmp_path: Path) -> None:
    (tmp_path / "encore.sqlite3").write_bytes(b"not a database, by far" * 100)
    with pytest.raises(StoreDamaged):
        await Store.open(tmp_path / "encore.sqlite3")
    async with opened(tmp_path):
        pass


WRITER = """
import asyncio, sys
from pathlib import Path
from bot.records import ReactionEvent, ReactionKind
from bot.store import Store
from tests.bot.stores import new_ask

async def main():
    message_id = int(sys.argv[2])
    async with await Store.open(Path(sys.argv[1]) / "encore.sqlite3") as store:
        reply_id = await store.claim_reply(new_ask(message_id=message_id))
        await store.attach_message(reply_id, message_id, 0)
        print(0, flush=True)
        for member in range(1, 1_000_000):
            await store.apply_reactions(
                [ReactionEvent(ReactionKind.ADD, message_id, member, emoji, 1.0) for emoji in "ab"]
            )
            print(member, flush=True)

asyncio.run(main())
"""


def write_until_killed(folder: Path, message_id: int, lines: int) -> int:
    """Let a process write, kill it after some lines, and return the last member it told as committed."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(folder), str(message_id)],
        stdout=subprocess.PIPE,
        cwd=ROOT,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdout is not None
    with process.stdout:
        told = [process.stdout.readline() for _ in range(lines)]
        process.kill()
        told += process.stdout.read().splitlines()
    assert process.wait() == -signal.SIGKILL
    return int(told[-1])


async def test_kill_9_loses_nothing_that_was_committed_and_frees_the_lock(tmp_path: Path) -> None:
    draw = random.Random(20260801)
    for message_id in range(1, 5):
        acknowledged = await asyncio.to_thread(write_until_killed, tmp_path, message_id, draw.randrange(1, 150))
        async with opened(tmp_path) as store:
            reply = await store.reply_of_message(message_id)
            assert reply is not None
            votes = await store.votes(reply.id)
            # The transaction after the last one told may have been committed too, but then whole.
            assert len(votes) in (acknowledged, acknowledged + 1)
            assert all(vote.source == "reaction:b" for vote in votes)
            assert await store.check() == []


async def test_open_transaction_of_a_killed_process_never_happened(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await store.set_meta("key", "before")
    code = (
        "import os, sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None);"
        "c.execute('PRAGMA cache_size = 1'); c.execute('BEGIN IMMEDIATE');"
        "c.execute(\"UPDATE meta SET value = 'half'\"); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "encore.sqlite3")], check=False)
    async with opened(tmp_path) as store:
        assert await store.meta("key") == "before"


def spoil(path: Path) -> None:
    """Overwrite the middle of a database."""
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(8192))


async def test_damaged_file_is_kept_aside_and_the_next_start_is_empty(tmp_path: Path) -> None:
    path = tmp_path / "encore.sqlite3"
    async with opened(tmp_path) as store:
        await new_reply(store, 1)
    spoil(path)
    spoiled = path.read_bytes()
    with pytest.raises(StoreDamaged) as told:
        await Store.open(path, clock=Clock(0.0))
    kept = tmp_path / "encore.sqlite3.damaged-19700101-000000"
    assert kept.read_bytes() == spoiled
    assert kept.name in str(told.value)
    assert "`encore restore FILE`" in str(told.value)
    assert not path.exists()
    async with opened(tmp_path) as store:
        assert await store.reply(1) is None
        assert await store.check() == []


async def test_damaged_file_takes_its_log_along(tmp_path: Path) -> None:
    path = tmp_path / "encore.sqlite3"
    path.write_bytes(b"SQLite format 3\x00" + os.urandom(8192))
    (tmp_path / "encore.sqlite3-wal").write_bytes(b"log")
    (tmp_path / "encore.sqlite3-shm").write_bytes(b"index")
    with pytest.raises(StoreDamaged):
        await Store.open(path, clock=Clock(0.0))
    assert (tmp_path / "encore.sqlite3.damaged-19700101-000000-wal").read_bytes() == b"log"
    assert not (tmp_path / "encore.sqlite3-wal").exists()


async def test_files_damaged_in_the_same_second_are_both_kept(tmp_path: Path) -> None:
    path = tmp_path / "encore.sqlite3"
    for content in (b"first" * 1000, b"second" * 1000):
        path.write_bytes(content)
        with pytest.raises(StoreDamaged):
            await Store.open(path, clock=Clock(0.0))
    kept = sorted(tmp_path.glob("*.damaged-*"))
    assert [file.read_bytes()[:6] for file in kept] == [b"firstf", b"second"]


async def test_large_file_is_checked_at_the_start_only_after_a_kill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[Path] = []
    monkeypatch.setattr(database_module, "_ALWAYS_CHECKED_BYTES", 0)
    monkeypatch.setattr(database_module, "problems", lambda path, quick: checked.append(path) or [])
    async with opened(tmp_path):
        pass
    async with opened(tmp_path):
        pass
    assert checked == []
    code = (
        "import os, sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None);"
        "c.execute(\"INSERT INTO meta VALUES ('a', 'b')\"); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "encore.sqlite3")], check=False)
    async with opened(tmp_path):
        assert checked == [tmp_path / "encore.sqlite3"]


async def test_check_names_damage_and_orphans(tmp_path: Path) -> None:
    path = tmp_path / "encore.sqlite3"
    async with opened(tmp_path) as store:
        assert await store.check() == []
        with contextlib.closing(connect(path)) as foreign:
            foreign.execute("INSERT INTO reply_messages (message_id, reply_id, part) VALUES (1, 404, 0)")
        assert await store.check() == ["reply_messages: rows that refer to nothing"]
    spoil(path)
    assert problems(path)


async def test_database_of_a_newer_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "encore.sqlite3"
    newest = migrations()[-1].version
    async with opened(tmp_path):
        pass
    with contextlib.closing(connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {newest + 1}")
    with pytest.raises(StoreError, match=rf"newer Encore \(version {newest + 1}, this one knows {newest}\): update"):
        await Store.open(path)
    assert [file.name for file in tmp_path.glob("*.damaged-*")] == []


async def test_lock_of_another_program_is_told_and_passes(tmp_path: Path) -> None:
    async with opened(tmp_path, busy_timeout_seconds=0.01) as store:
        with contextlib.closing(connect(tmp_path / "encore.sqlite3")) as foreign:
            foreign.execute("BEGIN EXCLUSIVE")
            with pytest.raises(StoreBusy, match=r"^Another program holds the lock on .* and try again\.$"):
                await store.set_meta("key", "value")
            assert await store.meta("key") is None  # reading goes on
            foreign.execute("ROLLBACK")
        await store.set_meta("key", "value")
        assert await store.meta("key") == "value"


async def fill(database: Database) -> None:
    """Leave the file no room to grow."""
    async with database.transaction() as connection:
        (row,) = await connection.execute_fetchall("PRAGMA page_count")
        await connection.execute_fetchall(f"PRAGMA max_page_count = {row[0]}")


async def test_full_disk_is_told_rolls_back_and_passes(tmp_path: Path) -> None:
    path = tmp_path / "encore.sqlite3"
    async with opened(tmp_path) as store:
        await store.set_meta("key", "small")
        await fill(store._database)
        with pytest.raises(
            StoreFull, match=r"^There is no room left on the disk of .*: free some space and try again\.$"
        ):
            await store.set_meta("key", "x" * 100_000)
        assert await store.meta("key") == "small"
        async with store._database.transaction() as connection:
            await connection.execute_fetchall("PRAGMA max_page_count = 1000000")
        await store.set_meta("key", "x" * 100_000)
    assert problems(path) == []


@pytest.mark.parametrize("value", [2**63, "\ud800"])
async def test_value_that_sqlite_cannot_hold_is_refused(tmp_path: Path, value: object) -> None:
    async with opened(tmp_path) as store:
        with pytest.raises(StoreRefused):
            async with store._database.transaction() as connection:
                await connection.execute_fetchall("INSERT INTO meta VALUES (?, ?)", ("key", value))
        await store.set_meta("key", "fine")


async def test_folder_in_place_of_the_file_is_told_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "encore.sqlite3").mkdir()
    with pytest.raises(StoreError, match=r"is no file: move it away"):
        await Store.open(tmp_path / "encore.sqlite3")


async def test_file_in_place_of_the_folder_is_told_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    with pytest.raises(StoreError, match=r"let this account"):
        await Store.open(tmp_path / "data" / "encore.sqlite3")


async def test_transaction_that_fails_leaves_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        with pytest.raises(ZeroDivisionError):
            async with store._database.transaction() as connection:
                await connection.execute_fetchall("INSERT INTO meta VALUES ('key', 'value')")
                raise ZeroDivisionError
        assert await store.meta("key") is None


async def test_reads_see_committed_data_alone(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        async with store._database.transaction() as connection:
            await connection.execute_fetchall("INSERT INTO meta VALUES ('key', 'value')")
            assert await store.meta("key") is None
        assert await store.meta("key") == "value"


async def test_transactions_of_two_tasks_never_interleave(tmp_path: Path) -> None:
    order: list[str] = []
    async with opened(tmp_path) as store:

        async def write(name: str) -> None:
            async with store._database.transaction() as connection:
                for _ in range(5):
                    await connection.execute_fetchall("INSERT OR REPLACE INTO meta VALUES (?, '')", (name,))
                    order.append(name)

        await asyncio.gather(*(write(name) for name in "abc"))
    assert order == ["a"] * 5 + ["b"] * 5 + ["c"] * 5


@pytest.mark.parametrize("turns", range(12))
async def test_cancelled_write_happens_wholly_or_not_at_all(tmp_path: Path, turns: int) -> None:
    async with opened(tmp_path) as store:
        task = asyncio.create_task(store.claim_reply(new_ask(message_id=5)))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        variant = await store.next_variant(5)
        assert variant in (0, 1)
        assert await store.claim_reply(new_ask(message_id=5, variant=variant)) is not None
        assert await store.check() == []


async def test_log_is_folded_into_the_file_once_it_is_calm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_module, "_TRANSACTIONS_A_CHECKPOINT", 3)
    monkeypatch.setattr(database_module, "_CALM_SECONDS", 0.0)
    path, copy = tmp_path / "data" / "encore.sqlite3", tmp_path / "copy"
    async with opened(path.parent) as store:
        for key in "ab":
            await store.set_meta(key, "value")
        assert store._database._checkpoint is None
        await store.set_meta("c", "value")
        assert store._database._checkpoint is not None
        await store._database._checkpoint
        shutil.copy(path, copy)  # without its log
        with contextlib.closing(connect(copy)) as connection:
            assert connection.execute("SELECT key FROM meta").fetchall() == [("a",), ("b",), ("c",)]


async def test_store_closes_at_once_while_the_log_waits_for_calm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "_TRANSACTIONS_A_CHECKPOINT", 1)
    monkeypatch.setattr(database_module, "_CALM_SECONDS", 3600.0)
    async with asyncio.timeout(30):
        async with opened(tmp_path) as store:
            await store.set_meta("key", "value")
    assert not (tmp_path / "encore.sqlite3-wal").exists()


async def test_closed_store_says_so(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        pass
    await store.aclose()
    with pytest.raises(StoreError, match="closed"):
        await store.meta("key")
    with pytest.raises(StoreError, match="closed"):
        await store.set_meta("key", "value")


async def test_too_old_sqlite_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 36, 0))
    with pytest.raises(StoreError, match=r"3\.37"):
        await Store.open(tmp_path / "encore.sqlite3")
