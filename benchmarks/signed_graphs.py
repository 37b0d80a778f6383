"""Static networks of signs, for the table of `signed.py`: PyG's SignedGCN once a snapshot, and a GCN of one graph.

Both see a block of events after they have scored it, as every row there does.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch_geometric.nn import GCNConv, SignedGCN

from graphmem.data.stream import EventStream
from graphmem.engine.checkpoint import plain_copy
from graphmem.engine.seeding import seed_everything
from graphmem.engine.signed_task import SignedTask

HIDDEN, SNAPSHOT_EPOCHS, EPOCHS, PATIENCE = 64, 100, 300, 50


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
    """Two GCN layers over the signed degrees of nodes, and a perceptron on both ends."""

    def __init__(self) -> None:
        super().__init__()
        self.lin = nn.Linear(4, HIDDEN)
        self.convs = nn.ModuleList(GCNConv(HIDDEN, HIDDEN) for _ in range(2))
        self.decoder = nn.Sequential(nn.Linear(6 * HIDDEN, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 1))

    def forward(self, graph: EventStream, ends: Tensor) -> Tensor:
        """Logits of positive signs of pairs int64 [2, n], from the events of a graph."""
        assert graph.sign is not None
        degree = torch.zeros(graph.num_nodes * 4)
        column = (graph.sign > 0).long()
        for owner, first in ((graph.src, 0), (graph.dst, 2)):
            degree.index_add_(0, 4 * owner + first + column, torch.ones(len(graph)))
        links = torch.cat((pairs(graph), pairs(graph).flip(0)), 1).unique(dim=1)
        h = [self.lin(degree.view(-1, 4).log1p()).relu()]
        for conv in self.convs:
            h.append(conv(h[-1], links).relu())
        z = torch.cat(h, 1)
        out: Tensor = self.decoder(torch.cat((z[ends[0]], z[ends[1]]), 1)).squeeze(1)
        return out


def gcn(task: SignedTask, seed: int) -> Tensor:
    """Log-odds of all events, 0 in training: a GCN that is trained once, over all events before each block.

    In each epoch a random fifth of the training events is predicted from the others. Logistic loss, Adam at 0.01; at
    most 300 epochs, stopped after 50 without a better AUC on validation, from the events of the training period, which
    chooses the epoch.
    """
    seed_everything(seed)
    split = task.split
    stream, train, valid = split.stream, split.train, split.valid
    assert stream.weight is not None
    truth = (stream.weight > 0).float()
    model = StaticGCN()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    held = slice(valid.first, valid.first + len(valid))
    best, since, weights = 0.0, 0, plain_copy(model.state_dict())
    for _ in range(EPOCHS):
        optimizer.zero_grad()
        asked = torch.rand(len(train)) < 0.2
        out = model(train.select(~asked), pairs(train)[:, asked])
        F.binary_cross_entropy_with_logits(out, truth[: len(train)][asked]).backward()
        optimizer.step()
        with torch.no_grad():
            auc, since = float(roc_auc_score(truth[held], model(train, pairs(valid)))), since + 1
        if auc > best:
            best, since, weights = auc, 0, plain_copy(model.state_dict())
        if since == PATIENCE:
            break
    model.load_state_dict(weights)
    score = torch.zeros(len(stream), dtype=torch.float64)
    with torch.no_grad():
        for events in blocks(task):
            score[events.first : events.first + len(events)] = model(stream[: events.first], pairs(events)).double()
    return score
