"""Events from a file or a pipe, some at a time: what is in memory does not grow with what was read."""

from __future__ import annotations

import contextlib
import os
import sys
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from graphmem.data.formats._common import Array, decoding
from graphmem.data.formats.event_lines import (
    NO_NAMES,
    SHOWN,
    Column,
    Layout,
    bad_line,
    filled,
    open_text,
    place_of,
    split,
)
from graphmem.data.formats.event_times import as_numbers
from graphmem.data.formats.konect import COLUMNS, is_konect
from graphmem.errors import ArgumentError, DatasetIntegrityError, DatasetNotFoundError, MissingExtraError

FORMATS = ("csv", "tsv", "space", "parquet")

_DELIMITERS = {"csv": ",", "tsv": "\t", "space": None}
_FORMAT_OF = {".csv": "csv", ".tsv": "tsv", ".txt": "space", ".parquet": "parquet"}
_ROLES = ("src", "dst", "t", "weight")


class EventChunk(NamedTuple):
    """Consecutive events, as the file has them."""

    src: Array
    """int64 or text [E]."""
    dst: Array
    """Of the same kind [E]."""
    t: Array
    """int64 or float64 [E]."""
    msg: Array | None
    """float32 [E, D]."""
    weight: Array | None
    """float32 [E], none of them 0."""
    places: Sequence[str]
    """Where each event stands, e.g. "line 3"."""


