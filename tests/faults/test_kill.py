"""kill -9 at the worst moments: the next start finishes or marks each message, and nothing is answered twice."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bot.database import connect
from bot.records import Reply, ReplyState, ServerSettings
from bot.store import Store
from bot.streaming import CURSOR
from tests.faults.discord_payloads import CHANNEL_ID, GUILD_ID, MIRA_ID, OTHER_CHANNEL_ID, TOKEN, Json
from tests.faults.discord_stub import DiscordStub
from tests.faults.harness import Command, command, finished, reply_ids

POST, PATCH = "/channels/[0-9]+/messages$", "/channels/[0-9]+/messages/[0-9]+$"
LONG = "One two. Three four. Five six. Seven eight. Nine ten. " * 2
ENDED = {ReplyState.DONE, ReplyState.STOPPED, ReplyState.FAILED, ReplyState.INTERRUPTED}


def is_final(body: Json) -> bool:
    return "encore:regenerate:" in str(body)


# Where the power goes, as a fault of the stub: `cut` says whether Discord had done what was asked.
MOMENTS: dict[str, dict[str, Any]] = {
    "before typing": {"path": "typing", "cut": "before"},
    "before the first send": {"method": "POST", "path": POST, "cut": "before"},
    "right after the first send": {"method": "POST", "path": POST, "cut": "after"},
    "at the first edit": {"method": "PATCH", "path": PATCH, "cut": "before"},
    "mid edits": {"method": "PATCH", "path": PATCH, "skip": 3, "cut": "after"},
    "right before the final edit": {"method": "PATCH", "path": PATCH, "when": is_final, "cut": "before"},
    "right after the final edit": {"method": "PATCH", "path": PATCH, "when": is_final, "cut": "after"},
}


@asynccontextmanager
async def started(discord: DiscordStub, data_dir: Path, **environment: str) -> AsyncIterator[Command]:
    """Start the bot in a process of its own and wait until Discord has greeted it."""
    speed = {"SECONDS_PER_TOKEN": "0.01", "EDIT_INTERVAL_SECONDS": "0.02"}
    known = discord.gateway.identifies
    async with command(
        data_dir, "run", discord=discord, module="tests.faults.slow_run", **{**speed, **environment}
    ) as process:
        await discord.until(
            lambda: discord.gateway.identifies > known or process.has_ended, "the bot being connected", seconds=30
        )
        if process.has_ended:
            await process.ended()
            raise AssertionError(f"it ended at once:\n{process.errors}")
        yield process


async def killed_at(discord: DiscordStub, process: Command, moment: dict[str, Any]) -> None:
    """Kill the process at a moment and wait for its end."""
    fault = discord.fault(**moment, call=process.kill)
    await discord.until(lambda: fault.hits and process.has_ended, "the moment of the kill")


async def settled(discord: DiscordStub, data_dir: Path, *asked: int) -> None:
    """Wait until each message has an answer, none of the bot's messages looks unfinished, and every row has its end."""

    def is_settled() -> bool:
        shown = discord.said_by_bot()
        growing = [m for m in shown if m["content"].endswith(CURSOR) or "encore:stop:" in str(m["components"])]
        return not growing and all(discord.replies_to(message_id) for message_id in asked) and not open_rows()

    def open_rows() -> int:
        with closing(connect(data_dir / "encore.sqlite3", read_only=True)) as database:
            return int(database.execute("SELECT count(*) FROM replies WHERE finished_at IS NULL").fetchone()[0])

    await discord.until(is_settled, "every answer finished or marked", seconds=20)


async def rows_after(process: Command, data_dir: Path, discord: DiscordStub) -> list[Reply]:
    """End the process in order; return the rows of all replies that show anywhere, checked against what shows."""
    process.terminate()
    assert await process.ended() == 0, process.errors
    assert TOKEN not in process.errors
    assert "Traceback" not in process.errors, process.errors
    async with await Store.open(data_dir / "encore.sqlite3") as store:
        assert await store.unfinished_replies() == []
        shown = {int(message["id"]): message for message in discord.said_by_bot()}
        rows = {message_id: await store.reply_of_message(message_id) for message_id in shown}
    found = {row.id: row for row in rows.values() if row is not None}
    assert None not in rows.values(), "a message that no row knows"
    for row in found.values():
        assert row.state in ENDED
        assert set(row.message_ids) == {message_id for message_id, of in rows.items() if of == row}
    return list(found.values())


@pytest.mark.parametrize("moment", MOMENTS.values(), ids=MOMENTS.keys())
async def test_killed_reply_is_finished_or_marked_and_shows_once(tmp_path: Path, moment: dict[str, Any]) -> None:
    async with DiscordStub() as discord:
        async with started(discord, tmp_path) as process:
            asked = await discord.says(LONG)
            await killed_at(discord, process, moment)
        async with started(discord, tmp_path) as process:
            await settled(discord, tmp_path, asked)
            await discord.redeliver(asked)
            later = await discord.says("and now?")
            await settled(discord, tmp_path, asked, later)
            (row,) = [r for r in await rows_after(process, tmp_path, discord) if r.ask.asked_message_id == asked]
    (shown,) = discord.replies_to(asked)
    assert finished(shown), "the buttons are missing"
    assert reply_ids(shown) == {str(row.id)}
    assert len(discord.said_by_bot()) == 2
    assert discord.pings == []
    whole = LONG.strip() in shown["content"]
    assert whole or row.state is ReplyState.INTERRUPTED
    assert whole or re.search("interrupted|restart|stopped|cut", shown["content"], re.IGNORECASE), shown["content"]
    if row.outcome is not None and row.outcome.completion:
        assert row.outcome.completion.strip() in shown["content"]


