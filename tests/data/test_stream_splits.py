"""Splits and batches of streams, against PyG and plain Python."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from graphmem.data.event_batches import batch_bounds
from graphmem.data.stream import EventStream
from graphmem.data.stream_splits import split_stream
from graphmem.errors import ArgumentError

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


def test_bad_batches() -> None:
    stream = make([1, 2, 3])
    assert batch_bounds(stream[:0], size=3).tolist() == [0]
    for options in ({"size": 0}, {"window": 0.0}, {"size": 2, "window": 2}, {"window": float("nan")}):
        with pytest.raises(ArgumentError):
            batch_bounds(stream, **options)  # type: ignore[arg-type]


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
