"""What may listen to training: progress, logs, curves."""

from __future__ import annotations

import csv
import importlib
import io
import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphmem.errors import MissingExtraError

if TYPE_CHECKING:
    from graphmem.engine.result import FitResult, Record
    from graphmem.engine.trainer import Trainer


class Callback:
    """Listens to a :class:`~graphmem.engine.Trainer`; every method does nothing by default.

    A callback may read the trainer and call :meth:`Trainer.stop`; it must not change the model or draw from global
    random generators, or resumed training would differ. What it writes must follow from ``trainer.history``, which
    holds the epochs before a resumption too: after a killed process, files may be ahead of the checkpoint.
    """

    def on_fit_start(self, trainer: Trainer) -> None:
        """Before the first step; ``trainer.history`` is not empty if training was resumed."""

    def on_step_end(self, trainer: Trainer, loss: float) -> None:
        """After every step, its state update, and before its checkpoint."""

    def on_epoch_end(self, trainer: Trainer, record: Record) -> None:
        """After every epoch and its evaluation; ``record`` is already the last entry of ``trainer.history``."""

    def on_fit_end(self, trainer: Trainer, result: FitResult) -> None:
        """At the end, after an interruption too, but not after an error."""


class ProgressBar(Callback):
    """A tqdm bar over steps.

    Args:
        disable: ``None``: hidden where the output is not a terminal; or hide (True) or show (False) it always.
    """

    def __init__(self, disable: bool | None = None) -> None:
        self.disable = disable
        self._bar: Any = None
        self._metrics: dict[str, str] = {}

    def on_fit_start(self, trainer: Trainer) -> None:
        """Open the bar, at the step where training goes on."""
        from tqdm.auto import tqdm

        steps = trainer.task.num_batches("train", trainer.epoch)
        done = (trainer.epoch - 1) * steps + trainer.batch_index
        self._bar = tqdm(total=trainer.epochs * steps, initial=done, disable=self.disable, unit="step")

    def on_step_end(self, trainer: Trainer, loss: float) -> None:
        """Move the bar."""
        self._bar.set_description(f"epoch {trainer.epoch}/{trainer.epochs}", refresh=False)
        self._bar.set_postfix({"loss": f"{loss:.4f}", **self._metrics}, refresh=False)
        self._bar.update()

    def on_epoch_end(self, trainer: Trainer, record: Record) -> None:
        """Show the monitored metrics."""
        self._metrics.update({key: f"{record[key]:.4f}" for key in trainer.monitors if key in record})

    def on_fit_end(self, trainer: Trainer, result: FitResult) -> None:
        """Close the bar."""
        self._bar.close()


class JSONLLogger(Callback):
    """One JSON object an epoch and line, with the task's protocol in each, so that a line explains itself.

    The file is written anew from the history when training starts or resumes, so no epoch is missing or twice in it.
    Values that JSON does not have (NaN, infinities) become ``null``.

    Args:
        path: The file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def on_fit_start(self, trainer: Trainer) -> None:
        """Write the epochs before a resumption."""
        _write(self.path, "".join(self._line(trainer, record) for record in trainer.history))

    def on_epoch_end(self, trainer: Trainer, record: Record) -> None:
        """Append the epoch."""
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(self._line(trainer, record))

    @staticmethod
    def _line(trainer: Trainer, record: Record) -> str:
        values = {k: v if math.isfinite(v) else None for k, v in record.items()}
        return json.dumps({**values, "task": trainer.task.name, "protocol": dict(trainer.task.protocol)}) + "\n"


class CSVLogger(Callback):
    """One row an epoch; cells of metrics that were not evaluated are empty.

    Written anew from the history when training starts or resumes, and when an epoch brings a new column.

    Args:
        path: The file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._columns: list[str] = []

    def on_fit_start(self, trainer: Trainer) -> None:
        """Write the epochs before a resumption."""
        self._columns = []
        self._rewrite(trainer.history)

    def on_epoch_end(self, trainer: Trainer, record: Record) -> None:
        """Append the epoch."""
        if not set(record) <= set(self._columns):
            self._rewrite(trainer.history)
            return
        with open(self.path, "a", encoding="utf-8", newline="") as file:
            csv.DictWriter(file, self._columns).writerow(record)

    def _rewrite(self, history: Sequence[Record]) -> None:
        self._columns = list(dict.fromkeys(key for record in history for key in record))
        text = io.StringIO()
        if self._columns:
            writer = csv.DictWriter(text, self._columns)
            writer.writeheader()
            writer.writerows(history)
        _write(self.path, text.getvalue())


