"""Checks that a Task keeps the contract on which resumption and leak-free evaluation rest."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from graphmem.engine.checkpoint import plain_copy
from graphmem.engine.evaluation import evaluate, evaluating
from graphmem.engine.seeding import preserve_rng, rng_state
from graphmem.engine.task import Task
from graphmem.errors import ArgumentError, GraphMemError
from graphmem.nn.state import restore_state, snapshot_state


class TaskContractError(GraphMemError, AssertionError):
    """A Task breaks a rule of :class:`~graphmem.engine.task.Task`; the message says which."""


def check_task(
    task: Task, model: nn.Module, *, epochs: tuple[int, ...] = (1, 2), splits: tuple[str, ...] = ("valid", "test")
) -> None:
    """Check a task with a model; for tests of new tasks.

    Passes over the training split of each of ``epochs`` a few times and evaluates ``splits`` twice. The model's
    weights, state and gradients and the random generators are left as they were.

    Args:
        task: The task.
        model: A model that fits it.
        epochs: Epochs to look at.
        splits: Splits to evaluate.

    Raises:
        TaskContractError: If batches are not a function of (split, epoch, start), ``num_batches`` is wrong, batches or
            evaluation draw from global generators, the loss is not a differentiable scalar or advances the state,
            evaluation is not repeatable, or protocol or task state cannot be stored.
    """
    state = snapshot_state(model)
    try:
        with preserve_rng():
            _check_values(task)
            for epoch in epochs:
                _check_batches(task, epoch)
            task.reset(model)
            _check_loss(task, model, epochs[0])
            _check_evaluation(task, model, splits)
    finally:
        restore_state(model, state)


def _require(condition: bool, task: Task, message: str) -> None:
    if not condition:
        raise TaskContractError(f"{type(task).__name__}: {message}")


def _check_values(task: Task) -> None:
    for name, value in (("protocol", dict(task.protocol)), ("state_dict()", task.state_dict())):
        try:
            plain_copy(value, name)
        except ArgumentError as error:
            raise TaskContractError(f"{type(task).__name__}: {error}") from error


def _check_batches(task: Task, epoch: int) -> None:
    before = rng_state()
    first = list(task.batches("train", epoch))
    _require(_same(before, rng_state()), task, "batches must not draw from the global random generators")
    _require(len(first) > 0, task, f"batches('train', {epoch}) must give at least one batch")
    count = task.num_batches("train", epoch)
    _require(
        count == len(first), task, f"num_batches('train', {epoch}) must be the {len(first)} batches given, got {count}"
    )
    # Another state of the global generators must make no difference.
    torch.rand(1)
    for start in sorted({0, 1, len(first) // 2, len(first) - 1, len(first)}):
        rest = list(task.batches("train", epoch, start=start))
        _require(
            len(rest) == len(first) - start and _same(first[start:], rest),
            task,
            f"batches('train', {epoch}, start={start}) must give batches {start} to {len(first) - 1} of a whole pass",
        )


def _check_loss(task: Task, model: nn.Module, epoch: int) -> None:
    for index, batch in enumerate(islice(task.batches("train", epoch), 2)):
        before = snapshot_state(model)
        with torch.enable_grad():
            loss = task.loss(model, batch)
        _require(
            isinstance(loss, Tensor) and loss.dim() == 0 and loss.requires_grad,
            task,
            f"loss must return a scalar tensor with gradient, got {_describe(loss)}",
        )
        _require(
            _same(before, snapshot_state(model)),
            task,
            f"loss must read the state and not advance it (batch {index}); that is for update",
        )
        with torch.no_grad():
            task.update(model, batch)


def _check_evaluation(task: Task, model: nn.Module, splits: tuple[str, ...]) -> None:
    first, second = evaluate(model, task, splits), evaluate(model, task, splits)
    _require(
        _same(first, second),
        task,
        f"evaluate must give the same numbers for the same model, got {first}, then {second}",
    )
    with evaluating(model), task.evaluation(model):
        for split in splits:
            before = rng_state()
            task.evaluate(model, split)
            _require(
                _same(before, rng_state()), task, f"evaluate({split!r}) must not draw from the global random generators"
            )


def _describe(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"shape {list(value.shape)}, requires_grad={value.requires_grad}"
    return type(value).__name__


def _leaves(value: Any) -> Iterator[Any]:
    """Yield the tensors and values of a batch, with what tells two structures apart."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        yield tuple(value)
        for item in value.values():
            yield from _leaves(item)
    elif isinstance(value, (list, tuple)):
        yield len(value)
        for item in value:
            yield from _leaves(item)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield from _leaves(getattr(value, field.name))
    elif hasattr(value, "to_dict"):  # PyG's Data and its relatives
        yield from _leaves(value.to_dict())
    else:
        yield value


def _same(a: Any, b: Any) -> bool:
    left, right = list(_leaves(a)), list(_leaves(b))
    return len(left) == len(right) and all(_equal(x, y) for x, y in zip(left, right, strict=True))


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and torch.equal(a, b)
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        return False
    return bool(a == b or (a != a and b != b))  # NaN is the same as NaN here
