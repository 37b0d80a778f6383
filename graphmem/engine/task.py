"""The adapter between data and methods."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from torch import Tensor, nn

from graphmem.nn.state import reset_state


class Task(ABC):
    """What a model is trained and judged on; the engine sees a Task and a module, never a data set.

    One epoch runs in this order, and no other::

        task.reset(model)                               # start of the epoch: state as before the first event
        for batch in task.batches("train", epoch):
            loss = task.loss(model, batch)              # predict: the state holds what came before the batch
            loss.backward()
            task.update(model, batch)                   # only now may the state see the batch
            optimizer.step()

    *Predict, then update*: ``update`` comes after the loss, so a model cannot see the event it predicts, and before the
    step, so that state is written with the weights that predicted. A Task keeps its side of this by not writing state
    in :meth:`loss` from the batch's own events.

    Splits are named by strings, usually ``"train"``, ``"valid"`` and ``"test"``. Epochs count from 1.

    Randomness: :meth:`batches` is a function of the task's seed and the epoch alone (shuffling, negatives), drawn from
    generators of its own or from counters, never from torch's global generator. That is what lets training go on in
    the middle of an epoch with the same bits. :meth:`loss` may use the global generator (dropout); its state is part of
    every checkpoint. :meth:`evaluate` is deterministic.
    """

    name: str = "task"

    @property
    @abstractmethod
    def protocol(self) -> Mapping[str, str | int | float | bool]:
        """How the numbers of :meth:`evaluate` come about; travels with every result.

        For instance the data set and split, the negatives, the message-passing edges (or, in time, the visibility) at
        evaluation. Plain values only.
        """

    @abstractmethod
    def num_batches(self, split: str, epoch: int) -> int:
        """Return the number of batches of :meth:`batches` with ``start=0``."""

    @abstractmethod
    def batches(self, split: str, epoch: int, start: int = 0) -> Iterator[Any]:
        """Yield the batches of an epoch from number ``start`` on.

        The batches from ``start`` on are the same, in the same order, as those of a pass that started at 0.

        Args:
            split: Name of the split.
            epoch: Number of the epoch, from 1.
            start: Batches to skip (cheaply, where possible).
        """

    @abstractmethod
    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        """Return the loss of a batch, a scalar with gradient. The state is read, not advanced."""

    @abstractmethod
    def evaluate(self, model: nn.Module, split: str) -> dict[str, float]:
        """Return ``{metric: value}`` of a split.

        Called with the model in evaluation mode and without gradients. Deterministic: a function of the model (weights
        and state) and the split. It may advance the model's state: in one round of evaluation the engine asks for the
        splits in order of time, lets the state run on from one to the next, and restores it after the last.
        """

    def evaluation(self, model: nn.Module) -> AbstractContextManager[None]:
        """Return a context that surrounds one round of :meth:`evaluate` over several splits with the same weights.

        For work that the splits share, such as encoding a graph once. Default: nothing.
        """
        return nullcontext()

    def reset(self, model: nn.Module) -> None:
        """Prepare the model for a pass over the training split from its beginning.

        The default resets every :class:`~graphmem.nn.state.StateModule`; a stream that goes on overrides this.
        """
        reset_state(model)

    def update(self, model: nn.Module, batch: Any) -> None:  # noqa: B027 - a static task has nothing to do
        """Advance the model's state by a batch, after the optimiser's step; without gradients. Default: nothing."""

    def num_items(self, batch: Any) -> int:
        """How much a batch counts in the mean loss of an epoch. Default: every batch counts the same."""
        return 1

    def state_dict(self) -> dict[str, Any]:
        """Return what the task itself remembers, as tensors and plain values; part of every checkpoint."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:  # noqa: B027 - nothing to load by default
        """Take back what :meth:`state_dict` returned."""
