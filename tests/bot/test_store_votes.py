"""Votes: one a member and reply, out of all the signals that they give and take back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.errors import StoreRefused
from bot.records import ReactionEvent, ReactionKind, Vote
from tests.bot.stores import Clock, add, folder_in_memory, new_reply, opened, values

ADD, REMOVE, CLEAR, CLEAR_EMOJI = ReactionKind


def remove(message_id: int, member_id: int, emoji: str = "👍") -> ReactionEvent:
    return ReactionEvent(REMOVE, message_id, member_id, emoji)


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
    with folder_in_memory() as folder:
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
