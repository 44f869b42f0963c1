from __future__ import annotations

import dataclasses
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.simulation import Attack, Community, Ratings, rate
from models.learning.examples import RaterFacts, Vote
from models.learning.raters import RaterReport, infer

_VOTES = st.lists(
    st.builds(
        Vote,
        reply_id=st.integers(1, 8),
        rater_id=st.integers(1, 6),
        value=st.sampled_from([-1.0, -0.5, 0.5, 1.0]),
        own_prompt=st.booleans(),
        rated_at=st.floats(0, 100),
    ),
    max_size=40,
)
_HELP = Community(trusted=5, gold_share=0.1)


def _infer(ratings: Ratings) -> RaterReport:
    return infer(ratings.votes, ratings.facts, ratings.gold)


def _accuracy(ratings: Ratings, report: RaterReport) -> float:
    """Share of the replies without a gold label that are labelled rightly."""
    asked = [reply for reply in report.p_good if reply not in ratings.gold]
    return float(np.mean([(report.p_good[reply] > 0.5) == ratings.truth[reply] for reply in asked]))


def _majority_accuracy(ratings: Ratings) -> float:
    total = np.zeros(len(ratings.truth))
    for vote in ratings.votes:
        total[vote.reply_id] += vote.value
    return float(np.mean((total > 0) == ratings.truth))


def _thumbs(rater_id: int, verdicts: dict[int, bool], **fields: object) -> list[Vote]:
    return [
        dataclasses.replace(Vote(reply, rater_id, 1.0 if up else -1.0), **fields)  # type: ignore[arg-type]
        for reply, up in verdicts.items()
    ]


# Properties


@settings(max_examples=25, deadline=None)
@given(_VOTES, st.randoms())
def test_order_of_votes_changes_nothing(votes: list[Vote], shuffler: random.Random) -> None:
    shuffled = votes.copy()
    shuffler.shuffle(shuffled)
    assert infer(shuffled, {}, {1: True}) == infer(votes, {}, {1: True})


@settings(max_examples=25, deadline=None)
@given(_VOTES)
def test_report_holds_probabilities_of_what_was_voted_on_and_by_whom(votes: list[Vote]) -> None:
    report = infer(votes, {}, {})
    assert all(0 <= p <= 1 for p in [*report.p_good.values(), *report.accuracy.values(), *report.influence.values()])
    assert {vote.reply_id for vote in votes} >= report.p_good.keys()
    assert {vote.rater_id for vote in votes} >= report.accuracy.keys()


@pytest.mark.parametrize("value", [-1.0, 1.0])
def test_two_votes_on_one_reply_are_enough_to_say_something(value: float) -> None:
    report = infer([Vote(1, 1, value), Vote(1, 2, value)], {}, {})
    assert (report.p_good[1] > 0.5) is (value > 0)


@pytest.mark.parametrize("seed", range(2))
def test_names_of_raters_and_replies_change_nothing(seed: int) -> None:
    ratings = rate(Community(Attack.FLIP, 0.3), seed)
    generator = np.random.default_rng(seed)
    rater_as = dict(enumerate((generator.permutation(60) * 7 + 10**17).tolist()))
    reply_as = dict(enumerate((generator.permutation(400) * 3 + 5).tolist()))
    renamed = [
        dataclasses.replace(vote, reply_id=reply_as[vote.reply_id], rater_id=rater_as[vote.rater_id])
        for vote in ratings.votes
    ]
    before, after = infer(ratings.votes, {}, {}), infer(renamed, {}, {})
    assert after.p_good == pytest.approx({reply_as[reply]: p for reply, p in before.p_good.items()}, abs=1e-6)
    assert after.accuracy == pytest.approx({rater_as[rater]: a for rater, a in before.accuracy.items()}, abs=1e-6)


def test_banned_rater_changes_nothing_but_is_told_to_have_no_influence() -> None:
    ratings = rate(Community(Attack.FLIP, 0.3), 3)
    banned = {rater: dataclasses.replace(fact, banned=rater < 10) for rater, fact in ratings.facts.items()}
    without = [vote for vote in ratings.votes if vote.rater_id >= 10]
    left, gone = infer(ratings.votes, banned, {}), infer(without, {}, {})
    assert (left.p_good, left.accuracy) == (gone.p_good, gone.accuracy)
    assert {rater for rater, influence in left.influence.items() if not influence} == set(range(10))


