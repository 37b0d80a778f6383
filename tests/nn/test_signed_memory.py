"""SignedMemory against its equations in loops, and what follows from them."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from signed_cases import SignedEvents, SlowMemory, signed_events, streams
from torch import Tensor

from graphmem.errors import ArgumentError, ArgumentTypeError
from graphmem.nn import PRES, NodeMemory, SignedMemory

OPTIONS: dict[str, dict[str, Any]] = {
    "default": {},
    "last": {"aggr": "last"},
    "node clock": {"clock": "node"},
    "scale": {"time_scale": 3.0},
    "tied": {"tie_params": True},
    "released": {"compat": "released"},
}


def make(nodes: int, msg_dim: int = 2, **options: Any) -> SignedMemory:
    torch.manual_seed(0)
    return SignedMemory(nodes, msg_dim, memory_dim=3, time_dim=4, **options)


def everything(memory: SignedMemory) -> Tensor:
    return memory(torch.arange(memory.num_nodes))[0]


@given(streams(), st.sampled_from(sorted(OPTIONS)))
def test_states_are_those_of_the_equations(stream: tuple[SignedEvents, int, int], name: str) -> None:
    events, nodes, size = stream
    memory = make(nodes, **OPTIONS[name])
    slow = SlowMemory(memory)
    for batch in events.batches(size):
        memory.update_state(*batch.columns())
        slow.apply(batch)
        state, clock = memory(torch.arange(nodes))
        torch.testing.assert_close(state, slow.state.flatten(1))
        wanted = [[known.get(1, 0), known.get(-1, 0)] for known in slow.clock]
        assert clock.tolist() == wanted
        some = torch.randint(nodes, (5,), generator=torch.Generator().manual_seed(size))
        torch.testing.assert_close(memory(some)[0], state[some])
    before = everything(memory)
    memory.flush()
    assert torch.equal(everything(memory), before)
    assert memory.src.numel() == 0


@given(streams(), st.integers(0, 127), st.sampled_from(["mean", "last"]))
def test_switching(stream: tuple[SignedEvents, int, int], bits: int, aggr: str) -> None:
    """Signs between a set and the rest are flipped, and the states of the set swapped: nothing else changes."""
    events, nodes, size = stream
    inside = torch.tensor([bool(bits >> v & 1) for v in range(nodes)])
    crossing = inside[events.src] != inside[events.dst]
    flipped = SignedEvents(
        events.src, events.dst, events.t, torch.where(crossing, -events.sign, events.sign), events.msg
    )
    found = []
    for one in (events, flipped):
        memory = make(nodes, tie_params=True, clock="node", aggr=aggr)
        for batch in one.batches(size):
            memory.update_state(*batch.columns())
        found.append(everything(memory).view(nodes, 2, -1))
    swapped = torch.where(inside.view(-1, 1, 1), found[1].flip(1), found[1])
    torch.testing.assert_close(swapped, found[0], rtol=0, atol=1e-6)


def test_the_released_wiring_has_no_switching() -> None:
    events = signed_events(3, 20, 5, 2)
    inside = torch.tensor([True, True, False, False, False])
    crossing = inside[events.src] != inside[events.dst]
    found = []
    for sign in (events.sign, torch.where(crossing, -events.sign, events.sign)):
        memory = make(5, tie_params=True, clock="node", compat="released")
        memory.update_state(events.src, events.dst, events.t, events.msg, sign)
        found.append(everything(memory).view(5, 2, -1))
    assert not torch.allclose(torch.where(inside.view(-1, 1, 1), found[1].flip(1), found[1]), found[0])


def test_only_ends_of_events_change_and_messages_are_used_once() -> None:
    memory = make(6)
    first, second = signed_events(1, 4, 3, 2).at(slice(None)), signed_events(2, 1, 2, 2)
    memory.update_state(*first.columns())
    before = everything(memory)
    memory.update_state(*SignedEvents(second.src, second.dst, second.t + 99, second.sign, second.msg).columns())
    after = everything(memory)
    touched = torch.cat((second.src, second.dst)).unique()
    idle = torch.ones(6, dtype=torch.bool).index_fill(0, touched, False)
    assert torch.equal(before[idle], after[idle])  # node 2 was an end of the first batch: its message is not read again
    assert not torch.equal(before[touched], after[touched])


@pytest.mark.parametrize("seed", range(3))
def test_order_at_one_time_makes_no_difference_to_the_mean(seed: int) -> None:
    events = signed_events(seed, 12, 5, 2)
    events = SignedEvents(events.src, events.dst, torch.full_like(events.t, 9), events.sign, events.msg)
    shuffled = events.at(torch.randperm(12, generator=torch.Generator().manual_seed(seed)))
    found = []
    for one in (events, shuffled):
        memory = make(5)
        memory.update_state(*one.columns())
        found.append(everything(memory))
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("aggr", ["mean", "last"])
def test_friends_alone_are_tgns_memory(aggr: str) -> None:
    """All signs positive and no time code: the friendly state is that of NodeMemory, and so PyG's."""
    memory = make(6, aggr=aggr)
    other = NodeMemory(6, 2, 3, 4, aggregator_module=aggr, mailbox=10).eval()
    other.updater.load_state_dict(memory.cell_pos.state_dict())
    with torch.no_grad():
        for code in (memory.time_enc, other.time_enc):
            code.lin.weight.zero_()
            code.lin.bias.fill_(math.pi / 2)
    for batch in signed_events(8, 40, 6, 2, loops=False).batches(5):
        memory.update_state(batch.src, batch.dst, batch.t, batch.msg, torch.ones_like(batch.sign))
        other.update_state(batch.src, batch.dst, batch.t, batch.msg)
    torch.testing.assert_close(everything(memory)[:, :3], other(torch.arange(6))[0])


