"""Nodes by the ids that a source of events gives them."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from graphmem.data.formats._common import Array, decoding
from graphmem.data.formats.event_lines import NO_NAMES
from graphmem.data.formats.event_table import Table
from graphmem.errors import DatasetIntegrityError


def alike(src: Array, dst: Array) -> tuple[Array, Array]:
    """Ids of both ends, as text if those of one are."""
    if src.dtype == dst.dtype:
        return src, dst
    return src.astype(str).astype(object), dst.astype(str).astype(object)


def ids_of(table: Table, role: str) -> Array:
    """Ids of one end: int64, or text."""
    ids = table.cells[role]
    if ids.dtype.kind == "f":
        bad = np.flatnonzero(~((ids == np.rint(ids)) & (np.abs(ids) < 2**53)))
        if bad.size:
            raise DatasetIntegrityError(f"{table.place(int(bad[0]))}: expected an id for {role}, found {ids[bad[0]]}")
        return ids.astype(np.int64)
    if ids.dtype.kind in "iu":
        if ids.dtype.kind == "u" and ids.size and int(ids.max()) >= 2**63:
            raise DatasetIntegrityError(f"{table.origin}: ids have to be below 2**63, found {ids.max()}")
        return ids.astype(np.int64)
    if ids.dtype.kind == "b":
        raise DatasetIntegrityError(f"{table.origin}: expected ids for {role}, found truth values")
    if ids.dtype.kind == "S":
        with decoding(Path(table.origin)):
            ids = np.char.decode(ids, "utf-8")
    texts = np.array([str(name) for name in ids.tolist()], dtype=object)
    for event, text in enumerate(texts):
        if text.strip() in NO_NAMES:
            raise DatasetIntegrityError(f"{table.place(event)}: expected an id for {role}, found {text!r}")
    return texts


class Nodes(NamedTuple):
    """Ends of events as nodes."""

    src: Array
    dst: Array
    num_nodes: int
    names: Array | None
    """``None`` where they are the numbers."""
    dst_range: tuple[int, int] | None


def kept(table: Table, src: Array, dst: Array, num_nodes: int | None, bipartite: bool) -> Nodes:
    """Ids that are the nodes."""
    if src.dtype != np.int64 or dst.dtype != np.int64:
        raise DatasetIntegrityError(f'{table.origin}: ids="keep" expects whole numbers, found names')
    low, most = int(min(src.min(), dst.min())), int(max(src.max(), dst.max()))
    if low < 0 or (num_nodes is not None and most >= num_nodes):
        below = "" if num_nodes is None else f" and below {num_nodes}"
        raise DatasetIntegrityError(f"{table.origin}: ids have to be at least 0{below}, found {low}..{most}")
    if not bipartite:
        return Nodes(src, dst, most + 1 if num_nodes is None else num_nodes, None, None)
    count, others = int(src.max()) + 1, int(dst.max()) + 1
    names = np.concatenate([np.arange(count), np.arange(others)])
    return Nodes(src, dst + count, count + others, names, (count, count + others))


def numbered(src: Array, dst: Array, bipartite: bool) -> Nodes:
    """Ids as nodes in ascending order."""
    if bipartite:
        (sources, src), (targets, dst) = _unique(src), _unique(dst)
        return Nodes(
            src, dst + sources.size, sources.size + targets.size, np.concatenate([sources, targets]),
            (sources.size, sources.size + targets.size),
        )  # fmt: skip
    names, nodes = _unique(np.concatenate([src, dst]))
    same = names.dtype.kind in "iu" and np.array_equal(names, np.arange(names.size))
    return Nodes(nodes[: src.size], nodes[src.size :], names.size, None if same else names, None)


def _unique(ids: Array) -> tuple[Array, Array]:
    """Distinct ids, ascending, and the place of each among them."""
    if ids.dtype != object:
        return np.unique(ids, return_inverse=True)
    names = sorted(set(ids.tolist()))
    number = {name: node for node, name in enumerate(names)}
    nodes = np.fromiter((number[name] for name in ids.tolist()), np.int64, ids.size)
    return np.array(names, dtype=object), nodes


__all__ = ["Nodes", "alike", "ids_of", "kept", "numbered"]
