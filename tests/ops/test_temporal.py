"""Rows of events in order of time: against lists in Python and the reference, distributions, bad arguments, threads."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_ring import TIMES, State, batch
from torch import Tensor

from graphmem import ops
from graphmem.errors import ArgumentError, ArgumentTypeError
from graphmem.ops import reference
from graphmem.ops.temporal import STRATEGIES, rooms

POOL = ("start", "length", "nbr", "eid", "time")
Lists = list[list[tuple[int, int, float]]]


def empty(nodes: int, size: int, dtype: torch.dtype = torch.int64) -> State:
    """Garbage in free places: nobody may read it."""
    rows = [torch.zeros(nodes, dtype=torch.int64) for _ in range(2)]
    pool = torch.full((size,), 77)
    return (
        *rows,
        pool,
        pool.clone(),
        pool.to(dtype, copy=True),
        *torch.zeros(2, dtype=torch.int64),
        torch.zeros((), dtype=dtype),
    )


def filled(seed: int, sizes: list[int], nodes: int, dtype: torch.dtype = torch.int64) -> tuple[State, Lists]:
    """Batches one after the other, and the events of each node, oldest first: (other end, number, time)."""
    state, lists = empty(nodes, 12 * sum(sizes), dtype), [[] for _ in range(nodes)]
    for number, count in enumerate(sizes):
        src, dst, t, event = batch(seed + number, count, nodes, dtype)
        t = t + state[7]
        assert ops.temporal_append(*state, src, dst, t, event) == int(state[5])
        for i, j, when, which in zip(*(x.tolist() for x in (src, dst, t, event)), strict=True):
            lists[i].append((j, which, when))
            lists[j].append((i, which, when))
    return state, lists


def rows_of(state: State) -> Lists:
    columns = [x.tolist() for x in state[2:5]]
    return [
        list(zip(*(column[a : a + n] for column in columns), strict=True))
        for a, n in zip(state[0].tolist(), state[1].tolist(), strict=True)
    ]


SIZES = st.lists(st.sampled_from((0, 1, 2, 7, 30)), max_size=5)
NODES = st.sampled_from((1, 3, 9))


@pytest.mark.parametrize("dtype", TIMES)
@given(seed=st.integers(0, 999), sizes=SIZES, nodes=NODES, numbered=st.booleans(), timed=st.booleans())
def test_append_against_lists(
    dtype: torch.dtype, seed: int, sizes: list[int], nodes: int, numbered: bool, timed: bool
) -> None:
    compiled, loops = empty(nodes, 12 * sum(sizes), dtype), empty(nodes, 12 * sum(sizes), dtype)
    lists: Lists = [[] for _ in range(nodes)]
    following, now = 0, 0
    for number, count in enumerate(sizes):
        src, dst, t, event = batch(seed + number, count, nodes, dtype)
        t, event = t + now, (event if timed else event.sort().values + following)
        given_t, given_event = (t if timed else None), (event if numbered else None)
        used = ops.temporal_append(*compiled, src, dst, given_t, given_event)
        assert used == int(reference.temporal_append(*loops, src, dst, given_t, given_event))
        numbers = event.tolist() if numbered else list(range(following, following + count))
        times = t.tolist() if timed else numbers
        for i, j, when, which in zip(src.tolist(), dst.tolist(), times, numbers, strict=True):
            lists[i].append((j, which, when))
            lists[j].append((i, which, when))
        following, now = max([following, *(n + 1 for n in numbers)]), max([now, *times])
        assert [x.item() for x in compiled[5:]] == [used, following, now]
    assert rows_of(compiled) == lists
    assert all(torch.equal(one, other) for one, other in zip(compiled, loops, strict=True))
    places = [(a, a + n) for a, n in zip(compiled[0].tolist(), rooms(compiled[1]).tolist(), strict=True) if n > 0]
    assert all(
        end <= a for (_, end), (a, _) in zip(sorted(places), sorted(places)[1:], strict=False)
    )  # nothing is shared
    assert all(end <= int(compiled[5]) for _, end in places)


@given(seed=st.integers(0, 999), count=st.integers(1, 30), nodes=NODES)
def test_too_small_a_pool_is_told_and_left_alone(seed: int, count: int, nodes: int) -> None:
    whole, _ = filled(seed, [7, count], nodes)
    events = batch(seed + 1, count, nodes)
    for append in (ops.temporal_append, reference.temporal_append):
        small, _ = filled(seed, [7], nodes)
        need = int(whole[5])
        if need == int(small[5]):
            return
        small = (*small[:2], *(torch.cat((x, x.new_zeros(need)))[: need - 1] for x in small[2:5]), *small[5:])
        kept = [x.clone() for x in small]
        src, dst, t, event = events
        assert int(append(*small, src, dst, t + small[7], event)) == need
        assert all(torch.equal(one, other) for one, other in zip(small, kept, strict=True))
        exact = (*small[:2], *(torch.cat((x, x[:1])) for x in small[2:5]), *small[5:])
        assert int(append(*exact, src, dst, t + small[7], event)) == need
        assert rows_of(exact) == rows_of(whole)


def test_places_of_rows() -> None:
    found = rooms(torch.arange(30)).tolist()
    assert found[:10] == [0, 4, 4, 4, 4, 6, 6, 8, 8, 12]
    assert sorted(set(found)) == [0, 4, 6, 8, 12, 16, 24, 32]
    assert all(length <= place < 1.5 * length + 4 for length, place in enumerate(found))


def candidates(entries: list[tuple[int, int, float]], t: float, since: float, inclusive: bool) -> list[Any]:
    return [e for e in entries if since <= e[2] and (e[2] < t or (inclusive and e[2] == t))]


@pytest.mark.parametrize("dtype", TIMES)
@pytest.mark.parametrize("strategy", STRATEGIES)
@given(
    seed=st.integers(0, 999),
    sizes=SIZES,
    nodes=NODES,
    k=st.sampled_from((1, 2, 5, 40)),
    inclusive=st.booleans(),
    decay=st.sampled_from((0.0, 0.3, 50.0)),
    data=st.data(),
)
def test_sample_against_lists(
    strategy: str,
    dtype: torch.dtype,
    seed: int,
    sizes: list[int],
    nodes: int,
    k: int,
    inclusive: bool,
    decay: float,
    data: st.DataObject,
) -> None:
    """Recent ones are the newest; draws are as many different entries as there can be, newest first."""
    state, lists = filled(seed, sizes, nodes, dtype)
    ids = data.draw(st.lists(st.integers(0, nodes - 1), max_size=6))
    limit = st.lists(st.integers(-2, 40), min_size=len(ids), max_size=len(ids))
    times, limits = data.draw(limit), data.draw(st.none() | limit)
    asked, t = torch.tensor(ids, dtype=torch.int64), torch.tensor(times, dtype=dtype)
    since = None if limits is None else torch.tensor(limits, dtype=dtype)
    key = data.draw(st.sampled_from((None, torch.arange(len(ids)) * 7 - 9)))
    options = {
        "strategy": strategy,
        "since": since,
        "inclusive": inclusive,
        "decay": decay,
        "seed": seed - 500,
        "key": key,
    }
    found = ops.temporal_sample(*state[:5], asked, t, k, **options)
    assert found[2].dtype == dtype
    number = STRATEGIES.index(strategy)
    want = reference.temporal_sample(*state[:5], asked, t, since, k, number, inclusive, decay, seed - 500, key)
    assert all(torch.equal(one, other) for one, other in zip(found, want, strict=True))
    for n, (node, until) in enumerate(zip(ids, times, strict=True)):
        known = candidates(lists[node], until, -math.inf if limits is None else limits[n], inclusive)
        row = list(zip(*(part[n].tolist() for part in found), strict=True))
        taken = min(k, len(known))
        assert row[taken:] == [(-1, -1, 0)] * (k - taken)
        if strategy == "recent" or len(known) <= k:
            assert row[:taken] == known[::-1][:taken]
        else:
            newest_first = iter(known[::-1])
            assert all(entry in newest_first for entry in row)  # a subsequence


def hub(count: int, gap: int = 1) -> State:
    """One node with events at gap, 2 gap, ... of numbers 0, 1, ..."""
    state = empty(2, 8 * count)
    ops.temporal_append(
        *state,
        torch.zeros(count, dtype=torch.int64),
        torch.ones(count, dtype=torch.int64),
        gap * torch.arange(1, count + 1),
    )
    return state


def draws(state: State, k: int, questions: int, t: int, **options: Any) -> Tensor:
    ids = torch.zeros(questions, dtype=torch.int64)
    return ops.temporal_sample(*state[:5], ids, torch.full((questions,), t), k, **options)[1]


def test_uniform_draws_are_uniform() -> None:
    eid = draws(hub(12), 4, 30_000, 11, strategy="uniform", seed=3)  # the last two are too late
    share = eid.flatten().bincount(minlength=12) / 30_000
    assert share[10:].tolist() == [0, 0]
    assert (share[:10] - 0.4).abs().max() < 0.02  # seven standard deviations


@pytest.mark.parametrize("decay", [0.0, 0.2, 1.0])
def test_decayed_draws_have_their_weights(decay: float) -> None:
    """The first of a draw without replacement is in proportion to the weights; so is the only one."""
    eid = draws(hub(12), 1, 30_000, 11, strategy="decayed", decay=decay, seed=5)
    weight = (decay * torch.arange(1, 11).double()).exp()
    share = eid.flatten().bincount(minlength=12)[:10] / 30_000
    assert (share - weight / weight.sum()).abs().max() < 0.02


def test_pairs_of_decayed_draws_have_their_probability() -> None:
    """Without replacement: p_i p_j / (1 - p_i) in either order."""
    eid = draws(hub(5), 2, 40_000, 9, strategy="decayed", decay=0.5, seed=6)
    weight = (0.5 * torch.arange(1, 6).double()).exp()
    p = weight / weight.sum()
    ordered = p[:, None] * p[None, :] / (1 - p[:, None])
    want = ordered + ordered.t()
    for newer, older in ((4, 3), (4, 0), (2, 1)):
        share = (eid == torch.tensor([newer, older])).all(1).double().mean()
        assert abs(share - want[newer, older]) < 0.015


def test_draws_follow_their_keys_not_the_batch() -> None:
    state = hub(50)
    key = torch.arange(100) * 31
    for strategy in ("uniform", "decayed"):
        options = {"strategy": strategy, "decay": 0.1, "seed": 9}
        whole = draws(state, 3, 100, 45, key=key, **options)
        assert torch.equal(draws(state, 3, 10, 45, key=key[40:50], **options), whole[40:50])
        assert not torch.equal(draws(state, 3, 100, 45, key=key, **{**options, "seed": 10}), whole)
        late = hub(80)  # events behind the time of the question change nothing
        assert torch.equal(draws(late, 3, 100, 45, key=key, **options), whole)


def test_old_events_of_a_hub_are_not_read() -> None:
    """With a strong decay, the few newest are drawn however long the row is; weights of zero are never preferred."""
    eid = draws(hub(5000, gap=1000), 3, 20, 10**7, strategy="decayed", decay=1.0)
    assert eid.tolist() == [[4999, 4998, 4997]] * 20


@pytest.mark.parametrize("t", [math.nan, -math.inf, math.inf])
def test_extreme_times(t: float) -> None:
    state = empty(2, 99, torch.float64)
    when = torch.tensor([-math.inf, 1.0, 2.0, math.inf, math.inf], dtype=torch.float64)
    state[7].fill_(-math.inf)
    src = torch.zeros(5, dtype=torch.int64)
    ops.temporal_append(*state, src, src + 1, when)
    for inclusive in (False, True):
        want = [n for n in range(5) if when[n] < t or (inclusive and when[n] == t)][::-1]
        asked = torch.tensor([t], dtype=torch.float64)
        for strategy in STRATEGIES:
            args = (*state[:5], src[:1], asked)
            found = ops.temporal_sample(*args, 2, strategy=strategy, inclusive=inclusive, decay=1.0)
            number = STRATEGIES.index(strategy)
            other = reference.temporal_sample(*args, None, 2, number, inclusive, 1.0, 0, None)
            assert torch.equal(found[1], other[1])
            assert (found[1] >= 0).sum() == min(2, len(want))
        assert ops.temporal_sample(*args, 9, inclusive=inclusive)[1][0, : len(want)].tolist() == want


def test_times_from_end_to_end_of_int64() -> None:
    """The difference of two times does not fit int64."""
    state = empty(2, 99)
    ends = torch.iinfo(torch.int64)
    state[7].fill_(ends.min)
    src = torch.zeros(4, dtype=torch.int64)
    ops.temporal_append(*state, src, src + 1, torch.tensor([ends.min, ends.min, ends.max - 1, ends.max - 1]))
    args = (*state[:5], src[:1], torch.tensor([ends.max]))
    found = ops.temporal_sample(*args, 2, strategy="decayed", decay=1.0)
    assert found[1].tolist() == [[3, 2]]
    assert torch.equal(found[1], reference.temporal_sample(*args, None, 2, 2, False, 1.0, 0, None)[1])


@pytest.mark.skipif(not ops.NATIVE, reason="a promise of the compiled operators")
@pytest.mark.usefixtures("restore_threads")
def test_same_bits_for_every_number_of_threads() -> None:
    found = []
    for threads in (1, 2, 4):
        torch.set_num_threads(threads)
        state, _ = filled(0, [20_000, 5000], 500)
        ids, t = torch.arange(500).repeat(20), torch.arange(10_000) % 12_000
        drawn = [x for s in STRATEGIES for x in ops.temporal_sample(*state[:5], ids, t, 5, strategy=s, decay=1e-3)]
        found.append((*state, *drawn))
    for other in found[1:]:
        assert all(torch.equal(one, two) for one, two in zip(found[0], other, strict=True))


def test_compile_samples() -> None:
    def run(*args: Tensor) -> Tensor:
        return ops.temporal_sample(*args[:5], args[5] + 0, args[6], 3, strategy="uniform", seed=4)[1] * 2

    torch._dynamo.reset()
    fast = torch.compile(run, fullgraph=True, dynamic=True, backend="aot_eager")
    state, _ = filled(0, [30], 9)
    for n in (4, 7, 11):
        args = (*state[:5], torch.arange(n) % 9, torch.arange(n) * 3)
        assert torch.equal(fast(*args), run(*args))


NAMES = (*POOL, "used", "next_event", "latest")
STATE = dict(zip(NAMES, filled(0, [9], 4, torch.float64)[0], strict=True))
APPEND = {**STATE, **dict(zip(("src", "dst", "t", "event"), batch(0, 5, 4, torch.float64), strict=True))}
APPEND["t"] = APPEND["t"] + 99
SAMPLE: dict[str, Any] = {
    **{name: STATE[name] for name in POOL},
    "ids": torch.arange(2),
    "t": torch.ones(2, dtype=torch.float64),
    "k": 3,
    "since": torch.zeros(2, dtype=torch.float64),
    "key": torch.arange(2),
}


@pytest.mark.parametrize(("function", "valid"), [(ops.temporal_append, APPEND), (ops.temporal_sample, SAMPLE)])
def test_every_argument_is_checked(function: Any, valid: dict[str, Any]) -> None:
    kept = {name: value.clone() for name, value in STATE.items()}
    for name, value in valid.items():
        if isinstance(value, int):
            continue
        for wrong in (value[None], value.to(torch.float16), value.to(torch.bool)):
            with pytest.raises(ArgumentError, match=rf"^{name}: "):
                function(**{**valid, name: wrong})
        with pytest.raises(ArgumentTypeError, match=rf"^{name}: expected a tensor"):
            function(**{**valid, name: value.tolist()})
        if name in ("src", "dst", "ids"):
            for low in (value - 5, value + 4):
                with pytest.raises(ArgumentError, match=rf"^{name}: expected ids in \[0, 4\)"):
                    function(**{**valid, name: low})
        if name in POOL:
            with pytest.raises(ArgumentError, match=rf"^{name}: expected a contiguous tensor"):
                function(**{**valid, name: value.repeat_interleave(2, -1)[..., ::2]})
        if name in ("start", "length"):
            for outside in (value - 100, value + 2**62):
                with pytest.raises(ArgumentError, match=rf"^{name}: expected rows.* inside of nbr"):
                    function(**{**valid, name: outside})
    assert all(torch.equal(STATE[name], value) for name, value in kept.items())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 0}, "k: expected at least 1, got 0"),
        ({"strategy": "newest"}, "strategy: expected one of 'recent', 'uniform', 'decayed', got 'newest'"),
        ({"decay": -1.0}, "decay: expected a number of at least 0, got -1.0"),
        ({"decay": math.inf}, "decay: expected a finite number"),
        ({"seed": 2**63}, "seed: expected at most"),
    ],
)
def test_options_are_checked(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=f"^{message}"):
        ops.temporal_sample(**{**SAMPLE, **options})


def test_progress_is_checked() -> None:
    for used in (-1, APPEND["nbr"].numel() + 1):
        with pytest.raises(ArgumentError, match="^used: expected a number in"):
            ops.temporal_append(**{**APPEND, "used": torch.tensor(used)})
    with pytest.raises(ArgumentError, match="^t: expected times from"):
        ops.temporal_append(**{**APPEND, "t": APPEND["t"] - 99})
