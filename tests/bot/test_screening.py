"""What of an answer shows while it streams, through the responder, with the rules and a classifier."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.moderation.check import check_answer
from bot.moderation.findings import Action, Audience, Finding
from bot.moderation.leak import PromptLeak
from bot.moderation.normalise import Forms
from bot.records import Ask, Message, Provenance, Reply, ReplyState, ServerSettings
from bot.responder import Responder
from bot.screening import Screening
from bot.settings import Settings
from bot.store import Store
from bot.streaming import CURSOR
from models.safety import Category, Scores
from models.safety_embedded import load_classifier
from tests.bot.moderation.test_guard import FINDINGS, PROMPT
from tests.bot.screen import Screen
from tests.bot.stores import open_store
from tests.world import SayingEngine, echo_model

GUILD, CHANNEL, MEI = 1, 7, 11
SERVER = ServerSettings(
    filter_words=["darn", "blow job", "傻逼", "frobnicate*"],
    filter_patterns=[r"free\s+nitro"],
    system_prompt=PROMPT,
)
HATEFUL = ["All immigrants are vermin and should be exterminated.", "I will kill you tonight."]


class Embedded:
    """Encore's own classifier; `read` has what it was asked of."""

    def __init__(self) -> None:
        self.read: list[str] = []

    async def scores(self, text: str) -> Scores:
        self.read.append(text)
        return load_classifier().scores(text)


class Talk:
    """A responder on the echo engine, which says what it is told to."""

    def __init__(self, store: Store, responder: Responder, engine: SayingEngine) -> None:
        self.store, self.responder, self.engine = store, responder, engine
        self.server = SERVER
        self._last = 1000

    async def hears(self, says: str, screen: Screen, question: str = "tell me") -> Reply:
        self.engine.says = says
        self._last += 1
        ask = Ask(self._last, CHANNEL, GUILD, MEI, Provenance.DEMO)
        message = Message(ask.asked_message_id, CHANNEL, MEI, "Mei", question)
        reply = await self.responder.respond(ask, [message], screen, self.server)
        assert reply is not None
        return reply


@contextlib.asynccontextmanager
async def talk(folder: Path, *, seconds_per_token: float = 0.0) -> AsyncIterator[Talk]:
    async with contextlib.AsyncExitStack() as stack:
        store = await stack.enter_async_context(await open_store(folder / "encore.sqlite3"))
        model = echo_model(folder, seconds_per_token=seconds_per_token)
        stack.push_async_callback(model.aclose)
        options = replace(Settings(), edit_interval_seconds=0.0)
        responder = Responder(store, model, settings=options, screening=Screening(Embedded()))
        stack.push_async_callback(responder.aclose)
        assert isinstance(model.engine, SayingEngine)
        yield Talk(store, responder, model.engine)


WORDS = st.sampled_from(
    """the lamp turns 12 times a night. In 1987, storm came! 灯塔 很 高。 He said: "no" (twice) classic as I
    e.g. 3.14 https://en.wikipedia.org/wiki/Fog `x = 1` \n <think>""".split(" ")  # noqa: SIM905
)
PROSE = st.lists(WORDS, max_size=25).map(" ".join)
BAD = st.sampled_from([*FINDINGS, *HATEFUL])


def bodies(screen: Screen) -> list[str]:
    """Return what the reply showed of the answer itself, edit after edit."""
    said = (content.removesuffix(CURSOR) for _, _, content, _ in screen.log)
    return ["\n".join(line for line in each.splitlines() if not line.startswith("-#")).strip() for each in said]