def test_gradient_goes_one_step_and_state_has_none() -> None:
    memory = make(5)
    for batch in signed_events(0, 24, 5, 2).batches(6):
        memory.update_state(*batch.columns())
        assert not any(buffer.requires_grad for buffer in memory.buffers())
        memory.zero_grad()
        everything(memory).square().sum().backward()
        for name, parameter in memory.named_parameters():
            assert parameter.grad is not None, name
    assert all(p.grad.abs().sum() > 0 for p in memory.parameters() if p.grad is not None)


def test_signs_in_every_form() -> None:
    events = signed_events(4, 10, 5, 2)
    forms = [events.sign, (events.sign > 0).long(), events.sign > 0, events.sign.float(), events.sign.to(torch.int8)]
    found = []
    for sign in forms:
        memory = make(5)
        memory.update_state(events.src, events.dst, events.t, events.msg, sign)
        found.append(everything(memory))
    assert all(torch.equal(found[0], other) for other in found[1:])
    memory = make(5)
    for bad, named in ((events.sign * 2, r"got \[-2, 2\]"), (None, "got None"), (events.sign[:3], "sign: expected")):
        with pytest.raises(ArgumentError, match=named):
            memory.update_state(events.src, events.dst, events.t, events.msg, bad)
    with pytest.raises(ArgumentError, match="sign: expected -1 and 1"):
        memory.update_state(*(x[:3] for x in events.columns()[:4]), torch.tensor([-1, 0, 1]))


def test_a_snapshot_in_the_middle_holds_what_waits() -> None:
    first, second = signed_events(0, 20, 5, 2).batches(10)
    memory = make(5)
    memory.update_state(*first.columns())
    snapshot, saved = memory.snapshot(), {k: v.clone() for k, v in memory.state_dict().items()}
    memory.update_state(*second.columns())
    wanted = everything(memory)
    memory.restore(snapshot)
    memory.update_state(*second.columns())
    assert torch.equal(everything(memory), wanted)
    fresh = make(5)
    fresh.load_state_dict(saved)
    fresh.update_state(*second.columns())
    assert torch.equal(everything(fresh), wanted)
    memory.reset()
    assert all(torch.equal(value, make(5).state_dict()[name]) for name, value in memory.state_dict().items())


