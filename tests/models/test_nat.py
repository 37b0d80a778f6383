"""NAT: scores and states by loops over nodes and keys."""

from __future__ import annotations

import copy
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

from graphmem.errors import ArgumentError, GraphMemError
from graphmem.models import NAT
from graphmem.nn.state import grow_state, reset_state, restore_state, snapshot_state

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
        if model.compat == "clean":
            return model.state[u]
        x = torch.cat((torch.zeros(DIM + MSG, dtype=torch.double), code(model, 0.0)))
        return cell(model.state_cell, model.lin_state.weight @ x, torch.zeros(DIM, dtype=torch.double))
    dt = model.gap[u] if model.time == "delta" else cache.time[u, 0]
    x = torch.cat((model.state[model.other[u]], msg[cache.eid[u, 0]], code(model, float(dt))))
    return cell(model.state_cell, model.lin_state.weight @ x, model.state[u])


def slot_value(model: NAT, u: int, column: int, msg: Tensor) -> Tensor:
    """z'_{u,a} of the key in a slot."""
    cache = model.cache
    if cache.eid[u, column] < 0 or (not model.refresh_hop2 and column > SIZES[0]):
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
            features = torch.zeros(0).double() if model.features is None else model.features.x[key]
            value = torch.cat((features, slot_value(model, node, column, msg)))
            entry = keys.setdefault(key, {"zeta": torch.zeros_like(value), "mask": 0, "age": [0.0, 0.0]})
            entry["zeta"] = entry["zeta"] + value
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


MODES: list[dict[str, Any]] = [
    *({"pool": pool, "time": time} for pool in ("attn", "sum") for time in ("delta", "absolute")),
    {"refresh_hop2": False},
]


@pytest.mark.parametrize("options", [*MODES, {"compat": "reference"}, {"compat": "reference", "time": "delta"}])
@pytest.mark.parametrize("hash", ["mix", "reference"])
@pytest.mark.parametrize("width", [0, 2])
def test_scores_by_loops(options: dict[str, Any], hash: str, width: int) -> None:
    node_feat = torch.randn(NODES, width, generator=torch.Generator().manual_seed(1)) if width else None
    model, stream = make(**options, hash=hash, node_feat=node_feat).eval(), events()
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


@pytest.mark.parametrize("compat", ["clean", "reference"])
def test_states_by_loops(compat: str) -> None:
    """Reading writes nothing, not even the reference mode's state of a node without events."""
    model, stream = make(compat=compat), events()
    model.prepare(stream)  # type: ignore[arg-type]
    last_time = [0] * NODES
    for batch in stream.batches(5):
        expected = {u: node_state(model, u, stream.msg) for u in {*batch.src.tolist(), *batch.dst.tolist()}}
        before = dict(enumerate(last_time))
        everything = {name: value.clone() for name, value in model.state_dict().items()}
        model.score(batch.src, batch.dst[:, None], batch.t)
        assert all(same_bits(value, everything[name]) for name, value in model.state_dict().items())
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


def test_the_released_model() -> None:
    """Widths of the released code, counted on it, with node and edge features of width 1 as its data of SNAP have."""
    model = NAT(NODES, 1, compat="reference", node_feat=torch.zeros(NODES, 1))
    assert (model.pool, model.time, model.cache.layout.hash) == ("sum", "absolute", "reference")
    theirs = {"embedding": 64 * 16, "time": 2, "GAT": 2 * 21 + 1, "decoder": 145 * 145 + 145 + 145 + 1}
    theirs |= {"states": 74 * 72 + 3 * (72 * 72 * 2 + 72 * 2), "values": 74 * 4 + 3 * (4 * 4 * 2 + 4 * 2)}
    one_bias_more = 1  # of the second head
    assert sum(p.numel() for p in model.parameters()) == sum(theirs.values()) + one_bias_more
    assert NAT(NODES, compat="reference", node_feat=torch.zeros(NODES, 7)).lin_pool.weight.shape == (14, 27)
    with pytest.raises(ArgumentError, match="^pool: expected 'sum' with compat='reference'"):
        make(compat="reference", pool="attn")
    with pytest.raises(ArgumentError, match="^compat: expected one of 'clean', 'reference'"):
        make(compat="released")


