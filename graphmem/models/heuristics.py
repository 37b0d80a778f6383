"""Link prediction without learning, behind the same interface as the models."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from graphmem import ops
from graphmem.data.graph import CSRGraph
from graphmem.errors import ArgumentError
from graphmem.models.base import LinkModel
from graphmem.nn.decoder import Memo, PairDecoder
from graphmem.nn.features import Features
from graphmem.ops import _check

Method = Literal["cn", "aa", "ra", "jaccard", "katz", "ppr"]
METHODS: tuple[Method, ...] = ("cn", "aa", "ra", "jaccard", "katz", "ppr")

# Sources whose walks are propagated side by side: 256 columns of float32 a node.
_SOURCES = 256


class Heuristic(LinkModel):
    r"""A neighbourhood or path score as a link model: ``encode`` does nothing, ``decode`` scores pairs.

    ``cn``, ``aa``, ``ra``, ``jaccard``: see :func:`graphmem.ops.common_neighbor_scores`.

    ``katz``: :math:`\sum_{l=1}^{L} \beta^l (A^l)_{ij}` (Katz 1953), truncated at ``max_length``.

    ``ppr``: :math:`\pi_i(j) + \pi_j(i)`, with :math:`\pi_i = \alpha \sum_{l=0}^{L} (1-\alpha)^l (P^l)_{i \cdot}` and
    :math:`P = D^{-1} A` (personalised PageRank, truncated at ``max_length`` steps).

    Args:
        method: one of the names above.
        beta: decay of Katz; 0.005 as Liben-Nowell and Kleinberg (2007) use, small enough to converge on most graphs.
        alpha: restart probability of PageRank; 0.15 as in Brin and Page (1998).
        max_length: longest walk; 3 for Katz and 20 for PageRank unless given (0.85^20 < 4 %).

    Raises:
        ArgumentError: an unknown method or a parameter out of range.
    """

    def __init__(
        self, method: Method, *, beta: float = 0.005, alpha: float = 0.15, max_length: int | None = None
    ) -> None:
        _check.choice("method", method, METHODS)
        if not beta > 0:
            raise ArgumentError(f"beta: expected a positive number, got {beta}")
        if not 0 < alpha < 1:
            raise ArgumentError(f"alpha: expected a probability in (0, 1), got {alpha}")
        length = (20 if method == "ppr" else 3) if max_length is None else max_length
        if length < 1:
            raise ArgumentError(f"max_length: expected at least 1, got {max_length}")
        super().__init__(_NoEncoder(), _HeuristicDecoder(method, beta, alpha, length))


class _NoEncoder(nn.Module):
    """Represents nodes by nothing: heuristics read the graph alone."""

    out_channels = 0

    def forward(self, x: Features, graph: CSRGraph) -> Tensor:
        return torch.empty(graph.num_nodes, 0, device=graph.device)

    def reset_parameters(self) -> None:
        """Nothing to reset."""


class _HeuristicDecoder(PairDecoder):
    def __init__(self, method: Method, beta: float, alpha: float, max_length: int) -> None:
        nn.Module.__init__(self)  # no perceptrons
        self.method: Any = method
        self.beta, self.alpha, self.max_length = beta, alpha, max_length

    def forward(self, h: Tensor, graph: CSRGraph, pairs: Tensor, memo: Memo | None = None) -> Tensor:
        if self.method == "katz":
            return self._walk_scores(graph, pairs)
        if self.method == "ppr":
            # A is read as symmetric, so that d_i P^l_ij = d_j P^l_ji and one direction gives the other.
            degree = _positive_degree(graph)
            return self._walk_scores(graph, pairs) * (1 + degree[pairs[0]] / degree[pairs[1]])
        return ops.common_neighbor_scores(graph, pairs, self.method)

    def _walk_scores(self, graph: CSRGraph, pairs: Tensor) -> Tensor:
        """Score of each pair (i, j) from walks that leave i, a block of distinct sources at a time."""
        sources, place = torch.unique(pairs[0], return_inverse=True)
        order = place.argsort(stable=True)
        bounds = torch.searchsorted(
            place[order], torch.arange(0, sources.numel() + _SOURCES, _SOURCES, device=place.device)
        )
        scores = torch.empty(pairs.size(1), device=graph.device)
        for block, (low, high) in enumerate(zip(bounds.tolist(), bounds.tolist()[1:], strict=False)):
            chosen = order[low:high]
            if chosen.numel() == 0:
                continue
            reached = self._propagate(graph, sources[block * _SOURCES : (block + 1) * _SOURCES])
            scores[chosen] = reached[pairs[1, chosen], place[chosen] - block * _SOURCES]
        return scores

    def _propagate(self, graph: CSRGraph, sources: Tensor) -> Tensor:
        """Column s of the result: the score of every node from source s, [N, S]. Reads A as symmetric."""
        walk = torch.zeros(graph.num_nodes, sources.numel(), device=graph.device)
        walk[sources, torch.arange(sources.numel(), device=graph.device)] = 1
        if self.method == "katz":
            total = torch.zeros_like(walk)
            for length in range(1, self.max_length + 1):
                walk = graph.spmm(walk)
                total.add_(walk, alpha=self.beta**length)
            return total
        out_degree = _positive_degree(graph).unsqueeze(1)
        total = self.alpha * walk
        for _ in range(self.max_length):
            walk = graph.spmm(walk / out_degree) * (1 - self.alpha)
            total.add_(walk, alpha=self.alpha)
        return total

    def extra_repr(self) -> str:
        return str(self.method)


def _positive_degree(graph: CSRGraph) -> Tensor:
    """Weighted degrees, 1 for isolated nodes."""
    degree = graph.weighted_degree()
    return torch.where(degree > 0, degree, 1)
