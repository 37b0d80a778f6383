"""Frame of every link prediction model: encode nodes once, decode pairs, remove targets in training."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from graphmem.data.convert import to_csr
from graphmem.data.graph import CSRGraph
from graphmem.errors import ArgumentTypeError
from graphmem.nn.decoder import Memo, PairDecoder, work_chunks
from graphmem.nn.encoder import GraphEncoder, PyGEncoder
from graphmem.nn.features import Features, as_features
from graphmem.ops import _check


class LinkModel(nn.Module):
    """An encoder of nodes and a decoder of pairs.

    Args:
        encoder: ``encoder(x, graph) -> h`` with an attribute ``out_channels``; any other module is wrapped by
            :class:`~graphmem.nn.PyGEncoder` and called as ``encoder(x, edge_index[, edge_weight])``.
        decoder: ``decoder(h, graph, pairs, memo) -> logits``.
    """

    def __init__(self, encoder: nn.Module, decoder: PairDecoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder

    def reset_parameters(self) -> None:
        """Reset encoder and decoder."""
        self.encoder.reset_parameters()  # type: ignore[operator]
        self.decoder.reset_parameters()

    def encode(self, x: Features, graph: CSRGraph) -> Tensor:
        """Represent every node: features (dense, sparse, ids or ``None``) to h [N, channels]."""
        h: Tensor = self.encoder(as_features(x), graph)
        return h

    def decode(self, h: Tensor, graph: CSRGraph, pairs: Tensor, memo: Memo | None = None) -> Tensor:
        """Logits [P] of pairs int64 [2, P], given node representations and the graph whose neighbourhoods count.

        In training the caller decides which targets ``graph`` still holds; :meth:`forward` removes them itself.
        """
        pairs = _check.pairs("pairs", pairs, graph, graph)
        logits: Tensor = self.decoder(h, graph, pairs, memo)
        return logits

    @torch.no_grad()
    def score(self, h: Tensor, graph: CSRGraph, pairs: Tensor, memo: Memo | None = None) -> Tensor:
        """Evaluate many pairs: logits [P] in bounded memory, sharing between chunks what does not depend on the pair.

        Chunks are cut by the number of neighbour entries they touch, not by the number of pairs.

        Args:
            h: [N, channels], from :meth:`encode` in evaluation mode.
            graph: the graph to score on.
            pairs: int64 [2, P].
            memo: pass the same one to calls with the same h and graph, and they share what does not depend on the pair.
        """
        pairs = _check.pairs("pairs", pairs, graph, graph)
        memo = Memo() if memo is None else memo
        out = [self.decoder(h, graph, chunk, memo) for chunk in work_chunks(graph, pairs)]
        return torch.cat(out) if out else h.new_empty(0)

    def forward(
        self,
        x: Any,
        edge_index: Any,
        edge_label_index: Tensor,
        edge_weight: Tensor | None = None,
        *,
        num_nodes: int | None = None,
        remove_targets: bool = True,
    ) -> Tensor:
        """Logits of node pairs.

        Args:
            x: features [N, F] (dense or sparse), ids int64 [N], or ``None`` for a model with ``num_embeddings``.
            edge_index: the graph in any form that :func:`graphmem.data.to_csr` reads. It should hold both directions
                of undirected edges, as PyG's ``RandomLinkSplit(is_undirected=True)`` gives.
            edge_label_index: int64 [2, P].
            edge_weight: [E].
            num_nodes: number of nodes, where neither ``x`` nor the graph says it.
            remove_targets: in training mode, take every pair of ``edge_label_index`` that is an edge out of the graph
                first (both directions, all copies), for encoder and neighbourhoods alike. Without it the model reads
                the label that it is to predict.

        Returns:
            [P].

        Raises:
            ArgumentError: wrong shapes, dtypes or ids.
            ArgumentTypeError: heterogeneous input.
        """
        if isinstance(x, dict):
            raise ArgumentTypeError("x: expected the features of one node type, got a dict (heterogeneous data)")
        x = as_features(x)
        if num_nodes is None and x is not None:
            num_nodes = x.size(0)
        if num_nodes is None:
            num_nodes = getattr(self.encoder, "num_embeddings", None)
        graph = to_csr(edge_index, num_nodes, edge_weight)
        if self.training and remove_targets:
            graph = graph.without_edges(edge_label_index)
        return self.decode(self.encode(x, graph), graph, edge_label_index)


def as_encoder(encoder: nn.Module) -> nn.Module:
    """Wrap a PyG module; leave encoders that read a :class:`CSRGraph` as they are."""
    return encoder if isinstance(encoder, GraphEncoder | PyGEncoder) else PyGEncoder(encoder)
