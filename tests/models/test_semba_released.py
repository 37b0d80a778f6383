"""The released SEMBA against dictionaries and loops over all nodes, with PyG's attention, batch after batch."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch_geometric.nn import TransformerConv

from graphmem.data.stream import EventStream
from graphmem.errors import ArgumentError
from graphmem.models.semba_released import ReleasedSEMBA

N, D = 9, 4


def make(seed: int = 0, **options: object) -> ReleasedSEMBA:
    torch.manual_seed(seed)
    sizes = {"memory_dim": D, "time_dim": 3, "embedding_dim": 8, "heads": 2, "dropout": 0.0}
    return ReleasedSEMBA(N, **(sizes | options))  # type: ignore[arg-type]


def make_stream(seed: int, count: int = 60, negatives: float = 0.4, busy: float = 0.0) -> EventStream:
    g = torch.Generator().manual_seed(seed)
    src, dst = torch.randint(N - 1, (2, count), generator=g)  # the last node has no event
    dst = torch.where(torch.rand(count, generator=g) < busy, 0, dst)
    weight = torch.randint(1, 10, (count,), generator=g) * (1.0 - 2 * (torch.rand(count, generator=g) < negatives))
    return EventStream(src, dst, torch.randint(4, (count,), generator=g).cumsum(0), N, weight=weight)


class Slow:
    """Memory and attention of the released code over all nodes."""

    def __init__(self, model: ReleasedSEMBA) -> None:
        self.model, self.training = model, True
        self.state = torch.zeros(2, N, D)
        self.clock = torch.zeros(2, N, dtype=torch.int64)
        self.stores: dict[tuple[int, int], dict[int, list[tuple[int, int, float]]]] = {}
        self.seen: list[tuple[int, int, int, float]] = []
        self.conv = TransformerConv(2 * D, 4, heads=2, dropout=0.0, edge_dim=4)
        own = model.attention.state_dict()
        theirs = {name: own[name] for name in self.conv.state_dict() if name in own}
        self.conv.load_state_dict({"lin_key.bias": torch.zeros(8), **theirs})

    def updated(self, friendly: set[int], hostile: set[int]) -> tuple[list[Tensor], Tensor]:
        found: dict[tuple[int, int], list[Tensor]] = {}
        clock = torch.zeros(2, N, dtype=torch.int64)
        for asked, sign, side, slot, since in (
            (friendly, 0, 0, 0, 0),
            (hostile, 1, 0, 1, 1),
            (hostile, 1, 1, 1, 1),
            (friendly, 1, 1, 0, 0),
        ):
            for role in (0, 1):
                for i, halves in self.stores.get((sign, role), {}).items():
                    for j, t, w in halves if i in asked else []:
                        code = self.model.time_enc(torch.tensor(t) - self.clock[since, i]).detach()
                        parts = (self.state[side, i], self.state[slot, j], torch.tensor([w]), code)
                        found.setdefault((side, i), []).append(torch.cat(parts))
                        clock[side, i] = max(int(clock[side, i]), t)
        none = torch.zeros(2 * D + 4)
        states = []
        for side, cell in enumerate((self.model.cell_pos, self.model.cell_neg)):
            rows = [torch.stack(found.get((side, i), [none])).mean(0) for i in range(N)]
            states.append(cell(torch.stack(rows), self.state[side]))
        return states, clock

    def write(self, friendly: set[int], hostile: set[int]) -> None:
        states, clock = self.updated(friendly, hostile)
        both = sorted(friendly | hostile)
        self.state = self.state.clone()
        for side, asked in enumerate((friendly, hostile)):
            self.state[side, both] = states[side][both].detach()
            self.clock[side, sorted(asked)] = clock[side, sorted(asked)]

    def store(self, events: list[tuple[int, int, int, float]]) -> None:
        new: dict[tuple[int, int, int], list[tuple[int, int, float]]] = {}
        for u, v, t, w in events:
            sign = int(w < 0)
            new.setdefault((sign, 0, u), []).append((v, t, abs(w)))
            new.setdefault((sign, 1, v), []).append((u, t, abs(w)))
        for (sign, role, i), halves in new.items():
            self.stores.setdefault((sign, role), {})[i] = halves

    def eval(self) -> None:
        self.write(set(range(N)), set(range(N)))
        self.stores, self.training = {}, False

    def logits(self, batch: EventStream) -> Tensor:
        assert batch.weight is not None
        events = list(zip(*(c.tolist() for c in (batch.src, batch.dst, batch.t, batch.weight)), strict=True))
        friendly, hostile = ({e for u, v, _, w in events if (w < 0) == s for e in (u, v)} for s in (False, True))
        everyone = set(range(N))
        states, clock = self.updated(everyone, everyone) if self.training else (list(self.state), self.clock)
        clock = clock.clone()
        x = torch.cat(states, 1)
        if self.training:
            self.write(friendly, hostile)
        self.store(events)
        if not self.training:
            self.write(friendly, hostile)
        self.seen += events
        u, v, t = (torch.tensor([event[n] for event in self.seen]) for n in range(3))
        w = torch.tensor([abs(event[3]) for event in self.seen])
        code = self.model.time_enc(clock.amax(0)[u] - t)
        z = self.conv(x, torch.stack((u, v)), torch.cat((code, w.unsqueeze(1)), 1))
        out: Tensor = self.model.lin(torch.cat((z[batch.src], z[batch.dst]), 1)).view(-1)
        return out


def batches(stream: EventStream, size: int) -> list[EventStream]:
    return [stream[low : low + size] for low in range(0, len(stream), size)]


@pytest.mark.parametrize(("size", "negatives"), [(1, 0.4), (7, 0.4), (7, 0.0), (7, 1.0), (20, 0.4)])
def test_states_clocks_and_logits_of_every_batch(size: int, negatives: float) -> None:
    model = make()
    slow = Slow(model)
    for batch in batches(make_stream(1, negatives=negatives), size):
        torch.testing.assert_close(model(batch), slow.logits(batch), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(model.memory.transpose(0, 1), slow.state, rtol=1e-5, atol=1e-6)
        assert torch.equal(model.last_update.t(), slow.clock)


def test_rows_of_every_length() -> None:
    model = make()
    slow = Slow(model)
    for batch in batches(make_stream(2, 150, busy=0.7), 50):
        torch.testing.assert_close(model(batch), slow.logits(batch), rtol=1e-5, atol=1e-5)


def test_gradients() -> None:
    model = make()
    slow = Slow(model)
    for batch in batches(make_stream(3), 12):
        found, expected = model(batch), slow.logits(batch)
        weights = [p for name, p in model.named_parameters() if not name.startswith("attention.")]
        g = torch.randn(len(batch))
        ours = torch.autograd.grad((found * g).sum(), weights + list(model.attention.lin_edge.parameters()))
        theirs = torch.autograd.grad((expected * g).sum(), weights + list(slow.conv.lin_edge.parameters()))
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_evaluation_writes_a_batch_at_once() -> None:
    model = make()
    slow = Slow(model)
    parts = batches(make_stream(4), 10)
    for batch in parts[:3]:
        model(batch), slow.logits(batch)
    model.eval(), slow.eval()
    for batch in parts[3:]:
        torch.testing.assert_close(model(batch), slow.logits(batch), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(model.memory.transpose(0, 1), slow.state, rtol=1e-5, atol=1e-6)


def test_a_batch_shows_its_own_weights() -> None:
    """The leak that makes it a model for audits: other weights of a batch, other logits of it."""
    stream = make_stream(5, 10)
    assert stream.weight is not None
    first, second = make()(stream), make()(EventStream(stream.src, stream.dst, stream.t, N, weight=10 * stream.weight))
    assert not torch.equal(first, second)


def test_state_is_saved_reset_and_grown() -> None:
    model, stream = make(), make_stream(6)
    fresh = model(stream[:20]).detach()
    saved = {name: value.clone() for name, value in model.state_dict().items()}
    after = model(stream[20:40]).detach()
    other = make(1)
    other.load_state_dict(saved)
    assert torch.equal(other(stream[20:40]), after)
    model.reset()
    model.grow(N + 5)
    assert torch.equal(model(stream[:20]), fresh)


def test_bad_input() -> None:
    model, stream = make(), make_stream(7)
    with pytest.raises(ArgumentError, match=r"events: expected weights"):
        model(EventStream(stream.src, stream.dst, stream.t, N))
    with pytest.raises(ArgumentError, match=r"events\.t"):
        model(EventStream(stream.src, stream.dst, stream.t.double(), N, weight=stream.weight))
    with pytest.raises(ArgumentError, match="forget"):
        model.forget(torch.tensor([0]))
    with pytest.raises(ArgumentError, match="memory_dim"):
        make(memory_dim=0)
