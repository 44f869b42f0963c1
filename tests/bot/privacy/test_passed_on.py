"""Whose words a reply may hold: of whom it read, of whom the answers it read had read, and of whom is repeated."""

from __future__ import annotations

import itertools
import random
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from bot.privacy.journal import Request
from bot.privacy.passed_on import Members, ReadAnswer, settled
from bot.prompts import inheriting
from bot.records import Ask, Outcome, Provenance, ReplyState
from bot.store import Store
from models.prompt import PROMPT_VERSION
from tests.bot.learning import MODEL_SHA, vote
from tests.bot.privacy.busy_channel import EXCHANGES, MEMBERS, agreeing_members, in_groups, may_teach, replies_to
from tests.bot.privacy.channel import Channel
from tests.bot.stores import GENERATION, PROMPT, Clock, opened

MEI, LIN, SAM, KIM, ANA = 301, 302, 303, 304, 305
SECRET = "Mei lives in the old mill by the river."
_ids = itertools.count(1000)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with opened(tmp_path, clock=Clock()) as store:
        yield store


async def begun(store: Store, author: int, read: Sequence[int] = (), **ask: int) -> tuple[int, int]:
    """Begin an answer to a member that has `read` these messages too, and return its reply and the message of it."""
    message = next(_ids)
    reply = await store.claim_reply(Ask(next(_ids), 70, 7, author, Provenance.DISCORD, **ask))
    assert reply is not None
    prompt = await inheriting(store, replace(PROMPT, message_ids=tuple(read), member_ids=(author,)))
    assert await store.start_reply(reply, prompt, GENERATION)
    await store.attach_message(reply, message, 0)
    return reply, message


async def end(store: Store, reply: int, said: str, state: ReplyState = ReplyState.DONE) -> None:
    assert await store.finish_reply(reply, Outcome(state, said, (5,), "end"))


async def answered(store: Store, author: int, said: str, read: Sequence[int] = (), **ask: int) -> tuple[int, int]:
    reply, message = await begun(store, author, read, **ask)
    await end(store, reply, said)
    return reply, message


async def members(store: Store, reply_id: int) -> set[int]:
    reply = await store.reply(reply_id)
    assert reply is not None and reply.prompt is not None
    return set(reply.prompt.member_ids)


# ---------------------------------------------------------------------- what counts as repeated


@pytest.mark.parametrize(
    ("read", "said", "repeated"),
    [
        ("They told me: mei lives **in** the\nold   MILL", "Well, Mei lives in the old mill!", True),
        ("Mei lives in the old mill.", "Mei lives in the old house.", False),
        ("I'm glad you're here, dear friend.", "I'm glad you're here, dear Lin.", False),
        ("她说她住在河边的旧磨坊里。", "是的，她說她住在河邊的舊磨坊裡！", True),
        ("她说她住在河边的旧磨坊", "她说她住在河边的旧房子", False),
        ("Her house is 河边的旧磨坊, I think.", "It was: her house is 河边的旧磨坊.", True),
        ("She lives in the old mill by the river.", "The mill is old, and she lives by the river in it.", False),
        ("", "", False),
    ],
)
def test_six_words_or_twelve_characters_in_a_row_are_repeated(read: str, said: str, repeated: bool) -> None:
    started = Members((LIN, MEI), frozenset({MEI}))
    found = settled(started, said, [ReadAnswer(read, Members((MEI,)))])
    assert (found.all, MEI in found.own) == ((LIN, MEI), repeated)


async def test_what_was_only_thought_is_not_repeated(store: Store) -> None:
    """Hidden reasoning is in no later prompt."""
    _, first = await answered(store, MEI, f"<think>{SECRET}</think>I see.")
    _, second = await answered(store, LIN, SECRET, [first])
    third, _ = await answered(store, SAM, "Hello.", [second])
    assert await members(store, third) == {SAM, LIN}


async def test_answer_whose_text_is_gone_may_have_been_repeated(store: Store) -> None:
    started = Members((LIN, MEI), frozenset({MEI}))
    gone = ReadAnswer(None, Members((MEI, SAM), frozenset({SAM})))
    assert settled(started, "Hello.", [gone]) == Members((LIN, MEI, SAM))
    assert settled(started, "Hello.", []).own == {LIN, MEI}, "nobody can tell any more which answer that was"


# ---------------------------------------------------------------------- along a channel


async def test_who_was_read_is_known_one_answer_on_and_no_further(store: Store) -> None:
    channel = Channel()
    replies = [await channel.exchange(store, member) for member in (MEI, LIN, SAM, KIM)]
    assert [await members(store, reply) for reply in replies] == [{MEI}, {LIN, MEI}, {SAM, LIN}, {KIM, SAM}]


async def test_words_that_are_repeated_are_followed_as_far_as_they_go(store: Store) -> None:
    channel = Channel()
    replies = [await channel.exchange(store, member, repeats=1) for member in (MEI, LIN, SAM)]
    replies += [await channel.exchange(store, member) for member in (KIM, ANA)]
    found = [await members(store, reply) for reply in replies]
    assert found == [{MEI}, {LIN, MEI}, {SAM, LIN, MEI}, {KIM, SAM, LIN, MEI}, {ANA, KIM}]


