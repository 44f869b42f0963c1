"""What a night may learn from, and what stands no more when it would be promoted."""

from __future__ import annotations

import asyncio
import importlib
import threading
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bot.collect import Collected, Standing, collect
from bot.learning_records import Cause, Night, NightOutcome, NightState
from bot.records import Correction, Placement, Preference, Provenance, ReplyState
from bot.store import Store
from models.learning.snapshot import write_snapshot
from models.prompt import PROMPT_VERSION
from tests.bot.learning import MODEL_SHA, ended_reply, vote
from tests.bot.stores import PROMPT, Clock, opened

NOW = 1_780_000_000.0
DAY = 86_400.0


@pytest.fixture
def clock() -> Clock:
    return Clock(NOW)


@pytest.fixture
async def store(tmp_path: Path, clock: Clock) -> AsyncIterator[Store]:
    async with opened(tmp_path, clock=clock) as store:
        yield store


async def collected(store: Store, **options: bool) -> Collected:
    return await collect(store, model_sha256=MODEL_SHA, prompt_version=PROMPT_VERSION, now=NOW, **options)


def snowflake(days_old: float) -> int:
    return int((NOW - days_old * DAY - 1_420_070_400) * 1000) << 22


# ---------------------------------------------------------------------- eligibility


@pytest.mark.parametrize("provenance", list(Provenance))
async def test_only_what_did_not_come_through_discord_is_collected(store: Store, provenance: Provenance) -> None:
    await store.give_consent(2)
    reply = await ended_reply(store, provenance=provenance)
    await vote(store, reply, 2)
    found = (await collected(store)).snapshot.replies
    assert [r.reply_id for r in found] == ([] if provenance is Provenance.DISCORD else [reply])


async def test_what_was_cut_at_its_limit_is_marked(store: Store) -> None:
    cut, ended = await ended_reply(store, finish_reason="length"), await ended_reply(store)
    for reply in (cut, ended):
        await vote(store, reply, 2)
    assert [(r.reply_id, r.cut) for r in (await collected(store)).snapshot.replies] == [(cut, True), (ended, False)]


async def test_what_was_broken_off_of_another_model_or_not_rated_is_left_out(store: Store) -> None:
    await vote(store, await ended_reply(store, state=ReplyState.STOPPED), 2)
    await vote(store, await ended_reply(store, model_sha256="ef" * 32), 2)
    await ended_reply(store)
    assert (await collected(store)).snapshot.replies == ()
    kept = await ended_reply(store)
    await vote(store, kept, 2)
    other = await collect(store, model_sha256=MODEL_SHA, prompt_version=PROMPT_VERSION + 1, now=NOW)
    assert other.snapshot.replies == ()
    assert [reply.reply_id for reply in (await collected(store)).snapshot.replies] == [kept]


async def test_a_reply_is_collected_as_the_model_made_it(store: Store, tmp_path: Path) -> None:
    reply_id = await ended_reply(store, placement=Placement("70:1"), adapter="2026-01-01-kto", author_id=3)
    await vote(store, reply_id, 2)
    snapshot = (await collected(store)).snapshot
    (reply,) = snapshot.replies
    assert reply.prompt_token_ids == PROMPT.token_ids
    assert reply.completion_token_ids == (5, reply_id)
    assert (reply.conversation_id, reply.adapter, reply.author_id) == ("70:1", "2026-01-01-kto", 3)
    write_snapshot(tmp_path / "examples.jsonl", snapshot)  # raises for what isn't whole


async def test_a_correction_is_a_vote_against_and_its_words_are_nowhere(store: Store, tmp_path: Path) -> None:
    reply = await ended_reply(store)
    await store.add_correction(Correction(reply, 2, ("wrong",), "a comment", "SECRET WORDS"))
    also = await ended_reply(store)
    await vote(store, also, 2, 1.0)
    await store.add_correction(Correction(also, 2, ("tone",), "", "SECRET WORDS"))
    snapshot = (await collected(store)).snapshot
    assert {(v.reply_id, v.value) for v in snapshot.votes} == {(reply, -1.0), (also, 1.0)}, (
        "what was said itself counts"
    )
    write_snapshot(tmp_path / "examples.jsonl", snapshot)
    assert "SECRET" not in (tmp_path / "examples.jsonl").read_text()


