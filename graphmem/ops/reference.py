"""Executable specification of every operator: CPU tensors in, CPU tensors out, one readable loop each.

The contract is ``docs/architecture.md``; the loops are in :mod:`graphmem.ops._reference_loops`, and this module turns
tensors into arrays, allocates outputs and rounds sums. The tests hold the compiled kernels to these functions bit for
bit, and :mod:`graphmem.ops._fallback` registers them where no compiled library is available.

Names and order of the arguments are those of the schemas in ``csrc/library.cpp``. Arguments are not checked here: the
Python face of each operator has done that. Nothing is differentiable here: the autograd formulas belong to the faces.
"""

from __future__ import annotations

import functools
from types import ModuleType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from graphmem.ops._reference_dropout import array_of as _array
from graphmem.ops._reference_dropout import dense_loops as _dense
from graphmem.ops._reference_dropout import dropout as dropout
from graphmem.ops._reference_dropout import dropout_relu_backward as dropout_relu_backward
from graphmem.ops._reference_dropout import norm_dropout_relu as norm_dropout_relu
from graphmem.ops._reference_dropout import norm_dropout_relu_backward as norm_dropout_relu_backward
from graphmem.ops._reference_events import ring_graph as ring_graph
from graphmem.ops._reference_events import ring_insert as ring_insert
from graphmem.ops._reference_events import ring_query as ring_query
from graphmem.ops._reference_events import temporal_append as temporal_append
from graphmem.ops._reference_events import temporal_sample as temporal_sample
from graphmem.ops._reference_nat import nat_enter as nat_enter
from graphmem.ops._reference_nat import nat_score as nat_score
from graphmem.ops._reference_nat import nat_update as nat_update
from graphmem.ops._reference_nat_train import nat_train as nat_train
from graphmem.ops._reference_nat_train import nat_train_backward as nat_train_backward
from graphmem.ops._reference_ncache import ncache_commit as ncache_commit
from graphmem.ops._reference_ncache import ncache_join as ncache_join
from graphmem.ops._reference_ncache import ncache_pool as ncache_pool
from graphmem.ops._reference_ncache import ncache_pool_backward as ncache_pool_backward
from graphmem.ops._reference_ncache import ncache_refresh as ncache_refresh
from graphmem.ops._reference_ncache import ncache_refresh_backward as ncache_refresh_backward
from graphmem.ops._reference_pres import coherence as coherence
from graphmem.ops._reference_pres import coherence_backward as coherence_backward
from graphmem.ops._reference_pres import pres_correct as pres_correct
from graphmem.ops._reference_pres import pres_correct_backward as pres_correct_backward
from graphmem.ops._reference_pres import pres_observe as pres_observe
from graphmem.ops._reference_products import head_matmul as head_matmul
from graphmem.ops._reference_products import matmul as matmul
from graphmem.ops._reference_products import pair_head as pair_head
from graphmem.ops._reference_temporal import distinct as distinct
from graphmem.ops._reference_temporal import gru_step as gru_step
from graphmem.ops._reference_temporal import gru_step_backward as gru_step_backward
from graphmem.ops._reference_temporal import memory_gru as memory_gru
from graphmem.ops._reference_temporal import memory_gru_backward as memory_gru_backward
from graphmem.ops._reference_temporal import pair_relu_dot as pair_relu_dot
from graphmem.ops._reference_temporal import pair_relu_dot_backward as pair_relu_dot_backward
from graphmem.ops._reference_temporal import pending_events as pending_events
from graphmem.ops._reference_temporal import temporal_attention as temporal_attention
from graphmem.ops._reference_temporal import temporal_attention_backward as temporal_attention_backward
from graphmem.ops._reference_temporal import time_code as time_code
from graphmem.ops._reference_temporal import time_code_backward as time_code_backward

_UINT64 = (1 << 64) - 1


@functools.cache
def _loops() -> ModuleType:
    """Import numba only when a loop is needed: users of the compiled operators never pay for it."""
    from graphmem.ops import _reference_loops

    return _reference_loops


def _index(tensor: Tensor) -> NDArray[np.generic]:
    """Widen int32 columns: one compiled version of each loop instead of one per combination of dtypes."""
    return _array(tensor.to(torch.int64))