async def test_answer_under_way_passes_on_all_that_it_has_read(store: Store) -> None:
    _, first = await answered(store, MEI, SECRET)
    _, second = await answered(store, LIN, "Hello, Lin.", [first])
    third, shown = await begun(store, SAM, [second])
    await end(store, third, "Hello, Sam.", ReplyState.STREAMING)
    fourth, _ = await answered(store, KIM, "Hello, Kim.", [shown])
    assert await members(store, third) == {SAM, LIN, MEI}, "it may repeat any of them yet"
    await end(store, third, "Hello, Sam.")
    assert await members(store, third) == {SAM, LIN}
    fifth, _ = await answered(store, KIM, "Hello, Kim.", [shown])
    assert (await members(store, fourth), await members(store, fifth)) == ({KIM, SAM, LIN, MEI}, {KIM, SAM})


async def test_continued_answer_and_its_beginning_are_one_text(store: Store) -> None:
    _, first = await answered(store, MEI, SECRET)
    begins, _ = await answered(store, LIN, "Mei lives in", [first])
    before = await store.reply(begins)
    assert before is not None and before.prompt is not None
    rest = await store.claim_reply(Ask(next(_ids), 70, 7, LIN, Provenance.DISCORD, continues_reply_id=begins))
    assert rest is not None and await store.start_reply(rest, before.prompt, GENERATION)
    await store.attach_message(rest, 50, 0)
    await end(store, rest, " the old mill.")
    later, _ = await answered(store, SAM, "Hello.", [50])
    assert await members(store, later) == {SAM, LIN, MEI}


async def test_another_version_answers_for_what_it_repeats_itself(store: Store) -> None:
    _, first = await answered(store, MEI, "Hello.")
    _, second = await answered(store, LIN, SECRET, [first])
    third, _ = await answered(store, SAM, "Hello, Sam.", [second])
    before = await store.reply(third)
    assert before is not None and before.prompt is not None and set(before.prompt.member_ids) == {SAM, LIN}
    again = await store.claim_reply(Ask(next(_ids), 70, 7, SAM, Provenance.DISCORD))
    assert again is not None and await store.start_reply(again, before.prompt, GENERATION)
    await end(store, again, SECRET)
    assert await members(store, again) == {SAM, LIN, MEI}


# ---------------------------------------------------------------------- what follows from it


async def test_consent_is_asked_of_who_was_read_one_answer_on_and_of_who_is_repeated(store: Store) -> None:
    channel = Channel()
    talk = [(MEI, 1), (LIN, 1), (SAM, 0), (KIM, 0), (ANA, 0)]  # and how much of what was read before is repeated
    replies = [await channel.exchange(store, member, repeats=repeats) for member, repeats in talk]
    for reply in replies:
        await vote(store, reply, ANA)
    for member in (LIN, SAM, KIM, ANA):
        await store.give_consent(member)
    found = await store.learnable([Provenance.DISCORD], model_sha256=MODEL_SHA, prompt_version=PROMPT_VERSION)
    assert [row.reply_id for row in found] == replies[3:]
    assert [row.members for row in found] == [{KIM, SAM, ANA}, {ANA, KIM}]


async def test_deletion_takes_the_text_of_all_that_repeat_the_member_and_leaves_the_rest(store: Store) -> None:
    channel = Channel()
    replies = [await channel.exchange(store, member, repeats=1) for member in (MEI, LIN, SAM)]
    replies += [await channel.exchange(store, member) for member in (KIM, ANA)]
    await store.erase(Request("d1", MEI, 1_780_000_000.0))
    found = [await store.reply(reply) for reply in replies]
    assert [reply is not None and reply.prompt is not None for reply in found] == [False, False, False, False, True]
    inherited = await store._database.read(
        "SELECT 1 FROM replies, json_each(inherited_member_ids) WHERE value = ?", (MEI,)
    )
    assert inherited == []


# ---------------------------------------------------------------------- what a busy channel teaches


def test_a_busy_channel_goes_on_to_teach_where_by_the_rule_before_it_soon_taught_nothing() -> None:
    before, now = 0.0, 0.0
    for seed in range(5):
        rng = random.Random(seed)
        agreeing, askers = agreeing_members(rng), in_groups(rng)
        before += may_teach(replies_to(askers, bounded=False)[100:], agreeing) / 5
        now += may_teach(replies_to(askers, bounded=True, repeating=0.05)[100:], agreeing) / 5
    assert (before, now > 0.02) == (0.0, True)


def test_one_member_who_asked_once_keeps_a_channel_from_teaching_for_two_windows_and_not_for_ever() -> None:
    askers = [0] * 30 + [1] + [0] * 269
    agreeing = frozenset(range(MEMBERS)) - {1}
    assert may_teach(replies_to(askers, bounded=False), agreeing) == 30 / EXCHANGES
    assert may_teach(replies_to(askers, bounded=True), agreeing) > 1 - 40 / EXCHANGES
