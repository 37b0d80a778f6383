"""Times of events from numbers and dates."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from graphmem.data.formats._common import Array
from graphmem.errors import DatasetIntegrityError

Place = Callable[[int], str]

_is_whole = re.compile(r"[+-]?[0-9]+").fullmatch


def is_float(text: str) -> bool:
    """Whether a cell holds a number."""
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text  # as in "1_000" of Python


def parse_date(text: str) -> datetime.datetime | None:
    """A date in ISO 8601, or ``None``."""
    if is_float(text):  # as 20240501, which is a number wherever it stands
        return None
    try:
        return datetime.datetime.fromisoformat(text.strip().replace("Z", "+00:00"))  # Python 3.10 knows no Z
    except ValueError:
        return None


def is_time(text: str) -> bool:
    """Whether a cell holds a number or a date."""
    return is_float(text) or parse_date(text) is not None


def as_numbers(t: Array, origin: str, column: str, place: Place) -> Array:
    """Times as int64 or float64; dates, in UTC where they say nothing else, as float64 seconds since 1970.

    Args:
        t: numbers, datetimes, or cells with numbers or dates.
        origin: of the times, for errors.
        column: what it calls them.
        place: where an event stands.

    Raises:
        DatasetIntegrityError: what is no time, whole numbers that int64 does not hold, or numbers of fewer bits than
            times may need.
    """
    kind = t.dtype.kind
    if kind in "iu":
        return _whole(t, origin)
    if kind == "f":
        if t.dtype != np.float64:
            raise DatasetIntegrityError(
                f"{origin}, column {column!r}: expected times as int64 or float64, found {t.dtype}, which rounds them "
                "(float32 of today's seconds to 128 of them); convert the original values"
            )
        return t.copy()
    if kind == "M":
        return _seconds(t, place)
    cells = [cell.decode(errors="replace") if isinstance(cell, bytes) else cell for cell in t.tolist()]
    if all(isinstance(cell, str) and is_float(cell) for cell in cells):
        cells = [int(cell) if _is_whole(cell.strip()) else float(cell) for cell in cells]
    if all(isinstance(cell, int | np.integer) and not isinstance(cell, bool) for cell in cells):
        return _whole(np.array([int(cell) for cell in cells], dtype=object), origin)
    if all(isinstance(cell, int | float | np.integer) and not isinstance(cell, bool) for cell in cells):
        numbers = np.array(cells, dtype=np.float64)
        lost = [k for k, cell in enumerate(cells) if not isinstance(cell, float) and int(numbers[k]) != int(cell)]
        if lost:
            raise DatasetIntegrityError(
                f"{place(lost[0])}: expected times below 2**53 beside fractions, found {cells[lost[0]]}"
            )
        return numbers
    dates = [_date(cell, event, place) for event, cell in enumerate(cells)]
    return _seconds(np.array(dates, dtype="datetime64[us]"), place)


def _whole(t: Array, origin: str) -> Array:
    low, most = int(t.min(initial=0)), int(t.max(initial=0))
    if low < -(2**63) or most >= 2**63:
        found = most if most >= 2**63 else low
        raise DatasetIntegrityError(f"{origin}: times have to be below 2**63, and from -2**63 on, found {found}")
    return t.astype(np.int64)


def _seconds(dates: Array, place: Place) -> Array:
    missing = np.flatnonzero(np.isnat(dates))
    if missing.size:
        raise DatasetIntegrityError(f"{place(int(missing[0]))}: event {missing[0]} has no time")
    seconds: Array = dates.astype("datetime64[us]").astype(np.int64) / 1e6
    return seconds


def order_keys(t: Array, numbers: Array) -> Array:
    """What the order of times is that of: the seconds of dates may be equal where the dates are not.

    Args:
        t: times as the source has them.
        numbers: what :func:`as_numbers` made of them.
    """
    return t.astype(np.int64) if t.dtype.kind == "M" else numbers


def refuse_rounded(t: Array, texts: Callable[[Array], list[str]], origin: str) -> None:
    """Raise where float64 times stand for whole numbers in a text that int64 does not hold.

    Args:
        t: times as float64.
        texts: the cells of events.
        origin: of the text.
    """
    large = np.flatnonzero(np.abs(t) >= 2.0**63)
    if large.size:
        numbers = [int(text) for text in texts(large) if _is_whole(text)]
        _whole(np.array(numbers, dtype=object), origin)


def _date(text: Any, event: int, place: Place) -> np.datetime64:
    moment = parse_date(str(text))
    if moment is None:
        raise DatasetIntegrityError(f"{place(event)}: expected a number or a date, found {text!r}")
    if moment.tzinfo is not None:
        moment = moment.astimezone(datetime.timezone.utc).replace(tzinfo=None)
    return np.datetime64(moment, "us")


__all__ = ["as_numbers", "is_float", "is_time", "order_keys", "parse_date", "refuse_rounded"]
