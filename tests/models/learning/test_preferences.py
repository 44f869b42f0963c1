"""Pairs are weighed by who is believed."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from models.learning.examples import RaterFacts
from models.learning.labels import label
from models.learning.preferences import STRANGER as STRANGER_ACCURACY
from models.learning.preferences import weigh
from models.learning.raters import RaterReport
from models.learning.snapshot import CollectedPair, Opinion, Snapshot
from models.learning.sufficiency import MAX_RATER_SHARE
from tests.models.learning.nights import NOW, reply

GOOD, COIN, TROLL, STRANGER = 1, 2, 3, 99
CROWD = range(200, 240)  # known from votes as no better than a coin: they hold shares and say nothing
REPORT = RaterReport(
    p_good={},
    accuracy={GOOD: 0.8, COIN: 0.5, TROLL: 0.2, 5: 0.8, 6: 0.8, 7: 0.8, **dict.fromkeys(CROWD, 0.5)},
    influence={GOOD: 1.0, COIN: 1.0, TROLL: 1.0, 5: 1.0, 6: 0.5, 7: 0.5, **dict.fromkeys(CROWD, 1.0)},
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
    crowd = [_pair(Opinion(rater, 1), at=10 * rater) for rater in CROWD]
    found = _weigh(_snapshot(_pair(*opinions), *crowd, facts=facts), REPORT)
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
    report = replace(REPORT, accuracy={}, influence={}, clusters=())  # nobody has voted, so nobody is better known
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


# ---------------------------------------------------------------------- shares of what is said

MEMBERS, PUPPETS = range(1, 16), range(1000, 1030)


def _right_on_the_targeted(puppets: int, each: int, *, new: bool) -> tuple[int, int]:
    """Return how many of 40 pairs that puppets turn come out right, and how many without the puppets."""
    rng = random.Random(0)
    report = replace(REPORT, accuracy=dict.fromkeys(MEMBERS, 0.8), influence=dict.fromkeys(MEMBERS, 1.0), clusters=())
    facts = {one: RaterFacts(one, account_age_days=1.0 if new else 900.0) for one in PUPPETS}
    honest = [[Opinion(r, 1 if rng.random() < 0.8 else -1) for r in rng.sample(MEMBERS, 3)] for _ in range(100)]
    clicks = [(PUPPETS[n // each], n % 40) for n in range(puppets * each)]
    said = [[*of, *(Opinion(who, -1) for who, at in clicks if at == n)] for n, of in enumerate(honest)]

    def right(opinions: list[list[Opinion]]) -> int:
        pairs = [_pair(*of, at=2 * n) for n, of in enumerate(opinions)]
        found = _weigh(_snapshot(*pairs, facts=facts), report)
        return sum(one.chosen_reply_id < one.rejected_reply_id for one in found if min(_ids(one)) < 80)

    return right(said), right(honest)


def _ids(pair: CollectedPair) -> tuple[int, int]:
    return pair.chosen_reply_id, pair.rejected_reply_id


@pytest.mark.parametrize(("puppets", "each"), [(15, 3), (20, 2), (20, 4), (30, 4)])
def test_new_accounts_together_turn_hardly_a_pair(puppets: int, each: int) -> None:
    attacked, quiet = _right_on_the_targeted(puppets, each, new=True)
    assert attacked >= quiet - 2


@pytest.mark.parametrize(("puppets", "each"), [(20, 2), (30, 4)])
def test_old_accounts_that_never_vote_turn_few(puppets: int, each: int) -> None:
    attacked, quiet = _right_on_the_targeted(puppets, each, new=False)
    assert attacked >= 0.75 * quiet


@pytest.mark.parametrize("others", [7, 8, 20])
@pytest.mark.parametrize("known", [True, False])
def test_no_voice_has_more_than_its_share_of_the_weight(others: int, known: bool) -> None:
    said = {rater: 50 if rater == 1 else 10 if rater < 5 else 1 for rater in range(1, others + 1)}
    accuracy = dict.fromkeys(said, STRANGER_ACCURACY) if known else {}
    report = replace(REPORT, accuracy=accuracy, influence=dict.fromkeys(accuracy, 1.0), clusters=())
    pairs = [_pair(Opinion(who, 1), at=1000 * who + 10 * n) for who, times in said.items() for n in range(times)]
    found = _weigh(_snapshot(*pairs), report)
    total = sum(pair.weight for pair in found)
    for who in said:
        share = sum(pair.weight for pair in found if pair.opinions[0].rater_id == who) / total
        # A word that is split over many pairs weighs a little more than one that is said once: tanh is concave.
        assert 0 < share < 1.05 * MAX_RATER_SHARE


def test_fewer_than_seven_voices_teach_nothing_and_the_operators_pairs_are_kept() -> None:
    report = replace(REPORT, accuracy={}, influence={}, clusters=())
    operators = CollectedPair(1, 2, 1.0, "import")
    pairs = [_pair(Opinion(one, 1), at=10 * one) for one in range(50, 57)]
    assert _weigh(_snapshot(operators, *pairs[:6]), report) == (operators,)
    assert len(_weigh(_snapshot(operators, *pairs), report)) == 8


def test_who_never_voted_needs_six_who_did() -> None:
    voted, strangers = range(1, 7), range(50, 60)
    said = {one: _pair(Opinion(one, 1), at=10 * one) for one in (*voted, *strangers)}
    for known, learned in ((voted[:5], 0), (voted, 16)):
        accuracy = dict.fromkeys(known, 0.8)
        report = replace(REPORT, accuracy=accuracy, influence=dict.fromkeys(known, 1.0), clusters=())
        pairs = [said[one] for one in (*known, *strangers)]
        assert len(_weigh(_snapshot(*pairs), report)) == learned


def test_a_trusted_rater_who_never_voted_is_no_stranger() -> None:
    accuracy = dict.fromkeys(range(1, 6), 0.8)
    report = replace(REPORT, accuracy=accuracy, influence=dict.fromkeys(accuracy, 1.0), clusters=())
    pairs = [_pair(Opinion(one, 1), at=10 * one) for one in (*accuracy, 50, 51)]
    for trusted, learned in ((False, 0), (True, 7)):
        facts = {50: RaterFacts(50, trusted=trusted)}
        assert len(_weigh(_snapshot(*pairs, facts=facts), report)) == learned
