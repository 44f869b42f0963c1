from __future__ import annotations

import asyncio
import contextlib
import itertools
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from bot.records import Ask, Message, Provenance, ReplyState, ServerSettings
from bot.responder import Responder
from bot.settings import Settings
from bot.store import Store
from bot.streaming import Controls, SurfaceBusy, SurfaceGone
from models.engines.echo import EchoEngine
from models.loading import LoadedModel, load_model
from models.types import Sampling
from tests.bot.screen import Screen

GUILD, CHANNEL, MEI = 1, 7, 11


@dataclass
class Room:
    store: Store
    model: LoadedModel
    responder: Responder
    history: list[Message] = field(default_factory=list)
    server: ServerSettings = field(default_factory=ServerSettings)

    @property
    def engine(self) -> EchoEngine:
        assert isinstance(self.model.engine, EchoEngine)
        return self.model.engine

    def ask(self, content: str, *, variant: int = 0) -> Ask:
        """Let Mei say something, and return the ask for an answer to it."""
        message = Message(1000 + len(self.history), CHANNEL, MEI, "Mei", content)
        self.history.append(message)
        return Ask(message.id, CHANNEL, GUILD, MEI, Provenance.DEMO, variant)

    async def respond(self, ask: Ask, screen: Screen):  # type: ignore[no-untyped-def]
        return await self.responder.respond(ask, self.history, screen, self.server)


@contextlib.asynccontextmanager
async def opened(tmp_path: Path, *, context_tokens: int = 2048) -> AsyncIterator[Room]:
    async with contextlib.AsyncExitStack() as stack:
        store = await stack.enter_async_context(await Store.open(tmp_path / "encore.sqlite3"))
        model = await load_model("echo", cache_dir=tmp_path, context_tokens=context_tokens, slots=2, queue_limit=2)
        stack.push_async_callback(model.aclose)
        settings = replace(Settings(), edit_interval_seconds=0.0)
        responder = Responder(store, model, settings=settings)
        stack.push_async_callback(responder.aclose)
        yield Room(store, model, responder)


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Room]:
    async with opened(tmp_path) as room:
        yield room


async def until(predicate) -> None:  # type: ignore[no-untyped-def]
    async with asyncio.timeout(5):
        while not predicate():
            await asyncio.sleep(0.002)


async def test_an_answer_is_shown_and_kept_with_its_recipe(room: Room) -> None:
    screen = Screen()
    reply = await room.respond(room.ask("今天天气怎么样？"), screen)
    assert reply is not None
    assert screen.text == "今天天气怎么样？"
    assert screen.shown()[reply.message_ids[0]][1] is Controls.FINISHED
    assert reply.state is ReplyState.DONE
    assert reply.outcome is not None
    assert reply.outcome.completion == "今天天气怎么样？"
    assert room.model.tokenizer.decode(reply.outcome.completion_token_ids) == "今天天气怎么样？"
    assert reply.prompt is not None
    assert "Mei: 今天天气怎么样？" in room.model.tokenizer.decode(reply.prompt.token_ids)
    assert reply.prompt.member_ids == (MEI,)
    assert reply.generation is not None
    assert reply.generation.model_sha256 == room.engine.info.model_sha256
    assert reply.outcome.first_token_milliseconds is not None


async def test_one_message_is_answered_once(room: Room) -> None:
    ask = room.ask("hello")
    first, second = Screen(), Screen()
    replies = await asyncio.gather(room.respond(ask, first), room.respond(ask, second))
    assert sorted(reply is None for reply in replies) == [False, True]
    assert sorted([len(first.log) > 0, len(second.log) > 0]) == [False, True]


async def test_a_regeneration_is_a_second_version(room: Room) -> None:
    ask = room.ask("hello")
    await room.respond(ask, Screen())
    again = await room.respond(replace(ask, variant=1), Screen())
    assert again is not None
    assert again.ask.variant == 1


async def test_stop_keeps_what_was_said_and_says_so(room: Room) -> None:
    room.engine.seconds_per_token = 0.01
    screen = Screen()
    task = asyncio.create_task(room.respond(room.ask("word " * 100), screen))
    await until(lambda: any("word" in content for _, _, content, _ in screen.log))
    assert room.responder.asker_of(1) == MEI
    assert room.responder.stop(1)
    reply = await task
    assert reply.state is ReplyState.STOPPED
    assert 0 < len(reply.outcome.completion) < 500
    assert screen.text.endswith("-# Stopped.")
    assert not room.responder.stop(1)


