"""Operators of temporal models: the reference in torch's operations, gradients, long times, bad arguments."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import SEEDS, features, same_bits
from torch import Tensor

from graphmem import ops
from graphmem.errors import ArgumentError
from graphmem.ops import reference

DTYPES = (torch.float32, torch.float64)
# Around the lanes of a row (16), the blocks of codes (64), of rows (48, 64) and of nodes (16).
WIDTH = st.sampled_from((1, 3, 16, 33, 70))
ROWS = st.sampled_from((0, 1, 17, 48, 49, 130))


def vector(size: int, seed: int, dtype: torch.dtype) -> Tensor:
    return features(1, size, seed, dtype)[0]


def integers(seed: int, low: int, high: int, *shape: int) -> Tensor:
    return torch.randint(low, high, shape, generator=torch.Generator().manual_seed(seed))


def steps(seed: int, *shape: int) -> Tensor:
    return integers(seed, -9, 99, *shape).double()


def agree(got: Any, want: Any, dtype: torch.dtype) -> None:
    got, want = ((part,) if isinstance(part, Tensor) else part for part in (got, want))
    scale = 1e-11 if dtype == torch.float64 else 3e-5
    for one, other in zip(got, want, strict=True):
        assert one.dtype == other.dtype
        torch.testing.assert_close(
            one, other, rtol=scale, atol=scale * max(1, float(other.abs().max().nan_to_num()) if other.numel() else 1)
        )


def gru_arguments(
    rows: int, d: int, raw: int, times: int, seed: int, dtype: torch.dtype, ends: int = 2, low: int = 0
) -> tuple[Any, ...]:
    """With input weights for ``ends`` states, and others from ``low`` on."""
    memory, nodes = features(7, d, seed, dtype), integers(seed, low, 7, 2, rows)
    nodes[0].clamp_(min=0)
    weights = [features(3 * d, width, seed + width, dtype) * 0.3 for width in (ends * d + raw + times, d)]
    code = vector(times, seed + 1, dtype), vector(times, seed + 2, dtype)
    biases = vector(3 * d, seed + 3, dtype), vector(3 * d, seed + 4, dtype)
    return memory, *nodes, features(rows, raw, seed + 5, dtype), steps(seed, rows), *code, *weights, *biases


def attention_arguments(
    n: int, k: int, heads: int, d: int, times: int, raw: int, seed: int, dtype: torch.dtype
) -> tuple[Any, ...]:
    x, nbr = features(9, d, seed, dtype), integers(seed, -1, 9, n, k)
    code = vector(times, seed + 1, dtype), vector(times, seed + 2, dtype)
    messages, eid = (None, None) if raw == 0 else (features(5, raw, seed, dtype), integers(seed, 0, 5, n, k))
    if eid is not None:
        eid = torch.where(nbr < 0, -7, eid)  # not read
    query = features(n, heads * (d + times + raw), seed + 3, dtype) * 0.3
    return query, x, nbr, steps(seed, n, k), *code, messages, eid


@pytest.mark.parametrize("dtype", DTYPES)
@given(rows=ROWS, width=WIDTH, seed=SEEDS)
def test_time_code(dtype: torch.dtype, rows: int, width: int, seed: int) -> None:
    args = steps(seed, rows), vector(width, seed, dtype), vector(width, seed + 1, dtype)
    agree(torch.ops.graphmem.time_code(*args), reference.time_code(*args), dtype)
    grad = features(rows, width, seed + 2, dtype)
    agree(torch.ops.graphmem.time_code_backward(grad, *args), reference.time_code_backward(grad, *args), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@given(
    rows=ROWS,
    d=WIDTH,
    raw=st.sampled_from((0, 1, 5)),
    times=WIDTH,
    ends=st.sampled_from((1, 2)),
    low=st.sampled_from((-3, 0)),
    seed=SEEDS,
)
def test_memory_gru(
    dtype: torch.dtype, rows: int, d: int, raw: int, times: int, ends: int, low: int, seed: int
) -> None:
    args = gru_arguments(rows, d, raw, times, seed, dtype, ends, low)
    got, want = torch.ops.graphmem.memory_gru(*args, True), reference.memory_gru(*args, True)
    agree(got, want, dtype)
    unsaved = torch.ops.graphmem.memory_gru(*args, False)
    assert same_bits(unsaved[0], got[0])
    assert [part.size(0) for part in unsaved[1:]] == [0, 0]
    backward = (features(rows, d, seed + 9, dtype), want[1], want[2], args[4], *args[5:8])
    agree(torch.ops.graphmem.memory_gru_backward(*backward), reference.memory_gru_backward(*backward), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@given(rows=st.sampled_from((0, 1, 31, 33, 70)), d=WIDTH, seed=SEEDS)
def test_gru_step(dtype: torch.dtype, rows: int, d: int, seed: int) -> None:
    args = *(features(rows, 3 * d, seed + n, dtype) for n in (0, 1)), features(rows, d, seed + 2, dtype)
    got, want = torch.ops.graphmem.gru_step(*args, True), reference.gru_step(*args, True)
    agree(got, want, dtype)
    unsaved = torch.ops.graphmem.gru_step(*args, False)
    assert same_bits(unsaved[0], got[0])
    assert unsaved[1].numel() == 0
    backward = features(rows, d, seed + 3, dtype), want[1], args[2]
    agree(torch.ops.graphmem.gru_step_backward(*backward), reference.gru_step_backward(*backward), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@given(
    n=st.sampled_from((0, 1, 15, 33)),
    k=st.sampled_from((0, 1, 5)),
    heads=st.sampled_from((1, 2, 3)),
    d=WIDTH,
    times=st.sampled_from((1, 17)),
    raw=st.sampled_from((0, 4)),
    p=st.sampled_from((0.0, 0.4)),
    seed=SEEDS,
)
def test_temporal_attention(
    dtype: torch.dtype, n: int, k: int, heads: int, d: int, times: int, raw: int, p: float, seed: int
) -> None:
    args = (*attention_arguments(n, k, heads, d, times, raw, seed, dtype), p, seed)
    want = reference.temporal_attention(*args)
    agree(torch.ops.graphmem.temporal_attention(*args), want, dtype)
    grad = features(heads * n, want[0].size(2), seed + 9, dtype).view_as(want[0])
    backward = (grad, want[1], *args)
    agree(
        torch.ops.graphmem.temporal_attention_backward(*backward),
        reference.temporal_attention_backward(*backward),
        dtype,
    )


@pytest.mark.parametrize("dtype", DTYPES)
@given(rows=st.sampled_from((0, 1, 40)), candidates=st.sampled_from((0, 1, 7)), width=WIDTH, seed=SEEDS)
def test_pair_relu_dot(dtype: torch.dtype, rows: int, candidates: int, width: int, seed: int) -> None:
    h, weight = features(11, 2 * width, seed, dtype), vector(width, seed + 1, dtype)
    ends = integers(seed, 0, 11, rows), integers(seed + 1, 0, 11, rows, candidates)
    args = h, *ends, weight, vector(1, seed + 2, dtype)
    agree(torch.ops.graphmem.pair_relu_dot(*args), reference.pair_relu_dot(*args), dtype)
    grad = features(rows, candidates, seed + 3, dtype)
    backward = (grad, *args[:4])
    agree(torch.ops.graphmem.pair_relu_dot_backward(*backward), reference.pair_relu_dot_backward(*backward), dtype)


@given(st.lists(st.integers(-3, 12) | st.sampled_from((-(2**63), 2**62, 2**63 - 1)), max_size=60))
def test_distinct(ids: list[int]) -> None:
    listed = torch.tensor(ids, dtype=torch.int64)
    values, place = ops.distinct(listed)
    want = list(dict.fromkeys(i for i in ids if i >= 0))
    assert values.tolist() == want
    assert place.tolist() == [want.index(i) if i >= 0 else -1 for i in ids]
    both = zip(reference.distinct(listed), torch.ops.graphmem.distinct(listed), strict=True)
    assert all(torch.equal(one, other) for one, other in both)


def test_distinct_of_ids_that_share_low_bits() -> None:
    ids = torch.arange(5000) * 2**40
    values, place = ops.distinct(ids.flip(0).repeat(2))
    assert torch.equal(values, ids.flip(0))
    assert torch.equal(place, torch.arange(5000).repeat(2))


def test_gradients_of_time_code() -> None:
    weight, bias = (vector(5, seed, torch.float64).requires_grad_() for seed in (0, 1))
    assert torch.autograd.gradcheck(lambda w, b: ops.time_code(steps(0, 7) / 10, w, b), (weight, bias))


@pytest.mark.parametrize("ends", [1, 2])
@pytest.mark.parametrize("low", [0, -5])
def test_gradients_of_memory_gru(ends: int, low: int) -> None:
    *data, dt, tw, tb, ih, hh, bi, bh = gru_arguments(6, 4, 2, 3, 0, torch.float64, ends, low)
    assert bool((data[2] < 0).any()) == (low < 0)
    weights = [w.requires_grad_() for w in (tw, tb, ih, hh, bi, bh)]
    assert torch.autograd.gradcheck(lambda *w: ops.memory_gru(*data, dt / 10, *w), weights)


@pytest.mark.parametrize("dtype", DTYPES)
def test_states_of_nodes_without_another_stay(dtype: torch.dtype) -> None:
    """Bit for bit, and no gradient comes from them, whatever their message is."""
    memory, node, other, msg, dt, *weights = gru_arguments(60, 5, 2, 3, 0, dtype)
    weights = [w.requires_grad_() for w in weights]
    alone = torch.arange(60) % 3 == 0
    other, msg = other.masked_fill(alone, -1), msg.masked_fill(alone.unsqueeze(1), 1e30)
    out = ops.memory_gru(memory, node, other, msg, dt, *weights)
    assert same_bits(out[alone].detach(), memory[node[alone]])
    grads = torch.autograd.grad(out.square().sum(), weights)
    rest = ~alone
    met = ops.memory_gru(memory, node[rest], other[rest], msg[rest], dt[rest], *weights)
    agree(met.detach(), out[rest].detach(), dtype)
    agree(grads, torch.autograd.grad(met.square().sum(), weights), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_cell_that_reads_its_state_as_state_alone(dtype: torch.dtype) -> None:
    """Is the other form with zeros in the columns of the state."""
    *data, tw, tb, ih, hh, bi, bh = gru_arguments(60, 5, 2, 3, 0, dtype, ends=1)
    padded = torch.cat((ih.new_zeros(15, 5), ih), 1)
    results = []
    for weight in (ih.requires_grad_(), padded.requires_grad_()):
        out = ops.memory_gru(*data, tw, tb, weight, hh, bi, bh)
        results.append((out.detach(), torch.autograd.grad(out.square().sum(), weight)[0][:, -10:]))
    agree(*results, dtype)


@pytest.mark.parametrize("p", [0.0, 0.5])
def test_gradients_of_temporal_attention(p: float) -> None:
    query, x, nbr, dt, tw, tb, messages, eid = attention_arguments(4, 3, 2, 3, 2, 2, 0, torch.float64)
    eid = eid.clamp(min=0)
    leaves = [t.requires_grad_() for t in (query, x, tw, tb)]

    def run(query: Tensor, x: Tensor, tw: Tensor, tb: Tensor) -> Tensor:
        return ops.temporal_attention(query, x, nbr, dt / 10, tw, tb, messages, eid, p=p, seed=3)

    assert torch.autograd.gradcheck(run, leaves)


def test_gradients_of_gru_step() -> None:
    args = features(5, 9, 0, torch.float64), features(5, 9, 1, torch.float64), features(5, 3, 2, torch.float64)
    assert torch.autograd.gradcheck(ops.gru_step, [t.requires_grad_() for t in args])


def test_gru_step_is_the_rest_of_the_cell() -> None:
    cell, x, s = torch.nn.GRUCell(4, 3).double(), features(5, 4, 0, torch.float64), features(5, 3, 1, torch.float64)
    g = torch.nn.functional.linear(x, cell.weight_ih, cell.bias_ih)
    h = torch.nn.functional.linear(s, cell.weight_hh, cell.bias_hh)
    torch.testing.assert_close(ops.gru_step(g, h, s), cell(x, s))


def test_gradients_of_pair_relu_dot() -> None:
    h, weight, bias = features(6, 8, 0, torch.float64), vector(4, 1, torch.float64), vector(1, 2, torch.float64)
    src, dst = integers(0, 0, 6, 5), integers(1, 0, 6, 5, 3)
    leaves = [t.requires_grad_() for t in (h, weight, bias)]
    assert torch.autograd.gradcheck(lambda h, w, b: ops.pair_relu_dot(h, src, dst, w, b), leaves)


def test_codes_of_long_times() -> None:
    """A month in seconds, in milliseconds, in nanoseconds and more: within 2e-7, which float32 phases are not."""
    weight, bias = vector(64, 0, torch.float32), vector(64, 1, torch.float32)
    dt = torch.tensor([0.0, 1.0, 2_678_373.0, 2.7e9, 1.4e10, 2.7e15, 1e18, -1e300, math.inf], dtype=torch.float64)
    want = (dt.unsqueeze(1) * weight.double() + bias.double()).cos()
    torch.testing.assert_close(ops.time_code(dt, weight, bias).double(), want, rtol=0, atol=2e-7, equal_nan=True)
    assert want[-1].isnan().all()
    assert (dt[2].float() * weight + bias).cos().double().sub(want[2]).abs().max() > 1e-2


def test_float32_functions_of_gates() -> None:
    """The cell's own exponential: the states of float64 but for rounding, from tiny to saturated gates."""
    args = gru_arguments(500, 32, 2, 8, 3, torch.float64)
    for scale in (1e-3, 1.0, 40.0):
        scaled = [a * scale if 6 < k else a for k, a in enumerate(args)]
        single = [a.float() if a.is_floating_point() and k != 4 else a for k, a in enumerate(scaled)]
        double = [a.double() if a.is_floating_point() else a for a in single]
        got, want = ops.memory_gru(*single), ops.memory_gru(*double)
        assert (got.double() - want).abs().max() < (4e-6 if scale <= 1 else 1e-3)


