"""Times of events from numbers and dates."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any

import numpy as np

from graphmem.data.formats._common import Array
from graphmem.errors import DatasetIntegrityError

Place = Callable[[int], str]


def is_float(text: str) -> bool:
    """Whether a cell holds a number."""
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text  # as in "1_000" of Python


def parse_date(text: str) -> datetime.datetime | None:
    """A date in ISO 8601, or ``None``."""
    try:
        return datetime.datetime.fromisoformat(text.strip().replace("Z", "+00:00"))  # Python 3.10 knows no Z
    except ValueError:
        return None


def is_time(text: str) -> bool:
    """Whether a cell holds a number or a date."""
    return is_float(text) or parse_date(text) is not None


def as_numbers(t: Array, place: Place) -> Array:
    """Times as int64 or float64; dates, in UTC where they say nothing else, as float64 seconds since 1970.

    Args:
        t: numbers, datetimes, or cells that hold dates.
        place: where an event stands, for errors.

    Raises:
        DatasetIntegrityError: what is no time.
    """
    if t.dtype.kind in "if":
        return t
    if t.dtype.kind == "u":
        return t
    if t.dtype.kind == "M":
        dates = t.astype("datetime64[us]")
    else:
        dates = np.array([_date(text, event, place) for event, text in enumerate(t.tolist())], dtype="datetime64[us]")
    missing = np.flatnonzero(np.isnat(dates))
    if missing.size:
        raise DatasetIntegrityError(f"{place(int(missing[0]))}: event {missing[0]} has no time")
    seconds: Array = dates.astype(np.int64) / 1e6
    return seconds


def _date(text: Any, event: int, place: Place) -> np.datetime64:
    moment = parse_date(str(text))
    if moment is None:
        raise DatasetIntegrityError(f"{place(event)}: expected a number or a date, found {text!r}")
    if moment.tzinfo is not None:
        moment = moment.astimezone(datetime.timezone.utc).replace(tzinfo=None)
    return np.datetime64(moment, "us")


__all__ = ["as_numbers", "is_float", "is_time", "parse_date"]
