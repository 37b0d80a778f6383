"""SignedTask: its order, its losses, its threshold and its numbers."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from test_event_task import NODES, StopAt, make_stream
from torch import Tensor, nn

from graphmem.data.registry import load_stream
from graphmem.data.stream import EventStream
from graphmem.data.stream_splits import split_stream
from graphmem.engine import Trainer
from graphmem.engine.conformance import check_task
from graphmem.engine.evaluation import evaluate, evaluating
from graphmem.engine.signed_metrics import best_threshold, class_metrics, sign_metrics, weight_metrics
from graphmem.engine.signed_task import CLASSES, SIGNED_METRICS, SignedTask, class_mean
from graphmem.errors import ArgumentError
from graphmem.models import NAT, SEMBA, TGN, Reputation, TemporalLinkModel

KINDS = tuple(SIGNED_METRICS)
SPLIT = split_stream(make_stream())


def make_task(kind: str = "sign", stream: EventStream | None = None, **options: Any) -> SignedTask:
    split = SPLIT if stream is None else split_stream(stream)
    return SignedTask(split, kind, **{"batch_size": 16, "metrics": SIGNED_METRICS.get(kind), **options})


def semba(kind: str = "sign", **options: Any) -> SEMBA:
    torch.manual_seed(0)
    small: dict[str, Any] = {"memory_dim": 6, "time_dim": 4, "embedding_dim": 8, "heads": 2, "hidden_channels": 8}
    outputs = 3 if kind == "signed-existence" else 1
    return SEMBA(NODES, **{**small, "num_neighbors": 3, "out_channels": outputs, **options})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("features", ["memory", "history", "both"])
def test_the_contract_of_a_task(kind: str, features: str) -> None:
    check_task(make_task(kind), semba(kind, features=features))


@pytest.mark.parametrize("kind", ["sign", "weight"])
@pytest.mark.parametrize("name", ["tgn", "nat"])
def test_other_models_read_signs_as_messages(kind: str, name: str) -> None:
    stream = make_stream(msg_dim=1).with_signed_messages()
    assert stream.msg_dim == 3
    model: TemporalLinkModel = (
        TGN(NODES, 3, memory_dim=8, time_dim=8, embedding_dim=8, num_neighbors=3)
        if name == "tgn"
        else NAT(NODES, 3, memory_dim=8, time_dim=8, sizes=(4, 2))
    )
    check_task(make_task(kind, stream), model)


class Diary(TemporalLinkModel):
    """Writes down what it is asked and shown; its outputs are fixed numbers of pair and time."""

    def __init__(self, outputs: int = 1) -> None:
        super().__init__()
        self.count = outputs
        self.asked: list[tuple[int, Tensor]] = []
        self.weight = nn.Parameter(torch.ones(()))

    @property
    def num_outputs(self) -> int:
        return self.count

    def outputs(self, src: Tensor, dst: Tensor, t: Tensor) -> Tensor:
        self.asked.append((int(self.position), t))
        base = src.view(-1, 1, 1) * 3.7 + dst.unsqueeze(2) * 1.3 + t.view(-1, 1, 1)
        return self.weight * torch.sin(base + torch.arange(self.count))

    def update(self, events: EventStream) -> None:
        assert int(self.position) == events.first
        self._advance(events)


@pytest.mark.parametrize("visibility", ["batch", "event"])
def test_equal_times_are_predicted_from_one_state(visibility: str) -> None:
    task, model = make_task(visibility=visibility), Diary()
    task.reset(model)
    for batch in task.batches("train", 1):
        task.loss(model, batch)
        task.update(model, batch)
    evaluate(model, task)
    t = SPLIT.stream.t
    for position, times in model.asked:
        assert position == 0 or t[position - 1] < times[0]
    assert sum(len(batch.events) for batch in task.batches("train", 1)) == len(SPLIT.train)
    assert any(len(batch.events) > 16 for batch in task.batches("train", 1))


@pytest.mark.parametrize("kind", KINDS)
def test_numbers_of_a_period(kind: str) -> None:
    task, model = make_task(kind, groups=("transductive", "new", "new_old", "new_new")), Diary(3 if "-" in kind else 1)
    record = evaluate(model, task)
    threshold = math.nan
    for period in ("valid", "test"):
        e = getattr(SPLIT, period)
        assert e.weight is not None
        out = torch.sin((e.src * 3.7 + e.dst * 1.3 + e.t).unsqueeze(1) + torch.arange(model.num_outputs))
        if kind == "sign" and period == "valid":
            threshold = best_threshold(out[:, 0], e.weight > 0)
        new = SPLIT.new_nodes[e.src].long() + SPLIT.new_nodes[e.dst].long()
        masks = {"": new >= 0, "transductive.": new == 0, "new.": new > 0, "new_old.": new == 1, "new_new.": new == 2}
        null = torch.cat([batch.dst for batch, _ in _scored(task, period) if batch.dst is not None] or [e.dst[:0]])
        for prefix, mask in masks.items():
            if kind == "sign":
                wanted = sign_metrics(out[mask, 0], e.weight[mask] > 0, threshold)
            elif kind == "weight":
                wanted = weight_metrics(out[mask, 0], e.weight[mask], -4, 3)
            else:
                others = torch.sin((e.src * 3.7 + null * 1.3 + e.t).unsqueeze(1) + torch.arange(3))
                called = torch.cat((out[mask], others[mask])).argmax(1)
                truth = torch.cat(((e.weight[mask] < 0).long(), torch.full((int(mask.sum()),), 2)))
                wanted = class_metrics(called, truth, CLASSES)
            for name, value in wanted.items():
                assert record[f"{period}/{prefix}{name}"] == pytest.approx(value, nan_ok=True), (period, prefix, name)


def _scored(task: SignedTask, period: str) -> Any:
    model = Diary(task.num_outputs)
    with evaluating(model):
        yield from task.scored(model, period)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("change", ["sign", "weight", "dst"])
def test_nothing_of_a_batch_shows_in_its_predictions(kind: str, change: str) -> None:
    """Other signs, weights and later destinations: the predictions of the batch stay, bit for bit."""
    stream = make_stream()
    assert stream.weight is not None
    at = next(batch.events.first for k, batch in enumerate(make_task(kind).batches("train", 1)) if k == 5)
    columns = {"weight": stream.weight.clone(), "dst": stream.dst.clone()}
    if change == "dst":
        columns["dst"][at + 4 :] = NODES // 2
    else:
        columns["weight"][at:] *= -1 if change == "sign" else 7
    other = EventStream(stream.src, t=stream.t, num_nodes=NODES, dst_range=stream.dst_range, **columns)
    found = []
    for one in (stream, other):
        task, model = make_task(kind, one), semba(kind).eval()
        task.reset(model)
        with torch.no_grad():
            for batch in task.batches("train", 1):
                e = stream[batch.events.first : batch.events.first + len(batch.events)]
                if e.first >= at:
                    break
                model.update(batch.events)
            found.append((model.outputs(e.src, e.dst.unsqueeze(1), e.t), len(e)))
            model.update(batch.events)
            found.append((model.outputs(e.src, e.dst.unsqueeze(1), e.t), len(e)))
    assert torch.equal(found[0][0], found[2][0])
    assert not torch.equal(found[1][0], found[3][0])


@pytest.mark.slow
@pytest.mark.realdata
@pytest.mark.parametrize(
    ("ends", "wanted"),
    [
        ("both", {"auc": 0.862, "ap_neg": 0.640, "f1_neg": 0.587, "macro_f1": 0.761}),
        ("target", {"auc": 0.807, "f1_neg": 0.487, "macro_f1": 0.703}),  # its AP depends on how ties are counted
    ],
)
def test_reputations_of_bitcoin_otc(ends: str, wanted: dict[str, float]) -> None:
    """Event by event, against numbers that were computed without this package from the publisher's file."""
    stream = load_stream("bitcoin-otc", download=False)
    model = Reputation(stream.num_nodes, ends=ends, dtype=stream.t.dtype)
    found = evaluate(model, SignedTask(split_stream(stream), "sign", batch_size=1))
    assert {name: found[f"test/{name}"] for name in wanted} == pytest.approx(wanted, abs=0.003)


