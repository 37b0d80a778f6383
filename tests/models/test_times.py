"""Times of another dtype than the model's are refused, and what the origin of times means to each model."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from temporal_cases import Events, random_events
from torch import Tensor

from graphmem.errors import ArgumentError
from graphmem.models import (
    APAN,
    JODIE,
    NAT,
    SEMBA,
    TGN,
    TNCN,
    DyRep,
    EdgeBank,
    LocalGlobal,
    Recency,
    Reputation,
    TemporalLinkModel,
)
from graphmem.nn import EdgeNeighbors, RecentNeighbors, TemporalNeighbors

NODES, MSG = 8, 2
SMALL: dict[str, Any] = {"memory_dim": 4, "time_dim": 4}
Make = Callable[[torch.dtype], TemporalLinkModel]

# Differences of times alone decide.
RELATIVE: dict[str, Make] = {
    "nat": lambda dtype: NAT(NODES, MSG, time_dtype=dtype),
    "semba": lambda dtype: SEMBA(NODES, MSG, **SMALL, embedding_dim=8, time_dtype=dtype),
    "semba, history": lambda dtype: SEMBA(NODES, MSG, features="history", time_dtype=dtype),
    "edgebank": lambda dtype: EdgeBank(dtype=dtype),
    "edgebank, window": lambda dtype: EdgeBank(7.5, dtype=dtype),
    "recency": lambda dtype: Recency(NODES, dtype=dtype),
    "popularity": lambda dtype: Recency(NODES, "popularity", dtype=dtype),
    "localglobal": lambda dtype: LocalGlobal(NODES, dtype=dtype),
    "reputation": lambda dtype: Reputation(NODES, dtype=dtype),
}
# A node without an event had its last one at 0.
FROM_ZERO: dict[str, Make] = {
    "tgn": lambda dtype: TGN(NODES, MSG, **SMALL, embedding_dim=4, time_dtype=dtype),
    "tgn, query": lambda dtype: TGN(NODES, MSG, **SMALL, embedding_dim=4, delta="query", time_dtype=dtype),
    "tncn": lambda dtype: TNCN(NODES, MSG, **SMALL, embedding_dim=4, time_dtype=dtype),
    "dyrep": lambda dtype: DyRep(NODES, MSG, **SMALL, time_dtype=dtype),
    "jodie": lambda dtype: JODIE(NODES, MSG, **SMALL, time_dtype=dtype),
    "apan": lambda dtype: APAN(NODES, MSG, embedding_dim=4, time_dim=4, time_dtype=dtype),
}
ALL = RELATIVE | FROM_ZERO


def build(name: str, dtype: torch.dtype = torch.int64) -> TemporalLinkModel:
    torch.manual_seed(0)
    return ALL[name](dtype).eval()


def events_at(shift: int = 0, dtype: torch.dtype = torch.int64, count: int = 40) -> Events:
    events = random_events(3, count, NODES, MSG, dtype=torch.float32)
    return replace(events, t=(events.t + shift).to(dtype))


def scores(model: TemporalLinkModel, events: Events) -> list[Tensor]:
    """Of all destinations, before each batch and behind the last; the second half of the batches by ``step``."""
    found = []
    model.prepare(events)  # type: ignore[arg-type]
    everybody = torch.arange(NODES)
    with torch.no_grad():
        for k, batch in enumerate(events.batches(5)):
            dst = everybody.expand(len(batch), NODES)
            if k < 4:
                found.append(model.score(batch.src, dst, batch.t))
                model.update(batch)  # type: ignore[arg-type]
            else:
                found.append(model.step(batch, dst))  # type: ignore[arg-type]
        found.append(model.score(everybody, everybody.expand(NODES, NODES), (events.t[-1] + 5).expand(NODES)))
    return found


DTYPES = [(own, other) for own in (torch.int64, torch.float64) for other in (torch.int64, torch.float64, torch.float32)]


@pytest.mark.parametrize(("own", "other"), [pair for pair in DTYPES if pair[0] != pair[1]], ids=str)
@pytest.mark.parametrize("name", ALL)
def test_times_of_another_dtype_are_refused(name: str, own: torch.dtype, other: torch.dtype) -> None:
    model, (first, second) = build(name, own), events_at(dtype=own).batches(20)
    model.prepare(events_at(dtype=own))  # type: ignore[arg-type]
    model.update(first)  # type: ignore[arg-type]
    before = {key: value.clone() for key, value in model.state_dict().items()}
    wrong, dst = replace(second, t=second.t.to(other)), torch.arange(NODES).expand(20, NODES)
    calls: tuple[Callable[[], Any], ...] = (
        lambda: model.score(wrong.src, dst, wrong.t),
        lambda: model.update(wrong),  # type: ignore[arg-type]
        lambda: model.step(wrong, dst),  # type: ignore[arg-type]
    )
    for grad, training, call in itertools.product((True, False), (True, False), calls):
        model.train(training)
        with (
            torch.set_grad_enabled(grad),
            pytest.raises(ArgumentError, match=r"t: expected .*int64|t: expected .*float64"),
        ):
            call()
    model.eval()
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    model.update(second)  # type: ignore[arg-type]


@pytest.mark.parametrize("shift", [-(10**6), -20, -1_700_000_000])
@pytest.mark.parametrize("name", RELATIVE)
def test_negative_times_give_the_scores_of_others(name: str, shift: int) -> None:
    """Bit for bit: some times, or all, are below 0."""
    for dtype in (torch.int64, torch.float64):
        want, found = (scores(build(name, dtype), events_at(by, dtype)) for by in (0, shift))
        assert all(torch.equal(a, b) for a, b in zip(want, found, strict=True))


def set_beginning(model: TemporalLinkModel, t: int) -> None:
    """Let nodes without an event have had their last one at t."""
    for name, buffer in model.named_buffers():
        if name in ("memory.last_update", "mailbox.t"):
            buffer.fill_(t)


@pytest.mark.parametrize("shift", [-(10**6), -20, 1_700_000_000])
@pytest.mark.parametrize("name", FROM_ZERO)
def test_the_origin_of_times_shows_in_nodes_without_an_event_alone(name: str, shift: int) -> None:
    want = scores(build(name), events_at())
    model = build(name)
    set_beginning(model, shift)
    found = scores(model, events_at(shift))
    assert all(torch.equal(a, b) for a, b in zip(want, found, strict=True))
    from_zero = scores(build(name), events_at(shift))
    assert all(bool(score.isfinite().all()) for score in from_zero)
    assert not torch.equal(from_zero[-1], want[-1])


@pytest.mark.parametrize("make", [RecentNeighbors, TemporalNeighbors, EdgeNeighbors])
@pytest.mark.parametrize("shift", [-(10**6), -20])
def test_neighbours_at_negative_times(make: Any, shift: int) -> None:
    answers = []
    for by in (0, shift):
        events = events_at(by)
        neighbors = (
            make(NODES) if make is TemporalNeighbors else make(NODES, 4, *((3,) if make is EdgeNeighbors else ()))
        )
        everybody = torch.arange(NODES)
        for batch in events.batches(7):
            if make is EdgeNeighbors:
                edge = torch.randn(2 * len(batch), 3)
                neighbors.insert_edges(batch.src, batch.dst, batch.t, edge, batch.eid)
            else:
                neighbors.insert(batch.src, batch.dst, batch.t, batch.eid)
        asked = (everybody, (events.t[20] + 0).expand(NODES), 4) if make is TemporalNeighbors else (everybody, 4)
        nbr, eid, t = neighbors.query(*asked)
        answers.append((nbr, eid, torch.where(nbr >= 0, t - by, 0)))
    assert all(torch.equal(a, b) for a, b in zip(*answers, strict=True))


@pytest.mark.parametrize("window", [150.5, 150, 1e300, float("inf")])
def test_a_window_is_exact_for_whole_times(window: float) -> None:
    """A fraction is taken from whole times: float32 does not tell Unix times of two minutes apart."""
    model, start = EdgeBank(window), 1_700_000_000
    model.update(
        Events(torch.tensor([0, 0]), torch.tensor([1, 2]), torch.tensor([start, start + 10]), torch.empty(2, 0))
    )  # type: ignore[arg-type]
    for age, want in ((150, [1, 1]), (151, [window > 151, 1]), (161, [window > 161, window > 161])):
        row = model.score(torch.tensor([0]), torch.tensor([[1, 2]]), torch.tensor([start + age]))
        assert row.tolist() == [want]
