"""NAT in training: one operator against the composed model, and what an update keeps of the scores before it."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from strategies import same_bits
from temporal_cases import Events, random_events
from test_nat import MSG, NODES, make, make_float
from torch import Tensor

from graphmem import ops
from graphmem.errors import ArgumentError
from graphmem.models import NAT
from graphmem.nn.state import reset_state, restore_state, snapshot_state

pytestmark = pytest.mark.skipif(not ops.NATIVE, reason="needs the compiled library")

OPTIONS: list[dict[str, Any]] = [
    {},
    {"dropout": 0.3},
    {"pool": "sum", "dropout": 0.3},
    {"time": "absolute"},
    {"sizes": (4,), "heads": 1},
    {"pool": "sum", "time": "absolute", "heads": 3},
    {"value_dtype": "float64", "key_dtype": "int32", "time_dtype": torch.float64},
]


@pytest.fixture
def composed(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs something with the operators of the whole model left out."""

    def run(call: Any) -> Any:
        with monkeypatch.context() as patch:
            patch.setattr("graphmem.models.nat_at_once.NATIVE", False)
            return call()

    return run


def stream_of(model: NAT, follows: bool = False) -> Events:
    stream = random_events(4, 40, NODES, MSG, model.state.dtype)
    stream = replace(stream, t=stream.t.to(model.time_dtype))
    model.follow() if follows else model.prepare(stream)  # type: ignore[arg-type]
    return stream


def candidates(batch: Events) -> Tensor:
    return torch.randint(NODES, (3, len(batch)), generator=torch.Generator().manual_seed(batch.first)).t()


def learn(model: NAT, batch: Events) -> tuple[Tensor, list[Tensor | None]]:
    """Scores, gradients, and then the state moves on."""
    torch.manual_seed(batch.first)
    scores = model.score(batch.src, candidates(batch), batch.t)
    model.zero_grad()
    scores.square().sum().backward()
    model.update(batch)  # type: ignore[arg-type]
    return scores.detach(), [p.grad for p in model.parameters()]


@pytest.mark.parametrize("options", OPTIONS)
def test_scores_and_gradients_are_those_of_the_composed_model(options: dict[str, Any], composed: Any) -> None:
    """From the first batch on, whose nodes have met nobody, and with the same mask of dropout."""
    model = make(**{"value_dtype": "float64", **options})
    other = copy.deepcopy(model)
    stream = stream_of(model)
    stream_of(other)
    for batch in stream.batches(7):
        scores, grads = learn(model, batch)
        expected, wanted = composed(lambda batch=batch: learn(other, batch))
        torch.testing.assert_close(scores, expected, rtol=1e-10, atol=1e-12)
        for one, two in zip(grads, wanted, strict=True):
            zero = torch.zeros_like(two if one is None else one)
            torch.testing.assert_close(zero if one is None else one, zero if two is None else two, rtol=1e-9, atol=1e-9)
    for one, two in zip(model.state_dict().values(), other.state_dict().values(), strict=True):
        torch.testing.assert_close(one, two)


@pytest.mark.parametrize("options", [{}, {"value_dtype": "bfloat16"}, {"pool": "sum", "time": "absolute"}])
@pytest.mark.parametrize("follows", [False, True])
def test_in_single_precision(options: dict[str, Any], follows: bool, composed: Any) -> None:
    model = make_float(dropout=0.2, **options)
    other = copy.deepcopy(model)
    stream = stream_of(model, follows)
    stream_of(other, follows)
    for batch in stream.batches(10):
        (scores, grads), (expected, wanted) = learn(model, batch), composed(lambda batch=batch: learn(other, batch))
        torch.testing.assert_close(scores, expected, rtol=1e-4, atol=1e-5)
        for one, two in zip(grads, wanted, strict=True):
            assert one is not None
            assert two is not None
            torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-4 * (1 + float(two.norm())))


def test_a_step_of_training_is_one_node() -> None:
    model = make_float()
    stream = stream_of(model)
    scores = model.score(stream.src[:5], stream.dst[:5, None], stream.t[:5])
    assert scores.grad_fn is not None
    (before, _), *rest = scores.grad_fn.next_functions
    assert not rest
    assert {type(f).__name__ for f, _ in before.next_functions if f is not None} == {"AccumulateGrad"}


