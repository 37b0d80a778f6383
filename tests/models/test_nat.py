"""NAT: scores and states by loops over nodes and keys."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import same_bits
from temporal_cases import Events, random_events
from torch import Tensor
from torch.nn.functional import leaky_relu

from graphmem.errors import ArgumentError
from graphmem.models import NAT
from graphmem.nn.state import grow_state

NODES, MSG, DIM, F = 8, 2, 5, 3
SIZES = (4, 2)


def make(**options: Any) -> NAT:
    return make_float(**options).double()


def make_float(**options: Any) -> NAT:
    torch.manual_seed(0)
    sizes = {"memory_dim": DIM, "value_dim": F, "sizes": SIZES, "position_dim": 3, "pool_dim": 4, "time_dim": 6}
    return NAT(NODES, MSG, **{**sizes, "dropout": 0.0, **options})


def events() -> Events:
    return random_events(3, 24, NODES, MSG)


def code(model: NAT, dt: float) -> Tensor:
    lin = model.time_enc.lin
    return (lin.weight.view(-1) * dt + lin.bias).cos()


def cell(cell: torch.nn.GRUCell, x: Tensor, h: Tensor) -> Tensor:
    return torch.nn.GRUCell.forward(cell, x.unsqueeze(0), h.unsqueeze(0)).squeeze(0)


def node_state(model: NAT, u: int, msg: Tensor) -> Tensor:
    """s'_u."""
    cache = model.cache
    if model.other[u] < 0:
        return model.state[u]
    dt = model.gap[u] if model.time == "delta" else cache.time[u, 0]
    x = torch.cat((model.state[model.other[u]], msg[cache.eid[u, 0]], code(model, float(dt))))
    return cell(model.state_cell, model.lin_state.weight @ x, model.state[u])


def slot_value(model: NAT, u: int, column: int, msg: Tensor) -> Tensor:
    """z'_{u,a} of the key in a slot."""
    cache = model.cache
    if cache.eid[u, column] < 0:
        return cache.value[u, column]
    when = cache.time[u, column]
    dt = cache.time[u, 0] - when if model.time == "delta" else when
    x = torch.cat((model.state[cache.key[u, column]], msg[cache.eid[u, column]], code(model, float(dt))))
    return cell(model.value_cell, model.lin_value.weight @ x, cache.value[u, column])


def slow_score(model: NAT, u: int, v: int, t: int, msg: Tensor) -> Tensor:
    cache, hop_of = model.cache, [0, *[1] * SIZES[0], *[2] * SIZES[1]]
    keys: dict[int, Any] = {}
    for side, node in enumerate((u, v)):
        for column in range(cache.num_slots):
            key = node if column == 0 else int(cache.key[node, column])
            if key < 0:
                continue
            entry = keys.setdefault(key, {"zeta": torch.zeros(F, dtype=torch.double), "mask": 0, "age": [0.0, 0.0]})
            entry["zeta"] = entry["zeta"] + slot_value(model, node, column, msg)
            if not any(entry["mask"] >> (3 * side + hop) & 1 for hop in range(3)):
                met = cache.eid[node, column] >= 0
                entry["age"][side] = math.log1p(t - int(cache.time[node, column])) if met else 0.0
            entry["mask"] |= 1 << (hop_of[column] + 3 * side)
    kept = slice(2 if model.time == "delta" else 0)
    ages = [torch.tensor(e["age"], dtype=torch.double)[kept] for e in keys.values()]
    known = zip(keys.values(), ages, strict=True)
    rows = [torch.cat((e["zeta"], model.position_emb.weight[e["mask"]], age)) for e, age in known]
    h = (torch.stack(rows) @ model.lin_pool.weight.t() + model.lin_pool.bias).view(len(rows), model.heads, -1)
    if model.attn is None:
        pooled = (h.sum(0) - (len(rows) - 1) * model.lin_pool.bias.view(model.heads, -1)).mean(0)
    else:
        weight = leaky_relu((h * model.attn).sum(2), 0.2).softmax(0)
        pooled = (h * weight.unsqueeze(2)).sum(0).flatten()
    parts = [pooled, node_state(model, u, msg), node_state(model, v, msg)]
    if model.time == "delta":
        last = [math.log1p(t - int(cache.time[x, 0])) if cache.eid[x, 0] >= 0 else 0.0 for x in (u, v)]
        parts.append(torch.tensor(last, dtype=torch.double))
    return model.predictor(torch.cat(parts).unsqueeze(0)).squeeze()


