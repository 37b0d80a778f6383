"""Dropout with a counter-based mask, alone or fused with ReLU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from graphmem.ops import _check
from graphmem.ops._autograd import Operator


def dropout(x: Tensor, p: float, *, seed: int, relu: bool = False) -> Tensor:
    r"""Inverted dropout: :math:`y = m \odot x / (1 - p)`, :math:`m \sim \mathrm{Bernoulli}(1 - p)`; optionally ReLU.

    The mask is a function of (seed, position in memory): the same for every number of threads, and never stored. p is
    met to within 2^-32.

    Args:
        x: floating point, any shape.
        p: probability of a zero, in [0, 1).
        seed: any 64-bit integer; a new one for every call, or two calls share their mask.
        relu: also set negative values to zero. Both in one pass; they commute.

    Returns:
        As ``x``. Differentiable, once.

    Raises:
        ArgumentError: p outside [0, 1), or an integer tensor.
    """
    p = _check.probability("p", p)
    _check.seed("seed", seed)
    rank = x.dim() if isinstance(x, Tensor) else 1
    x = _check.tensor("x", x, shape=(None,) * rank, dtypes=_check.FLOAT_DTYPES)
    out: Tensor = dropout_operator(x, p, seed, relu)
    return out


@torch.library.register_fake("graphmem::dropout")
def _dropout_fake(x: Tensor, p: float, seed: int, relu: bool) -> Tensor:
    return torch.empty_like(x)


@torch.library.register_fake("graphmem::dropout_relu_backward")
def _dropout_relu_backward_fake(grad: Tensor, y: Tensor, p: float) -> Tensor:
    return torch.empty_like(y)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, ctx.p, ctx.seed, ctx.relu = inputs
    ctx.save_for_backward(*((output,) if ctx.relu else ()))


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    grad = grad.contiguous()
    if ctx.relu:
        return _dropout_relu_backward(grad, *ctx.saved_tensors, ctx.p), None, None, None
    return dropout_operator(grad, ctx.p, ctx.seed, False), None, None, None


dropout_operator = Operator("dropout", _backward, _setup_context)
_check.differentiable_once("graphmem::dropout_relu_backward")
_dropout_relu_backward = Operator("dropout_relu_backward")