async def test_one_vote_a_member_and_own_prompts_are_known(store: Store) -> None:
    reply = await ended_reply(store, author_id=3)
    await vote(store, reply, 3)
    await vote(store, reply, 4, -1.0)
    await store.cast_vote(reply, 4, "words", 0.5)
    votes = (await collected(store)).snapshot.votes
    assert [(v.rater_id, v.value, v.own_prompt) for v in votes] == [(3, 1.0, True), (4, 0.5, False)]


async def test_the_operators_prompts_are_nobodys_own(store: Store) -> None:
    await store.give_consent(3)
    reply = await ended_reply(store, provenance=Provenance.OPERATOR, author_id=3)
    await vote(store, reply, 3)
    snapshot = (await collected(store)).snapshot
    assert snapshot.replies[0].author_id is None
    assert not snapshot.votes[0].own_prompt


async def test_gold_labels_are_collected_and_can_be_taken_back(store: Store) -> None:
    reply = await ended_reply(store)
    assert await store.label_gold(reply, False, 9)
    assert (await collected(store)).snapshot.gold == {reply: False}
    assert await store.label_gold(reply, True, 9)
    label = await store.gold(reply)
    assert label is not None and label.good and label.actor_id == 9
    assert await store.remove_gold(reply) and not await store.remove_gold(reply)
    assert (await collected(store)).snapshot.replies == ()
    assert not await store.label_gold(404, True, 9)


# ---------------------------------------------------------------------- raters


async def test_accounts_ages_come_from_ids_where_these_are_discords(store: Store) -> None:
    member = snowflake(days_old=10)
    await store.give_consent(member)
    await vote(store, await ended_reply(store, provenance=Provenance.OPERATOR), member)
    await store.note_rater(7, member, joined_at=NOW - 3 * DAY)
    fact = (await collected(store)).snapshot.facts[member]
    assert fact.account_age_days == pytest.approx(10, abs=0.01)
    assert fact.membership_days == pytest.approx(3)
    simulated = (await collected(store, snowflakes=False)).snapshot.facts[member]
    assert simulated.account_age_days is None


async def test_a_moderator_of_another_server_is_not_trusted_here(store: Store) -> None:
    await store.note_rater(8, 2, trusted=True)
    await vote(store, await ended_reply(store, guild_id=7), 2)
    assert not (await collected(store)).snapshot.facts[2].trusted
    await store.note_rater(7, 2, trusted=True)
    assert (await collected(store)).snapshot.facts[2].trusted
    await vote(store, await ended_reply(store, guild_id=9), 2)
    assert not (await collected(store)).snapshot.facts[2].trusted


async def test_what_is_known_of_a_rater_stays_until_it_changes(store: Store) -> None:
    await store.note_rater(7, 2, trusted=True, joined_at=5.0)
    await store.note_rater(7, 2, banned=True)
    (row,) = await store.raters()
    assert (row.guild_id, row.trusted, row.banned, row.joined_at) == (7, True, True, 5.0)
    await vote(store, await ended_reply(store), 2)
    assert (await collected(store)).snapshot.facts[2].banned


# ---------------------------------------------------------------------- pairs


async def test_a_click_prefers_one_version(store: Store) -> None:
    first, second = await ended_reply(store, asked=1), await ended_reply(store, asked=1, variant=1)
    for member, preference in ((2, Preference.B), (3, Preference.B), (4, Preference.A), (5, Preference.BOTH)):
        await store.record_preference(first, second, member, preference)
    (pair,) = (await collected(store)).snapshot.pairs
    assert (pair.chosen_reply_id, pair.rejected_reply_id, pair.source) == (second, first, "click")
    assert [(said.rater_id, said.side) for said in pair.opinions] == [(2, 1), (3, 1), (4, -1), (5, 0)]


