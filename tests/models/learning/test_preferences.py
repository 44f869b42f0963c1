"""Pairs are weighed by who is believed."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from models.learning.examples import RaterFacts
from models.learning.labels import label
from models.learning.preferences import weigh
from models.learning.raters import RaterReport
from models.learning.snapshot import CollectedPair, Opinion, Snapshot
from tests.models.learning.nights import NOW, reply

GOOD, COIN, TROLL, STRANGER = 1, 2, 3, 99
REPORT = RaterReport(
    p_good={},
    accuracy={GOOD: 0.8, COIN: 0.5, TROLL: 0.2, 5: 0.8, 6: 0.8, 7: 0.8},
    influence={GOOD: 1.0, COIN: 1.0, TROLL: 1.0, 5: 1.0, 6: 0.5, 7: 0.5},
    clusters=(frozenset({6, 7}),),
    frozen=False,
    warnings=(),
)


def _snapshot(*pairs: CollectedPair, facts: dict[int, RaterFacts] | None = None) -> Snapshot:
    ids = {one for pair in pairs for one in (pair.chosen_reply_id, pair.rejected_reply_id)}
    return Snapshot(tuple(map(reply, sorted(ids))), (), facts or {}, {}, pairs)


def _pair(*opinions: Opinion, at: int = 1) -> CollectedPair:
    return CollectedPair(at, at + 1, 1.0, "click", NOW, opinions)


def _weigh(snapshot: Snapshot, report: RaterReport) -> tuple[CollectedPair, ...]:
    return weigh(snapshot.pairs, report, snapshot.facts)


def _one(*opinions: Opinion, facts: dict[int, RaterFacts] | None = None) -> CollectedPair | None:
    found = _weigh(_snapshot(_pair(*opinions), facts=facts), REPORT)
    return found[0] if found else None


def _weight(*opinions: Opinion, facts: dict[int, RaterFacts] | None = None) -> float:
    one = _one(*opinions, facts=facts)
    return 0.0 if one is None else one.weight


def test_one_believed_rater_turns_a_pair_that_many_trolls_preferred() -> None:
    report = replace(REPORT, accuracy={GOOD: 0.8, **dict.fromkeys(range(10, 20), 0.2)})
    trolls = [Opinion(rater, 1) for rater in range(10, 20)]
    (one,) = _weigh(_snapshot(_pair(Opinion(GOOD, -1), *trolls)), report)
    assert (one.chosen_reply_id, one.rejected_reply_id) == (2, 1)
    assert one.weight > 0.99
    (labelled,) = label(_snapshot(_pair(Opinion(GOOD, -1), *trolls)), report, frozenset(), now=NOW).pairs
    assert labelled.pair.chosen.reply_id == 2


def test_whoever_is_banned_or_no_better_than_a_coin_prefers_nothing() -> None:
    assert _one(Opinion(COIN, -1)) is None
    assert _one(Opinion(STRANGER, 1), facts={STRANGER: RaterFacts(STRANGER, banned=True)}) is None


def test_whoever_is_read_the_other_way_round_in_votes_is_so_in_pairs() -> None:
    one = _one(Opinion(TROLL, 1))
    assert one is not None and (one.chosen_reply_id, one.weight) == (2, pytest.approx(0.6))


def test_a_stranger_says_little_and_a_new_account_or_an_own_prompt_less() -> None:
    known, stranger = _weight(Opinion(GOOD, 1)), _weight(Opinion(STRANGER, 1))
    new = _weight(Opinion(STRANGER, 1), facts={STRANGER: RaterFacts(STRANGER, account_age_days=2.0)})
    assert known > stranger > new > 0
    assert stranger == pytest.approx(1 / 3)
    assert _weight(Opinion(STRANGER, 1, own_prompt=True)) == pytest.approx(new)


def test_a_cluster_is_one_voice() -> None:
    assert _weight(Opinion(6, 1), Opinion(7, 1)) == pytest.approx(_weight(Opinion(5, 1)))


def test_a_pair_that_half_found_alike_weighs_half() -> None:
    assert _weight(Opinion(GOOD, 1), Opinion(5, 0)) == pytest.approx(_weight(Opinion(GOOD, 1)) / 2)


def test_whoever_compares_without_end_says_little_each_time() -> None:
    report = replace(REPORT, accuracy={}, influence={}, clusters=())
    flood = [_pair(Opinion(50, 1), at=10 * n) for n in range(1, 201)]
    others = [_pair(Opinion(n, 1), at=10_000 + 10 * n) for n in range(60, 80)]
    operators = [CollectedPair(20_000 + 2 * n, 20_001 + 2 * n, 1.0, "import") for n in range(5)]
    weights = [pair.weight for pair in _weigh(_snapshot(*operators, *flood, *others), report)]
    assert weights[:5] == [1.0] * 5, "the operator's pairs keep their weight"
    assert weights[205:] == pytest.approx([1 / 3] * 20)
    assert sum(weights[5:205]) < 1.1 * weights[-1]


def test_thirty_per_cent_of_flippers_leave_few_pairs_turned() -> None:
    rng = random.Random(0)
    accuracy = {rater: 0.2 if rater < 18 else 0.8 for rater in range(60)}
    report = replace(REPORT, accuracy=accuracy, influence=dict.fromkeys(accuracy, 1.0), clusters=())
    pairs = []
    for n in range(400):
        raters = rng.sample(range(60), 3)
        pairs.append(_pair(*(Opinion(r, 1 if rng.random() < accuracy[r] else -1) for r in raters), at=2 * n))
    found = _weigh(_snapshot(*pairs), report)
    right = sum(one.weight for one in found if one.chosen_reply_id < one.rejected_reply_id)
    assert right / sum(one.weight for one in found) > 0.85
