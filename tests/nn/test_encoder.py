"""Encoders: the order of layers by hand, dropout where it belongs, PyG modules, errors."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from strategies import features
from torch import Tensor, nn
from torch_geometric.nn import GCN, GraphSAGE

from graphmem.data.graph import CSRGraph
from graphmem.errors import ArgumentError, ArgumentTypeError
from graphmem.nn import GraphEncoder, PyGEncoder, SparseFeatures
from graphmem.nn.conv import propagate

WIDTH = 6
GRAPH = CSRGraph.from_edge_index(
    (torch.rand(12, 12, generator=torch.Generator().manual_seed(0)) > 0.7).nonzero().T.contiguous(), 12, symmetric=True
)
X = features(12, 5, 0)
AGGREGATION = {"gcn": "gcn", "sage": "mean", "gin": "sum", "max": "max"}


def by_hand(encoder: GraphEncoder, conv: str, x: Tensor, *, norm: bool, residual: bool) -> Tensor:
    """Section 2 of the description, in evaluation mode."""
    pure = conv.startswith("pure")
    num_layers = 0 if conv == "none" else len(encoder.convs)
    if encoder.embedding is not None:
        x = encoder.embedding.weight[x]
    elif pure or num_layers == 0:
        assert encoder.input_lin is not None
        x = x @ encoder.input_lin.weight.T + encoder.input_lin.bias
    outputs = []
    for layer in range(num_layers):
        if pure:
            out = propagate(GRAPH, x, conv.removeprefix("pure"))  # type: ignore[arg-type]
        else:
            module: Any = encoder.convs[layer]
            out = propagate(GRAPH, x @ module.lin.weight.T, AGGREGATION[conv]) + module.bias  # type: ignore[arg-type]
            if num_layers == 1 or layer < num_layers - 1:
                if norm:
                    scale: Any = next(m for m in encoder.posts[layer].modules() if isinstance(m, nn.LayerNorm))
                    out = F.layer_norm(out, (WIDTH,), scale.weight, scale.bias)
                out = out.clamp(min=0)
        x = out + x if residual and out.shape == x.shape else out
        outputs.append(x)
    if encoder.jk_weight is not None:
        x = sum(w * out for w, out in zip(encoder.jk_weight, outputs, strict=True))  # type: ignore[assignment]
    return x


@pytest.mark.parametrize("conv", ["gcn", "sage", "gin", "max", "puregcn", "puresum", "puremean", "puremax", "none"])
@pytest.mark.parametrize("num_layers", [0, 1, 2, 3])
@pytest.mark.parametrize("ids", [False, True])
def test_layers(conv: str, num_layers: int, ids: bool) -> None:
    x = torch.randint(0, 20, (12,), generator=torch.Generator().manual_seed(1)) if ids else X
    source: dict[str, Any] = {"in_channels": None, "num_embeddings": 20} if ids else {"in_channels": 5}
    for options in ({}, {"residual": True}, {"jk": True, "norm": False}, {"jk": True, "residual": True}):
        torch.manual_seed(2)
        encoder = GraphEncoder(**source, hidden_channels=WIDTH, num_layers=num_layers, conv=conv, **options).eval()
        with torch.no_grad():
            for parameter in encoder.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        norm, residual = options.get("norm", True), options.get("residual", False)
        expected = by_hand(encoder, conv, x, norm=norm, residual=residual)
        got = encoder(x, GRAPH)
        assert got.shape == (12, encoder.out_channels) == (12, WIDTH)
        torch.testing.assert_close(got, expected)
        torch.testing.assert_close(encoder.train()(x, GRAPH), expected)  # every dropout is 0
        assert (encoder.jk_weight is not None) == (options.get("jk", False) and num_layers > 0 and conv != "none")


def test_residual_needs_equal_widths() -> None:
    torch.manual_seed(0)
    encoder = GraphEncoder(5, WIDTH, 1, conv="gcn", residual=True)  # 5 to 6: nothing to add
    torch.testing.assert_close(encoder(X, GRAPH), by_hand(encoder, "gcn", X, norm=True, residual=False))


def test_default_ids_are_node_numbers() -> None:
    encoder = GraphEncoder(None, WIDTH, conv="puresum", num_embeddings=13)
    assert torch.equal(encoder(None, GRAPH), encoder(torch.arange(12), GRAPH))


def test_embeddings_start_orthogonal() -> None:
    encoder = GraphEncoder(None, WIDTH, num_embeddings=20)
    assert encoder.embedding is not None
    weight = encoder.embedding.weight
    torch.testing.assert_close(weight.T @ weight, torch.eye(WIDTH), rtol=0, atol=1e-5)


@pytest.mark.parametrize("conv", ["gcn", "puregcn", "none"])
def test_sparse_features_give_the_same(conv: str) -> None:
    x = X * (X > 0.3)
    torch.manual_seed(0)
    encoder = GraphEncoder(5, WIDTH, 2, conv=conv, jk=True)
    dense = encoder(x, GRAPH)
    for form in (x.to_sparse_csr(), x.to_sparse_coo(), SparseFeatures.from_tensor(x)):
        torch.testing.assert_close(encoder(form, GRAPH), dense)
    wanted = list(encoder.parameters())
    for one, other in zip(
        torch.autograd.grad(encoder(SparseFeatures.from_tensor(x), GRAPH).square().sum(), wanted),
        torch.autograd.grad(dense.square().sum(), wanted),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def zeros(x: Tensor) -> float:
    return float((x == 0).float().mean())


def test_each_dropout_is_where_it_belongs() -> None:
    """With constant inputs and weights, the share of zeros tells which layer dropped."""
    graph = CSRGraph.from_edge_index(torch.arange(2000).repeat(2, 1), 2000)  # loops: a sum copies its input
    x = torch.ones(2000, 1)
    torch.manual_seed(0)

    def output(**options: Any) -> Tensor:
        encoder = GraphEncoder(1, 8, 2, conv="puresum", **options).train()
        assert encoder.input_lin is not None
        nn.init.ones_(encoder.input_lin.weight)
        nn.init.zeros_(encoder.input_lin.bias)
        return encoder(x, graph)

    assert zeros(output()) == 0
    whole_rows = output(input_dropout=0.5)
    assert zeros(whole_rows) == pytest.approx(0.5, abs=0.05)
    assert bool((whole_rows == whole_rows[:, :1]).all())
    single = output(dropout=0.25)
    assert zeros(single) == pytest.approx(0.25, abs=0.02)  # once: pure layers have no dropout between them
    assert float(single.mean()) == pytest.approx(1, abs=0.03)
    assert zeros(output(tail_dropout=0.4)) == pytest.approx(0.4, abs=0.02)  # after the last only
    edges = output(edge_dropout=0.5)
    assert zeros(edges) == pytest.approx(0.75, abs=0.05)  # a fresh mask in each of two layers
    assert set(edges.unique().tolist()) == {0.0, 4.0}  # and each rescales
    for options in ({"input_dropout": 0.5}, {"dropout": 0.25}, {"tail_dropout": 0.4}, {"edge_dropout": 0.5}):
        encoder = GraphEncoder(1, 8, 2, conv="puresum", **options).eval()
        assert torch.equal(encoder(x, graph), encoder(x, graph)), options


def test_dropout_of_linear_layers_and_embeddings() -> None:
    graph = CSRGraph.from_edge_index(torch.arange(2000).repeat(2, 1), 2000)
    torch.manual_seed(0)
    encoder = GraphEncoder(None, 8, 0, conv="none", num_embeddings=2000, dropout=0.3).train()
    assert zeros(encoder(None, graph)) == pytest.approx(0.3, abs=0.02)
    encoder = GraphEncoder(1, 8, 1, conv="gin", dropout=0.3, norm=False).train()
    nn.init.ones_(encoder.convs[0].lin.weight)  # type: ignore[union-attr]
    assert zeros(encoder(torch.ones(2000, 1), graph)) == pytest.approx(0.3, abs=0.02)
    encoder = GraphEncoder(8, 8, 1, conv="gin", input_dropout=0.3, norm=False).train()
    nn.init.eye_(encoder.convs[0].lin.weight)  # type: ignore[union-attr,arg-type]
    assert zeros(encoder(torch.ones(2000, 8), graph)) == pytest.approx(0.3, abs=0.02)
    wide = SparseFeatures.from_tensor(torch.ones(2000, 8))
    assert zeros(encoder(wide, graph)) == pytest.approx(0.3, abs=0.02)


@pytest.mark.parametrize("make", [GCN, GraphSAGE])
def test_pyg_encoders(make: Any) -> None:
    torch.manual_seed(0)
    module = make(5, 8, 2, out_channels=7)
    encoder = PyGEncoder(module)
    assert encoder.out_channels == 7
    targets = torch.tensor([[0, 1], [3, 2]])
    view = GRAPH.without_edges(targets)
    assert torch.equal(encoder(X, view), module(X, view.edge_index()))
    assert torch.equal(encoder(SparseFeatures.from_tensor(X), view), module(X, view.edge_index()))
    before = [p.clone() for p in module.parameters()]
    encoder.reset_parameters()
    assert any(not torch.equal(a, b) for a, b in zip(before, module.parameters(), strict=True))


def test_pyg_encoder_passes_weights() -> None:
    edges = torch.tensor([[0, 1, 2], [1, 2, 0]])
    weight = torch.tensor([0.5, 1.0, 2.0])
    graph = CSRGraph.from_edge_index(edges, 3, weight)
    module = GCN(5, 8, 1, out_channels=7)
    x = features(3, 5, 0)
    torch.testing.assert_close(PyGEncoder(module)(x, graph), module(x, edges, weight))
    assert not torch.allclose(PyGEncoder(module)(x, graph), module(x, edges))


def test_pyg_encoder_needs_a_width() -> None:
    with pytest.raises(ArgumentError, match="out_channels.*Identity"):
        PyGEncoder(nn.Identity())
    assert PyGEncoder(nn.Identity(), 5).out_channels == 5


def test_jk_weights_are_normal() -> None:
    torch.manual_seed(0)
    encoder = GraphEncoder(5, 4, 3000, conv="puresum", jk=True)
    assert encoder.jk_weight is not None
    assert float(encoder.jk_weight.mean()) == pytest.approx(0, abs=0.08)
    assert float(encoder.jk_weight.std()) == pytest.approx(1, abs=0.08)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"in_channels": None}, "in_channels and num_embeddings.*None and None"),
        ({"in_channels": 3, "num_embeddings": 4}, "in_channels and num_embeddings.*3 and 4"),
        ({"in_channels": 3, "conv": "gcn_cached"}, "conv:.*'gcn_cached'"),
    ],
)
def test_bad_constructor(arguments: dict[str, Any], match: str) -> None:
    with pytest.raises(ArgumentError, match=match):
        GraphEncoder(hidden_channels=4, **arguments)


@pytest.mark.parametrize(
    ("x", "match"),
    [
        (None, "x:.*num_embeddings"),
        (torch.ones(12), r"x:.*\[12, 5\].*\[12\]"),
        (torch.ones(12, 4), r"x:.*\[12, 5\].*\[12, 4\]"),
        (torch.ones(11, 5), r"x:.*\[12, 5\].*\[11, 5\]"),
        (torch.ones(11, 5).to_sparse_csr(), r"x:.*\[12, 5\].*\[11, 5\]"),
        (torch.ones(12, 5, dtype=torch.int64), "x:.*float"),
        ([[1.0] * 5] * 12, "x:.*list"),
    ],
)
def test_bad_features(x: object, match: str) -> None:
    with pytest.raises((ArgumentError, ArgumentTypeError), match=match):
        GraphEncoder(5, WIDTH)(x, GRAPH)


def test_bad_ids() -> None:
    encoder = GraphEncoder(None, WIDTH, num_embeddings=10)
    with pytest.raises(ArgumentError, match=r"x:.*\[0, 10\)"):
        encoder(None, GRAPH)  # 12 nodes
    with pytest.raises(ArgumentError, match=r"x:.*\[12\]"):
        encoder(torch.zeros(5, dtype=torch.int64), GRAPH)
    with pytest.raises(ArgumentError, match="x:.*int64"):
        encoder(torch.zeros(12), GRAPH)
