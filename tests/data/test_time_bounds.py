"""Periods of time: every bound against a comparison in exact numbers."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from graphmem.data.node_events import NodeEvents
from graphmem.data.stream import EventStream
from graphmem.data.time_bounds import places_between
from graphmem.errors import ArgumentError, ArgumentTypeError

MOST, LEAST = 2**63 - 1, -(2**63)
# Where floats are coarser than whole numbers, and where whole numbers end.
EDGES = [0, 1, 2**53, 2**62, MOST, -(2**53), LEAST]
whole = st.one_of(st.integers(-4, 4), st.builds(lambda a, b: a + b, st.sampled_from(EDGES), st.integers(-3, 3)))
times = whole.filter(lambda t: LEAST <= t <= MOST)
bounds = st.one_of(whole, st.floats(-5, 5), st.floats(allow_nan=False), whole.map(float), st.just(10**400))


def below(t: float, bound: float) -> bool:
    if isinstance(bound, float) and bound in (float("inf"), float("-inf")):
        return bound > 0
    return Fraction(t) < Fraction(bound)


@given(st.lists(times, max_size=12), bounds, bounds, st.booleans())
def test_every_bound_is_exact(listed: list[int], low: float, high: float, are_whole: bool) -> None:
    t = torch.tensor(sorted(listed), dtype=torch.int64 if are_whole else torch.float64)
    want = [k for k, at in enumerate(t.tolist()) if not below(at, low) and below(at, high)]
    start, stop = places_between(t, low, high)
    assert list(range(start, stop)) == want


def stream(*t: float, dtype: torch.dtype = torch.int64) -> EventStream:
    column = torch.tensor(t, dtype=dtype)
    ends = torch.zeros(len(t), dtype=torch.int64)
    return EventStream(ends, ends, column, 1).with_node_events(NodeEvents(ends, column))


@pytest.mark.parametrize(
    ("low", "high", "want"),
    [
        (0.5, 1.5, [1]),
        (float("-inf"), float("inf"), [0, 1, 2]),
        (0.5, float("inf"), [1, 2]),
        (1e300, 1e301, []),
        (1.5, 0.5, []),
        (np.float64(0.5), np.int64(2), [1]),
        (torch.tensor(0.5), torch.tensor(2), [1]),
    ],
)
def test_streams_and_node_events_have_the_same_periods(low: Any, high: Any, want: list[int]) -> None:
    part = stream(0, 1, 2).between(low, high)
    assert part.t.tolist() == want
    assert part.node_events is not None
    assert part.node_events.t.tolist() == want


def test_the_largest_times_are_not_lost() -> None:
    part = stream(LEAST, 2**62, 2**62 + 1, MOST)
    assert part.between(2**62 + 1, 2**63).t.tolist() == [2**62 + 1, MOST]
    assert part.between(float(LEAST), float("inf")).t.tolist() == part.t.tolist()
    assert part.between(LEAST, MOST).t.tolist() == [LEAST, 2**62, 2**62 + 1]


@pytest.mark.parametrize("dtype", [torch.int64, torch.float64])
def test_bounds_that_are_no_times(dtype: torch.dtype) -> None:
    events = stream(0, 1, 2, dtype=dtype)
    for part in (events, events.node_events):
        assert part is not None
        with pytest.raises(ArgumentError, match="low: expected a time, got nan"):
            part.between(float("nan"), 1)
        with pytest.raises(ArgumentError, match="high: expected a time, got nan"):
            part.between(0, float("nan"))
        for bound in (None, "1", True):
            with pytest.raises(ArgumentTypeError, match="high: expected a number"):
                part.between(0, bound)  # type: ignore[arg-type]
