"""Heuristics against dense algebra: walks counted in powers of matrices, scores by set arithmetic."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from graphmem.data import CSRGraph
from graphmem.errors import ArgumentError
from graphmem.models.heuristics import METHODS, Heuristic

NODES = 300  # more than one block of sources


def build(weighted: bool = False, seed: int = 0) -> tuple[CSRGraph, Tensor]:
    """A symmetric graph with isolated nodes and weights below 1, and its dense matrix."""
    generator = torch.Generator().manual_seed(seed)
    edges = torch.randint(0, NODES - 20, (2, 500), generator=generator)
    edges = edges[:, edges[0] < edges[1]]
    weight = torch.rand(edges.size(1), generator=generator) if weighted else None
    graph = CSRGraph.from_edge_index(edges, NODES, symmetric=True, edge_weight=weight)
    dense = torch.zeros(NODES, NODES, dtype=torch.float64)
    values = graph.edge_weight()
    dense[tuple(graph.edge_index())] = 1.0 if values is None else values.double()
    return graph, dense


PAIRS = torch.cat((torch.randint(0, NODES, (2, 2000), generator=torch.Generator().manual_seed(1)),
                   torch.arange(NODES).repeat(2, 1)), dim=1)  # fmt: skip


def scores(method: str, graph: CSRGraph, **options: float) -> Tensor:
    return Heuristic(method, **options).eval()(None, graph, PAIRS).double()


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("length", [1, 3])
def test_katz_sums_weighted_walks(weighted: bool, length: int) -> None:
    graph, a = build(weighted)
    want = sum(0.05**n * torch.linalg.matrix_power(a, n) for n in range(1, length + 1))
    got = scores("katz", graph, beta=0.05, max_length=length)
    torch.testing.assert_close(got, want[tuple(PAIRS)], rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("length", [1, 20])
def test_ppr_adds_both_directions(weighted: bool, length: int) -> None:
    graph, a = build(weighted)
    degree = a.sum(1)
    step = a / torch.where(degree > 0, degree, 1.0)[:, None]
    pi = 0.15 * sum(0.85**n * torch.linalg.matrix_power(step, n) for n in range(length + 1))
    got = scores("ppr", graph, alpha=0.15, max_length=length)
    torch.testing.assert_close(got, (pi + pi.T)[tuple(PAIRS)], rtol=1e-5, atol=1e-9)


def test_neighbourhood_scores_by_sets() -> None:
    graph, a = build()
    sets = [set(row.nonzero().flatten().tolist()) for row in a]
    by_method = {
        "cn": lambda i, j: len(sets[i] & sets[j]),
        "aa": lambda i, j: sum(1 / math.log(len(sets[u])) for u in sets[i] & sets[j] if len(sets[u]) > 1),
        "ra": lambda i, j: sum(1 / len(sets[u]) for u in sets[i] & sets[j]),
        "jaccard": lambda i, j: len(sets[i] & sets[j]) / max(1, len(sets[i] | sets[j])),
    }
    # A node is paired with itself nowhere in practice, and what degree 1 weighs in AA is a convention of its own.
    apart = PAIRS[0] != PAIRS[1]
    for method, want in by_method.items():
        expected = torch.tensor([want(i, j) for i, j in PAIRS.t().tolist()], dtype=torch.float64)
        torch.testing.assert_close(scores(method, graph)[apart], expected[apart], rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_symmetric_and_indifferent_to_the_batch(method: str) -> None:
    graph, _ = build()
    model = Heuristic(method).eval()
    whole = model(None, graph, PAIRS)
    torch.testing.assert_close(model(None, graph, PAIRS.flip(0)), whole)
    torch.testing.assert_close(model(None, graph, PAIRS[:, 100:101]), whole[100:101])
    assert model(None, graph, PAIRS[:, :0]).shape == (0,)


@pytest.mark.parametrize(
    ("name", "options"), [("beta", {"beta": 0}), ("alpha", {"alpha": 1.0}), ("max_length", {"max_length": 0})]
)
def test_bad_arguments_are_named(name: str, options: dict[str, float]) -> None:
    with pytest.raises(ArgumentError, match=f"^{name}: "):
        Heuristic("ppr", **options)
