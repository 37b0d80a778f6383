from __future__ import annotations

import csv
import json
import math
import sys

import pytest
from engine_toy import build, timeless

from graphmem.engine import (
    Callback,
    CSVLogger,
    FitResult,
    JSONLLogger,
    LearningCurve,
    ProgressBar,
    TensorBoardLogger,
)
from graphmem.errors import MissingExtraError


class Crash(Callback):
    """Dies in the middle of an epoch, after the loggers have written one that the checkpoint does not know."""

    def __init__(self, epoch):
        self.epoch = epoch

    def on_epoch_end(self, trainer, record):
        if record["epoch"] == self.epoch:
            raise RuntimeError("killed")


def crash_and_resume(tmp_path, logger):
    """Epoch 3 is logged twice: the process dies after logging it and before its checkpoint."""
    with pytest.raises(RuntimeError, match="killed"):
        build(tmp_path, eval_every=2, callbacks=[logger(), Crash(3)]).fit()
    return build(tmp_path, eval_every=2, callbacks=[logger()]).fit(resume=True)


def test_jsonl_has_every_epoch_once(tmp_path):
    path = tmp_path / "logs" / "run.jsonl"
    result = crash_and_resume(tmp_path, lambda: JSONLLogger(path))
    records = [json.loads(line) for line in path.read_text().splitlines()]
    assert [r["epoch"] for r in records] == [1, 2, 3, 4]
    assert records == [{**r, "task": "toy", "protocol": {"data": "toy", "visibility": "batch"}} for r in result.history]


def test_jsonl_is_json_even_for_nan(tmp_path):
    logger = JSONLLogger(tmp_path / "x.jsonl")
    logger.on_epoch_end(build(), {"epoch": 1, "loss": math.nan, "valid/a": math.inf})
    assert json.loads((tmp_path / "x.jsonl").read_text()).items() >= {"epoch": 1, "loss": None, "valid/a": None}.items()


def test_csv_has_every_epoch_once_and_grows_columns(tmp_path):
    path = tmp_path / "run.csv"
    result = crash_and_resume(tmp_path, lambda: CSVLogger(path))
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    read = [{key: float(value) for key, value in row.items() if value != ""} for row in rows]
    assert read == list(result.history)
    assert "valid/mse" not in read[0]
    assert "valid/mse" in read[1]


def test_a_fresh_run_replaces_the_logs(tmp_path):
    for _ in range(2):
        loggers = [JSONLLogger(tmp_path / "a.jsonl"), CSVLogger(tmp_path / "a.csv")]
        build(epochs=2, callbacks=loggers).fit()
    assert len((tmp_path / "a.jsonl").read_text().splitlines()) == 2
    assert len((tmp_path / "a.csv").read_text().splitlines()) == 3


def test_tensorboard(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    result = crash_and_resume(tmp_path, lambda: TensorBoardLogger(tmp_path / "tb"))
    events = EventAccumulator(str(tmp_path / "tb"))
    events.Reload()
    assert [e.step for e in events.Scalars("train/loss")] == [1, 2, 3, 4]
    assert [e.step for e in events.Scalars("valid/mse")] == [2, 4]
    assert events.Scalars("valid/mse")[-1].value == pytest.approx(result.history[-1]["valid/mse"])


def test_learning_curve(tmp_path):
    pytest.importorskip("matplotlib")
    path = tmp_path / "figures" / "curve.png"
    crash_and_resume(tmp_path, lambda: LearningCurve(path, metrics=["valid/mse", "test/mse"]))
    assert path.read_bytes().startswith(b"\x89PNG")
    build(epochs=2, callbacks=[LearningCurve(tmp_path / "curve.svg")]).fit()
    text = (tmp_path / "curve.svg").read_text()
    assert "<svg" in text


@pytest.mark.parametrize(
    ("make", "module", "extra"),
    [
        (lambda: TensorBoardLogger("x"), "torch.utils.tensorboard", "track"),
        (lambda: LearningCurve("x.png"), "matplotlib.figure", "plot"),
    ],
)
def test_missing_extra(monkeypatch, make, module, extra):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=rf"pip install 'graphmem\[{extra}\]'"):
        make()


def test_progress_bar(capsys, tmp_path):
    build(tmp_path, epochs=1, progress=True).fit()
    build(tmp_path, epochs=2, progress=True).fit(resume=True)
    err = capsys.readouterr().err
    assert "epoch 2/2" in err
    assert "8/8" in err
    build(epochs=1, progress=None).fit()
    assert capsys.readouterr().err == "", "a bar where there is no terminal"
    assert build(progress=False).callbacks == ()
    assert isinstance(build(progress=True).callbacks[-1], ProgressBar)


def test_order_of_events():
    events = []

    class Listener(Callback):
        def on_fit_start(self, trainer):
            events.append("start")

        def on_step_end(self, trainer, loss):
            assert math.isfinite(loss)
            events.append(trainer.step)

        def on_epoch_end(self, trainer, record):
            assert record is trainer.history[-1]
            events.append(f"epoch {record['epoch']}")

        def on_fit_end(self, trainer, result):
            assert isinstance(result, FitResult)
            assert timeless(result) == timeless(FitResult(trainer.history, {}))
            events.append("end")

    build(epochs=2, callbacks=[Listener()]).fit()
    assert events == ["start", 1, 2, 3, 4, "epoch 1", 5, 6, 7, 8, "epoch 2", "end"]
