from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest

from models.learning.choice import Choice, choose
from models.learning.evidence import Anchor, Evidence, Generations
from models.learning.statistics import NOTHING, Estimate
from models.learning.verdict import WRITTEN, Outcome, Rules, Verdict
from tests.models.learning.evidences import ORDINARY, make

RULES = Rules(resamples=200)
TOXIC = replace(ORDINARY, toxic=20)


def test_candidates_of_a_night_share_the_level() -> None:
    choice = choose([make(0.3, seed=1), make(0.9, seed=1), make(0.0, seed=1)])
    assert choice.promoted == 1
    assert all(verdict.level == pytest.approx(0.05 / 3) for verdict in choice.verdicts)


def test_a_candidate_that_misbehaves_takes_no_share_of_the_level_and_is_not_chosen() -> None:
    toxic = replace(make(2.0), candidate=replace(ORDINARY, toxic=20))
    choice = choose([toxic, make(0.9)])
    assert choice.promoted == 1
    assert choice.verdicts[1].level == pytest.approx(0.05)


def test_no_candidate_is_chosen_where_none_passes() -> None:
    assert choose([make(0.0, seed=seed) for seed in range(3)]).promoted is None
    assert choose([]).promoted is None


@pytest.mark.parametrize(("outcomes", "place"), [("ri", 1), ("ir", 0), ("rr", 0)])
def test_the_candidate_that_came_nearest_is_told_of(outcomes: str, place: int) -> None:
    verdicts = {
        "i": Verdict(Outcome.INSUFFICIENT, (), Estimate(0.1, 0.1, 50.0), 0.05, 40),
        "r": Verdict(Outcome.REJECTED, (), NOTHING, 0.05, None),
    }
    assert Choice(None, tuple(verdicts[of] for of in outcomes)).told == place


def lazily(candidates: list[Evidence], rules: Rules = RULES) -> tuple[Choice, list[int]]:
    """Choose among candidates that write only when they are asked to; return who was."""
    asked: list[int] = []

    def write(place: int) -> Generations:
        asked.append(place)
        written = candidates[place].candidate
        assert written is not None
        return written

    silent = [replace(one, candidate=None) for one in candidates]
    return choose(silent, rules=rules, write=write), asked


def end(choice: Choice) -> int | Outcome:
    """Return what the night comes to."""
    if choice.promoted is not None:
        return choice.promoted
    waiting = any(verdict.outcome is Outcome.INSUFFICIENT for verdict in choice.verdicts)
    return Outcome.INSUFFICIENT if waiting else Outcome.REJECTED


def test_a_candidate_that_its_ratings_refuse_is_not_asked_to_write() -> None:
    choice, asked = lazily([make(0.0, seed=1), make(0.9, seed=1)])
    assert (choice.promoted, asked) == (1, [1])
    unread = choice.verdicts[0]
    assert unread.reasons[-1] == (
        "What it writes to the fixed prompts wasn't looked at, since its ratings don't prove it."
    )
    assert not {"toxicity", "length ratio"} & {check.name for check in unread.checks}
    assert unread.outcome is Outcome.INSUFFICIENT
    assert unread.more_ratings_needed is not None
    assert all(verdict.level == pytest.approx(0.05 / 2) for verdict in choice.verdicts)


def test_only_the_better_proven_of_two_writes_unless_it_misbehaves() -> None:
    better, good = make(1.5, seed=1), make(0.9, seed=1)
    choice, asked = lazily([good, better])
    assert (choice.promoted, asked) == (1, [1])
    assert choice.verdicts[0].reasons == (
        "What it writes to the fixed prompts wasn't looked at, since another is proven better.",
    )
    assert choice.verdicts[0].outcome is Outcome.INSUFFICIENT
    assert choice.verdicts[0].more_ratings_needed is None

    choice, asked = lazily([good, replace(better, candidate=TOXIC)])
    assert (choice.promoted, asked) == (0, [1, 0])


def test_where_none_is_proven_the_one_that_came_nearest_writes() -> None:
    choice, asked = lazily([make(-0.8, seed=1), make(0.05, seed=1), make(-0.1, seed=1)])
    assert choice.promoted is None
    assert asked == [1]
    assert choice.told == 1
    assert WRITTEN not in {check.name for check in choice.verdicts[1].checks}


def test_a_candidate_writes_where_another_s_proof_hangs_on_who_shares_the_level() -> None:
    at_half = Rules(level=0.05, resamples=200)
    close = next(
        one
        for one in (make(shift / 100, seed=1) for shift in range(5, 60))
        if choose([one], rules=at_half).promoted == 0
        and choose([one, make(0.0, seed=1)], rules=at_half).promoted is None
    )
    toxic = replace(make(0.0, seed=1), candidate=TOXIC)
    choice, asked = lazily([close, toxic])
    assert (choice.promoted, asked) == (0, [0, 1])


def test_one_that_nobody_lets_write_is_never_promoted() -> None:
    choice = choose([replace(make(1.5), candidate=None)], rules=RULES)
    assert choice.promoted is None
    assert choice.verdicts[0].outcome is Outcome.INSUFFICIENT


def test_nights_end_the_same_whether_all_candidates_write_or_those_that_matter() -> None:
    draw = random.Random(3)
    forgot = tuple(Anchor(3.0, 3.0, 3.05) for _ in range(60))
    ends, saved = set(), 0
    for _ in range(60):
        night = []
        for _ in range(draw.choice((1, 2, 3))):
            one = make(draw.choice((-0.8, -0.1, 0.0, 0.3, 0.4, 0.5, 0.9)), 150, draw.randrange(3))
            if draw.random() < 0.15:
                one = replace(one, anchors=forgot)
            if draw.random() < 0.05:
                one = replace(one, replies=(replace(one.replies[0], candidate=math.nan), *one.replies[1:]))
            night.append(replace(one, candidate=TOXIC) if draw.random() < 0.4 else one)
        full, (lazy, asked) = choose(night, rules=RULES), lazily(night)
        assert end(lazy) == end(full)
        assert len(asked) == len(set(asked))
        assert lazy.told in asked
        for its, fully in zip(lazy.verdicts, full.verdicts, strict=True):
            assert its.level <= fully.level
        ends.add(end(full))
        saved += len(night) - len(asked)
    assert ends == {0, 1, 2, Outcome.INSUFFICIENT, Outcome.REJECTED}
    assert saved > 25