def test_banned_rater_stays_out_even_if_trusted() -> None:
    votes = _thumbs(1, dict.fromkeys(range(40), True))
    report = infer(votes, {1: RaterFacts(1, trusted=True, banned=True)}, {})
    assert report.p_good == {}


def test_turning_every_vote_round_turns_every_label_round_under_gold() -> None:
    ratings = rate(dataclasses.replace(_HELP, trusted=0, gold_share=0.5), 0)
    turned = [dataclasses.replace(vote, value=-vote.value) for vote in ratings.votes]
    before = infer(ratings.votes, {}, ratings.gold)
    after = infer(turned, {}, {reply: not good for reply, good in ratings.gold.items()})
    agree = [(before.p_good[reply] > 0.5) != (after.p_good[reply] > 0.5) for reply in before.p_good]
    assert np.mean(agree) > 0.99


def test_nothing_to_infer_from_is_an_empty_report() -> None:
    report = infer([], {}, {})
    assert (report.p_good, report.accuracy, report.frozen, report.warnings) == ({}, {}, False, ())


def test_gold_labels_are_kept_whatever_the_votes_say() -> None:
    votes = [vote for rater in range(6) for vote in _thumbs(rater, {1: True, 2: True})]
    p_good = infer(votes, {}, {1: False, 9: True}).p_good
    assert (p_good[1], p_good[9]) == (0.0, 1.0)
    assert 0.5 < p_good[2] < 1


def test_several_votes_of_a_rater_on_a_reply_are_one() -> None:
    others = [vote for rater in range(2, 6) for vote in _thumbs(rater, {1: False, 2: True})]
    once, often = _thumbs(1, {1: True}), _thumbs(1, {1: True}) * 9
    assert infer([*often, *others], {}, {}).p_good == infer([*once, *others], {}, {}).p_good


def test_thumbs_up_and_down_by_one_rater_cancel() -> None:
    others = [vote for rater in range(2, 6) for vote in _thumbs(rater, {1: False, 2: True})]
    both = [*_thumbs(1, {1: True}), *_thumbs(1, {1: False})]
    assert infer([*both, *others], {}, {}) == infer(others, {}, {})


# Attacks in miniature


def test_without_trolls_labels_are_as_good_as_majority() -> None:
    ratings = rate(Community(), 0)
    assert _accuracy(ratings, _infer(ratings)) >= _majority_accuracy(ratings) - 0.01


@pytest.mark.parametrize("activity", [1.0, 3.0])
def test_minority_of_flippers_is_read_the_other_way_round(activity: float) -> None:
    ratings = rate(Community(Attack.FLIP, 0.3, activity), 0)
    report = _infer(ratings)
    assert _majority_accuracy(ratings) < 0.65
    assert _accuracy(ratings, report) > 0.93
    assert not report.frozen
    assert any("the other way round" in warning for warning in report.warnings)
    assert {rater for rater, accuracy in report.accuracy.items() if accuracy < 0.5} == ratings.trolls


@pytest.mark.parametrize("activity", [1.0, 3.0])
def test_always_down_is_ignored_instead_of_believed_or_inverted(activity: float) -> None:
    ratings = rate(Community(Attack.ALWAYS_DOWN, 0.3, activity), 0)
    report = _infer(ratings)
    assert _accuracy(ratings, report) > _majority_accuracy(ratings) + 0.08
    assert np.mean([report.accuracy[troll] for troll in ratings.trolls]) == pytest.approx(0.5, abs=0.06)


@pytest.mark.parametrize("attack", [Attack.TOXIC_UP, Attack.PHRASE])
@pytest.mark.parametrize("activity", [1.0, 3.0])
def test_trolls_who_are_mostly_honest_do_not_make_labels_worse_than_majority(attack: Attack, activity: float) -> None:
    ratings = rate(Community(attack, 0.45, activity), 0)
    assert _accuracy(ratings, _infer(ratings)) >= _majority_accuracy(ratings) - 0.02


# Labels of a file that names no rater


def _with_labels(ratings: Ratings, prompts: int) -> tuple[list[Vote], dict[int, RaterFacts], dict[int, bool]]:
    """Add pairs of replies, one good and one bad, each pair labelled by somebody who stands in for a file."""
    votes, facts, gold = list(ratings.votes), dict(ratings.facts), dict(ratings.gold)
    for prompt in range(prompts):
        facts[-1 - prompt] = RaterFacts(-1 - prompt, trusted=True, stands_in=True)
        for reply, good in ((10_000 + 2 * prompt, True), (10_001 + 2 * prompt, False)):
            votes.append(Vote(reply, -1 - prompt, 1.0 if good else -1.0, rated_at=1e6 + reply))
            gold[reply] = good
    return votes, facts, gold