@pytest.mark.parametrize("cut", ["before", "after"])
@pytest.mark.parametrize(
    "part", [{"method": "POST", "path": POST, "skip": 1}, {"method": "PATCH", "path": PATCH, "when": is_final}],
    ids=["second part", "final edit"],
)  # fmt: skip
async def test_kill_in_the_middle_of_a_long_reply_doubles_no_part(
    tmp_path: Path, part: dict[str, Any], cut: str
) -> None:
    words = [f"word{number}" for number in range(320)]
    async with await Store.open(tmp_path / "encore.sqlite3") as store:
        long = replace(ServerSettings().sampling, max_new_tokens=4096)
        await store.change_server_settings(GUILD_ID, MIRA_ID, sampling=long)
    async with DiscordStub() as discord:
        async with started(discord, tmp_path, SECONDS_PER_TOKEN="0.0005", CONTEXT_TOKENS="16384") as process:
            asked = await discord.says(" ".join(words))
            await killed_at(discord, process, {**part, "cut": cut})
        async with started(discord, tmp_path) as process:
            await settled(discord, tmp_path, asked)
            (row,) = await rows_after(process, tmp_path, discord)
    assert len(discord.replies_to(asked)) == 1
    shown = discord.said_by_bot()
    assert 1 <= len(shown) <= 2
    said = re.findall(r"word\d+", " ".join(message["content"] for message in shown))
    assert said[:-1] == words[: len(said) - 1], "a part is missing, doubled or out of order"
    assert said == words or row.state is ReplyState.INTERRUPTED
    assert finished(shown[-1])
    assert not any(message["components"] for message in shown[:-1])


async def test_killed_twice_still_answers_once(tmp_path: Path) -> None:
    async with DiscordStub() as discord:
        async with started(discord, tmp_path) as process:
            asked = await discord.says(LONG)
            await killed_at(discord, process, MOMENTS["before the first send"])
        fault = discord.fault(method="POST", path=POST, cut="after")
        async with started(discord, tmp_path) as process:
            fault.call = process.kill
            await discord.until(lambda: process.has_ended or discord.replies_to(asked), "the second kill")
            process.kill()
            await process.ended()
        async with started(discord, tmp_path) as process:
            await settled(discord, tmp_path, asked)
            await rows_after(process, tmp_path, discord)
    assert len(discord.replies_to(asked)) == 1
    assert finished(discord.replies_to(asked)[0])


async def test_killed_with_a_queue_answers_each_message_once(tmp_path: Path) -> None:
    async with DiscordStub() as discord:
        async with started(discord, tmp_path, PARALLEL_STREAMS="1") as process:
            asked = [await discord.says(LONG), await discord.says(LONG, channel_id=OTHER_CHANNEL_ID)]
            await killed_at(discord, process, MOMENTS["mid edits"])
        async with started(discord, tmp_path) as process:
            await settled(discord, tmp_path, *asked)
            await rows_after(process, tmp_path, discord)
    assert [len(discord.replies_to(message_id)) for message_id in asked] == [1, 1]
    assert all(finished(message) for message in discord.said_by_bot())


async def test_asked_message_and_channel_that_vanished_while_it_was_dead_are_let_go(tmp_path: Path) -> None:
    async with DiscordStub() as discord:
        async with started(discord, tmp_path, PARALLEL_STREAMS="2") as process:
            gone = await discord.says(LONG)
            lost = await discord.says(LONG, channel_id=OTHER_CHANNEL_ID)
            await discord.until(lambda: discord.replies_to(gone) and discord.replies_to(lost), "both answers to begin")
            process.kill()
            await process.ended()
        await discord.deletes(gone)
        await discord.deletes_channel(OTHER_CHANNEL_ID)
        async with started(discord, tmp_path) as process:
            later = await discord.says("still there?", channel_id=CHANNEL_ID)
            await settled(discord, tmp_path, later)
            await rows_after(process, tmp_path, discord)
    assert len(discord.said_by_bot()) <= 2


async def test_asked_to_end_it_marks_the_reply_under_way_and_goes_quietly(tmp_path: Path) -> None:
    async with DiscordStub() as discord, started(discord, tmp_path, SECONDS_PER_TOKEN="0.05") as process:
        asked = await discord.says(LONG)
        await discord.until(lambda: discord.replies_to(asked), "the answer to begin")
        (row,) = await rows_after(process, tmp_path, discord)
    (shown,) = discord.replies_to(asked)
    assert row.state is ReplyState.INTERRUPTED
    assert "restarting" in shown["content"]
    assert finished(shown)
