"""Where a few regulars do most of the rating and many vote once, the regulars say what is usual."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.simulation import Attack, Community, Ratings, rate
from models.learning.activity import MIN_PROVEN, PROVEN_VOTES, proven
from models.learning.examples import RaterFacts, Vote
from models.learning.preferences import weigh
from models.learning.raters import RaterReport, infer
from models.learning.snapshot import CollectedPair, Opinion
from models.learning.sufficiency import MIN_CERTAINTY
from models.learning.vote_table import tabulate

REGULARS, REPLIES = 20, 300
_FEW = PROVEN_VOTES - 1


def _proven(*counts: int, new: frozenset[int] = frozenset()) -> list[int]:
    is_new = np.array([place in new for place in range(len(counts))], dtype=np.bool_)
    return np.flatnonzero(proven(np.array(counts, dtype=np.float64), is_new)).tolist()


def test_who_voted_often_says_what_is_usual() -> None:
    often = [PROVEN_VOTES] * MIN_PROVEN
    assert _proven(*often, *[_FEW] * 50) == list(range(MIN_PROVEN))
    assert _proven(*often, 500, new=frozenset({MIN_PROVEN})) == list(range(MIN_PROVEN))


def test_where_few_voted_often_all_but_new_accounts_do_and_where_all_are_new_everybody() -> None:
    assert _proven(500, 500, 1, 1, 1, new=frozenset({4})) == [0, 1, 2, 3]
    assert _proven(500, 1, 1, new=frozenset(range(3))) == [0, 1, 2]
    assert _proven() == []


def _community(seed: int, *, casual: int, account_age_days: float) -> tuple[list[Vote], dict[int, RaterFacts], Ratings]:
    """Twenty regulars rate some 60 replies each; then so many accounts of that age vote once, all down."""
    ratings = rate(Community(raters=REGULARS, replies=REPLIES, votes_each=4), seed)
    once = range(1000, 1000 + casual)
    reply = np.random.default_rng(seed).integers(REPLIES, size=casual).tolist()
    votes = [*ratings.votes, *(Vote(at, who, -1.0, rated_at=1e6 + who) for at, who in zip(reply, once, strict=True))]
    return votes, ratings.facts | {who: RaterFacts(who, account_age_days=account_age_days) for who in once}, ratings


def _kept(report: RaterReport) -> float:
    return float(np.mean([abs(2 * p - 1) >= MIN_CERTAINTY for p in report.p_good.values()]))


@pytest.mark.parametrize("account_age_days", [1.0, 900.0])
def test_regulars_are_heard_beside_any_number_of_members_who_vote_once(account_age_days: float) -> None:
    alone = _kept(infer(*_community(3, casual=0, account_age_days=900.0)[:2], {}))
    votes, facts, ratings = _community(3, casual=60, account_age_days=account_age_days)
    report = infer(votes, facts, {})
    assert {report.influence[rater] for rater in range(REGULARS)} == {1.0}
    assert _kept(report) > alone - 0.05
    assert np.mean([(p > 0.5) == ratings.truth[reply] for reply, p in report.p_good.items()]) > 0.85


def test_where_few_do_most_of_the_rating_labels_are_as_good_as_majority() -> None:
    difference = []
    for seed in range(5):
        ratings = rate(Community(tail=1.0), seed)
        report = infer(ratings.votes, ratings.facts, {})
        total = np.bincount([v.reply_id for v in ratings.votes], [v.value for v in ratings.votes], len(ratings.truth))
        encore = np.array([report.p_good[reply] > 0.5 for reply in range(len(total))])
        difference.append(float((encore == ratings.truth).mean() - ((total > 0) == ratings.truth).mean()))
        assert max(report.influence.values()) == 1.0
        assert _kept(report) > 0.85
    assert np.mean(difference) > -0.01


@pytest.mark.parametrize("share", [0.45, 0.55])
@pytest.mark.parametrize("throwaway", [25, 80])
def test_throwaway_accounts_do_not_lift_the_freeze(share: float, throwaway: int) -> None:
    ratings = rate(Community(Attack.FLIP, share, throwaway=throwaway), 0)
    report = infer(ratings.votes, ratings.facts, {})
    assert report.frozen
    assert "frozen" in report.warnings[0]


def test_minority_that_votes_most_where_few_members_rate_much_is_read_the_other_way_round_not_frozen() -> None:
    ratings = rate(Community(Attack.FLIP, 0.3, 3.0, tail=1.0), 0)
    report = infer(ratings.votes, ratings.facts, {})
    assert not report.frozen
    assert {rater for rater, accuracy in report.accuracy.items() if accuracy < 0.4} <= ratings.trolls


def test_votes_on_own_prompts_are_capped_by_what_regulars_cast() -> None:
    votes, facts, _ = _community(0, casual=60, account_age_days=900.0)
    own = [replace(vote, own_prompt=vote.rater_id == 0) for vote in votes]
    table = tabulate(own, facts)
    assert table.strength[table.voice == 0].min() > 0.35  # by the one-time voters' median: .007


def test_pairs_of_regulars_count_beside_members_who_compare_once() -> None:
    known = range(1, 11)
    report = RaterReport({}, dict.fromkeys(range(1, 100), 0.8), dict.fromkeys(range(1, 100), 1.0), (), False, ())
    said = [who for who in known for _ in range(10)] + list(range(20, 60))
    pairs = [CollectedPair(2 * n, 2 * n + 1, 1.0, "click", 1.0, (Opinion(who, 1),)) for n, who in enumerate(said)]
    weights = [pair.weight for pair in weigh(pairs, report, {})]
    assert weights[0] == pytest.approx(weights[-1])
