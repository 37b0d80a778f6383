"""Link prediction for nodes that neither training nor validation knows: mode `i` of CAW-N and NAT."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from graphmem.data.stream import EventStream
from graphmem.data.stream_splits import StreamSplit
from graphmem.engine.event_task import TemporalLinkTask
from graphmem.errors import ArgumentError

Self = TypeVar("Self", bound="ReplayedLinkTask")


class ReplayedLinkTask(TemporalLinkTask):
    """Link prediction whose test begins anew: the model forgets, sees ``split.replay``'s past, and is then asked.

    Training and validation are those of :class:`TemporalLinkTask` on the events without the hidden nodes. The past is
    shown in batches of ``eval_batch_size``, those of training too, as the releases do; negatives of the test are those
    of the replayed split.

    Args:
        split: of protocol "inductive".
        options: of :class:`TemporalLinkTask`.

    Raises:
        ArgumentError: a split without ``replay``, or as there.
    """

    REPLAYS = True

    def __init__(self, split: StreamSplit, **options: Any) -> None:
        if split.replay is None:
            raise ArgumentError(f'split: expected one with replay (protocol="inductive"), got {split!r}')
        super().__init__(split, **options)
        self.replayed = TemporalLinkTask(split.replay, **{**options, "batch_size": self.eval_batch_size})

    def to(self: Self, device: torch.device | str) -> Self:
        """Move the data to a device, in place."""
        self.replayed.to(device)
        return super().to(device)

    def evaluate(self, model: nn.Module, split: str) -> dict[str, float]:
        """Metrics of the validation period, or of the test period after the replay."""
        if split != "test":
            return super().evaluate(model, split)
        self.replayed.reset(model)
        return self.replayed.evaluate(model, split)

    def scored(
        self, model: nn.Module, split: str
    ) -> Iterator[tuple[EventStream, Tensor, dict[str, Tensor], Tensor | None]]:
        """The scores behind :meth:`evaluate`."""
        if split != "test":
            return super().scored(model, split)
        self.replayed.reset(model)
        return self.replayed.scored(model, split)


__all__ = ["ReplayedLinkTask"]
