"""Static networks of signs, for the table of `signed.py`: PyG's SignedGCN once a snapshot, and a GCN of one graph.

Both see a block of events after they have scored it, as every row there does.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.nn import GCNConv, SignedGCN

from graphmem.data.stream import EventStream
from graphmem.engine.seeding import seed_everything
from graphmem.engine.signed_task import SignedTask

HIDDEN, SNAPSHOT_EPOCHS, EPOCHS, PATIENCE = 64, 100, 200, 20


def blocks(task: SignedTask) -> Iterator[EventStream]:
    """Those of the validation and of the test period."""
    for period in (task.split.valid, task.split.test):
        yield from task._windows(period)


def pairs(events: EventStream) -> Tensor:
    return torch.stack((events.src, events.dst))


def sgcn(task: SignedTask, seed: int) -> Tensor:
    """Log-odds of all events, 0 in training: a SignedGCN trained anew on all links before each block.

    As in PyG's example: 64 features by singular vectors of the signed links, two layers of 64, Adam at 0.01 with a
    weight decay of 5e-4, 100 epochs. A pair that has several events has the sign of the last one.
    """
    seed_everything(seed)
    stream = task.split.stream
    score = torch.zeros(len(stream), dtype=torch.float64)
    for events in blocks(task):
        past = stream[: events.first]
        model = SignedGCN(HIDDEN, HIDDEN, num_layers=2)
        positive, negative = latest(past)
        x = model.create_spectral_features(positive, negative, stream.num_nodes)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=5e-4)
        for _ in range(SNAPSHOT_EPOCHS):
            optimizer.zero_grad()
            model.loss(model(x, positive, negative), positive, negative).backward()
            optimizer.step()
        with torch.no_grad():
            out = model.discriminate(model(x, positive, negative), pairs(events))
        score[events.first : events.first + len(events)] = (out[:, 0] - out[:, 1]).double()
    return score


def latest(events: EventStream) -> tuple[Tensor, Tensor]:
    """Distinct links whose last event is positive, and negative, int64 [2, n] each."""
    assert events.sign is not None
    key = events.src * events.num_nodes + events.dst
    order = key.sort(stable=True)
    last = torch.cat((order.values.diff() != 0, torch.ones(1, dtype=torch.bool)))
    rows = order.indices[last]
    is_positive, ends = events.sign[rows] > 0, pairs(events)[:, rows]
    return ends[:, is_positive], ends[:, ~is_positive]


class StaticGCN(nn.Module):
    """Two GCN layers over learned rows of the nodes, and a perceptron on both ends."""

    def __init__(self, num_nodes: int) -> None:
        super().__init__()
        self.emb = nn.Embedding(num_nodes, HIDDEN)
        self.convs = nn.ModuleList(GCNConv(HIDDEN, HIDDEN) for _ in range(2))
        self.decoder = nn.Sequential(nn.Linear(2 * HIDDEN, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 1))

    def forward(self, links: Tensor, ends: Tensor) -> Tensor:
        """Logits of positive signs of pairs int64 [2, n]."""
        h = self.convs[1](self.convs[0](self.emb.weight, links).relu(), links)
        out: Tensor = self.decoder(torch.cat((h[ends[0]], h[ends[1]]), 1)).squeeze(1)
        return out


def gcn(task: SignedTask, seed: int) -> Tensor:
    """Log-odds of all events by a GCN over the links of the training period, whatever happened later.

    Logistic loss over the training events, Adam at 0.01 with a weight decay of 5e-4; at most 200 epochs, stopped
    after 20 without a better logistic loss on validation, which chooses the epoch.
    """
    seed_everything(seed)
    split = task.split
    stream, train, valid = split.stream, split.train, split.valid
    assert stream.weight is not None
    truth = (stream.weight > 0).float()
    links = pairs(train)
    links = torch.cat((links, links.flip(0)), 1).unique(dim=1)
    model = StaticGCN(stream.num_nodes)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=5e-4)
    seen = slice(len(train))
    held = slice(valid.first, valid.first + len(valid))
    best, score, since = float("inf"), torch.zeros(len(stream)), 0
    for _ in range(EPOCHS):
        model.train()
        optimizer.zero_grad()
        F.binary_cross_entropy_with_logits(model(links, pairs(train)), truth[seen]).backward()
        optimizer.step()
        with torch.no_grad():
            out = model.eval()(links, pairs(stream))
        loss, since = float(F.binary_cross_entropy_with_logits(out[held], truth[held])), since + 1
        if loss < best:
            best, score, since = loss, out, 0
        if since == PATIENCE:
            break
    return score.double()
