"""Node encoders for link prediction."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from graphmem.data.graph import CSRGraph
from graphmem.errors import ArgumentError
from graphmem.nn.conv import CONVS, make_conv
from graphmem.nn.features import Features, SparseFeatures, as_features
from graphmem.nn.functional import dropout, linear
from graphmem.nn.heads import hidden_end
from graphmem.ops import _check


class GraphEncoder(nn.Module):
    r"""Message-passing encoder of the NCN paper (Wang, Yang, Zhang, ICLR 2024; layer order of the released code).

    Input: dropout on the features and, for weightless ("pure") convolutions, a linear layer; or an embedding of integer
    ids. Layer l: :math:`x^{(l+1)} = \mathrm{ReLU}(\mathrm{Drop}(\mathrm{LN}(\mathrm{conv}(A, x^{(l)}))))`, without the
    three in the last of two or more layers; pure convolutions have nothing between layers and a dropout after the last.

    Args:
        in_channels: features per node; ``None`` with ``num_embeddings``.
        hidden_channels: width of all layers and of the output.
        num_layers: number of convolutions.
        conv: one of :data:`graphmem.nn.conv.CONVS`.
        num_embeddings: learn one vector an id instead of reading features; ``x`` is then int64 [N], or ``None`` for
            ``arange(N)``.
        norm: LayerNorm after each convolution (not after pure ones).
        residual: add a layer's input to its output where widths agree.
        jk: output :math:`\sum_l w_l x^{(l)}` with learned :math:`w_l`, drawn from N(0, 1).
        input_dropout: on the features.
        dropout: after the input layer and in each layer.
        tail_dropout: after the last pure convolution.
        edge_dropout: on the directed edges, anew in each layer, kept values rescaled.

    Raises:
        ArgumentError: arguments that do not fit each other.
    """

    def __init__(
        self,
        in_channels: int | None,
        hidden_channels: int,
        num_layers: int = 1,
        *,
        conv: str = "puregcn",
        num_embeddings: int | None = None,
        norm: bool = True,
        residual: bool = False,
        jk: bool = False,
        input_dropout: float = 0.0,
        dropout: float = 0.0,
        tail_dropout: float = 0.0,
        edge_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if (in_channels is None) == (num_embeddings is None):
            raise ArgumentError(
                f"in_channels and num_embeddings: expected exactly one of them, got {in_channels} and {num_embeddings}"
            )
        if conv not in CONVS:
            raise ArgumentError(f"conv: expected one of {', '.join(CONVS)}, got {conv!r}")
        self.in_channels, self.hidden_channels, self.num_embeddings = in_channels, hidden_channels, num_embeddings
        self.residual = residual
        self.input_dropout, self.dropout = input_dropout, dropout
        self.tail_dropout, self.edge_dropout = tail_dropout, edge_dropout
        self.pure = conv.startswith("pure")
        if conv == "none":
            num_layers = 0
        self.embedding = nn.Embedding(num_embeddings, hidden_channels) if num_embeddings is not None else None
        width = hidden_channels if in_channels is None else in_channels
        self.input_lin: nn.Linear | None = None
        if in_channels is not None and (self.pure or num_layers == 0):
            self.input_lin, width = nn.Linear(in_channels, hidden_channels), hidden_channels
            # Stored column by column: sparse features read whole columns, and a copy a step costs as much as the layer.
            self.input_lin.weight.data = self.input_lin.weight.data.t().contiguous().t()
        self.convs, self.posts = nn.ModuleList(), nn.ModuleList()
        for layer in range(num_layers):
            self.convs.append(make_conv(conv, width, hidden_channels))
            bare = self.pure or (layer > 0 and layer == num_layers - 1)
            self.posts.append(nn.Identity() if bare else hidden_end(hidden_channels, dropout, norm))
            width = hidden_channels
        self.out_channels = width
        self.jk_weight = nn.Parameter(torch.empty(num_layers)) if jk and num_layers else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Orthogonal embeddings, N(0, 1) jumping-knowledge weights, torch's and PyG's defaults for the rest."""
        if self.embedding is not None:
            nn.init.orthogonal_(self.embedding.weight)
        if self.input_lin is not None:
            self.input_lin.reset_parameters()
        for conv in self.convs:
            conv.reset_parameters()  # type: ignore[operator]
        for post in self.posts.modules():
            if isinstance(post, nn.LayerNorm):
                post.reset_parameters()
        if self.jk_weight is not None:
            nn.init.normal_(self.jk_weight)

    def _input(self, x: Any, num_nodes: int) -> Tensor:
        if self.embedding is not None:
            if x is None:
                x = torch.arange(num_nodes, device=self.embedding.weight.device)
            x = _check.tensor("x", x, shape=(num_nodes,), dtypes=(torch.int64,))
            _check.in_range("x", x, self.embedding.num_embeddings)
            return dropout(self.embedding(x), self.dropout, self.training)
        x = as_features(x)
        if x is None:
            raise ArgumentError(
                "x: expected node features, got None; for a graph without features give the model num_embeddings"
            )
        if not isinstance(x, SparseFeatures):
            x = _check.tensor("x", x, shape=(num_nodes, self.in_channels), dtypes=_check.FLOAT_DTYPES)
        elif x.shape != (num_nodes, self.in_channels):
            raise ArgumentError(f"x: expected features [{num_nodes}, {self.in_channels}], got {list(x.shape)}")
        input_dropout = self.input_dropout if self.training else 0.0
        if self.input_lin is not None:
            if isinstance(x, SparseFeatures):
                x = x.linear(self.input_lin.weight, self.input_lin.bias, input_dropout)
            else:
                weight = self.input_lin.weight.contiguous()  # the layout whose gradient is a plain product
                x = linear(dropout(x, input_dropout, self.training), weight, self.input_lin.bias)
            return dropout(x, self.dropout, self.training)
        if isinstance(x, SparseFeatures):
            x = x.to_dense()
        return dropout(x, input_dropout, self.training)

    def forward(self, x: Features, graph: CSRGraph) -> Tensor:
        """Encode every node.

        Args:
            x: features [N, in_channels] (dense, torch sparse or :class:`SparseFeatures`), or ids int64 [N].
            graph: graph with N nodes.

        Returns:
            [N, hidden_channels].
        """
        h = self._input(x, graph.num_nodes)
        outputs = []
        for layer, (conv, post) in enumerate(zip(self.convs, self.posts, strict=True)):
            seen = graph.drop_edges(self.edge_dropout) if self.training and self.edge_dropout > 0 else graph
            out = post(conv(h, seen))
            if self.pure and layer == len(self.convs) - 1:
                out = dropout(out, self.tail_dropout, self.training)
            h = out + h if self.residual and out.shape == h.shape else out
            outputs.append(h)
        if self.jk_weight is not None:
            # Expanded, so that the gradient is summed by columns first: one long sum would depend on the threads.
            weights = self.jk_weight.unsqueeze(1).expand(-1, h.size(1))
            h = outputs[0] * weights[0]
            for out, weight in zip(outputs[1:], weights[1:], strict=True):
                h = h + out * weight
        return h

    def extra_repr(self) -> str:
        """Show the widths."""
        source = f"num_embeddings={self.num_embeddings}" if self.in_channels is None else f"{self.in_channels}"
        return f"{source}, {self.hidden_channels}, num_layers={len(self.convs)}"


