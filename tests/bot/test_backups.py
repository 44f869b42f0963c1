"""Backups made while the store is in use, and put back."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from bot import backups
from bot.backups import backup, restore
from bot.database import connect, migrations, problems
from bot.errors import StoreBusy, StoreDamaged, StoreError
from tests.bot.stores import Clock, opened


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "encore.sqlite3"


async def value(folder: Path) -> str | None:
    async with opened(folder) as store:
        return await store.meta("key")


async def test_backup_made_while_writes_go_on_is_whole_private_and_one_file(tmp_path: Path) -> None:
    saved = tmp_path / "saved.sqlite3"
    async with opened(tmp_path / "data") as store:

        async def write() -> None:
            for number in range(300):
                await store.set_meta(f"key {number}", "x" * 1000)

        writing = asyncio.create_task(write())
        await asyncio.sleep(0.01)
        await store.backup(saved)
        await writing
    assert problems(saved) == []
    assert stat.S_IMODE(saved.stat().st_mode) == 0o600
    assert sorted(file.name for file in tmp_path.iterdir()) == ["data", "saved.sqlite3"]


async def test_backup_needs_no_lock(tmp_path: Path, path: Path) -> None:
    async with opened(tmp_path) as store:
        await store.set_meta("key", "in the log")
        await backup(path, tmp_path / "saved")
    with contextlib.closing(sqlite3.connect(tmp_path / "saved")) as connection:
        assert connection.execute("SELECT value FROM meta").fetchall() == [("in the log",)]


async def test_backup_overwrites_only_when_asked(tmp_path: Path) -> None:
    saved = tmp_path / "saved"
    saved.write_text("precious")
    async with opened(tmp_path) as store:
        with pytest.raises(StoreError, match="exists: choose another name"):
            await store.backup(saved)
        assert saved.read_text() == "precious"
        await store.backup(saved, overwrite=True)
    assert problems(saved) == []


async def test_backup_onto_the_database_or_a_folder_is_refused(tmp_path: Path, path: Path) -> None:
    async with opened(tmp_path) as store:
        with pytest.raises(StoreError, match="the database itself"):
            await store.backup(path, overwrite=True)
        with pytest.raises(StoreError, match="is a folder"):
            await store.backup(tmp_path)


async def test_backup_without_a_database_or_into_no_folder_is_told(tmp_path: Path, path: Path) -> None:
    with pytest.raises(StoreError, match="There is no database at"):
        await backup(path, tmp_path / "saved")
    async with opened(tmp_path) as store:
        with pytest.raises(StoreError, match="saved"):
            await store.backup(tmp_path / "missing" / "saved")


async def test_damaged_database_gives_no_backup(tmp_path: Path, path: Path) -> None:
    async with opened(tmp_path):
        pass
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(8192))
    with pytest.raises(StoreDamaged, match="no backup was made"):
        await backup(path, tmp_path / "saved")
    assert not (tmp_path / "saved").exists()
    assert list(tmp_path.glob("*.partial*")) == []


async def saved_backup(tmp_path: Path) -> Path:
    async with opened(tmp_path) as store:
        await store.set_meta("key", "saved")
        await store.backup(tmp_path / "saved")
        await store.set_meta("key", "later")
    return tmp_path / "saved"


async def test_restore_brings_the_backup_back_and_keeps_the_old_database(tmp_path: Path, path: Path) -> None:
    saved = await saved_backup(tmp_path)
    kept = await restore(saved, path, clock=Clock(0.0))
    assert kept == tmp_path / "encore.sqlite3.before-restore-19700101-000000"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert await value(tmp_path) == "saved"
    assert await restore(kept, path) is not None
    assert await value(tmp_path) == "later"


async def test_restore_into_an_empty_folder(tmp_path: Path) -> None:
    saved = await saved_backup(tmp_path)
    assert await restore(saved, tmp_path / "new" / "encore.sqlite3") is None
    assert await value(tmp_path / "new") == "saved"


async def test_restore_keeps_what_a_killed_process_left_in_its_log(tmp_path: Path, path: Path) -> None:
    saved = await saved_backup(tmp_path)
    code = (
        "import os, sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None);"
        "c.execute(\"UPDATE meta SET value = 'in the log'\"); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    kept = await restore(saved, path)
    assert kept is not None
    assert await value(tmp_path) == "saved"
    with contextlib.closing(sqlite3.connect(kept)) as connection:
        assert connection.execute("SELECT value FROM meta").fetchall() == [("in the log",)]


async def test_restore_replaces_a_damaged_database(tmp_path: Path, path: Path) -> None:
    saved = await saved_backup(tmp_path)
    path.write_bytes(b"damaged" * 1000)
    (tmp_path / "encore.sqlite3-wal").write_bytes(b"log")
    kept = await restore(saved, path)
    assert kept is not None and kept.read_bytes().startswith(b"damaged")
    assert kept.with_name(kept.name + "-wal").read_bytes() == b"log"
    assert await value(tmp_path) == "saved"


async def test_restore_while_encore_runs_is_refused(tmp_path: Path, path: Path) -> None:
    saved = await saved_backup(tmp_path)
    async with opened(tmp_path) as store:
        with pytest.raises(StoreBusy, match="Another Encore runs"):
            await restore(saved, path)
        assert await store.meta("key") == "later"


def foreign(saved: Path) -> None:
    saved.unlink()
    with contextlib.closing(sqlite3.connect(saved)) as connection:
        connection.execute("CREATE TABLE other (a)")


def newer(saved: Path) -> None:
    with contextlib.closing(connect(saved)) as connection:
        connection.execute(f"PRAGMA user_version = {migrations()[-1].version + 1}")


def spoiled(saved: Path) -> None:
    with saved.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(8192))


@pytest.mark.parametrize(
    ("change", "error", "sentence"),
    [
        (foreign, StoreError, "is no backup of Encore"),
        (newer, StoreError, "newer Encore"),
        (spoiled, StoreDamaged, "damaged"),
        (lambda saved: saved.write_bytes(b"text" * 1000), StoreDamaged, "can't be read as a backup"),
        (Path.unlink, StoreError, "There is no backup at"),
    ],
    ids=["foreign", "newer", "damaged", "no database", "missing"],
)
async def test_bad_backup_changes_nothing(
    tmp_path: Path, path: Path, change: object, error: type[StoreError], sentence: str
) -> None:
    saved = await saved_backup(tmp_path)
    change(saved)  # type: ignore[operator]
    before = path.read_bytes()
    with pytest.raises(error, match=sentence):
        await restore(saved, path)
    assert path.read_bytes() == before
    assert list(tmp_path.glob("*.partial*")) + list(tmp_path.glob("*.before-restore-*")) == []


async def test_database_is_no_backup_of_itself(tmp_path: Path, path: Path) -> None:
    await saved_backup(tmp_path)
    with pytest.raises(StoreError, match="the database itself"):
        await restore(path, path)


async def test_restore_that_dies_before_the_last_step_leaves_the_old_database(
    tmp_path: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = await saved_backup(tmp_path)

    def die(partial: Path, destination: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(backups, "_replace", die)
        with pytest.raises(KeyboardInterrupt):
            backups._restore(saved, path, 0.0)
    assert await value(tmp_path) == "later"


async def test_restore_without_hard_links_copies_the_old_database(
    tmp_path: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = await saved_backup(tmp_path)

    def refuse(*_: object) -> None:
        raise PermissionError("no hard links here")

    with monkeypatch.context() as patch:
        patch.setattr(os, "link", refuse)
        kept = await restore(saved, path)
    assert kept is not None
    assert problems(kept) == []
    assert await value(tmp_path) == "saved"
