"""Nodes by the ids that a source of events gives them."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from graphmem.data.formats._common import Array, decoding
from graphmem.data.formats.event_lines import NO_NAMES
from graphmem.data.formats.event_table import Table
from graphmem.errors import DatasetIntegrityError


def alike(src: Array, dst: Array) -> tuple[Array, Array]:
    """Ids of both ends as one kind: numbers beside text are text, and beside anything else objects."""
    if src.dtype == dst.dtype:
        return src, dst
    if all(type(name) is str for ids in (src, dst) if ids.dtype == object for name in ids):
        return src.astype(str).astype(object), dst.astype(str).astype(object)
    return src.astype(object), dst.astype(object)


def same(src: Array, dst: Array) -> Array:
    """For each event whether its ends are one id, in kind and value."""
    equal = np.asarray(src == dst)
    if src.dtype == object:
        equal &= np.array([type(u) is type(v) for u, v in zip(src, dst, strict=True)], dtype=bool)
    return equal


def ids_of(table: Table, role: str) -> Array:
    """Ids of one end: int64, or objects, which are text or as the source has them.

    Raises:
        DatasetIntegrityError: missing and truth values, fractions in a column of numbers, numbers of 2**63 and more,
            and what cannot be hashed.
    """
    ids = table.cells[role]
    kind = ids.dtype.kind
    if kind == "f":
        exact = 2.0 ** (np.finfo(ids.dtype).nmant + 1)
        bad = np.flatnonzero(~((ids == np.rint(ids)) & (np.abs(ids) < min(exact, 2.0**53))))
        if bad.size:
            raise DatasetIntegrityError(f"{table.place(int(bad[0]))}: expected an id for {role}, found {ids[bad[0]]}")
        return ids.astype(np.int64)
    if kind in "iu":
        return _whole(table, ids)
    if kind == "b":
        raise DatasetIntegrityError(f"{table.origin}: expected ids for {role}, found truth values")
    if kind == "S":
        with decoding(Path(table.origin)):
            ids = np.char.decode(ids, "utf-8")
    # Datetimes and the like would become numbers by tolist().
    cells = list(ids) if kind in "mMc" else ids.tolist()
    if set(map(type, cells)) != {str} or not set(NO_NAMES).isdisjoint(map(str.strip, cells)):
        cells = [_id(table, role, event, cell) for event, cell in enumerate(cells)]
    objects: Array = np.fromiter(cells, dtype=object, count=len(cells))  # np.array would take tuples for rows
    return _whole(table, objects) if all(type(cell) is int for cell in cells) else objects


def _whole(table: Table, ids: Array) -> Array:
    if ids.size and int(ids.max()) >= 2**63:
        raise DatasetIntegrityError(f"{table.origin}: ids have to be below 2**63, found {ids.max()}")
    if ids.size and int(ids.min()) < -(2**63):
        raise DatasetIntegrityError(f"{table.origin}: ids have to be from -2**63 on, found {ids.min()}")
    return ids.astype(np.int64)


def _id(table: Table, role: str, event: int, cell: Any) -> Any:
    """A cell as an id: whole numbers are int, text is str, anything else stays as it is."""
    number = isinstance(cell, float | np.floating | np.datetime64 | np.timedelta64)
    missing = cell is None or (number and cell != cell) or (isinstance(cell, str) and cell.strip() in NO_NAMES)
    if missing or isinstance(cell, bool | np.bool_):
        raise DatasetIntegrityError(f"{table.place(event)}: expected an id for {role}, found {cell!r}")
    if isinstance(cell, int | np.integer):
        return int(cell)
    if isinstance(cell, str):
        return str(cell)
    if isinstance(cell, float) and cell.is_integer() and abs(cell) < 2**53:
        return int(cell)
    try:
        hash(cell)
    except (TypeError, ValueError):
        raise DatasetIntegrityError(
            f"{table.place(event)}: expected an id for {role} that can be hashed, found {cell!r}"
        ) from None
    return cell


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
    """Ids as nodes: ascending where all are of one kind that has an order, else in order of appearance, sources first.

    Ids are one node where their kinds and values are equal.
    """
    if bipartite:
        (sources, src), (targets, dst) = _unique(src), _unique(dst)
        return Nodes(
            src, dst + sources.size, sources.size + targets.size, np.concatenate([sources, targets]),
            (sources.size, sources.size + targets.size),
        )  # fmt: skip
    names, nodes = _unique(np.stack([src, dst], axis=1).ravel())
    given = names.dtype.kind in "iu" and np.array_equal(names, np.arange(names.size))
    return Nodes(nodes[0::2], nodes[1::2], names.size, None if given else names, None)


def _unique(ids: Array) -> tuple[Array, Array]:
    """Distinct ids, and the place of each among them."""
    if ids.dtype != object:
        return np.unique(ids, return_inverse=True)
    keys: list[Any] = ids.tolist()
    kinds = set(map(type, keys))
    if len(kinds) > 1:
        keys = [(type(name), name) for name in keys]
    names = list(dict.fromkeys(keys))
    if len(kinds) == 1:
        with contextlib.suppress(TypeError):
            names = sorted(names)
    number = {name: node for node, name in enumerate(names)}
    nodes = np.fromiter((number[name] for name in keys), np.int64, len(keys))
    if len(kinds) > 1:
        names = [name for _, name in names]
    return np.fromiter(names, dtype=object, count=len(names)), nodes


__all__ = ["Nodes", "alike", "ids_of", "kept", "numbered", "same"]