@pytest.mark.parametrize("pool", ["attn", "sum"])
@pytest.mark.parametrize("time", ["delta", "absolute"])
@pytest.mark.parametrize("hash", ["mix", "reference"])
def test_scores_by_loops(pool: str, time: str, hash: str) -> None:
    model, stream = make(pool=pool, time=time, hash=hash).eval(), events()
    model.prepare(stream)  # type: ignore[arg-type]
    for batch in stream.batches(6):
        dst = torch.randint(NODES, (len(batch), 3), generator=torch.Generator().manual_seed(batch.first))
        dst[0, 0] = batch.src[0]  # a pair of a node with itself
        scores = model.score(batch.src, dst, batch.t)
        for b in range(len(batch)):
            for c in range(3):
                slow = slow_score(model, int(batch.src[b]), int(dst[b, c]), int(batch.t[b]), stream.msg)
                torch.testing.assert_close(scores[b, c], slow, rtol=1e-9, atol=1e-9)
        model.update(batch)  # type: ignore[arg-type]


def test_states_by_loops() -> None:
    model, stream = make(), events()
    model.prepare(stream)  # type: ignore[arg-type]
    last_time = [0] * NODES
    for batch in stream.batches(5):
        expected = {u: node_state(model, u, stream.msg) for u in {*batch.src.tolist(), *batch.dst.tolist()}}
        before = dict(enumerate(last_time))
        others: dict[int, int] = {}
        for i, j, t in zip(batch.src.tolist(), batch.dst.tolist(), batch.t.tolist(), strict=True):
            others[i], last_time[i] = j, t
            others[j], last_time[j] = i, t
        met = {u: bool(model.cache.eid[u, 0] >= 0) for u in expected}
        model.update(batch)  # type: ignore[arg-type]
        for u, state in expected.items():
            torch.testing.assert_close(model.state[u], state)
            assert int(model.other[u]) == others[u]
            assert int(model.gap[u]) == (last_time[u] - before[u] if met[u] else 0)


@settings(deadline=None, max_examples=20)
@given(
    by=st.sampled_from((-(10**12), -7, 1, 1_700_000_000, 2**52)),
    time_dtype=st.sampled_from((torch.int64, torch.float64)),
    pool=st.sampled_from(("attn", "sum")),
    seed=st.integers(0, 99),
)
def test_scores_do_not_depend_on_the_origin_of_times(by: int, time_dtype: torch.dtype, pool: str, seed: int) -> None:
    """Bit for bit, before the first event of a node and behind it."""
    streams = [random_events(seed, 24, NODES, MSG)] * 2
    streams = [replace(stream, t=(stream.t + k * by).to(time_dtype)) for k, stream in enumerate(streams)]
    models = [make(pool=pool, time_dtype=time_dtype).eval() for _ in streams]
    for model, stream in zip(models, streams, strict=True):
        model.prepare(stream)  # type: ignore[arg-type]
    dst = torch.arange(NODES).expand(5, NODES)
    for pair in zip(*(stream.batches(5) for stream in streams), strict=True):
        scores = []
        for model, batch in zip(models, pair, strict=True):
            scores.append(model.score(batch.src, dst[: len(batch)], batch.t).detach())
            model.update(batch)  # type: ignore[arg-type]
        assert same_bits(*scores)


