"""The store locked or full while the bot runs: members are told or notice nothing, and nothing that counts is lost."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from bot.client import EncoreBot
from bot.records import ReplyState, ServerSettings
from tests.faults.discord_payloads import GUILD_ID, MIRA_ID, OTHER_CHANNEL_ID
from tests.faults.discord_stub import DiscordStub
from tests.faults.harness import finished, running_bot
from tests.faults.test_network import LONG, SLOW, answered, no_unhandled_error, row_of, streams

__all__ = ["no_unhandled_error"]  # every test here is held to a clean log, too


@contextmanager
def locked(database: Path) -> Iterator[None]:
    """Hold the write lock as a database browser with an open transaction does."""
    with closing(sqlite3.connect(database, isolation_level=None)) as browser:
        browser.execute("BEGIN IMMEDIATE")
        yield
        browser.execute("ROLLBACK")


@asynccontextmanager
async def full_disk(bot: EncoreBot) -> AsyncIterator[None]:
    """Let SQLite find no room for another page, with the very error that a full disk gives, and no free page inside."""
    async with bot.store._database.transaction() as writer:
        await writer.execute_fetchall("CREATE TABLE IF NOT EXISTS filler (bytes BLOB)")
    (pages,) = [row[0] for row in await writer.execute_fetchall("PRAGMA page_count")]
    await writer.execute_fetchall(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(sqlite3.OperationalError, match="full"):
        while True:
            await writer.execute_fetchall("INSERT INTO filler VALUES (zeroblob(900))")
    yield
    await writer.execute_fetchall("PRAGMA max_page_count = 1073741823")


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "encore.sqlite3"


async def test_lock_that_goes_away_in_time_is_not_noticed(tmp_path: Path, database: Path) -> None:
    async with DiscordStub() as discord, running_bot(discord, tmp_path, **SLOW) as bot:
        asked = await discord.says(LONG)
        shown = await streams(discord, asked)
        with locked(database):
            edits = discord.count("PATCH", "messages")
            await discord.until(lambda: discord.count("PATCH", "messages") >= edits + 3, "edits during the lock")
        assert LONG.strip() in (await answered(discord, asked))["content"]
        assert (await row_of(bot, discord, shown)).state is ReplyState.DONE


async def test_lock_that_outlasts_a_reply_leaves_it_whole_and_kept(tmp_path: Path, database: Path) -> None:
    async with DiscordStub() as discord, running_bot(discord, tmp_path, **SLOW) as bot:
        asked = await discord.says(LONG)
        await streams(discord, asked)
        with locked(database):
            shown = await answered(discord, asked)
            assert LONG.strip() in shown["content"], "the member gets the whole answer"
        row = await row_of(bot, discord, shown)
        assert row.state is ReplyState.DONE
        assert row.outcome is not None
        assert LONG.strip() in row.outcome.completion
        assert await bot.store.unfinished_replies() == []


async def test_lock_before_an_ask_is_told_and_the_next_ask_works(tmp_path: Path, database: Path) -> None:
    async with DiscordStub() as discord, running_bot(discord, tmp_path, **SLOW) as bot:
        with locked(database):
            asked = await discord.says("are you there?")
            await discord.until(lambda: discord.said_by_bot(), "a sentence about the lock")
            assert "try again" in discord.said_by_bot()[0]["content"]
        await discord.until(lambda: not bot.responder.running, "the end of the reply")
        assert len(discord.said_by_bot()) == 1
        await answered(discord, await discord.says("and now?"))
        assert not any(map(finished, discord.replies_to(asked)))


async def test_reactions_during_a_lock_are_counted_after_it(tmp_path: Path, database: Path) -> None:
    async with DiscordStub() as discord, running_bot(discord, tmp_path) as bot:
        shown = await answered(discord, await discord.says("rate me"))
        row = await row_of(bot, discord, shown)
        with locked(database):
            await discord.reacts(int(shown["id"]), "👍")
            await discord.until(lambda: bot.ratings.waiting == 1, "the reaction to wait")
        await bot.ratings.drain()
        (vote,) = await bot.store.votes(row.id)
        assert (vote.member_id, vote.value) == (MIRA_ID, 1.0)


async def test_disk_that_fills_up_while_a_reply_streams_shows_it_whole_and_keeps_it_later(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    words = " ".join(f"word{number}" for number in range(80))
    async with DiscordStub() as discord, running_bot(discord, tmp_path, seconds_per_token=0.001) as bot:
        long = replace(ServerSettings().sampling, max_new_tokens=2000)
        await bot.store.change_server_settings(GUILD_ID, MIRA_ID, sampling=long)
        asked = await discord.says(words)
        await streams(discord, asked)
        async with full_disk(bot):
            shown = await answered(discord, asked)
            assert shown["content"] == words
            await discord.until(lambda: "its end is not kept yet" in caplog.text, "the store to refuse")
        row = await row_of(bot, discord, shown)
        assert row.state is ReplyState.DONE
        assert row.outcome is not None
        assert row.outcome.completion == words


async def test_ask_on_a_full_disk_is_told_and_healed_by_room(tmp_path: Path, database: Path) -> None:
    async with DiscordStub() as discord, running_bot(discord, tmp_path, **SLOW) as bot:
        await row_of(bot, discord, await answered(discord, await discord.says("before")))
        async with full_disk(bot):
            asked = await discord.says("long " * 300, channel_id=OTHER_CHANNEL_ID)
            await discord.until(
                lambda: "please try again" in str(discord.replies_to(asked)), "a sentence for the member"
            )
            assert str(database) not in str(discord.said_by_bot()), (
                "the operator's files are none of a member's business"
            )
        await discord.until(lambda: not bot.responder.running, "the end of the reply")
        assert len(discord.replies_to(asked)) == 1
        after = await answered(discord, await discord.says("after"))
        assert (await row_of(bot, discord, after)).state is ReplyState.DONE
        assert await bot.store.unfinished_replies() == []


async def test_reactions_on_a_full_disk_are_counted_when_there_is_room(tmp_path: Path) -> None:
    async with DiscordStub() as discord, running_bot(discord, tmp_path) as bot:
        shown = await answered(discord, await discord.says("rate me"))
        row = await row_of(bot, discord, shown)
        async with full_disk(bot):
            for number in range(400):
                await discord.reacts(int(shown["id"]), "👍", member_id=10**18 + number)
            await discord.until(lambda: bot.ratings.waiting, "a reaction to wait")
        await bot.ratings.drain()
        assert len(await bot.store.votes(row.id)) == 400
