"""Negatives that a publisher has drawn once for all."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from graphmem.data.stream import EventStream
from graphmem.data.stream_splits import StreamSplit
from graphmem.errors import ArgumentError

Negatives = Mapping[tuple[int, int, int], npt.NDArray[np.int64]]


class FixedNegatives:
    """Destinations that a publisher gives to rank each event of validation and test against.

    Events may have different numbers of them: rows are filled up with the event's own destination, which
    :meth:`absent` names.

    Args:
        split: the stream and its periods.
        valid: destinations of the validation events by (source, destination, time), as in py-tgb's files.
        test: those of the test events.

    Raises:
        ArgumentError: an event without negatives, or destinations that are no nodes.
    """

    kind = "publisher"

    def __init__(self, split: StreamSplit, valid: Negatives, test: Negatives) -> None:
        self._first = split.valid.first
        found = [
            row
            for name, events, negatives in (("valid", split.valid, valid), ("test", split.test, test))
            for row in _rows(name, events, negatives)
        ]
        lengths = np.array([row.size for row in found], dtype=np.int64)
        self._ptr = np.concatenate([[0], np.cumsum(lengths)])
        self._dst = np.concatenate(found) if found else np.empty(0, dtype=np.int64)
        if self._dst.size and not (0 <= self._dst.min() and self._dst.max() < split.stream.num_nodes):
            found_range = f"{self._dst.min()}..{self._dst.max()}"
            raise ArgumentError(f"valid, test: expected nodes in [0, {split.stream.num_nodes}), got {found_range}")
        self.k = int(lengths.max(initial=0))

    def draw(self, events: EventStream, epoch: int) -> tuple[None, Tensor]:
        """Negatives of consecutive events of validation or test: destinations int64 [B, k], of the events' sources."""
        place, there = self._places(events)
        own = events.dst.cpu().numpy()[:, None]
        dst = np.where(there, self._dst[np.where(there, place, 0)] if self._dst.size else 0, own)
        return None, torch.from_numpy(dst).to(events.device)

    def absent(self, events: EventStream) -> Tensor | None:
        """Entries of :meth:`draw` that stand for no negative, bool [B, k]; ``None`` where all stand for one."""
        there = self._places(events)[1]
        return None if there.all() else torch.from_numpy(~there).to(events.device)

    def _places(self, events: EventStream) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        first = events.first - self._first
        if first < 0 or first + len(events) >= self._ptr.size:
            raise ArgumentError(
                f"events: expected events of validation and test, {self._first} to {self._first + self._ptr.size - 2}, "
                f"got {events.first} to {events.first + len(events) - 1}"
            )
        ptr = self._ptr[first : first + len(events) + 1]
        column = np.arange(self.k)
        return ptr[:-1, None] + column, column < np.diff(ptr)[:, None]


def _rows(name: str, events: EventStream, negatives: Negatives) -> list[npt.NDArray[np.int64]]:
    keys = zip(events.src.tolist(), events.dst.tolist(), events.t.tolist(), strict=True)
    try:
        return [negatives[key] for key in keys]
    except KeyError as error:
        raise ArgumentError(
            f"{name}: expected negatives for every event, there are none for (source, destination, time) {error}; the "
            "split has to be the publisher's"
        ) from None
