"""Graph convolutions on :class:`~graphmem.data.CSRGraph`, so that masked edges cost nothing to remove."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from graphmem.data.graph import CSRGraph
from graphmem.errors import ArgumentError
from graphmem.nn.functional import Linear

Aggregation = Literal["gcn", "sum", "mean", "max"]


def propagate(graph: CSRGraph, x: Tensor, aggregation: Aggregation) -> Tensor:
    r"""Aggregate neighbours.

    "gcn": :math:`\hat D^{-1/2}(A + I)\hat D^{-1/2} x` with :math:`\hat d_i = 1 + \sum_j a_{ij}` (Kipf, Welling 2017);
    self-loops already in A stay and the added one comes on top. Others: see :meth:`CSRGraph.spmm`.
    """
    if aggregation != "gcn":
        return graph.spmm(x, aggregation)
    norm = torch.rsqrt(1 + graph.weighted_degree().to(x.dtype)).unsqueeze(1)
    scaled = norm * x
    return norm * (graph.spmm(scaled) + scaled)


class PureConv(nn.Module):
    """Message passing without weights; channels stay as they are."""

    def __init__(self, aggregation: Aggregation) -> None:
        super().__init__()
        self.aggregation = aggregation

    def forward(self, x: Tensor, graph: CSRGraph) -> Tensor:
        """[N, F] to [N, F]."""
        return propagate(graph, x, self.aggregation)

    def reset_parameters(self) -> None:
        """Nothing to reset."""

    def extra_repr(self) -> str:
        """Show the aggregation."""
        return self.aggregation


class LinearConv(nn.Module):
    r"""Linear layer, then aggregation: :math:`\mathrm{propagate}(A, x W^\top) + b`.

    With "gcn" this is Kipf and Welling's layer; with "mean" it is what the NCN authors call "sage" (a mean without root
    weight, not GraphSAGE), with "sum" what they call "gin".
    """

    def __init__(self, in_channels: int, out_channels: int, aggregation: Aggregation) -> None:
        super().__init__()
        self.aggregation = aggregation
        self.lin = Linear(in_channels, out_channels, bias=False)
        self.bias = nn.Parameter(torch.empty(out_channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weights of Glorot and Bengio (2010), zero bias: the draws of PyG's GCNConv."""
        bound = math.sqrt(6 / (self.lin.in_features + self.lin.out_features))
        nn.init.uniform_(self.lin.weight, -bound, bound)
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor, graph: CSRGraph) -> Tensor:
        """[N, in_channels] to [N, out_channels]."""
        return propagate(graph, self.lin(x), self.aggregation) + self.bias

    def extra_repr(self) -> str:
        """Show the aggregation."""
        return self.aggregation


_PURE: dict[str, Aggregation] = {"puregcn": "gcn", "puresum": "sum", "puremean": "mean", "puremax": "max"}
_LINEAR: dict[str, Aggregation] = {"gcn": "gcn", "sage": "mean", "gin": "sum", "max": "max"}
CONVS = (*_LINEAR, *_PURE, "none")


def make_conv(name: str, in_channels: int, out_channels: int) -> nn.Module:
    """Convolution by its name in the NCN paper's code; see :data:`CONVS`.

    Raises:
        ArgumentError: an unknown name, or a pure convolution that would have to change the width.
    """
    if name in _PURE:
        if in_channels != out_channels:
            raise ArgumentError(f"conv: {name!r} keeps the width, got {in_channels} to {out_channels} channels")
        return PureConv(_PURE[name])
    if name in _LINEAR:
        return LinearConv(in_channels, out_channels, _LINEAR[name])
    raise ArgumentError(f"conv: expected one of {', '.join(CONVS)}, got {name!r}")
