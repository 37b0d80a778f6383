"""Columns of other libraries, in the dtypes of an :class:`~graphmem.data.EventStream`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from graphmem.errors import ArgumentError
from graphmem.ops import _check

Names = Sequence[Any] | npt.NDArray[Any]

_ENDS = ("src", "dst")
_WHOLE = (*_ENDS, "edge_type")
# TGB's names of the columns.
_OF_TGB = {"sources": "src", "destinations": "dst", "timestamps": "t", "edge_feat": "msg", "w": "weight"}
_OF_TGB["edge_label"] = "y"
# What a column may hold, and the kinds of numpy's dtypes that do.
_KINDS = dict.fromkeys(_WHOLE, ("whole numbers", "iu")) | {"t": ("numbers", "iuf")}
_KINDS |= dict.fromkeys(("msg", "weight", "y"), ("numbers or truth values", "biuf"))
_MAX_INT64 = torch.iinfo(torch.int64).max


def of_temporal_data(data: Any, columns: tuple[str, ...], num_nodes: int | None) -> dict[str, Any]:
    """Fields of a stream from those of PyG's ``TemporalData`` that have the names of ``columns``."""
    found = {name: value for name in columns if (value := getattr(data, name, None)) is not None}
    for name in (*_ENDS, "t"):
        if name not in found:
            raise ArgumentError(f"data: expected a TemporalData with {name!r}, found {sorted(found)}")
    fields = _fields({name: _as_tensor(f"data.{name}", name, value) for name, value in found.items()}, num_nodes)
    if "msg" in fields and fields["msg"].shape[1:] == (0,):  # TemporalData has to have messages
        del fields["msg"]
    return fields


def of_tgb(data: Mapping[str, Any], num_nodes: int | None) -> dict[str, Any]:
    """Fields of a stream from TGB's dictionary of arrays."""
    missing = [name for name in ("sources", "destinations", "timestamps") if name not in data]
    if missing:
        raise ArgumentError(f"data: expected TGB's dictionary, {missing} are missing")
    found = {name: value for name in _OF_TGB if (value := data.get(name)) is not None}
    columns = {_OF_TGB[name]: _as_tensor(f"data[{name!r}]", _OF_TGB[name], value) for name, value in found.items()}
    return _fields(columns, num_nodes)


def _as_tensor(label: str, column: str, value: Any) -> Tensor:
    """An array in any order of bytes and rows as a tensor; a tensor as it is."""
    wanted, kinds = _KINDS[column]
    if isinstance(value, Tensor):
        if value.is_complex() or (value.dtype == torch.bool and "b" not in kinds):
            raise ArgumentError(f"{label}: expected {wanted}, got {_check.describe(value)}")
        if value.dtype == torch.uint64:  # torch compares none of these
            return _as_tensor(label, column, value.numpy(force=True)).to(value.device)
        return value
    found = np.asarray(value)
    if found.dtype.kind not in kinds or found.dtype.itemsize > 8:
        first = f", the first {found.flat[0]!r}" if found.size else ""
        raise ArgumentError(f"{label}: expected an array of {wanted}, got {found.dtype} {list(found.shape)}{first}")
    if found.dtype.kind == "u" and column in (*_WHOLE, "t"):
        if found.size and int(found.max()) > _MAX_INT64:
            raise ArgumentError(f"{label}: expected whole numbers up to {_MAX_INT64}, got {found.max()}")
        found = found.astype(np.int64)
    return torch.from_numpy(np.ascontiguousarray(found, dtype=found.dtype.newbyteorder("=")))


def _fields(columns: dict[str, Tensor], num_nodes: int | None) -> dict[str, Any]:
    """Columns in the dtypes of a stream, where that loses nothing; others are left for its checks to refuse."""
    if num_nodes is None:
        num_nodes = max((int(columns[end].max()) + 1 for end in _ENDS if columns[end].numel()), default=0)
    wanted = dict.fromkeys(_WHOLE, torch.int64) | {"msg": torch.float32, "weight": torch.float32}
    out: dict[str, Any] = dict(columns)
    for name, value in columns.items():
        whole = not value.is_floating_point()
        if name == "t":
            out[name] = value.long() if whole else value
        elif name in wanted and (whole or wanted[name] == torch.float32):
            out[name] = value.to(wanted[name])
    if "msg" in out and out["msg"].dim() == 1:
        out["msg"] = out["msg"].unsqueeze(1)
    return {"num_nodes": num_nodes, **out}


def longer_names(names: Names | None, others: Names | None) -> Names | None:
    """The longer of the names of two streams, of which one begins with the other; ``None`` where both have none.

    Raises:
        ArgumentError: they differ, or are in one of the streams only.
    """
    if names is None or others is None:
        if names is not others:
            which = "this stream" if others is None else "the later events"
            raise ArgumentError(f"later: node_names are those of {which} only; give both the same names, or none")
        return None
    if names is not others:
        count = min(len(names), len(others))
        own, later = _array(names)[:count], _array(others)[:count]
        different = np.flatnonzero(own != later)
        if different.size:
            node = int(different[0])
            one, other = (column[[node]].tolist()[0] for column in (own, later))
            raise ArgumentError(
                f"later: expected the same names of nodes, got {one!r} in this stream and {other!r} in the later "
                f"events for node {node} ({different.size} such nodes); read both with one numbering"
            )
    return others if len(others) > len(names) else names


def _array(names: Names) -> npt.NDArray[Any]:
    """Names as they are: numpy would make text of numbers beside text."""
    return np.fromiter(names, dtype=object, count=len(names)) if isinstance(names, list | tuple) else np.asarray(names)


__all__ = ["longer_names", "of_temporal_data", "of_tgb"]
