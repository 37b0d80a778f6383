"""The operators of PRES: against torch's operations and the formulas, row by row."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import same_bits
from torch import Tensor

from graphmem.ops import reference
from graphmem.ops.pres import Clock, Rates, coherence, pres_correct, pres_observe

NODES = 9


def rates(g: torch.Generator, d: int, kinds: int, dtype: torch.dtype, slot: Tensor | None = None) -> Rates:
    n = torch.randint(0, 4, (NODES, kinds), generator=g).to(dtype)
    mean, m2 = torch.randn(2, NODES, kinds, d, generator=g, dtype=dtype)
    return Rates(n, mean, m2.square(), slot)


@st.composite
def corrections(draw: Any) -> dict[str, Any]:
    """Arguments of ``pres_correct``, with and without all that may be left out."""
    g = torch.Generator().manual_seed(draw(st.integers(0, 999)))
    dtype, kalman = draw(st.sampled_from((torch.float32, torch.float64))), draw(st.booleans())
    rows, d, kinds = draw(st.integers(0, 7)), draw(st.integers(1, 5)), draw(st.integers(1, 3))

    def maybe(value: Any) -> Any:
        return value if draw(st.booleans()) else None

    def number() -> Tensor:
        return torch.rand((), generator=g, dtype=torch.float64) + 0.1

    wide = not kalman and draw(st.booleans())
    slot = maybe(torch.randint(-1, NODES, (NODES,), generator=g))
    return {
        "rates": rates(g, d, kinds, dtype, slot),
        "nodes": torch.randint(0, NODES, (rows,), generator=g),
        "prev": torch.randn(rows, d, generator=g, dtype=dtype),
        "measured": torch.randn(rows, d, generator=g, dtype=dtype),
        "weight": torch.rand(1, d if wide else 1, generator=g, dtype=dtype),
        "clock": maybe(Clock(torch.rand(rows, generator=g, dtype=torch.float64) * 9, number(), 5 * number(), 0.01)),
        "count": maybe(torch.randint(1, 5, (rows,), generator=g)),
        "kinds": maybe(torch.randint(0, 2, (rows, kinds), generator=g).to(dtype)) if kinds > 1 else None,
        "affected": maybe(torch.rand(rows, generator=g) < 0.6),
        "bound": maybe((number().to(dtype), 0.5)),
        "min_count": 2,
        "kalman": kalman,
    }


def row_by_row(call: dict[str, Any], r: int) -> Tensor:
    """The definition, a node and a kind at a time."""
    moments, node, clock = call["rates"], int(call["nodes"][r]), call["clock"]
    prev, new, q = call["prev"][r], call["measured"][r], 1 if call["count"] is None else int(call["count"][r])
    at = node if moments.slot is None else int(moments.slot[node])
    n = moments.n[at] if at >= 0 else torch.zeros_like(moments.n[0])
    good = [c for c in range(n.numel()) if n[c] >= 2]
    if call["affected"] is not None and not (call["affected"][r] and good):
        return new
    share = {c: float(n[c] if call["kinds"] is None else call["kinds"][r, c]) for c in good}
    if sum(share.values()) == 0:
        share = {c: float(n[c]) for c in good}
    total = sum(share.values())
    rate = sum((w / total * moments.mean[at, c] for c, w in share.items()), torch.zeros_like(prev))
    spread = [moments.m2[at, c] / n[c] + (moments.mean[at, c] - rate) ** 2 for c in good]
    variance = sum((share[c] / total * v for c, v in zip(good, spread, strict=True)), torch.zeros_like(prev))
    span = q if clock is None else max(min(float(clock.dt[r]), float(clock.longest)) / float(clock.tau), clock.eps)
    shift = span * rate
    if call["bound"] is not None:
        edge = call["bound"][1] * float(call["bound"][0]) ** 0.5
        shift = shift.clamp(-edge, edge)
    alpha = call["weight"][0]
    if call["kalman"]:
        p = span**2 * variance
        alpha = p / (p + alpha * q)
    return (1 - alpha) * (prev + shift) + alpha * new


@given(call=corrections())
def test_corrections(call: dict[str, Any]) -> None:
    found, hit = pres_correct(**call)
    assert found.shape == call["measured"].shape
    for r in range(found.size(0)):
        torch.testing.assert_close(found[r], row_by_row(call, r), rtol=1e-4, atol=1e-5)
        assert bool(hit[r]) or torch.equal(found[r], call["measured"][r])


@given(call=corrections())
def test_tables_of_all_nodes(call: dict[str, Any]) -> None:
    """A row for each node, of which the asked ones are looked up."""
    nodes = call["nodes"].unique()
    tables = {name: call[name] for name in ("prev", "count", "affected") if call[name] is not None}
    rows = {name: value.new_zeros(NODES, *value.shape[1:]) for name, value in tables.items()}
    at = torch.tensor([int((call["nodes"] == node).nonzero()[0]) for node in nodes], dtype=torch.int64)
    for name, value in tables.items():
        rows[name][nodes] = value[at]
    clock = call["clock"] and call["clock"]._replace(dt=call["clock"].dt[at])
    asked = {"nodes": nodes, "measured": call["measured"][at], "clock": clock}
    asked["kinds"] = None if call["kinds"] is None else call["kinds"][at]
    found = pres_correct(**{**call, **rows, **asked}, by_node=True)
    for one, other in zip(found, pres_correct(**call), strict=True):
        assert torch.equal(one, other[at])


def flat(call: dict[str, Any]) -> tuple[Any, ...]:
    """Arguments of the operator."""
    seen: list[Any] = []

    def keep(*arguments: Any) -> list[Tensor]:
        seen.extend(arguments)
        return [call["measured"]] * 4

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("graphmem.ops.pres._pres_correct", keep)
        pres_correct(**call)
    return tuple(seen)


@given(call=corrections(), seed=st.integers(0, 99))
def test_correction_and_gradient_are_the_reference_s(call: dict[str, Any], seed: int) -> None:
    arguments = (*flat(call)[:-1], True)  # with what the gradient needs
    got, want = torch.ops.graphmem.pres_correct(*arguments), reference.pres_correct(*arguments)
    for one, other in zip(got, want, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    grad = torch.randn(call["measured"].shape, generator=torch.Generator().manual_seed(seed)).to(got[0].dtype)
    backward = (grad, call["measured"], *got[1:], call["weight"])
    pairs = zip(
        torch.ops.graphmem.pres_correct_backward(*backward), reference.pres_correct_backward(*backward), strict=True
    )
    for one, other in pairs:
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@given(call=corrections())
def test_gradients_of_corrections(call: dict[str, Any]) -> None:
    if call["measured"].dtype == torch.float32 or call["measured"].numel() == 0:
        return
    call["weight"] = call["weight"] * 0.8 + 0.1

    def run(measured: Tensor, weight: Tensor) -> Tensor:
        return pres_correct(**{**call, "measured": measured, "weight": weight})[0]

    assert torch.autograd.gradcheck(run, (call["measured"].requires_grad_(), call["weight"].requires_grad_()))


@given(
    seed=st.integers(0, 999),
    d=st.integers(1, 5),
    kinds=st.integers(1, 3),
    rows=st.integers(0, NODES),
    options=st.tuples(*[st.booleans()] * 6),
)
def test_observations_are_the_reference_s(seed: int, d: int, kinds: int, rows: int, options: tuple[bool, ...]) -> None:
    g = torch.Generator().manual_seed(seed)
    squares, moved, timed, weighed, anchored, scaled = options
    slot = torch.randperm(NODES, generator=g) - 2 if anchored else None
    x, prev = torch.randn(2, rows, d, generator=g)
    t = torch.rand(rows + 2, generator=g, dtype=torch.float64) + 0.1
    found = []
    for served in (torch.ops.graphmem.pres_observe, reference.pres_observe):
        n, mean, m2, _ = rates(torch.Generator().manual_seed(seed), d, kinds, torch.float32)
        scale = torch.tensor([0.3]) if scaled else torch.empty(0)
        state = n, mean, m2 if squares else m2[:0].clone(), scale  # type: ignore[index, union-attr]
        some = x, prev if moved else None, torch.arange(NODES)[-rows or NODES :], slot, NODES - 2
        clock = (t[2:], t[0], t[1]) if timed and moved else (None, None, None)
        weights = torch.rand(rows, kinds, generator=torch.Generator().manual_seed(seed)) if weighed else None
        found.append((served(*state, *some, weights, *clock, 0.2, 0.9, 0.1), *state))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def rows_of(seed: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    """States, rows with one of them twice, and previous states, of which one is zero."""
    g = torch.Generator().manual_seed(seed)
    x, prev = torch.randn(2, 6, 4, generator=g, dtype=dtype)
    prev[1] = 0
    return x, torch.tensor([3, 0, 2, 3, 5]), prev[:5]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_coherence(dtype: torch.dtype) -> None:
    x, row, prev = rows_of(0, dtype)
    there = torch.tensor([0, 2, 3, 4])
    want = 1 - torch.cosine_similarity(x[row[there]], prev[there]).mean()
    torch.testing.assert_close(coherence(x, row, prev), want)
    assert float(coherence(x, row, torch.zeros_like(prev))) == 0
    assert float(coherence(x, row[:0], prev[:0])) == 0
    assert torch.isfinite(coherence(torch.zeros_like(x), row, prev))
    torch.testing.assert_close(coherence(2 * x, torch.arange(6), x), x.new_zeros(()), atol=1e-6, rtol=0)
    torch.testing.assert_close(coherence(-x, torch.arange(6), x), x.new_full((), 2))
    got, known = torch.ops.graphmem.coherence(x, row, prev), reference.coherence(x, row, prev)
    for one, other in zip(got, known, strict=True):
        torch.testing.assert_close(one, other)
    arguments = (x.new_tensor(1.5), x, row, prev, got[1])
    one, other = (f.coherence_backward(*arguments) for f in (torch.ops.graphmem, reference))
    torch.testing.assert_close(one, other)


def test_gradient_of_the_coherence() -> None:
    x, row, prev = rows_of(1)
    assert torch.autograd.gradcheck(lambda x: coherence(x, row, prev), x.requires_grad_())


@pytest.mark.usefixtures("restore_threads")
def test_threads_do_not_show() -> None:
    g = torch.Generator().manual_seed(0)
    rows, d = 3000, 64
    table = Rates(torch.full((rows, 1), 5.0), torch.randn(rows, 1, d, generator=g), None, None)
    prev, measured, grad = torch.randn(3, rows, d, generator=g)
    nodes, found = torch.arange(rows), []
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        new, weight = measured.clone().requires_grad_(), torch.tensor([[0.7]], requires_grad=True)
        out, _ = pres_correct(table, nodes, prev, new, weight, clock=None, count=None)
        more = coherence(out, nodes.flip(0), prev)
        (out * grad).sum().backward(retain_graph=True)
        more.backward()
        own = Rates(*(x if x is None else x.clone() for x in table))
        scale = torch.tensor(1.0)
        pres_observe(own, nodes, new.detach(), prev=prev, capacity=rows, decay=1.0, scale=scale, scale_rate=0.1)
        found.append([out.detach(), more.detach(), new.grad, weight.grad, *own[:2], scale])
    for other in found[1:]:
        assert all(same_bits(a, b) for a, b in zip(found[0], other, strict=True))