class EventReader:
    """Reads events in the order of a file, some at a time.

    Text has an event a line, a line of names perhaps, and lines before it that begin with # or %. Empty lines are
    skipped. A gzip file is unpacked as it is read.

    Args:
        source: path of a file, or "-" for standard input.
        format: "csv", "tsv", "space" (any white space between columns) or "parquet"; by the file's ending by default,
            "space" for KONECT's out.NAME, "csv" for standard input.
        columns: of source, destination and time, by place or by name; 0, 1, 2 by default, 0, 1, 3 in KONECT's files.
        msg_from: place of the first of the features, which are all columns behind it.
        weight_column: of signed weights, none of which is 0; ``None``: events have none.
        numbers: whether ids are whole numbers, written as such (not as 007); else they are text.
        whole_times: whether times are whole numbers. Dates are seconds since 1970.
        header: whether text begins with a line of names; found out by default, as by :func:`read_events`.

    Raises:
        DatasetNotFoundError: no such file.
        ArgumentError: an unknown format or column.
    """

    def __init__(
        self,
        source: str | os.PathLike[str],
        *,
        format: str | None = None,
        columns: Sequence[Column] | None = None,
        msg_from: int | None = None,
        weight_column: Column | None = None,
        numbers: bool = True,
        whole_times: bool = True,
        header: bool | None = None,
    ) -> None:
        self.path = None if str(source) == "-" else Path(source)
        self.origin = "standard input" if self.path is None else str(self.path)
        if self.path is not None and (self.path.is_dir() or not self.path.exists()):  # a pipe is no regular file
            raise DatasetNotFoundError(f"events: no file {self.path}")
        from_konect = format is None and self.path is not None and is_konect(self.path)
        if format is None:
            name = "-.csv" if self.path is None else self.path.name.lower().removesuffix(".gz")
            format = "space" if from_konect else _FORMAT_OF.get(Path(name).suffix)
        if columns is None:
            columns = COLUMNS if from_konect else (0, 1, 2)
        if len(columns) != 3:
            raise ArgumentError(f"columns: expected those of source, destination and time, got {list(columns)}")
        if format not in FORMATS or (format == "parquet" and self.path is None):
            raise ArgumentError(f"format: expected one of {', '.join(FORMATS)} for {self.origin}, got {format!r}")
        self.format, self.delimiter = format, _DELIMITERS.get(format)
        self.columns = (*columns, *(() if weight_column is None else (weight_column,)))
        self.weighted, self.msg_from, self.header = weight_column is not None, msg_from, header
        self.numbers, self.whole_times = numbers, whole_times
        self._time = str(columns[2])

    def chunks(self, size: int, skip: int = 0) -> Iterator[EventChunk]:
        """Yield ``size`` events at a time, the rest in the last chunk.

        Args:
            size: events in a chunk.
            skip: leave out so many events first.

        Raises:
            DatasetIntegrityError: a line that is no event; the message names it.
            ArgumentError: a column that is not there.
            MissingExtraError: Parquet without pyarrow.
        """
        parts = self._tables(size, skip) if self.format == "parquet" else self._lines(size, skip)
        for cells, places in parts:
            yield self._checked(cells, places)

    def _lines(self, size: int, skip: int) -> Iterator[tuple[Array, list[str]]]:
        with self._opened() as text:
            lines = filled(text)
            places = dict(zip(_ROLES, self.columns, strict=False))
            layout = Layout(lines, places, self.msg_from, self.delimiter, self.header, self.origin)
            if layout.first is None:
                return
            rest = islice(chain((layout.first,), lines), skip, None)
            while part := list(islice(rest, size)):
                yield self._parsed(layout, part), [f"line {number}" for number, _ in part]

    @contextlib.contextmanager
    def _opened(self) -> Iterator[Iterable[str]]:
        try:
            if self.path is None:
                yield sys.stdin
            else:
                with open_text(self.path) as file:
                    yield file
        except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
            raise DatasetIntegrityError(f"{self.origin} cannot be read as text: {error}") from error

    def _parsed(self, layout: Layout, part: Sequence[tuple[int, str]]) -> Array:
        ids = "i8" if self.numbers else "O"
        kinds = ("O",) if layout.dated else ("i8", "f8") if self.whole_times else ("f8",)
        lines = [line for _, line in part]

        def load(lines: Sequence[str], time: str = kinds[-1]) -> Array:
            table = layout.load(layout.tidied(lines), ids, time, "f4")
            if len(table) != len(lines):
                raise ValueError("a quote that is not closed in its line")
            return table

        if self.numbers and layout.has_odd_numbers("".join(lines).encode()):
            self._refuse_odd(layout, part)
        for time in kinds:
            with contextlib.suppress(ValueError):
                return load(lines, time)
        bad = bad_line(part, load)
        if bad is None:
            return load(lines)  # which raises what it raised before
        raise self._error(f"line {bad[0]}", repr(bad[1].strip()[:SHOWN]))

    def _refuse_odd(self, layout: Layout, part: Sequence[tuple[int, str]]) -> None:
        for number, line in part:
            if len(split(line, self.delimiter)) > max(layout.at.values()):
                odd = layout.odd_id(line)
                if odd is not None:
                    raise self._error(f"line {number}", f"the id {odd!r} in {line.strip()[:SHOWN]!r}")

    def _error(self, place: str, found: str) -> DatasetIntegrityError:
        kinds = "whole numbers" if self.numbers else "names"
        time = "whole" if self.whole_times else "finite"
        features = "" if self.msg_from is None else ", and finite features"
        what = (
            f"two {kinds}, a {time} time and a weight other than 0"
            if self.weighted
            else f"two {kinds} and a {time} time"
        )
        wanted = f"{what} in columns {list(self.columns)}{features}"
        return DatasetIntegrityError(f"{self.origin}, {place}: expected {wanted}, found {found}")

    def _tables(self, size: int, skip: int) -> Iterator[tuple[Mapping[str, Array], list[str]]]:
        try:
            import pyarrow.parquet  # type: ignore[import-not-found]
        except ImportError as error:
            raise MissingExtraError(f"{self.path} is a Parquet file: pip install graphmem[parquet]") from error
        with decoding(Path(self.origin)):
            file = pyarrow.parquet.ParquetFile(self.path)
        with file:
            names = list(file.schema_arrow.names)
            at = {role: names[place_of(c, names, self.origin)] for role, c in zip(_ROLES, self.columns, strict=False)}
            self._time = at["t"]
            features = [] if self.msg_from is None else names[self.msg_from :]
            batches = self._decoded(file.iter_batches(batch_size=size, columns=[*at.values(), *features]))
            row = skip
            for part in _shifted(islice(batches, skip // size, None), skip % size):
                places = [f"row {row + k}" for k in range(len(part))]
                row += len(part)
                yield self._columns(part, at, features, places), places

    def _decoded(self, items: Iterator[Any]) -> Iterator[Any]:
        while True:
            with decoding(Path(self.origin)):
                item = next(items, None)
            if item is None:
                return
            yield item

    def _columns(
        self, part: Any, at: Mapping[str, str], features: Sequence[str], places: Sequence[str]
    ) -> Mapping[str, Array]:
        for name in (*at.values(), *features):
            if part.column(name).null_count:
                row = part.column(name).is_null().to_pylist().index(True)
                raise self._error(places[row], f"nothing in column {name!r}")
        cells = {role: part.column(name).to_numpy() for role, name in at.items()}
        if self.msg_from is not None:
            columns = [part.column(name).to_numpy().astype(np.float32) for name in features]
            cells["msg"] = np.stack(columns, 1) if columns else np.empty((len(part), 0), np.float32)
        return cells

    def _checked(self, cells: Any, places: Sequence[str]) -> EventChunk:
        """A chunk of cells that are what they should be."""
        t = as_numbers(cells["t"], self.origin, self._time, lambda event: f"{self.origin}, {places[event]}")
        good = np.isfinite(t)
        if self.whole_times and t.dtype.kind == "f":
            good &= (np.abs(t) < 2**53) & (t == np.rint(t))
        ends = [cells[role] for role in ("src", "dst")]
        if not self.numbers:
            ends = [np.array([str(name) for name in end.tolist()]) for end in ends]
            for end in ends:
                good &= ~np.isin(end, NO_NAMES)
        elif any(end.dtype.kind not in "iu" for end in ends):
            raise self._error(places[0], f"{ends[0].dtype}, {ends[1].dtype}")
        msg = None
        if self.msg_from is not None:
            msg = np.ascontiguousarray(cells["msg"])
            good &= np.isfinite(msg).all(1)
        weight = None
        if self.weighted:
            weight = np.ascontiguousarray(cells["weight"], dtype=np.float32)
            good &= np.isfinite(weight) & (weight != 0)
        if not good.all():
            bad = int(good.argmin())
            found = [*(end[bad] for end in ends), t[bad], *(() if weight is None else (weight[bad],))]
            raise self._error(places[bad], ", ".join(map(str, found)))
        src, dst = ends
        return EventChunk(src, dst, t.astype(np.int64 if self.whole_times else np.float64), msg, weight, places)


def _shifted(batches: Iterator[Any], offset: int) -> Iterator[Any]:
    """Tables that begin ``offset`` rows behind the beginnings of equally long batches."""
    import pyarrow

    rest = None
    for batch in batches:
        table = pyarrow.Table.from_batches([batch])
        if rest is not None:
            yield pyarrow.concat_tables([rest, table.slice(0, offset)])
        rest = table.slice(offset)
    if rest:
        yield rest


__all__ = ["FORMATS", "EventChunk", "EventReader"]
