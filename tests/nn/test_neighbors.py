"""RecentNeighbors against a list of events for each node, and against PyG's LastNeighborLoader."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch_geometric.nn.models.tgn import LastNeighborLoader

from graphmem.errors import ArgumentError
from graphmem.nn import RecentNeighbors
from graphmem.nn.state import grow_state, reset_state, restore_state, snapshot_state

NODES = 6
TIMES = (torch.int64, torch.float64)
ABSENT = (-1, -1, 0)
# A few nodes in most events, self-loops, equal times.
EVENTS = st.lists(
    st.tuples(
        st.integers(0, NODES - 1) | st.just(0), st.integers(0, NODES - 1) | st.just(1), st.sampled_from((0, 0, 1, 5))
    ),
    max_size=25,
)
SIZE = st.sampled_from((1, 2, 3, 7))
CUT = st.sampled_from((1, 3, 40))


class Batch(NamedTuple):
    src: Tensor
    dst: Tensor
    t: Tensor
    eid: Tensor


class Lists:
    """All events of each node, oldest first: (other end, number, time)."""

    def __init__(self, nodes: int, size: int) -> None:
        self.size = size
        self.seen: list[list[tuple[int, int, float]]] = [[] for _ in range(nodes)]
        self.row: list[list[tuple[int, int, float]]] = [[] for _ in range(nodes)]

    def insert(self, batch: Batch) -> None:
        for i, j, t, eid in zip(*(x.tolist() for x in batch), strict=True):
            for owner, other in ((i, j), (j, i)):
                self.seen[owner].append((other, eid, t))
                self.row[owner] = [*self.row[owner], (other, eid, t)][-self.size :]

    def latest(self, node: int, k: int) -> list[tuple[int, int, float]]:
        found = self.row[node][::-1][:k]
        return found + [ABSENT] * (k - len(found))

    def forget(self, nodes: set[int], events: set[int]) -> None:
        for lists in (self.seen, self.row):
            for owner, entries in enumerate(lists):
                lists[owner] = [e for e in entries if owner not in nodes and e[0] not in nodes and e[1] not in events]


def batches(events: list[tuple[int, int, int]], cut: int, dtype: torch.dtype = torch.int64) -> list[Batch]:
    """With numbers that neither start at 0 nor are consecutive."""
    table = torch.tensor(events, dtype=torch.int64).view(-1, 3)
    eid = 4 + 3 * torch.arange(len(events))
    return [
        Batch(*part)
        for part in zip(
            *(x.split(cut) for x in (table[:, 0], table[:, 1], table[:, 2].cumsum(0).to(dtype), eid)), strict=True
        )
    ]


def filled(
    events: list[tuple[int, int, int]], cut: int, size: int, dtype: torch.dtype = torch.int64
) -> tuple[RecentNeighbors, Lists]:
    ours, slow = RecentNeighbors(NODES, size, dtype=dtype), Lists(NODES, size)
    for batch in batches(events, cut, dtype):
        ours.insert(*batch)
        slow.insert(batch)
    return ours, slow


def assert_same(ours: RecentNeighbors, slow: Lists) -> None:
    ids = torch.arange(len(slow.row)).flip(0)
    for k in range(1, ours.size + 1):
        found = ours.query(ids, k)
        for n, node in enumerate(ids.tolist()):
            assert list(zip(*(part[n].tolist() for part in found), strict=True)) == slow.latest(node, k)


@pytest.mark.parametrize("dtype", TIMES)
@given(events=EVENTS, cut=CUT, size=SIZE)
def test_streams(dtype: torch.dtype, events: list[tuple[int, int, int]], cut: int, size: int) -> None:
    ours, slow = filled(events, cut, size, dtype)
    assert_same(ours, slow)
    found = ours.query(torch.arange(NODES))
    assert found.t.dtype == dtype
    assert torch.equal(found.nbr, ours.query(torch.arange(NODES), size).nbr)


@given(events=EVENTS, cut=CUT, size=SIZE)
def test_numbers_and_times_by_default(events: list[tuple[int, int, int]], cut: int, size: int) -> None:
    ours, slow = RecentNeighbors(NODES, size), Lists(NODES, size)
    number = torch.arange(len(events))
    for batch, eid in zip(batches(events, cut), number.split(cut), strict=False):
        ours.insert(batch.src, batch.dst)
        slow.insert(Batch(batch.src, batch.dst, eid, eid))
    assert_same(ours, slow)
    ours.insert(torch.tensor([0]), torch.tensor([1]), t=torch.tensor([100]), eid=torch.tensor([70]))
    ours.insert(torch.tensor([0]), torch.tensor([1]), t=torch.tensor([100]))
    assert ours.query(torch.tensor([0]), 1).eid.tolist() == [[71]]


@pytest.mark.parametrize("dtype", TIMES)
@given(events=EVENTS, cut=CUT, size=SIZE, gone=st.sets(st.integers(0, 25), max_size=3))
def test_questions_about_the_past(
    dtype: torch.dtype, events: list[tuple[int, int, int]], cut: int, size: int, gone: set[int]
) -> None:
    """Either the answer of the whole past, or an error; and an error only where the row cannot know."""
    ours, slow = filled(events, cut, size, dtype)
    numbers = {4 + 3 * n for n in gone}
    ours.forget(events=torch.tensor(sorted(numbers), dtype=torch.int64))
    slow.forget(set(), numbers)
    for node in range(NODES):
        id_ = torch.tensor([node])
        for k in range(1, size + 1):
            exact_from = ours.exact_from(id_, k)
            assert exact_from.dtype == dtype
            for limit in range(-1, 60, 3):
                before = torch.tensor([limit], dtype=dtype)
                known = [e for e in slow.row[node] if e[2] < limit]
                lost = len(slow.seen[node]) > len(slow.row[node])
                if bool(before >= exact_from):
                    want = [e for e in slow.seen[node] if e[2] < limit][::-1][:k]
                    found = ours.query(id_, k, before=before)
                    got = list(zip(*(part[0].tolist() for part in found), strict=True))
                    assert got == want + [ABSENT] * (k - len(want))
                else:
                    assert lost or gone
                    assert len(known) < k
                    with pytest.raises(
                        ArgumentError, match=rf"^before: expected times from .* node {node} .* got {limit}"
                    ):
                        ours.query(id_, k, before=before)


def test_times_from_which_a_row_is_exact() -> None:
    src, dst = torch.zeros(4, dtype=torch.int64), torch.tensor([1, 2, 3, 1])
    for dtype, following in ((torch.int64, 9), (torch.float64, math.nextafter(8.0, math.inf))):
        ours = RecentNeighbors(NODES, 2, dtype=dtype)
        ours.insert(src, dst, t=torch.tensor([3, 5, 7, 8]).to(dtype))
        least = torch.iinfo(dtype).min if dtype == torch.int64 else -math.inf
        assert ours.exact_from(torch.tensor([0, 1, 4])).tolist() == [following, least, least]
        assert ours.exact_from(torch.tensor([0]), 1).item() == pytest.approx(following - 1)
    # A row that was full and had to give up an event does not know what came before, until it is full again.
    ours.forget(events=torch.tensor([3]))
    assert ours.exact_from(torch.tensor([0])).item() == math.inf
    ours.insert(src[:1], dst[:1], t=torch.tensor([12.0], dtype=torch.float64))
    assert ours.exact_from(torch.tensor([0])).item() == math.nextafter(12.0, math.inf)


@given(
    events=EVENTS,
    cut=CUT,
    size=SIZE,
    more=EVENTS,
    nodes=st.sets(st.integers(0, NODES - 1), max_size=2),
    gone=st.sets(st.integers(0, 25), max_size=4),
)
def test_forgets_nodes_and_events(
    events: list[tuple[int, int, int]],
    cut: int,
    size: int,
    more: list[tuple[int, int, int]],
    nodes: set[int],
    gone: set[int],
) -> None:
    ours, slow = filled(events, cut, size)
    numbers = {4 + 3 * n for n in gone}
    ours.forget(torch.tensor(sorted(nodes), dtype=torch.int64), torch.tensor(sorted(numbers), dtype=torch.int64))
    slow.forget(nodes, numbers)
    assert_same(ours, slow)
    for listed in (ours.nbr, ours.eid):  # nothing is left anywhere
        assert not torch.isin(listed, torch.tensor(sorted(nodes if listed is ours.nbr else numbers))).any()
    for batch in batches(more, cut):
        later = batch._replace(t=batch.t + ours.latest.clamp(min=0), eid=batch.eid + 1000)
        ours.insert(*later)
        slow.insert(later)
    assert_same(ours, slow)


@given(events=EVENTS, cut=CUT, size=SIZE, more=EVENTS)
def test_grows_and_goes_back(
    events: list[tuple[int, int, int]], cut: int, size: int, more: list[tuple[int, int, int]]
) -> None:
    ours, slow = filled(events, cut, size)
    kept = snapshot_state(ours)
    grow_state(ours, NODES + 3)
    large = Lists(NODES + 3, size)
    large.row[:NODES] = slow.row
    for batch in batches(more, cut):
        later = batch._replace(src=batch.src + 3, t=batch.t + ours.latest.clamp(min=0))
        ours.insert(*later)
        large.insert(later)
    assert_same(ours, large)
    fresh = RecentNeighbors(2, size)
    fresh.load_state_dict(ours.state_dict())
    assert_same(fresh, large)
    restore_state(ours, kept)
    assert ours.num_nodes == NODES
    assert_same(ours, slow)
    ours.insert(torch.tensor([0]), torch.tensor([0]), t=ours.latest[None].clamp(min=0))
    restore_state(ours, kept)
    assert_same(ours, slow)  # the snapshot did not follow
    reset_state(ours)
    assert_same(ours, Lists(NODES, size))
    ours.insert(*Batch(*(torch.zeros(1, dtype=torch.int64) for _ in range(4))))


def test_answers_are_copies() -> None:
    ours, _ = filled([(0, 1, 1), (2, 1, 1)], 1, 3)
    found = ours.query(torch.arange(NODES))
    before = [part.clone() for part in found]
    ours.insert(torch.tensor([0]), torch.tensor([1]), t=torch.tensor([9]))
    assert all(torch.equal(one, other) for one, other in zip(found, before, strict=True))


@given(
    events=EVENTS,
    size=SIZE,
    cut=CUT,
    ids=st.lists(st.integers(0, NODES - 1), max_size=NODES, unique=True),
)
def test_is_pygs_loader(events: list[tuple[int, int, int]], size: int, cut: int, ids: list[int]) -> None:
    """On batches that give no node more than ``size`` events, where PyG's answer is defined."""
    ours, theirs = RecentNeighbors(NODES, size), LastNeighborLoader(NODES, size)
    for batch in batches(events, cut):
        if torch.cat((batch.src, batch.dst)).bincount(minlength=NODES).max() <= size:
            ours.insert(batch.src, batch.dst)
            theirs.insert(batch.src, batch.dst)
        n_id = torch.tensor(ids, dtype=torch.int64)
        assert all(torch.equal(one, other) for one, other in zip(ours(n_id), theirs(n_id), strict=True))
    ours.reset_state()
    assert [part.numel() for part in ours(torch.arange(NODES))] == [NODES, 0, 0]