@pytest.mark.parametrize("named", [False, True])
def test_dtypes_of_the_cache(named: bool) -> None:
    """Keys of 32 bits change nothing; values of 16 bits are those of the cache rounded, at every batch."""
    stream = random_events(5, 60, NODES, MSG, torch.float32)
    options = {"key_dtype": torch.int32, "value_dtype": torch.bfloat16}
    small = make_float(**{k: str(v).removeprefix("torch.") if named else v for k, v in options.items()}).eval()
    assert (small.cache.key.dtype, small.cache.value.dtype) == (torch.int32, torch.bfloat16)
    narrow, whole = make_float(key_dtype="int32").eval(), make_float().eval()
    for model in (small, narrow, whole):
        model.prepare(stream)  # type: ignore[arg-type]
    for batch in stream.batches(10):
        scores = [model.score(batch.src, batch.dst[:, None], batch.t) for model in (small, narrow, whole)]
        assert torch.equal(*scores[1:])
        torch.testing.assert_close(scores[0], scores[2], atol=0.02, rtol=0.02)
        for model in (small, narrow, whole):
            model.update(batch)  # type: ignore[arg-type]
    assert not torch.equal(scores[0], scores[2])


def test_growth_that_keys_cannot_name_changes_nothing() -> None:
    model = make(key_dtype="int32")
    with pytest.raises(ArgumentError, match="^grow: num_nodes must be at most 2147483647"):
        grow_state(model, 2**31)
    assert model.state.size(0) == model.cache.num_nodes == NODES


def test_messages_of_events_that_are_not_known() -> None:
    model, stream = make(), events()
    first, second, *_ = stream.batches(4)
    model.update(first)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="^prepare: expected a call with a stream of at least 4 events"):
        model.score(second.src, second.dst[:, None], second.t)


def test_following_a_stream_keeps_the_messages_that_slots_refer_to() -> None:
    stream = random_events(5, 400, NODES, MSG, torch.float32)
    whole, follower = make().float().eval(), make().float().eval()
    whole.prepare(stream)  # type: ignore[arg-type]
    follower.follow()
    for batch in stream.batches(20):
        scores = [model.score(batch.src, batch.dst[:, None], batch.t) for model in (whole, follower)]
        assert torch.equal(*scores)
        whole.update(batch)  # type: ignore[arg-type]
        follower.update(batch)  # type: ignore[arg-type]
    assert follower.messages is not None
    assert follower.messages.eid.numel() < 300


def test_events_without_messages_change_nothing() -> None:
    model, stream = make().float(), random_events(5, 40, NODES, MSG, torch.float32)
    model.follow()
    first, second = stream.batches(20)
    model.update(first)  # type: ignore[arg-type]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    silent = dataclasses.replace(second, msg=None)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="^events: expected messages of width 2"):
        model.update(silent)  # type: ignore[arg-type]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_forgetting() -> None:
    """A node that is forgotten by model and cache scores as one without events; cached events go without a trace."""
    model, stream = make().eval(), events()
    model.prepare(stream)  # type: ignore[arg-type]
    *past, last = stream.batches(6)
    for batch in past:
        model.update(batch)  # type: ignore[arg-type]
    dst = torch.arange(NODES).expand(len(last), -1)
    before = model.score(last.src, dst, last.t)
    node = last.src[:1]
    model.forget(nodes=node)
    model.cache.forget(nodes=node, events=model.cache.eid[last.src[1], :1])
    after = model.score(last.src, dst, last.t)
    assert torch.isfinite(after).all()
    assert not torch.equal(before, after)
    assert not (model.cache.key == node).any()
    assert model.other[node] == -1
    with pytest.raises(ArgumentError, match="^forget: NAT does not record"):
        model.forget(events=torch.tensor([1]))


@pytest.mark.parametrize(
    ("name", "value"),
    [("pool", "max"), ("time", "unix"), ("sizes", (0,)), ("heads", 0), ("key_dtype", "int8"), ("value_dtype", "int32")],
)
def test_bad_options(name: str, value: Any) -> None:
    with pytest.raises(ArgumentError, match=f"^{name}"):
        make(**{name: value})
