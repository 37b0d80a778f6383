"""Lines with an event each: how they are split, which one holds names, where the columns are, and which is no event."""

from __future__ import annotations

import csv
import gzip
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import dropwhile
from pathlib import Path
from typing import Any

import numpy as np

from graphmem.data.formats._common import Array
from graphmem.data.formats.event_times import is_float, is_time
from graphmem.errors import ArgumentError, DatasetIntegrityError

# Of the files that hold events, text and others.
SUFFIXES = (".csv", ".tsv", ".txt", ".csv.gz", ".tsv.gz", ".txt.gz", ".parquet", ".npz")
COMMENTS = ("#", "%")
Column = int | str

# Characters of a malformed line that its error shows.
SHOWN = 80

# What stands for a name that is missing.
NO_NAMES = ("", "nan", "NaN")

# A whole number in its own form.
WHOLE = re.compile(r"-?[1-9][0-9]*|0").fullmatch

# Kinds of bytes that a number in another form begins with, by a byte without which there is none.
_ODD = {b"0": (b"bzz", b"bzd"), b"+": (b"bpz", b"bpd"), b"-": (b"bmzz", b"bmzd", b"bmzb")}
_BOM = "\ufeff"


class Layout:
    """Where lines have what.

    Args:
        lines: with their numbers, none of them empty; they are read up to the first event.
        places: column of each role: src, dst, t and others.
        msg_from: first of the feature columns, which are all that follow.
        delimiter: between columns; ``None``: any white space.
        header: whether the lines begin with one of names. By default they do if columns are given by name, or if the
            first line has neither a number nor a date as its time, but text that begins with a letter or an underscore,
            and no numbers as its ends.
        origin: of the lines, for errors.

    Raises:
        ArgumentError: an unknown column.
        DatasetIntegrityError: a first line that is neither an event nor one of names.
    """

    def __init__(
        self,
        lines: Iterator[tuple[int, str]],
        places: Mapping[str, Column],
        msg_from: int | None,
        delimiter: str | None,
        header: bool | None,
        origin: str,
    ) -> None:
        self.delimiter, self.origin, self.has_features = delimiter, origin, msg_from is not None
        self._quotes = None if delimiter is None else rf'(?:^|\n|{re.escape(delimiter)})[^\S\n]+"'
        self._kinds = _kinds_of_bytes(delimiter)
        self.at: dict[str, int] = {}
        """Place of each role."""
        self.names: list[str] | None = None
        """Of the columns, if there is a line of them."""
        self.first: tuple[int, str] | None = None
        """The first event; ``None``: there is none."""
        self.features: list[int] = []
        self.dated = False
        """Whether times are dates."""
        head = next(dropwhile(lambda found: found[1].startswith(COMMENTS), lines), None)
        if head is None:
            return
        cells = split(head[1], delimiter)
        self.at = {role: place_of(column, cells, origin) for role, column in places.items()}
        if header is None:
            header = any(isinstance(column, str) for column in places.values()) or self._are_names(head, cells)
        self.first = head
        if header:
            self.names, self.first = cells, next(lines, None)
        if self.first is None:
            return
        # A line of names may have one for all features.
        cells = split(self.first[1], delimiter)
        self.features = [] if msg_from is None else list(range(msg_from, len(cells)))
        self.dated = self.at["t"] < len(cells) and not is_float(cells[self.at["t"]])

    def _are_names(self, head: tuple[int, str], cells: Sequence[str]) -> bool:
        src, dst, t = (cells[self.at[role]] for role in ("src", "dst", "t"))
        if is_time(t):
            return False
        if is_float(src) or is_float(dst) or not (t[:1].isalpha() or t[:1] == "_"):
            raise DatasetIntegrityError(
                f"{self.wanted(*head)} (neither a number nor a date as t); if it is a line of names, say header=True"
            )
        return True

    def wanted(self, number: int, line: str) -> str:
        """What a line should have been."""
        wanted = ", ".join(f"{role} in column {place}" for role, place in self.at.items())
        features = f" and features in columns {self.features[0]} on" if self.features else ""
        return f"{self.origin}, line {number}: expected {wanted}{features}, found {line.strip()[:SHOWN]!r}"

    def load(self, source: Any, ids: str, time: str, real: str, skip: int = 0) -> Array:
        """Cells of lines or of a file.

        Args:
            source: lines, or the path of a file.
            ids: dtype of the ends; text is stripped.
            time: dtype of the times.
            real: dtype of everything else.
            skip: lines of the file that are left out at its beginning.

        Raises:
            ValueError: a cell that is missing or of another kind.
        """
        kinds = {"src": ids, "dst": ids, "t": time}
        fields: list[Any] = [(role, kinds.get(role, real)) for role in self.at]
        if self.has_features:
            fields.append(("msg", real, (len(self.features),)))
        # A comment sign inside a name is no comment: whole lines are left out by their number.
        table = np.loadtxt(
            source, dtype=fields, delimiter=self.delimiter, comments=None, skiprows=skip,
            usecols=[*self.at.values(), *self.features], ndmin=1, quotechar='"', encoding="utf-8-sig",
        )  # fmt: skip
        if ids == "O":
            for role in ("src", "dst"):
                table[role] = [name.strip() for name in table[role]]
                if any("\n" in name for name in table[role]):
                    raise ValueError("a quote that is not closed in its line")
        return table

    def tidied(self, lines: Iterable[str]) -> Iterator[str]:
        """The same lines, in which no cell has blanks before its quotes: numpy takes these for a part of the name."""
        delimiter, quotes = self.delimiter, self._quotes
        for line in lines:
            if quotes is not None and delimiter is not None and '"' in line and re.search(quotes, line):
                cells = (cell.replace('"', '""') for cell in split(line, delimiter))
                line = delimiter.join(f'"{cell}"' for cell in cells)
            yield line

    def is_tidy(self, text: bytes) -> bool:
        """Whether :meth:`tidied` has nothing to do in whole lines."""
        return self._quotes is None or b'"' not in text or re.search(self._quotes.encode(), text) is None

    def has_odd_numbers(self, text: bytes) -> bool:
        """Whether a cell of whole lines may be a number in another form than its own, as 007, +7 or -0."""
        kinds = (b"\n" + text + b"\n").translate(self._kinds)
        return any(odd in kinds for sign, forms in _ODD.items() if sign in text for odd in forms)

    def odd_id(self, line: str) -> str | None:
        """The first end of an event that is no whole number in its own form, or ``None``."""
        cells = split(line, self.delimiter)
        return next((cells[self.at[role]] for role in ("src", "dst") if not WHOLE(cells[self.at[role]])), None)


