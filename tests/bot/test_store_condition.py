"""What doctor can say of a database, and that looking leaves no trace."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from bot import store_condition
from bot.database import migrations, take_lock
from bot.doctor import examine
from bot.errors import StoreError
from bot.findings import Level
from bot.settings import Settings
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


def test_empty_database_has_version_0(database: Path) -> None:
    database.touch()
    assert condition(database) == Condition(running=False, version=0, newest=NEWEST)


def _another_programs(database: Path) -> str:
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("CREATE TABLE replies (a)")
    return "is the database of another program"


def _another_programs_with_a_version(database: Path) -> str:
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("CREATE TABLE replies (a)")
        connection.execute("PRAGMA user_version = 3")
    return "is the database of another program"


def _a_folder(database: Path) -> str:
    database.mkdir()
    return "encore.sqlite3 is no file"


def _a_folder_for_a_lock(database: Path) -> str:
    database.with_name("encore.lock").mkdir()
    return "encore.lock is no file"


def _a_link_to_nowhere(database: Path) -> str:
    database.symlink_to(database.parent / "nowhere" / "x.sqlite3")
    return "encore.sqlite3 is a link to a place that is not there"


@pytest.mark.parametrize(
    "obstacle",
    [_another_programs, _another_programs_with_a_version, _a_folder, _a_folder_for_a_lock, _a_link_to_nowhere],
)
async def test_what_is_no_store_of_encore_is_refused_alike_by_doctor_and_the_start(
    database: Path, obstacle: Callable[[Path], str]
) -> None:
    expected = obstacle(database)
    content = database.read_bytes() if database.is_file() else b""
    found = [
        found for found in await examine(Settings(data_dir=database.parent, model="echo")) if found.check == "store"
    ]
    assert [(finding.level, expected in finding.sentence) for finding in found] == [(Level.ERROR, True)]
    with pytest.raises(StoreError, match=f"{expected}.*: (move it away|remove it), or set another DATA_DIR"):
        await Store.open(database)
    assert not content or database.read_bytes() == content


async def test_link_to_a_file_yet_to_be_made_is_followed(database: Path) -> None:
    (database.parent / "elsewhere").mkdir()
    database.symlink_to(database.parent / "elsewhere" / "x.sqlite3")
    await _make(database)
    assert condition(database).version == NEWEST


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
