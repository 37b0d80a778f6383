"""Edge lists of the user: CSV, TSV, space-separated text, Parquet, npz, PyG `Data`, tensors."""

from __future__ import annotations

import csv
import gzip
import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from graphmem.data.card import DatasetCard
from graphmem.data.dataset import GraphDataset
from graphmem.data.formats._common import Array, decoding
from graphmem.data.graph import MAX_NODES
from graphmem.errors import (
    ArgumentError,
    ArgumentTypeError,
    DatasetIntegrityError,
    DatasetNotFoundError,
    MissingExtraError,
)
from graphmem.ops import _check

SUFFIXES = (".csv", ".tsv", ".txt", ".edges", ".csv.gz", ".tsv.gz", ".txt.gz", ".parquet", ".npz")
_DELIMITERS = {".csv": ",", ".tsv": "\t"}  # other text: any run of white space

Column = int | str


@dataclass(frozen=True)
class _Table:
    """Raw columns: ids as int64 or as strings, weights, and a place of each row for messages."""

    src: Sequence[Any] | Array
    dst: Sequence[Any] | Array
    weight: Sequence[float] | Array | None
    lines: Sequence[int] | None = None
    x: Tensor | None = None
    y: Tensor | None = None
    num_nodes: int | None = None

    def place(self, row: int) -> str:
        return f"row {row}" if self.lines is None else f"line {self.lines[row]}"


def read_edges(
    source: str | os.PathLike[str] | Tensor | Any,
    *,
    name: str | None = None,
    source_column: Column = 0,
    target_column: Column = 1,
    weight_column: Column | None = None,
    delimiter: str | None = None,
    header: bool | None = None,
    ids: str = "auto",
    num_nodes: int | None = None,
    self_loops: str = "error",
    weight_reduce: str = "error",
) -> GraphDataset:
    r"""Read an undirected graph from a file or an object.

    Both directions of an edge and repeated rows are one edge. Text files may be compressed with gzip; lines that start
    with `#` or `%` and empty lines are skipped. Columns are split at `,` in `.csv`, at tabs in `.tsv`, else at white
    space. npz files hold `edge_index` [2, E] (and optionally `edge_weight` [E], `x`, `y`, `num_nodes`).

    Args:
        source: path, PyG `Data`, or int64 tensor [2, E].
        name: name of the data set; default: the file's name.
        source_column: number (from 0) or header name of the column with one end of each edge.
        target_column: likewise for the other end.
        weight_column: column with weights, None for none. PyG `Data` and npz bring their own `edge_weight`.
        delimiter: separator of text columns.
        header: whether a text file starts with column names. None: yes if a column is given by name, or if neither
            id of the first row is an integer while both ids of the second row are.
        ids: `"int"`: ids are node numbers from 0; `"str"`: ids are names, numbered in order of first appearance (source
            before target, row by row) and kept in `node_names`; `"auto"`: `"int"` if both ids of the first row are
            integers, else `"str"`.
        num_nodes: number of nodes; default: largest number + 1, or the number of names.
        self_loops: `"error"` or `"drop"`.
        weight_reduce: weight of an edge that occurs in several rows: `"error"` unless they agree, `"sum"`, `"max"` or
            `"min"`.

    Returns:
        A `GraphDataset`; `edge_weight` is float32 [E] or None.

    Raises:
        DatasetNotFoundError: the file does not exist.
        DatasetIntegrityError: a malformed row (the message names the line), or an unreadable file.
        MissingExtraError: a Parquet file, and pandas or pyarrow is missing.
        ArgumentTypeError: `source` is of no supported type.
        ArgumentError: an unknown option, column or suffix, or ids outside `[0, num_nodes)`.
    """
    _one_of("ids", ids, ("auto", "int", "str"))
    _one_of("self_loops", self_loops, ("error", "drop"))
    _one_of("weight_reduce", weight_reduce, ("error", "sum", "max", "min"))
    origin, table = type(source).__name__, None
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        origin, name = str(path), name or path.name
        table = _read_file(path, (source_column, target_column, weight_column), delimiter, header)
    table = table or _from_object(source)
    src, dst, names = _number(table, origin, ids)
    return _assemble(table, (src, dst), names, origin, name or origin, num_nodes, self_loops, weight_reduce)


