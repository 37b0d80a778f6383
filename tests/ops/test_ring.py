"""Rings of latest events: against lists in Python and the reference, bad arguments, any number of threads."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from graphmem import ops
from graphmem.errors import ArgumentError, ArgumentTypeError
from graphmem.ops import reference

TIMES = (torch.int64, torch.float64)
State = tuple[Tensor, ...]
Events = tuple[Tensor, Tensor, Tensor, Tensor]


def empty(nodes: int, size: int, dtype: torch.dtype = torch.int64) -> State:
    """Garbage where nothing was entered yet: nobody may read it."""
    nbr = torch.full((nodes, size), 77)
    rows = nbr, nbr.clone(), nbr.to(dtype, copy=True), torch.zeros(nodes, dtype=torch.int64)
    return *rows, torch.tensor(0), torch.zeros((), dtype=dtype)


def batch(seed: int, count: int, nodes: int, dtype: torch.dtype = torch.int64) -> Events:
    """Hubs, self-loops and equal times."""
    generator = torch.Generator().manual_seed(seed)
    src, dst = (nodes * torch.rand(2, count, generator=generator) ** 3).long()
    t = torch.randint(2, (count,), generator=generator).cumsum(0).to(dtype)
    return src, dst, t, torch.randint(10**6, (count,), generator=generator)


def latest(lists: list[list[Any]], ids: list[int], k: int, before: list[float]) -> list[list[Any]]:
    found = []
    for node, limit in zip(ids, before, strict=True):
        events = [entry for entry in lists[node] if entry[2] < limit][::-1][:k]
        found.append(events + [(-1, -1, 0)] * (k - len(events)))
    return found


@pytest.mark.parametrize("dtype", TIMES)
@given(
    numbered=st.booleans(),
    timed=st.booleans(),
    seed=st.integers(0, 999),
    sizes=st.lists(st.sampled_from((0, 1, 2, 7, 30)), max_size=5),
    nodes=st.sampled_from((1, 3, 9)),
    size=st.sampled_from((1, 2, 3, 8)),
    data=st.data(),
)
def test_against_lists(
    dtype: torch.dtype,
    numbered: bool,
    timed: bool,
    seed: int,
    sizes: list[int],
    nodes: int,
    size: int,
    data: st.DataObject,
) -> None:
    compiled, loops = empty(nodes, size, dtype), empty(nodes, size, dtype)
    lists: list[list[Any]] = [[] for _ in range(nodes)]
    following, now = 0, 0
    for number, count in enumerate(sizes):
        src, dst, t, event = batch(seed + number, count, nodes, dtype)
        t, event = t + now, (event if timed else event.sort().values + following)
        given_t, given_event = (t if timed else None), (event if numbered else None)
        ops.ring_insert(*compiled, src, dst, given_t, given_event)
        reference.ring_insert(*loops, src, dst, given_t, given_event)
        numbers = event.tolist() if numbered else list(range(following, following + count))
        times = t.tolist() if timed else numbers
        for i, j, when, which in zip(src.tolist(), dst.tolist(), times, numbers, strict=True):
            lists[i].append((j, which, when))
            lists[j].append((i, which, when))
        following, now = max([following, *(n + 1 for n in numbers)]), max([now, *times])
        assert (compiled[4].item(), compiled[5].item()) == (following, now)
    assert all(torch.equal(one, other) for one, other in zip(compiled, loops, strict=True))
    assert compiled[3].tolist() == [len(events) for events in lists]
    lists = [events[-size:] for events in lists]
    ids = data.draw(st.lists(st.integers(0, nodes - 1), max_size=6))
    limits = data.draw(st.lists(st.integers(-1, 40), min_size=len(ids), max_size=len(ids)))
    asked = torch.tensor(ids, dtype=torch.int64)
    for k in range(1, size + 1):
        for before, limit in ((None, [math.inf] * len(ids)), (torch.tensor(limits, dtype=dtype), limits)):
            got = ops.ring_query(*compiled[:4], asked, k, before)
            assert all(part.shape == (len(ids), k) for part in got)
            assert got[2].dtype == dtype
            rows = [list(zip(*row, strict=True)) for row in zip(*(part.tolist() for part in got), strict=True)]
            assert rows == latest(lists, ids, k, limit)
            want = reference.ring_query(*compiled[:4], asked, before, k)
            assert all(torch.equal(one, other) for one, other in zip(got, want, strict=True))


def test_counts_that_wrap_stay_inside_a_row() -> None:
    """Counts are state that anybody may have written; whatever they say, no other memory is touched."""
    events = batch(0, 9, 3)
    found = []
    for insert in (ops.ring_insert, reference.ring_insert):
        state = empty(3, 5)
        state[3].copy_(torch.tensor([-1, 2**63 - 2, -(2**63)]))
        insert(*state, *events)
        query = ops.ring_query(*state[:4], torch.arange(3), 5)
        want = reference.ring_query(*state[:4], torch.arange(3), None, 5)
        assert all(torch.equal(one, other) for one, other in zip(query, want, strict=True))
        found.append(state)
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


@pytest.mark.parametrize("wrong", [{"src": 9}, {"dst": -1}, {"t": 3}, {"t": 99}])
def test_a_refused_batch_leaves_no_trace(wrong: dict[str, int]) -> None:
    """One wrong value in the middle: nothing before it was written either."""
    state = empty(4, 3)
    ops.ring_insert(*state, *batch(0, 5, 4)[:2], torch.full((5,), 7))
    kept = [x.clone() for x in state]
    events = {"src": torch.arange(4), "dst": torch.arange(4).flip(0), "t": torch.full((4,), 8)}
    for name, value in wrong.items():
        events[name][2] = value
    with pytest.raises(ArgumentError, match=f"^{next(iter(wrong))}: expected"):
        ops.ring_insert(*state, **events)
    assert all(torch.equal(one, other) for one, other in zip(state, kept, strict=True))


def test_columns_of_other_tensors_are_taken() -> None:
    """Strided ids and times: the same rows as from copies."""
    table = torch.tensor([[0, 1, 5], [2, 1, 6], [1, 1, 6]])
    states = empty(4, 3), empty(4, 3)
    ops.ring_insert(*states[0], *table.t())
    ops.ring_insert(*states[1], *table.t().contiguous())
    assert all(torch.equal(one, other) for one, other in zip(*states, strict=True))
    found = ops.ring_query(*states[0][:4], table[:, 0], 2, table[:, 2])
    want = ops.ring_query(*states[0][:4], table[:, 0].clone(), 2, table[:, 2].clone())
    assert all(torch.equal(one, other) for one, other in zip(found, want, strict=True))


def test_nothing_is_before_a_time_that_is_none() -> None:
    state = empty(2, 3, torch.float64)
    ops.ring_insert(*state, torch.tensor([0]), torch.tensor([1]), torch.ones(1).double(), torch.tensor([5]))
    limits = torch.tensor([math.nan, math.inf], dtype=torch.float64)
    assert ops.ring_query(*state[:4], torch.arange(2), 1, limits)[0].tolist() == [[-1], [0]]


@pytest.mark.skipif(not ops.NATIVE, reason="a promise of the compiled operators")
@pytest.mark.usefixtures("restore_threads")
def test_same_bits_for_every_number_of_threads() -> None:
    found = []
    for threads in (1, 2, 4):
        torch.set_num_threads(threads)
        state = empty(500, 7)
        ops.ring_insert(*state, *batch(0, 20_000, 500))
        found.append((*state, *ops.ring_query(*state[:4], torch.arange(500).repeat(20), 5)))
    for other in found[1:]:
        assert all(torch.equal(one, two) for one, two in zip(found[0], other, strict=True))


def test_compile_writes_the_state() -> None:
    def run(*args: Tensor) -> Tensor:
        state, (src, dst, t, event) = args[:6], args[6:]
        ops.ring_insert(*state, src + 0, dst, t + state[5], event)
        return ops.ring_query(*state[:4], dst, 2)[1] * 2

    torch._dynamo.reset()
    fast = torch.compile(run, fullgraph=True, dynamic=True, backend="aot_eager")
    states = empty(6, 3), empty(6, 3)
    for seed, size in enumerate((5, 9, 17)):
        events = batch(seed, size, 6)
        assert torch.equal(fast(*states[0], *events), run(*states[1], *events))
        assert all(torch.equal(one, other) for one, other in zip(*states, strict=True))


ROWS = ("nbr", "eid", "time", "count")
STATE = dict(zip((*ROWS, "next_event", "latest"), empty(4, 3, torch.float64), strict=True))
INSERT = {**STATE, **dict(zip(("src", "dst", "t", "event"), batch(0, 5, 4, torch.float64), strict=True))}
QUERY = {
    **{name: STATE[name] for name in ROWS},
    "ids": torch.arange(2),
    "k": 3,
    "before": torch.ones(2, dtype=torch.float64),
}


@pytest.mark.parametrize(("function", "valid"), [(ops.ring_insert, INSERT), (ops.ring_query, QUERY)])
def test_every_argument_is_checked(function: Any, valid: dict[str, Any]) -> None:
    for name, value in valid.items():
        if isinstance(value, int):
            continue
        with pytest.raises(ArgumentTypeError, match=rf"^{name}: expected a tensor"):
            function(**{**valid, name: value.tolist()})
        for wrong in (value[None], value.to(torch.float16), value.to(torch.bool)):
            with pytest.raises(ArgumentError, match=rf"^{name}: "):
                function(**{**valid, name: wrong})
        if name in ("src", "dst", "ids"):
            for low in (value - 5, value + 4):
                with pytest.raises(ArgumentError, match=rf"^{name}: expected ids in \[0, 4\)"):
                    function(**{**valid, name: low})
        if name in ROWS:
            with pytest.raises(ArgumentError, match=rf"^{name}: expected a contiguous tensor"):
                function(**{**valid, name: value.repeat_interleave(2, -1)[..., ::2]})


def test_sizes_are_checked() -> None:
    for k in (0, 4):
        with pytest.raises(ArgumentError, match="^k: expected at (least 1|most 3)"):
            ops.ring_query(**{**QUERY, "k": k})
    with pytest.raises(ArgumentError, match="^nbr: expected at least one column"):
        ops.ring_insert(*empty(4, 0), *batch(0, 2, 4))
    with pytest.raises(ArgumentError, match=r"^src: expected ids in \[0, 0\)"):
        ops.ring_insert(*empty(0, 2), *batch(0, 2, 4))
    with pytest.raises(ArgumentError, match="^t: expected int64"):
        ops.ring_insert(*empty(4, 2), *batch(0, 2, 4, torch.float64))
