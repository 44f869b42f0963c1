import math

import numpy as np
import pytest
from scipy import integrate, special, stats

from models.learning.canary import (
    Arm,
    CanaryRating,
    CanaryRules,
    Decision,
    assign,
    bettor_wealth,
    decide,
    probability_below,
)


def ratings(candidate: float, incumbent: float, conversations: int, seed: int, *, share: float = 0.5, each: int = 1):
    """Rate replies of `conversations`, `each` times, good with the arm's probability."""
    generator = np.random.default_rng(seed)
    made = []
    for number in range(conversations):
        place = assign(f"channel-{seed}-{number}", canary="night", share=share)
        good = generator.random() < (candidate if place.arm is Arm.CANDIDATE else incumbent)
        made += [
            CanaryRating(str(number), place.arm, place.propensity, float(good), number + 0.1 * k, number % 40)
            for k in range(each)
        ]
    return made


def test_a_conversation_keeps_its_arm() -> None:
    first = [assign(f"c{n}", canary="a", share=0.3) for n in range(200)]
    assert first == [assign(f"c{n}", canary="a", share=0.3) for n in range(200)]


@pytest.mark.parametrize("share", [0.2, 0.35, 0.5])
def test_the_share_is_what_was_asked_and_is_the_propensity(share: float) -> None:
    places = [assign(f"conversation {n}", canary="night-1", share=share) for n in range(20_000)]
    taken = sum(place.arm is Arm.CANDIDATE for place in places)
    assert stats.binomtest(taken, 20_000, share).pvalue > 1e-3
    assert {(place.arm, place.propensity) for place in places} == {(Arm.CANDIDATE, share), (Arm.INCUMBENT, 1 - share)}


def test_a_larger_share_moves_no_conversation_back() -> None:
    small, large = (
        {n for n in range(500) if assign(f"{n}", canary="a", share=s).arm is Arm.CANDIDATE} for s in (0.2, 0.5)
    )
    assert small < large


def test_arms_can_not_be_told_without_the_salt() -> None:
    known, drawn = ([assign(f"{n}", canary="a", share=0.5, salt=salt).arm for n in range(4000)] for salt in ("", "s"))
    agree = sum(x is y for x, y in zip(known, drawn, strict=True))
    assert stats.binomtest(agree, 4000, 0.5).pvalue > 1e-3


def test_arms_of_two_canaries_are_independent() -> None:
    one, other = ([assign(f"{n}", canary=name, share=0.5).arm for n in range(4000)] for name in ("a", "b"))
    agree = sum(x is y for x, y in zip(one, other, strict=True))
    assert stats.binomtest(agree, 4000, 0.5).pvalue > 1e-3


@pytest.mark.parametrize("share", [0.0, 0.19, 0.51, 1.0, math.nan])
def test_a_share_out_of_range_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="share"):
        assign("a", canary="b", share=share)


@pytest.mark.parametrize(
    ("one", "other"), [((3, 5), (6, 2)), ((41, 17), (38, 22)), ((1, 1), (1, 1)), ((400, 100), (80, 30))]
)
def test_probability_is_the_closed_form_without_a_margin(one: tuple[int, int], other: tuple[int, int]) -> None:
    (a, b), (c, d) = one, other
    exact = sum(
        math.exp(special.betaln(a + i, b + d) - math.log(d + i) - special.betaln(1 + i, d) - special.betaln(a, b))
        for i in range(c)
    )
    assert probability_below(one, other, margin=0.0) == pytest.approx(exact, abs=1e-6)


@pytest.mark.parametrize(("one", "other"), [((31.5, 20.2), (40.1, 12.3)), ((3, 40), (2, 30)), ((900, 300), (700, 200))])
def test_probability_with_a_margin_is_the_integral(one: tuple[float, float], other: tuple[float, float]) -> None:
    middle, spread = stats.beta.mean(*other), stats.beta.std(*other)
    exact, _ = integrate.quad(
        lambda y: stats.beta.pdf(y, *other) * stats.beta.cdf(y - 0.03, *one),
        max(0.03, middle - 12 * spread),
        min(1, middle + 12 * spread),
        limit=400,
        epsabs=1e-10,
    )
    assert probability_below(one, other, margin=0.03) == pytest.approx(exact, abs=1e-5)


