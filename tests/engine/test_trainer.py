from __future__ import annotations

import contextlib
import random

import numpy as np
import pytest
import torch
from engine_toy import Counter, Recorder, ToyModel, ToyTask, assert_same, build, outcome, scripted, timeless
from torch import nn

from graphmem.engine import BestTracker, NonFiniteLossError, Task, Trainer, evaluate
from graphmem.errors import ArgumentError


def test_predict_then_update():
    """No loss sees its own batch: the state advances after the loss, before the step, and restarts every epoch."""
    model, task = Counter(), Recorder()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    result = Trainer(model, task, optimizer, epochs=2, monitor=("valid", "score"), progress=False).fit()
    one = [
        ("reset", None, 0, 0, True),
        ("loss", 0, 0, 0, True),
        ("update", 0, 0, 0, True),
        ("loss", 1, -1, 1, True),
        ("update", 1, -1, 1, True),
        ("evaluate", "valid", -2, 2, False),
        ("evaluate", "test", -2, 12, False),  # the state runs on from validation to test
    ]
    two = [(what, batch, weight - 2, events, mode) for what, batch, weight, events, mode in one]
    assert task.calls == one + two
    assert int(model.events) == 2, "evaluation left its events in the state"
    assert timeless(result)[1] == {"epoch": 2, "loss": -2.5, "valid/score": 12.0, "test/score": 22.0}


def test_learns():
    result = build(epochs=12).fit()
    assert result.history[-1]["valid/mse"] < 0.3 * result.history[0]["valid/mse"]
    assert result.epochs == 12
    assert result.train_seconds > 0
    assert result.eval_seconds > 0
    assert result.protocol == {"data": "toy", "visibility": "batch"}


@pytest.mark.parametrize(
    ("mode", "values", "epoch", "value"),
    [
        ("max", [0.1, 0.5, 0.5, 0.4], 2, 0.5),  # the first of equals
        ("min", [3.0, 1.0, 1.0, 2.0], 2, 1.0),
        ("max", [float("nan"), 0.2, float("nan")], 2, 0.2),
        ("max", [-1.0, -2.0], 1, -1.0),
    ],
)
def test_best_epoch(mode, values, epoch, value):
    trainer = scripted(values, mode=mode, monitor=[("valid", "a"), ("valid", "b")])
    result = trainer.fit()
    best = result.best["valid/a"]
    assert (best.epoch, best.value, best.metrics["test/epoch"]) == (epoch, value, epoch)
    # every monitored metric has an epoch of its own
    other = {"max": min, "min": max}[mode](v for v in values if v == v)
    assert result.best["valid/b"].value == -other
    # two steps of size one an epoch
    trainer.load_best()
    assert float(trainer.model.weight.detach()) == -2 * epoch


def test_all_nan_selects_nothing():
    trainer = scripted([float("nan")] * 2)
    assert trainer.fit().best == {}
    with pytest.raises(ArgumentError, match="no epoch has been evaluated"):
        trainer.load_best()


def test_patience_counts_evaluations():
    values = [0.5, 0.6, 0.6, 0.1, 0.9]
    result = scripted(values, patience=2).fit()
    assert result.epochs == 4
    assert result.stopped_early
    assert not result.interrupted
    result = scripted(values, patience=3).fit()
    assert result.epochs == 5
    assert not result.stopped_early


def test_eval_every_and_the_last_epoch():
    result = scripted([1.0, 2.0, 3.0], epochs=5, eval_every=2).fit()
    assert [r["epoch"] for r in result.history if "valid/a" in r] == [2, 4, 5]


def test_eval_frequency_does_not_change_training():
    """Evaluation draws nothing, moves no batch norm statistics and leaves the state alone."""
    often, never = build(epochs=4), build(epochs=4, eval_every=100)

    class Noisy(ToyTask):
        def evaluate(self, model, split):
            torch.rand(3), np.random.rand(), random.random()
            return super().evaluate(model, split)

    often.task.__class__ = Noisy
    a, b = outcome(often, often.fit()), outcome(never, never.fit())
    for key in ("model", "optimizer", "next_random"):
        assert_same(a[key], b[key], key)


def test_evaluate_restores_everything():
    torch.manual_seed(0)
    model, task = ToyModel(), ToyTask()
    model.train()
    model.encode[1].eval()  # a module somebody froze stays so
    task.update(model, next(task.batches("train", 1)))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    state = torch.get_rng_state()
    first = evaluate(model, task, ("valid", "test"))
    assert first == evaluate(model, task, ("valid", "test"))
    assert_same(dict(model.state_dict()), before)
    assert torch.equal(torch.get_rng_state(), state)
    assert model.encode[0].training
    assert not model.encode[1].training

    class Broken(ToyTask):
        def evaluate(self, model, split):
            super().evaluate(model, split)
            raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        evaluate(model, Broken())
    assert_same(dict(model.state_dict()), before)
    assert model.encode[0].training


