"""TGN: PyG's example, computed with PyG's parts, as the oracle; visibility; state."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from temporal_cases import Events, ListNeighbors, random_events
from torch import Tensor, nn
from torch_geometric.nn import TransformerConv
from torch_geometric.nn.models import tgn as pyg

from graphmem.errors import ArgumentError
from graphmem.models import TGN
from graphmem.nn.state import reset_state, restore_state, snapshot_state

NODES, MSG, DIM, K, SIZE = 14, 3, 6, 3, 7


def build(msg_dim: int = MSG, seed: int = 0, **options: Any) -> TGN:
    torch.manual_seed(seed)
    sizes = {"memory_dim": DIM, "time_dim": 4, "embedding_dim": DIM, "num_neighbors": K}
    return TGN(NODES, msg_dim, **sizes, neighbors=ListNeighbors(NODES, K), **options).double()


def candidates(events: Events, count: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(events.first)
    negative = torch.randint(NODES, (len(events), count - 1), generator=generator)
    return torch.cat((events.dst.unsqueeze(1), negative), 1)


class PyGExample(nn.Module):
    """The model of PyG's ``examples/tgn.py``, with the weights of ours."""

    def __init__(self, ours: TGN, events: Events) -> None:
        super().__init__()
        message = pyg.IdentityMessage(MSG, DIM, 4)
        self.memory = pyg.TGNMemory(NODES, MSG, DIM, 4, message, pyg.LastAggregator()).double()
        self.memory.reset_state()
        self.gnn = TransformerConv(DIM, DIM // 2, heads=2, edge_dim=MSG + 4).double()
        self.loader = pyg.LastNeighborLoader(NODES, K)
        self.head = copy.deepcopy(ours.predictor)
        self.events = events
        weights = {name.replace("updater.", "gru."): p for name, p in ours.memory.state_dict().items()}
        self.memory.load_state_dict(weights, strict=False)
        self.gnn.load_state_dict(ours.attention.state_dict(), strict=False)

    def forward(self, src: Tensor, dst: Tensor) -> Tensor:
        n_id, edge_index, e_id = self.loader(torch.cat((src, dst.flatten())).unique())
        z, last_update = self.memory(n_id)
        code = self.memory.time_enc((last_update[edge_index[0]] - self.events.t[e_id]).to(z.dtype))
        z = self.gnn(z, edge_index, torch.cat((code, self.events.msg[e_id]), -1))
        place = torch.full((NODES,), -1)
        place[n_id] = torch.arange(n_id.numel())
        hidden = self.head.lin_src(z[place[src]]).unsqueeze(1) + self.head.lin_dst(z[place[dst]])
        return self.head.lin_final(hidden.relu()).squeeze(-1)

    def update(self, events: Events) -> None:
        self.memory.update_state(events.src, events.dst, events.t, events.msg)
        self.loader.insert(events.src, events.dst)
        self.memory.detach()


def test_is_pygs_example(monkeypatch: pytest.MonkeyPatch) -> None:
    original = pyg.scatter_argmax

    def scatter_argmax(src: Tensor, index: Tensor, dim: int, dim_size: int) -> Tensor:
        """As torch-scatter: nodes without mail have no last message (see test_node_memory_pyg.py)."""
        has = torch.zeros(dim_size, dtype=torch.bool)
        has[index] = True
        return torch.where(has, original(src, index, dim, dim_size), src.numel())

    monkeypatch.setattr(pyg, "scatter_argmax", scatter_argmax)
    # Bipartite: of a node's more than K events in a batch PyG keeps its last ones as a source.
    events = random_events(0, 10 * SIZE, NODES, MSG, bipartite=True)
    ours = build(compat="reference", dropout=0.0)
    ours.prepare(events)
    theirs = PyGExample(ours, events)
    for k, batch in enumerate(events.batches(SIZE)):
        ours.train(k < 6)
        theirs.train(k < 6)
        dst = candidates(batch)
        got, want = ours.score(batch.src, dst, batch.t), theirs(batch.src, dst)
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)
        if ours.training:
            names = ["memory.updater.weight_ih", "memory.time_enc.lin.weight", "attention.lin_edge.weight"]
            mine = dict(ours.named_parameters())
            other = {name.replace("attention.", "gnn.").replace("updater.", "gru."): name for name in names}
            parameters = dict(theirs.named_parameters())
            for a, b in zip(
                torch.autograd.grad(got.square().sum(), [mine[name] for name in other.values()]),
                torch.autograd.grad(want.square().sum(), [parameters[name] for name in other]),
                strict=True,
            ):
                torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-8)
        ours.update(batch)
        theirs.update(batch)


