"""Splits and batches of streams, against PyG and plain Python."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from graphmem.data.event_batches import batch_bounds
from graphmem.data.node_events import NodeEvents
from graphmem.data.registry import load_stream
from graphmem.data.stream import EventStream
from graphmem.data.stream_splits import StreamSplit, split_stream
from graphmem.errors import ArgumentError, ArgumentTypeError

waits = st.lists(st.integers(0, 3), min_size=1, max_size=60)


def make(steps: list[int], dtype: torch.dtype = torch.int64) -> EventStream:
    t = torch.tensor(steps).cumsum(0).to(dtype)
    g = torch.Generator().manual_seed(len(steps))
    src, dst = torch.randint(9, (2, len(steps)), generator=g)
    return EventStream(src, dst, t, 9)


@given(waits, st.integers(1, 20), st.booleans())
def test_batches_by_number(steps: list[int], size: int, keep_ties: bool) -> None:
    stream = make(steps)
    bounds = batch_bounds(stream, size=size, keep_ties=keep_ties).tolist()
    t = stream.t.tolist()
    want = [0]
    while want[-1] < len(t):
        end = min(want[-1] + size, len(t))
        while keep_ties and end < len(t) and t[end] == t[end - 1]:
            end += 1
        want.append(end)
    assert bounds == want


@given(waits, st.integers(1, 5), st.sampled_from([torch.int64, torch.float64]))
def test_batches_by_time(steps: list[int], window: int, dtype: torch.dtype) -> None:
    stream = make(steps, dtype)
    t = stream.t.tolist()
    for bounds, key in (
        (batch_bounds(stream, window=window), [(x - t[0]) // window for x in t]),
        (batch_bounds(stream), t),
    ):
        ends = [k for k in range(1, len(t)) if key[k] != key[k - 1]]
        assert bounds.tolist() == [0, *ends, len(t)]


def test_windows_of_fractional_length() -> None:
    """Whole times by a fractional length: float32 does not tell these two windows apart."""
    t = torch.tensor([0, 10**10, 10**10 + 150])
    stream = EventStream(torch.zeros_like(t), torch.zeros_like(t), t, 1)
    assert batch_bounds(stream, window=100.0).tolist() == batch_bounds(stream, window=100).tolist() == [0, 1, 2, 3]
    assert batch_bounds(stream, window=0.5).tolist() == [0, 1, 2, 3]
    assert batch_bounds(stream, window=1e11).tolist() == [0, 3]


def test_bad_batches() -> None:
    stream = make([1, 2, 3])
    assert batch_bounds(stream[:0], size=3).tolist() == [0]
    for options in ({"size": 0}, {"window": 0.0}, {"size": 2, "window": 2}, {"window": float("nan")}):
        with pytest.raises(ArgumentError, match="size|window"):
            batch_bounds(stream, **options)  # type: ignore[arg-type]
    for name, value in (("size", 2.0), ("size", True), ("window", "day")):
        with pytest.raises(ArgumentTypeError, match=name):
            batch_bounds(stream, **{name: value})  # type: ignore[arg-type]


@given(st.lists(st.integers(0, 3), min_size=20, max_size=80), st.sampled_from([(0.15, 0.15), (0.2, 0.1)]))
def test_time_is_pygs_split(steps: list[int], ratios: tuple[float, float]) -> None:
    stream = make(steps)
    want = stream.to_temporal_data().train_val_test_split(*ratios)
    if min(part.num_events for part in want) == 0:
        with pytest.raises(ArgumentError, match="leave no event for"):
            split_stream(stream, val_ratio=ratios[0], test_ratio=ratios[1])
        return
    split = split_stream(stream, val_ratio=ratios[0], test_ratio=ratios[1])
    for part, other in zip((split.train, split.valid, split.test), want, strict=True):
        assert torch.equal(part.t, other.t)
        assert torch.equal(part.src, other.src)
    assert split.train.eid.tolist() + split.valid.eid.tolist() + split.test.eid.tolist() == list(range(len(stream)))
    known = set(split.train.src.tolist()) | set(split.train.dst.tolist())
    assert split.new_nodes.tolist() == [node not in known for node in range(9)]


@pytest.mark.parametrize("protocol", ["masked", "inductive", "dyglib"])
def test_too_few_nodes_to_hide_one_of_them(protocol: str) -> None:
    few = make([1] * 200)
    expected = "at least 10 nodes with events" if protocol == "dyglib" else "at least 10 nodes"
    with pytest.raises(ArgumentError, match=f"stream: expected {expected}, of which a tenth is hidden, got 9"):
        split_stream(few, protocol=protocol)
    more = EventStream(few.src, few.dst + few.dst // 8, few.t, 10)
    split = split_stream(more, protocol=protocol)
    assert int(split.new_nodes.sum()) == 1


def test_masked_nodes_are_new() -> None:
    g = torch.Generator().manual_seed(0)
    src, dst = torch.randint(100, (2, 3000), generator=g)
    stream = EventStream(src, dst, torch.arange(3000), 100)
    split = split_stream(stream, protocol="masked", seed=4)
    assert int(split.new_nodes.sum()) == 10
    masked = set(split.new_nodes.nonzero().flatten().tolist())
    first_valid = 2100
    kept = [
        k for k in range(3000) if k >= first_valid or not {int(src[k]), int(dst[k])} & masked
    ]  # what is left, in order
    assert split.stream.t.tolist() == kept
    assert split.seed == 4
    other = split_stream(stream, protocol="masked", seed=5)
    assert not torch.equal(split.new_nodes, other.new_nodes)


@given(st.integers(0, 50), st.booleans())
def test_inductive_hides_nodes_until_the_test(seed: int, alone: bool) -> None:
    """Mode `i` of NAT's main.py: flags of the events, in plain numpy."""
    g = torch.Generator().manual_seed(seed)
    src, dst = torch.randint(60, (2, 600), generator=g)
    t = torch.randint(3, (600,), generator=g).cumsum(0)
    stream = EventStream(src, dst, t, 60, y=torch.arange(600))
    if alone:
        node, when = torch.randint(60, (100,), generator=g), torch.randint(int(t[-1]) + 5, (100,), generator=g)
        stream = stream.with_node_events(NodeEvents(node, when.sort().values))
    split = split_stream(stream, protocol="inductive", seed=seed)
    masked = split_stream(stream, protocol="masked", seed=seed)
    assert split.replay is not None
    val_time, test_time = np.quantile(t.numpy(), [0.7, 0.85])
    # All nodes are active in training here but those that were hidden.
    hidden = masked.new_nodes.nonzero().flatten().numpy()
    assert hidden.size == 6
    theirs = np.isin(src, hidden) | np.isin(dst, hidden)
    train, test = t.numpy() <= val_time, t.numpy() > test_time
    for part, want in zip(
        (*parts(split), *parts(split.replay)),
        (
            train & ~theirs,
            ~train & ~test & ~theirs,
            test & theirs,
            train,
            ~train & ~test,
            test & theirs,
        ),
        strict=True,
    ):
        assert part.y is not None
        assert part.y.tolist() == np.flatnonzero(want).tolist()
    assert split.new_nodes.nonzero().flatten().tolist() == hidden.tolist()
    assert torch.equal(split.replay.new_nodes, split.new_nodes)
    assert [part.first for part in parts(split.replay)] == [0, train.sum(), (~test).sum()]
    if alone:
        shown, past = split.stream.node_events, stream.node_events
        assert shown is not None
        assert past is not None
        first = int(np.searchsorted(past.t, t[~test].max(), side="right"))
        early = past.node[:first][~torch.from_numpy(np.isin(past.node[:first], hidden))]
        assert shown.node.tolist() == [*early.tolist(), *past.node[first:].tolist()]
        assert split.replay.stream.node_events is past
    moved = split.to("cpu")
    assert moved.replay is not None
    assert torch.equal(moved.replay.test.src, split.test.src)


