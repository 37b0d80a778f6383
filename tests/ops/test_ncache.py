"""Operators of the N-cache: the reference in torch's operations, gradients, both orders of a batch, bad arguments."""

from __future__ import annotations

import os
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import SEEDS, features, same_bits
from test_temporal_ops import agree, integers, vector
from torch import Tensor

from graphmem import ops
from graphmem.errors import ArgumentError
from graphmem.ops import CellWeights, Layout, reference

DTYPES = (torch.float32, torch.float64)
SIZES = st.sampled_from(((4, 2), (1,), (3, 5), (8, 4, 2)))
NODES = 11
FEW = "GRAPHMEM_LIBRARY_DIR" in os.environ  # calls: an emulated one takes a fiber for every thread


def layout_of(sizes: tuple[int, ...], seed: int, hash: str = "mix") -> Layout:
    return Layout(sizes, hash, seed % 1000)


def empty_cells(
    layout: Layout, width: int, time: torch.dtype = torch.int64, key: torch.dtype = torch.int64, value: Any = None
) -> list[Tensor]:
    shape = (NODES, 1 + sum(layout.sizes))
    cells = [torch.full(shape, -1, dtype=key), torch.full(shape, -1), torch.zeros(shape, dtype=time)]
    return [*cells, torch.zeros(*shape, width, dtype=value or torch.float32)]