async def test_a_pair_says_who_said_what_and_when_whatever_was_voted_later(store: Store, clock: Clock) -> None:
    first = await ended_reply(store, asked=1, author_id=4)
    second = await ended_reply(store, asked=1, variant=1, author_id=4)
    await store.record_preference(first, second, 3, Preference.B)
    clock.now = NOW + 10
    await store.record_preference(first, second, 4, Preference.A)
    await store.add_correction(Correction(first, 5, ("wrong",), "", "no"))
    clock.now = NOW + 20
    await vote(store, second, 9, 1.0)
    (pair,) = (await collected(store)).snapshot.pairs
    assert (pair.chosen_reply_id, pair.rated_at) == (second, NOW + 10)
    assert [(o.rater_id, o.side, o.own_prompt, o.rated_at) for o in pair.opinions] == [
        (3, 1, False, NOW),
        (4, -1, True, NOW + 10),
        (5, 1, False, NOW + 10),
    ]


async def test_whoever_only_compares_is_known_as_banned(store: Store) -> None:
    first, second = await ended_reply(store, asked=1), await ended_reply(store, asked=1, variant=1)
    await store.record_preference(first, second, 3, Preference.B)
    await store.note_rater(7, 3, banned=True)
    assert (await collected(store)).snapshot.facts[3].banned


async def test_votes_of_one_member_on_two_versions_prefer_one(store: Store) -> None:
    first, second = await ended_reply(store, asked=1), await ended_reply(store, asked=1, variant=1)
    await vote(store, first, 2, -1.0)
    await vote(store, second, 3, 1.0)
    assert (await collected(store)).snapshot.pairs == (), "two members disagree on nothing"
    await vote(store, second, 2, 1.0)
    (pair,) = (await collected(store)).snapshot.pairs
    assert (pair.chosen_reply_id, pair.source, len(pair.opinions)) == (second, "regeneration", 1)


async def test_a_correction_prefers_the_other_version_unless_members_are_against_it(store: Store) -> None:
    first, second = await ended_reply(store, asked=1), await ended_reply(store, asked=1, variant=1)
    await store.add_correction(Correction(first, 2, ("wrong",), "", "no"))
    await vote(store, second, 3, 1.0)
    (pair,) = (await collected(store)).snapshot.pairs
    assert (pair.chosen_reply_id, pair.rejected_reply_id, pair.source) == (second, first, "correction")
    for member in (4, 5):
        await vote(store, second, member, -1.0)
    assert (await collected(store)).snapshot.pairs == ()


async def test_of_many_versions_each_meets_a_few_and_those_that_were_compared_meet_anyway(store: Store) -> None:
    replies = [await ended_reply(store, asked=1, variant=number) for number in range(30)]
    for number, reply in enumerate(replies):
        await vote(store, reply, 2, 1.0 if number % 2 else -1.0)
    pairs = (await collected(store)).snapshot.pairs
    met = {(pair.rejected_reply_id, pair.chosen_reply_id) for pair in pairs}
    assert 30 < len(pairs) < 30 * 8 / 2, "not all 225"
    assert max(Counter(side for pair in met for side in pair).values()) <= 8
    assert (await collected(store)).snapshot.pairs == pairs, "drawn the same each time"

    bad, good = next((bad, good) for bad in replies[::2] for good in replies[1::2] if (bad, good) not in met)
    await store.record_preference(min(bad, good), max(bad, good), 3, Preference.BOTH)
    added = set((await collected(store)).snapshot.pairs) - set(pairs)
    assert [(pair.rejected_reply_id, pair.chosen_reply_id) for pair in added] == [(bad, good)]


async def test_versions_with_different_prompts_are_no_pair(store: Store) -> None:
    first = await ended_reply(store, asked=1)
    second = await ended_reply(store, asked=1, variant=1, prompt=replace(PROMPT, token_ids=(9, 9)))
    await store.record_preference(first, second, 2, Preference.A)
    assert (await collected(store)).snapshot.pairs == ()


# ---------------------------------------------------------------------- what stands no more