@given(st.lists(st.tuples(PROSE, BAD), max_size=2), PROSE)
@settings(max_examples=60, deadline=None)
def test_no_edit_ever_shows_a_finding_whatever_the_engine_says(said: Sequence[tuple[str, str]], end: str) -> None:
    answer = " ".join([part for pair in said for part in pair] + [end])
    screen = Screen()

    async def hear() -> Reply:
        with tempfile.TemporaryDirectory() as folder:
            async with talk(Path(folder), seconds_per_token=0.0005) as here:
                return await here.hears(answer, screen)

    reply = asyncio.run(hear())
    policy = asyncio.run(Screening().policy(SERVER, Audience.GENERAL))
    hides = frozenset(category for category, action in policy.answers.items() if action is Action.HIDE)
    leak = PromptLeak(PROMPT, policy.prompt_overlap)
    before = ""
    for body in bodies(screen):
        assert not [bad for _, bad in said if bad in body]
        assert check_answer(Forms(body), policy, [leak], hides) == []
        assert body.startswith(before), "what was shown was deleted"
        before = body
    shown = [bad for _, bad in said if bad in answer.partition("<think>")[0]]
    assert reply.outcome is not None
    if shown:
        assert reply.state is ReplyState.STOPPED
        assert str(reply.outcome.finish_reason).startswith("hidden:")
        assert not [bad for bad in shown if bad in reply.outcome.completion]


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Talk]:
    async with talk(tmp_path, seconds_per_token=0.001) as opened:
        yield opened


async def test_generating_ends_where_the_rest_is_hidden(here: Talk) -> None:
    screen = Screen()
    here.engine.seconds_per_token = 0.02  # all of it would take five seconds
    reply = await here.hears("So it goes. Write to kim.lee@mail-host.com now. " + "and on " * 2000, screen)
    assert screen.text == "So it goes. Write to\n-# The rest is left out: it looked like personal data."
    assert reply.outcome.completion == "So it goes. Write to"
    assert (reply.state, reply.outcome.finish_reason) == (ReplyState.STOPPED, "hidden:personal")
    assert here.responder._model.tokenizer.decode(reply.outcome.completion_token_ids) == "So it goes. Write to"
    assert reply.outcome.total_milliseconds < 2500


async def test_a_hidden_answer_teaches_no_night(here: Talk) -> None:
    reply = await here.hears("Ask kim.lee@mail-host.com about it", Screen())
    spoken = await here.hears("Ask me about it", Screen())
    for each in (reply, spoken):
        await here.store.label_gold(each.id, True, MEI)
    learnable = await here.store.learnable(
        [Provenance.DEMO], model_sha256=spoken.generation.model_sha256, prompt_version=spoken.prompt.prompt_version
    )
    assert [each.reply_id for each in learnable] == [spoken.id]


async def test_the_system_prompt_is_not_recited(here: Talk) -> None:
    screen = Screen()
    await here.hears(f"Sure! My instructions are: {PROMPT}", screen)
    assert screen.text.endswith("-# The rest is left out: my instructions are not mine to show.")
    assert "lighthouse" not in screen.text


async def test_a_system_prompt_that_was_changed_is_not_recited_by_what_is_still_made_with_it(here: Talk) -> None:
    own = "You are Captain Mia of the night ship, and the crew's word is ORCHID SEVEN."
    here.server = replace(SERVER, system_prompt=own)
    first = await here.hears("Well,", Screen())
    here.server = replace(SERVER, system_prompt="You are Bob, a baker who likes rye and never gets up late.")
    for variant, (make, continues) in enumerate(
        [(here.responder.carry_on, first.id), (here.responder.again, None)], start=1
    ):
        for leaked in (own, here.server.system_prompt):
            here.engine.says = f"Sure: {leaked}"
            ask = replace(first.ask, asked_message_id=9000 + variant, variant=len(leaked), continues_reply_id=continues)
            screen = Screen()
            await make(ask, first, screen, here.server)
            assert screen.text.endswith("my instructions are not mine to show.")
            assert "ORCHID" not in screen.text and "rye" not in screen.text


async def test_what_a_classifier_finds_never_shows(here: Talk) -> None:
    screen = Screen()
    reply = await here.hears(f"Well. {HATEFUL[0]} That is it.", screen)
    assert screen.text == "Well.\n-# The rest is left out: this server's rules do not allow it."
    assert not any("All" in content for _, _, content, _ in screen.log)
    assert reply.outcome.finish_reason == "hidden:hate"


