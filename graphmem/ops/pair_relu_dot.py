"""Logits of candidates by a perceptron whose first layer is split between source and destination."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from graphmem.ops import _check
from graphmem.ops._autograd import Operator

_DTYPES = (torch.float32, torch.float64)


def pair_relu_dot(h: Tensor, src: Tensor, dst: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    r"""Compute :math:`y_{bc} = w^\top \mathrm{ReLU}(a_{src_b} + b_{dst_{bc}}) + \beta`, a and b the halves of h's rows.

    The hidden layer [B, C, F] never exists. Sums run in 16 lanes as those of :func:`graphmem.ops.norm_dropout_relu`.

    Args:
        h: float32 or float64 [n, 2 F].
        src: int64 [B].
        dst: int64 [B, C].
        weight: [F], w.
        bias: [1].

    Returns:
        [B, C]. Differentiable, once.

    Raises:
        ArgumentError: wrong shape, dtype, device or range.
    """
    weight = _check.tensor("weight", weight, shape=(None,), dtypes=_DTYPES)
    kind, device = (weight.dtype,), weight.device
    bias = _check.tensor("bias", bias, shape=(1,), dtypes=kind, device=device)
    h = _check.tensor("h", h, shape=(None, 2 * weight.numel()), dtypes=kind, device=device)
    src = _check.tensor("src", src, shape=(None,), dtypes=(torch.int64,), device=device)
    dst = _check.tensor("dst", dst, shape=(src.numel(), None), dtypes=(torch.int64,), device=device)
    for name, ids in (("src", src), ("dst", dst)):
        _check.in_range(name, ids, h.size(0))
    out: Tensor = pair_relu_dot_operator(h, src, dst, weight, bias)
    return out


@torch.library.register_fake("graphmem::pair_relu_dot")
def _pair_relu_dot_fake(h: Tensor, src: Tensor, dst: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return h.new_empty(dst.shape)


@torch.library.register_fake("graphmem::pair_relu_dot_backward")
def _pair_relu_dot_backward_fake(
    grad: Tensor, h: Tensor, src: Tensor, dst: Tensor, weight: Tensor
) -> tuple[Tensor, Tensor]:
    return torch.empty_like(h), torch.empty_like(weight)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:4])


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    grad = grad.contiguous()
    d_h, d_weight = _pair_relu_dot_backward(grad, *ctx.saved_tensors)
    return d_h, None, None, d_weight, grad.sum(1).sum(0, keepdim=True)


pair_relu_dot_operator = Operator("pair_relu_dot", _backward, _setup_context)
_check.differentiable_once("graphmem::pair_relu_dot_backward")
_pair_relu_dot_backward = Operator("pair_relu_dot_backward")