def test_grow_and_forget() -> None:
    first, second = signed_events(0, 20, 5, 2).batches(10)
    memory, larger = make(5), make(8)
    memory.update_state(*first.columns())
    larger.update_state(*first.columns())
    memory.grow(8)
    for one in (memory, larger):
        one.update_state(*second.columns())
    assert torch.equal(everything(memory), everything(larger))
    memory.forget(torch.tensor([1, 3]))
    state, clock = memory(torch.tensor([1, 3]))
    assert not bool(state.any())
    assert not bool(clock.any())
    assert not bool(torch.isin(torch.cat((memory.src, memory.dst)), torch.tensor([1, 3])).any())
    with pytest.raises(ArgumentError, match="events"):
        memory.forget(events=torch.tensor([0]))


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"aggr": "sum"}, "aggr"),
        ({"clock": "wall"}, "clock"),
        ({"compat": "reference"}, "compat"),
        ({"aggr": "last", "compat": "released"}, "aggr"),
        ({"time_scale": 0.0}, "time_scale"),
        ({"time_dtype": torch.float32}, "time_dtype"),
    ],
)
def test_bad_options(options: dict[str, Any], named: str) -> None:
    with pytest.raises(ArgumentError, match=rf"^{named}: expected"):
        make(4, **options)


def test_bad_events() -> None:
    memory, events = make(4), signed_events(0, 5, 4, 2)
    good = dict(zip(("src", "dst", "t", "msg", "sign"), events.columns(), strict=True))
    for name, value in (
        ("src", events.src.int()),
        ("dst", events.dst[:2]),
        ("dst", events.dst + 4),
        ("t", events.t.float()),
        ("msg", events.msg[:, :1]),
    ):
        with pytest.raises(ArgumentError, match=rf"^{name}: expected"):
            memory.update_state(**{**good, name: value})
    with pytest.raises(ArgumentError, match="n_id"):
        memory(torch.tensor([4]))
    with pytest.raises(ArgumentTypeError, match="msg"):
        memory.update_state(events.src, events.dst, events.t, sign=events.sign)


@given(streams(loops=False), st.sampled_from(["per_time", "per_event"]))
def test_corrected_states(stream: tuple[SignedEvents, int, int], rate: str) -> None:
    """Both states of a node are mixtures of their prediction and of what the cells alone make of them."""
    events, nodes, size = stream
    memory, raw = make(nodes), make(nodes)
    options: dict[str, Any] = {"gate": "fixed", "alpha": 0.25, "rate": rate, "max_shift": None, "eps": 0.1, "tau": 2.0}
    memory.correct_by(PRES(nodes, 6, **options))
    mean, count = torch.zeros(nodes, 6), torch.zeros(nodes)
    for batch in events.batches(size):
        raw.load_state_dict(memory.state_dict(), strict=False)
        prev, since = memory.memory.flatten(1).clone(), memory.last_update.amax(1)
        for each in (memory, raw):
            each.update_state(*batch.columns())
        with torch.no_grad():
            read, alone = everything(memory), everything(raw)
        ends = list(zip(batch.src.tolist(), batch.dst.tolist(), strict=True))
        late = [any(set(pair) & set(before) for before in ends[:e]) for e, pair in enumerate(ends)]
        for node in {v for pair in ends for v in pair}:
            last = max(t for t, pair in zip(batch.t.tolist(), ends, strict=True) if node in pair)
            span = max((last - int(since[node])) / 2.0, 0.1)
            learned, ahead = (span, span) if rate == "per_time" else (1, sum(node in pair for pair in ends))
            wanted = alone[node]
            if count[node] >= 2 and any(hit and node in pair for pair, hit in zip(ends, late, strict=True)):
                wanted = 0.75 * (prev[node] + ahead * mean[node]) + 0.25 * alone[node]
            torch.testing.assert_close(read[node], wanted, rtol=1e-4, atol=1e-5)
            if rate == "per_time" and int(since[node]) == memory.never:
                continue  # a first update spans no time
            count[node] += 1
            mean[node] += ((alone[node] - prev[node]) / learned - mean[node]) / count[node]
        memory.flush()
        assert torch.equal(everything(memory), read)
