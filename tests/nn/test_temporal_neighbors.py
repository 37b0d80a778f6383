"""TemporalNeighbors against lists of events: any time, any strategy, any batches, growth, forgetting, state."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_neighbors import ABSENT, CUT, EVENTS, NODES, TIMES, Lists, batches

from graphmem.errors import ArgumentError
from graphmem.nn import RecentNeighbors, TemporalNeighbors, temporal_neighbors
from graphmem.nn.state import grow_state, reset_state, restore_state, snapshot_state

Events = list[tuple[int, int, int]]
Entry = tuple[int, int, float]


@pytest.fixture(autouse=True)
def few_entries_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows are copied in several goes."""
    monkeypatch.setattr(temporal_neighbors, "ENTRIES_AT_ONCE", 5)


def filled(events: Events, cut: int, dtype: torch.dtype = torch.int64) -> tuple[TemporalNeighbors, Lists]:
    ours, slow = TemporalNeighbors(NODES, dtype=dtype), Lists(NODES, 1)
    for batch in batches(events, cut, dtype):
        ours.insert(*batch)
        slow.insert(batch)
    return ours, slow


def asked(ours: TemporalNeighbors, node: int, t: float, k: int, **options: Any) -> list[Entry]:
    when = torch.tensor([t], dtype=ours.time.dtype)
    return list(zip(*(part[0].tolist() for part in ours.query(torch.tensor([node]), when, k, **options)), strict=True))


def assert_same(ours: TemporalNeighbors, slow: Lists) -> None:
    for node in range(len(slow.seen)):
        for t in range(-1, 130, 9):
            known = [e for e in slow.seen[node] if e[2] < t][::-1][:4]
            assert asked(ours, node, t, 4) == known + [ABSENT] * (4 - len(known))
        whole = slow.seen[node][::-1]
        assert asked(ours, node, 1000, len(whole) + 1) == [*whole, ABSENT]


@pytest.mark.parametrize("dtype", TIMES)
@given(events=EVENTS, cut=CUT)
def test_streams(dtype: torch.dtype, events: Events, cut: int) -> None:
    ours, slow = filled(events, cut, dtype)
    assert_same(ours, slow)
    assert ours.query(torch.arange(NODES), torch.zeros(NODES, dtype=dtype), 2).t.dtype == dtype


@pytest.mark.parametrize("dtype", TIMES)
@given(
    events=EVENTS,
    cut=CUT,
    k=st.sampled_from((1, 3, 30)),
    t=st.integers(-3, 130),
    window=st.none() | st.integers(0, 60),
    inclusive=st.booleans(),
    strategy=st.sampled_from(("recent", "uniform", "decayed")),
)
def test_questions(
    dtype: torch.dtype,
    events: Events,
    cut: int,
    k: int,
    t: int,
    window: int | None,
    inclusive: bool,
    strategy: str,
) -> None:
    ours, slow = filled(events, cut, dtype)
    for node in range(NODES):
        low = -math.inf if window is None else t - window
        known = [e for e in slow.seen[node] if low <= e[2] and (e[2] <= t if inclusive else e[2] < t)][::-1]
        found = asked(ours, node, t, k, strategy=strategy, window=window, inclusive=inclusive, decay=0.1)
        taken = min(k, len(known))
        assert found[taken:] == [ABSENT] * (k - taken)
        if strategy == "recent" or len(known) <= k:
            assert found[:taken] == known[:taken]
        else:
            rest = iter(known)
            assert all(entry in rest for entry in found[:taken])


@given(events=EVENTS, cut=CUT, k=st.sampled_from((1, 3, 7)))
def test_agrees_with_the_ring_about_the_present(events: Events, cut: int, k: int) -> None:
    ours, _ = filled(events, cut)
    ring = RecentNeighbors(NODES, k)
    for batch in batches(events, 40):
        ring.insert(*batch)
    ids = torch.arange(NODES)
    now = torch.full((NODES,), 1000)
    found, want = ours.query(ids, now, k), ring.query(ids)
    assert all(torch.equal(one, other) for one, other in zip(found, want, strict=True))


@given(events=EVENTS, cut=CUT, nodes=st.sets(st.integers(0, NODES - 1), max_size=2), gone=st.sets(st.integers(0, 25)))
def test_forgets_nodes_and_events(events: Events, cut: int, nodes: set[int], gone: set[int]) -> None:
    ours, slow = filled(events, cut)
    numbers = {4 + 3 * n for n in gone}
    ours.forget(torch.tensor(sorted(nodes), dtype=torch.int64), torch.tensor(sorted(numbers), dtype=torch.int64))
    slow.forget(nodes, numbers)
    assert_same(ours, slow)
    for batch in batches(events, cut):
        later = batch._replace(t=batch.t + ours.latest.clamp(min=0), eid=batch.eid + 1000)
        ours.insert(*later)
        slow.insert(later)
    assert_same(ours, slow)


