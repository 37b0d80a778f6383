"""What every temporal model promises: scores know the past only, write nothing, and state can be taken back."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from temporal_cases import Events, ListNeighbors, random_events
from torch import Tensor

from graphmem.data import EventStream
from graphmem.engine.stream_build import build_stream
from graphmem.engine.stream_config import StreamRunConfig
from graphmem.errors import ArgumentError
from graphmem.models import APAN, JODIE, NAT, SEMBA, TGN, TemporalLinkModel
from graphmem.nn import PRES
from graphmem.nn.state import grow_state, reset_state, restore_state, snapshot_state

NODES, MSG, K, SIZE = 14, 3, 3, 7
SIZES = {"time_dim": 4, "num_neighbors": K, "embedding_dim": 6}


def tgn(nodes: int = NODES, **options: object) -> TGN:
    return TGN(nodes, MSG, memory_dim=6, neighbors=ListNeighbors(nodes, K), **SIZES, **options)  # type: ignore[arg-type]


def corrected(make: Callable[..., TemporalLinkModel], nodes: int = NODES, **options: Any) -> TemporalLinkModel:
    model = make(nodes)
    model.correct_by(PRES(nodes, 6, tau=3.0, **options))
    return model


MODELS: dict[str, Callable[..., TemporalLinkModel]] = {
    "tgn": tgn,
    "tgn-query": lambda nodes=NODES: tgn(nodes, delta="query"),
    "tgn-reference": lambda nodes=NODES: tgn(nodes, compat="reference"),
    "tgn-mean": lambda nodes=NODES: tgn(nodes, aggregator_module="mean", mailbox=4, updater="rnn"),
    "jodie": lambda nodes=NODES: JODIE(nodes, MSG, memory_dim=6, time_dim=4, time_scale=3.0),
    "nat": lambda nodes=NODES: NAT(nodes, MSG, memory_dim=6, sizes=(4, 2), time_dim=4),
    "semba": lambda nodes=NODES: SEMBA(nodes, MSG, memory_dim=6, heads=2, **SIZES),
    "semba-memory": lambda nodes=NODES: SEMBA(nodes, MSG, features="memory", memory_dim=6, num_neighbors=0, time_dim=4),
    "semba-history": lambda nodes=NODES: SEMBA(nodes, MSG, features="history"),
    "semba-released": lambda nodes=NODES: SEMBA(nodes, MSG, memory_dim=6, heads=2, compat="released", **SIZES),
    "semba-three": lambda nodes=NODES: SEMBA(nodes, MSG, out_channels=3, memory_dim=6, heads=2, aggr="last", **SIZES),
    "apan": lambda nodes=NODES: APAN(nodes, MSG, mailbox=4, neighbors=ListNeighbors(nodes, K), **SIZES),
    "tgn-sequence": lambda nodes=NODES: tgn(nodes, aggregator_module="sequence", mailbox=2 * SIZE),
    "tgn-transformer": lambda nodes=NODES: tgn(nodes, updater="transformer", mailbox=4),
    "tgn-t-batches": lambda nodes=NODES: tgn(nodes, t_batches=True),
}
for name, options in {
    "tgn": {},
    "tgn-mean": {"gate": "per_dim", "anchors": torch.arange(5, NODES), "backoff": "type_mean"},
    "jodie": {"gate": "kalman", "rate": "per_event"},
    "apan": {"decay": 0.9, "observe": "corrected"},
}.items():
    MODELS[f"{name}-pres"] = partial(corrected, MODELS[name], **options)


@pytest.fixture(params=MODELS)
def build(request: pytest.FixtureRequest) -> Callable[..., TemporalLinkModel]:
    def made(nodes: int = NODES) -> TemporalLinkModel:
        torch.manual_seed(0)
        model = MODELS[request.param](nodes)
        model.prepare(events())
        return model

    return made


def events(seed: int = 1) -> Events:
    return random_events(seed, 6 * SIZE, NODES, MSG, torch.float32)


def candidates(batch: Events, count: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(batch.first)
    return torch.randint(NODES, (len(batch), count), generator=generator)


def bits(model: TemporalLinkModel) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def test_scores_write_nothing_and_know_no_other_question(build: Callable[..., TemporalLinkModel]) -> None:
    model = build().eval()
    for batch in events().batches(SIZE):
        before = bits(model)
        dst = candidates(batch)
        scores = model.score(batch.src, dst, batch.t)
        assert scores.shape == dst.shape
        assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
        alone = [
            model.score(batch.src[r : r + 1], dst[r : r + 1, c : c + 1], batch.t[r : r + 1])
            for r, c in ((0, 2), (4, 0))
        ]
        torch.testing.assert_close(torch.cat(alone).view(-1), scores[[0, 4], [2, 0]], rtol=1e-4, atol=1e-6)
        model.update(batch)
        assert int(model.position) == batch.first + SIZE
        assert not torch.equal(scores, model.score(batch.src, dst, batch.t))  # the update is seen afterwards


def test_nothing_of_a_batch_shows_in_its_scores(build: Callable[..., TemporalLinkModel]) -> None:
    """Other destinations, times of later events and messages: the same scores, bit for bit."""
    scores = []
    for spoiled in (False, True):
        model = build().eval()
        *past, last = events().batches(SIZE)
        for batch in past:
            model.update(batch)
        if spoiled:
            told = events()
            told.msg[last.first :] = 99
            told.dst[last.first :] = 0
            told.weight[last.first :] *= -3
            model.prepare(told)
        scores.append(model.score(last.src, candidates(last), last.t))
    assert torch.equal(*scores)


def test_replay_gives_the_same_bits(build: Callable[..., TemporalLinkModel]) -> None:
    batches = events().batches(SIZE)
    model = build().eval()
    for batch in batches[:3]:
        model.update(batch)

    def replay(other: TemporalLinkModel) -> list[Tensor]:
        scores = []
        for batch in batches[3:]:
            scores.append(other.score(batch.src, candidates(batch), batch.t))
            other.update(batch)
        return scores

    snapshot, saved = snapshot_state(model), bits(model)
    first = replay(model)
    restore_state(model, snapshot)
    assert all(torch.equal(a, b) for a, b in zip(first, replay(model), strict=True))
    resumed = build().eval()
    resumed.load_state_dict(saved)
    assert all(torch.equal(a, b) for a, b in zip(first, replay(resumed), strict=True))
    fresh = bits(build())
    reset_state(model)
    assert all(torch.equal(value, fresh[name]) for name, value in model.state_dict().items())


def test_growth_changes_no_score(build: Callable[..., TemporalLinkModel]) -> None:
    batches = events().batches(SIZE)
    model, larger = build().eval(), build(NODES + 4).eval()
    for k, batch in enumerate(batches):
        if k == 3:
            grow_state(model, NODES + 4)
        dst = candidates(batch)
        assert torch.equal(model.score(batch.src, dst, batch.t), larger.score(batch.src, dst, batch.t))
        model.update(batch)
        larger.update(batch)


def test_training_reaches_every_weight(build: Callable[..., TemporalLinkModel]) -> None:
    model = build()
    for batch in events().batches(SIZE):
        loss = model.score(batch.src, candidates(batch), batch.t).square().sum()
        loss.backward()
        model.update(batch)
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().sum() > 0, name


def test_same_bits_for_every_number_of_threads(build: Callable[..., TemporalLinkModel], restore_threads: None) -> None:
    results = []
    for threads in (1, 2, 4):
        torch.set_num_threads(threads)
        model = build()
        torch.manual_seed(5)
        found = []
        for batch in events().batches(SIZE):
            scores = model.score(batch.src, candidates(batch), batch.t)
            scores.square().sum().backward()
            model.update(batch)
            found.append(scores)
        results.append([*found, *(p.grad for p in model.parameters())])
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_float_times(build: Callable[..., TemporalLinkModel]) -> None:
    model, (batch, *_) = build().eval(), events().batches(SIZE)
    with pytest.raises(ArgumentError, match=r"^t: expected int64"):
        model.score(batch.src, candidates(batch), batch.t.double())


@pytest.mark.parametrize("drift", ["log", "linear"])
def test_drift_of_jodie(drift: str) -> None:
    torch.manual_seed(0)
    model = JODIE(NODES, MSG, memory_dim=6, time_dim=4, time_scale=3.0, drift=drift).eval()
    model.update(events())
    nodes = torch.arange(NODES)
    state, since = model.memory(nodes)
    t = since + 5 * nodes
    age = (t - since).float() / 3
    factor = 1 + model.projection((age.log1p() if drift == "log" else age).unsqueeze(1))
    torch.testing.assert_close(model.embed(nodes, t), state * factor)
    assert model.embed(nodes, since - 9).isfinite().all()  # ages are never negative


def test_unit_of_time_of_jodie() -> None:
    """The median of a node's positive gaps, in either role; of the data: a new epoch keeps it, a file holds it."""
    tensors = [torch.tensor(x) for x in ([0, 1, 0, 2, 0], [1, 2, 3, 3, 1], [1, 1, 5, 9, 90])]
    stream = EventStream(*tensors, num_nodes=NODES)  # gaps: 0: 4, 85; 1: 0, 89; 2: 8; 3: 4
    model = JODIE(NODES, memory_dim=6, time_dim=4).eval()
    assert model.age.time_scale == 86_400
    model.fit_times(stream)
    assert model.age.time_scale == 8
    reset_state(model)
    model.reset_parameters()
    again = JODIE(NODES, memory_dim=6, time_dim=4)
    again.load_state_dict(model.state_dict())
    assert model.half().age.time_scale.dtype == torch.float64
    assert model.age.time_scale == again.age.time_scale == 8
    again.fit_times(stream[:1])
    assert again.age.time_scale == 8  # no gaps, nothing to learn
    fixed = JODIE(NODES, memory_dim=6, time_dim=4, time_scale=3.0)
    fixed.fit_times(stream)
    assert fixed.age.time_scale == 3


