"""Matrix products of the dense layers, with the same bits for every number of threads."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from graphmem.errors import ArgumentError
from graphmem.ops import _check
from graphmem.ops._autograd import Operator

_DTYPES = (torch.float32, torch.float64)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    r"""Compute :math:`y = x W^\top + b`, as ``torch.nn.functional.linear`` for matrices on the CPU.

    Every element is one chain of fused multiply-adds in ascending order of the inner index, starting from the bias, and
    so are the elements of both gradients: the same bits for every number of threads, and for a row alone or among
    others. torch's BLAS splits long sums by the number of threads; on processors by AMD it also leaves their 64-byte
    registers unused.

    Args:
        x: float32 or float64 [R, I].
        weight: [O, I], dtype of ``x``.
        bias: [O], dtype of ``x``.

    Returns:
        [R, O]. Differentiable.

    Raises:
        ArgumentError: wrong shape, dtype or device.
    """
    x = _check.tensor("x", x, shape=(None, None), dtypes=_DTYPES)
    weight = _check.tensor("weight", weight, shape=(None, x.size(1)), dtypes=(x.dtype,), device=x.device)
    if bias is not None:
        bias = _check.tensor("bias", bias, shape=(weight.size(0),), dtypes=(x.dtype,), device=x.device)
    return _product(x, weight, bias, False, True)


def matmul(a: Tensor, b: Tensor, *, transpose_a: bool = False, transpose_b: bool = False) -> Tensor:
    r"""Compute :math:`\mathrm{op}(A)\,\mathrm{op}(B)` with op the transpose where asked, without copies of either.

    Args:
        a: float32 or float64 [M, K]; [K, M] with ``transpose_a``.
        b: [K, N]; [N, K] with ``transpose_b``. Dtype of ``a``.
        transpose_a: take the transpose of ``a``.
        transpose_b: take the transpose of ``b``.

    Returns:
        [M, N], with the bits that :func:`linear` promises. Differentiable.

    Raises:
        ArgumentError: wrong shape, dtype or device, or inner sizes that differ.
    """
    a = _check.tensor("a", a, shape=(None, None), dtypes=_DTYPES)
    b = _check.tensor("b", b, shape=(None, None), dtypes=(a.dtype,), device=a.device)
    inner, found = a.size(0 if transpose_a else 1), b.size(1 if transpose_b else 0)
    if inner != found:
        raise ArgumentError(f"b: expected an inner size of {inner} as in a, got {found} ({_check.describe(b)})")
    return _product(a, b, None, transpose_a, transpose_b)


def _product(a: Tensor, b: Tensor, bias: Tensor | None, transpose_a: bool, transpose_b: bool) -> Tensor:
    out: Tensor = matmul_operator(a.contiguous(), b.contiguous(), bias, transpose_a, transpose_b)
    return out


@torch.library.register_fake("graphmem::matmul")
def _matmul_fake(a: Tensor, b: Tensor, bias: Tensor | None, transpose_a: bool, transpose_b: bool) -> Tensor:
    return a.new_empty(a.size(1 if transpose_a else 0), b.size(0 if transpose_b else 1))


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    a, b, _, ctx.transpose_a, ctx.transpose_b = inputs
    ctx.save_for_backward(a, b)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    a, b = ctx.saved_tensors
    grad_a = grad_b = grad_bias = None
    if ctx.needs_input_grad[0] and ctx.transpose_a:
        grad_a = _product(b, grad, None, ctx.transpose_b, True)
    elif ctx.needs_input_grad[0]:
        grad_a = _product(grad, b, None, False, not ctx.transpose_b)
    if ctx.needs_input_grad[1] and ctx.transpose_b:
        grad_b = _product(grad, a, None, True, ctx.transpose_a)
    elif ctx.needs_input_grad[1]:
        grad_b = _product(a, grad, None, not ctx.transpose_a, False)
    if ctx.needs_input_grad[2]:
        grad_bias = grad.sum(0)
    return grad_a, grad_b, grad_bias, None, None


matmul_operator = Operator("matmul", _backward, _setup_context)
