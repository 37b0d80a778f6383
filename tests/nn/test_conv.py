"""Convolutions against dense formulas and against PyG's GCNConv."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import SEEDS, features
from torch import Tensor
from torch_geometric.nn import GCNConv

from graphmem.data.graph import CSRGraph
from graphmem.errors import ArgumentError
from graphmem.nn.conv import CONVS, LinearConv, PureConv, make_conv, propagate


def build(seed: int, weighted: bool, masked: bool, size: int = 8) -> tuple[CSRGraph, Tensor]:
    """A graph (symmetric, with loops) and its dense matrix."""
    generator = torch.Generator().manual_seed(seed)
    edges = (torch.rand(size, size, generator=generator).triu() > 0.7).nonzero().T.contiguous()
    weight = torch.rand(edges.size(1), generator=generator, dtype=torch.float64) if weighted else None
    graph = CSRGraph.from_edge_index(edges, size, weight, symmetric=True)
    if masked:
        graph = graph.without_edges(edges[:, ::2]).drop_edges(0.3, generator=generator)
    return graph, graph.to_torch_csr().to_dense().double()


def dense(name: str, adjacency: Tensor, x: Tensor) -> Tensor:
    there = adjacency != 0
    if name == "gcn":
        full = adjacency + torch.eye(len(adjacency))
        root = (1 + adjacency.sum(1)) ** -0.5
        return root.diag().double() @ full @ root.diag().double() @ x
    if name == "max":
        messages = (adjacency.unsqueeze(2) * x).masked_fill(~there.unsqueeze(2), -torch.inf)
        return messages.amax(1).masked_fill(~there.any(1, keepdim=True), 0)
    out = adjacency @ x
    return out / there.sum(1, keepdim=True).clamp(min=1) if name == "mean" else out


NAMES = {"gcn": "gcn", "sage": "mean", "gin": "sum", "max": "max"}


@settings(max_examples=15)
@given(SEEDS, st.booleans(), st.booleans())
def test_convolutions_match_dense(seed: int, weighted: bool, masked: bool) -> None:
    graph, adjacency = build(seed, weighted, masked)
    x = features(8, 3, seed, torch.float64)
    for name, aggregation in NAMES.items():
        expected = dense(aggregation, adjacency, x)
        pure = make_conv(f"pure{aggregation}", 3, 3)
        assert isinstance(pure, PureConv)
        assert not list(pure.parameters())
        torch.testing.assert_close(pure(x, graph), expected, rtol=1e-6, atol=1e-6)
        linear = make_conv(name, 3, 4)
        assert isinstance(linear, LinearConv)
        linear = linear.double()
        torch.nn.init.normal_(linear.bias)
        expected = dense(aggregation, adjacency, x @ linear.lin.weight.T) + linear.bias
        torch.testing.assert_close(linear(x, graph), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_gcn_is_pygs(weighted: bool, masked: bool) -> None:
    generator = torch.Generator().manual_seed(1)
    edges = (torch.rand(20, 20, generator=generator) > 0.85).nonzero()
    edges = edges[edges[:, 0] != edges[:, 1]].T.contiguous()  # PyG adds the loop only where there is none
    weight = torch.rand(edges.size(1), generator=generator) if weighted else None
    graph = CSRGraph.from_edge_index(edges, 20, weight)  # directed
    if masked:
        graph = graph.without_edges(edges[:, ::3])
    ours, theirs = LinearConv(5, 4, "gcn"), GCNConv(5, 4)
    for layer in (ours, theirs):  # the same draws, too
        torch.manual_seed(1)
        layer.reset_parameters()
    assert torch.equal(ours.lin.weight, theirs.lin.weight)
    theirs.load_state_dict(ours.state_dict())
    x = features(20, 5, 0)
    torch.testing.assert_close(ours(x, graph), theirs(x, graph.edge_index(), graph.edge_weight()))
    for one, other in zip(
        torch.autograd.grad(ours(x, graph).square().sum(), ours.parameters()),
        torch.autograd.grad(theirs(x, graph.edge_index(), graph.edge_weight()).square().sum(), theirs.parameters()),
        strict=True,
    ):
        assert one.shape == other.shape or one.T.shape == other.shape
    by_name = dict(theirs.named_parameters())
    ours(x, graph).square().sum().backward()
    theirs(x, graph.edge_index(), graph.edge_weight()).square().sum().backward()
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, by_name[name].grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("aggregation", ["gcn", "sum", "mean", "max"])
def test_gradients(aggregation: str) -> None:
    edges = torch.tensor([[0, 1, 2, 2, 3], [1, 2, 3, 0, 3]])
    weight = torch.tensor([0.5, 1.5, 2.0, 0.7, 1.0], dtype=torch.float64, requires_grad=True)
    x = features(5, 2, 0, torch.float64).requires_grad_()

    def run(x: Tensor, weight: Tensor) -> Tensor:
        return propagate(CSRGraph.from_edge_index(edges, 5, weight, symmetric=True), x, aggregation)  # type: ignore[arg-type]

    assert torch.autograd.gradcheck(run, (x, weight))


def test_names() -> None:
    assert set(CONVS) == {"gcn", "sage", "gin", "max", "puregcn", "puresum", "puremean", "puremax", "none"}
    with pytest.raises(ArgumentError, match="conv:.*puregcn.*'gat'"):
        make_conv("gat", 2, 2)
    with pytest.raises(ArgumentError, match="conv:.*2 to 3"):
        make_conv("puresum", 2, 3)


def test_reset_is_a_function_of_the_seed() -> None:
    conv = LinearConv(4, 3, "gcn")
    with torch.no_grad():
        conv.bias.fill_(1)
    torch.manual_seed(3)
    conv.reset_parameters()
    first = conv.lin.weight.clone()
    assert not bool(conv.bias.any())
    conv.reset_parameters()
    assert not torch.equal(conv.lin.weight, first)
    torch.manual_seed(3)
    conv.reset_parameters()
    assert torch.equal(conv.lin.weight, first)
