"""The losses that a night can train on, as functions of summed log-probabilities.

Owns the equations, and neither model nor data: `policy` and `reference` are log pi(reply | prompt) summed over the
reply's tokens, in nats, of shape (examples,). Each loss comes per example; a batch's loss is the mean of them.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from torch import Tensor

LABEL_SMOOTHING = 0.2  # how often a preference is taken to be the wrong way round
SFT_SHARE = 0.2  # of the chosen reply's negative log-likelihood, beside robust DPO


class Objective(StrEnum):
    KTO = "kto"
    SFT = "sft"
    DPO = "dpo"


def log_ratio(policy: Tensor, reference: Tensor, tokens: Tensor, typical_tokens: float | None) -> Tensor:
    """Return r = log pi_theta - log pi_reference.

    With `typical_tokens` it is length-normalised: the mean of a token times what a typical reply has. A reply then
    can't earn more by being longer, which is what raters' taste for long replies would otherwise teach first; with
    replies of that length nothing changes, so beta keeps its meaning. (Meng et al. 2024 do so without a reference.)
    """
    ratio = policy - reference
    return ratio if typical_tokens is None else ratio / tokens * typical_tokens


def soft_kto(
    ratio: Tensor, p_good: Tensor, weight: Tensor, z0: float, beta: float, class_weights: tuple[float, float] = (1, 1)
) -> Tensor:
    """Return w [p lambda_D (1 - s(beta (r - z0))) + (1 - p) lambda_U (1 - s(beta (z0 - r)))].

    Ethayarajh et al. 2024, equation 7, in expectation over the label: p is P(reply is good). With p in {0, 1} and unit
    weights it is TRL's KTOTrainer's loss. `class_weights` are (lambda_D, lambda_U).
    """
    desirable, undesirable = class_weights
    good = torch.sigmoid(beta * (ratio - z0))
    return weight * (p_good * desirable * (1 - good) + (1 - p_good) * undesirable * good)


def class_weights(p_good: Tensor, weight: Tensor) -> tuple[float, float]:
    """Return (lambda_D, lambda_U) that give both classes the same mass, their mean over the mass being 1.

    Equation 8 of the same paper asks for a ratio of the masses in [1, 4/3]; this is its lower end. A class without
    mass can't be balanced, and both are 1.
    """
    good, bad = float((weight * p_good).sum()), float((weight * (1 - p_good)).sum())
    if not (good and bad):
        return 1.0, 1.0
    return (good + bad) / (2 * good), (good + bad) / (2 * bad)


def nll(policy: Tensor, tokens: Tensor, weight: Tensor) -> Tensor:
    """Return each reply's negative log-likelihood a token: a long reply counts as much as a short one."""
    return -weight * policy / tokens


def robust_dpo(chosen_ratio: Tensor, rejected_ratio: Tensor, chosen_nll: Tensor, weight: Tensor, beta: float) -> Tensor:
    """Return noise-corrected DPO plus SFT_SHARE of the chosen reply's NLL.

    Chowdhury et al. 2024, equation 12: unbiased where a share LABEL_SMOOTHING of the preferences is flipped. The second
    term keeps the chosen reply's likelihood from falling with the rejected one's.
    """
    margin = beta * (chosen_ratio - rejected_ratio)
    epsilon = LABEL_SMOOTHING
    preferred = ((1 - epsilon) * -F.logsigmoid(margin) + epsilon * F.logsigmoid(-margin)) / (1 - 2 * epsilon)
    return weight * (preferred + SFT_SHARE * chosen_nll)
