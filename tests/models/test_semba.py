"""SEMBA: what is its own beside what every temporal model promises."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from temporal_cases import Events, random_events
from torch import Tensor

from graphmem.errors import ArgumentError, ArgumentTypeError
from graphmem.models import SEMBA, Reputation
from graphmem.models.semba_released import ReleasedSEMBA

NODES, MSG = 9, 2


def make(msg_dim: int = MSG, **options: Any) -> SEMBA:
    torch.manual_seed(0)
    sizes = {"memory_dim": 4, "time_dim": 4, "embedding_dim": 6, "heads": 2, "num_neighbors": 3, "hidden_channels": 5}
    return SEMBA(NODES, msg_dim, **{**sizes, **options})


def events(seed: int = 0, count: int = 40) -> Events:
    return random_events(seed, count, NODES, MSG, torch.float32)


def attention(model: SEMBA, past: list[tuple[int, ...]], weight: Tensor, msg: Tensor, i: int) -> Tensor:
    """PyG's TransformerConv on the latest events of one node, by a loop over heads and events."""
    att, memory = model.attention, model.memory
    assert att is not None
    assert memory is not None
    state, clock = memory(torch.arange(NODES))
    rows = []
    for e, (u, v, t) in reversed(list(enumerate(past))):
        for owner, other, way in ((v, u, -1.0), (u, v, 1.0)):  # newest first
            if owner == i and len(rows) < model.neighbors.size:  # type: ignore[union-attr]
                edge = [way, math.log1p(abs(float(weight[e]))), *msg[e].tolist(), math.copysign(1, float(weight[e]))]
                age = math.log1p(int(clock[other].max()) - t)
                code = memory.time_enc(torch.tensor([age], dtype=torch.float64))[0]
                rows.append((state[other], torch.cat((code, torch.tensor(edge)))))
    out = att.lin_skip(state[i : i + 1])[0]
    if not rows:
        return out
    query = att.lin_query(state[i : i + 1])[0].chunk(att.heads)
    keys = [(att.lin_key(s.unsqueeze(0)) + att.lin_edge(f.unsqueeze(0)))[0].chunk(att.heads) for s, f in rows]
    values = [(att.lin_value(s.unsqueeze(0)) + att.lin_edge(f.unsqueeze(0)))[0].chunk(att.heads) for s, f in rows]
    heads = []
    for h in range(att.heads):
        width = query[h].numel()
        alpha = torch.stack([query[h] @ key[h] / math.sqrt(width) for key in keys]).softmax(0)
        heads.append(sum(a * value[h] for a, value in zip(alpha, values, strict=True)))
    return out + torch.cat(heads)  # type: ignore[arg-type]


def test_scores_are_those_of_the_equations() -> None:
    model, stream = make().eval(), events()
    for batch in stream.batches(10)[:3]:
        model.update(batch)
    assert stream.weight is not None
    past = list(zip(*(x[:30].tolist() for x in (stream.src, stream.dst, stream.t)), strict=True))
    z = torch.stack([attention(model, past, stream.weight, stream.msg, i) for i in range(NODES)])
    torch.testing.assert_close(model.embed(torch.arange(NODES)), z, rtol=1e-4, atol=1e-5)
    decoder, history = model.decoder, model.history
    assert history is not None
    assert decoder.lin_hidden is not None
    assert decoder.lin_history is not None
    src, dst = torch.arange(NODES), torch.arange(NODES).roll(2)
    f = history(src, dst)
    f = torch.cat(((f[:, :4] - math.log(9)) / 2, f[:, 4:12] / 2, f[:, 12:14], f[:, 14:] / 2), 1)
    x = torch.cat((z[src], z[dst], (z[src] - z[dst]).abs(), z[src] * z[dst], f), 1)
    wanted = decoder.lin_final(decoder.lin_hidden(x).relu()) + decoder.lin_history(f)
    found = model.score(src, dst.unsqueeze(1), torch.full_like(src, 99))
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("features", ["memory", "history", "both"])
def test_double_precision(features: str) -> None:
    single = make(features=features).eval()
    double = copy.deepcopy(single).double()
    for batch in events().batches(10):
        one, other = (model.score(batch.src, batch.dst.unsqueeze(1), batch.t) for model in (single, double))
        assert other.dtype == torch.float64
        torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=1e-5)
        other.sum().backward()
        single.update(batch)
        double.update(dataclasses.replace(batch, msg=batch.msg.double()) if batch.first == 20 else batch)
    with pytest.raises(ArgumentError, match=r"^events.msg: expected float32 of"):
        make().update(dataclasses.replace(events(), msg=events().msg.double()))


def test_three_classes_score_a_link_of_either_sign() -> None:
    model, (batch, *_) = make(out_channels=3).eval(), events().batches(10)
    model.update(batch)
    dst = torch.stack((batch.dst, batch.src), 1)
    out, score = model.outputs(batch.src, dst, batch.t), model.score(batch.src, dst, batch.t)
    assert out.shape == (10, 2, 3)
    p = out.softmax(2)
    torch.testing.assert_close(score.sigmoid(), p[..., 0] + p[..., 1])


