"""Classic neighbourhood scores and degrees."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from graphmem.ops import _check
from graphmem.ops._check import GraphLike
from graphmem.ops.common_neighbors import cn_count, cn_sizes

Score = Literal["cn", "aa", "ra", "jaccard"]


def common_neighbor_scores(graph: GraphLike, pairs: Tensor, method: Score = "cn") -> Tensor:
    r"""Classic neighbourhood scores of node pairs.

    ``cn`` :math:`|N(i) \cap N(j)|`; ``aa`` :math:`\sum_u 1/\log d_u` (Adamic, Adar 2003); ``ra``
    :math:`\sum_u 1/d_u` (Zhou, Lü, Zhang 2009); ``jaccard`` :math:`|N(i) \cap N(j)| / |N(i) \cup N(j)|`, 0 where both
    are empty. Degrees count the present slots. A common neighbour of degree 1 (only where i = j) scores 0 under ``aa``.

    Args:
        graph: CSR graph.
        pairs: int64 [2, B].
        method: one of "cn", "aa", "ra", "jaccard".

    Returns:
        float32 [B].

    Raises:
        ArgumentError: as :func:`cn_count`, or an unknown method.
    """
    _check.choice("method", method, ("cn", "aa", "ra", "jaccard"))
    if method == "jaccard":
        cn, left, right = cn_sizes(graph, pairs).unbind(0)
        return cn / (cn + left + right).clamp(min=1)
    if method == "cn":
        return cn_count(graph, pairs).to(torch.float32)
    _check.graph("graph", graph)
    degree = present_degree(graph).to(torch.float32)
    weight = 1 / degree.log() if method == "aa" else 1 / degree
    weight = torch.where(degree > (1 if method == "aa" else 0), weight, 0)
    return cn_count(graph, pairs, node_weight=weight)


def present_degree(graph: GraphLike) -> Tensor:
    """Number of present slots of each row, int64 [N], in O(nnz).

    Raises:
        ArgumentError: arrays that do not fit each other.
    """
    _check.graph("graph", graph)
    if graph.keep is None:
        return graph.rowptr.diff()
    running = torch.cat((graph.rowptr.new_zeros(1), graph.keep.cumsum(0)))
    return running[graph.rowptr].diff()
