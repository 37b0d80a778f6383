"""Events from files: text with a column each for source, destination and time, Parquet, or npz."""

from __future__ import annotations

import gzip
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from graphmem.data.cache import LocatedFiles
from graphmem.data.card import DatasetCard
from graphmem.data.formats._common import Array, decoding
from graphmem.data.stream import EventStream
from graphmem.errors import ArgumentError, DatasetIntegrityError, DatasetNotFoundError, MissingExtraError

SUFFIXES = (".csv", ".tsv", ".txt", ".csv.gz", ".tsv.gz", ".txt.gz", ".parquet", ".npz")

Column = int | str
_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_COMMENTS = ("#", "%")
_NAME_LENGTH = 256


Cells = dict[str, Array]  # by what they hold: ids int64 or text, everything else float64


def read_events(
    source: Any,
    *,
    columns: Sequence[Column] = (0, 1, 2),
    weight_column: Column | None = None,
    label_column: Column | None = None,
    msg_from: int | None = None,
    delimiter: str | None = None,
    header: bool | None = None,
    bipartite: bool = False,
    sort: bool = False,
    name: str | None = None,
) -> EventStream:
    """Read a stream of events.

    Ids of any kind become nodes 0, 1, ...: whole numbers in ascending order, names in the order of the alphabet. The
    publisher's ids stay in ``node_names``. Times become int64 where all of them are whole, else float64. Every event
    stays: repetitions and self-loops are events like others.

    Args:
        source: path of a file; its ending decides: .csv, .tsv, .txt (all with or without .gz), .parquet or .npz (keys
            src, dst, t and perhaps weight, y, msg); or a pandas frame or pyarrow table.
        columns: of source, destination and time, by place or by name.
        weight_column: of the weight, whose sign is the event's.
        label_column: of a label.
        msg_from: first of the feature columns, which are all that follow; there may be none.
        delimiter: of text; by default a comma for .csv, a tabulator for .tsv, any white space for .txt.
        header: whether text begins with a line of names; by default, if that line has no number where the time belongs.
            Lines that begin with # or % are skipped.
        bipartite: number destinations apart from sources, and behind them.
        sort: sort by time; equal times keep their order. Otherwise a file out of order is an error.
        name: of the stream; the file's by default.

    Raises:
        DatasetNotFoundError: no such file.
        DatasetIntegrityError: cells that are missing or no numbers, or times out of order without ``sort``.
        MissingExtraError: Parquet without pandas and pyarrow.
        ArgumentError: an unknown column or ending.
    """
    if len(columns) != 3:
        raise ArgumentError(f"columns: expected those of source, destination and time, got {list(columns)}")
    roles = {"src": columns[0], "dst": columns[1], "t": columns[2], "weight": weight_column, "y": label_column}
    places = {role: column for role, column in roles.items() if column is not None}
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        origin, short = str(path), path.name.partition(".")[0]
        cells = _read_file(path, places, msg_from, delimiter, header)
    else:
        origin = short = type(source).__name__
        cells = _from_frame(source, places, msg_from, origin)
    return _assemble(cells, origin, name or short, bipartite, sort)


def load(card: DatasetCard, files: LocatedFiles) -> EventStream:
    """Read the stream of a card, whose options are those of :func:`read_events`."""
    (path,) = files.paths.values()
    return read_events(path, name=card.name, **card.options)


def _suffix(path: Path) -> str:
    return Path(path.name.lower().removesuffix(".gz")).suffix


def _read_file(
    path: Path, places: dict[str, Column], msg_from: int | None, delimiter: str | None, header: bool | None
) -> Cells:
    if not path.is_file():
        raise DatasetNotFoundError(f"source: no file {path}")
    suffix = _suffix(path)
    if suffix == ".npz":
        with decoding(path), np.load(path, allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}
    if suffix == ".parquet":
        try:
            import pandas
            import pyarrow  # type: ignore[import-not-found]  # noqa: F401
        except ImportError as error:
            raise MissingExtraError(f"{path} is a Parquet file: pip install graphmem[parquet]") from error
        with decoding(path):
            frame = pandas.read_parquet(path)
        return _from_frame(frame, places, msg_from, str(path))
    if not path.name.lower().endswith(SUFFIXES):
        raise ArgumentError(f"source: {path.name} ends in none of {SUFFIXES}")
    return _read_text(path, places, msg_from, delimiter or _DELIMITERS.get(suffix), header)


def _from_frame(frame: Any, places: dict[str, Column], msg_from: int | None, origin: str) -> Cells:
    """Columns of a pandas frame or a pyarrow table."""
    if hasattr(frame, "to_pandas"):
        frame = frame.to_pandas()
    if not hasattr(frame, "iloc"):
        raise ArgumentError(f"source: expected a path, a pandas frame or a pyarrow table, got {origin}")
    names = [str(column) for column in frame.columns]
    cells: Cells = {}
    for role, column in places.items():
        series = frame.iloc[:, _place(column, names, origin)]
        if series.isna().any():
            raise DatasetIntegrityError(
                f"{origin}: empty cells in column {column!r}, the first in row {series.isna().argmax()}"
            )
        cells[role] = series.to_numpy()
    if msg_from is not None and msg_from < len(names):
        cells["msg"] = frame.iloc[:, msg_from:].to_numpy(dtype=np.float64)
    return cells


