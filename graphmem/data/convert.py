"""From PyG's adjacency forms to :class:`~graphmem.data.CSRGraph`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from graphmem.data.graph import CSRGraph
from graphmem.errors import ArgumentError, ArgumentTypeError


def to_csr(graph: Any, num_nodes: int | None = None, edge_weight: Tensor | None = None) -> CSRGraph:
    """Convert any of PyG's adjacency forms to a :class:`CSRGraph`, once.

    Accepts a ``CSRGraph`` (returned as it is), ``edge_index`` [2, E] (edge (j, i) makes j a neighbour of i), PyG's
    ``EdgeIndex``, torch-sparse's ``SparseTensor`` and torch sparse CSR/COO matrices (as PyG's ``adj_t``: row i lists
    the neighbours of i), and ``Data`` (its ``edge_index`` or ``adj_t``, and ``edge_weight``).

    Args:
        graph: the graph.
        num_nodes: number of nodes, where the form does not say it.
        edge_weight: weights of the columns of ``edge_index``.

    Raises:
        ArgumentTypeError: an unsupported form; heterogeneous graphs are one of them.
        ArgumentError: wrong shape, dtype or ids.
    """
    kind = type(graph).__name__
    if isinstance(graph, CSRGraph):
        if edge_weight is not None:
            raise ArgumentError("edge_weight: a CSRGraph brings its own weights, expected None")
        return graph
    if isinstance(graph, dict) or hasattr(graph, "node_types"):
        raise ArgumentTypeError(
            f"graph: expected a homogeneous graph, got {kind}; convert it first (`HeteroData.to_homogeneous()`) or "
            "pass the edge_index of one edge type"
        )
    if edge_weight is not None and (kind == "SparseTensor" or _is_sparse(graph)):
        raise ArgumentError("edge_weight: a sparse matrix brings its own weights, expected None")
    if kind == "SparseTensor":
        rowptr, col, value = graph.csr()
        return _from_csr(rowptr, col, value, graph.size(0), graph.size(1))
    if _is_sparse(graph):
        matrix = graph if graph.layout == torch.sparse_csr else graph.coalesce().to_sparse_csr()
        values = matrix.values() if matrix.values().is_floating_point() else None
        if values is not None and bool((values == 1).all()):
            values = None  # PyG writes ones where there are no weights
        return _from_csr(matrix.crow_indices(), matrix.col_indices(), values, matrix.size(0), matrix.size(1))
    if isinstance(graph, Tensor):
        if num_nodes is None and kind == "EdgeIndex":
            num_nodes = max((n for n in graph.sparse_size() if n is not None), default=None)  # type: ignore[attr-defined]
        return CSRGraph.from_edge_index(graph, num_nodes, edge_weight)
    if hasattr(graph, "edge_index") or hasattr(graph, "adj_t"):
        nodes = graph.num_nodes if num_nodes is None else num_nodes
        edges = getattr(graph, "edge_index", None)
        edges = getattr(graph, "adj_t", None) if edges is None else edges
        if edges is None:
            raise ArgumentError(f"graph: expected a {kind} with edge_index or adj_t, found {list(graph.keys())}")
        weight = getattr(graph, "edge_weight", None) if edge_weight is None else edge_weight
        return to_csr(edges, nodes, weight)
    raise ArgumentTypeError(
        f"graph: expected edge_index, EdgeIndex, SparseTensor, a torch sparse matrix, Data or CSRGraph, got {kind}"
    )


def _is_sparse(value: object) -> bool:
    return isinstance(value, Tensor) and value.layout in (torch.sparse_csr, torch.sparse_coo)


def _from_csr(rowptr: Tensor, col: Tensor, value: Tensor | None, num_rows: int, num_cols: int) -> CSRGraph:
    if num_rows != num_cols:
        raise ArgumentError(f"graph: expected a square adjacency, got {num_rows} x {num_cols}")
    rows = torch.arange(num_rows, device=col.device).repeat_interleave(rowptr.diff(), output_size=col.numel())
    return CSRGraph.from_edge_index(torch.stack((col.to(torch.int64), rows)), num_rows, value)
