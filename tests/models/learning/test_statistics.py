import numpy as np
import pytest
from scipy import optimize, special

from models.learning import statistics
from models.learning.statistics import Groups


def alone(count: int) -> Groups:
    """Every reply is a conversation, rated by one rater of its own."""
    places = np.arange(count)
    return statistics.groups(places, places, places, np.ones(count))


def draw(count: int, shift: float, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return candidate and incumbent scores and the mass of `count` replies; the candidate knows `shift` sd of it."""
    generator = np.random.default_rng(seed)
    mass = np.where(generator.random(count) < 0.55, 1.0, -1.0) * generator.uniform(0.3, 1, count)
    return generator.normal(size=count) + shift * (mass > 0), generator.normal(size=count), mass


def gain(
    candidate: np.ndarray, incumbent: np.ndarray, mass: np.ndarray, groups: Groups, resamples: int = 2000
) -> statistics.Estimate:
    return statistics.gain(candidate, incumbent, mass, groups, resamples=resamples, seed=0)


def test_gain_is_the_difference_of_weighted_auc_with_ties_half() -> None:
    mass = np.array([1.0, 0.5, -1.0, -0.25])
    candidate = np.array([3.0, 1.0, 1.0, 2.0])
    # Candidate: pairs 1x1 win, 1x.25 win, .5x1 tie, .5x.25 loss = (1 + .25 + .25) / (1.5 * 1.25); incumbent: all ties.
    estimate = gain(candidate, np.zeros(4), mass, alone(4))
    assert estimate.value == pytest.approx(1.5 / 1.875 - 0.5, abs=1e-6)
    assert statistics.gain_of(candidate, np.zeros(4), mass) == pytest.approx(estimate.value, abs=1e-6)


def test_gain_ignores_the_scale_of_scores() -> None:
    candidate, incumbent, mass = draw(120, 0.5, 1)
    one, other = (gain(score, incumbent, mass, alone(120)) for score in (candidate, np.exp(candidate)))
    assert one == other


def test_the_same_candidate_gains_nothing_without_error() -> None:
    _, incumbent, mass = draw(80, 0.0, 2)
    estimate = gain(incumbent, incumbent, mass, alone(80))
    assert (estimate.value, estimate.error) == (0.0, 0.0)
    assert not estimate.low(0.05) > 0


def test_without_both_classes_there_is_nothing_to_estimate() -> None:
    assert np.isnan(gain(np.arange(5.0), np.zeros(5), np.ones(5), alone(5)).low(0.05))


def test_bootstrap_error_agrees_with_the_spread_of_repetitions() -> None:
    estimates = [gain(*draw(250, 0.4, seed), alone(250), resamples=256) for seed in range(120)]
    spread = np.std([estimate.value for estimate in estimates])
    assert np.mean([estimate.error for estimate in estimates]) == pytest.approx(spread, rel=0.2)


def test_repeating_replies_in_a_conversation_is_no_new_evidence() -> None:
    candidate, incumbent, mass = draw(100, 0.4, 3)
    once = gain(candidate, incumbent, mass, alone(100))
    same, places = np.tile(np.arange(100), 4), np.arange(400)
    together = statistics.groups(same, places, same, np.ones(400))
    repeated = gain(candidate[same], incumbent[same], mass[same], together)
    assert repeated.value == pytest.approx(once.value)
    assert repeated.error == pytest.approx(once.error, rel=0.05)


def test_error_grows_when_few_raters_share_a_taste() -> None:
    generator = np.random.default_rng(4)
    rater = np.repeat(np.arange(8), 50)
    style = generator.normal(size=400)
    # Each rater likes or dislikes the style that the candidate prefers: eight opinions, not 400.
    mass = np.sign(np.array([1, 1, 1, 1, 1, 1, -1, -1])[rater] * style + generator.normal(size=400))
    places = np.arange(400)
    shared = gain(style, np.zeros(400), mass, statistics.groups(places, places, rater, np.ones(400)))
    single = gain(style, np.zeros(400), mass, alone(400))
    assert shared.value == single.value
    assert shared.error > 3 * single.error
    assert shared.freedom < 10 < single.freedom


def test_a_vote_against_the_label_counts_against_it() -> None:
    # Two raters, opposed on every reply: leaving both half out changes no label's worth, as their shares cancel.
    generator = np.random.default_rng(5)
    mass, places = np.sign(generator.normal(size=60)), np.arange(60)
    reply, rater = np.repeat(places, 2), np.tile([0, 1], 60)
    groups = statistics.groups(places, reply, rater, np.tile([1.5, -0.5], 60))
    assert groups.rater.sum(axis=1) == pytest.approx(np.ones(60))
    assert (groups.rater.toarray()[:, 1] == -0.5).all()
    assert gain(generator.normal(size=60), np.zeros(60), mass, groups).error > 0


def test_longer_is_better_gains_nothing_at_equal_length() -> None:
    generator = np.random.default_rng(6)
    mass = np.sign(generator.normal(size=600))
    tokens = np.exp(3.4 + 0.9 * generator.normal(size=600) + 0.5 * (mass > 0))
    lengthy = 0.4 * tokens + generator.normal(size=600)
    plain = gain(lengthy, np.zeros(600), mass, alone(600))
    equal = statistics.gain_at_equal_length(lengthy, np.zeros(600), tokens, mass, alone(600))
    assert plain.low(0.05) > 0.05
    assert equal.low(0.05) < 0 < equal.high(0.05)


def test_gain_at_equal_length_keeps_what_is_not_length() -> None:
    candidate, incumbent, mass = draw(600, 0.6, 7)
    tokens = np.exp(3.4 + 0.9 * np.random.default_rng(8).normal(size=600))
    equal = statistics.gain_at_equal_length(
        candidate * np.sqrt(tokens) + 0.2 * tokens, incumbent + 0.1 * tokens, tokens, mass, alone(600)
    )
    assert equal.value == pytest.approx(gain(candidate, incumbent, mass, alone(600)).value, abs=0.03)


def test_an_incumbent_that_is_the_base_stays_tied_at_equal_length() -> None:
    candidate, _, mass = draw(200, 0.6, 9)
    tokens = np.random.default_rng(10).integers(5, 200, 200).astype(float)
    one, other = (
        statistics.gain_at_equal_length(candidate, np.full(200, level), tokens, mass, alone(200)) for level in (0, 0.1)
    )
    assert one.value == pytest.approx(other.value)


def test_coefficient_is_that_of_a_weighted_logistic_regression() -> None:
    candidate, _, mass = draw(400, 0.7, 11)
    tokens = np.random.default_rng(12).integers(5, 200, 400).astype(float)
    weight = np.abs(mass) / np.abs(mass).mean()

    def standardised(values: np.ndarray) -> np.ndarray:
        centred = values - np.average(values, weights=weight)
        return np.clip(centred / np.sqrt(np.average(centred**2, weights=weight)), -4, 4)

    design = np.column_stack([np.ones(400), standardised(candidate), standardised(np.log(tokens))])

    def loss(beta: np.ndarray) -> float:
        odds = design @ beta * np.sign(mass)
        return float(-(weight * special.log_expit(odds)).sum())

    oracle = optimize.minimize(loss, np.zeros(3)).x[1]
    estimate = statistics.coefficient_beside_length(candidate, tokens, mass, alone(400))
    assert estimate.value == pytest.approx(oracle, rel=0.02)  # the ridge shrinks a little
    assert estimate.low(0.05) > 0


def test_separable_replies_have_a_finite_coefficient() -> None:
    mass = np.repeat([1.0, -1.0], 30)
    estimate = statistics.coefficient_beside_length(mass * 5, np.full(60, 30.0), mass, alone(60))
    assert 0 < estimate.value < 50


def test_mean_change_clusters_by_conversation() -> None:
    change = np.repeat(np.random.default_rng(13).normal(size=40), 5)
    places = np.arange(200)
    groups = statistics.groups(np.repeat(np.arange(40), 5), places, places, np.ones(200))
    weight = np.ones(200)
    clustered, plain = (statistics.mean_change(change, weight, g) for g in (groups, alone(200)))
    assert clustered.value == pytest.approx(plain.value)
    assert clustered.error == pytest.approx(np.sqrt(5) * plain.error, rel=0.05)


def test_bounds_widen_as_freedom_falls() -> None:
    few, many = statistics.Estimate(1.0, 1.0, 2.0), statistics.Estimate(1.0, 1.0, 200.0)
    assert few.low(0.05) < many.low(0.05) < 1.0 < many.high(0.05) < few.high(0.05)
    assert many.low(0.05) == pytest.approx(1 - 1.6525, abs=1e-3)
