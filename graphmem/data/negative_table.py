"""Destinations by event, as arrays instead of a dictionary."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from operator import itemgetter
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Key = tuple[int, int, int]

# Rows that are joined at once: few enough that the copies of their numbers stay small.
_ROWS_AT_ONCE = 65536


class NegativeTable(Mapping[Key, npt.NDArray[np.int64]]):
    """Destinations by (source, destination, time): the keys sorted, and the destinations as CSR.

    The rows of ``ptr`` and ``dst`` stay in the order in which they are given: that of the events, in py-tgb's files, so
    that a batch reads memory in one piece. ``row`` has that of each sorted key.

    A key takes 40 bytes, a destination 4 (8 where one does not fit into int32).

    Args:
        keys: sources, destinations and times, [K] each. The last of equal keys counts, as in a dictionary.
        values: destinations of each key. The list is emptied on the way, so that little is in memory twice.

    Raises:
        ValueError, TypeError, OverflowError: values that are no integers.
    """

    def __init__(self, keys: tuple[Array, Array, Array], values: list[Any]) -> None:
        self.row = np.lexsort(keys[::-1])
        columns = [column[self.row] for column in keys]
        last = np.roll(_begins(*columns), -1)
        if not last.all():
            self.row, columns = self.row[last], [column[last] for column in columns]
        self.columns = tuple(columns)
        sizes = np.fromiter(map(np.size, values), np.int64, len(values))
        self.ptr = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        self.dst = _joined(values, self.ptr)
        values.clear()

    def rows(self, src: Array, dst: Array, t: Array) -> npt.NDArray[np.int64]:
        """Row of each event [B] in ``ptr``, -1 for an event that is no key."""
        at, known = np.zeros(src.size, dtype=np.int64), np.ones(src.size, dtype=np.bool_)
        if len(self) == 0:
            return at - 1
        # Column by column: numbers of the keys' first parts, in their order. In the end these are the keys' places.
        prefix = np.zeros(len(self), dtype=np.int64)
        for column, asked in zip(self.columns, (src, dst, t), strict=True):
            values = np.sort(column)
            values = values[_begins(values)]
            place, has_value = _find(values, asked)
            prefix = prefix * values.size + np.searchsorted(values, column)
            begins = _begins(prefix)
            at, has_prefix = _find(prefix[begins], at * values.size + place)
            prefix = np.cumsum(begins) - 1
            known &= has_value & has_prefix
        return np.where(known, self.row[at], -1)

    def __getitem__(self, key: Key) -> npt.NDArray[np.int64]:
        low, high = 0, len(self)
        for column, part in zip(self.columns, key, strict=True):
            low, high = (low + int(np.searchsorted(column[low:high], part, side)) for side in ("left", "right"))
        if low == high:
            raise KeyError(key)
        row = self.row[low]
        return self.dst[self.ptr[row] : self.ptr[row + 1]].astype(np.int64)

    def __iter__(self) -> Iterator[Key]:
        return zip(*(column.tolist() for column in self.columns), strict=True)

    def __len__(self) -> int:
        return self.row.size


def key_columns(keys: Mapping[Any, Any], dtype: type[np.int64] | None = None) -> tuple[Array, Array, Array]:
    """Sources, destinations and times of a dictionary's keys, as ``dtype`` or as what they are.

    Raises:
        ValueError, TypeError, OverflowError: a key that is not three numbers.
    """
    if not set(map(len, keys)) <= {3}:
        raise ValueError("expected keys (source, destination, time)")
    src, dst, t = (np.array(list(map(itemgetter(n), keys)), dtype=dtype).reshape(len(keys)) for n in range(3))
    if any(column.dtype.kind not in "iuf" for column in (src, dst, t)):
        raise TypeError("expected keys of three numbers")
    return src, dst, t


def _begins(*columns: Array) -> npt.NDArray[np.bool_]:
    """Where sorted columns differ from the entry before; the first does."""
    out = np.ones(columns[0].size, dtype=np.bool_)
    out[1:] = np.any([column[1:] != column[:-1] for column in columns], axis=0)
    return out


def _find(values: Array, asked: Array) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Places of numbers among sorted distinct ones, and whether they are among them."""
    place = np.minimum(np.searchsorted(values, asked), values.size - 1)
    return place, values[place] == asked


def _joined(values: list[Any], ptr: npt.NDArray[np.int64]) -> Array:
    """The values, one behind the other; each is let go when it has been copied."""
    out: Array = np.empty(int(ptr[-1]), dtype=np.int32)
    limits = np.iinfo(np.int32)
    for low in range(0, len(values), _ROWS_AT_ONCE):
        some = values[low : low + _ROWS_AT_ONCE]
        values[low : low + _ROWS_AT_ONCE] = [None] * len(some)
        part = np.concatenate([np.asarray(value, dtype=np.int64).reshape(-1) for value in some])
        if part.size and (part.min() < limits.min or part.max() > limits.max):
            out = out.astype(np.int64, copy=False)
        out[ptr[low] : ptr[low] + part.size] = part
    return out


__all__ = ["NegativeTable", "key_columns"]
