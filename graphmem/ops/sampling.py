"""Counter-based random choices: each is a function of (seed, key) and nothing else, on every device."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from graphmem.errors import ArgumentError
from graphmem.ops import _check
from graphmem.ops._check import GraphLike
from graphmem.ops.segment import _check_csr


class SampledRows(NamedTuple):
    """Sampled rows: row s holds ``idx[ptr[s]:ptr[s+1]]`` with ``weight``; ``pos`` is the entry each one came from."""

    ptr: Tensor
    idx: Tensor
    weight: Tensor
    pos: Tensor


def sample_rows(
    ptr: Tensor, idx: Tensor, k: int, seed: int, *, replace: bool = False, row_key: Tensor | None = None
) -> SampledRows:
    r"""Keep at most ``k`` entries of each row, weighted so that sums over rows stay unbiased.

    A row of length :math:`d \le k` is kept with weight 1. A longer one gives k entries of weight :math:`d/k`, drawn
    without replacement (Floyd's algorithm) or with.

    Args:
        ptr: int64 [S + 1].
        idx: int32 or int64 [M].
        k: number of entries to keep, at least 1.
        seed: any 64-bit integer.
        replace: draw with replacement; the same entry may then occur more than once.
        row_key: int64 [S], the counter of each row's random stream; row numbers by default. With a key that belongs to
            the row's meaning, a row is sampled alike whichever batch it comes in.

    Returns:
        ``ptr`` int64 [S + 1], ``idx``, ``weight`` float32 and ``pos`` int64 of the kept entries, ascending in each row.

    Raises:
        ArgumentError: wrong shape, dtype or device, or k < 1.
    """
    _check.integer("k", k, 1, 2**63 - 1)
    _check.seed("seed", seed)
    ptr, idx = _check_csr(ptr, idx, 2**63 - 1)
    num_rows = ptr.numel() - 1
    if row_key is None:
        row_key = torch.arange(num_rows, device=ptr.device)
    row_key = _check.tensor("row_key", row_key, shape=(num_rows,), dtypes=(torch.int64,), device=ptr.device)
    _check.valued("ptr", ptr)
    out_ptr = torch.cat((ptr.new_zeros(1), ptr.diff().clamp(max=k).cumsum(0)))
    pos, weight = torch.ops.graphmem.sample_rows(ptr, out_ptr, int(out_ptr[-1]), k, seed, row_key, replace)
    return SampledRows(out_ptr, idx[pos], weight, pos)


def find_edges(graph: GraphLike, pairs: Tensor) -> Tensor:
    """Slot of each pair's edge in the graph, int64 [B]; -1 where there is none. Absent slots (``keep``) are found too.

    Raises:
        ArgumentError: wrong shape, dtype or device, or an id outside the graph.
    """
    _check.graph("graph", graph)
    checked = _check.pairs("pairs", pairs, graph, graph)
    slots: Tensor = torch.ops.graphmem.find_edges(graph.rowptr, graph.col, checked)
    return slots


def sample_non_edges(graph: GraphLike, count: int, *, seed: int, start: int = 0) -> Tensor:
    """Draw uniform node pairs that are not edges: event ``start + c`` gives column c.

    Pairs are ordered, have two different ends and are an edge in neither direction; every slot counts, whether kept or
    not. Draws are independent, so a pair may repeat.

    Args:
        graph: CSR graph.
        count: number of pairs.
        seed: any 64-bit integer.
        start: number of the first event; calls that continue each other give the pairs of one long call.

    Returns:
        int64 [2, count].

    Raises:
        ArgumentError: a negative count, or a graph with (almost) no pair to draw.
    """
    _check.graph("graph", graph)
    _check.integer("count", count)
    _check.integer("start", start, 0, 2**63 - 1)
    if count > 0 and graph.num_nodes < 2:
        raise ArgumentError(f"graph: expected at least 2 nodes to draw pairs from, got {graph.num_nodes}")
    _check.seed("seed", seed)
    pairs: Tensor = torch.ops.graphmem.sample_non_edges(graph.rowptr, graph.col, graph.num_nodes, start, count, seed)
    if count > 0 and not torch.compiler.is_compiling() and bool((pairs < 0).any()):
        raise ArgumentError("graph: expected a graph with non-edges, but 1,024 draws in a row hit edges")
    return pairs


@torch.library.register_fake("graphmem::sample_rows")
def _sample_rows_fake(ptr: Tensor, out_ptr: Tensor, total: int, *_: Any) -> tuple[Tensor, Tensor]:
    return ptr.new_empty(total), ptr.new_empty(total, dtype=torch.float32)


@torch.library.register_fake("graphmem::find_edges")
def _find_edges_fake(rowptr: Tensor, col: Tensor, pairs: Tensor) -> Tensor:
    return pairs.new_empty(pairs.size(1))


@torch.library.register_fake("graphmem::sample_non_edges")
def _sample_non_edges_fake(rowptr: Tensor, col: Tensor, num_nodes: int, start: int, count: int, seed: int) -> Tensor:
    return rowptr.new_empty(2, count)
