from __future__ import annotations

from dataclasses import replace

import pytest

from models.learning.examples import Vote
from models.learning.labels import Labels, label
from models.learning.raters import RaterReport
from models.learning.snapshot import CollectedPair, Snapshot
from tests.models.learning.nights import HOUR, NOW, reply

DAYS = 24 * HOUR


def _report(p_good: dict[int, float], **changes: object) -> RaterReport:
    report = RaterReport(
        p_good=p_good,
        accuracy=dict.fromkeys(range(1, 10), 0.8),
        influence=dict.fromkeys(range(1, 10), 1.0),
        clusters=(),
        frozen=False,
        warnings=(),
    )
    return replace(report, **changes)  # type: ignore[arg-type]


def _voted(
    *votes: tuple[int, int], at: float = NOW, gold: dict[int, bool] | None = None, **of_reply: object
) -> Snapshot:
    ids = {reply_id for reply_id, _ in votes} | set(gold or {})
    replies = tuple(reply(reply_id, **of_reply) for reply_id in sorted(ids))
    return Snapshot(replies, tuple(Vote(r, rater, 1.0, rated_at=at) for r, rater in votes), {}, gold or {})


def _weights(labels: Labels) -> dict[int, float]:
    return {rated.example.reply_id: rated.example.weight for rated in labels.examples}


def test_a_reply_weighs_its_certainty_and_how_new_its_newest_rating_is() -> None:
    snapshot = _voted((1, 1), (1, 2), (2, 1), (2, 2))
    old = replace(
        snapshot, votes=tuple(replace(v, rated_at=NOW - 30 * DAYS) for v in snapshot.votes if v.rater_id == 1)
    )
    assert _weights(label(snapshot, _report({1: 0.9, 2: 0.2}), frozenset(), now=NOW)) == pytest.approx({1: 0.8, 2: 0.6})
    both = replace(old, votes=(*old.votes, *(replace(v, rater_id=3) for v in old.votes)))
    assert _weights(label(both, _report({1: 0.9, 2: 0.2}), frozenset(), now=NOW)) == pytest.approx({1: 0.4, 2: 0.3})


def test_first_rated_is_the_oldest_vote_that_counts() -> None:
    snapshot = _voted((1, 1), (1, 2), (1, 3))
    votes = tuple(replace(vote, rated_at=NOW - vote.rater_id) for vote in snapshot.votes)
    report = _report({1: 0.9}, influence={1: 1.0, 2: 1.0, 3: 0.0})
    [rated] = label(replace(snapshot, votes=votes), report, frozenset(), now=NOW).examples
    assert rated.first_rated_at == NOW - 2


def test_one_rater_is_too_few_and_a_cluster_is_one_rater() -> None:
    snapshot = _voted((1, 1), (2, 1), (2, 2), (3, 1), (3, 4))
    report = _report({1: 0.9, 2: 0.9, 3: 0.9}, clusters=(frozenset({1, 2}),))
    assert _weights(label(snapshot, report, frozenset(), now=NOW)) == pytest.approx({1: 0, 2: 0, 3: 0.8})


def test_a_moderators_label_alone_is_enough() -> None:
    labels = label(_voted(gold={7: False}, created_at=NOW), _report({7: 0.0}), frozenset(), now=NOW)
    assert _weights(labels) == {7: 1.0}
    assert labels.examples[0].first_rated_at == NOW


def test_a_reply_rated_good_but_unsafe_is_left_out_and_counted() -> None:
    snapshot = _voted((1, 1), (1, 2), gold={2: True})
    labels = label(snapshot, _report({1: 0.9, 2: 1.0}), frozenset({1, 2}), now=NOW)
    assert _weights(labels) == {1: 0.0, 2: 0.0}
    assert labels.unsafe_good == (1, 2)
    assert all(rated.example.unsafe for rated in labels.examples)


def test_a_reply_rated_bad_and_unsafe_has_no_share_of_a_positive() -> None:
    [rated] = label(_voted((1, 1), (1, 2)), _report({1: 0.2}), frozenset({1}), now=NOW).examples
    assert (rated.example.p_good, rated.example.unsafe) == (0.0, True)
    assert rated.example.weight == pytest.approx(0.6)


def test_nobodys_prompts_are_most_of_what_is_learned_but_the_operators_are_not_capped() -> None:
    replies = (*(reply(i, author_id=5) for i in (1, 2, 3, 4)), reply(5, author_id=6), *(reply(i) for i in (6, 7, 8)))
    votes = tuple(Vote(one.reply_id, rater, 1.0, rated_at=NOW) for one in replies for rater in (1, 2))
    labels = label(Snapshot(replies, votes, {}, {}), _report(dict.fromkeys(range(1, 9), 1.0)), frozenset(), now=NOW)
    weights = _weights(labels)
    assert [weights[i] for i in (1, 5, 6)] == pytest.approx([2.5 / 4, 1.0, 1.0])


def test_a_pair_that_those_who_are_believed_contradict_is_dropped() -> None:
    snapshot = _voted((1, 1), (2, 1))
    pair = CollectedPair(1, 2, 1.0, "click", NOW)
    for p_good, kept in (({1: 0.1, 2: 0.9}, 0), ({1: 0.9, 2: 0.1}, 1), ({}, 1)):
        labels = label(replace(snapshot, pairs=(pair,)), _report(p_good), frozenset(), now=NOW)
        assert len(labels.pairs) == kept


def test_pairs_carry_their_replies_age_and_an_unsafe_choice_is_dropped() -> None:
    snapshot = _voted((1, 1), (2, 1), (3, 1), created_at=NOW - 30 * DAYS)
    pairs = (
        CollectedPair(1, 2, 0.8, "click"),
        CollectedPair(3, 2, 1.0, "click"),
        CollectedPair(2, 3, 1.0, "click", NOW),
    )
    labels = label(replace(snapshot, pairs=pairs), _report({1: 0.9, 2: 0.5, 3: 0.5}), frozenset({3}), now=NOW)
    assert [(rated.pair.chosen.reply_id, rated.pair.weight, rated.rated_at) for rated in labels.pairs] == [
        (1, pytest.approx(0.4), NOW - 30 * DAYS),
        (2, pytest.approx(1.0), NOW),
    ]
    assert labels.unsafe_pairs == 1