def _one_of(argument: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ArgumentError(f"{argument}: expected one of {allowed}, found {value!r}")


def _suffix(path: Path) -> str:
    parts = path.name.lower().removesuffix(".gz").rpartition(".")
    return f".{parts[2]}" if parts[1] else ""


def _read_file(
    path: Path, columns: tuple[Column, Column, Column | None], delimiter: str | None, header: bool | None
) -> _Table:
    if not path.is_file():
        raise DatasetNotFoundError(f"source: no file {path}")
    suffix = _suffix(path)
    if suffix == ".npz":
        return _read_npz(path)
    if suffix == ".parquet":
        return _read_parquet(path, columns)
    if suffix not in (".csv", ".tsv", ".txt", ".edges"):
        raise ArgumentError(f"source: {path.name} ends in none of {SUFFIXES}")
    return _read_text(path, columns, delimiter or _DELIMITERS.get(suffix), header)


def _read_npz(path: Path) -> _Table:
    with decoding(path), np.load(path, allow_pickle=False) as archive:
        content = {key: torch.from_numpy(archive[key]) for key in archive.files if key != "num_nodes"}
        count = int(archive["num_nodes"]) if "num_nodes" in archive.files else None
    if "edge_index" not in content:
        raise DatasetIntegrityError(f"{path}: expected the key 'edge_index', found {sorted(content)}")
    edge = content["edge_index"]
    return _from_tensor(edge, content.get("edge_weight"), content.get("x"), content.get("y"), count)


def _read_parquet(path: Path, columns: tuple[Column, Column, Column | None]) -> _Table:
    try:
        import pandas
        import pyarrow  # type: ignore[import-not-found]  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(f"{path} is a Parquet file: pip install graphmem[parquet]") from error
    with decoding(path):
        frame = pandas.read_parquet(path)
    names = [str(column) for column in frame.columns]

    def values(column: Column) -> Array:
        place = _column_number(column, names, path)
        if not 0 <= place < len(names):
            raise ArgumentError(f"column {column} is not in {path.name}, which has {len(names)} columns")
        cells: Array = frame.iloc[:, place].to_numpy()
        if pandas.isna(cells).any():
            raise DatasetIntegrityError(f"{path}: empty cells in column {names[place]!r}")
        return cells

    return _Table(values(columns[0]), values(columns[1]), None if columns[2] is None else values(columns[2]))


def _column_number(column: Column, names: list[str] | None, path: Path) -> int:
    if isinstance(column, int):
        return column
    if names is None or column not in names:
        raise ArgumentError(f"column {column!r} is not in {path.name}; found {names or 'no header'}")
    return names.index(column)


def _rows(path: Path, delimiter: str | None) -> Iterator[tuple[int, list[str]]]:
    raw: Any = gzip.open(path, "rb") if path.name.lower().endswith(".gz") else path.open("rb")
    with raw, io.TextIOWrapper(raw, encoding="utf-8-sig", newline="") as stream:
        if delimiter is None:
            for number, line in enumerate(stream, start=1):
                if line.strip() and line[0] not in "#%":
                    yield number, line.split()
            return
        reader = csv.reader(stream, delimiter=delimiter)
        for fields in reader:
            if fields and any(fields) and fields[0][:1] not in ("#", "%"):
                yield reader.line_num, [field.strip() for field in fields]


def _is_int(text: str) -> bool:
    try:
        int(text)
    except ValueError:
        return False
    return True


def _sniff(rows: list[list[str]], columns: tuple[Column, Column, Column | None]) -> bool:
    """The rule for a header that `read_edges` states."""
    if any(isinstance(column, str) for column in columns):
        return True
    if len(rows) < 2:
        return False
    first, second = ([row[c] for c in columns[:2] if isinstance(c, int) and c < len(row)] for row in rows)
    return not any(map(_is_int, first)) and len(second) == 2 and all(map(_is_int, second))


def _read_text(
    path: Path, columns: tuple[Column, Column, Column | None], delimiter: str | None, header: bool | None
) -> _Table:
    with decoding(path):
        rows = list(_rows(path, delimiter))
    names = None
    if rows and (_sniff([row for _, row in rows[:2]], columns) if header is None else header):
        names = rows.pop(0)[1]
    src_at, dst_at = (_column_number(c, names, path) for c in columns[:2])
    weight_at = None if columns[2] is None else _column_number(columns[2], names, path)
    needed = max(src_at, dst_at, -1 if weight_at is None else weight_at) + 1
    weight: list[float] | None = None if weight_at is None else []
    for line, row in rows:
        if len(row) < needed or not row[src_at] or not row[dst_at]:
            raise DatasetIntegrityError(f"{path}, line {line}: expected at least {needed} filled columns, found {row}")
        if weight is not None and weight_at is not None:
            try:
                weight.append(float(row[weight_at]))
            except ValueError:
                raise DatasetIntegrityError(f"{path}, line {line}: weight {row[weight_at]!r} is not a number") from None
    return _Table([r[src_at] for _, r in rows], [r[dst_at] for _, r in rows], weight, [line for line, _ in rows])


def _from_object(source: Any) -> _Table:
    if isinstance(source, Tensor):
        return _from_tensor(source, None, None, None, None)
    edge = getattr(source, "edge_index", None)
    if edge is None:
        raise ArgumentTypeError(
            f"source: expected a path, a Tensor [2, E] or an object with edge_index, found {type(source).__name__}"
        )
    weight = getattr(source, "edge_weight", None)
    x, y = getattr(source, "x", None), getattr(source, "y", None)
    return _from_tensor(edge, weight, x, y, getattr(source, "num_nodes", None))


def _from_tensor(
    edge: Tensor, weight: Tensor | None, x: Tensor | None, y: Tensor | None, num_nodes: int | None
) -> _Table:
    if edge.dim() != 2 or edge.size(0) != 2 or edge.is_floating_point():
        raise ArgumentError(f"source: expected integer edges [2, E], found {edge.dtype} {list(edge.shape)}")
    pairs = edge.detach().cpu().long().numpy()
    values = None if weight is None else weight.detach().cpu().double().numpy()
    if values is not None and values.shape != (pairs.shape[1],):
        raise ArgumentError(f"edge_weight: expected shape [{pairs.shape[1]}], found {list(values.shape)}")
    if x is not None and x.is_floating_point():
        x = x.float()
    return _Table(pairs[0], pairs[1], values, None, x, y, num_nodes)


def _number(table: _Table, origin: str, ids: str) -> tuple[Array, Array, tuple[str, ...] | None]:
    """Ends of each row as node numbers, and the names if ids are names."""
    count = len(table.src)
    ready = all(isinstance(end, np.ndarray) and end.dtype.kind in "iu" for end in (table.src, table.dst))
    if ids == "auto":
        ids = "int" if ready or not count or all(_is_int(str(end[0])) for end in (table.src, table.dst)) else "str"
    if ids == "str":
        number: dict[str, int] = {}
        ends = np.empty((2, count), dtype=np.int64)
        for row, (a, b) in enumerate(zip(table.src, table.dst, strict=True)):
            ends[0, row] = number.setdefault(str(a), len(number))
            ends[1, row] = number.setdefault(str(b), len(number))
        return ends[0], ends[1], tuple(number)
    try:
        return np.array(table.src, dtype=np.int64), np.array(table.dst, dtype=np.int64), None
    except (ValueError, OverflowError):
        for row, pair in enumerate(zip(table.src, table.dst, strict=True)):
            if not all(_is_int(str(value)) and abs(int(value)) < 2**63 for value in pair):
                raise DatasetIntegrityError(
                    f"{origin}, {table.place(row)}: {pair} are not two node numbers; use ids='str' if ids are names"
                ) from None
        raise


def _assemble(
    table: _Table,
    ends: tuple[Array, Array],
    names: tuple[str, ...] | None,
    origin: str,
    name: str,
    num_nodes: int | None,
    self_loops: str,
    weight_reduce: str,
) -> GraphDataset:
    src, dst = ends
    largest = int(max(src.max(), dst.max())) + 1 if src.size else 0
    found = table.num_nodes if table.num_nodes is not None else largest
    total = found if num_nodes is None else num_nodes
    _check.integer(f"{origin}: num_nodes", total, 0, MAX_NODES)
    if names is not None and total != len(names):
        raise ArgumentError(f"num_nodes: {origin} names {len(names)} nodes, found num_nodes={total}")
    outside = np.flatnonzero((np.minimum(src, dst) < 0) | (np.maximum(src, dst) >= total))
    if outside.size:
        row = int(outside[0])
        raise DatasetIntegrityError(
            f"{origin}, {table.place(row)}: node ids must be in [0, {total}), found ({src[row]}, {dst[row]})"
        )
    loops = np.flatnonzero(src == dst)
    if loops.size and self_loops == "error":
        raise DatasetIntegrityError(
            f"{origin}, {table.place(int(loops[0]))}: self-loop ({loops.size} in all); self_loops='drop' leaves them "
            "out"
        )
    keep = src != dst
    low, high = np.minimum(src, dst)[keep], np.maximum(src, dst)[keep]
    keys, place = np.unique(low * max(total, 1) + high, return_inverse=True)
    weight = None
    if table.weight is not None:
        weight = _reduce(
            np.asarray(table.weight, dtype=np.float64)[keep], place.ravel(), keys.size, weight_reduce, origin
        )
    edge_index = torch.from_numpy(np.stack([keys // max(total, 1), keys % max(total, 1)]))
    card = DatasetCard(name=name, format="edge_list", publisher="the user", num_nodes=total, num_edges=keys.size)
    return GraphDataset(name, edge_index, total, table.x, table.y, None, card, weight, names)


def _reduce(weight: Array, place: Array, count: int, how: str, origin: str) -> Tensor:
    if not np.isfinite(weight).all():
        raise DatasetIntegrityError(f"{origin}: weights must be finite numbers")
    low, high = np.full(count, np.inf), np.full(count, -np.inf)
    np.minimum.at(low, place, weight)
    np.maximum.at(high, place, weight)
    if how == "error" and (low != high).any():
        raise DatasetIntegrityError(
            f"{origin}: {int((low != high).sum())} edges occur with different weights; choose weight_reduce='sum', "
            "'max' or 'min'"
        )
    out = np.bincount(place, weights=weight, minlength=count) if how == "sum" else (low if how == "min" else high)
    return torch.from_numpy(out.astype(np.float32))
