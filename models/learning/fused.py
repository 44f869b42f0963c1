"""Two pieces of a training step written as one operation each, with the gradient by hand.

Owns arithmetic alone. Both keep less for the backward pass, and touch memory less often, than what autograd makes of
the same formulas; tests hold their gradients against autograd's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from torch import Tensor

_ROWS = 128  # of logits at a time: 25 MB with 49,152 words


def lora_linear(x: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, scale: float) -> Tensor:
    """Return x (W + scale B A)^T + bias for a frozen W: (..., in) to (..., out). Only x is kept."""
    result: Tensor = _LoraLinear.apply(x, weight, bias, a, b, scale)  # type: ignore[no-untyped-call]
    return result


def logprobs(hidden: Tensor, head: Tensor, targets: Tensor) -> Tensor:
    """Return log softmax(hidden head^T) at `targets`: (rows, width) to (rows,).

    The logits exist for a few rows at a time. The gradient to `hidden` is made right then (it doesn't depend on what
    the log-probabilities are used for, but for a factor a row), so nothing is computed twice; `head` gets none.
    """
    result: Tensor = _Logprobs.apply(hidden, head, targets)  # type: ignore[no-untyped-call]
    return result


class _LoraLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, scale: float) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        y = torch.nn.functional.linear(rows, weight, bias)
        y.addmm_(rows @ a.T, b.T, alpha=scale)
        ctx.save_for_backward(rows, weight, a, b)
        ctx.scale, ctx.shape = scale, x.shape
        return y.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        rows, weight, a, b = ctx.saved_tensors
        dy = gradients[0].reshape(-1, weight.shape[0])
        through_b = dy @ b
        dx = None
        if ctx.needs_input_grad[0]:
            dx = (dy @ weight).addmm_(through_b, a, alpha=ctx.scale).view(ctx.shape)
        da = (through_b.T @ rows).mul_(ctx.scale)
        db = (dy.T @ (rows @ a.T)).mul_(ctx.scale)
        return dx, None, None, da, db, None


class _Logprobs(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, head: Tensor, targets: Tensor) -> Tensor:
        wanted = ctx.needs_input_grad[0]
        gradient = torch.empty_like(hidden) if wanted else None
        result = hidden.new_empty(len(hidden))
        for start in range(0, len(hidden), _ROWS):
            part = slice(start, start + _ROWS)
            logits = hidden[part] @ head.T
            log_sum = logits.logsumexp(-1, keepdim=True)
            result[part] = (logits.gather(1, targets[part, None]) - log_sum).squeeze(1)
            if gradient is not None:
                torch.mm(logits.sub_(log_sum).exp_().neg_(), head, out=gradient[part])
                gradient[part] += head[targets[part]]
        if gradient is not None:
            ctx.save_for_backward(gradient)
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return gradient * gradients[0][:, None], None, None
