from __future__ import annotations

import contextlib
import io
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from bot.records import Provenance
from bot.responder import Responder
from bot.settings import Settings
from bot.store import Store
from bot.terminal import Terminal, converse
from models.loading import load_model
from models.types import Sampling
from tests.bot.stores import open_store


class Desk:
    """A person in front of the terminal: types lines, reads what was printed."""

    def __init__(self, store: Store, responder: Responder) -> None:
        self.store = store
        self.out = io.StringIO()
        self.terminal = Terminal(store, responder, out=self.out)

    async def type(self, *lines: str) -> str:
        """Type lines and return what they printed."""
        before = len(self.out.getvalue())
        await converse(self.terminal, io.StringIO("".join(f"{line}\n" for line in lines)), self.out)
        return self.out.getvalue()[before:]


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with contextlib.AsyncExitStack() as stack:
        store = await stack.enter_async_context(await open_store(tmp_path / "encore.sqlite3"))
        model = await load_model("echo", cache_dir=tmp_path, context_tokens=2048, slots=1, queue_limit=2)
        stack.push_async_callback(model.aclose)
        responder = Responder(store, model, settings=replace(Settings(), edit_interval_seconds=0.0))
        stack.push_async_callback(responder.aclose)
        yield Desk(store, responder)


async def test_an_answer_is_printed_once_and_kept(desk: Desk) -> None:
    assert (await desk.type("今天天气怎么样？")).strip() == "今天天气怎么样？"
    reply = await desk.store.reply(1)
    assert reply is not None
    assert reply.ask.provenance is Provenance.OPERATOR
    assert reply.outcome is not None
    assert reply.outcome.completion == "今天天气怎么样？"


async def test_a_rating_lands_in_the_store_and_can_be_changed(desk: Desk) -> None:
    printed = await desk.type("hello", "/up", "/down")
    assert "Kept: 👍" in printed
    assert "Kept: 👎" in printed
    assert [vote.value for vote in await desk.store.votes(1)] == [-1.0]


async def test_again_makes_another_version_of_the_same_answer(desk: Desk) -> None:
    await desk.type("hello", "/again")
    first, second = await desk.store.reply(1), await desk.store.reply(2)
    assert first and second
    assert first.ask.asked_message_id == second.ask.asked_message_id
    assert (first.ask.variant, second.ask.variant) == (0, 1)


async def test_more_goes_on_where_the_answer_was_cut(desk: Desk) -> None:
    await desk.store.change_server_settings(None, 0, sampling=Sampling(max_new_tokens=16))
    printed = await desk.type("one two three four five six")
    assert "I can continue" in printed
    await desk.type("/more")
    second = await desk.store.reply(2)
    assert second is not None
    assert second.ask.continues_reply_id == 1
    assert second.outcome is not None
    assert second.outcome.completion == "ur five six"


async def test_talk_goes_on_and_new_forgets_it(desk: Desk) -> None:
    await desk.type("my name is Mei", "and now?", "/new", "who am I?")
    tokenizer = desk.terminal._responder._model.tokenizer
    shown = [tokenizer.decode(reply.prompt.token_ids) for i in (2, 3) if (reply := await desk.store.reply(i))]
    assert "my name is Mei" in shown[0]
    assert "my name is Mei" not in shown[1]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("/up", "nothing to rate"),
        ("/more", "nothing to continue"),
        ("/again", "Say something first"),
        ("/dance", "no command /dance"),
        ("/help", "/new starts over"),
    ],
)
async def test_commands_that_have_nothing_to_work_on_say_so(desk: Desk, line: str, told: str) -> None:
    assert told in await desk.type(line)


async def test_quit_leaves_the_rest_unread(desk: Desk) -> None:
    assert await desk.type("/quit", "hello") == ""