async def test_a_matter_for_a_doctor_is_cautioned_once(here: Talk) -> None:
    screen = Screen()
    answer = "You should take 400 mg of ibuprofen. You should ask again when the symptoms stay."
    reply = await here.hears(answer, screen)
    assert screen.text == f"{answer}\n-# I am a bot, not a doctor: please ask a professional."
    assert (reply.state, reply.outcome.completion) == (ReplyState.DONE, answer)


async def test_a_member_in_a_crisis_gets_the_line_of_help_whatever_is_answered(here: Talk) -> None:
    screen = Screen()
    await here.hears("I hear you.", screen, question="I want to kill myself")
    assert "988" in screen.text


async def test_what_two_replies_spell_together_is_hidden_too(here: Talk) -> None:
    first = await here.hears("Write to kim.lee@mail-", Screen())
    here.engine.says = "host.com, she knows."
    ask = replace(first.ask, variant=1, continues_reply_id=first.id)
    screen = Screen()
    second = await here.responder.carry_on(ask, first, screen, here.server)
    assert screen.text == "-# The rest is left out: it looked like personal data."
    assert second.outcome.completion == ""


async def test_adults_among_themselves_may_hear_listed_words(here: Talk) -> None:
    here.responder.audience_of = lambda channel_id, server: (
        Audience.ADULT if channel_id == CHANNEL else Audience.GENERAL
    )
    screen = Screen()
    await here.hears("Well, darn.", screen)
    assert screen.text == "Well, darn."


async def test_a_server_decides_what_follows(here: Talk) -> None:
    here.server = replace(
        SERVER,
        filter_actions={"answers.word": "ignore", "answers.hate": "queue", "answers.threat": "ignore"},
        filter_sites=["evil.example"],
        filter_thresholds={Category.OFFENSIVE.value: 1.0},
    )
    screen = Screen()
    said = f"Well, darn. See https://evil.example/x for more. {HATEFUL[0]}"
    reply = await here.hears(said, screen)
    assert (screen.text, reply.state) == (said, ReplyState.DONE)


async def test_reading_an_answer_costs_little_an_edit() -> None:
    classifier = Embedded()
    screening = Screening(classifier)
    screen = screening.answer(await screening.policy(SERVER, Audience.GENERAL), PROMPT)
    answer = "The keeper walked to the harbour at 7 and said hello to Anna, who lives in town. " * 50
    for end in range(0, len(answer), 100):
        await screen.feed(answer[:end])
    assert not (await screen.finish(answer)).hidden
    assert sum(map(len, classifier.read)) < 3 * len(answer)  # a sentence once, and while it is begun


async def test_an_answer_that_cannot_be_read_is_not_shown(here: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a rule broke")

    monkeypatch.setattr("bot.moderation.guard.check_answer", broken)
    screen = Screen()
    reply = await here.hears("Well, hello there.", screen)
    assert screen.text == "-# This answer is left out: this server's rules do not allow it."
    assert (reply.state, reply.outcome.finish_reason) == (ReplyState.STOPPED, "hidden:rules")


async def test_moderators_review_what_was_hidden_and_what_only_they_are_told_of(here: Talk) -> None:
    reviewed = []

    async def review(ask: Ask, reply_id: int | None, said: str, findings: Sequence[Finding]) -> None:
        reviewed.append((ask.member_id, reply_id, said, [found.category.value for found in findings]))

    here.responder.review = review
    hidden = await here.hears("Well, darn.", Screen())
    here.server = replace(SERVER, filter_actions={"answers.hate": "queue", "answers.threat": "ignore"})
    queued = await here.hears(HATEFUL[0], screen := Screen())
    await here.hears("Hello.", Screen())
    assert screen.text == HATEFUL[0]
    assert reviewed == [(MEI, hidden.id, "Well, darn.", ["word"]), (MEI, queued.id, HATEFUL[0], ["hate"])]
