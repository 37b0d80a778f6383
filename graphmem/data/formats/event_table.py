"""What was read of a source of events: text, Parquet, npz or a frame."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from graphmem.data.formats._common import Array, decoding
from graphmem.data.formats.event_lines import SUFFIXES, Column, place_of
from graphmem.data.formats.event_text import EventText
from graphmem.data.formats.event_times import as_numbers, order_keys
from graphmem.data.formats.konect import is_konect
from graphmem.errors import ArgumentError, DatasetIntegrityError, DatasetNotFoundError, MissingExtraError

_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_ROLES = ("src", "dst", "t")


class Table(NamedTuple):
    """What was read of a source."""

    cells: dict[str, Array]
    """By what they hold."""
    origin: str
    """What they were read from."""
    place: Callable[[int], str]
    """Where an event stands in it."""
    time: str = "t"
    """What it calls the times."""


def read_table(
    source: Any, places: dict[str, Column], msg_from: int | None, delimiter: str | None, header: bool | None
) -> Table:
    """Cells of a file or a frame, by what they hold; arguments as in :func:`read_events`."""
    if isinstance(source, str | os.PathLike):
        return _read_file(Path(source), places, msg_from, delimiter, header)
    return _from_frame(source, places, msg_from, type(source).__name__)


def _suffix(path: Path) -> str:
    return Path(path.name.lower().removesuffix(".gz")).suffix


def _read_file(
    path: Path, places: dict[str, Column], msg_from: int | None, delimiter: str | None, header: bool | None
) -> Table:
    if not path.is_file():
        raise DatasetNotFoundError(f"source: no file {path}")
    suffix = _suffix(path)
    if suffix == ".npz":
        with decoding(path), np.load(path, allow_pickle=False) as archive:
            cells = {key: archive[key] for key in archive.files}
        return _of_rows(cells, str(path))
    if suffix == ".parquet":
        try:
            import pandas
            import pyarrow  # type: ignore[import-not-found]  # noqa: F401
        except ImportError as error:
            raise MissingExtraError(f"{path} is a Parquet file: pip install graphmem[parquet]") from error
        with decoding(path):
            frame = pandas.read_parquet(path)
        return _from_frame(frame, places, msg_from, str(path))
    if not path.name.lower().endswith(SUFFIXES) and not is_konect(path):
        raise ArgumentError(f"source: {path.name} ends in none of {SUFFIXES}, and does not begin with out.")
    text = EventText(path, places, msg_from, delimiter or _DELIMITERS.get(suffix), header)
    return Table(text.read(), str(path), text.place)


def _from_frame(frame: Any, places: dict[str, Column], msg_from: int | None, origin: str) -> Table:
    """Columns of a pandas frame or a pyarrow table."""
    if hasattr(frame, "to_pandas"):
        frame = frame.to_pandas()
    if not hasattr(frame, "iloc"):
        raise ArgumentError(f"source: expected a path, a pandas frame or a pyarrow table, got {origin}")
    names = [str(column) for column in frame.columns]
    cells: dict[str, Array] = {}
    for role, column in places.items():
        series = frame.iloc[:, place_of(column, names, origin)]
        if series.isna().any():
            raise DatasetIntegrityError(
                f"{origin}: empty cells in column {column!r}, the first in row {series.isna().argmax()}"
            )
        if getattr(series.dtype, "tz", None) is not None:
            series = series.dt.tz_convert("UTC").dt.tz_localize(None)
        cells[role] = series.to_numpy()
    if msg_from is not None and msg_from < len(names):
        with decoding(Path(origin)):
            cells["msg"] = frame.iloc[:, msg_from:].to_numpy(dtype=np.float64)
    return _of_rows(cells, origin)._replace(time=names[place_of(places["t"], names, origin)])


def _of_rows(cells: dict[str, Array], origin: str) -> Table:
    missing = [role for role in _ROLES if role not in cells]
    if missing:
        raise DatasetIntegrityError(f"{origin}: {missing} are missing, found {sorted(cells)}")
    count = cells["t"].shape[:1]
    for name, column in cells.items():
        if name in (*_ROLES, "weight", "y") and (column.ndim != 1 or column.shape != count):
            shapes = f"{name} of shape {list(column.shape)}, t of {list(cells['t'].shape)}"
            raise DatasetIntegrityError(f"{origin}: expected columns of one length, found {shapes}")
        if name == "msg" and column.shape[:1] != count:
            raise DatasetIntegrityError(
                f"{origin}: expected a row of msg for each of {count[0]} events, found shape {list(column.shape)}"
            )
    return Table(cells, origin, lambda event: f"{origin}, row {event}")


def in_order(table: Table, sort: bool) -> tuple[Table, Array]:
    """The events in the order of time, and their times, int64 or float64."""
    t = _times(table)
    keys = order_keys(table.cells["t"], t)
    earlier = np.flatnonzero(keys[1:] < keys[:-1])
    if earlier.size == 0:
        return table, t
    if not sort:
        raise DatasetIntegrityError(
            f"{table.place(int(earlier[0]) + 1)}: event {earlier[0] + 1} is earlier than the one before it "
            f"({earlier.size} such places); sort=True sorts the events by time"
        )
    order = np.argsort(keys, kind="stable")
    return selected(table, order), t[order]


def selected(table: Table, events: Array) -> Table:
    """Some of the events."""
    cells = {name: column[events] for name, column in table.cells.items() if name in (*_ROLES, "weight", "y", "msg")}
    return table._replace(cells=cells, place=lambda event: table.place(int(events[event])))


def _times(table: Table) -> Array:
    t = table.cells["t"]
    if t.size == 0:
        raise DatasetIntegrityError(f"{table.origin}: there are no events")
    t = as_numbers(t, table.origin, table.time, table.place)
    if t.dtype == np.int64:
        return t
    bad = np.flatnonzero(~np.isfinite(t))
    if bad.size:
        raise DatasetIntegrityError(f"{table.place(int(bad[0]))}: event {bad[0]} has no time, but {t[bad[0]]}")
    whole = np.abs(t).max() < 2**53 and (t == np.rint(t)).all()
    return t.astype(np.int64) if whole else t


__all__ = ["Table", "in_order", "read_table", "selected"]
