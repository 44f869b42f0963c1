"""10,000 messages meant to break the bot, through the whole of it, with an engine that repeats whatever it is told."""

from __future__ import annotations

import logging
from itertools import groupby, pairwise
from pathlib import Path

import pytest

from bot import rows
from bot.filter_options import Side
from bot.moderation.findings import Category
from bot.records import Reply, ReplyState
from bot.settings import Settings
from models.engines.echo import echo_tokenizer
from models.tokenizer import ModelTokenizer
from tests.faults.hostile import messages
from tests.faults.hostile_world import (
    ANSWER_TOKENS,
    CHANNELS,
    NAMES,
    Watch,
    in_larger_pieces,
    names_in,
    talk_all_over,
)
from tests.world import SayingEngine, live_world

MESSAGES, PARTS = 10_000, 5  # parts, as a single test would run for minutes on a slow machine
SHARE = MESSAGES // PARTS
SEED = 20260801


def turns(tokenizer: ModelTokenizer, ids: tuple[int, ...]) -> list[tuple[str, str]]:
    """Take a prompt apart at its control tokens; fail if they are anything but whole turns and an opened answer."""
    control = [(at, i) for at, i in enumerate(ids) if tokenizer.is_control(i)]
    start, end = control[0][1], control[1][1]
    assert [i for _, i in control] == [start, end] * (len(control) // 2) + [start], "a control token out of place"
    places = [at for at, _ in control] + [len(ids)]
    pieces = [tokenizer.decode(list(ids[at + 1 : after])) for at, after in pairwise(places)]
    assert pieces[1:-1:2] == ["\n"] * (len(control) // 2)
    return [(role, content) for role, _, content in (piece.partition("\n") for piece in pieces[::2])]


def check_prompt(reply: Reply, own: set[int], tokenizer: ModelTokenizer) -> list[tuple[str, str]]:
    """Hold a stored prompt against the turns that its messages make; return its turns."""
    assert reply.prompt is not None
    found = turns(tokenizer, reply.prompt.token_ids)
    speakers = [is_own for is_own, _ in groupby(message_id in own for message_id in reply.prompt.message_ids)]
    expected = ["assistant" if is_own else "user" for is_own in speakers]
    if expected[0] == "assistant":
        expected.insert(0, "user")  # the template wants a user to begin
    assert [role for role, _ in found] == ["system", *expected, "assistant"]
    assert found[-1] == ("assistant", "")
    return found


@pytest.mark.parametrize("part", range(PARTS))
async def test_ten_thousand_hostile_messages_ping_nobody_and_break_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, part: int
) -> None:
    caplog.set_level(logging.WARNING)
    settings = Settings(
        data_dir=tmp_path,
        edit_interval_seconds=0.05,
        history_messages=3,
        system_prompt="Be kind.",
        message_content_intent=True,
    )
    monkeypatch.setattr(SayingEngine, "_answer", in_larger_pieces)
    async with live_world(tmp_path, settings=settings, context_tokens=65536, slots=CHANNELS, keep_messages=50) as world:
        await world.allow_long_answers(ANSWER_TOKENS)
        # What is said must be harmless where nothing is filtered and nobody has to wait, too.
        ignored = {f"{side.value}.{category.value}": "ignore" for side in Side for category in Category}
        await world.store.change_server_settings(world.guild.id, world.moderator.id, quotas={}, filter_actions=ignored)
        watch = Watch(world)
        world.backend.watchers.append(watch)
        asked = await talk_all_over(world, watch, messages(SHARE, SEED + part, **names_in(world)))
        replies = [
            rows.reply(row) for row in await world.store._database.read(f"SELECT {rows.REPLY_COLUMNS} FROM replies")
        ]
    assert watch.wrong == []
    assert watch.streamed > SHARE // 40
    assert sum(len(reply.message_ids) > 1 for reply in replies) > SHARE // 40, "long answers go over several messages"
    assert len(asked) == SHARE
    assert {reply.ask.asked_message_id for reply in replies} == asked.keys()
    assert len(replies) == SHARE, "something was answered twice"
    assert {reply.state for reply in replies} == {ReplyState.DONE}
    assert [record.getMessage() for record in caplog.records] == []
    tokenizer = echo_tokenizer()
    for reply in replies:
        *_, (_, last), _ = check_prompt(reply, watch.own, tokenizer)
        assert reply.outcome is not None
        ids = reply.outcome.completion_token_ids
        assert not any(map(tokenizer.is_control, ids[:-1])), "a control token in the middle of an answer"
        # The engine repeats the member: a control token that was acted on would have ended the answer early.
        if reply.outcome.finish_reason == "end" and "\n" not in last:
            assert last.endswith(reply.outcome.completion), (asked[reply.ask.asked_message_id], last)
            assert len(last) - len(reply.outcome.completion) <= max(map(len, NAMES)) + len("#0000: ") + 40
