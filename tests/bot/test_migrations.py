"""The schema from blank and from version 1 with data in it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import sqlite3
from pathlib import Path

import pytest

from bot import database as database_module
from bot.database import Migration, connect, migrate, migrations, version_of
from bot.errors import StoreError
from bot.records import Correction, Preference, ReplyState, Vote
from tests.bot.stores import opened_anew as opened

# What a version-1 store held: written out, since a query of today may know columns of tomorrow.
VERSION_1_DATA = """
    INSERT INTO meta VALUES ('tree', 'abc');
    INSERT INTO guild_settings VALUES (7, 'temperature', '0.25');
    INSERT INTO free_channels VALUES (7, 70);
    INSERT INTO audit (guild_id, actor_id, action, detail, created_at) VALUES (7, 9, 'settings', '{}', 100.0);
    INSERT INTO replies (asked_message_id, variant, channel_id, guild_id, member_id, provenance, state, created_at,
        finished_at, completion, completion_token_ids, cached_tokens, queue_milliseconds, total_milliseconds)
        VALUES (1, 0, 70, 7, 3, 'discord', 'done', 100.0, 101.0, '你好', x'01000000', 0, 0.0, 5.0),
               (1, 1, 70, 7, 3, 'discord', 'streaming', 102.0, NULL, NULL, NULL, NULL, NULL, NULL);
    INSERT INTO reply_messages VALUES (50, 1, 0), (51, 2, 0);
    INSERT INTO ratings (reply_id, member_id, source, message_id, value, rated_at, seq)
        VALUES (1, 3, 'reaction:👍', 50, 1.0, 110.0, 7), (1, 3, 'button', 0, -1.0, 111.0, 8);
