from __future__ import annotations

import math

import pytest
import torch

from models.learning import objectives
from models.learning.objectives import class_weights, log_ratio, robust_dpo, soft_kto


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_kto_pulls_good_replies_up_and_bad_ones_down() -> None:
    ratio = torch.tensor([2.0, 2.0], requires_grad=True)
    loss = soft_kto(ratio, torch.tensor([1.0, 0.0]), torch.ones(2), z0=0.5, beta=0.1)
    assert loss.tolist() == pytest.approx([1 - _sigmoid(0.15), 1 - _sigmoid(-0.15)])
    loss.sum().backward()
    assert ratio.grad is not None
    assert ratio.grad[0] < 0 < ratio.grad[1]


def test_a_doubtful_label_weighs_both_sides() -> None:
    sure = [soft_kto(torch.tensor([3.0]), torch.tensor([p]), torch.ones(1), 0.2, 0.1) for p in (1.0, 0.0)]
    doubtful = soft_kto(torch.tensor([3.0]), torch.tensor([0.7]), torch.tensor([0.4]), 0.2, 0.1)
    assert float(doubtful) == pytest.approx(0.4 * (0.7 * float(sure[0]) + 0.3 * float(sure[1])))


def test_classes_have_equal_mass_after_weighting() -> None:
    p_good, weight = torch.tensor([1.0, 1.0, 0.9, 0.1]), torch.tensor([1.0, 0.5, 1.0, 0.7])
    good, bad = class_weights(p_good, weight)
    mass_good, mass_bad = float((weight * p_good).sum()), float((weight * (1 - p_good)).sum())
    assert good * mass_good == pytest.approx(bad * mass_bad)
    assert good * mass_good + bad * mass_bad == pytest.approx(mass_good + mass_bad)


def test_a_class_without_mass_is_not_balanced() -> None:
    assert class_weights(torch.ones(3), torch.ones(3)) == (1.0, 1.0)


def test_a_long_reply_earns_no_more_by_its_length() -> None:
    policy, reference, tokens = torch.tensor([-10.0, -40.0]), torch.tensor([-12.0, -48.0]), torch.tensor([10.0, 40.0])
    assert log_ratio(policy, reference, tokens, None).tolist() == [2.0, 8.0]
    assert log_ratio(policy, reference, tokens, 20.0).tolist() == [4.0, 4.0]


def test_dpo_is_unbiased_under_flipped_preferences() -> None:
    """Averaged over flips at the assumed rate, the loss is plain DPO's: what "robust" means."""
    margin, epsilon = 1.7, objectives.LABEL_SMOOTHING
    one, none = torch.ones(1), torch.zeros(1)
    right = float(robust_dpo(torch.tensor([margin]), none, none, one, beta=1.0))
    flipped = float(robust_dpo(none, torch.tensor([margin]), none, one, beta=1.0))
    assert (1 - epsilon) * right + epsilon * flipped == pytest.approx(-math.log(_sigmoid(margin)), rel=1e-5)


def test_dpo_keeps_a_share_of_the_chosen_replys_likelihood() -> None:
    none = torch.zeros(1)
    without, with_it = (float(robust_dpo(none, none, torch.tensor([n]), torch.ones(1), 0.1)) for n in (0.0, 3.0))
    assert with_it - without == pytest.approx(3 * objectives.SFT_SHARE)


def test_a_long_reply_counts_as_much_as_a_short_one() -> None:
    nll = objectives.nll(torch.tensor([-10.0, -30.0]), torch.tensor([5.0, 15.0]), torch.tensor([1.0, 0.5]))
    assert nll.tolist() == [2.0, 1.0]
