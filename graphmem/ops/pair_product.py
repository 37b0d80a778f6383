"""Element-wise products of node representations, the pair term of every decoder."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from graphmem.ops import _check
from graphmem.ops._autograd import Operator


def pair_product(x: Tensor, pairs: Tensor) -> Tensor:
    r"""Compute :math:`e_b = x_i \odot x_j` for pairs (i, j), without copies of the two rows.

    Args:
        x: floating point [N, F].
        pairs: int64 [2, B].

    Returns:
        [B, F], dtype of ``x``. Differentiable, once; the gradient of a node is summed in a fixed order.

    Raises:
        ArgumentError: wrong shape, dtype or device, or an id outside [0, N).
    """
    x = _check.tensor("x", x, shape=(None, None), dtypes=_check.FLOAT_DTYPES)
    pairs = _check.tensor("pairs", pairs, shape=(2, None), dtypes=(torch.int64,), device=x.device)
    _check.in_range("pairs", pairs, x.size(0))
    out: Tensor = pair_product_operator(x, pairs)
    return out


@torch.library.register_fake("graphmem::pair_product")
def _pair_product_fake(x: Tensor, pairs: Tensor) -> Tensor:
    return x.new_empty(pairs.size(1), x.size(1))


@torch.library.register_fake("graphmem::pair_product_backward")
def _pair_product_backward_fake(grad: Tensor, x: Tensor, pairs: Tensor, tptr: Tensor, tslot: Tensor) -> Tensor:
    return torch.empty_like(x)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, pairs = ctx.saved_tensors
    ends = torch.arange(pairs.numel() + 1, device=pairs.device)
    tptr, _, tslot = torch.ops.graphmem.csr_transpose(ends, pairs.flatten(), x.size(0))
    return _pair_product_backward(grad.contiguous(), x, pairs, tptr, tslot), None


pair_product_operator = Operator("pair_product", _backward, _setup_context)
_check.differentiable_once("graphmem::pair_product_backward")
_pair_product_backward = Operator("pair_product_backward")
