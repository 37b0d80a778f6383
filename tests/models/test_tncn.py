"""TNCN: its common neighbours and scores by loops over events."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from temporal_cases import random_events
from torch import Tensor

from graphmem.errors import ArgumentError
from graphmem.models import TNCN
from graphmem.nn import TemporalNeighbors

NODES, K, WIDTH = 9, 4, 6
SIZES = {"memory_dim": 5, "time_dim": 4, "embedding_dim": WIDTH, "num_neighbors": K, "dropout": 0.0}


def make(hops: str = "1", seed: int = 0, msg_dim: int = 2, **options: object) -> TNCN:
    torch.manual_seed(seed)
    return TNCN(NODES, msg_dim, hops=hops, **SIZES, **options).double()  # type: ignore[arg-type]


def shown(model: TNCN, seed: int = 0, count: int = 40) -> list[list[int]]:
    """Show the model events; the other ends of each node's latest K, by a loop."""
    events = random_events(seed, count, NODES, 2)
    model.prepare(events)  # type: ignore[arg-type]
    latest: list[list[int]] = [[] for _ in range(NODES)]
    for batch in events.batches(7):
        model.update(batch)  # type: ignore[arg-type]
    for i, j in zip(events.src.tolist(), events.dst.tolist(), strict=True):
        latest[i] = [*latest[i], j][-K:]
        latest[j] = [*latest[j], i][-K:]
    return latest


@given(st.integers(0, 50), st.sampled_from(["1", "0-1"]), st.booleans())
def test_scores_by_loops(seed: int, hops: str, training: bool) -> None:
    model = make(hops, seed).train(training)
    latest = shown(model, seed)
    g = torch.Generator().manual_seed(seed)
    src, dst = torch.randint(NODES, (5,), generator=g), torch.randint(NODES, (5, 3), generator=g)
    found = model.score(src, dst, torch.full((5,), 99))
    every = torch.arange(NODES)
    h, (memory, _) = model.embed(every, None), model.memory(every)
    alone = model.attention.lin_skip(memory)

    def times(u: int, w: int) -> int:
        return latest[u].count(w)

    def logit(u: int, v: int) -> Tensor:
        pooled = sum((times(u, w) * times(v, w) * alone[w] for w in range(NODES)), torch.zeros(WIDTH).double())
        parts = [h[u] * h[v], pooled]
        if hops == "0-1":
            parts += [times(v, u) * h[u], times(u, v) * h[v]]
        return model.predictor(torch.cat(parts).unsqueeze(0)).squeeze()

    for n, (u, candidates) in enumerate(zip(src.tolist(), dst.tolist(), strict=True)):
        for c, v in enumerate(candidates):
            torch.testing.assert_close(found[n, c], logit(u, v))


def test_a_score_does_not_depend_on_what_else_is_asked() -> None:
    model = make("0-1").eval()
    shown(model)
    src, dst, t = torch.arange(NODES), torch.arange(NODES).flip(0).unsqueeze(1), torch.full((NODES,), 99)
    together = model.score(src, torch.cat((dst, dst.roll(1, 0)), 1), t)[:, :1]
    alone = torch.cat([model.score(src[n : n + 1], dst[n : n + 1], t[n : n + 1]) for n in range(NODES)])
    torch.testing.assert_close(together, alone)


def test_gradients_and_threads() -> None:
    found = []
    for threads in (1, 2):
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            model = make("0-1")
            shown(model)
            src = torch.arange(NODES).repeat(40)
            model.score(src, src.view(-1, 1).roll(1, 0), torch.full((src.numel(),), 99)).sigmoid().sum().backward()
            found.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
        finally:
            torch.set_num_threads(before)
    assert {"predictor.lin_hidden.weight", "attention.lin_skip.weight", "memory.updater.weight_ih"} <= found[0].keys()
    for name, grad in found[0].items():
        torch.testing.assert_close(grad, found[1][name], rtol=1e-12, atol=1e-12)
        assert bool(grad.any()), name


def test_common_neighbours_before_the_time_of_the_question() -> None:
    """With neighbours that are asked about a time, events at or behind it do not show."""
    src, dst, t = torch.tensor([0, 1, 2, 3]), torch.tensor([8, 8, 7, 7]), torch.tensor([1, 2, 3, 4])
    scores = []
    for known in (2, 4):
        model = make("0-1", msg_dim=0, delta="query", neighbors=TemporalNeighbors(NODES)).eval()
        model.neighbors.insert(src[:known], dst[:known], t[:known])
        scores.append(model.score(torch.tensor([0, 2]), torch.tensor([[1], [3]]), torch.tensor([3, 3])))
    assert torch.equal(*scores)


def test_it_learns_common_neighbours() -> None:
    """Pairs that have met others, not each other: memories do not tell, common neighbours do."""
    g = torch.Generator().manual_seed(0)
    model = TNCN(40, hops="1", **{**SIZES, "num_neighbors": 8})  # type: ignore[arg-type]
    members = torch.arange(16).view(2, 8)  # two crowds, each around a hub of its own
    src = torch.cat((members[0], members[1]))
    dst = torch.where(src < 8, 30, 31)
    order = torch.randperm(16, generator=g)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    losses = []
    for _ in range(60):
        model.reset()
        model.memory.reset_state()
        model.neighbors.reset()
        model.memory.update_state(src[order], dst[order], torch.arange(16))
        model.neighbors.insert(src[order], dst[order], torch.arange(16))
        a, b = torch.randint(8, (2, 64), generator=g)
        same, other = members[0][b], members[1][b]
        out = model.score(members[0][a], torch.stack((same, other), 1), torch.full((64,), 20))
        keep = members[0][a] != same
        loss = (torch.nn.functional.softplus(-out[keep, 0]) + torch.nn.functional.softplus(out[keep, 1])).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 < 1.2 < losses[0]


def test_bad_options() -> None:
    with pytest.raises(ArgumentError, match="hops"):
        TNCN(NODES, hops="2")
