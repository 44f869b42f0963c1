from __future__ import annotations

import pytest
import torch

from models.learning import fused


@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("rows", [3, 40])
def test_lora_gives_autograds_result_and_gradients(rows: int, with_bias: bool) -> None:
    torch.manual_seed(0)
    x, weight, a, b = (torch.randn(*shape, dtype=torch.float64) for shape in ((2, rows, 8), (6, 8), (3, 8), (6, 3)))
    bias = torch.randn(6, dtype=torch.float64) if with_bias else None
    learned = [tensor.requires_grad_() for tensor in (x, a, b)]
    plain = torch.nn.functional.linear(x, weight, bias) + 1.5 * (x @ a.T) @ b.T
    ours = fused.lora_linear(x, weight, bias, a, b, 1.5)
    torch.testing.assert_close(ours, plain)
    for got, expected in zip(
        torch.autograd.grad(ours.square().sum(), learned),
        torch.autograd.grad(plain.square().sum(), learned),
        strict=True,
    ):
        torch.testing.assert_close(got, expected)


def test_lora_below_which_nothing_learns_gives_no_gradient_to_its_input() -> None:
    x, a, b = torch.randn(4, 8), torch.randn(3, 8, requires_grad=True), torch.randn(6, 3, requires_grad=True)
    fused.lora_linear(x, torch.randn(6, 8), None, a, b, 1.0).sum().backward()
    assert x.grad is None
    assert a.grad is not None


@pytest.mark.parametrize("rows", [1, 128, 300])
def test_logprobs_gives_autograds_result_and_gradient(rows: int) -> None:
    torch.manual_seed(0)
    hidden = torch.randn(rows, 8, dtype=torch.float64, requires_grad=True)
    head, targets, factor = torch.randn(50, 8).double(), torch.randint(50, (rows,)), torch.randn(rows).double()
    plain = (hidden @ head.T).log_softmax(-1)[torch.arange(rows), targets]
    ours = fused.logprobs(hidden, head, targets)
    torch.testing.assert_close(ours, plain)
    (expected,) = torch.autograd.grad((plain * factor).sum(), hidden)
    (got,) = torch.autograd.grad((ours * factor).sum(), hidden)
    torch.testing.assert_close(got, expected)
