"""Layer normalisation, dropout and ReLU of a perceptron's hidden layer, fused."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from graphmem.errors import ArgumentError
from graphmem.ops import _check
from graphmem.ops._autograd import Operator


def norm_dropout_relu(
    x: Tensor, weight: Tensor, bias: Tensor, *, eps: float = 1e-5, p: float = 0.0, seed: int = 0
) -> Tensor:
    r"""Compute :math:`y = \mathrm{ReLU}(\mathrm{dropout}_p(\mathrm{LayerNorm}(x)))` row by row.

    One pass forward and one backward. All sums have a fixed order, so that the gradients of weight and bias too are the
    same bits for every number of threads, which those of ``torch.nn.functional.layer_norm`` are not.

    Args:
        x: floating point [R, F].
        weight: [F], float32 (float64 for float64 ``x``).
        bias: [F], the same.
        eps: added to the variance; 1e-5 as in Ba, Kiros, Hinton 2016's implementations and torch's.
        p: probability of a zero, in [0, 1).
        seed: of the mask, see :func:`graphmem.ops.dropout`.

    Returns:
        [R, F], dtype of ``x``. Differentiable, once.

    Raises:
        ArgumentError: wrong shape, dtype or device, or p outside [0, 1).
    """
    p = _check.probability("p", p)
    if not _check.real("eps", eps) >= 0:
        raise ArgumentError(f"eps: expected a non-negative number, got {eps}")
    _check.seed("seed", seed)
    x = _check.tensor("x", x, shape=(None, None), dtypes=_check.FLOAT_DTYPES)
    dtypes = (_check.accumulate_dtype(x.dtype),)
    weight = _check.tensor("weight", weight, shape=(x.size(1),), dtypes=dtypes, device=x.device)
    bias = _check.tensor("bias", bias, shape=(x.size(1),), dtypes=dtypes, device=x.device)
    out: Tensor = norm_dropout_relu_operator(x, weight, bias, eps, p, seed)[0]
    return out


@torch.library.register_fake("graphmem::norm_dropout_relu")
def _norm_dropout_relu_fake(x: Tensor, weight: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(x), weight.new_empty(x.size(0)), weight.new_empty(x.size(0))


@torch.library.register_fake("graphmem::norm_dropout_relu_backward")
def _norm_dropout_relu_backward_fake(
    grad: Tensor, y: Tensor, x: Tensor, mean: Tensor, rstd: Tensor, weight: Tensor, p: float
) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(x), torch.empty_like(weight), torch.empty_like(weight)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    x, weight, _, _, ctx.p, _ = inputs
    ctx.save_for_backward(x, weight, *output)
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, grad: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:
    if grad is None:
        return (None,) * 6
    x, weight, y, mean, rstd = ctx.saved_tensors
    dx, dweight, dbias = _norm_dropout_relu_backward(grad.contiguous(), y, x, mean, rstd, weight, ctx.p)
    return dx, dweight, dbias, None, None, None


norm_dropout_relu_operator = Operator("norm_dropout_relu", _backward, _setup_context)
_check.differentiable_once("graphmem::norm_dropout_relu_backward")
_norm_dropout_relu_backward = Operator("norm_dropout_relu_backward")
