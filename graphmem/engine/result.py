"""What training leaves behind: the history, the best epochs, and how they were chosen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from graphmem.errors import ArgumentError

Record = dict[str, float]


@dataclass(frozen=True)
class BestEpoch:
    """The epoch chosen by one monitored metric.

    Attributes:
        monitor: The metric, ``"<split>/<metric>"``.
        epoch: The epoch, from 1.
        value: The metric's value there.
        metrics: Every metric of that epoch, the test split's included.
    """

    monitor: str
    epoch: int
    value: float
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class FitResult:
    """The outcome of :meth:`graphmem.engine.Trainer.fit`.

    Attributes:
        history: One record an epoch: ``epoch``, ``loss``, ``train_seconds`` and, where it was evaluated,
            ``eval_seconds`` and ``"<split>/<metric>"``. Resumed training continues the history.
        best: The best epoch of every monitored metric; empty before the first evaluation.
        protocol: The task's protocol; belongs to every number in ``history``.
        interrupted: Ctrl-C ended training; continue with ``fit(resume=True)``.
        stopped_early: Patience or a callback ended training.
    """

    history: Sequence[Record]
    best: Mapping[str, BestEpoch]
    protocol: Mapping[str, Any] = field(default_factory=dict)
    interrupted: bool = False
    stopped_early: bool = False

    @property
    def epochs(self) -> int:
        """Epochs that were finished."""
        return len(self.history)

    @property
    def train_seconds(self) -> float:
        """Mean seconds of training an epoch; NaN before the first."""
        return _mean(record["train_seconds"] for record in self.history)

    @property
    def eval_seconds(self) -> float:
        """Mean seconds of a round of evaluation; NaN before the first."""
        return _mean(record["eval_seconds"] for record in self.history if "eval_seconds" in record)


class BestTracker:
    """Selects epochs on monitored metrics: the first best one wins, later ones must be strictly better.

    It is a function of the history alone, so that a checkpoint needs to keep nothing else.

    Args:
        monitors: Keys ``"<split>/<metric>"``; the first decides about the best weights and patience.
        mode: ``"max"`` or ``"min"``.
        history: Records to start from.
    """

    def __init__(self, monitors: Sequence[str], mode: str = "max", history: Iterable[Record] = ()) -> None:
        self.monitors, self.mode = tuple(monitors), mode
        self.best: dict[str, BestEpoch] = {}
        self.stale = 0  # evaluations since the first monitor last improved
        for record in history:
            self.update(record)

    def update(self, record: Record) -> bool:
        """Take an epoch's record; return whether the first monitored metric improved.

        A record of an epoch without evaluation changes nothing. NaN is never an improvement.

        Raises:
            ArgumentError: If an evaluated epoch lacks a monitored metric.
        """
        if not any("/" in key for key in record):
            return False
        improved = {key: self._take(key, record) for key in self.monitors}
        first = improved[self.monitors[0]]
        self.stale = 0 if first else self.stale + 1
        return first

    def _take(self, key: str, record: Record) -> bool:
        if key not in record:
            found = sorted(name for name in record if "/" in name)
            raise ArgumentError(f"monitor: the evaluation gave no {key!r}, only {found}")
        value, best = record[key], self.best.get(key)
        sign = 1 if self.mode == "max" else -1
        if value != value or (best is not None and not sign * value > sign * best.value):
            return False
        self.best[key] = BestEpoch(key, int(record["epoch"]), value, {k: v for k, v in record.items() if "/" in k})
        return True


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return sum(found) / len(found) if found else float("nan")