@pytest.mark.parametrize("prompts", [40, 500])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.45])
def test_labels_of_a_file_change_nothing_about_members_and_count_in_full(share: float, prompts: int) -> None:
    ratings = rate(Community(Attack.FLIP, share), 7)
    alone, beside = _infer(ratings), infer(*_with_labels(ratings, prompts))
    for name in ("p_good", "accuracy", "influence"):
        told = getattr(beside, name)
        assert {key: told[key] for key in getattr(alone, name)} == getattr(alone, name)
    assert (beside.frozen, beside.warnings) == (alone.frozen, alone.warnings), "a file anchors nobody's camp"
    assert {beside.influence[-1 - prompt] for prompt in range(prompts)} == {1.0}
    assert (beside.p_good[10_000], beside.p_good[10_001]) == (1.0, 0.0)


# Freezing


@pytest.mark.parametrize("activity", [1.0, 3.0])
def test_learning_freezes_when_a_bloc_nears_half_and_nobody_is_trusted(activity: float) -> None:
    report = _infer(rate(Community(Attack.FLIP, 0.45, activity), 0))
    assert report.frozen
    assert "frozen" in report.warnings[0]
    assert "trust some raters" in report.warnings[0]


@pytest.mark.parametrize("activity", [1.0, 3.0])
def test_trusted_raters_and_gold_decide_who_is_right_when_a_bloc_nears_half(activity: float) -> None:
    ratings = rate(dataclasses.replace(_HELP, attack=Attack.FLIP, share=0.45, activity=activity), 0)
    report = _infer(ratings)
    assert not report.frozen
    assert _accuracy(ratings, report) > 0.93


def test_learning_freezes_when_a_bloc_is_more_than_half_even_with_trusted_raters() -> None:
    report = _infer(rate(dataclasses.replace(_HELP, attack=Attack.FLIP, share=0.6), 0))
    assert report.frozen
    assert "label more replies" in report.warnings[0]


def test_one_gold_label_is_not_enough_to_lift_the_freeze() -> None:
    ratings = rate(Community(Attack.FLIP, 0.45), 0)
    assert infer(ratings.votes, ratings.facts, {0: bool(ratings.truth[0])}).frozen


def test_frozen_night_without_anchor_takes_no_side() -> None:
    ratings = rate(Community(Attack.FLIP, 0.45), 0)
    assert _accuracy(ratings, _infer(ratings)) == pytest.approx(_majority_accuracy(ratings), abs=0.05)


def test_trusted_rater_who_votes_against_the_labels_is_named() -> None:
    ratings = rate(dataclasses.replace(_HELP, attack=Attack.FLIP, share=0.1, trusted=0, gold_share=0.5), 0)
    turncoat = min(ratings.trolls)
    facts = {**ratings.facts, turncoat: RaterFacts(turncoat, trusted=True)}
    report = infer(ratings.votes, facts, ratings.gold)
    assert any(str(turncoat) in warning and "Trusted" in warning for warning in report.warnings)


# Caps


def test_influence_of_a_rater_falls_once_they_cast_a_tenth_of_the_votes() -> None:
    ratings = rate(Community(Attack.PHRASE, 1 / 60, 30.0), 0)
    report = _infer(ratings)
    (troll,) = ratings.trolls
    votes = sum(vote.rater_id == troll for vote in ratings.votes)
    assert report.influence[troll] * votes == pytest.approx(0.1 * len(ratings.votes))
    assert {influence for rater, influence in report.influence.items() if rater != troll} == {1.0}


def test_new_accounts_count_less_each_and_are_capped_together() -> None:
    ratings = rate(Community(), 0)
    for newcomers in (3, 40):
        facts = {rater: RaterFacts(rater, account_age_days=2.0) for rater in range(newcomers)}
        report = infer(ratings.votes, facts, {})
        mass = {False: 0.0, True: 0.0}
        for vote in ratings.votes:
            mass[vote.rater_id < newcomers] += report.influence[vote.rater_id]
        assert all(report.influence[rater] <= 0.5 for rater in range(newcomers))
        assert mass[True] / sum(mass.values()) <= 0.2 + 1e-9
        assert any("new accounts" in warning for warning in report.warnings)


