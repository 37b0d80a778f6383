"""Outputs and gradients have the same bits for every number of threads, on inputs large enough to be split."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import torch
from strategies import Graph, features, random_graph, random_pairs, same_bits
from torch import Tensor

from graphmem import ops

pytestmark = pytest.mark.usefixtures("restore_threads")


def graph(weight: bool = False) -> Graph:
    return random_graph(300, 0.3, 0, keep=True, weight_dtype=torch.float32 if weight else None)


def counts() -> list[Tensor]:
    pairs = random_pairs(300, 3000, 1)
    return [ops.cn_sizes(graph(), pairs), *(t for part in ops.cn_index(graph(), pairs).values() for t in part[:3])]


def gathers(mode: str, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """80 features: enough for the backward pass to be sliced."""
    x, pairs = features(300, 80, 2, dtype).requires_grad_(), random_pairs(300, 1000, 1)
    out = torch.stack(ops.cn_diff_gather_sum(graph(weight=True), x, pairs, mode=mode))
    out.backward(features(3000, 80, 3, dtype).view(3, 1000, 80))
    return [out.detach(), x.grad]


def edge_weights() -> list[Tensor]:
    """Many entries share an edge: their contributions must be added in a fixed order."""
    base = graph(weight=True)
    weight = base.weight.clone().requires_grad_()
    weighted = dataclasses.replace(base, weight=weight)
    out = ops.cn_gather_sum(weighted, features(300, 4, 2), random_pairs(300, 4000, 1), mode="index")
    out.backward(features(4000, 4, 3))
    return [out.detach(), weight.grad]


def segments() -> list[Tensor]:
    g = graph()
    x, weight = features(300, 24, 2).requires_grad_(), features(g.col.numel(), 1, 4).squeeze(1).requires_grad_()
    out = ops.segment_gather_sum(g.rowptr, g.col, x, weight, g.keep)
    out.backward(features(300, 24, 3))
    return [out.detach(), x.grad, weight.grad, *ops.csr_transpose(g.rowptr, g.col, 300)]


def random_numbers() -> list[Tensor]:
    g, pairs = graph(), random_pairs(300, 20_000, 1)
    rows = [ops.sample_rows(g.rowptr, g.col, 5, 7, replace=r) for r in (False, True)]
    return [*rows[0], *rows[1], ops.sample_non_edges(g, 20_000, seed=3), ops.find_edges(g, pairs)]


def dropouts() -> list[Tensor]:
    """More elements than one block of the mask."""
    x = features(3000, 64, 2).requires_grad_()
    out = ops.dropout(x, 0.3, seed=5, relu=True) + ops.dropout(x, 0.5, seed=6)
    out.backward(features(3000, 64, 3))
    return [out.detach(), x.grad]


def products() -> list[Tensor]:
    x = features(300, 24, 2).requires_grad_()
    out = ops.pair_product(x, random_pairs(300, 5000, 1))
    out.backward(features(5000, 24, 3))
    return [out.detach(), x.grad]


def layers() -> list[Tensor]:
    """A sum over 5,000 rows in the gradient of the weight, which torch's BLAS splits by the number of threads."""
    x, weight = features(5000, 40, 2).requires_grad_(), features(24, 40, 3).requires_grad_()
    bias = features(1, 24, 4)[0].requires_grad_()
    out = ops.linear(x, weight, bias)
    out.backward(features(5000, 24, 5))
    return [out.detach(), x.grad, weight.grad, bias.grad]


@pytest.mark.parametrize(
    "run",
    [
        counts,
        lambda: gathers("recompute"),
        lambda: gathers("index"),
        lambda: gathers("recompute", torch.bfloat16),
        edge_weights,
        segments,
        random_numbers,
        dropouts,
        products,
        pytest.param(layers, marks=pytest.mark.skipif(not ops.NATIVE, reason="the reference is torch's BLAS")),
    ],
    ids=[
        "counts",
        "recompute",
        "index",
        "recompute-bf16",
        "edge-weights",
        "segments",
        "random-numbers",
        "dropout",
        "products",
        "layers",
    ],
)
def test_same_bits_for_every_number_of_threads(run: Callable[[], list[Tensor]]) -> None:
    torch.set_num_threads(1)
    want = run()
    for threads in (2, 4):
        torch.set_num_threads(threads)
        got = run()
        assert len(got) == len(want)
        assert all(same_bits(one, other) for one, other in zip(got, want, strict=True))
