"""Events of single nodes from files, named as the nodes of a stream are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from graphmem.data.formats._common import decoding
from graphmem.data.formats.event_ids import ids_of
from graphmem.data.formats.event_lines import Column
from graphmem.data.formats.event_table import in_order, read_table
from graphmem.data.node_events import NodeEvents
from graphmem.data.stream import EventStream
from graphmem.errors import ArgumentError, DatasetIntegrityError


def read_node_events(
    source: Any,
    stream: EventStream,
    *,
    columns: Sequence[Column] = (0, 1),
    msg_from: int | None = None,
    delimiter: str | None = None,
    header: bool | None = None,
    sort: bool = False,
) -> NodeEvents:
    """Read events of single nodes for a stream; :meth:`EventStream.with_node_events` gives them to it.

    Args:
        source: as for :func:`read_events`, but no npz.
        stream: whose nodes they are, by ``node_names``. Where these have a name twice, as those of sources and
            destinations that are numbered apart may, it is that of the source.
        columns: of node and time, by place or by name.
        msg_from: first of the feature columns, which are all that follow; there may be none.
        delimiter: of text, see :func:`read_events`.
        header: whether text begins with a line of names, likewise.
        sort: sort by time; equal times keep their order. Otherwise a file out of order is an error.

    Raises:
        DatasetNotFoundError: no such file.
        DatasetIntegrityError: no events, nodes that the stream does not have, cells that are missing or no numbers,
            times out of order without ``sort``, or times that are not whole where the stream's are.
        ArgumentError: an unknown column or ending.
    """
    if len(columns) != 2:
        raise ArgumentError(f"columns: expected those of node and time, got {list(columns)}")
    if str(source).lower().endswith(".npz"):
        raise ArgumentError("source: expected text, Parquet or a frame; make NodeEvents of the arrays of an npz")
    # A node without a partner is read as its own.
    places = {"src": columns[0], "dst": columns[0], "t": columns[1]}
    table = read_table(source, places, msg_from, delimiter, header)
    table, t = in_order(table, sort)
    if stream.t.dtype == torch.float64:
        t = t.astype(np.float64)
    elif t.dtype != np.int64:
        raise DatasetIntegrityError(f"{table.origin}: expected whole times, as those of the stream")
    names = ids_of(table, "src")
    listed = range(stream.num_nodes) if stream.node_names is None else np.asarray(stream.node_names).tolist()
    # A number is the text of it, unless the stream has ids of more kinds than one.
    plain = {type(name) for name in listed} in ({int}, {str})
    known: dict[Any, int] = {}
    for node, name in enumerate(listed):
        known.setdefault(str(name) if plain else (type(name), name), node)
    nodes = np.array(
        [known.get(str(name) if plain else (type(name), name), -1) for name in names.tolist()], dtype=np.int64
    )
    unknown = np.flatnonzero(nodes < 0)
    if unknown.size:
        raise DatasetIntegrityError(
            f"{table.place(int(unknown[0]))}: the stream has no node {names[unknown[0]]!r} ({unknown.size} such events)"
        )
    with decoding(Path(table.origin)):
        msg = table.cells.get("msg")
        rows = None if msg is None else torch.from_numpy(np.ascontiguousarray(msg, dtype=np.float32))
    try:
        return NodeEvents(torch.from_numpy(nodes), torch.from_numpy(np.ascontiguousarray(t)), rows)
    except ArgumentError as error:
        raise DatasetIntegrityError(f"{table.origin}: {error}") from error


__all__ = ["read_node_events"]