@pytest.mark.skipif(not ops.NATIVE, reason="a promise of the compiled operators")
@pytest.mark.usefixtures("restore_threads")
def test_same_bits_for_every_number_of_threads() -> None:
    results = []
    for threads in (1, 2, 4):
        torch.set_num_threads(threads)
        *data, tw, tb, ih, hh, bi, bh = gru_arguments(700, 40, 3, 24, 0, torch.float32)
        leaves = [t.requires_grad_() for t in (tw, tb, ih, hh, bi, bh)]
        query, x, nbr, dt, *_ = attention_arguments(300, 6, 2, 40, 24, 0, 1, torch.float32)
        leaves += [t.requires_grad_() for t in (query, x)]
        out = [ops.memory_gru(*data, *leaves[:6]), ops.temporal_attention(query, x, nbr, dt, tw, tb, p=0.2, seed=5)]
        h, weight = features(90, 80, 2, torch.float32).requires_grad_(), vector(40, 3, torch.float32).requires_grad_()
        src, dst = integers(0, 0, 90, 500), integers(1, 0, 90, 500, 4)
        out.append(ops.pair_relu_dot(h, src, dst, weight, torch.zeros(1)))
        out.append(ops.time_code(steps(3, 900), tw, tb))
        cell = [features(700, width, 4 + width, torch.float32).requires_grad_() for width in (120, 120, 40)]
        out.append(ops.gru_step(*cell))
        sum(part.square().sum() for part in out).backward()
        results.append([*(part.detach() for part in out), *(leaf.grad for leaf in (*leaves, h, weight, *cell))])
    for other in results[1:]:
        assert all(same_bits(one, two) for one, two in zip(results[0], other, strict=True))