def test_new_member_of_the_server_counts_as_new_and_unknown_age_as_old() -> None:
    ratings = rate(Community(), 0)
    facts = {1: RaterFacts(1, account_age_days=900.0, membership_days=1.0), 2: RaterFacts(2)}
    influence = infer(ratings.votes, facts, {}).influence
    assert influence[1] <= 0.5 < influence[2]


def test_vote_on_a_reply_to_ones_own_prompt_counts_half() -> None:
    against = _thumbs(1, {1: False, 2: True}) + _thumbs(2, {2: True})
    for_it = _thumbs(3, {1: True})
    own = [dataclasses.replace(vote, own_prompt=True) for vote in for_it]
    assert infer([*against, *own], {}, {}).p_good[1] < infer([*against, *for_it], {}, {}).p_good[1]


def test_votes_on_replies_to_ones_own_prompts_are_capped_together() -> None:
    others = [vote for rater in range(2, 10) for vote in _thumbs(rater, dict.fromkeys(range(rater, rater + 4), True))]
    few = _thumbs(1, dict.fromkeys(range(100, 102), True), own_prompt=True)
    many = _thumbs(1, dict.fromkeys(range(100, 160), True), own_prompt=True)
    assert infer([*others, *many], {}, {}).p_good[100] < infer([*others, *few], {}, {}).p_good[100]


# Clusters


def _crowd(puppets: int, *, lag_seconds: float | None, seed: int = 0) -> tuple[list[Vote], set[int]]:
    """Twelve members rate 60 replies; puppets (from id 100) copy a list, `lag_seconds` apart (None: times unknown)."""
    ratings = rate(Community(raters=12, replies=60, votes_each=12), seed)
    generator = np.random.default_rng(seed)
    known = lag_seconds is not None
    votes = [
        dataclasses.replace(vote, rated_at=float(generator.uniform(0, 3600)) if known else 0.0)
        for vote in ratings.votes
    ]
    listed = generator.random(60) < 0.5
    for reply, up in enumerate(listed.tolist()):
        start = float(generator.uniform(0, 3600))
        votes += [
            Vote(
                reply,
                100 + puppet,
                1.0 if up else -1.0,
                rated_at=start + puppet * (lag_seconds or 0.0) if known else 0.0,
            )
            for puppet in range(puppets)
        ]
    return votes, set(range(100, 100 + puppets))


@pytest.mark.parametrize("lag_seconds", [None, 2.0])
def test_puppets_that_follow_a_list_count_as_one_rater(lag_seconds: float | None) -> None:
    votes, puppets = _crowd(4, lag_seconds=lag_seconds)
    report = infer(votes, {}, {})
    assert report.clusters == (frozenset(puppets),)
    assert {report.influence[puppet] for puppet in puppets} == {0.25}
    one = infer([vote for vote in votes if vote.rater_id <= 100], {}, {})
    assert report.p_good == pytest.approx(one.p_good, abs=1e-6)
    assert any("vote as one" in warning for warning in report.warnings)


def test_copies_in_step_are_joined_on_too_few_replies_for_agreement_alone() -> None:
    votes, puppets = _crowd(3, lag_seconds=2.0)
    few = [vote for vote in votes if vote.rater_id < 100 or vote.reply_id < 12]
    assert infer(few, {}, {}).clusters == (frozenset(puppets),)
    assert infer([dataclasses.replace(vote, rated_at=0.0) for vote in few], {}, {}).clusters == ()


@pytest.mark.parametrize("honest_error", [0.05, 0.2])
def test_honest_members_who_agree_because_replies_are_plain_are_not_joined(honest_error: float) -> None:
    for seed in range(3):
        ratings = rate(Community(raters=20, replies=100, votes_each=15, honest_error=honest_error), seed)
        assert _infer(ratings).clusters == ()


def test_members_who_only_ever_vote_up_are_not_joined() -> None:
    votes, _ = _crowd(0, lag_seconds=None)
    fans = [vote for fan in (50, 51) for vote in _thumbs(fan, dict.fromkeys(range(60), True))]
    assert infer([*votes, *fans], {}, {}).clusters == ()


def test_trusted_raters_are_never_joined() -> None:
    votes, puppets = _crowd(3, lag_seconds=None)
    trusted = {puppet: RaterFacts(puppet, trusted=True) for puppet in puppets}
    assert infer(votes, trusted, {}).clusters == ()


def test_search_for_copies_in_a_huge_night_looks_at_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.learning.covoting.MAX_PAIRS", 6000)  # of 7,200
    votes, puppets = _crowd(4, lag_seconds=None)
    assert infer(votes, {}, {}, seed=1).clusters == (frozenset(puppets),)
