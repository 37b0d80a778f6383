from __future__ import annotations

import random
import signal
import threading

import numpy as np
import pytest
import torch
from engine_toy import assert_same, build, outcome, scripted, timeless
from torch import nn

from graphmem.engine import Callback
from graphmem.errors import ArgumentError, CheckpointError


class StopAt(Callback):
    """Interrupts as Ctrl-C does, after a given number of steps."""

    def __init__(self, step):
        self.step = step

    def on_step_end(self, trainer, loss):
        if trainer.step == self.step:
            signal.raise_signal(signal.SIGINT)


@pytest.fixture(scope="module")
def uninterrupted():
    trainer = build()
    return outcome(trainer, trainer.fit())


@pytest.mark.parametrize("step", range(1, 16))
def test_resume_from_any_step_gives_the_same_bits(tmp_path, uninterrupted, step):
    handler = signal.getsignal(signal.SIGINT)
    first = build(tmp_path, callbacks=[StopAt(step)])
    result = first.fit()
    assert signal.getsignal(signal.SIGINT) is handler
    assert result.interrupted
    assert first.step == step
    torch.manual_seed(99), np.random.seed(99), random.seed(99)
    second = build(tmp_path)
    torch.rand(7)  # the generators come from the checkpoint
    result = second.fit(resume=True)
    assert not result.interrupted
    assert_same(outcome(second, result), uninterrupted)
    third = build(tmp_path)  # finished: nothing is left to do, and it says the same
    assert_same(outcome(third, third.fit(resume=True)), uninterrupted)


def test_resume_in_the_same_process_with_the_same_trainer(tmp_path, uninterrupted):
    stop = StopAt(5)
    trainer = build(tmp_path, callbacks=[stop])
    assert trainer.fit().interrupted
    stop.step = 11
    assert trainer.fit(resume=True).interrupted
    assert_same(outcome(trainer, trainer.fit(resume=True)), uninterrupted)


def test_more_epochs_on_resume(tmp_path, uninterrupted):
    build(tmp_path, epochs=2).fit()
    trainer = build(tmp_path, epochs=4)
    assert_same(outcome(trainer, trainer.fit(resume=True)), uninterrupted)


def test_interrupt_during_evaluation(tmp_path, uninterrupted):
    first = build(tmp_path)
    original = first.task.evaluate

    def evaluate_and_interrupt(model, split):
        if first.epoch == 2 and split == "valid":
            signal.raise_signal(signal.SIGINT)
        return original(model, split)

    first.task.evaluate = evaluate_and_interrupt
    result = first.fit()
    assert result.interrupted
    assert result.epochs == 1
    second = build(tmp_path)
    assert_same(outcome(second, second.fit(resume=True)), uninterrupted)


def test_second_interrupt_raises_at_once_and_keeps_the_checkpoint(tmp_path, uninterrupted):
    class Twice(Callback):
        def on_step_end(self, trainer, loss):
            if trainer.step == 6:
                signal.raise_signal(signal.SIGINT)
                signal.raise_signal(signal.SIGINT)

    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path, checkpoint_every_steps=5, callbacks=[Twice()]).fit()
    assert signal.getsignal(signal.SIGINT) is handler
    second = build(tmp_path)
    assert_same(outcome(second, second.fit(resume=True)), uninterrupted)


def test_interrupt_without_checkpoint_dir():
    result = build(callbacks=[StopAt(5)]).fit()
    assert result.interrupted
    assert result.epochs == 1


def test_fit_outside_the_main_thread(uninterrupted):
    trainer, results = build(), []
    thread = threading.Thread(target=lambda: results.append(trainer.fit()))
    thread.start()
    thread.join()
    assert timeless(results[0]) == uninterrupted["history"]


def test_stop_by_callback_survives_resumption(tmp_path):
    class Enough(Callback):
        def on_epoch_end(self, trainer, record):
            if record["epoch"] == 2:
                trainer.stop()

    assert build(tmp_path, callbacks=[Enough()]).fit().stopped_early
    result = build(tmp_path).fit(resume=True)
    assert result.stopped_early
    assert result.epochs == 2


def test_patience_survives_resumption(tmp_path):
    values = [0.5, 0.4, 0.3, 0.2, 0.1]
    whole = scripted(values, patience=3).fit()
    first = scripted(values, patience=3, epochs=2, checkpoint_dir=tmp_path)
    first.fit()
    second = scripted(values, patience=3, checkpoint_dir=tmp_path)
    second.task.epoch = 2
    assert timeless(second.fit(resume=True)) == timeless(whole)


def test_resume_needs_a_place_and_begins_without_a_file(tmp_path, uninterrupted):
    with pytest.raises(ArgumentError, match="resume=True needs a checkpoint_dir"):
        build().fit(resume=True)
    trainer = build(tmp_path)
    assert_same(outcome(trainer, trainer.fit(resume=True)), uninterrupted)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: setattr(t, "seed", 4), "its seed is 3, here 4"),
        (lambda t: setattr(t.task, "name", "other"), "its task is 'toy', here 'other'"),
        (lambda t: setattr(t, "mode", "max"), "its mode is 'min', here 'max'"),
        (lambda t: t.model.encode.append(nn.Linear(1, 1)), "does not fit this model"),
        (lambda t: t.optimizer.add_param_group({"params": [torch.zeros(1)]}), "does not fit this model, optimizer"),
    ],
)
def test_checkpoint_of_another_run(tmp_path, change, message):
    build(tmp_path, epochs=1).fit()
    trainer = build(tmp_path)
    change(trainer)
    with pytest.raises(CheckpointError, match=message):
        trainer.fit(resume=True)


def test_config_is_kept_and_differences_are_logged(tmp_path, caplog):
    build(tmp_path, epochs=1, config={"lr": 0.02, "betas": (0.9, 0.99)}).fit()
    build(tmp_path, epochs=1, config={"lr": 0.03, "betas": (0.9, 0.99)}).fit(resume=True)
    assert [r.getMessage() for r in caplog.records] == ["config 'lr' was 0.02 in the checkpoint, is 0.03 now"]


def test_a_new_run_keeps_the_checkpoint_of_the_last(tmp_path, caplog):
    build(tmp_path, epochs=1).fit()
    before = (tmp_path / "last.pt").read_bytes()
    build(tmp_path, epochs=2).fit()
    assert (tmp_path / "previous.pt").read_bytes() == before
    assert "resume=True would continue it" in caplog.text


def test_unusable_directory_is_noticed_before_training(tmp_path):
    (tmp_path / "file").write_text("")
    trainer = build(tmp_path / "file" / "runs")
    with pytest.raises(CheckpointError, match="cannot be used"):
        trainer.fit()
    assert trainer.step == 0


@pytest.mark.filterwarnings("error")
def test_no_warnings_on_resume(tmp_path):
    build(tmp_path, callbacks=[StopAt(4)]).fit()
    build(tmp_path).fit(resume=True)


def test_every_n_epochs(tmp_path):
    saved = []

    class Watch(Callback):
        def on_epoch_end(self, trainer, record):
            saved.append(trainer.checkpoint_path.exists())

    build(tmp_path, epochs=5, checkpoint_every_epochs=3, callbacks=[Watch()]).fit()
    assert saved == [False, False, False, True, True]  # written after the callbacks of epoch 3