def test_attention_is_blind_to_signs_where_asked() -> None:
    """With one sign flipped in the past and memories as they were, only what reads signs of edges changes."""
    stream = events()
    for sees in (True, False):
        found = []
        for flip in (1, -1):
            model = make(features="memory", sign_in_edge=sees).eval()
            assert model.memory is not None
            part = Events(stream.src, stream.dst, stream.t, stream.msg, weight=stream.weight * flip)  # type: ignore[operator]
            model.update(part)
            model.memory.reset()
            found.append(model.embed(torch.arange(NODES)))
        assert torch.equal(*found) != sees


def planted(seed: int, count: int = 600) -> Events:
    """Every other node is trusted, the others are not."""
    g = torch.Generator().manual_seed(seed)
    src, dst = torch.randint(NODES, (2, count), generator=g)
    weight = 1.0 - 2.0 * (dst % 2)
    return Events(src, dst, torch.arange(1, count + 1), torch.zeros(count, MSG), weight=weight)


@pytest.mark.parametrize("features", ["memory", "history", "both"])
def test_learns_whom_to_trust(features: str) -> None:
    options: dict[str, Any] = {"memory_dim": 8, "embedding_dim": 8} if features != "history" else {}
    model = make(features=features, dropout=0.0, hidden_channels=16, **options)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    loss, hits = [], []
    for batch in planted(0).batches(10):
        assert batch.weight is not None
        score = model.score(batch.src, batch.dst.unsqueeze(1), batch.t).squeeze(1)
        one = F.softplus(-score * batch.weight).mean()
        optimizer.zero_grad()
        one.backward()
        optimizer.step()
        model.update(batch)
        loss.append(one.item())
        hits.append(((score > 0) == (batch.weight > 0)).float().mean())
    assert sum(loss[-15:]) < 0.7 * sum(loss[:15])
    assert sum(hits[-15:]) / 15 > 0.8


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"features": "all"}, "features"),
        ({"features": "history", "clock": "node"}, "features: 'history' keeps no memory"),
        ({"out_channels": 2}, "out_channels"),
        ({"decoder": "deep"}, "kind"),
        ({"heads": 4}, "out_channels: expected a multiple of heads"),
        ({"compat": "reference"}, "compat"),
    ],
)
def test_bad_options(options: dict[str, Any], named: str) -> None:
    with pytest.raises(ArgumentError, match=f"^{named}"):
        make(**options)


@pytest.mark.parametrize("features", ["memory", "history", "both"])
@pytest.mark.parametrize("spoil", ["no signs", "neutral", "ids", "msg", "time"])
def test_events_that_do_not_fit_change_nothing(features: str, spoil: str) -> None:
    first, second, *_ = events().batches(10)
    assert second.weight is not None
    changed: dict[str, Any] = {
        "no signs": {"weight": None},
        "neutral": {"weight": second.weight * (torch.arange(10) != 3)},
        "ids": {"dst": second.dst + NODES},
        "msg": {"msg": second.msg[:, :1]},
        "time": {"t": second.t - 1000},
    }[spoil]
    for model in (make(features=features), Reputation(NODES)):
        reads = {"no signs", "neutral", "ids"} | ({"msg"} if features != "history" else set())
        reads |= {"time"} if features != "history" else set()
        if isinstance(model, Reputation):
            reads = {"no signs", "neutral", "ids"}
        if spoil not in reads:
            continue
        model.update(first)
        before = {name: value.clone() for name, value in model.state_dict().items()}
        with pytest.raises((ArgumentError, ArgumentTypeError)):
            model.update(dataclasses.replace(second, **changed))
        assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize("make_model", [make, lambda: Reputation(NODES), lambda: ReleasedSEMBA(NODES)])
@pytest.mark.parametrize("weights", [[0.0, 5.0], [0.0, 0.0], [1.0, 0.0]])
def test_a_weight_of_0_has_no_sign(make_model: Callable[[], Any], weights: list[float]) -> None:
    """0 and 1 are no coding of signs in a column of weights."""
    model = make_model()
    ends = torch.tensor([0, 1]), torch.tensor([1, 2])
    part = Events(*ends, torch.tensor([3, 4]), torch.zeros(2, MSG), first=40, weight=torch.tensor(weights))
    take = "forward" if isinstance(model, ReleasedSEMBA) else "update"
    first = 40 + weights.index(0.0)
    with pytest.raises(ArgumentError, match=rf"^events: expected weights other than 0.* event {first};.*drop_neutral"):
        getattr(model, take)(part)


@pytest.mark.parametrize("ends", ["both", "target"])
def test_reputation_is_counted(ends: str) -> None:
    model, stream = Reputation(NODES, ends=ends), events()
    assert stream.sign is not None
    model.update(stream)
    to, of = (
        Counter(zip(stream.dst.tolist(), stream.sign.tolist(), strict=True)),
        Counter(zip(stream.src.tolist(), stream.sign.tolist(), strict=True)),
    )
    u, v = torch.arange(NODES), torch.arange(NODES).flip(0)
    found = model.score(u, v.unsqueeze(1), u)[:, 0]
    for one, other, value in zip(u.tolist(), v.tolist(), found.tolist(), strict=True):
        wanted = math.log((to[other, 1] + 1.8) / (to[other, -1] + 0.2))
        if ends == "both":
            wanted += math.log((of[one, 1] + 1.8) / (of[one, -1] + 0.2))
        assert value == pytest.approx(wanted)
