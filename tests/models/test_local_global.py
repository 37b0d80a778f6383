"""LocalGlobal against a list of all events."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from temporal_cases import Events, random_events

from graphmem.errors import ArgumentError
from graphmem.models import LocalGlobal
from graphmem.nn.state import grow_state, reset_state, restore_state, snapshot_state

NODES = 6
drawn = st.lists(st.tuples(st.integers(0, NODES - 1), st.integers(0, NODES - 1), st.integers(0, 2)), max_size=50)
Event = tuple[int, int, int]


def events_of(triples: list[Event], dtype: torch.dtype = torch.int64, unit: float = 1) -> Events:
    src, dst, wait = torch.tensor(triples, dtype=torch.int64).view(-1, 3).T
    return Events(src, dst, (unit * wait.cumsum(0)).to(dtype), torch.empty(len(triples), 0))


def shown(events: Events, batch: int, nodes: int = NODES) -> LocalGlobal:
    model = LocalGlobal(nodes, dtype=events.t.dtype)
    for part in events.batches(batch):
        model.update(part)
    return model


def scores(model: LocalGlobal, nodes: int = NODES) -> torch.Tensor:
    """[source, destination]."""
    everybody = torch.arange(nodes)
    return model.score(everybody, everybody.expand(nodes, nodes), model.now.expand(nodes))


def history(events: Events, source: int | None, destination: int) -> tuple[int, int]:
    """Age of the last event, in distinct times that came behind it, and number of events."""
    triples = zip(events.src.tolist(), events.dst.tolist(), events.t.tolist(), strict=True)
    times = [t for u, v, t in triples if v == destination and source in (None, u)]
    return len({t for t in events.t.tolist() if t > max(times)}) if times else -1, len(times)


@given(drawn, st.integers(1, 9))
def test_every_score_is_the_formula(triples: list[Event], batch: int) -> None:
    events = events_of(triples)
    found = scores(shown(events, batch)).tolist()
    for u in range(NODES):
        for v in range(NODES):
            age, count = history(events, None, v)
            pair_age, pair_count = history(events, u, v)
            want = Fraction(-(2**62))
            if pair_count:
                want = 1 / (1 + pair_age + 1 / (1 + pair_count + Fraction(count, 1 + count)))
            elif count:
                want = -1 - age - Fraction(1, 1 + count)
            assert found[u][v] == pytest.approx(float(want), rel=1e-14)


@given(drawn, st.integers(1, 9))
def test_candidates_are_in_the_order_that_is_promised(triples: list[Event], batch: int) -> None:
    events = events_of(triples)
    found = scores(shown(events, batch))

    def key(u: int, v: int) -> tuple[int, ...]:
        (pair_age, pair_count), (age, count) = history(events, u, v), history(events, None, v)
        if pair_count:
            return (2, -pair_age, pair_count, count)
        return (1, -age, count) if count else (0,)

    for u in range(NODES):
        keys = [key(u, v) for v in range(NODES)]
        places = [sorted(set(keys)).index(one) for one in keys]
        assert found[u].unique(return_inverse=True)[1].tolist() == places


def test_the_order_holds_for_old_events_of_popular_nodes() -> None:
    """A tie that popularity breaks is no larger than a step in age, and is still seen at a great age."""
    model = shown(events_of([(0, 1, 1), (2, 1, 0), (0, 3, 0), (0, 4, 1), (2, 5, 1)]), 2)
    model.clock += 10**7
    now = scores(model)
    assert now[0, 4] > now[0, 1] > now[0, 3] > now[0, 5] > now[0, 2]
    assert now[2, 5] > now[2, 1] > now[2, 4] > now[2, 3] > now[2, 0]


@given(drawn, st.integers(1, 9), st.sampled_from([0.001, 1.0, 86_400.0]))
def test_neither_batches_nor_units_of_time_show(triples: list[Event], batch: int, unit: float) -> None:
    whole = scores(shown(events_of(triples), 100))
    assert torch.equal(scores(shown(events_of(triples), batch)), whole)
    assert torch.equal(scores(shown(events_of(triples, torch.float64, unit), batch)), whole)


def test_a_score_reads_and_does_not_write_and_state_can_be_taken_back() -> None:
    first, second = random_events(0, 60, NODES, 0).batches(30)
    model = shown(first, 7)
    before, saved = scores(model), snapshot_state(model)
    assert torch.equal(scores(model), before)
    model.update(second)
    assert not torch.equal(scores(model), before)
    other = LocalGlobal(NODES)
    other.load_state_dict(model.state_dict())
    assert torch.equal(scores(other), scores(model))
    restore_state(model, saved)
    assert torch.equal(scores(model), before)
    assert int(model.position) == 30
    reset_state(model)
    assert (scores(model) == -(2.0**62)).all()


def test_new_nodes() -> None:
    events = random_events(1, 40, NODES, 0)
    model = shown(events, 10)
    grow_state(model, NODES + 2)
    assert model.num_nodes == NODES + 2
    assert torch.equal(scores(model, NODES + 2), scores(shown(events, 10, NODES + 2), NODES + 2))


def test_shapes_and_errors() -> None:
    model = shown(random_events(2, 20, NODES, 0), 20)
    none = torch.empty(0, dtype=torch.int64)
    assert model.score(none, none.view(0, 3), none).shape == (0, 3)
    assert model.time_dtype == torch.int64
    with pytest.raises(ArgumentError, match="dtype: expected torch.int64 or torch.float64, got torch.float32"):
        LocalGlobal(NODES, dtype=torch.float32)
