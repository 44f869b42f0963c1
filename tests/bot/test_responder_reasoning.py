"""A model's hidden reasoning: never shown, never taken for text, and text never taken for it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bot.records import Message
from models.types import Sampling
from tests.bot.answering import CHANNEL, Room
from tests.bot.screen import Screen


async def test_hidden_reasoning_that_quotes_a_member_does_not_end_the_answer(room: Room) -> None:
    screen = Screen()
    await room.respond(room.ask("<think>so\nMei: asks for tea</think>Tea!"), screen)
    assert screen.text == "Tea!"


async def test_reasoning_that_the_template_opened_is_hidden(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(room.model.prompts), "opens_reasoning", lambda self, ids: True)
    screen = Screen()
    reply = await room.respond(room.ask("plan</think>hello"), screen)
    assert screen.text == "hello"
    assert reply.outcome.completion == "<think>plan</think>hello"


async def test_a_close_tag_that_nothing_opened_is_text(room: Room) -> None:
    reply = await room.respond(room.ask("Use </think> tag: hello"), screen := Screen())
    assert screen.text == reply.outcome.completion == "Use </think> tag: hello"


@pytest.mark.parametrize("answer", ["so cute >_<", "sad :<", "if a <t", "Use the <think> tag.", "`<think>` starts it."])
async def test_an_answer_that_mentions_a_tag_or_ends_like_one_stays_whole_in_later_turns_too(
    room: Room, answer: str
) -> None:
    ask = room.ask(answer)
    reply = await room.respond(ask, screen := Screen())
    assert screen.text == answer
    shown = Message(reply.message_ids[0], CHANNEL, 2, "Encore", answer, is_self=True, reply_to_id=ask.asked_message_id)
    room.history.append(shown)
    followed = await room.respond(room.ask("go on"), Screen())
    assert room.model.tokenizer.decode(followed.prompt.token_ids).count(answer) == 2


async def test_reasoning_that_was_cut_goes_on_hidden(room: Room) -> None:
    room.engine.seconds_per_token = 0.001
    room.server = replace(room.server, sampling=Sampling(max_new_tokens=12))
    ask = room.ask("<think>a secret plan</think>hello there")
    first = await room.respond(ask, Screen())
    assert first.outcome.completion == "<think>a sec"
    room.server = replace(room.server, sampling=Sampling(max_new_tokens=100))
    screen = Screen()
    second = await room.responder.carry_on(replace(ask, variant=1), first, screen, room.server)
    assert second.outcome.completion == "<think>ret plan</think>hello there"
    assert screen.text == "hello there"
    assert not any("plan" in content for _, _, content, _ in screen.log)