@given(events=EVENTS, cut=CUT, more=EVENTS)
def test_grows_and_goes_back(events: Events, cut: int, more: Events) -> None:
    ours, slow = filled(events, cut)
    kept = snapshot_state(ours)
    grow_state(ours, NODES + 3)
    large = Lists(NODES + 3, 1)
    large.seen[:NODES] = [list(row) for row in slow.seen]
    for batch in batches(more, cut):
        later = batch._replace(src=batch.src + 3, t=batch.t + ours.latest.clamp(min=0))
        ours.insert(*later)
        large.insert(later)
    assert_same(ours, large)
    fresh = TemporalNeighbors(2)
    fresh.load_state_dict(ours.state_dict())
    assert_same(fresh, large)
    restore_state(ours, kept)
    assert_same(ours, slow)
    ours.insert(torch.tensor([0]), torch.tensor([0]), t=ours.latest[None].clamp(min=0))
    restore_state(ours, kept)
    assert_same(ours, slow)  # the snapshot did not follow
    reset_state(ours)
    assert_same(ours, Lists(NODES, 1))


def test_memory_is_what_the_documentation_says() -> None:
    """Whatever the batches, rows take at most 1.5 places an entry (4 at least), the pool 1.5 times the rows."""
    generator = torch.Generator().manual_seed(0)
    src, dst = (300 * torch.rand(2, 30_000, generator=generator) ** 3).long()
    for cut in (200, 30_000):
        ours = TemporalNeighbors(300)
        most = 0.0
        for i, j in zip(src.split(cut), dst.split(cut), strict=True):
            ours.insert(i, j)
            entries = ours.length.clamp(min=4).sum()
            most = max(most, float(ours.nbr.numel() / (1.5 * 1.5 * entries + 8 * cut + 1024)))
        assert most <= 1
        assert ours.length.sum() == 60_000


def test_windows_at_the_ends_of_int64() -> None:
    ends = torch.iinfo(torch.int64)
    ours = TemporalNeighbors(2)
    ours.insert(
        torch.zeros(2, dtype=torch.int64), torch.ones(2, dtype=torch.int64), t=torch.tensor([ends.min, ends.max])
    )
    for window, want in ((0, [1, -1]), (ends.max, [1, -1])):
        found = ours.query(torch.tensor([0]), torch.tensor([ends.max]), 2, inclusive=True, window=window)
        assert found.eid.tolist() == [want]
    found = ours.query(torch.tensor([0]), torch.tensor([ends.min + 5]), 2, window=ends.max)
    assert found.eid.tolist() == [[0, -1]]


def test_bad_arguments_are_named() -> None:
    ours, slow = filled([(0, 1, 5)], 1)
    one, when, wrong = torch.tensor([1]), torch.tensor([9]), torch.ones(1, dtype=torch.float64)
    for named, call in {
        "src": lambda: ours.insert(one - 9, one, t=one + 5),
        "dst": lambda: ours.insert(one, one + 9, t=one + 5),
        "t": lambda: ours.insert(one, one, t=wrong),
        "t: expected times from 5 on, the latest so far, got 1": lambda: ours.insert(one, one, t=one),
        "eid": lambda: ours.insert(one, one, t=one + 5, eid=wrong),
        "ids": lambda: ours.query(one + 9, when, 1),
        "t: expected int64": lambda: ours.query(one, wrong, 1),
        "k: expected at least 1, got 0": lambda: ours.query(one, when, 0),
        "strategy": lambda: ours.query(one, when, 1, "newest"),
        "window: expected at least 0, got -1": lambda: ours.query(one, when, 1, window=-1),
        "window: expected a whole number": lambda: ours.query(one, when, 1, window=0.5),
        "key": lambda: ours.query(one, when, 1, key=wrong),
        "forget: nodes": lambda: ours.forget(nodes=wrong),
        "events": lambda: ours.forget(events=wrong),
        "dtype": lambda: TemporalNeighbors(3, dtype=torch.float32),
        "num_nodes": lambda: TemporalNeighbors(-1),
    }.items():
        with pytest.raises((ArgumentError, TypeError), match=f"^{named}"):
            call()
    assert_same(ours, slow)