def test_inductive_needs_tested_nodes() -> None:
    """A hidden node that is active in validation alone leaves nothing to test."""
    number = torch.arange(100)
    src = torch.where(number < 85, 2 + number % 4, 0)
    stream = EventStream(src, src + torch.where(number < 85, 4, 1), number, 10)
    failed = 0
    for seed in range(10):
        try:
            test = split_stream(stream, protocol="inductive", seed=seed).test
        except ArgumentError as error:
            failed += 1
            assert "the nodes that 'inductive' hides have no event in 'test'" in str(error)  # noqa: PT017
        else:
            assert len(test) == 15
    assert 0 < failed < 10


@given(st.lists(st.integers(0, 3), min_size=20, max_size=80))
def test_tgb_is_time(steps: list[int]) -> None:
    """TGB masks; the periods that PyG cuts are the same."""
    stream = make(steps)
    t = stream.t.numpy()
    val_time, test_time = np.quantile(t, [0.7, 0.85])
    masks = t <= val_time, (t <= test_time) & (t > val_time), t > test_time
    if not all(mask.any() for mask in masks):
        return
    split, plain = split_stream(stream, protocol="tgb"), split_stream(stream)
    for mask, part, other in zip(masks, parts(split), parts(plain), strict=True):
        assert part.eid.tolist() == other.eid.tolist() == np.flatnonzero(mask).tolist()
    assert (split.protocol, split.seed) == ("tgb", None)


