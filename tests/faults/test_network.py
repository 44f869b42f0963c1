"""Discord's network at its worst, through discord.py's real HTTP and gateway code: each ask gets one whole answer."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest

from bot import streaming
from bot.client import EncoreBot
from bot.records import Reply, ReplyState
from tests.faults.discord_payloads import CHANNEL_ID, CHANNELS, DM_ID, OTHER_CHANNEL_ID, TOKEN, Json
from tests.faults.discord_stub import DiscordStub
from tests.faults.harness import finished, reply_ids, running_bot

POST, PATCH = "/channels/[0-9]+/messages$", "/channels/[0-9]+/messages/[0-9]+$"
SLOW = {"seconds_per_token": 0.01}
LONG = "One two. Three four. Five six. Seven eight. Nine ten. " * 3  # about a second and a half of streaming


@pytest.fixture(autouse=True)
def no_unhandled_error(caplog: pytest.LogCaptureFixture) -> Any:
    """Fail a test in which something went to the log that nobody expected, or that shows the token."""
    for name in ("discord", "bot", "cogs"):
        caplog.set_level(logging.DEBUG, logger=name)
    yield
    records = [record for when in ("setup", "call") for record in caplog.get_records(when)]
    assert not [r.getMessage() for r in records if TOKEN in r.getMessage()], "the token is in the log"
    unexpected = [
        r for r in records if r.levelno >= logging.ERROR and not r.getMessage().startswith("Attempting a rec")
    ]
    assert not [f"{r.name}: {r.getMessage()} {r.exc_info}" for r in unexpected]


@pytest.fixture
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "_FINAL_RETRY_SECONDS", (0.05, 0.05, 0.05, 0.05))


async def streams(discord: DiscordStub, asked: int) -> Json:
    """Wait until the answer to a message shows and grows; return it."""
    await discord.until(lambda: discord.replies_to(asked), "the first part of the answer")
    edits = discord.count("PATCH", PATCH, 200)
    await discord.until(lambda: discord.count("PATCH", PATCH, 200) > edits, "an edit of the answer")
    return discord.replies_to(asked)[0]


async def answered(discord: DiscordStub, asked: int) -> Json:
    """Wait for the finished answer to a message; fail if it has a second one."""
    await discord.until(lambda: any(map(finished, discord.replies_to(asked))), "the finished answer")
    assert len(discord.replies_to(asked)) == 1, "answered twice"
    return discord.replies_to(asked)[0]


async def row_of(bot: EncoreBot, discord: DiscordStub, shown: Json) -> Reply:
    """Wait until the reply that a message shows has ended; return its row."""
    await discord.until(lambda: not bot.responder.running, "the end of the reply")
    row = await bot.store.reply_of_message(int(shown["id"]))
    assert row is not None
    return row


async def test_answer_arrives_whole_with_its_buttons_and_pings_nobody(tmp_path: Path) -> None:
    async with DiscordStub() as discord, running_bot(discord, tmp_path, **SLOW) as bot:
        asked = await discord.says(f"{LONG} @everyone")
        shown = await answered(discord, asked)
        row = await row_of(bot, discord, shown)
        assert row.state is ReplyState.DONE
        assert LONG.strip() in shown["content"]
        assert reply_ids(shown) == {str(row.id)}
        assert discord.pings == []


async def test_shortest_history_that_may_be_set_still_answers_a_second_message(tmp_path: Path) -> None:
    async with DiscordStub() as discord, running_bot(discord, tmp_path, history_messages=1) as bot:
        for turn in range(3):
            shown = await answered(discord, await discord.says(f"message {turn}"))
            assert (await row_of(bot, discord, shown)).state is ReplyState.DONE


async def test_gateway_dropped_mid_stream_is_resumed_without_losing_or_doubling(tmp_path: Path) -> None:
    async with DiscordStub() as discord, running_bot(discord, tmp_path, **SLOW) as bot:
        asked = await discord.says(LONG)
        shown = await streams(discord, asked)
        discord.gateway.drop()
        meanwhile = await discord.says("and this was said while you were gone", channel_id=OTHER_CHANNEL_ID)
        assert LONG.strip() in (await answered(discord, asked))["content"]
        assert "while you were gone" in (await answered(discord, meanwhile))["content"]
        assert (await row_of(bot, discord, shown)).state is ReplyState.DONE
        assert (discord.gateway.resumes, discord.gateway.identifies) == (1, 1)
        assert len(discord.said_by_bot()) == 2


async def test_reconnect_asked_by_discord_mid_stream_is_obeyed(tmp_path: Path) -> None:
    async with DiscordStub() as discord, running_bot(discord, tmp_path, **SLOW) as bot:
        asked = await discord.says(LONG)
        shown = await streams(discord, asked)
        await discord.gateway.ask_to_reconnect()
        assert LONG.strip() in (await answered(discord, asked))["content"]
        assert (await row_of(bot, discord, shown)).state is ReplyState.DONE
        assert (discord.gateway.resumes, discord.gateway.identifies) == (1, 1)


async def test_session_lost_mid_stream_neither_marks_nor_repeats_the_reply_under_way(tmp_path: Path) -> None:
    async with DiscordStub() as discord, running_bot(discord, tmp_path, **SLOW) as bot:
        asked = await discord.says(LONG)
        shown = await streams(discord, asked)
        discord.gateway.forget_sessions()
        await discord.until(lambda: discord.gateway.identifies == 2, "a new session")
        assert LONG.strip() in (await answered(discord, asked))["content"]
        assert (await row_of(bot, discord, shown)).state is ReplyState.DONE
        assert "again" in (await answered(discord, await discord.says("again")))["content"]
        assert len(discord.said_by_bot()) == 2


async def test_gateway_that_keeps_dropping_is_survived(tmp_path: Path) -> None:
    async with DiscordStub() as discord, running_bot(discord, tmp_path, **SLOW) as bot:
        asked = []
        for turn in range(6):
            asked.append(await discord.says(f"message {turn}", channel_id=CHANNELS[turn]))
            await discord.until(lambda: discord.gateway.connected, "a connection")
            discord.gateway.drop()
        for turn, message_id in enumerate(asked):
            assert f"message {turn}" in (await answered(discord, message_id))["content"]
        assert bot.responder.running == 0 or len(discord.said_by_bot()) == 6
        assert discord.gateway.identifies == 1


async def test_event_delivered_twice_is_answered_once(tmp_path: Path) -> None:
    async with DiscordStub() as discord, running_bot(discord, tmp_path, **SLOW) as bot:
        asked = await discord.says("only once")
        await discord.redeliver(asked)
        await answered(discord, asked)
        await discord.redeliver(asked)
        await row_of(bot, discord, await answered(discord, await discord.says("next")))
        assert len(discord.replies_to(asked)) == 1


@pytest.mark.parametrize("everywhere", [False, True], ids=["of a bucket", "global"])
async def test_storm_of_429_delays_the_answer_and_changes_nothing_else(tmp_path: Path, everywhere: bool) -> None:
    async with DiscordStub() as discord, running_bot(discord, tmp_path, **SLOW) as bot:
        storm = discord.fault(method="POST", path=POST, status=429, times=3, everywhere=everywhere)
        edits = discord.fault(method="PATCH", path=PATCH, status=429, times=12, retry_after=0.02, everywhere=everywhere)
        typing = discord.fault(method="POST", path="typing", status=429, times=2)
        asked = [await discord.says(f"{number} {LONG}", channel_id=CHANNELS[number]) for number in range(3)]
        for number, message_id in enumerate(asked):
            assert f"{number} {LONG}".strip() in (await answered(discord, message_id))["content"]
        assert (storm.hits, edits.hits) == (3, 12)
        assert typing.hits
        assert await bot.store.unfinished_replies() == [] or bot.responder.running


@pytest.mark.usefixtures("quick_retries")
@pytest.mark.parametrize("status", [429, 502, 503])
async def test_error_pages_of_a_proxy_delay_the_answer(
    tmp_path: Path, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    await_nothing(monkeypatch)
    async with DiscordStub() as discord, running_bot(discord, tmp_path, **SLOW) as bot:
        posts = discord.fault(method="POST", path=POST, status=status, times=2, by_proxy=True)
        edits = discord.fault(method="PATCH", path=PATCH, status=status, times=6, by_proxy=True, skip=1)
        asked = await discord.says(LONG)
        shown = await answered(discord, asked)
        assert LONG.strip() in shown["content"]
        assert (await row_of(bot, discord, shown)).state is ReplyState.DONE
        assert (posts.hits, edits.hits) == (2, 6)


@pytest.mark.usefixtures("quick_retries")
async def test_storm_of_every_kind_at_once_leaves_one_whole_answer_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await_nothing(monkeypatch)
    async with DiscordStub() as discord, running_bot(discord, tmp_path, **SLOW) as bot:
        for status in (500, 429, 502, 503, 504):
            discord.fault(method="POST", path=POST, status=status, times=1, skip=1)
            discord.fault(method="PATCH", path=PATCH, status=status, times=2, skip=2)
        discord.fault(method="PATCH", path=PATCH, cut="before", times=2, skip=4)
        discord.fault(method="PATCH", path=PATCH, cut="after", times=2, skip=6)
        discord.fault(path="typing", status=500, times=3)
        asked = [await discord.says(f"{number} {LONG}", channel_id=CHANNELS[number]) for number in range(4)]
        for number, message_id in enumerate(asked):
            assert f"{number} {LONG}".strip() in (await answered(discord, message_id))["content"]
        await discord.until(lambda: not bot.responder.running, "the end of all replies")
        assert await bot.store.unfinished_replies() == []
        assert len(discord.said_by_bot()) == 4


@pytest.mark.parametrize("cut", ["before", "after"])
async def test_connection_cut_while_sending_leaves_one_message(tmp_path: Path, cut: str) -> None:
    async with DiscordStub() as discord, running_bot(discord, tmp_path, **SLOW) as bot:
        fault = discord.fault(method="POST", path=POST, cut=cut)
        shown = await answered(discord, await discord.says(LONG))
        assert LONG.strip() in shown["content"]
        assert fault.hits == 1
        assert (await row_of(bot, discord, shown)).state is ReplyState.DONE
        assert len(discord.said_by_bot()) == 1


@pytest.mark.usefixtures("quick_retries")
async def test_short_answer_whose_first_sending_was_lost_on_the_way_back_still_ends_whole(tmp_path: Path) -> None:
    async with DiscordStub() as discord, running_bot(discord, tmp_path, seconds_per_token=0.002) as bot:
        discord.fault(method="POST", path=POST, cut="after", seconds=0.1)
        shown = await answered(discord, await discord.says("short, but whole"))
        assert shown["content"] == "short, but whole"
        assert (await row_of(bot, discord, shown)).state is ReplyState.DONE


@pytest.mark.usefixtures("quick_retries")
async def test_discord_that_stays_down_ends_the_reply_as_failed_and_the_next_one_works(tmp_path: Path) -> None:
    async with DiscordStub() as discord, running_bot(discord, tmp_path) as bot:
        down = discord.fault(method="POST", path=POST, status=503, times=1000)
        asked = await discord.says("lost")
        await discord.until(lambda: down.hits >= 5, "the last try")
        await discord.until(lambda: not bot.responder.running, "the end of the reply")
        down.times = 0
        assert discord.replies_to(asked) == []
        assert await bot.store.unfinished_replies() == []
        await answered(discord, await discord.says("works again"))


@pytest.mark.usefixtures("quick_retries")
async def test_answer_whose_end_discord_refused_is_completed_by_the_next_start(tmp_path: Path) -> None:
    async with DiscordStub() as discord:
        async with running_bot(discord, tmp_path, **SLOW) as bot:
            down = discord.fault(
                method="PATCH", path=PATCH, status=503, times=1000, when=lambda body: "encore:regenerate" in str(body)
            )
            asked = await discord.says(LONG)
            await discord.until(lambda: down.hits >= 5 and not bot.responder.running, "the last try")
            assert not any(map(finished, discord.replies_to(asked)))
        down.times = 0
        async with running_bot(discord, tmp_path) as bot:
            assert (await answered(discord, asked))["content"] == LONG.strip()
            await discord.until(lambda: not bot.responder.running, "the end of the reply")
            assert len(discord.said_by_bot()) == 1


async def test_slow_discord_does_not_hold_up_other_channels(tmp_path: Path) -> None:
    async with DiscordStub() as discord, running_bot(discord, tmp_path) as bot:
        discord.fault(method="POST", path=f"{CHANNEL_ID}/messages$", seconds=1.0)
        slow = await discord.says("slow")
        quick = await discord.says("quick", channel_id=OTHER_CHANNEL_ID)
        await answered(discord, quick)
        assert discord.replies_to(slow) == []
        await answered(discord, slow)
        assert bot.is_ready()


async def test_asked_message_deleted_mid_stream_stops_the_reply(tmp_path: Path) -> None:
    async with DiscordStub() as discord, running_bot(discord, tmp_path, seconds_per_token=0.05) as bot:
        asked = await discord.says(LONG * 3)
        shown = await streams(discord, asked)
        await discord.deletes(asked)
        row = await row_of(bot, discord, shown)
        assert row.state is ReplyState.STOPPED
        assert row.outcome is not None
        assert len(row.outcome.completion) < len(LONG * 3) // 2
        assert bot.model.scheduler.running == 0


async def test_own_message_deleted_mid_stream_stops_the_reply_and_posts_no_other(tmp_path: Path) -> None:
    async with DiscordStub() as discord, running_bot(discord, tmp_path, seconds_per_token=0.05) as bot:
        shown = await streams(discord, await discord.says(LONG * 3))
        await discord.deletes(int(shown["id"]))
        row = await row_of(bot, discord, shown)
        assert row.state is ReplyState.STOPPED
        assert discord.said_by_bot() == []
        assert bot.model.scheduler.running == 0


async def test_channel_deleted_mid_stream_stops_the_reply(tmp_path: Path) -> None:
    async with DiscordStub() as discord, running_bot(discord, tmp_path, seconds_per_token=0.05) as bot:
        shown = await streams(discord, await discord.says(LONG * 3))
        await discord.deletes_channel(CHANNEL_ID)
        assert (await row_of(bot, discord, shown)).state is ReplyState.STOPPED
        assert bot.model.scheduler.running == 0


@pytest.mark.parametrize("permission", [1 << 10, 1 << 11], ids=["view channel", "send messages"])
async def test_permission_taken_mid_stream_ends_the_reply(tmp_path: Path, permission: int) -> None:
    async with DiscordStub() as discord, running_bot(discord, tmp_path, seconds_per_token=0.02) as bot:
        shown = await streams(discord, await discord.says(LONG))
        await discord.revokes(permission)
        row = await row_of(bot, discord, shown)
        # Discord lets a bot edit its own message where it may see the channel but no longer write.
        assert row.state is (ReplyState.STOPPED if permission == 1 << 10 else ReplyState.DONE)
        assert bot.model.scheduler.running == 0
        requests = len(discord.requests)
        await asyncio.sleep(0.1)
        assert len(discord.requests) == requests, "it goes on knocking at a closed door"


async def test_channel_without_permission_is_not_knocked_at(tmp_path: Path) -> None:
    async with DiscordStub() as discord, running_bot(discord, tmp_path, **SLOW) as bot:
        await discord.revokes(1 << 11)
        asked = await discord.says("can you write here?")
        await row_of(bot, discord, await answered(discord, await discord.says("but here", channel_id=DM_ID)))
        assert discord.replies_to(asked) == []
        assert await bot.store.unfinished_replies() == []
        assert discord.count("POST", f"{CHANNEL_ID}") == 0


async def test_refusal_that_nobody_announced_ends_the_reply_after_a_few_requests(tmp_path: Path) -> None:
    async with DiscordStub() as discord, running_bot(discord, tmp_path, **SLOW) as bot:
        discord.fault(method="POST", path=str(CHANNEL_ID), status=403, code=50013, times=1000)
        asked = await discord.says("can you write here?")
        await answered(discord, await discord.says("but here", channel_id=DM_ID))
        await discord.until(lambda: not bot.responder.running, "the end of the replies")
        assert discord.replies_to(asked) == []
        assert await bot.store.unfinished_replies() == []
        assert discord.count("POST", str(CHANNEL_ID), 403) <= 3, "ten thousand refused requests ban the address"


def await_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let discord.py's waits between its own five tries of a 5xx (1, 3, 5 s ...) pass at once."""
    import discord.http

    class Waits:
        def __getattr__(self, name: str) -> Any:
            return getattr(asyncio, name)

        async def sleep(self, seconds: float) -> None:
            await asyncio.sleep(min(seconds, 0.02))

    monkeypatch.setattr(discord.http, "asyncio", Waits())
