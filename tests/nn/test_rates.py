"""Moments of rates: streaming against all at once, kinds, decay, shards, anchors."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from graphmem.errors import ArgumentError
from graphmem.nn.rates import RateTracker
from graphmem.ops.pres import pres_correct

NODES, DIM = 6, 3
ALL = torch.arange(NODES)

Batch = tuple[Tensor, Tensor, Tensor]


def observations(seed: int, kinds: int, count: int = 12) -> list[Batch]:
    """Batches of distinct nodes, what was observed of them, and weights of the kinds."""
    g = torch.Generator().manual_seed(seed)
    out = []
    for _ in range(count):
        nodes = torch.randperm(NODES, generator=g)[: int(torch.randint(1, NODES, (), generator=g))]
        weights = torch.rand(nodes.numel(), kinds, generator=g) * (torch.rand(nodes.numel(), kinds, generator=g) < 0.7)
        out.append((nodes, 5 + torch.randn(nodes.numel(), DIM, generator=g), weights if kinds > 1 else weights**0))
    return out


def fed(batches: list[Batch], kinds: int, **options: Any) -> RateTracker:
    tracker = RateTracker(NODES, DIM, kinds, **options)
    for batch in batches:
        tracker.observe(*batch)
    return tracker


def mixture(tracker: RateTracker, node: int, kinds: Tensor | None) -> tuple[float, float]:
    """Mean and variance of a node's rate, of one number: what a step of one unit is predicted to add to zero."""
    zero = torch.zeros(1, 1)
    options: dict[str, Any] = {"clock": None, "count": None, "kinds": kinds, "min_count": 2}
    nodes, one = torch.tensor([node]), torch.ones(1, 1)
    mean = float(pres_correct(tracker.table(), nodes, zero, zero, 0 * one, **options)[0])
    if not tracker.variance:
        return mean, 0.0
    # The Kalman gate of a prediction of 0 and a measurement of 1: P / (P + 1).
    gate = float(pres_correct(tracker.table(), nodes, zero - mean, one, one, kalman=True, **options)[0])
    return mean, gate / (1 - gate)


def directly(batches: list[Batch], kinds: int, decay: float, node: int, kind: int) -> tuple[float, Tensor, Tensor]:
    """Sums of decayed weights, then the moments that they give."""
    seen = [(x[nodes == node], w[nodes == node][:, kind]) for nodes, x, w in batches if bool((nodes == node).any())]
    age = [decay ** (len(seen) - 1 - k) for k in range(len(seen))]
    weights = torch.tensor([a * float(w) for a, (_, w) in zip(age, seen, strict=True)], dtype=torch.float64)
    if not seen or weights.sum() == 0:
        return 0.0, torch.zeros(DIM), torch.zeros(DIM)
    x = torch.cat([x for x, _ in seen]).double()
    mean = (weights.unsqueeze(1) * x).sum(0) / weights.sum()
    return float(weights.sum()), mean, (weights.unsqueeze(1) * (x - mean).square()).sum(0)


