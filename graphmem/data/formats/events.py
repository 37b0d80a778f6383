"""Events from files: text with a column each for source, destination and time, Parquet, or npz."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from graphmem.data.cache import LocatedFiles
from graphmem.data.card import DatasetCard
from graphmem.data.formats import konect
from graphmem.data.formats._common import Array, decoding
from graphmem.data.formats.event_ids import Nodes, alike, ids_of, kept, numbered, same
from graphmem.data.formats.event_lines import Column
from graphmem.data.formats.event_table import Table, in_order, read_table, selected
from graphmem.data.stream import EventStream
from graphmem.errors import ArgumentError, DatasetIntegrityError
from graphmem.ops import _check

logger = logging.getLogger(__name__)


def read_events(
    source: Any,
    *,
    columns: Sequence[Column] | None = None,
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

    Ids become nodes 0, 1, ...: whole numbers in ascending order, names in the order of the alphabet. The publisher's
    ids stay in ``node_names``. In text, blanks around names are no part of them, and ids are numbers if each is the
    text of its number: where one is written 007, +7 or -0, all are names. Objects of a frame that are neither numbers
    nor text (tuples, UUIDs, dates, fractions, ...), or both in one column, stay as they are, two of them apart where
    kind or value are: ascending where all are of one kind that has an order, else in order of appearance, the source
    first. A column of numbers beside one of text is text.

    Times become int64 where all of them are whole, else float64; dates ("2024-05-01 12:30:00", in UTC where they say
    nothing else) become seconds since 1970. Every event stays: repetitions and self-loops are events like others.

    Args:
        source: path of a file; its ending decides: .csv, .tsv, .txt (all with or without .gz), .parquet or .npz (keys
            src, dst, t and perhaps weight, y, msg), or its beginning: out.NAME is one of KONECT's, read as .txt; or a
            pandas frame or pyarrow table.
        columns: of source, destination and time, by place or by name; 0, 1, 2 by default. In KONECT's files they are
            0, 1, 3, with the weight in 2 (unless ``weight_column`` says otherwise), and ``bipartite`` is true where the
            file begins with "% bip".
        weight_column: of the weight, whose sign is the event's; by default the one that the header of a text calls
            "weight", where there are no feature columns.
        label_column: of a label.
        msg_from: first of the feature columns, which are all that follow; there may be none.
        delimiter: of text; by default a comma for .csv, a tabulator for .tsv, any white space for .txt.
        header: whether text begins with a line of names. By default it does if columns are given by name, or if its
            first line has, where the time belongs, neither a number nor a date but text that begins with a letter or
            an underscore, and no numbers as source and destination. Any other first line is an event. Lines before it
            that begin with # or % are skipped.
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
    if columns is None:
        columns = (0, 1, 2)
        if isinstance(source, str | os.PathLike) and konect.is_konect(source):
            columns = konect.COLUMNS
            weight_column = konect.WEIGHT_COLUMN if weight_column is None else weight_column
            bipartite = konect.is_bipartite(source) or bipartite
    if len(columns) != 3:
        raise ArgumentError(f"columns: expected those of source, destination and time, got {list(columns)}")
    roles = {"src": columns[0], "dst": columns[1], "t": columns[2], "weight": weight_column, "y": label_column}
    places = {role: column for role, column in roles.items() if column is not None}
    _check.choice("ids", ids, ("map", "keep"))
    if drop_neutral and weight_column is None:
        raise ArgumentError("drop_neutral: expected a weight_column with it, got None")
    if num_nodes is not None and (ids == "map" or bipartite):
        raise ArgumentError('num_nodes: expected None but with ids="keep" and without `bipartite`, which number nodes')
    short = _short(source)
    table, t = in_order(read_table(source, places, msg_from, delimiter, header), sort)
    src, dst = alike(*(ids_of(table, role) for role in ("src", "dst")))
    drops = {}
    if drop_self_loops and not bipartite:  # else no node is on both sides
        drops["from a node to itself"] = same(src, dst)
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
        table, t, src, dst = selected(table, stays), t[stays], src[stays], dst[stays]
    nodes = kept(table, src, dst, num_nodes, bipartite) if ids == "keep" else numbered(src, dst, bipartite)
    left_out = {what: int(dropped.sum()) for what, dropped in drops.items() if dropped.any()}
    return _stream(table, t, nodes, name or short, left_out or None)


def _short(source: Any) -> str:
    if not isinstance(source, str | os.PathLike):
        return type(source).__name__
    name = Path(source).name
    return name.split(".")[1 if konect.is_konect(name) else 0]


def load(card: DatasetCard, files: LocatedFiles) -> EventStream:
    """Read the stream of a card, whose options are those of :func:`read_events`."""
    (path,) = files.paths.values()
    return read_events(path, name=card.name, **card.options)


def _stream(table: Table, t: Array, nodes: Nodes, name: str, left_out: dict[str, int] | None) -> EventStream:
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


__all__ = ["load", "read_events"]
