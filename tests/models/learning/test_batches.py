from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import given

from models.learning.batches import Tokens, mismatched, of_reply, order, pack, packs, truncated

_words = st.lists(st.integers(0, 2), min_size=1, max_size=8).map(tuple)
_sequences = st.lists(st.builds(of_reply, _words, _words), min_size=1, max_size=6)


def test_too_long_a_prompt_loses_its_beginning() -> None:
    tokens = truncated(of_reply((1, 2, 3, 4), (5, 6)), 4)
    assert (tokens.ids, tokens.learned) == ((3, 4, 5, 6), (0, 0, 1, 1))


def test_too_long_a_reply_loses_its_end_and_keeps_a_token_to_be_predicted_from() -> None:
    tokens = truncated(of_reply((1, 2), (5, 6, 7, 8)), 3)
    assert (tokens.ids, tokens.learned) == ((2, 5, 6), (0, 1, 1))


def test_what_fits_is_left_alone() -> None:
    tokens = of_reply((1, 2), (5, 6))
    assert truncated(tokens, 4) is tokens


def test_sequences_share_what_they_begin_with() -> None:
    row = pack([of_reply((5, 6), (7, 2)), of_reply((5, 6), (8, 2))])
    assert row.ids == (5, 6, 7, 2, 8, 2)
    assert row.positions == (0, 1, 2, 3, 2, 3)
    assert row.fresh == (4, 2)
    assert (row.targets, row.predictors, row.owners) == ((7, 2, 8, 2), (1, 2, 1, 4), (0, 0, 1, 1))


@given(_sequences)
def test_paths_give_every_sequence_back(sequences: list[Tokens]) -> None:
    row = pack(sequences)
    starts = [sum(row.sizes[:i]) for i in range(len(row.sizes) + 1)]
    assert starts[-1] == len(row.ids)
    for path, sequence in zip(row.paths, sequences, strict=True):
        nodes = [node for segment in path for node in range(starts[segment], starts[segment + 1])]
        assert tuple(row.ids[node] for node in nodes) == sequence.ids
        assert [row.positions[node] for node in nodes] == list(range(len(nodes)))
    assert sum(row.fresh) == len(row.ids)


@given(_sequences)
def test_every_learned_token_is_predicted_from_the_token_before_it(sequences: list[Tokens]) -> None:
    row = pack(sequences)
    said = [(row.owners[n], row.ids[row.predictors[n]], row.targets[n]) for n in range(len(row.targets))]
    assert said == [
        (owner, sequence.ids[i - 1], sequence.ids[i])
        for owner, sequence in enumerate(sequences)
        for i, learned in enumerate(sequence.learned)
        if learned
    ]


@given(_sequences, st.integers(8, 40))
def test_rows_keep_to_their_size_and_hold_everything_once(sequences: list[Tokens], size: int) -> None:
    groups = packs([(sequence,) for sequence in sequences], tokens_per_batch=size)
    assert sorted(i for group in groups for i in group) == list(range(len(sequences)))
    for group in groups:
        assert len(group) == 1 or len(pack([sequences[i] for i in group]).ids) <= size


def test_each_epoch_shows_every_example_once_in_an_order_of_its_own() -> None:
    steps = order(10, batch=4, epochs=2, max_steps=99, seed=3)
    assert [len(step) for step in steps] == [4, 4, 2, 4, 4, 2]
    first, second = ([i for step in half for i in step] for half in (steps[:3], steps[3:]))
    assert sorted(first) == sorted(second) == list(range(10))
    assert first != second
    assert order(10, batch=4, epochs=2, max_steps=99, seed=3) == steps
    assert order(10, batch=4, epochs=2, max_steps=99, seed=4) != steps
    assert order(10, batch=4, epochs=2, max_steps=5, seed=3) == steps[:5]


def test_mismatched_pairs_take_the_completion_before() -> None:
    a, b, c = (of_reply((i, i), (10 * i, 2)) for i in (1, 2, 3))
    assert mismatched([a, b, c]) == [of_reply((1, 1), (30, 2)), of_reply((2, 2), (10, 2)), of_reply((3, 3), (20, 2))]