def _kinds_of_bytes(delimiter: str | None) -> bytes:
    """For each byte what it may be in a cell: b before it, z zero, d another digit, p plus, m minus, x none of them."""
    kinds = bytearray(b"x" * 128 + b"b" * 128)  # behind ASCII there are blanks, too
    for letter, kind in ((b'\t\n\v\f\r "', "b"), (b"0", "z"), (b"123456789", "d"), (b"+", "p"), (b"-", "m")):
        for byte in letter:
            kinds[byte] = ord(kind)
    for byte in (delimiter or "").encode():
        kinds[byte] = ord("b")
    return bytes(kinds)


def open_text(path: Path) -> Any:
    """A text file, packed by gzip or not; a byte order mark is no part of the text."""
    if path.name.lower().endswith(".gz"):
        return gzip.open(path, "rt", encoding="utf-8-sig")
    return path.open(encoding="utf-8-sig")


def filled(lines: Iterable[str]) -> Iterator[tuple[int, str]]:
    """Lines that are not empty, with their numbers."""
    for number, line in enumerate(lines, 1):
        if number == 1:
            line = line.removeprefix(_BOM)  # a pipe has it, too
        if line.strip():
            yield number, line


def split(line: str, delimiter: str | None) -> list[str]:
    """Cells of a line without the blanks around them; what is quoted is one cell."""
    if delimiter is None:
        return [(quoted or plain).strip() for quoted, plain in re.findall(r'"([^"]*)"|(\S+)', line)]
    try:
        cells = next(csv.reader([line.strip("\r\n")], delimiter=delimiter, skipinitialspace=delimiter != " "))
    except csv.Error as error:
        raise DatasetIntegrityError(
            f"expected cells between {delimiter!r}, found a line that begins with {line[:SHOWN]!r} ({error})"
        ) from error
    return [cell.strip() for cell in cells]


def bad_line(part: Sequence[tuple[int, str]], load: Callable[[Sequence[str]], Array]) -> tuple[int, str] | None:
    """The first of some numbered lines that cannot be loaded."""
    try:
        load([line for _, line in part])
    except ValueError:
        for number, line in part:
            try:
                load((line,))
            except ValueError:
                return number, line
    return None


def place_of(column: Column, names: Sequence[str], origin: str) -> int:
    """Place of a column among those with these names."""
    if isinstance(column, int) and 0 <= column < len(names):
        return column
    if column not in names:
        raise ArgumentError(f"columns: {origin} has no column {column!r}; it has {list(names)}")
    return list(names).index(str(column))


__all__ = [
    "COMMENTS",
    "NO_NAMES",
    "SHOWN",
    "SUFFIXES",
    "WHOLE",
    "Column",
    "Layout",
    "bad_line",
    "filled",
    "open_text",
    "place_of",
    "split",
]
