"""Pairs of rows of every length, from empty to hubs: kernels go other ways by length, results must not show it."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from strategies import Graph, features, same_bits

from graphmem.ops import reference

NUM_NODES = 2000
# Nodes 0, 1, ... have these degrees; all others have few neighbours.
DEGREES = (0, 1, 7, 8, 9, 31, 33, 64, 500, 1024, 1025, 1999)


def graph_of_lengths(col_dtype: torch.dtype, *, keep: bool, weighted: bool) -> Graph:
    generator = torch.Generator().manual_seed(7)
    degrees = torch.cat((torch.tensor(DEGREES), torch.randint(0, 6, (NUM_NODES - len(DEGREES),), generator=generator)))
    rows = [torch.randperm(NUM_NODES, generator=generator)[:degree].sort().values for degree in degrees.tolist()]
    rowptr = torch.cat((degrees.new_zeros(1), degrees.cumsum(0)))
    col = torch.cat(rows).to(col_dtype)
    graph = Graph(rowptr, col)
    mask = torch.rand(col.numel(), generator=generator) < 0.7 if keep else None
    weight = torch.randn(col.numel(), generator=generator) if weighted else None
    return dataclasses.replace(graph, keep=mask, weight=weight)


def all_pairs() -> torch.Tensor:
    """Every combination of the lengths; then 70 pairs with one source, as in evaluation."""
    nodes = torch.arange(len(DEGREES))
    grid = torch.cartesian_prod(nodes, nodes).T
    source = torch.full((70,), 8)
    return torch.cat((grid, torch.stack((source, torch.arange(70)))), dim=1).contiguous()


@pytest.mark.parametrize(("col_dtype", "keep"), [(torch.int32, False), (torch.int64, True)])
def test_sizes_and_lists(col_dtype: torch.dtype, keep: bool) -> None:
    graph, pairs = graph_of_lengths(col_dtype, keep=keep, weighted=False), all_pairs()
    args = (*graph.structure(), *graph.structure(), pairs, keep)
    sizes = torch.ops.graphmem.cn_count(*args)
    assert torch.equal(sizes, reference.cn_count(*args))
    assert int(sizes[0].max()) > 1024
    ends = sizes.flatten().cumsum(0).view(sizes.shape)
    ptr = torch.cat((ends[:, :1] - sizes[:, :1], ends), dim=1)
    rest = (7, ptr, int(ends[-1, -1]), int(sizes[0].sum()))
    got, want = torch.ops.graphmem.cn_index(*args, *rest), reference.cn_index(*args, *rest)
    assert all(torch.equal(one, other) for one, other in zip(got, want, strict=True))


@pytest.mark.parametrize(
    ("width", "dtype", "parts", "extras"),
    [
        (1, torch.float32, 1, False),
        (64, torch.float64, 7, True),
        (300, torch.bfloat16, 1, True),
        (20, torch.float16, 7, False),
    ],
)
def test_sums_and_gradients(width: int, dtype: torch.dtype, parts: int, extras: bool) -> None:
    graph, pairs = graph_of_lengths(torch.int32, keep=extras, weighted=extras), all_pairs()
    if extras:
        accumulate = torch.float64 if dtype == torch.float64 else torch.float32
        assert graph.weight is not None
        graph = dataclasses.replace(graph, weight=graph.weight.to(accumulate))
    args = (*graph.weighted_structure(), *graph.weighted_structure(), pairs)
    x = features(NUM_NODES, width, 3, dtype)
    rest = (x, extras, parts)
    assert same_bits(torch.ops.graphmem.cn_gather_sum(*args, *rest), reference.cn_gather_sum(*args, *rest))
    grad = features(bin(parts).count("1") * pairs.size(1), width, 4, dtype).view(-1, pairs.size(1), width)
    rest = (grad, NUM_NODES, extras, parts)
    got = torch.ops.graphmem.cn_gather_sum_backward(*args, *rest)
    assert same_bits(got, reference.cn_gather_sum_backward(*args, *rest))
