"""Counts and index lists of common, left and right neighbours."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import Graph, PairCase, from_dense, graphs, pair_cases, random_graph, random_pairs
from torch import Tensor

from graphmem import ops
from graphmem.ops import reference

PARTS = ("cn", "left", "right")


def sets(case: PairCase) -> list[dict[str, list[int]]]:
    """Brute force: the three sets of each pair as Python sets."""
    out = []
    for i, j in case.pairs.T.tolist():
        a, b = case.a.neighbours(i), case.b.neighbours(j)
        if case.exclude_endpoints:
            a, b = a - {i, j}, b - {i, j}
        out.append({"cn": sorted(a & b), "left": sorted(a - b), "right": sorted(b - a)})
    return out


def offsets(sizes: Tensor) -> Tensor:
    """Absolute offsets [P, B + 1] of parts that follow each other."""
    ends = sizes.flatten().cumsum(0).view(sizes.shape)
    first = ends[:, :1] - sizes[:, :1] if sizes.size(1) else ends.new_zeros(sizes.size(0), 1)
    return torch.cat((first, ends), 1)


@given(pair_cases())
def test_cn_count_matches_reference(case: PairCase) -> None:
    args = case.count_args()
    assert torch.equal(torch.ops.graphmem.cn_count(*args), reference.cn_count(*args))


@given(pair_cases(), st.integers(1, 7))
def test_cn_index_matches_reference(case: PairCase, parts: int) -> None:
    args = case.count_args()
    wanted = [row for row in range(3) if parts & (1 << row)]
    sizes = reference.cn_count(*args)[wanted]
    num_cn = int(sizes[0].sum()) if parts & 1 else 0
    more = (parts, offsets(sizes), int(sizes.sum()), num_cn)
    for got, want in zip(torch.ops.graphmem.cn_index(*args, *more), reference.cn_index(*args, *more), strict=True):
        assert got.dtype == want.dtype
        assert torch.equal(got, want)


@pytest.mark.parametrize("col_dtype", [torch.int32, torch.int64])
@pytest.mark.parametrize(("short", "long"), [(0.02, 0.02), (0.1, 0.5), (0.9, 0.9), (0.005, 0.7)])
@pytest.mark.parametrize("keep", [False, True])
def test_rows_of_many_blocks(col_dtype: torch.dtype, short: float, long: float, keep: bool) -> None:
    """Rows of up to 800 entries and of all lengths modulo 16, and one row 32 times as long as the other."""
    a, b = (random_graph(900, d, n, keep=keep, col_dtype=col_dtype) for n, d in enumerate((short, long)))
    pairs = random_pairs(900, 300, 2)
    found = ops.cn_index(a, pairs, g2=b)
    counts = ops.cn_sizes(a, pairs, g2=b)
    dense_a, dense_b = a.present()[pairs[0]], b.present()[pairs[1]]
    for row, (name, want) in enumerate(
        {"cn": dense_a & dense_b, "left": dense_a & ~dense_b, "right": dense_b & ~dense_a}.items()
    ):
        part, graph = found[name], b if name == "right" else a
        assert torch.equal(counts[row], want.sum(1))
        assert torch.equal(part.ptr.diff(), want.sum(1))
        assert torch.equal(part.idx.long(), want.nonzero()[:, 1])
        assert torch.equal(graph.col[part.slot], part.idx)
        owner = pairs[1 if name == "right" else 0].repeat_interleave(part.ptr.diff())
        assert torch.equal(graph.row[part.slot], owner)
    assert torch.equal(b.col[found["cn"].slot_b], found["cn"].idx)
    x = torch.randn(900, 70, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    got = ops.cn_gather_sum(a, x, pairs, g2=b, mode="recompute")
    torch.testing.assert_close(got, (dense_a & dense_b).double() @ x)


@given(pair_cases())
def test_sizes_are_those_of_sets(case: PairCase) -> None:
    sizes = ops.cn_sizes(case.a, case.pairs, g2=case.b, exclude_endpoints=case.exclude_endpoints)
    want = [[len(row[name]) for row in sets(case)] for name in PARTS]
    assert sizes.tolist() == want
    count = ops.cn_count(case.a, case.pairs, g2=case.b, exclude_endpoints=case.exclude_endpoints)
    assert count.tolist() == want[0]


@given(pair_cases(), st.sets(st.sampled_from(PARTS), min_size=1))
def test_index_lists_are_sorted_sets_with_slots(case: PairCase, wanted: set[str]) -> None:
    found = ops.cn_index(case.a, case.pairs, g2=case.b, parts=tuple(wanted), exclude_endpoints=case.exclude_endpoints)
    assert set(found) == wanted
    for name, part in found.items():
        assert part.idx.dtype == case.a.col.dtype
        rows = [part.idx[low:high].tolist() for low, high in zip(part.ptr[:-1], part.ptr[1:], strict=True)]
        assert rows == [row[name] for row in sets(case)]
        owner = torch.arange(case.pairs.size(1)).repeat_interleave(part.ptr.diff())
        graph, end = (case.b, 1) if name == "right" else (case.a, 0)
        assert torch.equal(graph.col[part.slot], part.idx)
        assert torch.equal(graph.row[part.slot], case.pairs[end, owner])
        if name == "cn":
            assert torch.equal(case.b.col[part.slot_b], part.idx)
            assert torch.equal(case.b.row[part.slot_b], case.pairs[1, owner])
        else:
            assert part.slot_b is None


@given(pair_cases(weight_dtype=torch.float64))
def test_weighted_count_is_a_matrix_product(case: PairCase) -> None:
    if case.exclude_endpoints or case.a.weight is None or case.b.weight is None:
        return
    node_weight = torch.rand(case.a.num_nodes, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    got = ops.cn_count(case.a, case.pairs, g2=case.b, node_weight=node_weight, use_edge_weight=True)
    want = (case.a.dense() * node_weight) @ case.b.dense().T
    torch.testing.assert_close(got, want[case.pairs[0], case.pairs[1]])
    unweighted = ops.cn_count(case.a, case.pairs, g2=case.b, node_weight=node_weight)
    want = (case.a.dense(False) * node_weight) @ case.b.dense(False).T
    torch.testing.assert_close(unweighted, want[case.pairs[0], case.pairs[1]])
    edges_only = ops.cn_count(case.a, case.pairs, g2=case.b, use_edge_weight=True)
    want = case.a.dense() @ case.b.dense().T
    torch.testing.assert_close(edges_only, want[case.pairs[0], case.pairs[1]])


@given(pair_cases())
def test_swapping_ends_and_graphs_swaps_left_and_right(case: PairCase) -> None:
    forward = ops.cn_sizes(case.a, case.pairs, g2=case.b, exclude_endpoints=case.exclude_endpoints)
    swapped = ops.cn_sizes(case.b, case.pairs.flip(0), g2=case.a, exclude_endpoints=case.exclude_endpoints)
    assert torch.equal(forward, swapped[[0, 2, 1]])


@given(graphs(masked=False), st.integers(0, 2**31 - 1))
def test_invariant_under_pair_order_and_relabelling(graph: Graph, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    pairs = random_pairs(graph.num_nodes, 50, seed)
    sizes = ops.cn_sizes(graph, pairs)
    order = torch.randperm(50, generator=generator)
    assert torch.equal(ops.cn_sizes(graph, pairs[:, order]), sizes[:, order])
    label = torch.randperm(graph.num_nodes, generator=generator)
    adjacency = torch.zeros(graph.num_nodes, graph.num_nodes, dtype=torch.bool)
    adjacency[label[graph.row], label[graph.col.long()]] = True
    assert torch.equal(ops.cn_sizes(from_dense(adjacency), label[pairs]), sizes)


def path_with_loop() -> Graph:
    """0 - 1 - 2 - 3, a self-loop at 1, and an isolated node 4."""
    adjacency = torch.zeros(5, 5, dtype=torch.bool)
    for u, v in ((0, 1), (1, 2), (2, 3)):
        adjacency[u, v] = adjacency[v, u] = True
    adjacency[1, 1] = True
    return from_dense(adjacency)


def test_hand_computed() -> None:
    pairs = torch.tensor([[0, 0, 1, 1, 4, 1], [2, 1, 1, 3, 0, 2]])
    sizes = ops.cn_sizes(path_with_loop(), pairs)
    # N(0) = {1}, N(1) = {0, 1, 2}, N(2) = {1, 3}, N(3) = {2}, N(4) = {}
    assert sizes.tolist() == [[1, 1, 3, 1, 0, 1], [0, 0, 0, 2, 0, 2], [1, 2, 0, 0, 1, 1]]
    excluded = ops.cn_sizes(path_with_loop(), pairs, exclude_endpoints=True)
    assert excluded.tolist() == [[1, 0, 2, 1, 0, 0], [0, 0, 0, 1, 0, 1], [1, 1, 0, 0, 1, 1]]


def test_equal_ends_give_the_whole_row() -> None:
    graph = path_with_loop()
    found = ops.cn_index(graph, torch.tensor([[1], [1]]))
    assert found["cn"].idx.tolist() == [0, 1, 2]
    assert found["left"].idx.numel() == found["right"].idx.numel() == 0


def test_masked_slot_counts_as_absent_on_its_side_only() -> None:
    graph = path_with_loop()
    keep = torch.ones(graph.col.numel(), dtype=torch.bool)
    keep[ops.find_edges(graph, torch.tensor([[0], [1]]))] = False
    masked = dataclasses.replace(graph, keep=keep)
    pair = torch.tensor([[0], [2]])
    assert ops.cn_sizes(masked, pair, g2=graph).squeeze(1).tolist() == [0, 0, 2]
    assert ops.cn_sizes(graph, pair, g2=masked).squeeze(1).tolist() == [1, 0, 1]


@pytest.mark.parametrize("col_dtype", [torch.int32, torch.int64])
def test_no_pairs_and_no_edges(col_dtype: torch.dtype) -> None:
    graph = random_graph(6, 0.4, 0, col_dtype=col_dtype)
    none = torch.empty(2, 0, dtype=torch.int64)
    assert ops.cn_count(graph, none).shape == (0,)
    found = ops.cn_index(graph, none)
    assert all(part.ptr.tolist() == [0] and part.idx.numel() == 0 for part in found.values())
    empty = random_graph(6, 0.0, 0, col_dtype=col_dtype)
    assert ops.cn_sizes(empty, random_pairs(6, 4, 0)).tolist() == [[0] * 4] * 3


@pytest.mark.parametrize("exclude_endpoints", [False, True])
def test_hub_above_sixteen_bits(exclude_endpoints: bool) -> None:
    """Node 0 meets every node, node 1 every third one, node 2 only three: merge, gallop and equal rows."""
    size = 70_000
    third = torch.arange(0, size, 3)
    few = torch.tensor([0, 65_536, 69_999])
    col = torch.cat((torch.arange(size), third, few))
    counts = torch.zeros(size, dtype=torch.int64)
    counts[:3] = torch.tensor([size, third.numel(), 3])
    graph = Graph(torch.cat((counts.new_zeros(1), counts.cumsum(0))), col.to(torch.int32))
    pairs = torch.tensor([[0, 0, 0, 1, 2, 0], [0, 1, 2, 2, 0, 5]])
    sizes = ops.cn_sizes(graph, pairs, exclude_endpoints=exclude_endpoints)
    args = (*graph.structure(), *graph.structure(), pairs, exclude_endpoints)
    assert torch.equal(sizes, reference.cn_count(*args))
    if not exclude_endpoints:
        assert sizes[0].tolist() == [size, third.numel(), 3, 2, 3, 0]
        assert ops.cn_index(graph, pairs[:, 2:3])["cn"].idx.tolist() == few.tolist()


def test_scores_are_the_textbook_formulas() -> None:
    graph = random_graph(25, 0.3, 3, symmetric=True, self_loops=False)
    pairs = random_pairs(25, 60, 4)
    pairs = pairs[:, pairs[0] != pairs[1]]
    rows = [graph.neighbours(v) for v in range(25)]
    want: dict[str, list[float]] = {"cn": [], "aa": [], "ra": [], "jaccard": []}
    for i, j in pairs.T.tolist():
        common = rows[i] & rows[j]
        want["cn"].append(len(common))
        want["aa"].append(sum(1 / math.log(len(rows[u])) for u in common))
        want["ra"].append(sum(1 / len(rows[u]) for u in common))
        want["jaccard"].append(len(common) / len(rows[i] | rows[j]) if rows[i] | rows[j] else 0)
    for method, values in want.items():
        torch.testing.assert_close(ops.common_neighbor_scores(graph, pairs, method), torch.tensor(values).float())


def test_grouped_pairs_repeat_the_source() -> None:
    pairs = ops.grouped_pairs(torch.tensor([5, 7, 9]), torch.tensor([0, 2, 2, 3]), torch.tensor([1, 2, 3]))
    assert pairs.tolist() == [[5, 5, 9], [1, 2, 3]]


@pytest.mark.parametrize("col_dtype", [torch.int32, torch.int64])
@pytest.mark.parametrize("density", [0.01, 0.3])
def test_one_source_with_many_candidates(col_dtype: torch.dtype, density: float) -> None:
    """Runs of a source are looked up, not merged; among them empty rows, full rows and runs too short for that."""
    a = random_graph(700, density, 0, col_dtype=col_dtype)
    dense = a.present().clone()
    dense[[3, 5, 650]] = False  # row 3 begins where row 4 does
    dense[[4, 9]] = True
    a = from_dense(dense, col_dtype=col_dtype)
    sources = torch.tensor([4, 3, 4, 5, 699, 7, 4, 8, 8, 9, 650])
    lengths = torch.tensor([90, 90, 5, 4, 300, 3, 1, 40, 2, 60, 60])
    candidates = random_pairs(700, int(lengths.sum()), 1)[1]
    pairs = torch.stack((sources.repeat_interleave(lengths), candidates))
    want = dense[pairs[0]] & dense[pairs[1]]
    assert torch.equal(ops.cn_count(a, pairs), want.sum(1))
    x = torch.randn(700, 70, generator=torch.Generator().manual_seed(3), dtype=torch.float64).requires_grad_()
    got = ops.cn_gather_sum(a, x, pairs)
    torch.testing.assert_close(got, want.double() @ x.detach())
    got.sum().backward()
    torch.testing.assert_close(x.grad, want.double().sum(0)[:, None].expand(-1, 70))
