"""Training negatives and the order of training: functions of (seed, epoch), and what they promise."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from graphmem.data.graph import CSRGraph
from graphmem.data.negatives import combine, permutation, uniform_negatives
from graphmem.errors import ArgumentError

RING = CSRGraph.from_edge_index(torch.stack((torch.arange(9), (torch.arange(9) + 1) % 9)), 9)  # one direction only

SIGNED = st.integers(-(2**63), 2**63 - 1)


@given(SIGNED, SIGNED)
def test_combine_is_a_signed_mixture(one: int, other: int) -> None:
    value = combine(one, other)
    assert -(2**63) <= value < 2**63
    assert value == combine(one, other)
    assert len({value, combine(one, other + 1), combine(one + 1, other), combine(one, other, 0), combine(one)}) == 5
    assert combine(one, other) != combine(other, one) or one == other


@given(SIGNED, st.integers(0, 5))
def test_negatives_are_non_edges_in_both_directions(seed: int, epoch: int) -> None:
    pairs = uniform_negatives(RING, 200, seed=seed, epoch=epoch)
    assert pairs.shape == (2, 200)
    apart = (pairs[0] - pairs[1]) % 9
    assert not bool(((apart == 0) | (apart == 1) | (apart == 8)).any())


def test_negatives_of_a_masked_graph_avoid_the_hidden_edges_too() -> None:
    # A training step hides its targets; they must not come back as negatives.
    pairs = uniform_negatives(RING.without_edges(RING.edge_index()), 200, seed=0, epoch=1)
    assert not bool((((pairs[0] - pairs[1]) % 9 == 1) | ((pairs[1] - pairs[0]) % 9 == 1)).any())


def test_negatives_are_uniform() -> None:
    pairs = uniform_negatives(RING, 54_000, seed=3, epoch=1)
    counts = torch.bincount(pairs[0] * 9 + pairs[1], minlength=81)
    assert int((counts > 0).sum()) == 9 * 6
    # 1,000 expected each, standard deviation 32.
    assert int(counts[counts > 0].min()) > 850
    assert int(counts.max()) < 1150


def test_negatives_depend_on_seed_epoch_and_event_only() -> None:
    base = uniform_negatives(RING, 50, seed=1, epoch=2)
    torch.manual_seed(17)
    assert torch.equal(base, uniform_negatives(RING, 50, seed=1, epoch=2))
    assert torch.equal(base[:, :20], uniform_negatives(RING, 20, seed=1, epoch=2))  # event by event
    assert not torch.equal(base, uniform_negatives(RING, 50, seed=2, epoch=2))
    assert not torch.equal(base, uniform_negatives(RING, 50, seed=1, epoch=3))


def test_negatives_leave_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    uniform_negatives(RING, 50, seed=1, epoch=2)
    permutation(50, seed=1, epoch=2)
    assert torch.equal(before, torch.get_rng_state())


def test_permutation() -> None:
    order = permutation(100, seed=1, epoch=2)
    assert torch.equal(order.sort().values, torch.arange(100))
    assert torch.equal(order, permutation(100, seed=1, epoch=2))
    assert not torch.equal(order, permutation(100, seed=1, epoch=3))
    assert not torch.equal(order, permutation(100, seed=2, epoch=2))
    assert permutation(0, seed=1, epoch=1).numel() == 0


def test_graphs_without_non_edges_are_an_error() -> None:
    full = CSRGraph.from_edge_index(torch.combinations(torch.arange(4)).T.contiguous(), symmetric=True)
    with pytest.raises(ArgumentError, match="non-edges"):
        uniform_negatives(full, 3, seed=0, epoch=1)
    one = CSRGraph.from_edge_index(torch.empty(2, 0, dtype=torch.int64), 1)
    with pytest.raises(ArgumentError, match="2 nodes"):
        uniform_negatives(one, 3, seed=0, epoch=1)
    assert uniform_negatives(full, 0, seed=0, epoch=1).shape == (2, 0)
