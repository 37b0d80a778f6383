"""What every task on a stream of events has in common: periods, cuts, and the order of predicting and showing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from graphmem.data.event_batches import batch_bounds
from graphmem.data.stream import EventStream
from graphmem.data.stream_splits import StreamSplit
from graphmem.engine.options import check_count
from graphmem.engine.task import Task
from graphmem.errors import ArgumentError, ArgumentTypeError
from graphmem.models.temporal import TemporalLinkModel
from graphmem.ops import _check

Self = TypeVar("Self", bound="StreamTask")

GROUPS = ("transductive", "new", "new_old", "new_new")
"""Of events that are also reported apart, see :func:`event_groups`."""


class StreamTask(Task):
    """A stream in three periods, each cut into batches that are predicted from one state and then shown to the model.

    Args:
        split: the stream and its three periods.
        batch_size: events that are predicted from the same state.
        eval_batch_size: the same for evaluations; ``batch_size`` by default.
        keep_ties: a batch goes on until the time changes, so that equal times stay together.
        visibility: what a prediction of the evaluation sees: "batch", every event before its batch; "event", every
            event before its own time; a subclass may know more.
        name: of the stream, for the records.

    Raises:
        ArgumentError: an unknown name, an empty period, or a batch size that is not positive.
    """

    VISIBILITY: tuple[str, ...] = ("batch", "event")
    REPLAYS = False
    """Whether the task knows what to do with ``split.replay``."""

    def __init__(
        self,
        split: StreamSplit,
        *,
        batch_size: int,
        eval_batch_size: int | None = None,
        keep_ties: bool = False,
        visibility: str = "batch",
        name: str | None = None,
    ) -> None:
        if split.replay is not None and not self.REPLAYS:
            raise ArgumentError(
                f"split: {split.protocol!r} shows the past anew before the test, which {type(self).__name__} does not; "
                "take graphmem.engine.replayed_task.ReplayedLinkTask"
            )
        self.split, self.keep_ties = split, keep_ties
        self.visibility = _check.choice("visibility", visibility, self.VISIBILITY)
        self.batch_size = check_count("batch_size", batch_size)
        given = batch_size if eval_batch_size is None else eval_batch_size
        self.eval_batch_size = check_count("eval_batch_size", given)
        self.name = split.stream.name if name is None else name
        for period in ("train", "valid", "test"):
            if len(getattr(split, period)) == 0:
                raise ArgumentError(f"split: expected events in every period, got none for {period!r}")

    @property
    def protocol(self) -> Mapping[str, str | int | float | bool]:
        """What travels with every number."""
        return {
            "data": self.name,
            "split": self.split.protocol,
            "split_seed": -1 if self.split.seed is None else self.split.seed,
            "batch_size": self.batch_size,
            **({} if self.eval_batch_size == self.batch_size else {"eval_batch_size": self.eval_batch_size}),
            **({"keep_ties": True} if self.keep_ties else {}),
            "visibility": self.visibility,
        }

    def to(self: Self, device: torch.device | str) -> Self:
        """Move the data to a device, in place."""
        self.split = self.split.to(device)
        return self

    def num_batches(self, split: str, epoch: int) -> int:
        """Number of batches of an epoch."""
        return self._bounds(self._train(split)).numel() - 1

    def num_items(self, batch: Any) -> int:
        """Events of a batch."""
        return len(batch.events)

    def reset(self, model: nn.Module) -> None:
        """Forget everything, and begin with the first event."""
        super().reset(model)
        temporal_model(model).prepare(self.split.stream)

    def update(self, model: nn.Module, batch: Any) -> None:
        """Show the model the events that it has predicted."""
        temporal_model(model).update(batch.events)

    def catch_up(self, model: TemporalLinkModel, first: int) -> None:
        """Show the model the events before ``first`` that it has not seen.

        Args:
            model: is shown them in batches as training and evaluation cut them.
            first: number of the first event of a period, or one more than that of the last event.

        Raises:
            ArgumentError: the model has seen event ``first``.
        """
        seen = int(model.position)
        if seen > first:
            raise ArgumentError(
                f"model: its state is that behind event {seen - 1}, from which event {first} cannot be predicted; "
                "restore an earlier state, or reset it"
            )
        # Cut as in training and evaluation: what a memory holds depends on it.
        split = self.split
        for events, windows in (
            (split.train, self._batches),
            (split.valid, self._windows),
            (split.test, self._windows),
        ):
            if events.first < first:
                for batch in windows(events):
                    unseen = batch[max(seen - batch.first, 0) :]
                    if len(unseen):
                        model.update(unseen)

    def _train(self, split: str) -> EventStream:
        if split != "train":
            raise ArgumentError(f"split: this task trains on 'train', got {split!r}")
        return self.split.train

    def _period(self, split: str) -> EventStream:
        period: EventStream = getattr(self.split, _check.choice("split", split, ("valid", "test")))
        return period

    def _bounds(self, events: EventStream) -> Tensor:
        return batch_bounds(events, size=self.batch_size, keep_ties=self.keep_ties)

    def _batches(self, events: EventStream, start: int = 0) -> Iterator[EventStream]:
        """The batches of a period from number ``start`` on."""
        yield from cut(events, self._bounds(events)[start:])

    def _windows(self, events: EventStream) -> Iterator[EventStream]:
        """Events that are predicted from one state in evaluation."""
        if self.visibility == "event":
            return cut(events, batch_bounds(events))
        return cut(events, batch_bounds(events, size=self.eval_batch_size, keep_ties=self.keep_ties))


def event_groups(split: StreamSplit, events: EventStream, names: tuple[str, ...]) -> dict[str, Tensor]:
    """Which events belong to which group, bool [E]: all of them under ``""``, then those of each name.

    "transductive": both ends in a training event; "new": at least one end that is in none (the inductive setting);
    "new_old", "new_new": just one, and both.

    Raises:
        ArgumentError: an unknown name.
    """
    for name in names:
        _check.choice("groups", name, GROUPS)
    new = split.new_nodes[events.src].long() + split.new_nodes[events.dst].long()
    masks = {"transductive": new == 0, "new": new > 0, "new_old": new == 1, "new_new": new == 2}
    return {"": torch.ones_like(new, dtype=torch.bool), **{name: masks[name] for name in names}}


def temporal_model(model: nn.Module) -> TemporalLinkModel:
    """The model of a task on a stream.

    Raises:
        ArgumentTypeError: another module.
    """
    if not isinstance(model, TemporalLinkModel):
        raise ArgumentTypeError(f"model: expected a TemporalLinkModel (score, update), got {type(model).__name__}")
    return model


def cut(events: EventStream, bounds: Tensor) -> Iterator[EventStream]:
    """The parts of a stream between offsets int64 [B + 1]."""
    ends = bounds.tolist()
    for low, high in zip(ends[:-1], ends[1:], strict=True):
        yield events[low:high]


__all__ = ["GROUPS", "StreamTask", "cut", "event_groups", "temporal_model"]