def parts(split: StreamSplit) -> tuple[EventStream, ...]:
    return split.train, split.valid, split.test


Ids = npt.NDArray[np.int64]


def dyglib_masks(src: Ids, dst: Ids, t: Ids) -> tuple[npt.NDArray[np.bool_], ...]:
    """Events of DyGLib's training, validation and test, and those with a new node; ids from 1."""
    val_time, test_time = np.quantile(t, [0.7, 0.85])
    random.seed(2020)
    later = set(src[t > val_time]).union(set(dst[t > val_time]))
    hidden = list(random.sample(tuple(later), int(0.1 * len(set(src) | set(dst)))))
    train = (t <= val_time) & ~np.isin(src, hidden) & ~np.isin(dst, hidden)
    known = np.union1d(src[train], dst[train])
    new = ~np.isin(src, known) | ~np.isin(dst, known)
    return train, (t <= test_time) & (t > val_time), t > test_time, new


@given(st.integers(0, 100), st.integers(20, 300))
def test_dyglib_hides_the_same_nodes(seed: int, nodes: int) -> None:
    g = torch.Generator().manual_seed(seed)
    src, dst = (nodes * torch.rand(2, 1000, generator=g) ** 2).long()
    stream = EventStream(src, dst, torch.randint(3, (1000,), generator=g).cumsum(0), nodes, y=torch.arange(1000))
    before = random.getstate()
    split = split_stream(stream, protocol="dyglib", seed=seed)
    assert random.getstate() == before
    assert (split.protocol, split.seed) == ("dyglib", 2020)
    *masks, new = dyglib_masks(src.numpy() + 1, dst.numpy() + 1, stream.t.numpy())
    for mask, part in zip(masks, parts(split), strict=True):
        assert part.y is not None
        assert part.y.tolist() == np.flatnonzero(mask).tolist()
    for part in (split.valid, split.test):
        assert part.y is not None
        assert (split.new_nodes[part.src] | split.new_nodes[part.dst]).tolist() == new[part.y.numpy()].tolist()


@pytest.mark.realdata
def test_dyglib_on_wikipedia(real_data: Path) -> None:
    """From the publisher's file, whose ids DyGLib numbers from 1, items behind users."""
    path = real_data / "temporal/wikipedia/raw/wikipedia.csv"
    user, item, t = np.loadtxt(path, delimiter=",", skiprows=1, usecols=(0, 1, 2)).astype(np.int64).T
    train, valid, test, new = dyglib_masks(user + 1, item + user.max() + 2, t)
    split = split_stream(load_stream("wikipedia", download=False), protocol="dyglib")
    counts = [int(mask.sum()) for mask in (train, valid, test, valid & new, test & new)]
    assert counts == [81029, 23621, 23621, 12016, 11715]
    got = [int((split.new_nodes[part.src] | split.new_nodes[part.dst]).sum()) for part in (split.valid, split.test)]
    assert [*map(len, parts(split)), *got] == counts
    assert int((~split.new_nodes).sum()) == 6141


def test_bad_splits() -> None:
    stream = make([1] * 50)
    with pytest.raises(ArgumentError, match="protocol"):
        split_stream(stream, protocol="half")
    with pytest.raises(ArgumentError, match="first event on, got one from 3 on"):
        split_stream(stream[3:])
    with pytest.raises(ArgumentError, match=r"val_ratio \+ test_ratio"):
        split_stream(stream, val_ratio=0.5, test_ratio=0.5)
    with pytest.raises(ArgumentError, match="test_ratio"):
        split_stream(stream, test_ratio=0.0)
    with pytest.raises(ArgumentError, match="at 1 times leave no event"):
        split_stream(make([0] * 30))