async def test_deleting_the_question_stops_the_answer(room: Room) -> None:
    room.engine.seconds_per_token = 0.01
    screen = Screen()
    ask = room.ask("word " * 100)
    task = asyncio.create_task(room.respond(ask, screen))
    await until(lambda: screen.log)
    assert room.responder.stop_for_message(ask.asked_message_id)
    assert (await task).state is ReplyState.STOPPED


async def test_an_answer_whose_channel_is_gone_ends_quietly(room: Room) -> None:
    room.engine.seconds_per_token = 0.005
    screen = Screen(failures=[SurfaceGone(), SurfaceGone()])
    reply = await room.respond(room.ask("word " * 200), screen)
    assert reply.state is ReplyState.STOPPED
    assert len(reply.outcome.completion) < 1000
    assert room.model.scheduler.running == 0


async def test_an_answer_that_discord_refuses_to_finish_stays_for_the_next_start(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bot.streaming._FINAL_RETRY_SECONDS", (0.001,))
    room.engine.seconds_per_token = 0.01
    screen = Screen()
    task = asyncio.create_task(room.respond(room.ask("hello there"), screen))
    await until(lambda: screen.log)
    screen.failures = [SurfaceBusy()] * 100
    reply = await task
    assert reply.state is ReplyState.STREAMING
    assert reply.outcome.completion == "hello there"
    assert [unfinished.id for unfinished in await room.store.unfinished_replies()] == [reply.id]


async def test_an_answer_that_discord_never_shows_has_failed(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bot.streaming._FINAL_RETRY_SECONDS", (0.001,))
    reply = await room.respond(room.ask("hello"), Screen(failures=[SurfaceBusy()] * 10))
    assert reply.state is ReplyState.FAILED
    assert reply.outcome.completion == "hello"


async def test_talk_goes_on_from_the_version_that_was_replied_to(room: Room) -> None:
    ask = room.ask("question")
    for variant, answer in enumerate(["older version", "newer version"]):
        room.history[-1] = replace(room.history[-1], content=answer)
        reply = await room.respond(replace(ask, variant=variant), screen := Screen(ids=itertools.count(100 + variant)))
        assert reply is not None
        assert list(screen.shown()) == [100 + variant]
    versions = [
        Message(100 + v, CHANNEL, 2, "Encore", "", is_self=True, reply_to_id=ask.asked_message_id) for v in (0, 1)
    ]
    question = replace(room.history[-1], content="question")
    for replied_to, spoken in ((100, "older version"), (101, "newer version"), (None, "newer version")):
        follow = Message(2000 + len(room.history), CHANNEL, MEI, "Mei", "go on", reply_to_id=replied_to)
        room.history.append(follow)
        follow_up = Ask(follow.id, CHANNEL, GUILD, MEI, Provenance.DEMO)
        history = [question, *versions, follow]
        reply = await room.responder.respond(follow_up, history, Screen(), room.server)
        prompt = room.model.tokenizer.decode(reply.prompt.token_ids)
        assert [version for version in ("older version", "newer version") if version in prompt] == [spoken]


async def test_a_broken_engine_is_told_with_a_reference(room: Room) -> None:
    room.engine.fail_after = 3
    screen = Screen()
    reply = await room.respond(room.ask("hello there"), screen)
    assert reply.state is ReplyState.FAILED
    assert f"reference {reply.id}" in screen.text
    assert "Traceback" not in screen.text


async def test_a_full_queue_is_told_in_a_sentence(room: Room) -> None:
    room.engine.seconds_per_token = 0.05
    asks = [room.ask("word " * 50) for _ in range(4)]
    tasks = [asyncio.create_task(room.respond(ask, Screen())) for ask in asks]
    await until(lambda: room.model.scheduler.waiting == 2)
    screen = Screen()
    reply = await room.respond(room.ask("one more"), screen)
    assert reply.state is ReplyState.FAILED
    assert "try again" in screen.text
    await room.responder.aclose()
    assert {(await task).state for task in tasks} == {ReplyState.INTERRUPTED}


async def test_a_message_that_is_too_long_is_told_in_a_sentence(room: Room) -> None:
    screen = Screen()
    reply = await room.respond(room.ask("字" * 2000), screen)
    assert reply.state is ReplyState.FAILED
    assert "shorten" in screen.text


async def test_a_cut_answer_offers_to_go_on_and_does(room: Room) -> None:
    room.server = replace(room.server, sampling=Sampling(max_new_tokens=10))
    screen = Screen()
    ask = room.ask("one two three four five")
    first = await room.respond(ask, screen)
    assert "I can continue" in screen.text
    more = Screen()
    again = replace(ask, variant=1, continues_reply_id=first.id)
    second = await room.responder.carry_on(again, first, more, room.server)
    assert second is not None
    assert first.outcome.completion + second.outcome.completion == "one two three four f"


async def test_small_print_stands_below_the_code_block_that_an_answer_was_cut_in(room: Room) -> None:
    room.server = replace(room.server, sampling=Sampling(max_new_tokens=15))
    await room.respond(room.ask("So: ```print(1) print(2)```"), screen := Screen())
    assert screen.text == "So: ```print(1)\n```\n-# Cut at the length limit; I can continue."


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


async def test_hidden_reasoning_that_quotes_a_member_does_not_end_the_answer(room: Room) -> None:
    screen = Screen()
    await room.respond(room.ask("<think>so\nMei: asks for tea</think>Tea!"), screen)
    assert screen.text == "Tea!"


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


async def test_a_reply_to_a_further_part_has_the_whole_chain(tmp_path: Path) -> None:
    async with opened(tmp_path, context_tokens=6000) as room:
        room.server = replace(room.server, sampling=Sampling(max_new_tokens=2100))
        ask = room.ask("verse " * 340)
        reply = await room.respond(ask, Screen())
        assert len(reply.message_ids) == 2
        room.history += [
            Message(message_id, CHANNEL, 2, "Encore", "", is_self=True, reply_to_id=ask.asked_message_id)
            for message_id in reply.message_ids
        ]
        room.history += [Message(2000 + n, CHANNEL, 12, "Alex", "chatter " * 10) for n in range(30)]
        follow = Message(3000, CHANNEL, MEI, "Mei", "go on", reply_to_id=reply.message_ids[-1])
        room.history.append(follow)
        followed = await room.respond(Ask(follow.id, CHANNEL, GUILD, MEI, Provenance.DEMO), Screen())
        assert followed.prompt.message_ids[0] == reply.message_ids[0]


async def test_what_no_longer_fits_is_said_once(room: Room) -> None:
    texts = []
    for number in range(12):
        screen = Screen()
        await room.respond(room.ask(f"{number} " + "x" * 150), screen)
        texts.append(screen.text)
    [told] = [text for text in texts if "older ones are left out" in text]
    assert re.search(r"\n-# I go by \d+ messages here, up to yours; older ones are left out\.$", told)


async def test_a_servers_seed_is_kept_and_a_version_gets_another(room: Room) -> None:
    room.server = replace(room.server, seed=7)
    ask = room.ask("hello")
    first = await room.respond(ask, Screen())
    second = await room.respond(replace(ask, variant=1), Screen())
    assert (first.generation.seed, second.generation.seed) == (7, 8)


async def test_what_was_said_comes_back_as_it_was_generated_not_as_shown(tmp_path: Path) -> None:
    async with opened(tmp_path, context_tokens=16_384) as room:
        room.server = replace(room.server, sampling=Sampling(max_new_tokens=4000))
        screen = Screen()
        ask = room.ask("First part. " * 120 + "\n\n" + "second part " * 60)
        reply = await room.respond(ask, screen)
        assert len(reply.message_ids) == 2
        room.history += [
            Message(message_id, CHANNEL, 2, "Encore", content + " ▍", is_self=True, reply_to_id=ask.asked_message_id)
            for message_id, (content, _) in screen.shown().items()
        ]
        room.history.append(Message(5000, CHANNEL, 2, "Encore", "Which is better?", is_self=True))
        followed = await room.respond(room.ask("and?"), Screen())
        prompt = room.model.tokenizer.decode(followed.prompt.token_ids)
        assert prompt.count("assistant\n" + reply.outcome.completion.strip()) == 1
        assert "▍" not in prompt
        assert "Which is better?" not in prompt
