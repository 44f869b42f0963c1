"""What doctor can say of a database, and that looking leaves no trace."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from bot import store_condition
from bot.database import migrations, take_lock
from bot.errors import StoreError
from bot.store import Store
from bot.store_condition import Condition, condition

NEWEST = migrations()[-1].version


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "encore.sqlite3"


async def _make(database: Path, *, channels: int = 0) -> None:
    async with await Store.open(database) as store:
        for number in range(channels):
            await store.add_free_channel(number % 2, 100 + number, 1)


async def test_sound_database_is_told_with_its_free_channels(database: Path) -> None:
    await _make(database, channels=3)
    assert condition(database) == Condition(running=False, version=NEWEST, newest=NEWEST, free_channels=3)


async def test_looking_leaves_the_folder_as_it_was(database: Path) -> None:
    await _make(database)
    before = {path.name: path.read_bytes() for path in database.parent.iterdir()}
    condition(database)
    assert {path.name: path.read_bytes() for path in database.parent.iterdir()} == before


async def test_running_store_is_seen_and_its_newest_commits_count(database: Path) -> None:
    async with await Store.open(database) as store:
        await store.add_free_channel(1, 100, 1)
        assert condition(database) == Condition(running=True, version=NEWEST, newest=NEWEST, free_channels=1)
        await store.set_meta("key", "still writable")


async def test_killed_stores_log_is_kept(database: Path) -> None:
    store = await Store.open(database)
    await store.set_meta("key", "in the log")
    copy = database.parent / "copy" / database.name
    copy.parent.mkdir()
    for suffix in ("", "-wal"):
        copy.with_name(copy.name + suffix).write_bytes(database.with_name(database.name + suffix).read_bytes())
    await store.aclose()
    assert condition(copy).problems == ()
    async with await Store.open(copy) as reopened:
        assert await reopened.meta("key") == "in the log"


async def test_damage_is_told(database: Path) -> None:
    await _make(database)
    content = bytearray(database.read_bytes())
    content[4096 * 2 : 4096 * 4] = b"\xff" * 8192
    database.write_bytes(content)
    assert condition(database).problems
    assert database.read_bytes() == bytes(content)


def test_database_without_tables_has_version_0(database: Path) -> None:
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA user_version = 0")
        connection.execute("CREATE TABLE other (a)")
        connection.commit()
    assert condition(database) == Condition(running=False, version=0, newest=NEWEST)


def test_folder_in_its_place_is_an_error_of_one_sentence(database: Path) -> None:
    database.mkdir()
    with pytest.raises(StoreError) as caught:
        condition(database)
    assert "\n" not in str(caught.value)


async def test_encore_may_start_while_the_file_is_checked(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await _make(database)
    checked: list[Path] = []

    def check(path: Path) -> list[str]:
        take_lock(path).release()  # raises StoreBusy if the lock is held
        checked.append(path)
        return []

    monkeypatch.setattr(store_condition, "problems", check)
    assert condition(database).running is False
    assert checked == [database]
