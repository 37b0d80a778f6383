"""Text with an event a line, read whole: what the columns are, and which line is none."""

from __future__ import annotations

import csv
import datetime
import gzip
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from graphmem.data.formats._common import Array, decoding
from graphmem.errors import ArgumentError, DatasetIntegrityError

COMMENTS = ("#", "%")
Column = int | str

# Lines that are looked at together for the one that is no event, and characters of it that an error shows.
_LINES_AT_ONCE = 4096
_SHOWN = 80


class EventText:
    """The columns of a text file.

    Args:
        path: of the file, packed by gzip or not.
        places: column of each role.
        msg_from: first of the feature columns, which are all that follow.
        delimiter: between columns; ``None``: any white space.
        header: whether the text begins with a line of names; ``None``: if that line has no time where it belongs.
            A column that it calls "weight" is that of the weights, unless there are feature columns or another.

    Raises:
        ArgumentError: an unknown column.
        DatasetIntegrityError: no text, or no event in it.
    """

    def __init__(
        self,
        path: Path,
        places: Mapping[str, Column],
        msg_from: int | None,
        delimiter: str | None,
        header: bool | None,
    ) -> None:
        self.path, self.delimiter = path, delimiter
        with decoding(path):
            lines = self._lines()
            comments = (found for found in lines if not found[1].startswith(COMMENTS))
            head = next(comments, None)
            second = next(lines, None)
        if head is None:
            raise DatasetIntegrityError(f"{path}: the file has no events")
        names = [cell.strip() for cell in _split(head[1], delimiter)]
        self.at = {role: place_of(column, names, str(path)) for role, column in places.items()}
        if header is None:
            header = any(isinstance(c, str) for c in places.values()) or not _is_time(names[self.at["t"]])
        if header and msg_from is None and "weight" not in places and "weight" in names:
            self.at["weight"] = names.index("weight")
        first = second if header else head
        if first is None:
            raise DatasetIntegrityError(f"{path}: the file has a line of names and no events")
        self._skipped = first[0] - 1
        # A header may have one name for all features.
        cells = _split(first[1], delimiter)
        self.features = [] if msg_from is None else list(range(msg_from, len(cells)))
        is_number = self.at["t"] >= len(cells) or is_float(cells[self.at["t"]])
        self._time_kinds = ("i8", "f8") if is_number else ("O",)

    def _lines(self) -> Iterator[tuple[int, str]]:
        """Lines that are not empty, with their numbers."""
        zipped = self.path.name.lower().endswith(".gz")
        opened: Any = gzip.open(self.path, "rt", encoding="utf-8") if zipped else self.path.open(encoding="utf-8")
        with opened as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield number, line

    def read(self) -> dict[str, Array]:
        """Cells by role: ids int64, or str objects; times int64, float64 or str objects; the rest float64.

        Raises:
            DatasetIntegrityError: a line that is no event; the message names it.
        """
        with decoding(self.path):
            for ids in ("i8", "O"):  # the first kinds that fit all lines
                for time in self._time_kinds:
                    try:
                        table = self._load(self.path, ids, time, self._skipped)
                    except ValueError:
                        continue
                    return self._cells(table)
            self._fail(lambda lines: self._load(lines, "O", self._time_kinds[-1]))

    def _load(self, source: Any, ids: str, time: str, skipped: int = 0) -> Array:
        kinds = {"src": ids, "dst": ids, "t": time}
        fields = [(role, kinds.get(role, "f8")) for role in self.at]
        fields += [(f"msg{k}", "f8") for k in range(len(self.features))]
        # A comment sign inside a name is no comment: whole lines are left out by their number.
        return np.loadtxt(
            source, dtype=fields, delimiter=self.delimiter, comments=None, skiprows=skipped,
            usecols=[*self.at.values(), *self.features], ndmin=1, quotechar='"', encoding="utf-8",
        )  # fmt: skip

    def _cells(self, table: Array) -> dict[str, Array]:
        cells: dict[str, Array] = {role: table[role] for role in self.at}
        if self.features:
            cells["msg"] = np.stack([table[f"msg{k}"] for k in range(len(self.features))], axis=1)
        return cells

    def _fail(self, load: Callable[[Sequence[str]], Array]) -> NoReturn:
        lines = ((number, line) for number, line in self._lines() if number > self._skipped)
        while part := list(islice(lines, _LINES_AT_ONCE)):
            bad = bad_line(part, load)
            if bad is not None:
                wanted = ", ".join(f"{role} in column {place}" for role, place in self.at.items())
                features = f" and features in columns {self.features[0]} on" if self.features else ""
                raise DatasetIntegrityError(
                    f"{self.path}, line {bad[0]}: expected {wanted}{features}, found {bad[1].strip()[:_SHOWN]!r}"
                )
        load([line for _, line in self._lines()])  # no line alone: the reader knows
        raise DatasetIntegrityError(f"{self.path}: cannot be read as events")

    def place(self, event: int) -> str:
        """Where an event stands."""
        lines = (number for number, _ in self._lines() if number > self._skipped)
        return f"{self.path}, line {next(islice(lines, event, None))}"


def _split(line: str, delimiter: str | None) -> list[str]:
    """Cells of a line; what is quoted is one of them."""
    if delimiter is not None:
        return next(csv.reader([line], delimiter=delimiter))
    return [quoted or plain for quoted, plain in re.findall(r'"([^"]*)"|(\S+)', line)]


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


def is_float(text: str) -> bool:
    """Whether a cell holds a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def parse_date(text: str) -> datetime.datetime | None:
    """A date in ISO 8601, or ``None``."""
    try:
        return datetime.datetime.fromisoformat(text.strip().replace("Z", "+00:00"))  # Python 3.10 knows no Z
    except ValueError:
        return None


def _is_time(text: str) -> bool:
    return is_float(text) or parse_date(text) is not None