def test_runs_take_the_unit_of_time_of_their_training_events() -> None:
    t = torch.cat((torch.arange(0, 700, 5), torch.arange(10_000, 10_060)))  # the first 70 % are five apart
    pair = torch.zeros_like(t), torch.ones_like(t)
    stream = EventStream(*pair, t, num_nodes=3)
    for options, unit in (({}, 5), ({"time_scale": 7.0}, 7)):
        config = StreamRunConfig(model="jodie", data="made.csv", options={"memory_dim": 6, "time_dim": 4, **options})
        assert build_stream(config, 0, stream).model.age.time_scale == unit
        config = StreamRunConfig(model="apan", data="made.csv", options={"embedding_dim": 6, "time_dim": 4, **options})
        assert build_stream(config, 0, stream).model.encoder.age.time_scale == unit


def test_jodie_drifts_and_tgn_of_the_example_does_not() -> None:
    for name, moves in (("jodie", True), ("tgn-query", True), ("apan", True), ("tgn", False)):
        torch.manual_seed(0)
        model = MODELS[name]().eval()
        model.prepare(events())
        for batch in events().batches(SIZE):
            model.update(batch)
        now, later = (model.score(batch.src, candidates(batch), batch.t + step) for step in (0, 40))
        assert torch.equal(now, later) != moves
