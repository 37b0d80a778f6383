"""Products of many small matrices, as the heads of an attention have them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from graphmem.errors import ArgumentError
from graphmem.ops import _check
from graphmem.ops._autograd import Operator

_DTYPES = (torch.float32, torch.float64)


def head_matmul(
    a: Tensor, b: Tensor, *, transpose_a: bool = False, transpose_b: bool = False, rows_first: bool = False
) -> Tensor:
    r"""Compute :math:`\mathrm{op}(A_h)\,\mathrm{op}(B_h)` for every head h, with op the transpose where asked.

    Rows of a table [M, H C] are heads as ``table.view(M, H, C).transpose(0, 1)``: nothing is copied, whatever the
    strides, and with ``rows_first`` the result lies as rows again, ``out.transpose(0, 1).view(M, H * N)``. An element
    has the bits of :func:`graphmem.ops.matmul`.

    Args:
        a: float32 or float64 [H, M, K]; [H, K, M] with ``transpose_a``.
        b: [H, K, N]; [H, N, K] with ``transpose_b``. Dtype of ``a``.
        transpose_a: take the transposes of ``a``.
        transpose_b: take the transposes of ``b``.
        rows_first: let the numbers of a row stand together for all heads.

    Returns:
        [H, M, N]. Differentiable.

    Raises:
        ArgumentError: wrong shape, dtype or device, or sizes that differ.
    """
    for name, x in (("a", a), ("b", b)):
        _check.strided(name, x, dims=3, dtypes=_DTYPES)
    heads, inner = a.size(0), a.size(1 if transpose_a else 2)
    if b.dtype != a.dtype or b.device != a.device or (b.size(0), b.size(2 if transpose_b else 1)) != (heads, inner):
        raise ArgumentError(
            f"b: expected {heads} matrices with an inner size of {inner}, type and place of a, got {_check.describe(b)}"
        )
    return head_matmul_unchecked(a, b, transpose_a=transpose_a, transpose_b=transpose_b, rows_first=rows_first)


def head_matmul_unchecked(
    a: Tensor, b: Tensor, *, transpose_a: bool = False, transpose_b: bool = False, rows_first: bool = False
) -> Tensor:
    """:func:`head_matmul` for arguments made in this package, which need no second check."""
    out: Tensor = head_matmul_operator(a, b, transpose_a, transpose_b, rows_first)
    return out.transpose(0, 1) if rows_first else out


@torch.library.register_fake("graphmem::head_matmul")
def _head_matmul_fake(a: Tensor, b: Tensor, transpose_a: bool, transpose_b: bool, rows_first: bool) -> Tensor:
    m, n = a.size(2 if transpose_a else 1), b.size(1 if transpose_b else 2)
    return a.new_empty((m, a.size(0), n) if rows_first else (a.size(0), m, n))


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    a, b, ctx.transpose_a, ctx.transpose_b, ctx.rows_first = inputs
    ctx.save_for_backward(a, b)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    a, b = ctx.saved_tensors
    grad = grad.transpose(0, 1) if ctx.rows_first else grad
    grad_a = grad_b = None
    if ctx.needs_input_grad[0]:
        pair, flags = (
            ((b, grad), (ctx.transpose_b, True)) if ctx.transpose_a else ((grad, b), (False, not ctx.transpose_b))
        )
        grad_a = _like(a, pair, flags)
    if ctx.needs_input_grad[1]:
        pair, flags = (
            ((grad, a), (True, ctx.transpose_a)) if ctx.transpose_b else ((a, grad), (not ctx.transpose_a, False))
        )
        grad_b = _like(b, pair, flags)
    return grad_a, grad_b, None, None, None


def _like(x: Tensor, pair: tuple[Tensor, Tensor], flags: tuple[bool, bool]) -> Tensor:
    """The product of a pair, lying as ``x`` does."""
    rows_first = x.stride(1) > x.stride(0)
    return head_matmul_unchecked(*pair, transpose_a=flags[0], transpose_b=flags[1], rows_first=rows_first)


head_matmul_operator = Operator("head_matmul", _backward, _setup_context)