def _accumulate_dtype(dtype: torch.dtype) -> torch.dtype:
    """Half precision is summed in float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def _keep(keep: Tensor | None, size: int) -> NDArray[np.generic]:
    return np.ones(size, dtype=np.bool_) if keep is None else _array(keep)


def _weight(weight: Tensor | None, size: int, dtype: torch.dtype) -> NDArray[np.generic]:
    return _array(torch.ones(size, dtype=dtype) if weight is None else weight.to(dtype))


def _count_parts(parts: int) -> int:
    return (parts & 7).bit_count()


def cn_count(
    rowptr_a: Tensor,
    col_a: Tensor,
    keep_a: Tensor | None,
    rowptr_b: Tensor,
    col_b: Tensor,
    keep_b: Tensor | None,
    pairs: Tensor,
    exclude_endpoints: bool,
) -> Tensor:
    """Sizes of cn, left and right of each pair, int64 [3, B]."""
    out = torch.zeros(3, pairs.size(1), dtype=torch.int64)
    _loops().cn_count(
        _array(rowptr_a),
        _index(col_a),
        _keep(keep_a, col_a.numel()),
        _array(rowptr_b),
        _index(col_b),
        _keep(keep_b, col_b.numel()),
        _array(pairs),
        exclude_endpoints,
        out.numpy(),
    )
    return out


def cn_index(
    rowptr_a: Tensor,
    col_a: Tensor,
    keep_a: Tensor | None,
    rowptr_b: Tensor,
    col_b: Tensor,
    keep_b: Tensor | None,
    pairs: Tensor,
    exclude_endpoints: bool,
    parts: int,
    ptr: Tensor,
    total: int,
    num_cn: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Nodes of the wanted parts, their edge slots, and the slots in ``b`` of the cn entries; ``ptr`` is [P, B+1]."""
    idx = torch.empty(total, dtype=torch.int64)
    slot = torch.empty(total, dtype=torch.int64)
    slot_b = torch.empty(num_cn, dtype=torch.int64)
    _loops().cn_index(
        _array(rowptr_a),
        _index(col_a),
        _keep(keep_a, col_a.numel()),
        _array(rowptr_b),
        _index(col_b),
        _keep(keep_b, col_b.numel()),
        _array(pairs),
        exclude_endpoints,
        parts,
        _array(ptr[:, :-1]).copy(),
        idx.numpy(),
        slot.numpy(),
        slot_b.numpy(),
    )
    return idx.to(col_a.dtype), slot, slot_b


def cn_gather_sum(
    rowptr_a: Tensor,
    col_a: Tensor,
    keep_a: Tensor | None,
    weight_a: Tensor | None,
    rowptr_b: Tensor,
    col_b: Tensor,
    keep_b: Tensor | None,
    weight_b: Tensor | None,
    pairs: Tensor,
    x: Tensor,
    exclude_endpoints: bool,
    parts: int,
) -> Tensor:
    """Weighted sums of the rows of ``x`` over the wanted parts, [P, B, F] in the dtype of ``x``."""
    dtype = _accumulate_dtype(x.dtype)
    out = torch.zeros(_count_parts(parts), pairs.size(1), x.size(1), dtype=dtype)
    _loops().cn_gather_sum(
        _array(rowptr_a),
        _index(col_a),
        _keep(keep_a, col_a.numel()),
        _weight(weight_a, col_a.numel(), dtype),
        _array(rowptr_b),
        _index(col_b),
        _keep(keep_b, col_b.numel()),
        _weight(weight_b, col_b.numel(), dtype),
        _array(pairs),
        _array(x.to(dtype)),
        exclude_endpoints,
        parts,
        out.numpy(),
    )
    return out.to(x.dtype)


def cn_gather_sum_backward(
    rowptr_a: Tensor,
    col_a: Tensor,
    keep_a: Tensor | None,
    weight_a: Tensor | None,
    rowptr_b: Tensor,
    col_b: Tensor,
    keep_b: Tensor | None,
    weight_b: Tensor | None,
    pairs: Tensor,
    grad: Tensor,
    num_nodes: int,
    exclude_endpoints: bool,
    parts: int,
) -> Tensor:
    """Gradient of :func:`cn_gather_sum` with respect to ``x``, [num_nodes, F] in the dtype of ``grad`` [P, B, F]."""
    dtype = _accumulate_dtype(grad.dtype)
    out = torch.zeros(num_nodes, grad.size(2), dtype=dtype)
    _loops().cn_gather_sum_backward(
        _array(rowptr_a),
        _index(col_a),
        _keep(keep_a, col_a.numel()),
        _weight(weight_a, col_a.numel(), dtype),
        _array(rowptr_b),
        _index(col_b),
        _keep(keep_b, col_b.numel()),
        _weight(weight_b, col_b.numel(), dtype),
        _array(pairs),
        _array(grad.to(dtype)),
        exclude_endpoints,
        parts,
        out.numpy(),
    )
    return out.to(grad.dtype)