class PyGEncoder(nn.Module):
    """Adapter that lets any PyG module ``module(x, edge_index[, edge_weight])`` serve as the encoder of a link model.

    Args:
        module: the PyG model, e.g. ``torch_geometric.nn.GCN``.
        out_channels: its output width; read from ``module.out_channels`` by default.

    Raises:
        ArgumentError: the width is unknown.
    """

    def __init__(self, module: nn.Module, out_channels: int | None = None) -> None:
        super().__init__()
        self.module = module
        width = out_channels if out_channels is not None else getattr(module, "out_channels", None)
        if not isinstance(width, int):
            raise ArgumentError(f"out_channels: {type(module).__name__} does not say its output width; pass it")
        self.out_channels = width

    def reset_parameters(self) -> None:
        """Reset the wrapped module."""
        if hasattr(self.module, "reset_parameters"):
            self.module.reset_parameters()  # type: ignore[operator]

    def forward(self, x: Features, graph: CSRGraph) -> Tensor:
        """Encode with the edges that are present; weights are passed on where the graph has them."""
        if isinstance(x, SparseFeatures):
            x = x.to_dense()
        weight = graph.edge_weight()
        edges = (graph.edge_index(),) if weight is None else (graph.edge_index(), weight)
        out: Tensor = self.module(x, *edges)
        return out
