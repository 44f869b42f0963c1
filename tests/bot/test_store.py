"""Replies, votes, comparisons, corrections, server settings and the audit, as the rest of the bot sees them."""

from __future__ import annotations

import asyncio
import dataclasses
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot import rows
from bot.errors import StoreError, StoreRefused
from bot.records import (
    DEFAULT_EMOJI,
    Ask,
    Correction,
    Outcome,
    Preference,
    Provenance,
    ReactionEvent,
    ReactionKind,
    ReplyCounts,
    ReplyState,
    ServerSettings,
    Vote,
)
from bot.store import Store
from models.types import Sampling
from tests.bot.stores import GENERATION, OUTCOME, PROMPT, Clock, new_ask, new_reply, opened

ADD, REMOVE, CLEAR, CLEAR_EMOJI = ReactionKind


def add(message_id: int, member_id: int, emoji: str = "👍", value: float = 1.0) -> ReactionEvent:
    return ReactionEvent(ADD, message_id, member_id, emoji, value)


def remove(message_id: int, member_id: int, emoji: str = "👍") -> ReactionEvent:
    return ReactionEvent(REMOVE, message_id, member_id, emoji)


async def values(store: Store, reply_id: int) -> dict[int, float]:
    return {vote.member_id: vote.value for vote in await store.votes(reply_id)}


# Replies