@pytest.mark.realdata
def test_is_pygs_loader_on_wikipedia() -> None:
    """Batches of 200; where a node has more than ten events in one, both are given these one by one."""
    path = Path(os.environ["GRAPHMEM_DATA"]) / "temporal/wikipedia/raw/wikipedia.csv"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    table = torch.from_numpy(np.loadtxt(path, delimiter=",", skiprows=1, usecols=(0, 1, 2), max_rows=20_000))
    src, dst = table[:, 0].long(), table[:, 1].long() + 8227
    nodes, size = 9227, 10
    ours, theirs = RecentNeighbors(nodes, size, dtype=torch.float64), LastNeighborLoader(nodes, size)
    split = 0
    for i, j, t in zip(src.split(200), dst.split(200), table[:, 2].split(200), strict=True):
        n_id = torch.cat((i, j)).unique()
        assert all(torch.equal(one, other) for one, other in zip(ours(n_id), theirs(n_id), strict=True))
        ours.insert(i, j, t)
        step = 200 if torch.cat((i, j)).bincount().max() <= size else 1
        split += step == 1
        for one, other in zip(i.split(step), j.split(step), strict=True):
            theirs.insert(one, other)
    assert split < 100


def test_any_batches_leave_the_same_state() -> None:
    generator = torch.Generator().manual_seed(0)
    src, dst = (20 * torch.rand(2, 500, generator=generator) ** 3).long()
    states = []
    for cut in (1, 7, 500):
        ours = RecentNeighbors(20, 4)
        for i, j in zip(src.split(cut), dst.split(cut), strict=True):
            ours.insert(i, j)
        states.append(ours.state_dict())
    for state in states[1:]:
        assert all(torch.equal(state[name], value) for name, value in states[0].items())