def test_a_much_worse_candidate_is_rolled_back() -> None:
    verdict = decide(ratings(0.4, 0.75, 160, 1))
    assert verdict.decision is Decision.ROLL_BACK
    assert verdict.probability_worse > 0.9
    assert "points worse with probability" in verdict.sentence


def test_sentence_never_gives_a_share_of_no_conversations() -> None:
    assert decide([]).sentence == "No conversation has been rated yet."
    one = CanaryRating("c", Arm.CANDIDATE, 0.5, 1.0, 1.0, 1)
    assert decide([one]).sentence == (
        "The candidate's ratings are 100.0% good in 1 conversation, the incumbent's are none yet."
    )


def test_a_better_candidate_is_kept() -> None:
    assert decide(ratings(0.85, 0.7, 300, 2)).decision is Decision.KEEP


def test_nothing_is_decided_from_few_conversations() -> None:
    for made in ([], ratings(0.2, 0.9, 12, 3), ratings(0.9, 0.2, 12, 3)):
        assert decide(made).decision is Decision.CONTINUE


def test_the_order_of_ratings_changes_nothing() -> None:
    made = ratings(0.6, 0.7, 150, 4, each=2)
    assert decide(made) == decide(made[::-1])


def test_rating_one_conversation_often_is_no_more_evidence() -> None:
    once, often = (decide(ratings(0.6, 0.7, 150, 5, each=each)) for each in (1, 20))
    assert once.probability_worse == pytest.approx(often.probability_worse)
    assert (once.wealth, once.conversations) == (often.wealth, often.conversations)


def test_a_share_that_changes_while_taste_drifts_misleads_no_one() -> None:
    # Easy first week at a fifth, hard second week at a half; the arms are equally good in each.
    made, generator = [], np.random.default_rng(6)
    for number in range(6000):
        share, good = (0.2, 0.9) if number < 3000 else (0.5, 0.5)
        place = assign(str(number), canary="drift", share=share)
        rated = float(generator.random() < good)
        made.append(CanaryRating(str(number), place.arm, place.propensity, rated, number, number % 40))
    verdict = decide(made)
    naive = {arm: np.mean([rating.good for rating in made if rating.arm is arm]) for arm in Arm}
    assert naive[Arm.INCUMBENT] - naive[Arm.CANDIDATE] > 0.05
    assert abs(verdict.rates[0] - verdict.rates[1]) < 0.03
    assert verdict.decision is not Decision.ROLL_BACK


def test_looking_all_the_time_rolls_back_an_equal_candidate_in_at_most_one_in_twenty() -> None:
    # The wealth is its highest so far: one call is a look after every rating.
    rolled = sum(bettor_wealth(ratings(0.67, 0.70, 300, seed), margin=0.03) >= 20 for seed in range(120))
    assert rolled <= 0.05 * 120


def test_a_broken_candidate_loses_the_bet_early() -> None:
    wealth = [bettor_wealth(ratings(0.1, 0.8, 60, seed, share=0.5), margin=0.03) for seed in range(20)]
    assert np.median(wealth) > 20


def loud(arm: Arm, conversations: int, *, raters: int = 1) -> list[CanaryRating]:
    """Rate conversations of both arms so that `arm` loses every one: whoever knew the arms could."""
    arms = (Arm.CANDIDATE, Arm.INCUMBENT)
    return [
        CanaryRating(f"loud {n}", arms[n % 2], 0.5, float(arms[n % 2] is not arm), 1.0 * n, -1 - n % raters)
        for n in range(conversations)
    ]


@pytest.mark.parametrize("arm", Arm)
def test_one_who_rates_most_decides_nothing_alone(arm: Arm) -> None:
    alone = decide(loud(arm, 400))
    assert alone.decision is Decision.CONTINUE
    assert sum(alone.conversations) == 5
    assert decide(loud(arm, 400, raters=40)).decision is not Decision.CONTINUE


def test_one_who_rates_most_turns_nobody_elses_verdict() -> None:
    for rates, expected in (((0.9, 0.6), Decision.KEEP), ((0.6, 0.9), Decision.ROLL_BACK)):
        against = Arm.CANDIDATE if expected is Decision.KEEP else Arm.INCUMBENT
        assert decide([*ratings(*rates, 300, 8), *loud(against, 300)]).decision is expected


def test_the_bet_alone_rolls_back_before_the_posterior_may() -> None:
    rules = CanaryRules(min_conversations=10_000)
    assert decide(ratings(0.05, 0.9, 200, 7), rules=rules).decision is Decision.ROLL_BACK