GRU = dict(
    zip(
        (
            "memory",
            "node",
            "other",
            "msg",
            "dt",
            "time_weight",
            "time_bias",
            "weight_ih",
            "weight_hh",
            "bias_ih",
            "bias_hh",
        ),
        gru_arguments(3, 4, 2, 5, 0, torch.float32),
        strict=True,
    )
)
ATTENTION = dict(
    zip(
        ("query", "x", "nbr", "dt", "time_weight", "time_bias", "messages", "eid"),
        attention_arguments(3, 2, 2, 4, 5, 2, 0, torch.float32),
        strict=True,
    )
)
STEP = {"g": torch.ones(3, 12), "h": torch.ones(3, 12), "state": torch.ones(3, 4)}
PAIRS = {"h": torch.ones(3, 4), "src": torch.zeros(2).long(), "dst": torch.zeros(2, 3).long(), "weight": torch.ones(2)}
PAIRS["bias"] = torch.ones(1)
CODE = {"dt": torch.ones(3).double(), "weight": torch.ones(2), "bias": torch.ones(2)}


@pytest.mark.parametrize(
    ("function", "valid"),
    [
        (ops.memory_gru, GRU),
        (ops.temporal_attention, ATTENTION),
        (ops.pair_relu_dot, PAIRS),
        (ops.time_code, CODE),
        (ops.gru_step, STEP),
    ],
    ids=["memory_gru", "temporal_attention", "pair_relu_dot", "time_code", "gru_step"],
)
def test_every_argument_is_checked(function: Any, valid: dict[str, Tensor]) -> None:
    function(**valid)
    for name, value in valid.items():
        for wrong in (value[None], value.to(torch.float16), value.to(torch.bool)):
            with pytest.raises(ArgumentError, match=rf"^{name}: "):
                function(**{**valid, name: wrong})
        if value.dtype == torch.int64:
            with pytest.raises(ArgumentError, match=rf"^{name}: expected ids in"):
                function(**{**valid, name: value + 100})


def test_arguments_without_a_gradient_are_named() -> None:
    for name in ("memory", "msg"):
        with pytest.raises(ArgumentError, match=f"^{name}: expected a tensor that requires no gradient"):
            ops.memory_gru(**{**GRU, name: GRU[name].clone().requires_grad_()})
    with pytest.raises(ArgumentError, match="^messages: expected a tensor that requires no gradient"):
        ops.temporal_attention(**{**ATTENTION, "messages": ATTENTION["messages"].clone().requires_grad_()})
    with pytest.raises(ArgumentError, match="^messages and eid: expected both or neither"):
        ops.temporal_attention(**{**ATTENTION, "eid": None})
    with pytest.raises(ArgumentError, match="^ids: "):
        ops.distinct(torch.ones(3))
