"""The layout of KONECT's ``out.NAME``: source, destination, weight and time between white space."""

from __future__ import annotations

import os
import re
from pathlib import Path

from graphmem.data.formats._common import decoding
from graphmem.data.formats.event_lines import COMMENTS, SUFFIXES, filled, open_text, split
from graphmem.errors import DatasetIntegrityError, DatasetNotFoundError

COLUMNS = (0, 1, 3)
WEIGHT_COLUMN = 2


def is_konect(path: str | os.PathLike[str]) -> bool:
    """Whether a file has a name as KONECT gives it: out.NAME or out.NAME.gz, where NAME is no other known ending."""
    name = Path(path).name.lower()
    return re.fullmatch(r"out\.[^.]+(\.gz)?", name) is not None and not name.endswith(SUFFIXES)


def is_bipartite(path: str | os.PathLike[str]) -> bool:
    """Whether a file of KONECT (Kunegis 2013) numbers sources and destinations apart: it begins with "% bip".

    Raises:
        DatasetNotFoundError: no such file.
        DatasetIntegrityError: no text, or an event without a time.
    """
    path = Path(path)
    if not path.is_file():
        raise DatasetNotFoundError(f"source: no file {path}")
    bipartite = False
    with decoding(path), open_text(path) as text:
        for number, line in filled(text):
            if line.startswith(COMMENTS):
                bipartite = bipartite or line.lstrip("%").split()[:1] == ["bip"]
                continue
            cells = split(line, None)
            if len(cells) <= max(COLUMNS):
                raise DatasetIntegrityError(
                    f"{path}, line {number}: expected source, destination, weight and time, found {len(cells)} cells; "
                    "events of a stream need a time, which this network does not have"
                )
            break
    return bipartite


__all__ = ["COLUMNS", "WEIGHT_COLUMN", "is_bipartite", "is_konect"]
