"""Training negatives that are a function of (seed, epoch, event), whatever the batch size, device or thread count."""

from __future__ import annotations

import torch
from torch import Tensor

from graphmem import ops
from graphmem.data._random import GOLDEN, MASK, below, draws, mix
from graphmem.data.graph import CSRGraph
from graphmem.ops import _check


def combine(*values: int) -> int:
    """Mix integers (seed, epoch, ...) into one signed 64-bit seed, by SplitMix64's finaliser."""
    state = 0
    for value in values:
        _check.integer("seed and epoch", value, -MASK, MASK)
        state = mix((state + (value & MASK) * 0xD1342543DE82EF95 + GOLDEN) & MASK)
    return state - 2**64 if state >= 2**63 else state


def uniform_negatives(graph: CSRGraph, count: int, *, seed: int, epoch: int) -> Tensor:
    """Uniform pairs that are no edges of ``graph``, int64 [2, count]: negative e of an epoch belongs to positive e.

    Raises:
        ArgumentError: a graph with (almost) no pair to draw.
    """
    return ops.sample_non_edges(graph, count, seed=combine(seed, epoch))


def random_targets(links: Tensor, num_nodes: int, *, seed: int, epoch: int) -> Tensor:
    """Links with another target, uniform among all nodes and not checked to be no edge, int64 [2, count].

    Args:
        links: int64 [2, count]; their sources stay.
        num_nodes: number of nodes.
        seed: of the draws.
        epoch: likewise.

    Raises:
        ArgumentError: wrong shape, dtype or numbers.
    """
    links = _check.tensor("links", links, shape=(2, None), dtypes=(torch.int64,))
    _check.integer("num_nodes", num_nodes, int(links.size(1) > 0))
    targets = below(draws(combine(seed, epoch), 0, links.size(1)), num_nodes)
    return torch.stack((links[0], torch.from_numpy(targets).to(links.device)))


def permutation(size: int, *, seed: int, epoch: int) -> Tensor:
    """Random order of ``size`` events, int64 [size], a function of (seed, epoch)."""
    generator = torch.Generator().manual_seed(combine(seed, epoch, 1) & (2**63 - 1))
    return torch.randperm(size, generator=generator)
