"""Generators and their random numbers: exact arithmetic, the stated distribution, the oracle's claim."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from graphmem.data._random import below, distinct_below, draws, permutation
from graphmem.data.cache import array_sha256
from graphmem.data.generators import GeneratedGraph, dcsbm, power_law
from graphmem.data.splits import split_edges
from graphmem.errors import ArgumentError

MASK = (1 << 64) - 1


def python_draw(seed: int, key: int, n: int) -> int:
    """docs/architecture.md, in Python's integers."""

    def mix(z: int) -> int:
        z &= MASK
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        return z ^ (z >> 31)

    stream = mix(mix(seed + 0x9E3779B97F4A7C15) ^ ((key * 0xD1342543DE82EF95 + 0x9E3779B97F4A7C15) & MASK))
    return mix(stream + (n + 1) * 0x9E3779B97F4A7C15)


@given(st.integers(-(2**70), 2**70), st.integers(0, 2**62), st.integers(0, 10**9), st.integers(1, 2**63 - 1))
def test_draws_follow_the_document(seed: int, key: int, start: int, bound: int) -> None:
    found = draws(seed, key, 3, start)
    expected = [python_draw(seed, key, start + n) for n in range(3)]
    assert found.tolist() == expected
    assert below(found, bound).tolist() == [(h * bound) >> 64 for h in expected]


@given(st.integers(0, 2**32), st.integers(0, 60), st.data())
def test_distinct_below(seed: int, bound: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(0, bound))
    values = distinct_below(seed, 1, bound, count)
    assert len(set(values.tolist())) == values.size == count
    assert all(0 <= v < bound for v in values.tolist())
    assert sorted(permutation(seed, 2, bound).tolist()) == list(range(bound))


@pytest.mark.parametrize("closure", [0.0, 0.4])
def test_dcsbm_has_the_stated_sizes(closure: float) -> None:
    graph = dcsbm(2000, 8, 12.0, triadic_closure=closure, num_features=64, seed=2)
    assert isinstance(graph, GeneratedGraph)
    assert (graph.num_nodes, graph.num_edges, graph.num_classes, graph.num_features) == (2000, 12_000, 8, 64)
    assert graph.base_edges.size(1) == 12_000 - int(closure * 12_000)
    assert graph.y is not None
    assert torch.bincount(graph.y).tolist() == [250] * 8
    assert torch.equal(torch.unique(graph.edge_index, dim=1), graph.edge_index)


def test_mixing_decides_how_many_edges_cross_blocks() -> None:
    for mixing in (0.0, 0.5, 1.0):
        graph = dcsbm(3000, 5, 10.0, mixing=mixing, triadic_closure=0.0)
        src, dst = graph.edge_index
        crossing = float((graph.block[src] != graph.block[dst]).double().mean())
        # a mixed draw crosses with probability 1 - sum of squared shares
        share = graph.affinity.sum(dim=1)
        assert crossing == pytest.approx(mixing * float(1 - (share**2).sum()), abs=0.015)


def test_base_draws_follow_the_stated_probability() -> None:
    """Edges in classes of the oracle's probability occur as often as it says, over many seeds."""
    hits, expected = np.zeros(8), np.zeros(8)
    pairs = torch.triu_indices(40, 40, 1)
    for seed in range(60):
        graph = dcsbm(40, 4, 4.0, triadic_closure=0.25, seed=seed)
        chance = torch.sigmoid(graph.best_scores(pairs)).numpy()
        keys = set((graph.edge_index[0] * 40 + graph.edge_index[1]).tolist())
        is_edge = np.array([key in keys for key in (pairs[0] * 40 + pairs[1]).tolist()])
        bin_ = np.minimum((chance * 16).astype(int), 7)
        hits += np.bincount(bin_, weights=is_edge, minlength=8)
        expected += np.bincount(bin_, weights=chance, minlength=8)
    full = expected > 100
    assert full.sum() >= 5
    np.testing.assert_allclose(hits[full], expected[full], rtol=0.15)


def auc(positive: torch.Tensor, negative: torch.Tensor) -> float:
    order = torch.cat([positive, negative]).numpy()
    rank = np.empty(order.size)
    _, place, count = np.unique(order, return_inverse=True, return_counts=True)
    rank = (np.cumsum(count) - (count - 1) / 2)[place.ravel()]
    n, m = positive.numel(), negative.numel()
    return float((rank[:n].sum() - n * (n + 1) / 2) / (n * m))


def test_the_oracle_beats_simpler_scores_and_closure_makes_common_neighbours_matter() -> None:
    def scores(closure: float) -> dict[str, float]:
        graph = dcsbm(3000, 10, 10.0, triadic_closure=closure, seed=1)
        split = split_edges(graph, protocol="random", seed=0)
        assert split.test_neg is not None
        adjacency = torch.zeros(3000, 3000)
        adjacency[split.train[0], split.train[1]] = adjacency[split.train[1], split.train[0]] = 1
        common = adjacency @ adjacency
        ways = {
            "oracle": graph.best_scores,
            "block": lambda p: (graph.block[p[0]] == graph.block[p[1]]).double(),
            "degree": lambda p: graph.weight[p[0]] * graph.weight[p[1]],
            "common": lambda p: common[p[0], p[1]].double(),
        }
        return {name: auc(way(split.test), way(split.test_neg)) for name, way in ways.items()}

    without, with_closure = scores(0.0), scores(0.5)
    for result in (without, with_closure):
        assert result["oracle"] > max(result["block"], result["degree"], result["common"]) + 0.03
    assert with_closure["common"] > without["common"] + 0.1


