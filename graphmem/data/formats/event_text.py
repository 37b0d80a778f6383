"""Text with an event a line, read whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import NoReturn

import numpy as np

from graphmem.data.formats._common import Array, decoding
from graphmem.data.formats.event_lines import WHOLE, Column, Layout, bad_line, filled, open_text, split
from graphmem.data.formats.event_times import refuse_rounded
from graphmem.errors import DatasetIntegrityError

# Lines that are looked at together for the one that is no event, and bytes for ids in odd forms.
_LINES_AT_ONCE = 4096
_BYTES_AT_ONCE = 1 << 20


class EventText:
    """The columns of a text file.

    Args:
        path: of the file, packed by gzip or not.
        places: column of each role.
        msg_from: first of the feature columns, which are all that follow.
        delimiter: between columns; ``None``: any white space.
        header: whether the text begins with a line of names; found out by default, see :class:`Layout`. A column that
            it calls "weight" is that of the weights, unless there are feature columns or another.

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
        self.path = path
        self.layout = layout = Layout(self._lines(), places, msg_from, delimiter, header, str(path))
        if not layout.at:
            raise DatasetIntegrityError(f"{path}: the file has no events")
        if layout.first is None:
            raise DatasetIntegrityError(f"{path}: the file has a line of names and no events")
        if layout.names and msg_from is None and "weight" not in places and "weight" in layout.names:
            layout.at["weight"] = layout.names.index("weight")
        self._skipped = layout.first[0] - 1
        self._time_kinds = ("O",) if layout.dated else ("i8", "f8")

    def _lines(self) -> Iterator[tuple[int, str]]:
        with decoding(self.path), open_text(self.path) as text:
            yield from filled(text)

    def _events(self) -> Iterator[tuple[int, str]]:
        return (found for found in self._lines() if found[0] > self._skipped)

    def read(self) -> dict[str, Array]:
        """Cells by role: ids int64, or str objects; times int64, float64 or str objects; the rest float64.

        Ids are int64 if each is the text of its number, so that none of "7", "007" and "+7" is another.

        Raises:
            DatasetIntegrityError: a line that is no event; the message names it.
        """
        with decoding(self.path):
            tidy, odd = self._scan()
            for ids in ("O",) if odd else ("i8", "O"):  # the first kinds that fit all lines
                for time in self._time_kinds:
                    try:
                        table = self._load(ids, time, tidy)
                    except ValueError:
                        continue
                    if time == "f8":
                        refuse_rounded(table["t"], self._time_texts, str(self.path))
                    features = {"msg": table["msg"]} if self.layout.features else {}
                    ends = _numbers(table["src"], table["dst"]) if odd else None
                    return {role: table[role] for role in self.layout.at} | features | (ends or {})
            self._fail(lambda lines: self.layout.load(self.layout.tidied(lines), "O", self._time_kinds[-1], "f8"))

    def _time_texts(self, events: Array) -> list[str]:
        asked = set(events.tolist())
        lines = (line for event, (_, line) in enumerate(self._events()) if event in asked)
        return [split(line, self.layout.delimiter)[self.layout.at["t"]] for line in lines]

    def _scan(self) -> tuple[bool, bool]:
        """Whether lines can be loaded as they are, and whether an id may be a number in another form than its own."""
        tidy, odd = True, False
        with open_text(self.path) as text:
            while block := text.buffer.read(_BYTES_AT_ONCE):
                block += text.buffer.readline()
                tidy = tidy and self.layout.is_tidy(block)
                odd = odd or self.layout.has_odd_numbers(block)
        return tidy, odd

    def _load(self, ids: str, time: str, tidy: bool) -> Array:
        if tidy:
            return self.layout.load(self.path, ids, time, "f8", self._skipped)
        return self.layout.load(self.layout.tidied(line for _, line in self._events()), ids, time, "f8")

    def _fail(self, load: Callable[[Sequence[str]], Array]) -> NoReturn:
        lines = self._events()
        while part := list(islice(lines, _LINES_AT_ONCE)):
            bad = bad_line(part, load)
            if bad is not None:
                raise DatasetIntegrityError(self.layout.wanted(*bad))
        load([line for _, line in self._lines()])  # no line alone: the reader knows
        raise DatasetIntegrityError(f"{self.path}: cannot be read as events")

    def place(self, event: int) -> str:
        """Where an event stands."""
        return f"{self.path}, line {next(islice(self._events(), event, None))[0]}"


def _numbers(src: Array, dst: Array) -> dict[str, Array] | None:
    """Ends that are text as numbers, if each is that of its number."""
    if not all(WHOLE(name) for ids in (src, dst) for name in ids):
        return None
    try:
        return {"src": src.astype(np.int64), "dst": dst.astype(np.int64)}
    except OverflowError:
        return None


__all__ = ["EventText"]