"""


def schema(connection: sqlite3.Connection) -> list[tuple[str, ...]]:
    return connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY type, name").fetchall()


def create(path: Path, version: int) -> sqlite3.Connection:
    sqlite3.connect(path).close()
    path.touch()
    connection = connect(path)
    migrate(connection, path, to=version)
    return connection


def test_migrations_are_numbered_without_gaps_and_own_no_transaction() -> None:
    known = migrations()
    assert [migration.version for migration in known] == list(range(1, len(known) + 1))
    assert len(known) >= 2
    assert not any(re.search(r"\bCOMMIT\b|\bBEGIN (TRANSACTION|IMMEDIATE)|\bBEGIN;", m.sql) for m in known)


async def test_version_1_with_data_becomes_the_newest_and_keeps_it(tmp_path: Path) -> None:
    path = tmp_path / "encore.sqlite3"
    with contextlib.closing(create(path, 1)) as connection:
        connection.executescript(VERSION_1_DATA)
        assert version_of(connection) == 1
    async with opened(tmp_path) as store:
        reply = await store.reply_of_message(50)
        assert reply is not None and reply.outcome is not None
        assert (reply.state, reply.outcome.completion, reply.outcome.completion_token_ids) == (
            ReplyState.DONE,
            "你好",
            (1,),
        )
        assert await store.votes(1) == [Vote(1, 3, "button", -1.0, 111.0)]
        await store.cast_vote(1, 3, "words", 0.5)
        assert [vote.source for vote in await store.votes(1)] == ["words"]  # newer than what version 1 numbered
        assert [unfinished.id for unfinished in await store.unfinished_replies()] == [2]
        assert (await store.server_settings(7)).sampling.temperature == 0.25
        assert await store.free_channels(7) == {70}
        assert [entry.actor_id for entry in await store.audit(7, 10)] == [9]
        assert await store.meta("tree") == "abc"
        await store.record_preference(1, 2, 3, Preference.A)
        await store.add_correction(Correction(1, 3, ("wrong",), "", "no"))
        assert await store.check() == []
    with contextlib.closing(connect(path)) as connection:
        assert version_of(connection) == migrations()[-1].version


async def test_members_of_replies_from_before_version_10_are_all_passed_on(tmp_path: Path) -> None:
    path = tmp_path / "encore.sqlite3"
    with contextlib.closing(create(path, 9)) as connection:
        connection.executescript("""
            INSERT INTO replies (asked_message_id, variant, channel_id, guild_id, member_id, provenance, state,
                created_at, prompt_token_ids, prompt_version, prompt_message_ids, prompt_member_ids, dropped_messages,
                system_sha256)
                VALUES (1, 0, 70, 7, 3, 'discord', 'done', 100.0, x'01000000', 1, '[1]', '[3, 4]', 0, '');
        """)
    async with opened(tmp_path) as store:
        reply = await store.reply(1)
        assert reply is not None and reply.prompt is not None
        assert (reply.prompt.member_ids, reply.prompt.inherited_ids) == ((3, 4), ())


def test_what_moderators_deleted_before_version_11_teaches_nothing_either(tmp_path: Path) -> None:
    path = tmp_path / "encore.sqlite3"
    with contextlib.closing(create(path, 10)) as connection:
        connection.executescript(VERSION_1_DATA.split("INSERT INTO ratings")[0])
        connection.executescript("""
            INSERT INTO cases (guild_id, source, channel_id, message_id, reply_id, subject_id, quote, opened_at,
                decision, decided_by, decided_at)
                VALUES (7, 'report', 70, 50, 1, 3, '', 1.0, 'delete', 9, 2.0), (7, 'report', 70, 51, 2, 3, '', 1.0,
                'mute', 9, 2.0), (7, 'automod', 70, 60, NULL, 3, 'SECRET', 1.0, 'delete', 9, 2.0);
        """)
        migrate(connection, path)
        assert connection.execute("SELECT reply_id FROM never_learn").fetchall() == [(1,)]
        assert connection.execute("SELECT message_id FROM never_learn_messages").fetchall() == [(50,), (60,)]


def test_labels_that_moderators_gave_after_they_opted_out_go_with_version_12(tmp_path: Path) -> None:
    path = tmp_path / "encore.sqlite3"
    with contextlib.closing(create(path, 11)) as connection:
        connection.executescript(VERSION_1_DATA.split("INSERT INTO ratings")[0])
        connection.executescript("""
            INSERT INTO optouts VALUES (9, 100.0);
            INSERT INTO gold VALUES (1, 1, 9, 99.0), (2, 0, 9, 101.0);
        """)
        migrate(connection, path)
        assert connection.execute("SELECT reply_id FROM gold").fetchall() == [(1,)]


def test_prompts_from_before_version_9_are_their_writers_words_or_nobodys(tmp_path: Path) -> None:
    def sha(text: str) -> str:
        return hashlib.sha256(text.encode()).hexdigest()

    path = tmp_path / "encore.sqlite3"
    with contextlib.closing(create(path, 8)) as connection:
        audit = "INSERT INTO audit (guild_id, actor_id, action, detail, created_at) VALUES (?, ?, 'settings', ?, 5.0)"
        settings = "INSERT INTO guild_settings VALUES (?, 'system_prompt', ?)"
        connection.execute(audit, (7, 9, json.dumps({"system_prompt": ["Pruned.", "You are Mia."]})))
        connection.execute(audit, (7, 10, json.dumps({"system_prompt": ["You are Mia.", "You are Lin."]})))
        connection.execute(
            audit, (7, 9, json.dumps({"system_prompt": ["You are Lin.", None], "paused": [False, True]}))
        )
        connection.execute("INSERT INTO deletions VALUES ('d', 10, 6.0, 6.0)")
        connection.execute(settings, (7, "null"))
        connection.execute(settings, (8, json.dumps("You are Sam.")))
        replies = [(1, 7, "You are Mia."), (2, 7, "Of long ago."), (3, 7, "The operator's."), (4, 6, "The operator's.")]
        connection.executemany(
            "INSERT INTO replies (asked_message_id, variant, channel_id, guild_id, member_id, provenance, created_at,"
            " system_sha256) VALUES (?, 0, 70, ?, 3, 'discord', 100.0, ?)",
            [(asked, guild, sha(system)) for asked, guild, system in replies],
        )
        migrate(connection, path)
        kept = connection.execute("SELECT sha256, member_id FROM server_prompts").fetchall()
        writers = {"You are Mia.": 9, "You are Lin.": 0, "You are Sam.": 0, "Pruned.": 0}
        assert dict(kept) == {sha(system): writer for system, writer in writers.items()}
        assert connection.execute("SELECT reply_id FROM never_learn").fetchall() == [(2,)]


def test_every_version_leads_to_the_same_schema(tmp_path: Path) -> None:
    newest = migrations()[-1].version
    with contextlib.closing(create(tmp_path / "blank", newest)) as connection:
        wanted = schema(connection)
    for version in range(1, newest):
        path = tmp_path / str(version)
        with contextlib.closing(create(path, version)) as connection:
            assert version_of(connection) == version
            assert version > 1 or schema(connection) != wanted
            migrate(connection, path)
            assert schema(connection) == wanted


def with_another(monkeypatch: pytest.MonkeyPatch, sql: str) -> None:
    known = migrations()
    more = [*known, Migration(known[-1].version + 1, sql)]
    monkeypatch.setattr(database_module, "migrations", lambda: more)


@pytest.mark.parametrize(
    ("sql", "error"),
    [
        ("CREATE TABLE half (a); INSERT INTO nowhere VALUES (1);", sqlite3.OperationalError),
        ("CREATE TABLE half (a); INSERT INTO reply_messages VALUES (1, 404, 0);", StoreError),
    ],
    ids=["broken", "leaves orphans"],
)
def test_failed_migration_leaves_the_version_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sql: str, error: type[Exception]
) -> None:
    newest = migrations()[-1].version
    with contextlib.closing(create(tmp_path / "file", newest)) as connection:
        before = schema(connection)
        with_another(monkeypatch, sql)
        with pytest.raises(error):
            migrate(connection, tmp_path / "file")
        assert (version_of(connection), schema(connection)) == (newest, before)
        assert not connection.in_transaction