def test_closure_probability_equals_a_loop() -> None:
    graph = dcsbm(60, 3, 6.0, triadic_closure=0.3, seed=4)
    neighbours: list[set[int]] = [set() for _ in range(60)]
    for i, j in graph.base_edges.t().tolist():
        neighbours[i].add(j)
        neighbours[j].add(i)
    total = sum(len(n) for n in neighbours if len(n) >= 2)
    size = [float(graph.weight[graph.block == b].sum()) for b in range(3)]
    pairs = torch.triu_indices(60, 60, 1)
    for (i, j), score in zip(pairs.t().tolist(), graph.best_scores(pairs).tolist(), strict=True):
        b, c = int(graph.block[i]), int(graph.block[j])
        base = 2 * float(graph.affinity[b, c] * graph.weight[i] * graph.weight[j]) / (size[b] * size[c])
        closing = sum(2 / ((len(neighbours[k]) - 1) * total) for k in neighbours[i] & neighbours[j])
        rate = graph.base_draws * base + graph.closure_draws * closing
        assert score == pytest.approx(float(np.log(np.expm1(rate))), rel=1e-9)


def test_features_carry_the_block() -> None:
    graph = dcsbm(500, 5, 6.0, num_features=100, feature_signal=0.8, words_per_node=30)
    assert graph.x is not None
    assert graph.x.layout == torch.sparse_csr
    dense = graph.x.to_dense()
    assert set(dense.unique().tolist()) == {0.0, 1.0}
    words_of_block = dense.reshape(500, 5, 20).sum(dim=2).argmax(dim=1)
    assert float((words_of_block == graph.block).double().mean()) > 0.95
    blind = dcsbm(500, 5, 6.0, num_features=100, feature_signal=0.0, words_per_node=30)
    assert blind.x is not None
    blind_words = blind.x.to_dense().reshape(500, 5, 20).sum(dim=2).argmax(dim=1)
    assert float((blind_words == blind.block).double().mean()) < 0.4


def test_power_law_tail_and_sizes() -> None:
    graph = power_law(20_000, 80_000, exponent=2.5, triadic_closure=0.3, seed=1)
    assert (graph.num_nodes, graph.num_edges, graph.y) == (20_000, 80_000, None)
    degree = torch.bincount(graph.edge_index.reshape(-1), minlength=20_000).double()
    assert float(degree.max()) > 30 * float(degree.mean())
    big = degree[degree >= 20]
    hill = 1 + big.numel() / float(torch.log(big / 19.5).sum())
    assert 2.0 < hill < 3.2
    corner = torch.corrcoef(torch.stack([torch.arange(20_000.0).double(), degree]))[0, 1]
    assert abs(float(corner)) < 0.05  # node numbers do not reveal degrees


def test_generated_graphs_are_frozen() -> None:
    """The same seed gives the same graph on every machine: these digests must never change."""
    graph = dcsbm(300, 3, 8.0, num_features=30, seed=7)
    assert array_sha256(edge_index=graph.edge_index, x=graph.x, y=graph.y) == FROZEN_DCSBM
    assert array_sha256(edge_index=power_law(500, 1500, seed=7).edge_index) == FROZEN_POWER_LAW
    assert not torch.equal(power_law(500, 1500, seed=8).edge_index, power_law(500, 1500, seed=7).edge_index)


FROZEN_DCSBM = "a24d57c6da174e374fd439dbf20fc37dec08f5fd84e1df4f9fbed50c7ac55dcc"
FROZEN_POWER_LAW = "2fce73635fed03c57d65c8c681381d3efa29e2ab5bd20578067f05c908fdff8d"


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: dcsbm(100, 0), "num_blocks: expected"),
        (lambda: dcsbm(100, 101), "num_blocks: expected"),
        (lambda: dcsbm(100, 4, mixing=1.5), "mixing: expected"),
        (lambda: dcsbm(100, 4, feature_signal=-1), "feature_signal: expected"),
        (lambda: dcsbm(100, 4, num_features=3), "num_features: expected"),
        (lambda: dcsbm(100, 4, exponent=2.0), "exponent: expected"),
        (lambda: dcsbm(100, 4, triadic_closure=1.0), "triadic_closure: expected"),
        (lambda: dcsbm(100, 4, mean_degree=0.0), "num_edges: expected"),
        (lambda: power_law(100, 4000), "num_edges: expected"),
        (lambda: power_law(1, 1), "num_nodes: expected"),
        (lambda: power_law(100, 2, triadic_closure=0.5), "no two edges with a common node"),
        (lambda: dcsbm(100, 50, 30.0, mixing=0.0), "could not draw"),
    ],
)
def test_bad_settings(build: object, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        build()  # type: ignore[operator]


def test_scores_check_their_pairs() -> None:
    with pytest.raises(ArgumentError, match="pairs: node ids"):
        dcsbm(50, 2, 4.0).best_scores(torch.tensor([[0], [50]]))
    assert dcsbm(50, 2, 4.0).best_scores(torch.tensor([[3], [3]])).item() == -float("inf")