def test_bad_arguments_are_named() -> None:
    ours, _ = filled([(0, 1, 5)], 1, 3)
    one, float_time = torch.tensor([1]), torch.ones(1, dtype=torch.float64)
    kept = snapshot_state(ours)
    for named, call in {
        "src": lambda: ours.insert(one - 9, one, t=one + 5),
        "dst": lambda: ours.insert(one, one + 9, t=one + 5),
        "t": lambda: ours.insert(one, one, t=float_time),
        "t: expected times from 5 on, the latest so far, got 1": lambda: ours.insert(one, one, t=one),
        "t: expected ascending times": lambda: ours.insert(one.repeat(2), one.repeat(2), t=torch.tensor([9, 8])),
        "eid": lambda: ours.insert(one, one, t=one + 5, eid=float_time),
        "ids": lambda: ours.query(one + 9),
        "k: expected at most 3, got 4": lambda: ours.query(one, 4),
        "k: expected at least 1, got 0": lambda: ours.exact_from(one, 0),
        "before": lambda: ours.query(one, before=float_time),
        "nodes": lambda: ours.forget(nodes=float_time),
        "events": lambda: ours.forget(events=float_time),
        "size": lambda: RecentNeighbors(3, 0),
        "dtype": lambda: RecentNeighbors(3, 2, dtype=torch.float32),
    }.items():
        with pytest.raises(ArgumentError, match=named):
            call()
    for name, value in snapshot_state(ours)[""].items():
        assert torch.equal(value, kept[""][name]), name
