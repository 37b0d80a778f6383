"""Events of single nodes in the node memory, and in models that have none."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from graphmem.data import EventStream, NodeEvents
from graphmem.engine import StreamPredictor
from graphmem.engine.stream_build import build_stream
from graphmem.engine.stream_config import StreamRunConfig
from graphmem.errors import ArgumentError
from graphmem.models import APAN, JODIE, NAT, SEMBA, TGN, TNCN, DyRep, EdgeBank, LocalGlobal, Recency, Reputation
from graphmem.nn import PRES, NodeMemory

NODES, MSG, DIM, TIME = 8, 2, 6, 4


def streams(seed: int = 0, count: int = 30) -> EventStream:
    generator = torch.Generator().manual_seed(seed)
    src, dst = (NODES * torch.rand(2, count, generator=generator) ** 2).long()
    t = 1 + torch.randint(3, (count,), generator=generator).cumsum(0)
    when = torch.randint(int(t[-1]), (count // 2,), generator=generator).sort().values
    node = torch.randint(NODES, (count // 2,), generator=generator)
    alone = NodeEvents(node, when, torch.randn(count // 2, MSG, generator=generator))
    msg, weight = torch.randn(count, MSG, generator=generator), torch.ones(count)
    return EventStream(src, dst, t, NODES, msg=msg, weight=weight, node_events=alone)


def merged(events: EventStream) -> list[tuple[int, int, int, Tensor]]:
    """Half events (owner, other or -1, time, message) in the order of time, those of single nodes first."""
    alone = events.node_events
    assert alone is not None
    assert alone.msg is not None
    assert events.msg is not None
    rows = [(int(t), 0, k, int(v), -1, alone.msg[k]) for k, (v, t) in enumerate(zip(alone.node, alone.t, strict=True))]
    for k, (i, j, t) in enumerate(zip(events.src.tolist(), events.dst.tolist(), events.t.tolist(), strict=True)):
        rows += [(t, 1, 2 * k, i, j, events.msg[k]), (t, 1, 2 * k + 1, j, i, events.msg[k])]
    rows.sort(key=lambda row: row[:3])
    return [(owner, other, t, msg) for t, _, _, owner, other, msg in rows]


class SlowMemory:
    """A node at a time; the weights are those of ``like``."""

    def __init__(self, like: NodeMemory) -> None:
        self.like = like
        self.memory, self.since = [torch.zeros(DIM) for _ in range(NODES)], [0] * NODES

    def take(self, events: EventStream, mean: bool) -> None:
        mail: dict[int, list[tuple[int, int, Tensor]]] = {}
        for owner, other, t, msg in merged(events):
            mail.setdefault(owner, []).append((other, t, msg))
        new = {}
        for node, halves in mail.items():
            halves, messages = halves[-self.like.mail.size :], []
            for other, t, msg in halves:
                code = self.like.time_enc(torch.tensor([t - self.since[node]]))[0]
                partner = self.like.node_message.alone if other < 0 else self.memory[other]  # type: ignore
                messages.append(torch.cat((self.memory[node], partner, msg, code)))
            message = torch.stack(messages).mean(0) if mean else messages[-1]
            new[node] = self.like.updater(message[None], self.memory[node][None])[0], halves[-1][1]
        for node, (state, t) in new.items():
            self.memory[node], self.since[node] = state.detach(), t


@pytest.mark.parametrize("mean", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_the_memory_is_that_of_a_loop_over_nodes(mean: bool, training: bool) -> None:
    torch.manual_seed(0)
    options: dict[str, Any] = {"aggregator_module": "mean" if mean else "last", "mailbox": 3 if mean else 1}
    memory = NodeMemory(NODES, MSG, DIM, TIME, node_message_module="concat", **options)
    torch.nn.init.normal_(memory.node_message.alone)  # type: ignore[union-attr, arg-type]
    memory.train(training)
    slow, events = SlowMemory(memory), streams()
    for first in range(0, len(events), 10):
        part = events[first : first + 10]
        memory.update_state(part.src, part.dst, part.t, part.msg, node_events=part.node_events)
        memory.flush()  # lazily, others' memories would be those before their mail
        slow.take(part, mean)
        state, since = memory(torch.arange(NODES))
        torch.testing.assert_close(state, torch.stack(slow.memory))
        assert since.tolist() == slow.since


def test_links_alone_give_the_bits_of_a_memory_without() -> None:
    torch.manual_seed(0)
    memory = NodeMemory(NODES, MSG, DIM, TIME, node_message_module="concat")
    plain = NodeMemory(NODES, MSG, DIM, TIME)
    plain.load_state_dict({k: v for k, v in memory.state_dict().items() if k != "node_message.alone"})
    events = streams()
    none = NodeEvents(torch.empty(0).long(), torch.empty(0).long())
    memory.update_state(events.src, events.dst, events.t, events.msg, node_events=none)
    plain.update_state(events.src, events.dst, events.t, events.msg)
    assert torch.equal(memory(torch.arange(NODES))[0], plain(torch.arange(NODES))[0])


def test_the_message_learns() -> None:
    memory = NodeMemory(NODES, MSG, DIM, TIME, node_message_module="concat")
    none = torch.empty(0).long()
    alone = NodeEvents(torch.tensor([3]), torch.tensor([7]))
    memory.update_state(none, none, none, torch.empty(0, MSG), node_events=alone)
    state, since = memory(torch.tensor([3, 4]))
    assert since.tolist() == [7, 0]
    assert state[0].any()
    assert not state[1].any()
    state.sum().backward()
    assert memory.node_message.alone.grad.any()  # type: ignore[union-attr]


READERS = {"tgn": TGN, "tncn": TNCN, "jodie": JODIE, "dyrep": DyRep}


@pytest.mark.parametrize("name", READERS)
def test_they_move_memories_and_make_no_neighbours(name: str) -> None:
    torch.manual_seed(0)
    model = READERS[name](NODES, MSG, memory_dim=DIM, time_dim=TIME, node_message_module="concat").eval()
    assert model.reads_node_events
    other, events = copy.deepcopy(model), streams()
    plain = events.with_node_events(None)
    for one, seen in ((model, events), (other, plain)):
        one.prepare(seen)
        for first in range(0, 30, 10):
            one.update(seen[first : first + 10])
    touched = events.node_events.node.unique()  # type: ignore[union-attr]
    assert not torch.equal(model.memory.memory[touched], other.memory.memory[touched])
    assert int(model.position) == int(other.position) == 30
    if name != "jodie":
        for a, b in zip(model.neighbors.buffers(), other.neighbors.buffers(), strict=True):
            assert torch.equal(a, b)
    assert model.score(torch.tensor([0]), torch.tensor([[1, 2]]), events.t[-1:]).isfinite().all()


REFUSING = {
    "apan": lambda: APAN(NODES, MSG),
    "nat": lambda: NAT(NODES, MSG),
    "semba": lambda: SEMBA(NODES, MSG),
    "edgebank": EdgeBank,
    "recency": lambda: Recency(NODES),
    "localglobal": lambda: LocalGlobal(NODES),
    "reputation": lambda: Reputation(NODES),
    "tgn": lambda: TGN(NODES, MSG),
    "dyrep": lambda: DyRep(NODES, MSG),
}


@pytest.mark.parametrize("name", REFUSING)
def test_other_models_raise_and_stay_as_they_were(name: str) -> None:
    model, events = REFUSING[name](), streams()  # type: ignore[operator]
    before = {key: value.clone() for key, value in model.state_dict().items()}
    assert not model.reads_node_events
    with pytest.raises(ArgumentError, match="events"):
        model.update(events)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    model.update(events.with_node_events(None))


def test_what_the_memory_refuses() -> None:
    for options in ({"t_batches": True}, {"compat": "reference"}):
        with pytest.raises(ArgumentError, match="node_message_module: expected None"):
            NodeMemory(NODES, MSG, DIM, TIME, node_message_module="concat", **options)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="node_message_module"):
        NodeMemory(NODES, MSG, DIM, TIME, node_message_module="sum")
    memory, events = NodeMemory(NODES, MSG, DIM, TIME, node_message_module="concat"), streams()
    ends, alone = (events.src, events.dst, events.t, events.msg), events.node_events
    assert alone is not None
    wide = NodeEvents(alone.node, alone.t, torch.zeros(len(alone), MSG + 1))
    with pytest.raises(ArgumentError, match=r"node_events.msg: .*\[15, 2\]"):
        memory.update_state(*ends, node_events=wide)
    with pytest.raises(ArgumentError, match=r"node_events.node: expected ids in \[0, 8\)"):
        memory.update_state(*ends, node_events=NodeEvents(alone.node + NODES, alone.t))
    with pytest.raises(ArgumentError, match="t: expected ascending"):
        memory.update_state(ends[0], ends[1], ends[2].flip(0), ends[3], node_events=alone)
    memory.correct_by(PRES(NODES, DIM))
    with pytest.raises(ArgumentError, match="node_events: expected None with PRES"):
        memory.update_state(*ends, node_events=alone)


def test_online_they_are_refused() -> None:
    events = streams()
    predictor = StreamPredictor(TGN(NODES, MSG, node_message_module="concat"))
    with pytest.raises(ArgumentError, match="node_events"):
        predictor.update(events)


def test_a_run_takes_them_where_its_model_does() -> None:
    events = streams(count=300)
    common: dict[str, Any] = {"data": "made.csv", "batch_size": 50}
    taking = {"node_message_module": "concat", "memory_dim": DIM, "time_dim": TIME, "embedding_dim": DIM}
    config = StreamRunConfig(model="tgn", options=taking, **common)
    built = build_stream(config, 0, events)
    assert built.optimizer is not None
    for batch in built.task.batches("train", 0):
        built.optimizer.zero_grad()
        built.task.loss(built.model, batch).backward()
        built.optimizer.step()
        built.task.update(built.model, batch)
    assert built.model.memory.node_message.alone.any()  # type: ignore[union-attr, operator]
    assert 0 <= built.task.evaluate(built.model, "valid")["ap"] <= 1
    for model, options in (("tgn", {}), ("apan", {}), ("edgebank", {})):
        with pytest.raises(ArgumentError, match="stream: .*takes links only"):
            build_stream(StreamRunConfig(model=model, options=options, **common), 0, events)
