"""Evaluating a model on a task without leaving a trace."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import nn

from graphmem.engine.seeding import preserve_rng
from graphmem.engine.task import Task
from graphmem.errors import ArgumentError
from graphmem.nn.state import restore_state, snapshot_state


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Switch to evaluation mode; afterwards every module's mode, the model's state and the RNGs are as before."""
    modes = [(module, module.training) for module in model.modules()]
    state = snapshot_state(model)
    model.eval()
    try:
        with torch.no_grad(), preserve_rng():
            yield
    finally:
        restore_state(model, state)
        for module, training in modes:
            module.training = training


def evaluate(
    model: nn.Module,
    task: Task,
    splits: Sequence[str] = ("valid", "test"),
    *,
    before_split: Callable[[str], None] | None = None,
) -> dict[str, float]:
    """Evaluate ``model`` on splits of ``task``, in the order given, which is the order of time.

    The state runs on from one split to the next (a test period continues after the validation period) and is restored
    at the end, as are the modes of the modules and the global random generators.

    Args:
        model: The model.
        task: The task.
        splits: Names of splits.
        before_split: Called with each split's name before it; may raise to end the evaluation.

    Returns:
        ``{"<split>/<metric>": value}``.

    Raises:
        ArgumentError: If the task returns something other than a number.
    """
    record: dict[str, float] = {}
    with evaluating(model), task.evaluation(model):
        for split in splits:
            if before_split is not None:
                before_split(split)
            for metric, value in task.evaluate(model, split).items():
                try:
                    record[f"{split}/{metric}"] = float(value)
                except (TypeError, ValueError) as error:
                    raise ArgumentError(
                        f"{type(task).__name__}.evaluate({split!r}) must return numbers, "
                        f"got {type(value).__name__} for {metric!r}"
                    ) from error
    return record


def plain_names(record: Mapping[str, float]) -> list[str]:
    """Metrics of all events together, against the first kind of negatives."""
    names = [name.partition("/")[2] for name in record if name.startswith("test/")]
    return [name for name in names if "." not in name]