async def test_what_was_taken_back_or_turned_is_missed_and_what_is_new_is_not(store: Store) -> None:
    first, second = await ended_reply(store, asked=1), await ended_reply(store, asked=1, variant=1)
    await vote(store, first, 2)
    await vote(store, first, 3)
    await store.label_gold(second, True, 9)
    await store.record_preference(first, second, 4, Preference.A)
    await store.add_correction(Correction(second, 5, ("wrong",), "", ""))
    then = (await collected(store)).standing
    assert Standing.of_object(then.as_object()) == then

    async def missing() -> int:
        return len(then.less((await collected(store)).standing))

    await vote(store, second, 2, -1.0)
    await store.cast_vote(first, 3, "words", 0.5)
    assert await missing() == 0, "new votes, and the same opinion by other means"
    await vote(store, first, 3, -1.0)
    assert await missing() == 1
    await store.retract_vote(first, 2, "button")
    assert await missing() == 2
    await store.remove_gold(second)
    assert await missing() == 3
    await store.record_preference(first, second, 4, Preference.NEITHER)
    assert await missing() == 4


async def test_ban_takes_back_all_that_counted_and_an_earlier_one_nothing(store: Store) -> None:
    first, second = await ended_reply(store, asked=1), await ended_reply(store, asked=1, variant=1)
    for rater in (2, 3):
        await vote(store, first, rater)
        await store.record_preference(first, second, rater, Preference.A)
        await store.add_correction(Correction(second, rater, ("wrong",), "", ""))
    await store.ban_rater(7, 3, 9)
    then = (await collected(store)).standing
    await store.ban_rater(7, 2, 9)
    missing = len(then.less((await collected(store)).standing))
    assert missing == len({"vote", "vote by correction", "comparison", "correction"})


# ---------------------------------------------------------------------- rows of nights


async def test_nights_are_kept_as_they_ended_and_one_runs_at_a_time(store: Store) -> None:
    night = Night("2026-11-24", Cause.MODERATOR, NightState.RUNNING, NOW, actor_id=9)
    assert await store.begin_night(night)
    assert not await store.begin_night(replace(night, id="2026-11-24-2"))
    assert await store.running_night() == night
    assert await store.retry_night(night.id) == 2
    ended = replace(
        night,
        state=NightState.FINISHED,
        finished_at=NOW + 5,
        attempts=2,
        outcome=NightOutcome.INSUFFICIENT,
        more_ratings_needed=120,
        sentences=("Zu wenig 👍",),
        warnings=("w",),
        figures={"auc": 0.5, "names": ["x"]},
    )
    await store.end_night(ended)
    assert await store.night(night.id) == ended
    assert await store.running_night() is None
    assert not await store.begin_night(night), "an id is one night's for ever"
    assert await store.begin_night(replace(night, id="2026-11-24-2", started_at=NOW - 9))
    assert [found.id for found in await store.nights(5)] == ["2026-11-24-2", "2026-11-24"], "whatever the clock did"


async def test_learning_is_frozen_once_and_audited(store: Store) -> None:
    assert not await store.learning_frozen()
    assert await store.freeze_learning(True, 9) and not await store.freeze_learning(True, 9)
    assert await store.learning_frozen()
    assert await store.freeze_learning(False, 8) and not await store.freeze_learning(False, 8)
    assert [(e.actor_id, e.action) for e in await store.audit(None, 9)] == [
        (8, "learning unfreeze"),
        (9, "learning freeze"),
    ]


async def test_a_rating_room_is_one_channel_a_server(store: Store) -> None:
    await store.start_room(7, 70, 600.0, 9)
    await store.note_room_post(7)
    room = await store.start_room(7, 71, 900.0, 9)
    assert (room.channel_id, room.interval_seconds, room.posted_at) == (71, 900.0, NOW)
    assert await store.rating_rooms() == [room] and await store.rating_room(7) == room
    assert await store.stop_room(7) and not await store.stop_room(7)
    assert await store.rating_room(7) is None


@pytest.mark.parametrize("part", ["bot.store_nights._learnable", "bot.collect._facts"])
async def test_streams_go_on_while_the_ratings_are_collected(
    store: Store, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    await vote(store, await ended_reply(store), 2)
    module, name = part.rsplit(".", 1)
    whole, has_gone_on = getattr(importlib.import_module(module), name), threading.Event()

    def slowly(*given: Any, **options: Any) -> Any:
        loop.call_soon_threadsafe(has_gone_on.set)
        assert has_gone_on.wait(5), "the event loop stood still"
        return whole(*given, **options)

    loop = asyncio.get_running_loop()
    monkeypatch.setattr(part, slowly)
    assert len((await collected(store)).snapshot.votes) == 1