def test_losses() -> None:
    each, truth = torch.tensor([1.0, 2.0, 4.0, 8.0]), torch.tensor([0, 0, 1, 0])
    assert float(class_mean(each, truth, 2)) == pytest.approx((11 / 3 + 4) / 2)
    assert float(class_mean(each, truth, 3)) == pytest.approx((11 / 3 + 4) / 3)
    for kind in KINDS:
        for reduction in ("class_mean", "mean"):
            task, model = make_task(kind, reduction=reduction), Diary(3 if "-" in kind else 1)
            batch = next(task.batches("train", 1))
            e = batch.events
            assert e.weight is not None
            out = model.outputs(e.src, e.dst.unsqueeze(1), e.t)[:, 0]
            found = task.loss(model, batch)
            if kind == "weight":
                torch.testing.assert_close(found, (out[:, 0] - e.weight).square().mean())
                continue
            if kind == "sign":
                each = F.softplus(-out[:, 0] * e.weight.sign())
                parts = [each[e.weight > 0], each[e.weight < 0]]
            else:
                assert batch.dst is not None
                null = model.outputs(e.src, batch.dst.unsqueeze(1), e.t)[:, 0]
                logs = torch.cat((out, null)).log_softmax(1)
                truth = torch.cat(((e.weight < 0).long(), torch.full((len(e),), 2)))
                parts = [-logs[truth == place, place] for place in range(3)]
            whole = torch.stack([part.mean() for part in parts]).mean()
            torch.testing.assert_close(found, whole if reduction == "class_mean" else torch.cat(parts).mean())


