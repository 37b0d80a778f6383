"""The layout of JODIE: a user, an item, a time, a label and features in every line of a csv."""

from __future__ import annotations

import os
from pathlib import Path

from graphmem.data.formats._common import decoding
from graphmem.data.formats.event_lines import open_text, split
from graphmem.data.formats.events import read_events
from graphmem.data.stream import EventStream

_COLUMNS = ["user_id", "item_id", "timestamp", "state_label"]


def is_jodie(path: str | os.PathLike[str]) -> bool:
    """Whether a file is csv whose line of names begins as that layout's."""
    path = Path(path)
    if not path.name.lower().endswith((".csv", ".csv.gz")) or not path.is_file():
        return False
    with decoding(path), open_text(path) as lines:
        return split(next(lines, ""), ",")[: len(_COLUMNS)] == _COLUMNS


def read_jodie(path: str | os.PathLike[str], *, sort: bool = False, name: str | None = None) -> EventStream:
    """Read a stream in the layout of JODIE (Kumar et al. 2019).

    User 7 and item 7 are two nodes: items are numbered behind the users (``dst_range``), and ``node_names`` has the ids
    of both. Labels become ``y``, the columns behind them ``msg``; where there are none, the stream has no messages.

    Args:
        path: of a csv whose line of names begins with user_id, item_id, timestamp, state_label.
        sort: sort by time; equal times keep their order.
        name: of the stream; the file's by default.

    Raises:
        DatasetNotFoundError: no such file.
        DatasetIntegrityError: cells that are missing or no numbers, or times out of order without ``sort``.
        ArgumentError: other columns.
    """
    return read_events(path, label_column=3, msg_from=4, header=True, bipartite=True, sort=sort, name=name)


__all__ = ["is_jodie", "read_jodie"]
