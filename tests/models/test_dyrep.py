"""DyRep: its messages by hand."""

from __future__ import annotations

import pytest
import torch
from temporal_cases import Events, random_events

from graphmem.errors import ArgumentError
from graphmem.models import DyRep
from graphmem.nn import TemporalNeighbors

NODES, DIM, K = 7, 5, 3


def make(**options: object) -> DyRep:
    torch.manual_seed(0)
    model = DyRep(NODES, 2, memory_dim=DIM, time_dim=4, heads=1, num_neighbors=K, dropout=0.0, **options)  # type: ignore[arg-type]
    model = model.double()
    model.memory.memory.normal_()
    model.memory.last_update.copy_(torch.arange(NODES))
    return model


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("updater", ["rnn", "gru"])
def test_a_message_reads_the_attention_of_the_other_end(training: bool, updater: str) -> None:
    model = make(updater=updater).train(training)
    src, dst, t = torch.tensor([0, 3, 0]), torch.tensor([1, 1, 2]), torch.tensor([10, 11, 12])
    events = Events(src, dst, t, torch.randn(3, 2, dtype=torch.float64))
    before, last = model.memory.memory.clone(), model.memory.last_update.clone()
    model.prepare(events)  # type: ignore[arg-type]
    model.update(events)  # type: ignore[arg-type]
    attention, code = model.attention, model.memory.time_enc
    # Node 1 met 3, then 0; its latest mail is from 3, whose only event is that one.
    dt = last[1] - t[1]
    edge = torch.cat((code(dt.view(1, 1)).view(-1), events.msg[1]))
    value = attention.lin_value(before[1]) + attention.lin_edge.weight @ edge
    other = attention.lin_skip(before[3]) + value  # one event has all the weight
    message = torch.cat((before[1], other, events.msg[1], code((t[1] - last[1]).view(1, 1)).view(-1)))
    expected = model.memory.updater(message.unsqueeze(0), before[1:2])
    found = model.embed(torch.tensor([1]), None)
    torch.testing.assert_close(found, expected)
    if training:
        found.sum().backward()
        assert bool(attention.lin_edge.weight.grad.any())


def test_training_lowers_the_loss() -> None:
    torch.manual_seed(0)
    model = DyRep(NODES, 2, memory_dim=8, time_dim=4, num_neighbors=K, dropout=0.0)
    g = torch.Generator().manual_seed(0)
    events = random_events(0, 96, NODES, 2, dtype=torch.float32)
    src = events.src
    events = Events(src, (src + 1) % NODES, events.t, events.msg)  # whom a node meets is a function of the node
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    losses = []
    for _ in range(40):
        for state in (model, model.memory, model.memory.mail, model.neighbors):
            state.reset()
        model.prepare(events)  # type: ignore[arg-type]
        total = 0.0
        for batch in events.batches(16):
            wrong = (batch.dst + torch.randint(1, NODES, (len(batch),), generator=g)) % NODES
            out = model.score(batch.src, torch.stack((batch.dst, wrong), 1), batch.t)
            loss = torch.nn.functional.softplus(torch.stack((-out[:, 0], out[:, 1]))).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            model.update(batch)  # type: ignore[arg-type]
            total += loss.item()
        losses.append(total)
    assert losses[-1] < 0.8 * losses[0]


def test_a_batch_that_does_not_fit_changes_nothing() -> None:
    model = make()
    events = random_events(0, 8, NODES, 2)
    model.prepare(events)  # type: ignore[arg-type]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    bad = Events(events.src, events.dst, events.t, events.msg[:, :1])
    with pytest.raises(ArgumentError, match="raw_msg"):
        model.update(bad)  # type: ignore[arg-type]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_bad_options() -> None:
    for options in ({"delta": "query"}, {"delta": "query", "neighbors": TemporalNeighbors(NODES)}):
        with pytest.raises(ArgumentError, match="reads no neighbours"):
            make(**options)