async def test_message_is_claimed_once_for_each_variant(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        ask = new_ask(message_id=1)
        claims = await asyncio.gather(*(store.claim_reply(ask) for _ in range(8)))
        assert len([claim for claim in claims if claim is not None]) == 1
        assert await store.next_variant(1) == 1
        assert await store.next_variant(2) == 0
        assert await store.claim_reply(dataclasses.replace(ask, variant=1)) is not None
        assert await store.next_variant(1) == 2
    async with opened(tmp_path) as store:
        assert await store.claim_reply(ask) is None


async def test_claim_race_of_two_variants_has_one_winner(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:

        async def regenerate() -> int | None:
            return await store.claim_reply(new_ask(message_id=1, variant=await store.next_variant(1)))

        claims = await asyncio.gather(*(regenerate() for _ in range(4)))
        assert sum(claim is not None for claim in claims) == await store.next_variant(1)


async def test_reply_comes_back_as_it_was_written(tmp_path: Path) -> None:
    clock = Clock()
    async with opened(tmp_path, clock=clock) as store:
        first = await new_reply(store, guild_id=None)
        ask = Ask(2**62, 2**62 + 1, None, 2**62 + 2, Provenance.IMPORT, 3, continues_reply_id=first)
        reply_id = await store.claim_reply(ask)
        assert reply_id is not None
        waiting = await store.reply(reply_id)
        assert waiting is not None
        assert (waiting.ask, waiting.state, waiting.created_at) == (ask, ReplyState.WAITING, clock.now)
        assert (waiting.prompt, waiting.generation, waiting.outcome, waiting.message_ids) == (None, None, None, ())
        await store.start_reply(reply_id, PROMPT, GENERATION)
        await store.attach_message(reply_id, 91, 1)
        await store.attach_message(reply_id, 99, 0)
        streaming = await store.reply(reply_id)
        assert streaming is not None
        assert (streaming.state, streaming.message_ids) == (ReplyState.STREAMING, (99, 91))
        assert (streaming.prompt, streaming.generation) == (PROMPT, GENERATION)
        assert await store.finish_reply(reply_id, OUTCOME) is True
        done = await store.reply_of_message(91)
        assert done is not None
        assert (done.id, done.state, done.outcome) == (reply_id, ReplyState.DONE, OUTCOME)
        assert await store.reply(404) is None
        assert await store.reply_of_message(404) is None


async def test_token_ids_are_little_endian_uint32(tmp_path: Path) -> None:
    assert rows.pack_tokens((1, 2**32 - 1)) == b"\x01\x00\x00\x00\xff\xff\xff\xff"
    assert rows.unpack_tokens(b"\x01\x00\x00\x00\xff\xff\xff\xff") == (1, 2**32 - 1)
    assert rows.unpack_tokens(rows.pack_tokens(())) == ()


async def test_kept_completion_of_a_streaming_reply_does_not_end_it(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        reply_id = await new_reply(store, 1)
        assert await store.finish_reply(reply_id, Outcome(ReplyState.STREAMING, "all of it"))
        assert [unfinished.id for unfinished in await store.unfinished_replies()] == [reply_id]
        assert await store.completions_of_messages([1]) == {1: "all of it"}
        assert await store.finish_reply(reply_id, Outcome(ReplyState.DONE, "all of it"))
        assert await store.unfinished_replies() == []


async def test_end_of_a_reply_stays_as_it_is(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        reply_id = await new_reply(store, 1)
        assert await store.finish_reply(reply_id, Outcome(ReplyState.STOPPED, "half"))
        assert not await store.finish_reply(reply_id, Outcome(ReplyState.DONE, "whole"))
        await store.attach_message(reply_id, 2, 1)
        reply = await store.reply(reply_id)
        assert reply is not None and reply.outcome is not None
        assert (reply.state, reply.outcome.completion) == (ReplyState.STOPPED, "half")
        assert not await store.finish_reply(404, OUTCOME)


async def test_unfinished_replies_survive_a_restart_with_their_messages(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        waiting = await new_reply(store)
        streaming = await new_reply(store, 5, 6)
        await store.finish_reply(await new_reply(store, 7), OUTCOME)
    async with opened(tmp_path) as store:
        unfinished = await store.unfinished_replies()
        assert [(reply.id, reply.message_ids) for reply in unfinished] == [(waiting, ()), (streaming, (5, 6))]


async def test_completions_are_found_by_every_message_that_shows_them(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await store.finish_reply(await new_reply(store, 1, 2), OUTCOME)
        await new_reply(store, 3)
        wanted = {1: OUTCOME.completion, 2: OUTCOME.completion}
        assert await store.completions_of_messages([*range(5000, 0, -1)]) == wanted
        assert await store.completions_of_messages([]) == {}


async def test_message_shows_the_reply_attached_first_for_ever(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        first = await new_reply(store, 1)
        await store.apply_reactions([add(1, 3)])
        second = await new_reply(store, 1, 2)
        reply = await store.reply_of_message(1)
        assert reply is not None and reply.id == first
        assert (await values(store, first), await values(store, second)) == ({3: 1.0}, {})


async def test_recent_messages_come_newest_first_and_limited(tmp_path: Path) -> None:
    clock = Clock(100.0)
    async with opened(tmp_path, clock=clock) as store:
        await new_reply(store, 1)
        clock.now = 200.0
        await new_reply(store, 2, 3, channel_id=71)
        clock.now = 300.0
        await new_reply(store, 4, guild_id=None, channel_id=72)
        assert await store.recent_reply_messages(200.0, 10) == [(72, 4, None), (71, 3, 7), (71, 2, 7)]
        assert await store.recent_reply_messages(0.0, 2) == [(72, 4, None), (71, 3, 7)]


async def test_lone_surrogate_in_a_completion_is_replaced_and_pairs_are_joined(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        reply_id = await new_reply(store, 1)
        await store.finish_reply(reply_id, Outcome(ReplyState.DONE, "a\ud800b \ud83d\udc4d 中"))
        assert await store.completions_of_messages([1]) == {1: "a\ufffdb 👍 中"}


# Votes


async def test_one_vote_a_member_and_reply_the_newest_signal(tmp_path: Path) -> None:
    clock = Clock(100.0)
    async with opened(tmp_path, clock=clock) as store:
        reply_id = await new_reply(store, 1)
        await store.apply_reactions([add(1, 3), add(1, 3, "👎", -1.0), add(1, 4)])
        clock.now = 200.0
        assert await store.cast_vote(reply_id, 3, "button", 1.0) is True
        assert await store.votes(reply_id) == [
            Vote(reply_id, 3, "button", 1.0, 200.0),
            Vote(reply_id, 4, "reaction:👍", 1.0, 100.0),
        ]


async def test_removed_signal_falls_back_to_the_one_before(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        reply_id = await new_reply(store, 1)
        await store.apply_reactions([add(1, 3), add(1, 3, "👎", -1.0)])
        await store.cast_vote(reply_id, 3, "button", 0.5)
        assert await store.retract_vote(reply_id, 3, "button") is True
        assert await store.retract_vote(reply_id, 3, "button") is False
        assert await values(store, reply_id) == {3: -1.0}
        await store.apply_reactions([remove(1, 3, "👎")])
        assert await values(store, reply_id) == {3: 1.0}
        await store.apply_reactions([remove(1, 3)])
        assert await values(store, reply_id) == {}


async def test_repeated_signal_is_one_and_newest_again(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        reply_id = await new_reply(store, 1)
        await store.cast_vote(reply_id, 3, "button", 1.0)
        await store.cast_vote(reply_id, 3, "words", -1.0)
        await store.cast_vote(reply_id, 3, "button", 1.0)
        assert await values(store, reply_id) == {3: 1.0}
        await store.retract_vote(reply_id, 3, "button")
        assert await values(store, reply_id) == {3: -1.0}


async def test_order_of_signals_outlives_a_restart_and_a_clock_set_back(tmp_path: Path) -> None:
    async with opened(tmp_path, clock=Clock(200.0)) as store:
        reply_id = await new_reply(store, 1)
        await store.apply_reactions([add(1, 3), add(1, 3, "👎", -1.0)])
    async with opened(tmp_path, clock=Clock(100.0)) as store:
        await store.cast_vote(reply_id, 3, "button", 0.5)
        assert await values(store, reply_id) == {3: 0.5}
        await store.retract_vote(reply_id, 3, "button")
        assert await values(store, reply_id) == {3: -1.0}


async def test_same_emoji_on_two_parts_of_a_reply_is_two_signals(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        reply_id = await new_reply(store, 1, 2)
        await store.apply_reactions([add(1, 3), add(2, 3), remove(1, 3)])
        assert await values(store, reply_id) == {3: 1.0}
        await store.apply_reactions([ReactionEvent(CLEAR, 1)])
        assert await values(store, reply_id) == {3: 1.0}
        await store.apply_reactions([ReactionEvent(CLEAR, 2)])
        assert await values(store, reply_id) == {}


async def test_clears_take_their_own_and_leave_buttons(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        reply_id = await new_reply(store, 1)
        await store.cast_vote(reply_id, 3, "button", -1.0)
        await store.apply_reactions([add(1, 3), add(1, 4, "pog:12345"), add(1, 5)])
        await store.apply_reactions([ReactionEvent(CLEAR_EMOJI, 1, emoji="👍"), add(1, 6)])
        assert await values(store, reply_id) == {3: -1.0, 4: 1.0, 6: 1.0}
        await store.apply_reactions([ReactionEvent(CLEAR, 1)])
        assert await values(store, reply_id) == {3: -1.0}


async def test_order_within_a_group_counts(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        reply_id = await new_reply(store, 1)
        await store.apply_reactions(
            [add(1, 3), remove(1, 3), add(1, 3), add(1, 4), remove(1, 4), ReactionEvent(CLEAR, 1), add(1, 5)]
        )
        assert await values(store, reply_id) == {5: 1.0}


async def test_reactions_to_other_messages_change_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await new_reply(store, 1)
        await store.apply_reactions([add(404, 3), remove(405, 3), ReactionEvent(CLEAR, 406)])
        assert (await store.counts(7)).raters == 0


async def test_reaction_faster_than_the_note_of_its_message_counts(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        reply_id = await new_reply(store)
        await store.apply_reactions([add(1, 3), add(1, 4), remove(1, 4), add(2, 5)])
        await store.attach_message(reply_id, 1, 0)
        assert await values(store, reply_id) == {3: 1.0}
        await store.apply_reactions([remove(1, 3)])
        await store.attach_message(reply_id, 1, 0)  # told again at the end of a reply
        assert await values(store, reply_id) == {}


async def test_reconciled_message_has_exactly_what_stands_on_discord(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        reply_id = await new_reply(store, 1, 2)
        await store.apply_reactions([add(1, 3), add(1, 4), add(2, 4, "🔥")])
        await store.cast_vote(reply_id, 3, "button", -1.0)
        await store.reconcile_reactions(1, {(3, "👍"): 2.0, (5, "👎"): -1.0})
        # 3's thumb stood before the button and still does; 4's is gone, but not their fire on the other part.
        assert await values(store, reply_id) == {3: -1.0, 4: 1.0, 5: -1.0}
        await store.retract_vote(reply_id, 3, "button")
        assert await values(store, reply_id) == {3: 1.0, 4: 1.0, 5: -1.0}
        await store.reconcile_reactions(404, {(3, "👍"): 1.0})
        await store.reconcile_reactions(1, {})
        assert await values(store, reply_id) == {4: 1.0}


async def test_votes_given_before_the_emoji_table_changed_stay_as_they_are(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        reply_id = await new_reply(store, 1)
        await store.apply_reactions([add(1, 3), add(1, 4, "🔥")])
        await store.reconcile_reactions(1, {(3, "👍"): -5.0, (4, "🔥"): None, (5, "👍"): -5.0, (6, "🔥"): None})
        assert await values(store, reply_id) == {3: 1.0, 4: 1.0, 5: -5.0}


async def test_vote_on_no_reply_is_told(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        assert await store.cast_vote(404, 3, "button", 1.0) is False
        assert await store.votes(404) == []


@pytest.mark.parametrize("event", [add(1, 3, value=float("nan")), add(1, 2**80), add(1, 3, "\ud800")])
async def test_event_with_values_the_schema_refuses_leaves_the_group_undone(
    tmp_path: Path, event: ReactionEvent
) -> None:
    async with opened(tmp_path) as store:
        reply_id = await new_reply(store, 1)
        with pytest.raises(StoreRefused):
            await store.apply_reactions([add(1, 9), event])
        assert await values(store, reply_id) == {}


MESSAGES = (1, 2, 3)  # the parts of the first reply, and the second; 4 shows none, 5 only from some time on
EMOJI = ("👍", "👎", "pog:12345")
members, messages, emojis = st.integers(1, 3), st.integers(1, 5), st.sampled_from(EMOJI)
weights = st.sampled_from([-1.0, 0.5, 1.0])
reactions = st.one_of(
    st.builds(ReactionEvent, st.just(ADD), messages, members, emojis, weights),
    st.builds(ReactionEvent, st.just(REMOVE), messages, members, emojis),
    st.builds(ReactionEvent, st.just(CLEAR), messages),
    st.builds(ReactionEvent, st.just(CLEAR_EMOJI), messages, emoji=emojis),
)
operations = st.one_of(
    st.tuples(st.just("apply"), st.lists(reactions, min_size=1, max_size=6)),
    st.tuples(st.just("apply"), st.lists(reactions, min_size=1, max_size=6)),
    st.tuples(st.just("cast"), st.integers(0, 1), members, weights),
    st.tuples(st.just("retract"), st.integers(0, 1), members),
    st.tuples(
        st.just("reconcile"), messages, st.dictionaries(st.tuples(members, emojis), st.none() | weights, max_size=4)
    ),
    st.tuples(st.just("attach")),
)
Key = tuple[int, int, str]  # reply's index, member, source with its message


class Model:
    """What votes should be: signals in the order of time, kept in a plain dict."""

    def __init__(self) -> None:
        self.shown: dict[int, int] = {1: 0, 2: 0, 3: 1}
        self.signals: dict[tuple[int, int, int, str], float] = {}  # reply, member, message, source
        self.early: list[ReactionEvent] = []

    def put(self, key: tuple[int, int, int, str], value: float) -> None:
        self.signals.pop(key, None)
        self.signals[key] = value

    def drop(self, unwanted: Callable[[tuple[int, int, int, str]], bool]) -> None:
        self.signals = {key: value for key, value in self.signals.items() if not unwanted(key)}

    def react(self, event: ReactionEvent) -> None:
        if event.message_id not in self.shown:
            return
        source = f"reaction:{event.emoji}"
        if event.kind is ADD:
            assert event.member_id is not None
            self.put((self.shown[event.message_id], event.member_id, event.message_id, source), event.value)
        elif event.kind is REMOVE:
            self.drop(lambda key: key[1:] == (event.member_id, event.message_id, source))
        elif event.kind is CLEAR:
            self.drop(lambda key: key[2] == event.message_id)
        else:
            self.drop(lambda key: key[2:] == (event.message_id, source))

    def reconcile(self, message_id: int, present: Mapping[tuple[int, str], float | None]) -> None:
        if message_id not in self.shown:
            return
        wanted = {
            (self.shown[message_id], member, message_id, f"reaction:{emoji}"): value
            for (member, emoji), value in present.items()
        }
        self.drop(lambda key: key[2] == message_id and key not in wanted)
        for key, value in wanted.items():
            if value is not None:
                self.signals.setdefault(key, value)

    def votes(self) -> dict[tuple[int, int], float]:
        return {(reply, member): value for (reply, member, _, _), value in self.signals.items()}


async def play(program: list[tuple[object, ...]]) -> None:
    model = Model()
    with tempfile.TemporaryDirectory() as folder:
        async with opened(Path(folder)) as store:
            replies = [await new_reply(store, 1, 2), await new_reply(store, 3)]
            for name, *given_values in program:
                match name, *given_values:
                    case "apply", list(events):
                        await store.apply_reactions(events)
                        model.early += events
                        for event in events:
                            model.react(event)
                    case "cast", int(reply), int(member), float(value):
                        await store.cast_vote(replies[reply], member, "button", value)
                        model.put((reply, member, 0, "button"), value)
                    case "retract", int(reply), int(member):
                        await store.retract_vote(replies[reply], member, "button")
                        model.drop(lambda key, gone=(reply, member, 0, "button"): key == gone)
                    case "reconcile", int(message), dict(present):
                        await store.reconcile_reactions(message, present)
                        model.reconcile(message, present)
                    case ("attach",):
                        await store.attach_message(replies[1], 5, 1)
                        if 5 not in model.shown:
                            model.shown[5] = 1
                            for event in model.early:
                                if event.message_id == 5:
                                    model.react(event)
                found = {
                    (index, vote.member_id): vote.value
                    for index, reply_id in enumerate(replies)
                    for vote in await store.votes(reply_id)
                }
                assert found == model.votes()


@settings(max_examples=60)
@given(st.lists(operations, max_size=14))
def test_votes_equal_a_plain_model_of_every_signal(program: list[tuple[object, ...]]) -> None:
    asyncio.run(play(program))


# Comparisons and corrections


async def test_preference_of_a_pair_is_one_however_it_was_shown(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        first, second = await new_reply(store, 1), await new_reply(store, 2)
        await store.record_preference(first, second, 3, Preference.A)
        await store.record_preference(second, first, 4, Preference.A)
        await store.record_preference(second, first, 5, Preference.BOTH)
        assert await store.preferences(first, second) == {3: Preference.A, 4: Preference.B, 5: Preference.BOTH}
        assert await store.preferences(second, first) == {3: Preference.B, 4: Preference.A, 5: Preference.BOTH}
        await store.record_preference(second, first, 3, Preference.NEITHER)
        assert (await store.preferences(first, second))[3] is Preference.NEITHER


async def test_preference_needs_two_replies(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        reply_id = await new_reply(store, 1)
        with pytest.raises(StoreError):
            await store.record_preference(reply_id, reply_id, 3, Preference.A)
        with pytest.raises(StoreError):
            await store.record_preference(reply_id, 404, 3, Preference.A)


async def test_correction_replaces_the_same_members_earlier_one(tmp_path: Path) -> None:
    clock = Clock()
    async with opened(tmp_path, clock=clock) as store:
        reply_id = await new_reply(store, 1)
        await store.add_correction(Correction(reply_id, 3, ("rude",), "first", ""))
        clock.now += 1
        other = Correction(reply_id, 4, (), "", "应该说“你好” \ud83d\udc4d")
        await store.add_correction(other)
        clock.now += 1
        latest = Correction(reply_id, 3, ("wrong", "太长"), "second\ud800", "hello")
        await store.add_correction(latest)
        assert await store.corrections(reply_id) == [
            dataclasses.replace(other, should_have_said="应该说“你好” 👍"),
            dataclasses.replace(latest, comment="second\ufffd"),
        ]


async def test_counts_are_of_one_server(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        first, second = await new_reply(store, 1), await new_reply(store, 2)
        await new_reply(store, 3)
        private = await new_reply(store, 4, guild_id=None)
        await store.apply_reactions([add(1, 3), add(1, 4, "👎", -1.0), add(2, 3), add(2, 3, "👎", -1.0)])
        await store.cast_vote(private, 9, "button", 1.0)
        await store.record_preference(first, second, 3, Preference.A)
        await store.add_correction(Correction(first, 3, (), "", "x"))
        assert await store.counts(7) == ReplyCounts(3, 2, 1, 2, 2, 1, 1)
        assert await store.counts(None) == ReplyCounts(1, 1, 1, 0, 1, 0, 0)
        assert await store.counts(8) == ReplyCounts(0, 0, 0, 0, 0, 0, 0)


# Servers


async def test_settings_are_defaults_until_changed_and_survive_a_restart(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        assert await store.server_settings(7) == ServerSettings()
        changed = await store.change_server_settings(7, 9, paused=True, temperature=0.1, emoji={"🎉": 2.0}, seed=0)
        assert changed == ServerSettings(paused=True, sampling=Sampling(temperature=0.1), emoji={"🎉": 2.0}, seed=0)
        assert await store.server_settings(7) == changed
        assert await store.server_settings(None) == ServerSettings()
    async with opened(tmp_path) as store:
        assert await store.server_settings(7) == changed
        assert (await store.server_settings(None)).emoji == DEFAULT_EMOJI


async def test_settings_of_direct_messages_are_guild_zero(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await store.change_server_settings(None, 9, system_prompt="你是一只猫")
        assert (await store.server_settings(0)).system_prompt == "你是一只猫"
        assert [entry.guild_id for entry in await store.audit(None, 5)] == [None]


async def test_changes_at_once_are_all_kept(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await asyncio.gather(
            store.change_server_settings(7, 1, temperature=0.3),
            store.change_server_settings(7, 2, top_p=0.4),
            store.change_server_settings(7, 3, seed=5),
            store.server_settings(7),
        )
        assert await store.server_settings(7) == ServerSettings(sampling=Sampling(temperature=0.3, top_p=0.4), seed=5)


async def test_whole_sampling_may_be_changed(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        sampling = Sampling(0.1, 0.2, 0.3, 1.4, 5, 6)
        assert (await store.change_server_settings(7, 1, sampling=sampling)).sampling == sampling
        assert (await store.change_server_settings(7, 1, top_p=0.9)).sampling == dataclasses.replace(
            sampling, top_p=0.9
        )


async def test_each_real_change_is_audited_with_it_in_one_transaction(tmp_path: Path) -> None:
    clock = Clock(100.0)
    async with opened(tmp_path, clock=clock) as store:
        await store.change_server_settings(7, 9, paused=True, temperature=0.8)
        await store.change_server_settings(7, 9, paused=True)  # changes nothing
        with pytest.raises(TypeError):
            await store.change_server_settings(7, 9, paused=False, colour="red")
        assert (await store.server_settings(7)).paused
        (entry,) = await store.audit(7, 10)
        assert (entry.actor_id, entry.action, entry.detail, entry.created_at) == (
            9,
            "settings",
            {"paused": [False, True]},
            100.0,
        )


async def test_free_channels_are_audited_once_each(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        assert await store.add_free_channel(7, 70, 9)
        assert not await store.add_free_channel(7, 70, 9)
        assert await store.add_free_channel(8, 80, 9)
        assert await store.free_channels(7) == {70}
        assert await store.remove_free_channel(7, 70, 9)
        assert not await store.remove_free_channel(7, 70, 9)
        assert await store.free_channels(7) == set()
        found = [(entry.action, entry.detail) for entry in await store.audit(7, 10)]
        assert found == [("channels remove", {"channel_id": 70}), ("channels add", {"channel_id": 70})]


async def test_audit_is_newest_first_and_limited(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        for number in range(5):
            await store.add_audit(7, 9, "note", {"number": number, "text": "中\ud800"})
        assert [entry.detail["number"] for entry in await store.audit(7, 3)] == [4, 3, 2]
        assert await store.audit(8, 3) == []


async def test_meta_keeps_the_last_value(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        assert await store.meta("tree") is None
        await store.set_meta("tree", "a")
        await store.set_meta("tree", "b")
    async with opened(tmp_path) as store:
        assert await store.meta("tree") == "b"
