"""Recency against the events themselves, and against the formula that it had before."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from temporal_cases import Events
from torch import Tensor

from graphmem.models import Recency

NODES = 6
drawn = st.lists(st.tuples(st.integers(0, NODES - 1), st.integers(0, NODES - 1), st.integers(0, 2)), max_size=50)
DAY, NANO = 86_400, 10**9


def shown(src: list[int], dst: list[int], t: Tensor) -> Recency:
    model = Recency(NODES, dtype=t.dtype)
    model.update(Events(torch.tensor(src).long(), torch.tensor(dst).long(), t, torch.empty(len(src), 0)))  # type: ignore[arg-type]
    return model


def scores(model: Recency, now: Tensor) -> Tensor:
    """[source, destination]."""
    everybody = torch.arange(NODES)
    return model.score(everybody, everybody.expand(NODES, NODES), now.expand(NODES))


def ages(src: list[int], dst: list[int], t: list[int], now: int, u: int | None, v: int) -> int | None:
    last = [at for a, b, at in zip(src, dst, t, strict=True) if b == v and u in (None, a)]
    return now - last[-1] if last else None


def rank(row: Tensor) -> list[int]:
    places: list[int] = row.unique(return_inverse=True)[1].tolist()
    return places


@given(drawn, st.integers(0, 5), st.integers(-(2**40), 2**40), st.sampled_from([torch.int64, torch.float64]))
def test_the_order_is_that_of_the_bounded_ranks(
    triples: list[tuple[int, int, int]], later: int, origin: int, dtype: torch.dtype
) -> None:
    """2 - rho(age) and 1 - rho(age) with rho(d) = d / (d + 1), ties included, where these are exact enough."""
    src, dst, wait = ([row[k] for row in triples] for k in range(3))
    t = (origin + torch.tensor(wait).long().cumsum(0)).to(dtype)
    listed = [int(at) for at in t.tolist()]
    now = (listed[-1] if listed else origin) + later
    found = scores(shown(src, dst, t), torch.tensor(now, dtype=dtype))
    for u in range(NODES):
        old = []
        for v in range(NODES):
            own, anybody = (ages(src, dst, listed, now, end, v) for end in (u, None))
            old.append(1 + 1 / (1 + own) if own is not None else 0.0 if anybody is None else 1 / (1 + anybody))
            assert (found[u, v] > 0) == (own is not None)
        assert rank(found[u]) == rank(torch.tensor(old, dtype=torch.float64))


def test_nanoseconds_of_a_month_are_told_apart() -> None:
    """Two pairs that met 1,000 s apart, and two nodes whom others met one nanosecond apart, 30 days ago."""
    start = 1_700_000_000 * NANO
    t = torch.tensor([start, start + 1, start + 2, start + 1000 * NANO])
    model = shown([0, 5, 5, 0], [1, 3, 4, 2], t)
    row = scores(model, t[-1] + 30 * DAY * NANO)[0]
    assert row[2] > row[1] > 0 > row[4] > row[3] > row[5] == row[0]


@pytest.mark.parametrize("age", [2**30, 2**45, 2**51, 2**52 - 2])
def test_ages_are_told_apart_to_one_unit(age: int) -> None:
    model = shown([0, 5, 0, 5], [1, 3, 2, 4], torch.tensor([0, 0, 1, 1]))
    row = scores(model, torch.tensor(age + 1))[0]
    assert row[2] > row[1] > 0 > row[4] > row[3] > row[0]


def test_no_age_is_below_that_of_nobody() -> None:
    row = scores(shown([5], [1], torch.tensor([0.0], dtype=torch.float64)), torch.tensor(1e300, dtype=torch.float64))[0]
    assert 0 > row[1] > row[2]


def test_a_question_about_an_earlier_time_keeps_the_order() -> None:
    row = scores(shown([0, 5], [1, 2], torch.tensor([5, 9])), torch.tensor(3))[0]
    assert (row[1] > 0, row[2] < 0, bool(row[2] > row[3])) == (True, True, True)
