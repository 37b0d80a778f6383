"""Counter-based sampling, against a model in Python integers, and edge look-up."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import Graph, graphs, ragged, random_graph, random_pairs
from torch import Tensor

from graphmem import ops
from graphmem.errors import ArgumentError
from graphmem.ops import reference

WRAP = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15
ANY_SEED = st.integers(-(2**63), 2**63 - 1)


def mix(z: int) -> int:
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & WRAP
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB & WRAP
    return z ^ (z >> 31)


def draw(seed: int, key: int, number: int) -> int:
    stream = mix(mix((seed + GOLDEN) & WRAP) ^ ((key * 0xD1342543DE82EF95 + GOLDEN) & WRAP))
    return mix((stream + (number + 1) * GOLDEN) & WRAP)


def below(value: int, bound: int) -> int:
    return value * bound >> 64


def sampled_row(length: int, k: int, seed: int, key: int, replace: bool) -> list[int]:
    """Positions of one row, as docs/architecture.md says."""
    if length <= k:
        return list(range(length))
    if replace:
        return sorted(below(draw(seed, key, n), length) for n in range(k))
    taken: set[int] = set()
    for n in range(k):
        last = length - k + n
        t = below(draw(seed, key, n), last + 1)
        taken.add(last if t in taken else t)
    return sorted(taken)


def test_the_model_gives_published_splitmix_values() -> None:
    """SplitMix64 seeded with 0: its n-th output is mix(n * golden ratio)."""
    published = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F, 0xF88BB8A8724C81EC]
    assert [mix(n * GOLDEN & WRAP) for n in range(1, 5)] == published


@given(ragged(), st.integers(1, 6), ANY_SEED, st.booleans(), st.booleans())
def test_sample_rows_matches_model_and_reference(
    case: tuple[Tensor, Tensor, int, int], k: int, seed: int, replace: bool, keyed: bool
) -> None:
    ptr, idx, _, key_seed = case
    rows = ptr.numel() - 1
    generator = torch.Generator().manual_seed(key_seed)
    keys = torch.randint(-(2**62), 2**62, (rows,), generator=generator) if keyed else torch.arange(rows)
    got = ops.sample_rows(ptr, idx, k, seed, replace=replace, row_key=keys if keyed else None)
    want_pos, want_weight = [], []
    for s, key in enumerate(keys.tolist()):
        length = int(ptr[s + 1] - ptr[s])
        want_pos += [int(ptr[s]) + t for t in sampled_row(length, k, seed, key, replace)]
        want_weight += [torch.tensor(max(length / k, 1.0), dtype=torch.float32)] * min(length, k)
    assert got.pos.tolist() == want_pos
    assert torch.equal(got.idx, idx[got.pos])
    assert torch.equal(got.ptr.diff(), ptr.diff().clamp(max=k))
    assert got.weight.dtype == torch.float32
    assert got.weight.tolist() == [float(w) for w in want_weight]
    pos, weight = reference.sample_rows(ptr, got.ptr, int(got.ptr[-1]), k, seed, keys, replace)
    assert torch.equal(got.pos, pos)
    assert torch.equal(got.weight, weight)


def test_without_replacement_positions_are_distinct() -> None:
    ptr = torch.arange(0, 5001, 50)
    got = ops.sample_rows(ptr, torch.arange(5000), 37, seed=11)
    rows = got.pos.view(100, 37)
    assert bool((rows.diff(dim=1) > 0).all())
    assert bool((rows >= ptr[:-1, None]).all())
    assert bool((rows < ptr[1:, None]).all())
    assert bool((got.weight == torch.tensor(50.0) / torch.tensor(37.0)).all())


def test_with_a_key_a_row_is_sampled_alike_in_every_batch() -> None:
    ptr, idx = torch.arange(0, 401, 20), torch.arange(400)
    keys = torch.arange(100, 120)
    whole = ops.sample_rows(ptr, idx, 5, seed=3, row_key=keys).pos.view(20, 5)
    for low, high in ((0, 1), (4, 11), (19, 20)):
        size = high - low
        part = ops.sample_rows(ptr[: size + 1], idx[: size * 20], 5, seed=3, row_key=keys[low:high])
        assert torch.equal(part.pos.view(size, 5) + 20 * low, whole[low:high])


@pytest.mark.parametrize("replace", [False, True])
def test_sampling_keeps_sums_unbiased_and_positions_uniform(replace: bool) -> None:
    rows, length, k = 20_000, 10, 3
    ptr = torch.arange(0, rows * length + 1, length)
    got = ops.sample_rows(ptr, torch.arange(rows * length), k, seed=5, replace=replace)
    counts = torch.bincount(got.pos % length, minlength=length).double()
    expected = rows * k / length
    variance = expected if replace else expected * (1 - k / length) * length / (length - 1)
    chi_square = float(((counts - expected) ** 2 / variance).sum())
    assert chi_square < 27.9  # 99.9 % quantile, 9 degrees of freedom
    assert float(got.weight.sum()) == pytest.approx(rows * length)


def test_every_subset_is_equally_likely() -> None:
    rows = 20_000
    ptr = torch.arange(0, rows * 5 + 1, 5)
    got = ops.sample_rows(ptr, torch.arange(rows * 5), 2, seed=1).pos.view(rows, 2) % 5
    counts = Counter(map(tuple, got.tolist()))
    assert set(counts) == set(itertools.combinations(range(5), 2))
    assert sum((n - rows / 10) ** 2 / (rows / 10) for n in counts.values()) < 27.9


@given(graphs(masked=False), st.integers(0, 50), st.integers(0, 2**40), ANY_SEED)
def test_sample_non_edges_matches_model_and_reference(graph: Graph, count: int, start: int, seed: int) -> None:
    edges = set(zip(graph.row.tolist(), graph.col.tolist(), strict=True))
    want = []
    for event in range(start, start + count):
        pair = (-1, -1)
        for n in range(1024):
            u = below(draw(seed, event, 2 * n), graph.num_nodes)
            v = below(draw(seed, event, 2 * n + 1), graph.num_nodes)
            if u != v and (u, v) not in edges and (v, u) not in edges:
                pair = (u, v)
                break
        want.append(pair)
    args = (graph.rowptr, graph.col, graph.num_nodes, start, count, seed)
    got = torch.ops.graphmem.sample_non_edges(*args)
    assert got.T.tolist() == [list(pair) for pair in want]
    assert torch.equal(got, reference.sample_non_edges(*args))
    if (-1, -1) in want:
        with pytest.raises(ArgumentError, match="graph"):
            ops.sample_non_edges(graph, count, seed=seed, start=start)
    else:
        assert torch.equal(ops.sample_non_edges(graph, count, seed=seed, start=start), got)


def test_events_do_not_depend_on_chunking() -> None:
    graph = random_graph(50, 0.2, 0)
    whole = ops.sample_non_edges(graph, 300, seed=9)
    parts = [ops.sample_non_edges(graph, 100, seed=9, start=s) for s in (0, 100, 200)]
    assert torch.equal(torch.cat(parts, 1), whole)
    assert not torch.equal(whole, ops.sample_non_edges(graph, 300, seed=10))


def test_non_edges_are_uniform() -> None:
    graph = random_graph(5, 0.0, 0)
    drawn = Counter(map(tuple, ops.sample_non_edges(graph, 20_000, seed=2).T.tolist()))
    assert set(drawn) == set(itertools.permutations(range(5), 2))
    assert sum((n - 1000) ** 2 / 1000 for n in drawn.values()) < 43.8  # 99.9 %, 19 degrees of freedom


def test_complete_graph_has_no_non_edge() -> None:
    with pytest.raises(ArgumentError, match="non-edges"):
        ops.sample_non_edges(random_graph(4, 1.0, 0), 3, seed=0)
    assert ops.sample_non_edges(random_graph(4, 1.0, 0), 0, seed=0).shape == (2, 0)


@given(graphs(), st.integers(0, 60), st.integers(0, 2**31 - 1))
def test_find_edges(graph: Graph, count: int, seed: int) -> None:
    pairs = random_pairs(graph.num_nodes, count, seed)
    got = ops.find_edges(graph, pairs)
    slots = {e: s for s, e in enumerate(zip(graph.row.tolist(), graph.col.tolist(), strict=True))}
    assert got.tolist() == [slots.get((u, v), -1) for u, v in pairs.T.tolist()]
    assert torch.equal(got, reference.find_edges(graph.rowptr, graph.col, pairs))


def test_find_edges_finds_every_slot() -> None:
    graph = random_graph(30, 0.3, 0, col_dtype=torch.int32, keep=True)
    pairs = torch.stack((graph.row, graph.col.long()))
    assert torch.equal(ops.find_edges(graph, pairs), torch.arange(graph.col.numel()))
    assert ops.find_edges(graph, pairs[:, :0]).shape == (0,)
