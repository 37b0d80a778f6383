"""The training loop: predict, learn, update, evaluate, remember."""

from __future__ import annotations

import logging
import math
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from graphmem.engine.averaging import WeightAverage
from graphmem.engine.callbacks import Callback, ProgressBar
from graphmem.engine.checkpoint import load_checkpoint, make_room, plain_copy, save_checkpoint
from graphmem.engine.evaluation import evaluate
from graphmem.engine.interrupt import InterruptGuard
from graphmem.engine.options import ClipNorm, Monitor, check_clip, check_count, check_monitors
from graphmem.engine.result import BestTracker, FitResult, Record
from graphmem.engine.seeding import restore_rng_state, rng_state, seed_everything
from graphmem.engine.stepping import step_optimizer
from graphmem.engine.task import Task
from graphmem.errors import ArgumentError, CheckpointError, GraphMemError
from graphmem.nn.state import detach_state

logger = logging.getLogger("graphmem.engine")

CHECKPOINT_NAME = "last.pt"


class NonFiniteLossError(GraphMemError, FloatingPointError):
    """The loss is NaN or infinite; the weights are still those before the step."""


class _StopRequested(Exception):
    """Ctrl-C arrived during an evaluation."""


class Trainer:
    """Trains a model on a :class:`~graphmem.engine.task.Task`.

    Every step is ``loss -> backward -> clip -> task.update -> detach -> optimizer step``: the model predicts a batch
    before its state may see it, and its state is written with the weights that predicted. Training evaluates without
    leaving a trace (state, modes and random generators are restored), selects epochs on validation metrics only, and
    can be continued from any step with the same bits on the CPU (with the same number of threads), provided the task
    keeps its contract (:func:`~graphmem.engine.conformance.check_task` tests it).

    Args:
        model: The module; put it on its device first.
        task: Data, loss and evaluation.
        optimizer: Over the model's parameters. Anything with ``zero_grad``, ``step``, ``state_dict``,
            ``load_state_dict`` and ``param_groups`` will do.
        epochs: How many epochs to train in all, those before a resumption included.
        monitor: ``(split, metric)`` to select epochs by, or several; the first also decides about the best weights and
            patience. Never the test split.
        mode: ``"max"`` or ``"min"``: which way the monitored metrics are better.
        eval_every: Evaluate after every so many epochs, and after the last.
        eval_splits: What to evaluate, in order of time.
        clip_norm: Largest gradient norm: of all parameters together, or a sequence with one entry (a norm or None) for
            each parameter group of the optimizer, clipped apart.
        patience: Stop after so many evaluations in a row without improvement of the first monitored metric.
        scheduler: A learning rate scheduler, stepped after every epoch.
        average: Decay per step of an average of the weights that is evaluated, selected and kept in their place (see
            :class:`~graphmem.engine.averaging.WeightAverage`); None for the weights themselves.
        callbacks: Listeners, called in this order.
        checkpoint_dir: Where ``last.pt`` is kept; None for no checkpoints. One of an earlier run is renamed to
            ``previous.pt`` when training begins anew.
        checkpoint_every_steps: Write it after every so many steps, and after every epoch.
        checkpoint_every_epochs: Write it after every so many epochs, and after the last; ignored if
            ``checkpoint_every_steps`` is set.
        seed: Passed to :func:`~graphmem.engine.seeding.seed_everything` when ``fit`` starts from the beginning; None
            leaves the generators as they are.
        config: Plain values describing the run; kept in the checkpoint, and a difference on resumption is logged.
        progress: Show a progress bar: True, False, or None for "if the output is a terminal".

    Raises:
        ArgumentError: If an argument is out of range; the message names it.
    """

    interrupt_grace = 0.0

    def __init__(
        self,
        model: nn.Module,
        task: Task,
        optimizer: torch.optim.Optimizer,
        *,
        epochs: int,
        monitor: Monitor | Sequence[Monitor] = ("valid", "hits@100"),
        mode: str = "max",
        eval_every: int = 1,
        eval_splits: Sequence[str] = ("valid", "test"),
        clip_norm: ClipNorm = None,
        patience: int | None = None,
        scheduler: torch.optim.lr_scheduler.LRScheduler | None = None,
        average: float | None = None,
        callbacks: Sequence[Callback] = (),
        checkpoint_dir: str | Path | None = None,
        checkpoint_every_steps: int | None = None,
        checkpoint_every_epochs: int = 1,
        seed: int | None = None,
        config: Mapping[str, Any] | None = None,
        progress: bool | None = None,
    ) -> None:
        self.model, self.task, self.optimizer, self.scheduler = model, task, optimizer, scheduler
        self.epochs = check_count("epochs", epochs)
        self.eval_every = check_count("eval_every", eval_every)
        self.eval_splits = tuple(eval_splits)
        self.monitors = check_monitors(monitor, mode, self.eval_splits)
        self.mode = mode
        self.clip_norm = check_clip(clip_norm, len(optimizer.param_groups))
        self.patience = None if patience is None else check_count("patience", patience)
        self.average = average
        self.checkpoint_dir = None if checkpoint_dir is None else Path(checkpoint_dir)
        every = checkpoint_every_steps
        self.checkpoint_every_steps = None if every is None else check_count("checkpoint_every_steps", every)
        self.checkpoint_every_epochs = check_count("checkpoint_every_epochs", checkpoint_every_epochs)
        self.seed = seed
        self.config: dict[str, Any] = plain_copy(dict(config or {}), "config")
        bar = [] if progress is False else [ProgressBar(disable=None if progress is None else False)]
        self.callbacks: tuple[Callback, ...] = (*callbacks, *bar)
        self._begin()

    def _begin(self) -> None:
        """Put the loop at the first step of the first epoch."""
        self.epoch, self.batch_index, self.step = 1, 0, 0
        self.history: list[Record] = []
        self.best_state: dict[str, Any] | None = None
        self._tracker = BestTracker(self.monitors, self.mode)
        self._average = WeightAverage(self.model, self.average)
        self._loss_sum, self._loss_items, self._seconds = 0.0, 0, 0.0
        self._stop = False

    @property
    def checkpoint_path(self) -> Path | None:
        """The checkpoint's file, or None."""
        return None if self.checkpoint_dir is None else self.checkpoint_dir / CHECKPOINT_NAME

    def stop(self) -> None:
        """Ask to end training after the current epoch (for callbacks)."""
        self._stop = True

    def fit(self, resume: bool = False) -> FitResult:
        """Train.

        The first Ctrl-C ends training after the current step with a checkpoint and returns a result with
        ``interrupted=True``; the second raises ``KeyboardInterrupt`` at once, and the last checkpoint stays as it was.
        The model is left with the weights of the last step; :meth:`load_best` loads the best ones.

        Args:
            resume: Continue from the checkpoint, or begin if there is none yet. The model, task, optimizer and
                scheduler must be built as they were for the first run.

        Raises:
            ArgumentError: If ``resume`` is set without a ``checkpoint_dir``, or the task gives no batches.
            CheckpointError: If the checkpoint is damaged or belongs to another run.
            NonFiniteLossError: If a loss is NaN or infinite.
        """
        saved = self._find_checkpoint(resume)
        self._begin()
        if saved is not None:
            self._load(saved)
        elif self.seed is not None:
            seed_everything(self.seed)
        for callback in self.callbacks:
            callback.on_fit_start(self)
        if saved is not None:
            restore_rng_state(saved["rng"])  # last: building iterators or bars must not move the generators
        with InterruptGuard(self.interrupt_grace) as guard:
            interrupted = False
            while self.epoch <= self.epochs and not self._ended() and not interrupted:
                self._run_epoch(guard)
                interrupted = self._interrupted(guard) and self.epoch <= self.epochs and not self._ended()
            if interrupted:
                self.save()
        result = FitResult(
            history=list(self.history),
            best=dict(self._tracker.best),
            protocol=dict(self.task.protocol),
            interrupted=interrupted,
            stopped_early=self.epoch <= self.epochs and not interrupted,
        )
        for callback in self.callbacks:
            callback.on_fit_end(self, result)
        return result

    def load_best(self) -> None:
        """Load the weights and state of the best epoch of the first monitored metric into the model.

        Raises:
            ArgumentError: If no epoch has been evaluated yet.
        """
        if self.best_state is None:
            raise ArgumentError("load_best: no epoch has been evaluated yet; call fit first")
        self.model.load_state_dict(self.best_state)

    def evaluate(self, splits: Sequence[str] | None = None) -> Record:
        """Evaluate the model as it is; see :func:`~graphmem.engine.evaluation.evaluate`."""
        return evaluate(self.model, self.task, self.eval_splits if splits is None else splits)

    def train_step(self, batch: Any) -> float:
        """Learn from a batch and return its loss.

        Methods that learn otherwise (layer by layer, with a projected gradient) override this, and call
        :meth:`advance` once, behind the last loss and before the weights change.

        Raises:
            NonFiniteLossError: If the loss is NaN or infinite; nothing was changed then.
        """
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.task.loss(self.model, batch)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise NonFiniteLossError(
                f"the loss must be finite, got {value} in epoch {self.epoch}, batch {self.batch_index} (from 0)"
            )
        loss.backward()  # type: ignore[no-untyped-call]
        self._clip()
        self.advance(batch)
        step_optimizer(self.optimizer)
        return value

    def advance(self, batch: Any) -> None:
        """Show the model's state a batch."""
        with torch.no_grad():
            self.task.update(self.model, batch)
        detach_state(self.model)

    def _clip(self) -> None:
        groups = self.optimizer.param_groups
        if isinstance(self.clip_norm, float):
            nn.utils.clip_grad_norm_([p for group in groups for p in group["params"]], self.clip_norm)
        elif self.clip_norm is not None:
            for group, norm in zip(groups, self.clip_norm, strict=True):
                if norm is not None:
                    nn.utils.clip_grad_norm_(group["params"], norm)

    def _run_epoch(self, guard: InterruptGuard) -> None:
        """Run an epoch from its current batch to its end, or to an interruption."""
        start = time.perf_counter()
        before = self._seconds
        self.model.train()
        if self.batch_index == 0:
            self.task.reset(self.model)
        for batch in self.task.batches("train", self.epoch, start=self.batch_index):
            value = self.train_step(batch)
            self._average.update()
            items = self.task.num_items(batch)
            self._loss_sum += value * items
            self._loss_items += items
            self.batch_index += 1
            self.step += 1
            self._seconds = before + time.perf_counter() - start
            for callback in self.callbacks:
                callback.on_step_end(self, value)
            if self._interrupted(guard):
                return
            if self.checkpoint_every_steps and self.step % self.checkpoint_every_steps == 0:
                self.save()
        self._synchronize()
        self._seconds = before + time.perf_counter() - start
        self._finish_epoch(guard)

    def _finish_epoch(self, guard: InterruptGuard) -> None:
        """Evaluate, record and move on to the next epoch."""
        if self._loss_items == 0:
            raise ArgumentError(f"task {self.task.name!r} gave no training batches in epoch {self.epoch}")
        record: Record = {
            "epoch": self.epoch,
            "loss": self._loss_sum / self._loss_items,
            "train_seconds": self._seconds,
        }
        if self.epoch % self.eval_every == 0 or self.epoch == self.epochs:
            start = time.perf_counter()
            try:
                with self._average.applied():
                    metrics = evaluate(
                        self.model, self.task, self.eval_splits, before_split=lambda split: self._check_interrupt(guard)
                    )
                    self._synchronize()
                    record.update(eval_seconds=time.perf_counter() - start, **metrics)
                    if self._tracker.update(record):
                        self.best_state = plain_copy(self.model.state_dict(), "model")
            except _StopRequested:
                return  # resumption stands after the last step of the epoch, and evaluates again
        self.history.append(record)
        if self.scheduler is not None:
            with warnings.catch_warnings():
                # torch cannot see the optimizer's steps before a resumption and believes the order to be wrong
                warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step")
                self.scheduler.step()
        done = self.epoch
        self.epoch, self.batch_index = done + 1, 0
        self._loss_sum, self._loss_items, self._seconds = 0.0, 0, 0.0
        for callback in self.callbacks:
            callback.on_epoch_end(self, record)
        last = done == self.epochs or self._ended()
        if last or self.checkpoint_every_steps or done % self.checkpoint_every_epochs == 0:
            self.save()

    def _ended(self) -> bool:
        return self._stop or (self.patience is not None and self._tracker.stale >= self.patience)

    def _interrupted(self, guard: InterruptGuard) -> bool:
        """Whether training is to end; read between steps only."""
        return guard.requested

    def _check_interrupt(self, guard: InterruptGuard) -> None:
        if self._interrupted(guard):
            raise _StopRequested

    def _synchronize(self) -> None:
        parameter = next(self.model.parameters(), None)
        if parameter is not None and parameter.device.type != "cpu":
            torch.accelerator.synchronize(parameter.device)

    def _identity(self) -> dict[str, Any]:
        """Return what must agree between a checkpoint and the run that resumes it."""
        return {
            "task": self.task.name,
            "protocol": dict(self.task.protocol),
            "seed": self.seed,
            "monitors": list(self.monitors),
            "mode": self.mode,
        }

    def save(self) -> None:
        """Write the checkpoint, if there is a ``checkpoint_dir``. Only between steps; the loop does it by itself."""
        if self.checkpoint_path is None:
            return
        payload = {
            "identity": self._identity(),
            "config": self.config,
            "position": {
                "epoch": self.epoch,
                "batch_index": self.batch_index,
                "step": self.step,
                "loss_sum": self._loss_sum,
                "loss_items": self._loss_items,
                "seconds": self._seconds,
                "stop": self._stop,
            },
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": None if self.scheduler is None else self.scheduler.state_dict(),
            "average": self._average.state_dict(),
            "task": self.task.state_dict(),
            "rng": rng_state(),
            "history": self.history,
            "best_state": self.best_state,
        }
        save_checkpoint(self.checkpoint_path, payload)

    def _find_checkpoint(self, resume: bool) -> dict[str, Any] | None:
        path = self.checkpoint_path
        if not resume:
            if path is not None:
                make_room(path)
            return None
        if path is None:
            raise ArgumentError("fit: resume=True needs a checkpoint_dir, got None")
        if not path.exists():
            logger.info("no checkpoint at %s yet, training begins with epoch 1", path)
            return None
        return load_checkpoint(path)

    def _load(self, saved: Mapping[str, Any]) -> None:
        """Take everything but the random generators from a checkpoint."""
        path = self.checkpoint_path
        for key, mine in plain_copy(self._identity()).items():
            found = saved.get("identity", {}).get(key)
            if found != mine:
                raise CheckpointError(
                    f"checkpoint {path} belongs to another run: its {key} is {found!r}, here {mine!r}"
                )
        for key in sorted(self.config.keys() | saved["config"].keys()):
            if self.config.get(key) != saved["config"].get(key):
                logger.warning(
                    "config %r was %r in the checkpoint, is %r now", key, saved["config"].get(key), self.config.get(key)
                )
        try:
            self.model.load_state_dict(saved["model"])
            self.optimizer.load_state_dict(saved["optimizer"])
            if self.scheduler is not None:
                self.scheduler.load_state_dict(saved["scheduler"])
            self.task.load_state_dict(saved["task"])
            self._average.load_state_dict(saved["average"])
        except (RuntimeError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"checkpoint {path} does not fit this model, optimizer or task: {error}") from error
        position = saved["position"]
        self.epoch, self.batch_index, self.step = position["epoch"], position["batch_index"], position["step"]
        self._loss_sum, self._loss_items = position["loss_sum"], position["loss_items"]
        self._seconds, self._stop = position["seconds"], position["stop"]
        self.history, self.best_state = list(saved["history"]), saved["best_state"]
        self._tracker = BestTracker(self.monitors, self.mode, self.history)