def test_dropout_of_the_released_model() -> None:
    """Key by key: without any it is the pooling of evaluation, and with it the mean over many draws is."""
    model, stream = make(compat="reference", dropout=0.4, hash="mix", heads=1), events()
    model.prepare(stream)  # type: ignore[arg-type]
    batch, last = stream.batches(18)
    model.update(batch)  # type: ignore[arg-type]
    seen: list[Tensor] = []
    model.predictor.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach()))

    def pooled(p: float, training: bool) -> Tensor:
        model.dropout = p
        model.train(training).score(last.src, last.dst[:, None], last.t)
        return seen.pop()[:, :4]

    wanted = pooled(0.4, False)
    torch.testing.assert_close(pooled(0.0, True), wanted)
    torch.testing.assert_close(pooled(1e-12, True), wanted)
    draws = torch.stack([pooled(0.4, True) for _ in range(3000)])
    error = draws.std(0) / 3000**0.5
    assert float(((draws.mean(0) - wanted).abs() / error).max()) < 5
    # A sum over several keys: hardly ever a multiple of the undisturbed one, as dropout of the pooled is.
    assert float((draws == 0).double().mean()) < 0.2


def test_gradients_of_the_released_model_in_training_are_those_of_its_loops() -> None:
    model, stream = make(compat="reference", dropout=1e-12, node_feat=torch.ones(NODES, 2)), events()
    plain = make(compat="reference", dropout=0.0, node_feat=torch.ones(NODES, 2))
    batch, last = stream.batches(18)
    found = []
    for one in (model, plain):
        one.prepare(stream)  # type: ignore[arg-type]
        one.update(batch)  # type: ignore[arg-type]
        one.score(last.src, last.dst[:, None], last.t).sum().backward()
        found.append([p.grad for p in one.parameters()])
    for pair in zip(*found, strict=True):
        torch.testing.assert_close(*pair)


def test_node_features() -> None:
    """They survive a reset, are saved, grow with the model, and those of a node that is forgotten are gone."""
    x = torch.randn(NODES, 3)
    model, stream = make_float(node_feat=x).eval(), random_events(5, 40, NODES, MSG, torch.float32)
    model.prepare(stream)  # type: ignore[arg-type]
    batch, last = stream.batches(20)
    model.update(batch)  # type: ignore[arg-type]
    scores = model.score(last.src, last.dst[:, None], last.t)
    before = snapshot_state(model)
    reset_state(model)
    restore_state(model, before)
    assert torch.equal(scores, model.score(last.src, last.dst[:, None], last.t))
    other = make_float(node_feat=torch.zeros(NODES, 3)).eval()
    other.load_state_dict(model.state_dict())
    other.prepare(stream)  # type: ignore[arg-type]
    assert torch.equal(scores, other.score(last.src, last.dst[:, None], last.t))
    grow_state(model, NODES + 2)
    assert torch.equal(scores, model.score(last.src, last.dst[:, None], last.t))
    assert model.features is not None
    assert torch.equal(model.features.x[:NODES], x)
    assert torch.isfinite(model.score(torch.tensor([NODES]), torch.tensor([[NODES + 1]]), last.t[:1])).all()
    model.features.forget(nodes=torch.tensor([2]))
    assert not model.features.x[2].any()


@pytest.mark.parametrize(
    "given", [torch.zeros(NODES), torch.zeros(NODES - 1, 2), torch.zeros(NODES, 0), torch.zeros(NODES, 2).long(), [1.0]]
)
def test_node_features_that_do_not_fit(given: Any) -> None:
    with pytest.raises(GraphMemError, match="^node_feat"):
        make(node_feat=given)


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


def pair_of_models(monkeypatch: pytest.MonkeyPatch, **options: Any) -> tuple[NAT, Any]:
    """A model, and how to run something with its operators composed."""
    model = make(**options).eval()

    def composed(run: Any) -> Any:
        with monkeypatch.context() as patch, torch.no_grad():
            patch.setattr("graphmem.models.nat_at_once.NATIVE", False)
            return run()

    return model, composed