@given(seed=st.integers(0, 999), kinds=st.sampled_from((1, 3)), decay=st.sampled_from((1.0, 0.7)))
def test_moments_are_those_of_all_observations(seed: int, kinds: int, decay: float) -> None:
    batches = observations(seed, kinds)
    tracker = fed(batches, kinds, decay=decay)
    for node in range(NODES):
        for kind in range(kinds):
            n, mean, m2 = directly(batches, kinds, decay, node, kind)
            assert float(tracker.n[node, kind]) == pytest.approx(n, abs=1e-5)
            torch.testing.assert_close(tracker.mean[node, kind].double(), mean.double(), rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(tracker.m2[node, kind].double(), m2.double(), rtol=1e-3, atol=1e-4)


@given(seed=st.integers(0, 999), cut=st.integers(0, 12), kinds=st.sampled_from((1, 2)))
def test_shards_add_up(seed: int, cut: int, kinds: int) -> None:
    batches = observations(seed, kinds)
    whole, first, second = (fed(part, kinds) for part in (batches, batches[:cut], batches[cut:]))
    first.merge(second.snapshot())
    for name, value in whole.snapshot().items():
        torch.testing.assert_close(first.snapshot()[name], value, rtol=1e-4, atol=1e-4)


def test_kinds_stay_apart_and_mix_by_their_weights() -> None:
    tracker = RateTracker(1, 1, 2)
    node = torch.tensor([0])
    for k in range(200):
        kind = torch.eye(2)[int(k % 4 == 0)].view(1, 2)  # kind 1 is every fourth
        tracker.observe(node, torch.tensor([[3.0 if k % 4 == 0 else -1.0]]), kind)
    assert tracker.mean.flatten().tolist() == [-1, 3]
    for weights, mean in ((torch.tensor([[1.0, 0.0]]), -1), (torch.tensor([[1.0, 1.0]]), 1), (None, 0)):
        found, variance = mixture(tracker, 0, weights)
        assert found == pytest.approx(mean, abs=1e-6)
        share = 0.25 if weights is None else float(weights[0, 1] / weights.sum())
        assert variance == pytest.approx(16 * share * (1 - share), abs=1e-3)  # of the mixture
    tracker.n[0, 1] = 1
    assert mixture(tracker, 0, torch.tensor([[0.0, 1.0]]))[0] == -1  # too few of the kind that is asked for


def test_anchors_only() -> None:
    batches = observations(3, 1, 40)
    every, some = fed(batches, 1), fed(batches, 1, anchors=torch.tensor([4, 1]))
    rows = some.slots(ALL)
    assert rows.tolist() == [-1, 0, -1, -1, 1, -1]
    assert torch.equal(some.mean, every.mean[[1, 4]])
    assert torch.equal(some.m2, every.m2[[1, 4]])
    assert torch.equal(fed(batches, 1, anchors=ALL).mean, every.mean)
    some.grow(NODES + 2)
    assert some.slots(torch.tensor([NODES, 4])).tolist() == [-1, 1]
    some.forget(nodes=torch.tensor([1, 0]))
    assert not some.n[0].any()
    assert torch.equal(some.n[1], every.n[4])


def test_a_number_of_anchors_is_chosen_by_degree() -> None:
    tracker = RateTracker(NODES, DIM, anchors=2)
    with pytest.raises(ArgumentError, match="fit"):
        tracker.slots(ALL)
    tracker.choose(torch.tensor([1, 5, 5, 0, 7, 5]))
    assert tracker.slots(ALL).tolist() == [-1, 0, -1, -1, 1, -1]


def test_what_is_not_tracked_may_have_the_moments_of_all() -> None:
    batches = observations(4, 1)
    tracker = fed(batches, 1, anchors=torch.tensor([2]), share=True)
    x = torch.cat([x for _, x, _ in batches])
    row = tracker.slots(torch.tensor([0]))
    assert row.tolist() == [1]
    torch.testing.assert_close(tracker.mean[row].view(-1), x.mean(0))
    torch.testing.assert_close(
        (tracker.m2[row] / tracker.n[row]).view(-1), x.var(0, correction=0), rtol=1e-4, atol=1e-5
    )


def test_memory_is_what_is_said() -> None:
    def numbers(**options: Any) -> int:
        return sum(value.numel() for value in RateTracker(1000, 10, 2, **options).snapshot().values())

    assert numbers() == 1000 * 2 * 21
    assert numbers(variance=False) == 1000 * 2 * 11
    assert numbers(anchors=torch.arange(50)) == 50 * 2 * 21


def test_narrow_models_keep_wide_moments() -> None:
    tracker = RateTracker(NODES, DIM).half()
    assert tracker.mean.dtype == torch.float32
    tracker.observe(ALL[:2], torch.ones(2, DIM, dtype=torch.bfloat16))
    assert tracker.mean[0].tolist() == [[1.0] * DIM]
    assert RateTracker(NODES, DIM).double().mean.dtype == torch.float64


@pytest.mark.parametrize(
    ("name", "options"),
    [("decay", {"decay": 0.0}), ("num_types", {"num_types": 0}), ("anchors", {"anchors": torch.tensor([NODES])})],
)
def test_bad_options_are_named(name: str, options: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError, match=f"^{name}"):
        RateTracker(NODES, DIM, **options)
