from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.learning.examples import Example, PairExample
from models.learning.labels import RatedExample, RatedPair
from models.learning.split import ENOUGH_REPLIES, MOST_HELD_OUT, Split, split


def _rated(reply_id: int, at: float, conversation: str | None = None, weight: float = 1.0) -> RatedExample:
    conversation_id = conversation or f"conversation {reply_id}"
    return RatedExample(Example(reply_id, conversation_id, at, (1,), (2,), 1, "operator", 0.9, weight), at)


def _ids(side: Sequence[RatedExample]) -> list[int]:
    return [rated.example.reply_id for rated in side]


def test_newest_three_in_ten_are_held_out() -> None:
    made = split([_rated(i, float(i)) for i in range(10)], [], not_before=None)
    assert _ids(made.held_out) == [7, 8, 9]
    assert _ids(made.training) == [0, 1, 2, 3, 4, 5, 6]
    assert made.cut == 6.0
    assert made.waiting == ()


def test_of_a_large_corpus_no_more_are_held_out_than_prove_enough_and_those_are_the_newest() -> None:
    made = split([_rated(i, float(i)) for i in range(8000)], [], not_before=None)
    assert _ids(made.held_out) == list(range(8000 - ENOUGH_REPLIES, 8000))
    assert len(made.training) == 8000 - ENOUGH_REPLIES


def test_more_are_held_out_while_they_can_prove_nothing_but_never_more_than_half() -> None:
    replies = [_rated(i, float(i)) for i in range(10)]
    assert _ids(split(replies, [], not_before=None, enough=lambda held: len(held) >= 4).held_out) == [6, 7, 8, 9]
    assert _ids(split(replies, [], not_before=None, enough=lambda _: False).held_out) == [5, 6, 7, 8, 9]


def test_what_the_incumbent_may_have_seen_is_no_newer_for_being_rated_again() -> None:
    made_early, rated_late = _rated(0, 0.0), [_rated(i, float(i)) for i in range(1, 10)]
    again = RatedExample(made_early.example, 20.0)
    made = split([again, *rated_late], [], not_before=6.0)
    assert _ids(made.held_out) == [7, 8, 9]
    assert _ids(made.waiting) == [0]
    assert _ids(split([again, *rated_late], [], not_before=None).held_out) == [8, 9, 0]


def test_nothing_that_the_incumbent_may_have_seen_is_held_out() -> None:
    made = split([_rated(i, float(i)) for i in range(10)], [], not_before=8.0)
    assert _ids(made.held_out) == [9]
    assert made.cut == 8.0
    late = split([_rated(i, float(i)) for i in range(10)], [], not_before=50.0)
    assert (late.held_out, late.cut) == ((), 50.0)


def test_later_replies_of_a_conversation_that_is_trained_on_wait() -> None:
    replies = [*(_rated(i, float(i)) for i in range(8)), _rated(8, 8.0, "old"), _rated(9, 9.0), _rated(10, 0.5, "old")]
    made = split(replies, [], not_before=None)
    assert _ids(made.waiting) == [8]
    assert 10 in _ids(made.training)
    assert 9 in _ids(made.held_out)


def test_replies_without_weight_are_on_no_side() -> None:
    made = split([_rated(i, float(i), weight=i % 2) for i in range(20)], [], not_before=None)
    assert all(i % 2 for side in (made.training, made.held_out, made.waiting) for i in _ids(side))


def test_ratings_of_one_moment_are_all_trained_on() -> None:
    made = split([_rated(i, 5.0) for i in range(10)], [], not_before=None)
    assert len(made.training) == 10
    assert made.held_out == ()


def test_pairs_of_held_out_conversations_and_later_ones_are_not_trained_on() -> None:
    replies = [_rated(i, float(i)) for i in range(10)]

    def pair(of: int, at: float) -> RatedPair:
        return RatedPair(PairExample(replies[of].example, replies[of - 1].example, 1.0, "click"), at)

    kept, moved = pair(2, 3.0), pair(3, 6.5)
    made = split(replies, [kept, moved, pair(2, 7.5), pair(8, 3.0), pair(7, 1.0)], not_before=None)
    assert made.pairs == (kept, moved)
    assert made.cut == 6.5


def test_without_replies_there_is_no_cut() -> None:
    assert split([], [], not_before=None) == Split(-math.inf, (), (), (), ())


@pytest.mark.parametrize("not_before", [None, 5.0])
@given(
    st.lists(st.tuples(st.integers(0, 12), st.integers(0, 6), st.sampled_from([0.0, 0.5, 1.0])), max_size=40),
)
def test_no_reply_is_judged_by_that_training_may_have_seen(
    not_before: float | None, drawn: list[tuple[int, int, float]]
) -> None:
    replies = [_rated(i, float(at), f"c{conversation}", weight) for i, (at, conversation, weight) in enumerate(drawn)]
    made = split(replies, [], not_before=not_before)
    trained = {rated.example.conversation_id for rated in made.training}
    assert all(rated.first_rated_at > made.cut for rated in made.held_out)
    assert not trained & {rated.example.conversation_id for rated in made.held_out}
    assert all(rated.first_rated_at <= made.cut for rated in made.training)
    assert not_before is None or made.cut >= not_before
    everything = [*_ids(made.training), *_ids(made.held_out), *_ids(made.waiting)]
    assert sorted(everything) == [i for i, (_, _, weight) in enumerate(drawn) if weight]
    assert len(made.held_out) <= MOST_HELD_OUT * len(everything)