@pytest.mark.parametrize("options", [{}, {"pool": "sum"}, {"time": "absolute"}, {"sizes": (4,)}, {"heads": 1}])
@pytest.mark.parametrize("follows", [False, True])
def test_at_once_and_composed(options: dict[str, Any], follows: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = random_events(4, 40, NODES, MSG, torch.float32)
    model, composed = pair_of_models(monkeypatch, **options)
    model = model.float()
    model.follow() if follows else model.prepare(stream)  # type: ignore[arg-type]
    other = copy.deepcopy(model)
    for batch in stream.batches(7):
        dst = torch.randint(NODES, (3, len(batch)), generator=torch.Generator().manual_seed(batch.first)).t()
        expected = composed(lambda batch=batch, dst=dst: other.score(batch.src, dst, batch.t))
        with torch.no_grad():
            scores = model.score(batch.src, dst, batch.t)
        torch.testing.assert_close(scores, expected, rtol=1e-5, atol=1e-6)
        assert same_bits(model.step(batch, dst), scores)  # type: ignore[arg-type]
        composed(lambda batch=batch: other.update(batch))
        for (name, one), two in zip(model.state_dict().items(), other.state_dict().values(), strict=True):
            torch.testing.assert_close(
                one, two, msg=name, **({} if one.is_floating_point() else {"rtol": 0, "atol": 0})
            )


def changed_weights() -> dict[str, Any]:
    def step(model: NAT, **options: Any) -> None:
        optimizer = torch.optim.Adam(model.parameters(), lr=0.1, **options)
        for weight in model.parameters():
            weight.grad = torch.ones_like(weight)
        optimizer.step()

    def replace_parameter(model: NAT) -> None:
        model.lin_pool.weight = torch.nn.Parameter(model.lin_pool.weight.detach() + 1)

    def replace_module(model: NAT) -> None:
        model.value_cell = type(model.value_cell)(F, F).double()

    def write(model: NAT) -> None:
        with torch.no_grad():
            model.predictor.lin_final.weight.mul_(2)

    def load(model: NAT) -> None:
        weights = {name: value + 1 for name, value in model.state_dict().items() if "weight" in name}
        model.load_state_dict(weights, strict=False)

    def move(model: NAT) -> None:
        model.predictor.lin_final.weight.data = model.predictor.lin_final.weight.data * 2

    return {
        "fused optimizer": lambda model: step(model, fused=True),
        "optimizer": lambda model: step(model, foreach=True),
        "parameter": replace_parameter,
        "module": replace_module,
        "in place": write,
        "data": move,
        "state_dict": load,
    }


@pytest.mark.parametrize("change", changed_weights().values(), ids=changed_weights())
def test_changed_weights_are_noticed(change: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = events()
    model, composed = pair_of_models(monkeypatch)
    model.prepare(stream)  # type: ignore[arg-type]
    first, second = stream.batches(12)
    model.update(first)  # type: ignore[arg-type]
    ask = second.src, second.dst[:, None], second.t
    with torch.no_grad():
        before = model.score(*ask)
        change(model)
        after = model.score(*ask)
    assert not torch.allclose(before, after)
    torch.testing.assert_close(after, composed(lambda: model.score(*ask)))


def test_bad_questions_without_gradient() -> None:
    model, stream = make().float().eval(), random_events(3, 24, NODES, MSG, torch.float32)
    model.prepare(stream)  # type: ignore[arg-type]
    src, dst, t = stream.src[:2], stream.dst[:2, None], stream.t[:2]
    with torch.no_grad():
        for bad, message in (
            ((src + NODES, dst, t), "^src and dst: expected ids"),
            ((src, dst.view(-1), t), "^dst: expected int64 of shape"),
            ((src, dst, t.double()), "^t: expected int64"),
        ):
            with pytest.raises(ArgumentError, match=message):
                model.score(*bad)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="^src and dst: expected ids"):
        model.step(next(iter(stream.batches(2))), dst + NODES)  # type: ignore[arg-type]
    assert int(model.position) == 0
    assert not bool((model.cache.eid >= 0).any())
