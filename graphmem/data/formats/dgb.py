"""The layout of DGB, CAW, NAT and DyGLib: ``ml_NAME.csv`` with the events and ``ml_NAME.npy`` with their features."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from graphmem.data.formats._common import decoding
from graphmem.data.formats.events import read_events
from graphmem.data.stream import EventStream
from graphmem.errors import DatasetIntegrityError

_COLUMNS = ["", "u", "i", "ts", "label", "idx"]


def is_dgb(path: str | os.PathLike[str]) -> bool:
    """Whether a file has that layout's name and line of names."""
    path = Path(path)
    if not (path.name.startswith("ml_") and path.suffix == ".csv" and path.is_file()):
        return False
    with decoding(path), path.open(encoding="utf-8-sig") as lines:
        return next(lines, "").strip().split(",") == _COLUMNS


def read_dgb(path: str | os.PathLike[str], *, sort: bool = False, name: str | None = None) -> EventStream:
    """Read a stream in the layout of DGB (Poursafaei et al. 2022), which CAW, NAT and DyGLib share.

    Node ids of that layout begin with 1, so they are in ``node_names``. Labels become ``y``. Row k of ``ml_NAME.npy``
    has the features of the event of ``idx`` k; its row 0, which stands for no event, is left out. Where the file is
    missing or all its entries are zero, the stream has no messages: a zero column is what the layout writes for a
    stream without features. Row v of ``ml_NAME_node.npy``, where it is there and not all zero, has the features of the
    node of id v: ``node_features``. Where sources and destinations are apart, destinations are drawn from theirs only.

    Args:
        path: of ``ml_NAME.csv``, with the columns "", u, i, ts, label, idx.
        sort: sort by time; equal times keep their order.
        name: of the stream; the file's by default.

    Raises:
        DatasetNotFoundError: no such file.
        DatasetIntegrityError: cells or features that are missing, or times out of order without ``sort``.
        ArgumentError: other columns.
    """
    path = Path(path)
    short = path.name.partition(".")[0].removeprefix("ml_")
    stream = read_events(path, columns=("u", "i", "ts"), label_column="label", sort=sort, name=name or short)
    features = path.with_suffix(".npy")
    msg = None
    if features.is_file():
        row = read_events(path, columns=("u", "i", "ts"), label_column="idx", sort=sort).y
        assert row is not None
        msg = _messages(features, row, len(stream))
    dst_range = None
    if int(stream.src.max()) < int(stream.dst.min()):
        dst_range = (int(stream.dst.min()), stream.num_nodes)
    alone = path.with_name(f"{path.stem}_node.npy")
    nodes = _node_features(alone, stream) if alone.is_file() else None
    return replace(stream, msg=msg, dst_range=dst_range, node_features=nodes)


def _node_features(path: Path, stream: EventStream) -> torch.Tensor | None:
    with decoding(path):
        rows = np.load(path, allow_pickle=False)
    names = np.arange(stream.num_nodes) if stream.node_names is None else np.asarray(stream.node_names)
    most = int(names.max())
    if rows.ndim != 2 or rows.shape[0] <= most or rows.dtype.kind not in "iuf":
        raise DatasetIntegrityError(
            f"{path}: expected features [{most + 1} or more, F] of nodes up to {most}, found {rows.dtype} "
            f"{list(rows.shape)}"
        )
    if not rows.any():
        return None
    return torch.from_numpy(rows[names].astype(np.float32))


def _messages(path: Path, row: torch.Tensor, count: int) -> torch.Tensor | None:
    with decoding(path):
        rows = np.load(path, allow_pickle=False)
    if rows.ndim != 2 or rows.shape[0] != count + 1 or rows.dtype.kind not in "iuf":
        raise DatasetIntegrityError(
            f"{path}: expected features [{count + 1}, D], a row before those of {count} events, found {rows.dtype} "
            f"{list(rows.shape)}"
        )
    if row.dtype != torch.int64 or sorted(row.tolist()) != list(range(1, count + 1)):
        raise DatasetIntegrityError(f"{path.with_suffix('.csv')}: expected the numbers 1 to {count} in column 'idx'")
    if not rows.any():
        return None
    return torch.from_numpy(rows.astype(np.float32))[row]


__all__ = ["is_dgb", "read_dgb"]