def batch(seed: int, count: int, first: int, time: torch.dtype = torch.int64) -> tuple[Tensor, ...]:
    """Hubs, self-loops and equal times; the last node stays without events."""
    src, dst = integers(seed, 0, (NODES - 1) ** 2, 2, count).double().sqrt().long()
    return src, dst, (torch.arange(count) // 2 + first).to(time), torch.arange(count) + 2**24 + first


def commit(operator: Any, cells: list[Tensor], layout: Layout, events: tuple[Tensor, ...], **how: Any) -> None:
    """With what the cells are worth drawn for every batch."""
    nodes, at = ops.distinct(torch.cat(events[:2]))
    width, full = cells[3].size(2), torch.float64 if cells[3].dtype == torch.float64 else torch.float32
    shape = nodes.numel(), cells[0].size(1), width
    now = features(shape[0] * shape[1], width, int(events[3].sum()), full).view(shape)
    options = {"replace_prob": 0.7, "sequential": False, **how}
    operator(
        *cells,
        *events,
        nodes,
        at,
        now.view(nodes.numel(), cells[0].size(1), width),
        *layout.checked(),
        *options.values(),
    )


def filled(layout: Layout, width: int, seed: int, **dtypes: Any) -> list[Tensor]:
    cells = empty_cells(layout, width, **dtypes)
    for k in range(4):
        commit(reference.ncache_commit, cells, layout, batch(seed + k, 9, 9 * k, cells[2].dtype))
    return cells


def cell_weights(width: int, depth: int, times: int, seed: int, dtype: torch.dtype) -> CellWeights:
    code = vector(times, seed + 1, dtype), vector(times, seed + 2, dtype)
    matrices = [0.4 * features(*shape, seed + 3 + k, dtype) for k, shape in enumerate(
        ((width, depth + times), (3 * width, width), (3 * width, width)))]  # fmt: skip
    return CellWeights(*code, *matrices, vector(3 * width, seed + 7, dtype), vector(3 * width, seed + 8, dtype))


def refresh_arguments(
    layout: Layout, width: int, times: int, raw: int, delta: bool, seed: int, dtype: torch.dtype, **dtypes: Any
) -> tuple[Any, ...]:
    cells = filled(layout, width, seed, **{"value": dtype, **dtypes})
    nodes = torch.randperm(NODES, generator=torch.Generator().manual_seed(seed))[:8]
    messages, row = None, None
    if raw:
        row = integers(seed, 0, 5, 8, cells[0].size(1))
        messages, row = features(5, raw, seed + 9, dtype), torch.where(cells[1][nodes] < 0, -7, row)  # not read
    weights = cell_weights(width, 3 + raw, times, seed, dtype)
    return *cells, nodes, features(NODES, 3, seed, dtype), messages, row, delta, *weights


def pool_arguments(
    layout: Layout, width: int, depth: int, heads: int, timed: bool, seed: int, dtype: torch.dtype, **dtypes: Any
) -> tuple[Any, ...]:
    key, eid, time, _ = filled(layout, width, seed, **dtypes)
    nodes = torch.randperm(NODES, generator=torch.Generator().manual_seed(seed))
    now = features(NODES * key.size(1), width, seed, dtype).view(NODES, -1, width)
    first, second = integers(seed, 0, NODES, 2, 35)
    t = (40 + integers(seed, 0, 9, 35)).to(time.dtype) if timed else None
    position = features(4 ** (len(layout.sizes) + 1), depth, seed + 1, dtype)
    query = features(heads, width + depth + (2 if timed else 0), seed + 2, dtype) * 0.3 if heads else None
    constant = vector(heads, seed + 3, dtype) if heads else None
    return key, eid, time, nodes, now, *layout.checked(), first, second, t, position, query, constant


@pytest.mark.parametrize("dtype", DTYPES)
@given(
    sizes=SIZES,
    width=st.sampled_from((1, 3, 8, 17)),
    times=st.sampled_from((1, 5)),
    raw=st.sampled_from((0, 2)),
    delta=st.booleans(),
    key=st.sampled_from((torch.int32, torch.int64)),
    time=st.sampled_from((torch.int64, torch.float64)),
    seed=SEEDS,
)
@settings(deadline=None)
def test_refresh(
    dtype: torch.dtype, sizes: tuple[int, ...], width: int, times: int, raw: int, delta: bool, seed: int, **dtypes: Any
) -> None:
    args = refresh_arguments(layout_of(sizes, seed), width, times, raw, delta, seed, dtype, **dtypes)
    want = reference.ncache_refresh(*args)
    agree(torch.ops.graphmem.ncache_refresh(*args), want, dtype)
    backward = (features(want.size(0) * want.size(1), width, seed, dtype).view_as(want), *args)
    agree(torch.ops.graphmem.ncache_refresh_backward(*backward), reference.ncache_refresh_backward(*backward), dtype)


@pytest.mark.parametrize("value", [torch.bfloat16, torch.float16])
def test_values_of_half_precision(value: torch.dtype) -> None:
    """Read as they are, computed in float32, and stored rounded once."""
    layout = Layout((4, 2), "mix", 3)
    args = refresh_arguments(layout, 3, 5, 0, True, 1, torch.float32)
    rounded = args[3].to(value)
    got = torch.ops.graphmem.ncache_refresh(*args[:3], rounded, *args[4:])
    assert got.dtype == torch.float32
    assert same_bits(got, torch.ops.graphmem.ncache_refresh(*args[:3], rounded.float(), *args[4:]))
    cells, exact = empty_cells(layout, 3, value=value), empty_cells(layout, 3)
    for state in (cells, exact):
        commit(torch.ops.graphmem.ncache_commit, state, layout, batch(0, 9, 0))
    assert same_bits(cells[3], exact[3].to(value))


@pytest.mark.parametrize("dtype", DTYPES)
@given(
    sizes=SIZES,
    width=st.sampled_from((1, 4, 17)),
    depth=st.sampled_from((1, 6)),
    heads=st.sampled_from((0, 1, 3)),
    timed=st.booleans(),
    hash=st.sampled_from(("mix", "reference")),
    key=st.sampled_from((torch.int32, torch.int64)),
    time=st.sampled_from((torch.int64, torch.float64)),
    seed=SEEDS,
)
@settings(deadline=None)
def test_pool(
    dtype: torch.dtype,
    sizes: tuple[int, ...],
    width: int,
    depth: int,
    heads: int,
    timed: bool,
    hash: str,
    seed: int,
    **dtypes: Any,
) -> None:
    args = pool_arguments(layout_of(sizes, seed, hash), width, depth, heads, timed, seed, dtype, **dtypes)
    want = reference.ncache_pool(*args)
    agree(torch.ops.graphmem.ncache_pool(*args), want, dtype)
    backward = (features(want.size(0) * want.size(1), want.size(2), seed, dtype).view_as(want), *args)
    got = torch.ops.graphmem.ncache_pool_backward(*backward)
    agree(got, reference.ncache_pool_backward(*backward), dtype)


@given(
    sizes=SIZES,
    counts=st.lists(st.sampled_from((0, 1, 2, 13)), max_size=4),
    replace_prob=st.sampled_from((0.0, 0.4, 1.0)),
    sequential=st.booleans(),
    hash=st.sampled_from(("mix", "reference")),
    key=st.sampled_from((torch.int32, torch.int64)),
    time=st.sampled_from((torch.int64, torch.float64)),
    value=st.sampled_from((torch.float32, torch.float64, torch.bfloat16)),
    seed=SEEDS,
)
@settings(deadline=None)
def test_commit(
    sizes: tuple[int, ...],
    counts: list[int],
    replace_prob: float,
    sequential: bool,
    hash: str,
    seed: int,
    **dtypes: Any,
) -> None:
    layout, how = layout_of(sizes, seed, hash), {"replace_prob": replace_prob, "sequential": sequential}
    compiled, slow = empty_cells(layout, 2, **dtypes), empty_cells(layout, 2, **dtypes)
    for k, count in enumerate(counts):
        events = batch(seed + k, count, 20 * k, compiled[2].dtype)
        commit(torch.ops.graphmem.ncache_commit, compiled, layout, events, **how)
        commit(reference.ncache_commit, slow, layout, events, **how)
        for one, other in zip(compiled, slow, strict=True):
            assert same_bits(one, other)


@given(sizes=SIZES, cuts=st.lists(st.integers(0, 30), max_size=4), replace_prob=st.sampled_from((0.4, 1.0)), seed=SEEDS)
@settings(deadline=None)
def test_sequential_does_not_depend_on_batches(
    sizes: tuple[int, ...], cuts: list[int], replace_prob: float, seed: int
) -> None:
    """Keys, numbers and times are those of events that come one by one."""
    layout, events = layout_of(sizes, seed), batch(seed, 30, 0)
    states = []
    for borders in ([*range(31)], sorted([0, *cuts, 30])):
        cells = empty_cells(layout, 1)
        for low, high in zip(borders, borders[1:], strict=False):
            part = tuple(x[low:high] for x in events)
            how = {"replace_prob": replace_prob, "sequential": True}
            commit(torch.ops.graphmem.ncache_commit, cells, layout, part, **how)
        states.append(cells[:3])
    assert all(same_bits(*pair) for pair in zip(*states, strict=True))


def test_one_event_is_the_same_in_both_orders() -> None:
    layout, cells = Layout((4, 2), "mix", 5), [filled(Layout((4, 2), "mix", 5), 2, 0) for _ in range(2)]
    for state, sequential in zip(cells, (False, True), strict=True):
        for k in range(20):
            commit(torch.ops.graphmem.ncache_commit, state, layout, batch(k, 1, k + 50), sequential=sequential)
    assert all(same_bits(*pair) for pair in zip(*cells, strict=True))


def test_gradcheck_of_refresh() -> None:
    *cells, nodes, state, messages, row, delta, tw, tb, w, ih, hh, bi, bh = refresh_arguments(
        Layout((4, 2), "mix", 1), 2, 3, 2, True, 0, torch.float64
    )
    row = row.clamp(min=0)
    leaves = [x.requires_grad_() for x in (tw / 10, tb, w, ih, hh, bi, bh)]

    def run(*weights: Tensor) -> Tensor:
        return ops.ncache_refresh(*cells, nodes, state, CellWeights(*weights), messages, row, delta=delta)

    assert torch.autograd.gradcheck(run, [leaf.detach().requires_grad_() for leaf in leaves], fast_mode=FEW)


@pytest.mark.parametrize("heads", [0, 2])
def test_gradcheck_of_pool(heads: int) -> None:
    layout = Layout((4, 2), "mix", 1)
    key, eid, time, nodes, now, *_, first, second, t, position, query, constant = pool_arguments(
        layout, 2, 3, heads, True, 0, torch.float64
    )
    leaves = [x.requires_grad_() for x in (now, position, *([query, constant] if heads else []))]

    def run(now: Tensor, position: Tensor, query: Any = None, constant: Any = None) -> Tensor:
        options = {"t": t, "query": query, "constant": constant}
        return ops.ncache_pool(key, eid, time, nodes, now, layout, first, second, position, **options)

    assert torch.autograd.gradcheck(run, leaves, fast_mode=FEW)


def test_ages_do_not_depend_on_the_origin_of_times() -> None:
    layout = Layout((4, 2), "mix", 1)
    args = pool_arguments(layout, 2, 3, 2, True, 0, torch.float32)
    moved = [*args]
    moved[2], moved[10] = args[2] + 10**12, args[10] + 10**12
    assert same_bits(torch.ops.graphmem.ncache_pool(*args), torch.ops.graphmem.ncache_pool(*moved))


def test_ages_of_long_times() -> None:
    """From equal times to centuries of nanoseconds, as the library's logarithm to rounding."""
    layout, ages = Layout((1,), "mix", 0), torch.tensor([0, 1, 2, 59, 86_400, 10**9, 2**53, 2**62])
    key, eid, time = torch.tensor([[0, -1]]), torch.tensor([[5, -1]]), torch.zeros(1, 2, dtype=torch.int64)
    zero, none = torch.zeros(8, dtype=torch.int64), torch.zeros(16, 0)
    out = ops.ncache_pool(key, eid, time, torch.tensor([0]), torch.zeros(1, 2, 1), layout, zero, zero, none, t=ages)
    torch.testing.assert_close(out[0, :, 1], ages.double().log1p().float(), rtol=2e-7, atol=2e-7)
    assert same_bits(out[0, :, 1].contiguous(), out[0, :, 2].contiguous())


def test_cells_with_gaps() -> None:
    """Are read as they are; but events cannot enter a copy."""
    layout = Layout((4, 2), "mix", 1)
    (
        key,
        eid,
        time,
        value,
        nodes,
        state,
        *_,
    ) = args = refresh_arguments(layout, 2, 3, 0, True, 0, torch.float32)
    weights = CellWeights(*args[9:])
    strided = [x.repeat_interleave(2, 1)[:, ::2] for x in (key, eid, time, value)]
    assert same_bits(ops.ncache_refresh(*strided, nodes, state, weights), ops.ncache_refresh(*args[:6], weights))
    *cells, nodes, now, _, _, _, first, second, _, position, _, _ = pool_arguments(
        layout, 2, 3, 0, False, 0, torch.float32
    )
    pairs = nodes, now, layout, first, second, position
    assert same_bits(ops.ncache_pool(*strided[:3], *pairs), ops.ncache_pool(*cells, *pairs))
    src, dst, t, event = batch(0, 3, 0)
    nodes, at = ops.distinct(torch.cat((src, dst)))
    entered = src, dst, t, event, nodes, at, torch.zeros(nodes.numel(), 7, 2), layout
    for k, name in enumerate(("key", "eid", "time", "value")):
        cells = [key, eid, time, value]
        for changed in (strided[k], cells[k].to_sparse()):
            cells[k] = changed
            with pytest.raises(ArgumentError, match=f"^{name}: expected a (contiguous|dense) tensor"):
                ops.ncache_commit(*cells, *entered, replace_prob=1.0)


def test_times_that_are_no_numbers() -> None:
    """Ages are 0 where none can be told."""
    layout, zero = Layout((1,), "mix", 0), torch.zeros(1, dtype=torch.int64)
    key, eid = torch.tensor([[0, -1]]), torch.tensor([[5, -1]])
    for when in (float("nan"), float("inf")):
        time = torch.full((1, 2), when, dtype=torch.float64)
        pair = (torch.tensor([0]), torch.zeros(1, 2, 1), layout, zero, zero, torch.zeros(16, 0))
        out = ops.ncache_pool(key, eid, time, *pair, t=torch.full((1,), when, dtype=torch.float64))
        assert out.abs().sum() == 0


@pytest.mark.skipif(not ops.NATIVE, reason="a promise of the compiled operators")
@pytest.mark.usefixtures("restore_threads")
def test_same_bits_for_every_number_of_threads() -> None:
    tiles, pairs = (40, 900) if FEW else (400, 9000)  # at which parts wake threads
    results = []
    for threads in (1, 2, 4):
        torch.set_num_threads(threads)
        layout, width, generator = Layout((8, 4), "mix", 1), 4, torch.Generator().manual_seed(0)
        cells = [x.repeat(tiles, *[1] * (x.dim() - 1)) for x in filled(layout, width, 0)]
        nodes, state = torch.randperm(tiles * NODES, generator=generator), features(tiles * NODES, 6, 1)
        weights = CellWeights(*(w.requires_grad_() for w in cell_weights(width, 6, 5, 2, torch.float32)))
        now = ops.ncache_refresh(*cells, nodes, state, weights)
        first, second = torch.randint(nodes.numel(), (2, pairs), generator=generator)
        position, query = features(64, 7, 3).requires_grad_(), features(2, 13, 4).requires_grad_()
        options = {"t": torch.full((pairs,), 99), "query": query, "constant": torch.zeros(2)}
        out = ops.ncache_pool(*cells[:3], nodes, now, layout, first, second, position, **options)
        out.square().sum().backward()
        results.append([now.detach(), out.detach(), *(w.grad for w in (*weights, position, query))])
    for other in results[1:]:
        assert all(same_bits(one, two) for one, two in zip(results[0], other, strict=True))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("key", torch.full((NODES, 7), NODES), "key: expected ids"),
        ("nodes", torch.tensor([NODES]), "nodes: expected ids"),
        ("state", torch.zeros(NODES, 3, dtype=torch.float64), "state: expected float32"),
        ("state", torch.zeros(NODES, 3).requires_grad_(), "state: expected a tensor that requires no gradient"),
        ("messages", torch.zeros(5, 2), "messages and row: expected both"),
        ("value", torch.zeros(NODES, 6, 2), "value: expected"),
    ],
)
def test_bad_refresh(name: str, value: Tensor, message: str) -> None:
    args = refresh_arguments(Layout((4, 2), "mix", 1), 2, 3, 0, True, 0, torch.float32)
    given = dict(zip(("key", "eid", "time", "value", "nodes", "state"), args[:6], strict=True))
    weights = CellWeights(*args[9:])
    ops.ncache_refresh(**given, weights=weights)
    with pytest.raises(ArgumentError, match=f"^{message}"):
        ops.ncache_refresh(**{**given, name: value}, weights=weights)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("first", torch.full((35,), NODES), "first: expected ids"),
        ("second", torch.zeros(34, dtype=torch.int64), "second: expected"),
        ("t", torch.zeros(35, dtype=torch.float64), "t: expected int64"),
        ("position", torch.zeros(16, 3), "position: expected"),
        ("query", torch.zeros(2, 6), "query: expected"),
        ("query", None, "query and constant: expected both"),
        ("layout", Layout((4, 3)), "key: expected"),
        ("layout", Layout(()), "sizes: expected 1 to 7 hops"),
        ("layout", Layout((4, 2), "md5"), "hash: expected"),
        ("layout", Layout((4, 2), "mix", -1), "seed: expected"),
    ],
)
def test_bad_pool(name: str, value: Any, message: str) -> None:
    layout = Layout((4, 2), "mix", 1)
    args = pool_arguments(layout, 2, 3, 2, True, 0, torch.float32)
    names = ("key", "eid", "time", "nodes", "now", "first", "second", "t", "position", "query", "constant")
    given = {**dict(zip(names, args[:5] + args[8:], strict=True)), "layout": layout}
    ops.ncache_pool(**given)
    with pytest.raises(ArgumentError, match=f"^{message}"):
        ops.ncache_pool(**{**given, name: value})
