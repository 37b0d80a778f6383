"""Averages of weights: the recurrence, training that does not notice them, resumption."""

from __future__ import annotations

import signal

import pytest
import torch
from engine_toy import assert_same, build, outcome
from torch import nn

from graphmem.engine import Callback
from graphmem.engine.averaging import WeightAverage
from graphmem.errors import ArgumentError, CheckpointError


def test_follows_its_recurrence_and_puts_the_parameters_back() -> None:
    model = nn.Linear(2, 3)
    model.bias.requires_grad_(False)
    average, want = WeightAverage(model, 0.6), model.weight.detach().double()
    bias = model.bias.clone()
    for step in range(40):
        with torch.no_grad():
            model.weight.copy_(torch.randn(3, 2))
        decay = min(0.6, step / (step + 10))
        want = decay * want + (1 - decay) * model.weight.detach().double()
        average.update()
    live = model.weight.detach().clone()
    with average.applied():
        torch.testing.assert_close(model.weight.detach().double(), want, rtol=1e-5, atol=1e-6)
        assert torch.equal(model.bias, bias)
    assert torch.equal(model.weight, live)


def test_training_does_not_notice() -> None:
    plain, averaged = build(), build(average=0.9)
    plain.fit()
    result = averaged.fit()
    assert_same(averaged.model.state_dict(), plain.model.state_dict())
    # What is judged and kept is the average.
    averaged.load_best()
    epoch = result.best["valid/mse"].epoch
    assert averaged.evaluate()["valid/mse"] == result.history[epoch - 1]["valid/mse"]
    assert result.history[-1]["valid/mse"] != plain.history[-1]["valid/mse"]


@pytest.mark.parametrize("step", [1, 4, 6, 15])
def test_resume_gives_the_same_bits(tmp_path, step: int) -> None:
    class Stop(Callback):
        def on_step_end(self, trainer, loss):
            if trainer.step == step:
                signal.raise_signal(signal.SIGINT)

    whole = build(average=0.8)
    want = outcome(whole, whole.fit())
    assert build(tmp_path, average=0.8, callbacks=[Stop()]).fit().interrupted
    second = build(tmp_path, average=0.8)
    assert_same(outcome(second, second.fit(resume=True)), want)


@pytest.mark.parametrize(("first", "second"), [(None, 0.9), (0.9, None)])
def test_a_run_with_averages_is_not_one_without(tmp_path, first: float | None, second: float | None) -> None:
    build(tmp_path, epochs=2, average=first).fit()
    with pytest.raises(CheckpointError, match="averages"):
        build(tmp_path, average=second).fit(resume=True)


@pytest.mark.parametrize("decay", [0, 1, -0.5, 1.5])
def test_bad_decay_is_named(decay: float) -> None:
    with pytest.raises(ArgumentError, match="average must lie in"):
        build(average=decay)