class TensorBoardLogger(Callback):
    """Scalars for TensorBoard; needs the extra ``track``.

    Args:
        directory: Where the event files go.

    Raises:
        MissingExtraError: If tensorboard is not installed.
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self._module = _require("torch.utils.tensorboard", "TensorBoardLogger", "track")
        self.directory = Path(directory)
        self._writer: Any = None

    def on_fit_start(self, trainer: Trainer) -> None:
        """Open the event file; hide epochs that are trained again."""
        # Event files cannot be rewritten: TensorBoard hides what an earlier process logged after the checkpoint.
        self._writer = self._module.SummaryWriter(str(self.directory), purge_step=len(trainer.history) + 1)

    def on_epoch_end(self, trainer: Trainer, record: Record) -> None:
        """Log the epoch's numbers."""
        for key, value in record.items():
            if key != "epoch":
                self._writer.add_scalar(key if "/" in key else f"train/{key}", value, int(record["epoch"]))
        self._writer.flush()

    def on_fit_end(self, trainer: Trainer, result: FitResult) -> None:
        """Close the event file."""
        self._writer.close()


class LearningCurve(Callback):
    """A picture of the loss and the evaluated metrics over epochs, drawn at the end; needs the extra ``plot``.

    Args:
        path: The file; its ending chooses the format (``.png``, ``.pdf``, ``.svg``).
        metrics: Keys ``"<split>/<metric>"`` to draw; all of them by default.

    Raises:
        MissingExtraError: If matplotlib is not installed.
    """

    def __init__(self, path: str | os.PathLike[str], metrics: Sequence[str] | None = None) -> None:
        self._module = _require("matplotlib.figure", "LearningCurve", "plot")
        self.path = Path(path)
        self.metrics = metrics

    def on_fit_end(self, trainer: Trainer, result: FitResult) -> None:
        """Draw the picture."""
        history = result.history
        keys = self.metrics or list(dict.fromkeys(key for record in history for key in record if "/" in key))
        # A figure of its own, without pyplot: no global state, no display.
        figure = self._module.Figure(figsize=(10, 4), layout="constrained")
        loss, scores = figure.subplots(1, 2)
        loss.plot([r["epoch"] for r in history], [r["loss"] for r in history], color="black")
        loss.set(title="training loss", xlabel="epoch", ylabel="loss")
        for key in keys:
            points = [(r["epoch"], r[key]) for r in history if key in r]
            scores.plot(
                [x for x, _ in points], [y for _, y in points], label=key, marker="." if len(points) < 50 else ""
            )
        for best in result.best.values():
            scores.axvline(best.epoch, color="grey", linewidth=0.8, linestyle=":")
        scores.set(title=trainer.task.name, xlabel="epoch")
        if keys:
            scores.legend(fontsize="small")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(self.path, dpi=120)


def _write(path: Path, text: str) -> None:
    """Replace a file as a whole: a killed process leaves the old or the new text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    with open(temporary, "w", encoding="utf-8", newline="") as file:
        file.write(text)
    os.replace(temporary, path)


def _require(module: str, user: str, extra: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f"{user} needs {module}, which could not be imported ({error}); run: pip install 'graphmem[{extra}]'"
        ) from error
