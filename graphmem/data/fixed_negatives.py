"""Negatives that a publisher has drawn once for all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from graphmem.data.negative_table import NegativeTable, key_columns
from graphmem.data.stream import EventStream
from graphmem.data.stream_splits import StreamSplit
from graphmem.errors import ArgumentError

Negatives = Mapping[tuple[int, int, int], npt.NDArray[np.int64]]


class FixedNegatives:
    """Destinations that a publisher gives to rank each event of validation and test against.

    Events may have different numbers of them: rows are filled up with the event's own destination, which
    :meth:`absent` names.

    An event takes 12 bytes and each of its negatives 4 (8 where an id does not fit into int32): 92 bytes with the 20
    negatives of tgbl-flight. Events of equal source, destination and time share their negatives.

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
        parts = [
            _rows(name, events, _table(name, negatives))
            for name, events, negatives in (("valid", split.valid, valid), ("test", split.test, test))
        ]
        rows = [row for row, _, _ in parts]
        rows[1] = rows[1] + parts[0][1].size
        # int32 suffices for less than 2^31 keys, and is the smaller half of what an event takes.
        self._row = np.concatenate(rows)
        if self._row.max(initial=0) <= np.iinfo(np.int32).max:
            self._row = self._row.astype(np.int32)
        self._ptr = np.concatenate([[0], np.cumsum(np.concatenate([lengths for _, lengths, _ in parts]))])
        self._dst: npt.NDArray[Any] = np.concatenate([dst for _, _, dst in parts])
        if self._dst.size and not (0 <= self._dst.min() and self._dst.max() < split.stream.num_nodes):
            found_range = f"{self._dst.min()}..{self._dst.max()}"
            raise ArgumentError(f"valid, test: expected nodes in [0, {split.stream.num_nodes}), got {found_range}")
        self.k = int(np.diff(self._ptr).max(initial=0))

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
        if first < 0 or first + len(events) > self._row.size:
            raise ArgumentError(
                f"events: expected events of validation and test, {self._first} to {self._first + self._row.size - 1}, "
                f"got {events.first} to {events.first + len(events) - 1}"
            )
        row = self._row[first : first + len(events)]
        start, column = self._ptr[row], np.arange(self.k)
        return start[:, None] + column, column < (self._ptr[1:][row] - start)[:, None]


def _table(name: str, negatives: Negatives) -> NegativeTable:
    if isinstance(negatives, NegativeTable):
        return negatives
    try:
        return NegativeTable(key_columns(negatives), list(negatives.values()))
    except (TypeError, ValueError, OverflowError) as error:
        raise ArgumentError(f"{name}: expected destinations by (source, destination, time): {error}") from error


def _rows(
    name: str, events: EventStream, table: NegativeTable
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[Any]]:
    """Row of each event; lengths and destinations of the rows that an event has."""
    row = table.rows(*(column.cpu().numpy() for column in (events.src, events.dst, events.t)))
    missing = np.flatnonzero(row < 0)
    if missing.size:
        key = tuple(column[int(missing[0])].item() for column in (events.src, events.dst, events.t))
        raise ArgumentError(
            f"{name}: expected negatives for every event, there are none for (source, destination, time) {key}; the "
            "split has to be the publisher's"
        )
    lengths = np.diff(table.ptr)
    used = np.zeros(lengths.size, dtype=np.bool_)
    used[row] = True
    if used.all():
        return row, lengths, table.dst
    return (np.cumsum(used) - 1)[row], lengths[used], table.dst[np.repeat(used, lengths)]


__all__ = ["FixedNegatives"]