@pytest.mark.parametrize("kind", ["sign", "signed-existence"])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_batch_of_one_sign_has_a_loss(kind: str, sign: int) -> None:
    stream = make_stream()
    one = EventStream(stream.src, stream.dst, stream.t, NODES, weight=torch.full((240,), float(sign)))
    task, model = make_task(kind, one), semba(kind)
    loss = task.loss(model, next(task.batches("train", 1)))
    loss.backward()
    assert math.isfinite(loss.item())
    grads = [p.grad for p in model.parameters() if p.grad is not None]
    assert grads
    assert all(bool(g.isfinite().all()) for g in grads)


def test_the_threshold_is_that_of_validation_of_the_same_round() -> None:
    task, model = make_task(), semba()
    both = evaluate(model, task)
    alone = evaluate(model, task, ("test",))  # finds the threshold on its way through validation
    assert all(both[key] == value or value != value for key, value in alone.items())
    with evaluating(model):
        task.reset(model)
        task.catch_up(model, SPLIT.test.first)
        with pytest.raises(ArgumentError, match="threshold for 'test' comes from 'valid'"):
            task.evaluate(model, "test")


@pytest.mark.parametrize("kind", KINDS)
def test_an_epoch_goes_on_in_its_middle(kind: str, tmp_path: Path) -> None:
    def fit(folder: Path, resume: bool = False, stop: int | None = None) -> dict[str, Any]:
        task, model = make_task(kind), semba(kind)
        optimizer = torch.optim.Adam(model.parameters())
        options: dict[str, Any] = {"epochs": 2, "monitor": ("valid", SIGNED_METRICS[kind][0]), "seed": 0}
        trainer = Trainer(
            model, task, optimizer, progress=False, checkpoint_dir=folder, checkpoint_every_steps=3, **options
        )
        if stop is not None:
            trainer.callbacks = (StopAt(stop),)
        trainer.fit(resume=resume)
        return model.state_dict()

    with pytest.raises(ZeroDivisionError):
        fit(tmp_path / "parts", stop=8)
    resumed, whole = fit(tmp_path / "parts", resume=True), fit(tmp_path / "whole")
    assert all(torch.equal(value, resumed[key]) for key, value in whole.items())


def test_same_numbers_for_every_number_of_threads(restore_threads: None) -> None:
    records = []
    for threads in (1, 2, 4):
        torch.set_num_threads(threads)
        task, model = make_task("signed-existence"), semba("signed-existence")
        records.append(evaluate(model, task))
    assert all(value == other[key] or value != value for other in records[1:] for key, value in records[0].items())


@pytest.mark.parametrize("kind", ["sign", "weight"])
def test_a_validation_period_of_one_label(kind: str) -> None:
    stream = make_stream()
    assert stream.weight is not None
    split = SPLIT.valid
    weight = stream.weight.clone()
    weight[split.first : split.first + len(split)] = 2.0
    task = make_task(kind, EventStream(stream.src, stream.dst, stream.t, NODES, weight=weight))
    with pytest.raises(ArgumentError, match="^metrics: expected two different .* validation period"):
        task.check_selection()
    for fine in (make_task(kind), make_task("signed-existence", task.split.stream)):
        fine.check_selection()
    record = evaluate(semba(), task)
    assert math.isnan(record[f"valid/{task.metrics[0]}"])
    assert not math.isnan(record[f"test/{task.metrics[0]}"])


def test_bad_input() -> None:
    stream = make_stream()
    assert stream.weight is not None
    unsigned = EventStream(stream.src, stream.dst, stream.t, NODES)
    neutral = EventStream(stream.src, stream.dst, stream.t, NODES, weight=stream.weight * (torch.arange(240) != 7))
    for one in (unsigned, neutral):
        with pytest.raises(ArgumentError, match="^split: expected weights other than 0"):
            make_task(stream=one)
    for options, named in (
        ({"kind": "signs", "metrics": ()}, "kind"),
        ({"metrics": ("r2",)}, "metrics"),
        ({"reduction": "sum"}, "reduction"),
        ({"negatives": "historical"}, "negatives"),
        ({"visibility": "mixed"}, "visibility"),
        ({"groups": ("old",)}, "groups"),
    ):
        with pytest.raises(ArgumentError, match=f"^{named}: expected"):
            make_task(**options)
    with pytest.raises(ArgumentError, match="model: expected 3 outputs for the task 'signed-existence', got 1"):
        evaluate(Reputation(NODES), make_task("signed-existence"))
    with pytest.raises(ArgumentError, match="weights, whose signs"):
        unsigned.with_signed_messages()
