"""Events from files: text with a column each for source, destination and time, Parquet, or npz."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from graphmem.data.cache import LocatedFiles
from graphmem.data.card import DatasetCard
from graphmem.data.formats._common import Array, decoding
from graphmem.data.formats.event_lines import NO_NAMES, Column, place_of
from graphmem.data.formats.event_text import EventText
from graphmem.data.formats.event_times import as_numbers
from graphmem.data.stream import EventStream
from graphmem.errors import ArgumentError, DatasetIntegrityError, DatasetNotFoundError, MissingExtraError
from graphmem.ops import _check

SUFFIXES = (".csv", ".tsv", ".txt", ".csv.gz", ".tsv.gz", ".txt.gz", ".parquet", ".npz")

_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_ROLES = ("src", "dst", "t")

logger = logging.getLogger(__name__)


class Table(NamedTuple):
    """What was read of a source."""

    cells: dict[str, Array]
    """By what they hold."""
    origin: str
    """What they were read from."""
    place: Callable[[int], str]
    """Where an event stands in it."""


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
    drop_self_loops: bool = False,
    drop_neutral: bool = False,
    unknown_id: int | str | None = None,
    ids: str = "map",
    num_nodes: int | None = None,
    name: str | None = None,
) -> EventStream:
    """Read a stream of events.

    Ids of any kind become nodes 0, 1, ...: whole numbers in ascending order, names in the order of the alphabet. The
    publisher's ids stay in ``node_names``. In text, blanks around names are no part of them, and ids are numbers if each
    is the text of its number: where one is written 007, +7 or -0, all are names. Times become int64 where all of them are whole, else float64; dates
    ("2024-05-01 12:30:00", in UTC where they say nothing else) become seconds since 1970. Every event stays:
    repetitions and self-loops are events like others.

    Args:
        source: path of a file; its ending decides: .csv, .tsv, .txt (all with or without .gz), .parquet or .npz (keys
            src, dst, t and perhaps weight, y, msg); or a pandas frame or pyarrow table.
        columns: of source, destination and time, by place or by name.
        weight_column: of the weight, whose sign is the event's; by default the one that the header of a text calls
            "weight", where there are no feature columns.
        label_column: of a label.
        msg_from: first of the feature columns, which are all that follow; there may be none.
        delimiter: of text; by default a comma for .csv, a tabulator for .tsv, any white space for .txt.
        header: whether text begins with a line of names. By default it does if columns are given by name, or if its
            first line has, where the time belongs, neither a number nor a date but text that begins with a letter or
            an underscore, and no numbers as source and destination. Any other first line is an event. Lines that begin with # or % are skipped.
        bipartite: number destinations apart from sources, and behind them.
        sort: sort by time; equal times keep their order. Otherwise a file out of order is an error.
        drop_self_loops: leave out events from a node to itself; ``left_out`` of the stream says how many. With
            ``bipartite`` there are none.
        drop_neutral: leave out events of weight 0, which have no sign; ``left_out`` says how many.
        unknown_id: what stands in the file for a node that is not known; events with it are left out, likewise.
        ids: "map" as above; "keep": ids are the nodes, whole numbers from 0 on, of which some may have no event.
        num_nodes: with "keep", how many nodes there are; by default one more than the largest id.
        name: of the stream; the file's by default.

    Raises:
        DatasetNotFoundError: no such file.
        DatasetIntegrityError: no events, cells that are missing or no numbers, or times out of order without ``sort``;
            the message says where.
        MissingExtraError: Parquet without pandas and pyarrow.
        ArgumentError: an unknown column, ending or option.
    """
    if len(columns) != 3:
        raise ArgumentError(f"columns: expected those of source, destination and time, got {list(columns)}")
    roles = {"src": columns[0], "dst": columns[1], "t": columns[2], "weight": weight_column, "y": label_column}
    places = {role: column for role, column in roles.items() if column is not None}
    _check.choice("ids", ids, ("map", "keep"))
    if drop_neutral and weight_column is None:
        raise ArgumentError("drop_neutral: expected a weight_column with it, got None")
    if num_nodes is not None and (ids == "map" or bipartite):
        raise ArgumentError('num_nodes: expected None but with ids="keep" and without `bipartite`, which number nodes')
    short = Path(source).name.partition(".")[0] if isinstance(source, str | os.PathLike) else type(source).__name__
    table, t = in_order(read_table(source, places, msg_from, delimiter, header), sort)
    src, dst = _alike(*(ids_of(table, role) for role in ("src", "dst")))
    drops = {}
    if drop_self_loops and not bipartite:  # else no node is on both sides
        drops["from a node to itself"] = src == dst
    if drop_neutral:
        drops["of weight 0"] = np.asarray(table.cells["weight"] == 0)
    if unknown_id is not None:
        drops[f"of unknown nodes ({unknown_id})"] = (src == unknown_id) | (dst == unknown_id)
    for what, dropped in drops.items():
        logger.info("%s: left out %d events %s", table.origin, int(dropped.sum()), what)
    if drops:
        stays = np.flatnonzero(~np.logical_or.reduce(list(drops.values())))
        if stays.size == 0:
            raise DatasetIntegrityError(f"{table.origin}: all {src.size} events are left out: {', '.join(drops)}")
        table, t, src, dst = _selected(table, stays), t[stays], src[stays], dst[stays]
    nodes = _kept(table, src, dst, num_nodes, bipartite) if ids == "keep" else _numbered(src, dst, bipartite)
    left_out = {what: int(dropped.sum()) for what, dropped in drops.items() if dropped.any()}
    return _stream(table, t, nodes, name or short, left_out or None)


def load(card: DatasetCard, files: LocatedFiles) -> EventStream:
    """Read the stream of a card, whose options are those of :func:`read_events`."""
    (path,) = files.paths.values()
    return read_events(path, name=card.name, **card.options)


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
    if not path.name.lower().endswith(SUFFIXES):
        raise ArgumentError(f"source: {path.name} ends in none of {SUFFIXES}")
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
        cells[role] = series.to_numpy()
    if msg_from is not None and msg_from < len(names):
        with decoding(Path(origin)):
            cells["msg"] = frame.iloc[:, msg_from:].to_numpy(dtype=np.float64)
    return _of_rows(cells, origin)


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
    earlier = np.flatnonzero(t[1:] < t[:-1])
    if earlier.size == 0:
        return table, t
    if not sort:
        raise DatasetIntegrityError(
            f"{table.place(int(earlier[0]) + 1)}: event {earlier[0] + 1} is earlier than the one before it "
            f"({earlier.size} such places); sort=True sorts the events by time"
        )
    order = np.argsort(t, kind="stable")
    return _selected(table, order), t[order]


def _selected(table: Table, events: Array) -> Table:
    cells = {name: column[events] for name, column in table.cells.items() if name in (*_ROLES, "weight", "y", "msg")}
    return Table(cells, table.origin, lambda event: table.place(int(events[event])))


def _times(table: Table) -> Array:
    t = table.cells["t"]
    if t.size == 0:
        raise DatasetIntegrityError(f"{table.origin}: there are no events")
    t = as_numbers(t, table.place)
    if t.dtype.kind in "iu":
        if t.dtype.kind == "u" and int(t.max()) >= 2**63:
            raise DatasetIntegrityError(f"{table.origin}: times have to be below 2**63, found {t.max()}")
        return t.astype(np.int64)
    t = t.astype(np.float64)
    bad = np.flatnonzero(~np.isfinite(t))
    if bad.size:
        raise DatasetIntegrityError(f"{table.place(int(bad[0]))}: event {bad[0]} has no time, but {t[bad[0]]}")
    whole = np.abs(t).max() < 2**53 and (t == np.rint(t)).all()
    return t.astype(np.int64) if whole else t


def _alike(src: Array, dst: Array) -> tuple[Array, Array]:
    """Ids of both ends, as text if those of one are."""
    if src.dtype == dst.dtype:
        return src, dst
    return src.astype(str).astype(object), dst.astype(str).astype(object)


def ids_of(table: Table, role: str) -> Array:
    """Ids of one end: int64, or text."""
    ids = table.cells[role]
    if ids.dtype.kind == "f":
        bad = np.flatnonzero(~((ids == np.rint(ids)) & (np.abs(ids) < 2**53)))
        if bad.size:
            raise DatasetIntegrityError(f"{table.place(int(bad[0]))}: expected an id for {role}, found {ids[bad[0]]}")
        return ids.astype(np.int64)
    if ids.dtype.kind in "iu":
        if ids.dtype.kind == "u" and ids.size and int(ids.max()) >= 2**63:
            raise DatasetIntegrityError(f"{table.origin}: ids have to be below 2**63, found {ids.max()}")
        return ids.astype(np.int64)
    if ids.dtype.kind == "b":
        raise DatasetIntegrityError(f"{table.origin}: expected ids for {role}, found truth values")
    if ids.dtype.kind == "S":
        with decoding(Path(table.origin)):
            ids = np.char.decode(ids, "utf-8")
    texts = np.array([str(name) for name in ids.tolist()], dtype=object)
    for event, text in enumerate(texts):
        if text.strip() in NO_NAMES:
            raise DatasetIntegrityError(f"{table.place(event)}: expected an id for {role}, found {text!r}")
    return texts


class _Nodes(NamedTuple):
    src: Array
    dst: Array
    num_nodes: int
    names: Array | None
    """``None`` where they are the numbers."""
    dst_range: tuple[int, int] | None


def _kept(table: Table, src: Array, dst: Array, num_nodes: int | None, bipartite: bool) -> _Nodes:
    if src.dtype != np.int64 or dst.dtype != np.int64:
        raise DatasetIntegrityError(f'{table.origin}: ids="keep" expects whole numbers, found names')
    low, most = int(min(src.min(), dst.min())), int(max(src.max(), dst.max()))
    if low < 0 or (num_nodes is not None and most >= num_nodes):
        below = "" if num_nodes is None else f" and below {num_nodes}"
        raise DatasetIntegrityError(f"{table.origin}: ids have to be at least 0{below}, found {low}..{most}")
    if not bipartite:
        return _Nodes(src, dst, most + 1 if num_nodes is None else num_nodes, None, None)
    count, others = int(src.max()) + 1, int(dst.max()) + 1
    names = np.concatenate([np.arange(count), np.arange(others)])
    return _Nodes(src, dst + count, count + others, names, (count, count + others))


def _numbered(src: Array, dst: Array, bipartite: bool) -> _Nodes:
    """Ids as nodes in ascending order."""
    if bipartite:
        (sources, src), (targets, dst) = _unique(src), _unique(dst)
        return _Nodes(
            src, dst + sources.size, sources.size + targets.size, np.concatenate([sources, targets]),
            (sources.size, sources.size + targets.size),
        )  # fmt: skip
    names, nodes = _unique(np.concatenate([src, dst]))
    same = names.dtype.kind in "iu" and np.array_equal(names, np.arange(names.size))
    return _Nodes(nodes[: src.size], nodes[src.size :], names.size, None if same else names, None)


def _unique(ids: Array) -> tuple[Array, Array]:
    """Distinct ids, ascending, and the place of each among them."""
    if ids.dtype != object:
        return np.unique(ids, return_inverse=True)
    names = sorted(set(ids.tolist()))
    number = {name: node for node, name in enumerate(names)}
    nodes = np.fromiter((number[name] for name in ids.tolist()), np.int64, ids.size)
    return np.array(names, dtype=object), nodes


def _stream(table: Table, t: Array, nodes: _Nodes, name: str, left_out: dict[str, int] | None) -> EventStream:
    cells = table.cells

    def column(value: Array | None, dtype: Any) -> torch.Tensor | None:
        return None if value is None else torch.from_numpy(np.ascontiguousarray(value, dtype=dtype))

    with decoding(Path(table.origin)):
        y = cells.get("y")
        if y is not None and (y == np.rint(y)).all():
            y = y.astype(np.int64)
        columns: dict[str, Any] = {
            "msg": column(cells.get("msg"), np.float32),
            "weight": column(cells.get("weight"), np.float32),
            "y": column(y, None if y is None else y.dtype),
        }
    try:
        return EventStream(
            column(nodes.src, np.int64),  # type: ignore[arg-type]
            column(nodes.dst, np.int64),  # type: ignore[arg-type]
            column(t, t.dtype),  # type: ignore[arg-type]
            nodes.num_nodes,
            dst_range=nodes.dst_range,
            node_names=nodes.names,
            name=name,
            left_out=left_out,
            **columns,
        )
    except ArgumentError as error:
        raise DatasetIntegrityError(f"{table.origin}: {error}") from error


__all__ = ["SUFFIXES", "load", "read_events"]
