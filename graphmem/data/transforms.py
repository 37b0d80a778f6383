"""PyG transforms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch_geometric.transforms import BaseTransform

from graphmem import ops
from graphmem.data.convert import to_csr
from graphmem.errors import ArgumentError, ArgumentTypeError
from graphmem.ops import _check


class AddPairScores(BaseTransform):  # type: ignore[misc]
    """Add neighbourhood scores (CN, AA, RA, Jaccard) of node pairs to a PyG ``Data``.

    Pairs that are edges of the graph see the graph without themselves: a score that counts the edge which it is to
    predict would leak its label.

    Args:
        methods: any of "cn", "aa", "ra", "jaccard"; see :func:`graphmem.ops.common_neighbor_scores`.
        pairs: attribute that holds the pairs, int64 [2, P].
        out: attribute that receives the scores, float32 [P, len(methods)].
        remove_targets: leave out of the graph every pair that is an edge.

    Raises:
        ArgumentError: an unknown method, or a ``Data`` without the pairs.
        ArgumentTypeError: heterogeneous data.
    """

    def __init__(
        self,
        methods: Sequence[str] = ("cn", "aa", "ra", "jaccard"),
        *,
        pairs: str = "edge_label_index",
        out: str = "pair_scores",
        remove_targets: bool = True,
    ) -> None:
        self.methods = tuple(_check.choice("methods", method, ("cn", "aa", "ra", "jaccard")) for method in methods)
        self.pairs, self.out, self.remove_targets = pairs, out, remove_targets

    def forward(self, data: Any) -> Any:
        """Return ``data`` with the scores added."""
        if hasattr(data, "node_types"):
            raise ArgumentTypeError(f"data: expected homogeneous Data, got {type(data).__name__}")
        pairs = getattr(data, self.pairs, None)
        if pairs is None:
            raise ArgumentError(
                f"data: expected an attribute {self.pairs!r} with node pairs, found {list(data.keys())}"
            )
        graph = to_csr(data)
        if self.remove_targets:
            graph = graph.without_edges(pairs)
        scores = [ops.common_neighbor_scores(graph, pairs, method) for method in self.methods]  # type: ignore[arg-type]
        data[self.out] = torch.stack(scores, dim=1)
        return data