@pytest.mark.parametrize("delta", ["edge", "query"])
def test_a_score_knows_nothing_of_its_batch_and_writes_nothing(delta: str) -> None:
    events = random_events(1, 5 * SIZE, NODES, MSG)
    model = build(delta=delta).eval()
    model.prepare(events)
    for batch in events.batches(SIZE):
        before = {name: value.clone() for name, value in model.state_dict().items()}
        scores = model.score(batch.src, candidates(batch), batch.t)
        after = model.state_dict()
        assert all(torch.equal(before[name], after[name]) for name in before)
        # One candidate alone, of one event alone, is the same.
        for row in (0, SIZE - 1):
            alone = model.score(batch.src[row : row + 1], candidates(batch)[row : row + 1, 1:], batch.t[row : row + 1])
            torch.testing.assert_close(alone, scores[row : row + 1, 1:])
        model.update(batch)
        assert int(model.position) == batch.first + SIZE


def test_only_the_query_form_sees_the_time_of_the_question() -> None:
    events = random_events(2, 4 * SIZE, NODES, MSG)
    for delta in ("edge", "query"):
        model = build(delta=delta).eval()
        model.prepare(events)
        for batch in events.batches(SIZE):
            model.update(batch)
        now, later = (model.score(batch.src, candidates(batch), batch.t + step) for step in (0, 50))
        assert torch.equal(now, later) == (delta == "edge")


def test_replay_from_a_snapshot_gives_the_same_bits() -> None:
    events = random_events(3, 6 * SIZE, NODES, MSG)
    model = build()
    model.prepare(events)
    batches = events.batches(SIZE)
    for batch in batches[:3]:
        model.update(batch)

    def replay() -> list[Tensor]:
        scores = []
        for batch in batches[3:]:
            scores.append(model.eval().score(batch.src, candidates(batch), batch.t))
            model.update(batch)
        return scores

    snapshot = snapshot_state(model)
    first = replay()
    restore_state(model, snapshot)
    assert all(torch.equal(a, b) for a, b in zip(first, replay(), strict=True))
    reset_state(model)
    assert int(model.position) == 0


def test_learns_who_meets_whom() -> None:
    """Each source meets one destination, and their messages say who it is."""
    generator = torch.Generator().manual_seed(4)
    src = torch.randint(5, (2000,), generator=generator)
    events = Events(src, src + 5, torch.arange(2000), torch.eye(5, dtype=torch.float64)[src])
    model = build(msg_dim=5)
    model.prepare(events)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    right = []
    for batch in events.batches(20):
        wrong = 5 + (batch.src + torch.randint(1, 5, (20,), generator=generator)) % 5
        logits = model.score(batch.src, torch.stack((batch.dst, wrong), 1), batch.t)
        loss = nn.functional.softplus(logits[:, 1] - logits[:, 0]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        model.update(batch)
        right.append(float((logits[:, 0] > logits[:, 1]).double().mean()))
    assert sum(right[:2]) / 2 < 0.8
    assert sum(right[-10:]) / 10 > 0.95


def test_bad_input_is_named() -> None:
    model, (batch,) = build(), random_events(5, SIZE, NODES, MSG).batches(SIZE)
    with pytest.raises(ArgumentError, match=r"^prepare"):
        model.score(batch.src, candidates(batch), batch.t)
    with pytest.raises(ArgumentError, match=r"^dst"):
        model.score(batch.src, batch.dst, batch.t)
    with pytest.raises(ArgumentError, match=r"^t:"):
        model.score(batch.src, candidates(batch), batch.t.double())
    with pytest.raises(ArgumentError, match=r"^src and dst: expected ids in \[0, 14\)"):
        model.score(batch.src + NODES, candidates(batch), batch.t)
    with pytest.raises(ArgumentError, match=r"^delta"):
        build(delta="node")
