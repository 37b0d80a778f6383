"""Node memory: a simulator of single nodes as the oracle, the life of its state, bad input."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from memory_cases import DIM, MSG, NODES, TIME, Batch, SlowMemory, stream, update
from torch import nn

from graphmem.errors import ArgumentError, GraphMemError
from graphmem.nn import NodeMemory
from graphmem.nn.state import grow_state, restore_state, snapshot_state

ALL = torch.arange(NODES)


def build(seed: int = 0, **options: Any) -> NodeMemory:
    torch.manual_seed(seed)
    return NodeMemory(NODES, MSG, DIM, TIME, **options)


def bits(memory: NodeMemory) -> dict[str, Any]:
    return {name: value.clone() for name, value in memory.state_dict().items()}


def same(first: dict[str, Any], second: dict[str, Any]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@given(
    seed=st.integers(0, 999),
    mailbox=st.sampled_from((1, 2, 20)),
    aggregator=st.sampled_from(("last", "mean")),
    updater=st.sampled_from(("gru", "rnn", "transformer")),
    commit=st.sampled_from(("lazy", "eager")),
    training=st.lists(st.booleans(), min_size=4, max_size=4),
)
def test_is_the_slow_memory(
    seed: int, mailbox: int, aggregator: str, updater: Any, commit: Any, training: list[bool]
) -> None:
    if updater == "transformer":
        aggregator = "last"
    memory = build(seed, mailbox=mailbox, aggregator_module=aggregator, updater=updater, commit=commit)
    slow = SlowMemory(memory, mailbox)
    for batch, train in zip(stream(seed, 4), training, strict=True):
        memory.train(train)
        update(memory, batch)
        slow.update(batch, at_once=commit == "eager" or not train)
        n_id = torch.randint(NODES, (12,), generator=torch.Generator().manual_seed(seed))  # nodes may come twice
        z, t = memory(n_id)
        read = [slow.read(node) for node in n_id.tolist()]
        torch.testing.assert_close(z, torch.stack([row for row, _ in read]), rtol=1e-5, atol=1e-6)
        assert t.tolist() == [time for _, time in read]
        torch.testing.assert_close(memory.memory, torch.stack(slow.memory), rtol=1e-5, atol=1e-6)
        assert memory.last_update.tolist() == slow.last_update
        assert memory.mail.count.tolist() == [len(mail) for mail in slow.mail]
        parameters = list(memory.updater.parameters())
        if z.requires_grad:
            weight = torch.arange(z.numel()).view_as(z).sin()
            loss = (torch.stack([row for row, _ in read]) * weight).sum()
            for got, want in zip(
                torch.autograd.grad((z * weight).sum(), parameters), torch.autograd.grad(loss, parameters), strict=True
            ):
                torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)


def test_the_last_message_goes_by_order_not_by_time() -> None:
    """Three events of node 0 at one time: the last row wins, whatever a maximum over times would pick."""
    batch = Batch(*(torch.tensor(x) for x in ([0, 1, 0], [1, 0, 2], [7, 7, 7])), torch.eye(3, MSG), torch.arange(3))
    for order in ([0, 1, 2], [2, 1, 0], [1, 2, 0]):
        memory = build()
        update(memory, Batch(*(getattr(batch, field)[order] for field in ("src", "dst", "t", "msg", "event"))))
        mail = memory.mail.read(torch.tensor([0]))
        assert mail.event.tolist() == [order[-1]]


def test_a_self_loop_is_one_event_read_from_both_ends() -> None:
    one = torch.tensor([3])
    memory = build(mailbox=4)
    memory.update_state(one, one, torch.tensor([5]), torch.ones(1, MSG))
    mail = memory.mail.read(one)
    assert mail.other.tolist() == [3, 3]
    assert mail.is_source.tolist() == [True, False]


@pytest.mark.parametrize("training", [True, False])
def test_each_message_is_used_once(training: bool) -> None:
    """In graphs where a node is a source now and a destination then (PyG's two stores would read one twice)."""
    seen: list[float] = []

    class Spy(nn.Module):
        out_channels = MSG

        def forward(self, own: Any, other: Any, raw: Any, code: Any) -> Any:
            seen.extend(raw[:, 0].tolist())
            return raw

    memory = build(message_module=Spy(), aggregator_module="mean", mailbox=50).train(training)
    total = 0
    for k, batch in enumerate(stream(1, 6)):
        marks = 100.0 * k + torch.arange(batch.src.numel())
        memory.update_state(batch.src, batch.dst, batch.t, marks.unsqueeze(1).expand(-1, MSG))
        total += batch.src.numel()
    memory.flush()
    assert len(seen) == 2 * total
    assert all(seen.count(mark) == 2 for mark in set(seen))


def test_idle_nodes_do_not_move() -> None:
    memory = build()
    for batch in stream(2):
        update(memory, batch)
    before = bits(memory)
    quiet = Batch(*(torch.tensor(x) for x in ([0, 1], [1, 0], [900, 901])), torch.ones(2, MSG), torch.arange(2))
    for _ in range(2):
        update(memory, quiet)
    memory.flush()
    memory.train()
    has_mail = before["mail.count"][2:] > 0
    assert torch.equal(memory.memory[2:][~has_mail], before["memory"][2:][~has_mail])
    assert not torch.equal(memory.memory[:2], before["memory"][:2])


def test_reading_writes_nothing() -> None:
    memory = build()
    for batch in stream(3):
        update(memory, batch)
        before = bits(memory)
        memory(ALL)
        memory.eval()(ALL)
        memory.train()
        assert same(bits(memory), before)


def test_a_graph_of_a_read_survives_the_update() -> None:
    """PyG's order: the update comes before the backward pass."""
    memory, other = build(), build()
    first, second = stream(4, 2)
    for module, early in ((memory, True), (other, False)):
        update(module, first)
        loss = module(ALL)[0].square().sum()
        if early:
            update(module, second)
        loss.backward()
    assert all(torch.equal(p.grad, q.grad) for p, q in zip(memory.parameters(), other.parameters(), strict=True))
    assert memory.time_enc.lin.weight.grad.abs().sum() > 0
    assert not memory.memory.requires_grad


def test_state_goes_through_state_dict_and_snapshots() -> None:
    batches = stream(5, 6)
    memory = build(mailbox=2)
    for batch in batches[:3]:
        update(memory, batch)
    saved, snapshot = copy.deepcopy(memory.state_dict()), snapshot_state(memory)
    resumed = build(seed=9, mailbox=2)
    resumed.load_state_dict(saved)
    for batch in batches[3:]:
        update(memory, batch)
        update(resumed, batch)
    end = bits(memory)
    assert same(bits(resumed), end)
    restore_state(memory, snapshot)
    assert same(bits(memory), saved)
    for batch in batches[3:]:
        update(memory, batch)
    assert same(bits(memory), end)
    memory.reset_state()
    assert not memory.mail.count.any()
    assert not memory.memory.any()


def test_growth() -> None:
    batches = stream(6, 4)
    memory, larger = build(), NodeMemory(NODES + 5, MSG, DIM, TIME)
    larger.load_state_dict(memory.state_dict())
    grow_state(larger, NODES + 5)
    for k, batch in enumerate(batches):
        update(memory, batch)
        update(larger, batch)
        if k == 1:
            grow_state(memory, NODES + 5)
    assert same(bits(memory), bits(larger))
    assert memory.num_nodes == NODES + 5


def test_flush_changes_no_read() -> None:
    memory = build()
    for batch in stream(7):
        update(memory, batch)
    with torch.no_grad():
        before = memory(ALL)
        memory.flush()
        after = memory(ALL)
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert not memory.mail.count.any()
    assert not build(flush_on_eval=True).eval().training


def test_forgetting() -> None:
    memory = build(mailbox=30)
    (batch,) = stream(8, 1)
    update(memory, batch)
    update(memory.eval(), batch)
    memory.train()
    update(memory, batch)
    nodes, events = torch.tensor([0, 4]), batch.event[2:5]
    memory.forget(nodes=nodes)
    memory.mail.forget(nodes=nodes, events=events)
    assert not memory.memory[nodes].any()
    assert not memory.mail.count[nodes].any()
    left = memory.mail.read(ALL)
    want = [
        (node, other, e)
        for i, j, e in zip(batch.src.tolist(), batch.dst.tolist(), batch.event.tolist(), strict=True)
        for node, other in ((i, j), (j, i))
        if not {i, j} & {0, 4} and e not in events.tolist()
    ]
    assert sorted(zip(left.node.tolist(), left.other.tolist(), left.event.tolist(), strict=True)) == sorted(want)
    filled = torch.arange(30) < memory.mail.count.unsqueeze(1)
    assert not memory.mail.msg[~filled].any()  # nothing is left behind the mail
    with pytest.raises(ArgumentError, match="does not record which event"):
        memory.forget(events=events)


def test_times_of_both_types() -> None:
    batches = stream(9)
    whole, real = build(), build(time_dtype=torch.float64)
    for batch in batches:
        update(whole, batch)
        real.update_state(batch.src, batch.dst, batch.t.double() * 0.5, batch.msg)
    assert real(ALL)[1].tolist() == [t / 2 for t in whole(ALL)[1].tolist()]
    large = 2**53  # lost in float32 many times over
    whole.update_state(*(torch.tensor([x]) for x in (0, 1, large + 1)), torch.zeros(1, MSG))
    assert whole(torch.tensor([0]))[1].tolist() == [large + 1]


@pytest.mark.parametrize("updater", ["gru", "rnn"])
def test_updaters_are_torchs(updater: Any) -> None:
    cell = build(updater=updater).updater
    twin = {"gru": nn.GRUCell, "rnn": nn.RNNCell}[updater](cell.input_size, DIM)
    twin.load_state_dict(cell.state_dict())
    x, h = torch.randn(7, cell.input_size), torch.randn(7, DIM)
    torch.testing.assert_close(cell(x, h), twin(x, h))
    torch.testing.assert_close(cell(x), twin(x))


def test_same_bits_for_every_number_of_threads(restore_threads: None) -> None:
    results = []
    for threads in (1, 2, 4):
        torch.set_num_threads(threads)
        torch.manual_seed(0)
        memory = NodeMemory(3000, MSG, 64, 64)
        for batch in stream(10, 3, size=2000, nodes=3000):
            update(memory, batch)
        z = memory(torch.arange(3000))[0]
        z.square().sum().backward()
        results.append([z, *(p.grad for p in memory.parameters())])
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("src", {"src": torch.tensor([0, NODES])}),
        ("src", {"src": torch.tensor([0.0, 1.0])}),
        ("dst", {"dst": torch.tensor([0])}),
        ("dst", {"dst": torch.tensor([0, -1])}),
        ("t", {"t": torch.tensor([0.0, 1.0])}),
        ("raw_msg", {"raw_msg": torch.ones(2, MSG + 1)}),
        ("raw_msg", {"raw_msg": None}),
        ("event", {"event": torch.tensor([1])}),
    ],
)
def test_bad_events_are_named_and_change_nothing(name: str, change: dict[str, Any]) -> None:
    memory = build()
    before = bits(memory)
    events = {"src": torch.tensor([0, 1]), "dst": torch.tensor([2, 3]), "t": torch.tensor([1, 2])}
    with pytest.raises(GraphMemError, match=f"^{name}"):
        memory.update_state(**{**events, "raw_msg": torch.ones(2, MSG), **change})
    assert same(bits(memory), before)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("updater", {"updater": "lstm"}),
        ("updater", {"updater": "transformer", "aggregator_module": "mean"}),
        ("updater", {"updater": "transformer", "compat": "reference"}),
        ("commit", {"commit": "later"}),
        ("commit", {"commit": "eager", "compat": "reference"}),
        ("compat", {"compat": "pyg"}),
        ("aggregator_module", {"aggregator_module": "max"}),
        ("mailbox", {"mailbox": 0}),
        ("time_dtype", {"time_dtype": torch.float32}),
    ],
)
def test_bad_options_are_named(name: str, options: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError, match=f"^{name}"):
        build(**options)


def test_bad_reads_are_named() -> None:
    with pytest.raises(ArgumentError, match="n_id"):
        build()(torch.tensor([NODES]))