def segment_gather_sum(
    ptr: Tensor,
    idx: Tensor,
    slot: Tensor | None,
    weight: Tensor | None,
    keep: Tensor | None,
    x: Tensor,
    tptr: Tensor | None,
    trow: Tensor | None,
    tslot: Tensor | None,
) -> Tensor:
    """Weighted sums of the rows ``x[idx]`` over each segment, [S, F]; the last three arguments serve the gradient."""
    dtype = _accumulate_dtype(x.dtype)
    given = [t.numel() for t in (weight, keep) if t is not None]
    size = max([idx.numel(), *given]) if slot is None or given else int(slot.max() + 1) if slot.numel() else 0
    out = torch.zeros(ptr.numel() - 1, x.size(1), dtype=dtype)
    _loops().segment_gather_sum(
        _array(ptr),
        _index(idx),
        np.arange(idx.numel()) if slot is None else _array(slot),
        _weight(weight, size, dtype),
        _keep(keep, size),
        _array(x.to(dtype)),
        out.numpy(),
    )
    return out.to(x.dtype)


def segment_gather_dot(ptr: Tensor, idx: Tensor, keep: Tensor | None, x: Tensor, grad: Tensor) -> Tensor:
    """Inner product of ``grad[s]`` with ``x[idx[k]]`` for each entry of segment s, [M], in the accumulation dtype."""
    dtype = _accumulate_dtype(x.dtype)
    out = torch.zeros(idx.numel(), dtype=dtype)
    _loops().segment_gather_dot(
        _array(ptr),
        _index(idx),
        _keep(keep, idx.numel()),
        _array(x.to(dtype)),
        _array(grad.to(dtype)),
        out.numpy(),
    )
    return out


def pair_product(x: Tensor, pairs: Tensor) -> Tensor:
    """Element-wise products of the rows of ``x`` at both ends of each pair, [B, F] in the dtype of ``x``."""
    dtype = _accumulate_dtype(x.dtype)
    out = torch.empty(pairs.size(1), x.size(1), dtype=dtype)
    _dense().pair_product(_array(x.to(dtype)), _array(pairs), out.numpy())
    return out.to(x.dtype)


def pair_product_backward(grad: Tensor, x: Tensor, pairs: Tensor, tptr: Tensor, tslot: Tensor) -> Tensor:
    """Gradient of :func:`pair_product`, [N, F]; ``tptr`` and ``tslot`` are ``csr_transpose`` of the 2 B ends."""
    dtype = _accumulate_dtype(x.dtype)
    out = torch.zeros(x.shape, dtype=dtype)
    _dense().pair_product_backward(
        _array(grad.to(dtype)), _array(x.to(dtype)), _array(pairs), _array(tptr), _array(tslot), out.numpy()
    )
    return out.to(x.dtype)


def csr_transpose(ptr: Tensor, idx: Tensor, num_cols: int) -> tuple[Tensor, Tensor, Tensor]:
    """``(tptr, trow, tslot)``: for each column the rows that hold it, ascending, and the entries they came from."""
    tptr = torch.zeros(num_cols + 1, dtype=torch.int64)
    trow = torch.empty(idx.numel(), dtype=torch.int64)
    tslot = torch.empty(idx.numel(), dtype=torch.int64)
    _loops().csr_transpose(_array(ptr), _index(idx), tptr.numpy(), trow.numpy(), tslot.numpy())
    return tptr, trow.to(idx.dtype), tslot


def sample_rows(
    ptr: Tensor, out_ptr: Tensor, total: int, k: int, seed: int, row_key: Tensor, replace: bool
) -> tuple[Tensor, Tensor]:
    """At most ``k`` positions of each row, ascending, and their float32 weights (row length / k where sampled)."""
    pos = torch.empty(total, dtype=torch.int64)
    weight = torch.empty(total, dtype=torch.float32)
    _loops().sample_rows(
        _array(ptr),
        _array(out_ptr),
        k,
        np.uint64(seed & _UINT64),
        _array(row_key).view(np.uint64),
        replace,
        pos.numpy(),
        weight.numpy(),
    )
    return pos, weight


def find_edges(rowptr: Tensor, col: Tensor, pairs: Tensor) -> Tensor:
    """Slot of the edge of each pair, -1 where there is none, int64 [B]. Ignores ``keep``: a slot says where to look."""
    out = torch.empty(pairs.size(1), dtype=torch.int64)
    _loops().find_edges(_array(rowptr), _index(col), _array(pairs), out.numpy())
    return out


def sample_non_edges(rowptr: Tensor, col: Tensor, num_nodes: int, start: int, count: int, seed: int) -> Tensor:
    """Uniform pairs that are an edge in neither direction, int64 [2, count]; -1, -1 after too many rejections."""
    out = torch.empty(2, count, dtype=torch.int64)
    _loops().sample_non_edges(
        _array(rowptr), _index(col), num_nodes, np.uint64(start & _UINT64), np.uint64(seed & _UINT64), out.numpy()
    )
    return out