def test_splits_share_one_round_of_evaluation():
    rounds = []

    class Shared(ToyTask):
        @contextlib.contextmanager
        def evaluation(self, model):
            assert not model.training
            rounds.append([])
            yield
            rounds[-1].append("end")

        def evaluate(self, model, split):
            rounds[-1].append(split)
            return {"mse": 0.0}

    evaluate(ToyModel(), Shared(), ("valid", "test"))
    evaluate(ToyModel(), Shared(), ("valid",))
    assert rounds == [["valid", "test", "end"], ["valid", "end"]]


def test_evaluate_wants_numbers():
    class Wrong(ToyTask):
        def evaluate(self, model, split):
            return {"mse": "low"}

    with pytest.raises(ArgumentError, match=r"Wrong.evaluate\('valid'\) must return numbers, got str for 'mse'"):
        evaluate(ToyModel(), Wrong())


def test_clip_per_group():
    class Linear(Task):
        name, protocol = "linear", {}

        def num_batches(self, split, epoch):
            return 1

        def batches(self, split, epoch, start=0):
            yield from range(start, 1)

        def loss(self, model, batch):
            return sum((p * 30).sum() for p in model.parameters())

        def evaluate(self, model, split):
            return {"x": 0.0}

    def moved(clip):
        torch.manual_seed(0)
        model = nn.ParameterList([nn.Parameter(torch.zeros(1)) for _ in range(3)])
        groups = [{"params": [p]} for p in model]
        optimizer = torch.optim.SGD(groups, lr=1.0)
        Trainer(model, Linear(), optimizer, epochs=1, monitor=("valid", "x"), clip_norm=clip, progress=False).fit()
        return [-float(p.detach()) for p in model]

    assert moved(None) == [30, 30, 30]
    assert moved((1.0, None, 2)) == pytest.approx([1, 30, 2], rel=1e-5)
    assert moved(3) == pytest.approx([3**0.5] * 3, rel=1e-5)


def test_non_finite_loss_names_the_place():
    trainer = build()
    original = trainer.task.loss
    trainer.task.loss = lambda model, batch: original(model, batch) * (float("nan") if trainer.step == 6 else 1)
    with pytest.raises(NonFiniteLossError, match="got nan in epoch 2, batch 2"):
        trainer.fit()
    assert all(bool(p.isfinite().all()) for p in trainer.model.parameters())


def test_no_batches():
    trainer = build()
    trainer.task.count = 0
    with pytest.raises(ArgumentError, match="'toy' gave no training batches"):
        trainer.fit()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs must be a positive integer, got 0"),
        ({"eval_every": 1.5}, "eval_every must be"),
        ({"patience": 0}, "patience must be"),
        ({"mode": "best"}, "mode must be 'max' or 'min', got 'best'"),
        ({"monitor": ("test", "mse")}, "must not look at the test split"),
        ({"monitor": ("train", "mse")}, "is not evaluated"),
        ({"monitor": ()}, "at least one"),
        ({"monitor": ["valid/mse"]}, "must be"),
        ({"clip_norm": 0}, "clip_norm must be positive"),
        ({"clip_norm": (1.0, 2.0)}, "optimizer's 1 parameter groups, got 2"),
        ({"clip_norm": (-1.0,)}, "positive norms or None"),
        ({"checkpoint_every_steps": 0}, "checkpoint_every_steps must be"),
        ({"config": {"x": np.float64(1)}}, r"config\['x'\] must be a tensor, int.*got numpy.float64"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ArgumentError, match=message):
        build(**options)


def test_missing_metric_names_what_there_is():
    with pytest.raises(ArgumentError, match=r"gave no 'valid/mrr', only \['test/clock', 'test/mse', 'valid/clock'"):
        build(monitor=("valid", "mrr")).fit()


def test_tracker_from_history_is_the_tracker():
    history = [{"epoch": e, "loss": 0.0, "valid/a": v} for e, v in enumerate([1.0, 3.0, 2.0, 3.0], 1)]
    one, two = BestTracker(("valid/a",)), BestTracker(("valid/a",), history=history)
    assert [one.update(record) for record in history] == [True, True, False, False]
    assert one.best == two.best
    assert one.stale == two.stale == 2
