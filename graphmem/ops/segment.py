"""Segmented gather-sum: masked, weighted SpMM on CSR rows, with gradients for features and weights."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from graphmem.errors import ArgumentError
from graphmem.ops import _check
from graphmem.ops._autograd import Operator


class Transposed(NamedTuple):
    """The columns of a CSR structure, as CSR: see :func:`csr_transpose`."""

    ptr: Tensor
    row: Tensor
    slot: Tensor


def csr_transpose(ptr: Tensor, idx: Tensor, num_cols: int) -> Transposed:
    r"""Transpose a CSR structure by a stable counting sort, :math:`O(M + C)`.

    Args:
        ptr: int64 [S + 1], offsets of the rows into ``idx``.
        idx: int32 or int64 [M], column of each entry.
        num_cols: number of columns C.

    Returns:
        ``ptr`` int64 [C + 1]; ``row`` [M], the rows that hold each column, ascending; ``slot`` int64 [M], the entry of
        ``idx`` that each one came from.

    Raises:
        ArgumentError: wrong shape, dtype or device, or a column outside [0, C).
    """
    _check.integer("num_cols", num_cols)
    ptr, idx = _check_csr(ptr, idx, num_cols)
    return Transposed(*torch.ops.graphmem.csr_transpose(ptr, idx, num_cols))


def segment_gather_sum(
    ptr: Tensor,
    idx: Tensor,
    x: Tensor,
    weight: Tensor | None = None,
    keep: Tensor | None = None,
    *,
    transposed: Transposed | None = None,
) -> Tensor:
    r"""Sum feature rows over segments: ``out[s] = sum_{k = ptr[s]}^{ptr[s+1]-1} keep[k] * weight[k] * x[idx[k]]``.

    Sums run in ascending k, in float32 (float64 for float64 features), and are bit-identical for every number of
    threads. Differentiable in ``x`` and ``weight``, once.

    Args:
        ptr: int64 [S + 1], offsets into ``idx``.
        idx: int32 or int64 [M], row of ``x`` that each entry reads.
        x: floating point [N, F].
        weight: floating point [M]; 1 where ``None``.
        keep: bool [M]; entries with ``False`` are left out.
        transposed: ``csr_transpose(ptr, idx, N)`` where it is at hand; spares the backward pass a counting sort.

    Returns:
        [S, F], dtype of ``x``.

    Raises:
        ArgumentError: wrong shape, dtype or device, or an id outside [0, N).
    """
    x = _check.tensor("x", x, shape=(None, None), dtypes=_check.FLOAT_DTYPES)
    ptr, idx = _check_csr(ptr, idx, x.size(0))
    entries = (idx.numel(),)
    if idx.device != x.device:
        raise ArgumentError(f"x: expected a tensor on {idx.device}, got {_check.describe(x)}")
    if transposed is not None:
        _check.tensor("transposed.ptr", transposed.ptr, shape=(x.size(0) + 1,), dtypes=(torch.int64,), device=x.device)
        _check.tensor("transposed.row", transposed.row, shape=entries, dtypes=(idx.dtype,), device=x.device)
        _check.tensor("transposed.slot", transposed.slot, shape=entries, dtypes=(torch.int64,), device=x.device)
    if weight is not None:
        weight = _check.tensor("weight", weight, shape=entries, dtypes=_check.FLOAT_DTYPES, device=x.device)
        weight = weight.to(_check.accumulate_dtype(x.dtype))
    if keep is not None:
        keep = _check.tensor("keep", keep, shape=entries, dtypes=(torch.bool,), device=x.device)
    out: Tensor = segment_gather_sum_operator(
        ptr, idx, None, weight, keep, x, *(transposed if transposed is not None else (None, None, None))
    )
    return out


def take(values: Tensor, index: Tensor) -> Tensor:
    """``values[index]`` of a vector, with a gradient that is added up in a fixed order; torch's uses atomics on floats.

    For indices made in this package: they are not checked.
    """
    if not (torch.is_grad_enabled() and values.requires_grad):
        return values[index]
    ptr = torch.arange(index.numel() + 1, device=index.device)
    rows: Tensor = segment_gather_sum_operator(
        ptr, index.contiguous(), None, None, None, values.unsqueeze(1).contiguous(), None, None, None
    )
    return rows.squeeze(1)


def _check_csr(ptr: Tensor, idx: Tensor, upper: int) -> tuple[Tensor, Tensor]:
    idx = _check.tensor("idx", idx, shape=(None,), dtypes=_check.INDEX_DTYPES)
    ptr = _check.tensor("ptr", ptr, shape=(None,), dtypes=(torch.int64,), device=idx.device)
    _check.narrow("idx", idx, ptr.numel() - 1)  # a transpose lists rows in the dtype of the columns
    _check.in_range("idx", idx, upper)
    _check.offsets("ptr", ptr, idx.numel())
    return ptr, idx


@torch.library.register_fake("graphmem::csr_transpose")
def _csr_transpose_fake(ptr: Tensor, idx: Tensor, num_cols: int) -> tuple[Tensor, Tensor, Tensor]:
    return ptr.new_empty(num_cols + 1), torch.empty_like(idx), ptr.new_empty(idx.size(0))


@torch.library.register_fake("graphmem::segment_gather_sum")
def _segment_gather_sum_fake(ptr: Tensor, idx: Tensor, slot: Any, weight: Any, keep: Any, x: Tensor, *_: Any) -> Tensor:
    return x.new_empty(ptr.size(0) - 1, x.size(1))


@torch.library.register_fake("graphmem::segment_gather_dot")
def _segment_gather_dot_fake(ptr: Tensor, idx: Tensor, keep: Any, x: Tensor, grad: Tensor) -> Tensor:
    return x.new_empty(idx.size(0), dtype=_check.accumulate_dtype(x.dtype))


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ptr, idx, slot, weight, keep, x, tptr, trow, tslot = inputs
    ctx.num_nodes = x.size(0)
    ctx.save_for_backward(
        ptr,
        idx,
        slot,
        weight if ctx.needs_input_grad[5] else None,
        keep,
        x if ctx.needs_input_grad[3] else None,
        tptr,
        trow,
        tslot,
    )


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    ptr, idx, slot, weight, keep, x, tptr, trow, tslot = ctx.saved_tensors
    grad = grad.contiguous()
    grad_weight = grad_x = None
    if ctx.needs_input_grad[3]:
        if slot is not None:
            raise ArgumentError("weight: a gradient through `slot` is not defined; gather the weights first")
        grad_weight = _segment_gather_dot(ptr, idx, keep, x, grad)
    if ctx.needs_input_grad[5]:
        if tptr is None:
            tptr, trow, tslot = torch.ops.graphmem.csr_transpose(ptr, idx, ctx.num_nodes)
        entries = tslot if slot is None else slot[tslot]
        grad_x = segment_gather_sum_operator(tptr, trow, entries, weight, keep, grad, None, None, None)
    return None, None, None, grad_weight, None, grad_x, None, None, None


segment_gather_sum_operator = Operator("segment_gather_sum", _backward, _setup_context)
_check.differentiable_once("graphmem::segment_gather_dot")
_segment_gather_dot = Operator("segment_gather_dot")