def test_a_question_without_candidates() -> None:
    model = make_float()
    stream = stream_of(model)
    for count, each in ((5, 0), (0, 3), (0, 0)):
        scores = model.score(stream.src[:count], torch.zeros(count, each, dtype=torch.int64), stream.t[:count])
        assert scores.shape == (count, each)
        scores.sum().backward()
        assert all(p.grad is None or not p.grad.any() for p in model.parameters())


def reads(model: NAT, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the composed model reads from now on."""
    seen: list[Any] = []
    plain = model._read
    monkeypatch.setattr(model, "_read", lambda nodes: seen.append(nodes) or plain(nodes))
    return seen


def other_weights(model: NAT) -> None:
    with torch.no_grad():
        model.lin_value.weight.mul_(1.5)


def stepped(model: NAT) -> None:
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    for weight in model.parameters():
        weight.grad = torch.ones_like(weight)
    optimizer.step()


def restored(model: NAT) -> None:
    before = snapshot_state(model)
    reset_state(model)
    restore_state(model, before)


def committed(model: NAT) -> None:
    nodes, cache = torch.tensor([0, 1]), model.cache
    now = cache.value[nodes]
    cache.commit(nodes[:1], nodes[1:], torch.tensor([10**6]), torch.tensor([20]), nodes, torch.tensor([0, 1]), now)


CHANGES: dict[str, Any] = {
    "none": None,
    "weights": other_weights,
    "step": stepped,
    "restore": restored,
    "reset": reset_state,
    "growth": lambda model: model.grow(NODES) or model.cache.grow(NODES + 3),
    "forgetting": lambda model: model.cache.forget(nodes=torch.tensor([3])),
    "commit": committed,
    "other nodes": lambda model: model.score(torch.tensor([0]), torch.tensor([[1]]), torch.tensor([10**6])),
}


@pytest.mark.parametrize("change", CHANGES)
def test_an_update_reads_again_what_has_changed(change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bits are those of an update that has read everything itself."""
    models = [make_float(), make_float()]
    for scored, model in zip((True, False), models, strict=True):
        stream = stream_of(model)
        first, second = stream.batches(20)
        learn(model, first)
        if scored:
            model.score(second.src, second.dst[:, None], second.t).sum().backward()
        if CHANGES[change] is not None:
            CHANGES[change](model)
        seen = reads(model, monkeypatch)
        if change == "growth":
            model.grow(NODES + 3)
        model.update(second)  # type: ignore[arg-type]
        assert len(seen) == (0 if scored and change == "none" else 1)
    for one, two in zip(models[0].state_dict().values(), models[1].state_dict().values(), strict=True):
        assert same_bits(one, two)


def test_what_was_read_is_used_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_float()
    first, second = stream_of(model).batches(20)
    model.score(first.src, first.dst[:, None], first.t)
    assert copy.deepcopy(model)._last_read is None
    model.update(first)  # type: ignore[arg-type]
    assert model._last_read is None
    model.score(second.src, second.dst[:, None], second.t)
    model.eval()
    model.step(second, second.dst[:, None])  # type: ignore[arg-type]
    assert model._last_read is None


def test_bad_questions_with_gradient() -> None:
    model = make_float()
    stream = stream_of(model)
    src, dst, t = stream.src[:4], stream.dst[:4, None], stream.t[:4]
    for bad, message in (
        ((src + NODES, dst, t), "^src and dst: expected ids"),
        ((src - NODES, dst, t), "^src and dst: expected ids"),
        ((src, dst.view(-1), t), "^dst: expected int64 of shape"),
        ((src, dst.view(2, 2), t), "^dst: expected int64 of shape"),
        ((src, dst, t[:2]), "^t: expected int64 of shape"),
        ((src, dst, t.double()), "^t: expected int64"),
        ((src.double(), dst, t), "^src: expected int64"),
        ((src, dst[:2], t[:2]), "^dst: expected int64 of shape"),
    ):
        with pytest.raises(ArgumentError, match=message):
            model.score(*bad)
    columns = stream.dst[:8].view(2, 4).t()
    assert same_bits(model.score(src, columns, t).detach(), model.score(src, columns.contiguous(), t).detach())
