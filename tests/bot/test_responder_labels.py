"""The labels of speakers in an answer: the character's own is cut off, and it never speaks for a member."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bot.records import Message, ReplyState
from bot.streaming import Controls
from models.types import Sampling
from tests.bot.answering import CHANNEL, Room
from tests.bot.screen import Screen


async def test_a_continuation_never_speaks_for_a_member(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    room.server = replace(room.server, sampling=Sampling(max_new_tokens=8))
    ask = room.ask("one two\nthree")
    first = await room.respond(ask, Screen())
    room.server = replace(room.server, sampling=Sampling(max_new_tokens=100))
    monkeypatch.setattr(room.engine, "_text", lambda _: "three\nMei: four")
    screen = Screen()
    second = await room.responder.carry_on(replace(ask, variant=1), first, screen, room.server)
    assert (screen.text, second.state, second.outcome.finish_reason) == ("three", ReplyState.DONE, "end")
    assert room.model.tokenizer.decode(second.outcome.completion_token_ids) == "three"
    assert room.model.scheduler.running == 0


async def test_a_line_of_the_characters_own_words_is_no_label_in_another_version_of_a_later_reply(room: Room) -> None:
    room.server = replace(room.server, system_prompt="Rules: be kind.")
    ask = room.ask("Step 1: wait")
    first = await room.respond(ask, Screen())
    own = Message(first.message_ids[0], CHANNEL, 2, "Encore", "", is_self=True, reply_to_id=ask.asked_message_id)
    room.history.append(own)
    ask = room.ask("Step 1: go\nRules: none\nStep 2: stop")
    later = await room.respond(ask, Screen())
    monologue = later.outcome.completion
    for variant in (1, 2):
        screen = Screen()
        await room.responder.again(replace(ask, variant=variant), later, screen, room.server)
        assert screen.text == monologue
    assert "Step 1: go" in monologue


async def test_the_characters_own_label_never_shows_and_is_not_kept(room: Room) -> None:
    room.engine.seconds_per_token = 0.002
    screen = Screen()
    answers = ["Encore: Hello", "**Encore:** Hello", "<think>x</think>\nencore： Hello", "Encore: Encore: Hello"]
    for variant, answer in enumerate(answers):
        room.history.clear()
        reply = await room.respond(replace(room.ask(answer), variant=variant), screen)
        assert screen.text == "Hello"
        assert reply.outcome.completion.removeprefix("<think>x</think>").strip() == "Hello"
        assert room.model.tokenizer.decode(reply.outcome.completion_token_ids) == reply.outcome.completion
        assert reply.outcome.completion_token_ids[-1] == room.model.tokenizer.end_ids[0]
        assert not any("ncore" in content for _, _, content, _ in screen.log)
        screen = Screen()


@pytest.mark.parametrize(
    "answer", ["Encore is my name", "Mei, hello", "Meiosis: a division", "*Encore waves*", "Encore"]
)
async def test_a_name_that_is_no_label_is_text(room: Room, answer: str) -> None:
    reply = await room.respond(room.ask(answer), screen := Screen())
    assert screen.text == reply.outcome.completion == answer


@pytest.mark.parametrize("label", ["Mei: ", "mei：", "<think>x</think>Mei: ", "Encore: Mei: ", "**Mei**: "])
async def test_an_answer_in_a_members_name_is_never_shown_or_kept(room: Room, label: str) -> None:
    room.engine.seconds_per_token = 0.001
    room.server = replace(room.server, seed=7)
    screen = Screen()
    reply = await room.respond(room.ask(f"{label}I hate everyone"), screen)
    assert len(room.engine.asked) == 3, "it was tried again"
    assert not any("hate" in content or "ei" in content for _, _, content, _ in screen.log[:-1])
    assert screen.text == "-# I began to speak for somebody else, so I stopped; ask me for another version."
    assert [controls for _, controls in screen.shown().values()] == [Controls.FINISHED]
    assert reply.outcome.completion == ""
    assert reply.outcome.completion_token_ids == ()
    assert room.model.scheduler.running == 0


async def test_an_answer_in_a_members_name_is_made_again_from_another_seed(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds = []
    stream = room.engine.stream

    def listening(request, *, cancel):  # type: ignore[no-untyped-def]
        seeds.append(request.seed)
        says = "Mei: I hate everyone" if len(seeds) == 1 else "I like everyone"
        monkeypatch.setattr(room.engine, "_text", lambda _: says)
        return stream(request, cancel=cancel)

    room.engine.stream = listening
    room.server = replace(room.server, seed=7)
    screen = Screen()
    reply = await room.respond(room.ask("hello"), screen)
    assert screen.text == reply.outcome.completion == "I like everyone"
    assert seeds[0] == 7
    assert seeds[1] == reply.generation.seed != 8, "8 is the first regeneration's"