def _place(column: Column, names: Sequence[str], origin: str) -> int:
    if isinstance(column, int) and 0 <= column < len(names):
        return column
    if column not in names:
        raise ArgumentError(f"columns: {origin} has no column {column!r}; it has {list(names)}")
    return list(names).index(str(column))


def _read_text(
    path: Path, places: dict[str, Column], msg_from: int | None, delimiter: str | None, header: bool | None
) -> Cells:
    with decoding(path):
        skipped, first, second = _first_lines(path)
    names = [cell.strip() for cell in first.split(delimiter)]
    by_name = any(isinstance(column, str) for column in places.values())
    at = {role: _place(column, names, str(path)) for role, column in places.items()}
    if header is None:
        header = by_name or not _is_number(names[at["t"]])
    skipped += header
    # A header may have one name for all features.
    width = len((second if header else first).split(delimiter))
    usecols = [*at.values(), *(range(msg_from, width) if msg_from is not None else ())]
    kinds = {"src": "i8", "dst": "i8"}

    def load(ids: str) -> Array:
        fields = [(role, ids if role in kinds else "f8") for role in at]
        fields += [(f"msg{k}", "f8") for k in range(len(usecols) - len(at))]
        # A comment sign inside a name is no comment: whole lines are left out by their number.
        return np.loadtxt(
            path, dtype=fields, delimiter=delimiter, comments=None, skiprows=skipped, usecols=usecols, ndmin=1,
            quotechar='"', encoding="utf-8",
        )  # fmt: skip

    try:
        table = load("i8")
    except ValueError:
        with decoding(path):  # names, or a damaged file, which this reports
            table = load(f"U{_NAME_LENGTH}")
    cells: Cells = {role: table[role] for role in at}
    if msg_from is not None:
        columns = [table[f"msg{k}"] for k in range(len(usecols) - len(at))]
        if columns:
            cells["msg"] = np.stack(columns, axis=1)
    return cells


def _first_lines(path: Path) -> tuple[int, str, str]:
    """How many comment lines come first, and the two lines behind them."""
    zipped = path.name.lower().endswith(".gz")
    opened: Any = gzip.open(path, "rt", encoding="utf-8") if zipped else path.open(encoding="utf-8")
    with opened as lines:
        for number, line in enumerate(lines):
            if line.strip() and not line.startswith(_COMMENTS):
                return number, line, next(lines, "")
    raise DatasetIntegrityError(f"{path}: the file has no events")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _assemble(cells: Cells, origin: str, name: str, bipartite: bool, sort: bool) -> EventStream:
    missing = [role for role in ("src", "dst", "t") if role not in cells]
    if missing:
        raise DatasetIntegrityError(f"{origin}: {missing} are missing, found {sorted(cells)}")
    with decoding(Path(origin)):
        t = np.asarray(cells["t"], dtype=np.int64 if cells["t"].dtype.kind in "iu" else np.float64)
    if t.dtype == np.float64:
        bad = np.flatnonzero(~np.isfinite(t))
        if bad.size:
            raise DatasetIntegrityError(f"{origin}: event {bad[0]} has no time, but {t[bad[0]]}")
        if np.abs(t).max(initial=0) < 2**53 and (t == np.rint(t)).all():
            t = t.astype(np.int64)
    earlier = np.flatnonzero(t[1:] < t[:-1])
    order = None
    if earlier.size:
        if not sort:
            raise DatasetIntegrityError(
                f"{origin}: event {earlier[0] + 1} is earlier than the one before it ({earlier.size} such places); "
                "sort=True sorts the events by time"
            )
        order = np.argsort(t, kind="stable")
    src, dst, num_nodes, names, dst_range = _number(cells["src"], cells["dst"], bipartite)

    def column(value: Array | None, dtype: Any) -> torch.Tensor | None:
        if value is None:
            return None
        value = np.ascontiguousarray(value if order is None else value[order], dtype=dtype)
        return torch.from_numpy(value)

    ends = [column(end, np.int64) for end in (src, dst)]
    y = cells.get("y")
    if y is not None and (y == np.rint(y)).all():
        y = y.astype(np.int64)
    try:
        return EventStream(
            ends[0],  # type: ignore[arg-type]
            ends[1],  # type: ignore[arg-type]
            column(t, t.dtype),  # type: ignore[arg-type]
            num_nodes,
            msg=column(cells.get("msg"), np.float32),
            weight=column(cells.get("weight"), np.float32),
            y=column(y, None if y is None else y.dtype),
            dst_range=dst_range,
            node_names=names,
            name=name,
        )
    except ArgumentError as error:
        raise DatasetIntegrityError(f"{origin}: {error}") from error


def _number(src: Array, dst: Array, bipartite: bool) -> tuple[Array, Array, int, Array | None, tuple[int, int] | None]:
    """Nodes of both ends, their number, their names unless these are the numbers, and where destinations are."""
    if bipartite:
        sources, src_node = np.unique(src, return_inverse=True)
        targets, dst_node = np.unique(dst, return_inverse=True)
        names, dst_node = np.concatenate([sources, targets]), dst_node + sources.size
        return src_node, dst_node, names.size, names, (sources.size, names.size) if targets.size else None
    names, nodes = np.unique(np.concatenate([src, dst]), return_inverse=True)
    same = names.dtype.kind in "iu" and np.array_equal(names, np.arange(names.size))
    return nodes[: src.size], nodes[src.size :], names.size, None if same else names, None


__all__ = ["SUFFIXES", "load", "read_events"]
