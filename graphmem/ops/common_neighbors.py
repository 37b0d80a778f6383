r"""Common-neighbour operators on node pairs.

For a pair (i, j) let A be the neighbours of i in ``graph`` and B those of j in ``g2`` (``graph`` itself by default).
``cn`` is A & B, ``left`` is A without B, ``right`` is B without A; all ascending. Neural Common Neighbor sums features
over ``cn`` (Wang, Yang, Zhang, "Neural Common Neighbor with Completion for Link Prediction", ICLR 2024); completion
needs the other two.

All integer results and all sums are bit-identical for every number of threads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, overload

import torch
from torch import Tensor

from graphmem.errors import ArgumentError, ArgumentTypeError
from graphmem.ops import _check
from graphmem.ops._check import GraphLike
from graphmem.ops._cn_torch import cn_gather_sum_operator
from graphmem.ops.segment import segment_gather_sum_operator, take

PARTS = {"cn": 1, "left": 2, "right": 4}

Mode = Literal["auto", "recompute", "index"]


class CNPart(NamedTuple):
    """One part of :func:`cn_index`: row b holds ``idx[ptr[b]:ptr[b+1]]``."""

    ptr: Tensor
    idx: Tensor
    slot: Tensor
    slot_b: Tensor | None


def _structure(graph: GraphLike, other: GraphLike) -> tuple[Any, ...]:
    return graph.rowptr, graph.col, graph.keep, other.rowptr, other.col, other.keep


def grouped_pairs(src: Tensor, ptr: Tensor, dst: Tensor) -> Tensor:
    """Pairs of one-source-many form: source ``src[g]`` with each of ``dst[ptr[g]:ptr[g+1]]``.

    Args:
        src: int64 [G].
        ptr: int64 [G + 1].
        dst: int64 [B].

    Returns:
        int64 [2, B], for every operator of this module.

    Raises:
        ArgumentError: the three do not fit each other.
    """
    src = _check.tensor("src", src, shape=(None,), dtypes=(torch.int64,))
    ptr = _check.tensor("ptr", ptr, shape=(src.numel() + 1,), dtypes=(torch.int64,), device=src.device)
    dst = _check.tensor("dst", dst, shape=(None,), dtypes=(torch.int64,), device=src.device)
    _check.offsets("ptr", ptr, dst.numel())
    return torch.stack((src.repeat_interleave(ptr.diff(), output_size=dst.numel()), dst))


def cn_count(
    graph: GraphLike,
    pairs: Tensor,
    *,
    g2: GraphLike | None = None,
    node_weight: Tensor | None = None,
    use_edge_weight: bool = False,
    exclude_endpoints: bool = False,
) -> Tensor:
    r"""Count the common neighbours of each pair, or sum weights over them.

    .. math:: c_{ij} = \sum_{u \in N(i) \cap N(j)} w_u \, a_{iu} a_{ju}

    Args:
        graph: CSR graph.
        pairs: int64 [2, B].
        g2: graph of the second endpoints; ``graph`` by default.
        node_weight: floating point [N]; without it and without edge weights the result is an integer.
        use_edge_weight: multiply by the weights of both edges.
        exclude_endpoints: leave out i and j themselves (they can only occur with self-loops, or where i = j).

    Returns:
        int64 [B], or floating point [B] if weighted.

    Raises:
        ArgumentError: wrong shape, dtype or device, or an id outside the graph.
    """
    other = _check.two_graphs(graph, g2)
    checked = _check.pairs("pairs", pairs, graph, other)
    if node_weight is None and not use_edge_weight:
        counts: Tensor = torch.ops.graphmem.cn_count(*_structure(graph, other), checked, exclude_endpoints)
        return counts[0]
    num_nodes = max(graph.num_nodes, other.num_nodes)
    if node_weight is None:
        node_weight = torch.ones(num_nodes, device=graph.rowptr.device, dtype=_weight_dtype(graph))
    column = _check.tensor(
        "node_weight", node_weight, shape=(num_nodes,), dtypes=_check.FLOAT_DTYPES, device=graph.rowptr.device
    ).unsqueeze(1)
    return cn_gather_sum(
        graph, column, pairs, g2=g2, use_edge_weight=use_edge_weight, exclude_endpoints=exclude_endpoints
    ).squeeze(1)


def _weight_dtype(graph: GraphLike) -> torch.dtype:
    return torch.float32 if graph.weight is None else _check.accumulate_dtype(graph.weight.dtype)


def cn_sizes(
    graph: GraphLike, pairs: Tensor, *, g2: GraphLike | None = None, exclude_endpoints: bool = False
) -> Tensor:
    """Sizes of cn, left and right of each pair, int64 [3, B]; arguments and errors as :func:`cn_count`."""
    other = _check.two_graphs(graph, g2)
    checked = _check.pairs("pairs", pairs, graph, other)
    sizes: Tensor = torch.ops.graphmem.cn_count(*_structure(graph, other), checked, exclude_endpoints)
    return sizes


def cn_index(
    graph: GraphLike,
    pairs: Tensor,
    *,
    g2: GraphLike | None = None,
    parts: Sequence[str] = ("cn", "left", "right"),
    exclude_endpoints: bool = False,
) -> dict[str, CNPart]:
    """List the common and one-sided neighbours of each pair.

    Two passes over the rows (count, fill); the sizes pass through the host, so under CUDA this operator synchronises.

    Args:
        graph: CSR graph.
        pairs: int64 [2, B].
        g2: graph of the second endpoints; ``graph`` by default.
        parts: any of "cn", "left", "right".
        exclude_endpoints: leave out i and j themselves.

    Returns:
        For each part ``ptr`` int64 [B + 1], ``idx`` (node ids, dtype of ``graph.col``), ``slot`` int64 (edge slot in
        ``graph`` for cn and left, in ``g2`` for right) and, for cn, ``slot_b`` int64 (edge slot in ``g2``).

    Raises:
        ArgumentError: wrong shape, dtype or device, an id outside the graph, or an unknown part.
    """
    other = _check.two_graphs(graph, g2)
    checked = _check.pairs("pairs", pairs, graph, other)
    if not isinstance(parts, Sequence):
        raise ArgumentTypeError(f"parts: expected a sequence of names, got {_check.describe(parts)}")
    wanted = [name for name in PARTS if name in {_check.choice("parts", part, PARTS) for part in parts}]
    if not wanted:
        raise ArgumentError("parts: expected at least one of 'cn', 'left', 'right', got none")
    structure = _structure(graph, other)
    sizes = torch.ops.graphmem.cn_count(*structure, checked, exclude_endpoints)
    sizes = torch.stack([sizes[list(PARTS).index(name)] for name in wanted])
    ends = sizes.flatten().cumsum(0).view(sizes.shape)
    starts = (ends[:, :1] - sizes[:, :1]) if sizes.size(1) else ends.new_zeros(len(wanted), 1)
    ptr = torch.cat((starts, ends), dim=1)
    bounds = [0, *ptr[:, -1].tolist()]
    num_cn = bounds[1] if wanted[0] == "cn" else 0
    mask = sum(PARTS[name] for name in wanted)
    idx, slot, slot_b = torch.ops.graphmem.cn_index(
        *structure, checked, exclude_endpoints, mask, ptr, bounds[-1], num_cn
    )
    return {
        name: CNPart(ptr[row] - low, idx[low:high], slot[low:high], slot_b if name == "cn" else None)
        for row, (name, low, high) in enumerate(zip(wanted, bounds, bounds[1:], strict=False))
    }


@overload
def cn_gather_sum(
    graph: GraphLike,
    x: Tensor,
    pairs: Tensor,
    *,
    g2: GraphLike | None = ...,
    use_edge_weight: bool | None = ...,
    exclude_endpoints: bool = ...,
    mode: Mode = ...,
    compact: Literal[False] = ...,
) -> Tensor: ...


@overload
def cn_gather_sum(
    graph: GraphLike,
    x: Tensor,
    pairs: Tensor,
    *,
    g2: GraphLike | None = ...,
    use_edge_weight: bool | None = ...,
    exclude_endpoints: bool = ...,
    mode: Mode = ...,
    compact: Literal[True],
) -> tuple[Tensor, Tensor]: ...


def cn_gather_sum(
    graph: GraphLike,
    x: Tensor,
    pairs: Tensor,
    *,
    g2: GraphLike | None = None,
    use_edge_weight: bool | None = None,
    exclude_endpoints: bool = False,
    mode: Mode = "auto",
    compact: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    r"""Sum features over the common neighbours of each pair.

    .. math:: z_{ij} = \sum_{u \in N(i) \cap N(j)} a_{iu} a_{ju} \, x_u

    Differentiable in ``x`` and in the edge weights, once; the structure is not differentiable.

    Args:
        graph: CSR graph.
        x: floating point [N, F]. Half precision is summed in float32.
        pairs: int64 [2, B].
        g2: graph of the second endpoints; ``graph`` by default.
        use_edge_weight: multiply by the edge weights a; by default wherever a graph has them.
        exclude_endpoints: leave out i and j themselves.
        mode: what the backward pass needs. "recompute" intersects again and stores nothing, "index" stores the list of
            common neighbours, which the gradient of edge weights needs. "auto" takes the list only for that: to
            intersect again is faster than to write the list and read it.
            The results are the same bits, those of the gradient too (but for :func:`cn_diff_gather_sum`'s, whose three
            parts are then added in another order).
        compact: return only the pairs that have a common neighbour.

    Returns:
        [B, F], dtype of ``x``; with ``compact`` the ids int64 [C] of the non-empty pairs and their rows [C, F].

    Raises:
        ArgumentError: wrong shape, dtype or device, or an id outside the graph.
    """
    if compact:
        ids = cn_count(graph, pairs, g2=g2, exclude_endpoints=exclude_endpoints).nonzero().squeeze(1)
        pairs = pairs[:, ids]
    (out,) = _gather(graph, x, pairs, g2, use_edge_weight, exclude_endpoints, mode, ("cn",))
    return (ids, out) if compact else out


def cn_diff_gather_sum(
    graph: GraphLike,
    x: Tensor,
    pairs: Tensor,
    *,
    g2: GraphLike | None = None,
    use_edge_weight: bool | None = None,
    exclude_endpoints: bool = False,
    mode: Mode = "auto",
) -> tuple[Tensor, Tensor, Tensor]:
    r"""Sum features over cn, left and right of each pair in one pass over the rows.

    A left entry is weighted by :math:`a_{iu}`, a right entry by :math:`a_{ju}`. Arguments and errors as
    :func:`cn_gather_sum`.

    Returns:
        Three tensors [B, F].
    """
    cn, left, right = _gather(graph, x, pairs, g2, use_edge_weight, exclude_endpoints, mode, tuple(PARTS))
    return cn, left, right


def _gather(
    graph: GraphLike,
    x: Tensor,
    pairs: Tensor,
    g2: GraphLike | None,
    use_edge_weight: bool | None,
    exclude_endpoints: bool,
    mode: Mode,
    parts: tuple[str, ...],
) -> Sequence[Tensor]:
    other = _check.two_graphs(graph, g2)
    x = _check.tensor("x", x, shape=(None, None), dtypes=_check.FLOAT_DTYPES, device=graph.rowptr.device)
    if x.size(0) < max(graph.num_nodes, other.num_nodes):
        raise ArgumentError(f"x: expected a row for each of the {graph.num_nodes} nodes, got {_check.describe(x)}")
    checked = _check.pairs("pairs", pairs, graph, other)
    _check.choice("mode", mode, ("auto", "recompute", "index"))
    weights = _edge_weights(graph, other, use_edge_weight, _check.accumulate_dtype(x.dtype))
    weight_grad = torch.is_grad_enabled() and any(w is not None and w.requires_grad for w in weights)
    if mode == "recompute" and weight_grad:
        raise ArgumentError("mode: 'recompute' has no gradient for edge weights, expected 'index' or 'auto'")
    if mode == "auto":
        mode = "index" if weight_grad else "recompute"
    if mode == "index":
        return _gather_indexed(graph, x, checked, other, weights, exclude_endpoints, parts)
    mask = sum(PARTS[name] for name in parts)
    a, b = graph, other
    out: Tensor = cn_gather_sum_operator(
        a.rowptr, a.col, a.keep, weights[0], b.rowptr, b.col, b.keep, weights[1], checked, x, exclude_endpoints, mask
    )
    return out.unbind(0)


def _edge_weights(
    graph: GraphLike, other: GraphLike, use_edge_weight: bool | None, dtype: torch.dtype
) -> tuple[Tensor | None, Tensor | None]:
    if use_edge_weight and graph.weight is None and other.weight is None:
        raise ArgumentError("use_edge_weight: expected a graph with edge weights, got one without")
    if use_edge_weight is False:
        return None, None
    a = None if graph.weight is None else graph.weight.to(dtype)
    b = a if other is graph else None if other.weight is None else other.weight.to(dtype)
    return a, b


def _gather_indexed(
    graph: GraphLike,
    x: Tensor,
    pairs: Tensor,
    other: GraphLike,
    weights: tuple[Tensor | None, Tensor | None],
    exclude_endpoints: bool,
    parts: tuple[str, ...],
) -> list[Tensor]:
    found = cn_index(graph, pairs, g2=other, parts=parts, exclude_endpoints=exclude_endpoints)
    side = {"left": weights[0], "right": weights[1]}
    out = []
    for name in parts:
        part = found[name]
        if name == "cn":
            first, second = _take(weights[0], part.slot), _take(weights[1], part.slot_b)
            weight = second if first is None else first if second is None else first * second
        else:
            weight = _take(side[name], part.slot)
        out.append(
            segment_gather_sum_operator(part.ptr, part.idx.contiguous(), None, weight, None, x, None, None, None)
        )
    return out


def _take(weight: Tensor | None, slot: Tensor | None) -> Tensor | None:
    return None if weight is None or slot is None else take(weight, slot)
