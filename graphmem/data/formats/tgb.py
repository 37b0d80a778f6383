"""Files of TGB's link sets, as py-tgb lays them out: a list of edges and fixed negatives.

Ids, features and the order of events are those of py-tgb's ``LinkPropPredDataset`` (repository shenyangHuang/TGB,
``tgb/utils/pre_process.py``), because the fixed negatives name nodes by these ids.
"""

from __future__ import annotations

import gc
import pickle
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from graphmem.data.cache import LocatedFiles
from graphmem.data.card import DatasetCard
from graphmem.data.formats._common import Array, decoding
from graphmem.data.negative_table import NegativeTable, key_columns
from graphmem.data.stream import EventStream
from graphmem.errors import ArgumentError, DatasetIntegrityError, MissingExtraError

# Words of a comment are divided by this.
_MAX_WORDS = 5000
# Width of a callsign and of a type of aeroplane, each.
_CODE = 8

# What a pickle of negatives is made of. Anything else could run code.
_HARMLESS = {
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    *((f"numpy.{core}.multiarray", name) for core in ("core", "_core") for name in ("_reconstruct", "scalar")),
    *((f"numpy.{core}.numeric", "_frombuffer") for core in ("core", "_core")),
    ("_codecs", "encode"),
}


def load(card: DatasetCard, files: LocatedFiles) -> EventStream:
    """Read the stream of a card, whose option ``layout`` names the columns: wiki, coin, comment or flight."""
    path = files.paths[card.options["edges"]]
    columns = _LAYOUTS[card.options["layout"]]
    try:
        import pandas
    except ImportError as error:
        raise MissingExtraError(f"{path}: TGB's files are read by pandas: pip install graphmem[parquet]") from error
    with decoding(path):
        if card.options["layout"] == "wiki":
            frame = pandas.read_csv(path, skiprows=1, header=None)
            return _wiki(frame, card.name)
        frame = pandas.read_csv(path, header=0, names=list(columns), dtype=columns, keep_default_na=False)
        src, dst, names = _first_seen(pandas, frame)
        msg = _FEATURES[card.options["layout"]](frame)
        times = frame["ts"].to_numpy()
    t = torch.from_numpy(_seconds(times))
    try:
        return EventStream(
            src, dst, t, len(names), msg=torch.from_numpy(msg.astype(np.float32)), node_names=names, name=card.name
        )
    except ArgumentError as error:
        raise DatasetIntegrityError(f"{path}: {error}") from error


# As categories: each name is in memory once.
_ENDS = {"src": "category", "dst": "category"}
_LAYOUTS: Mapping[str, Mapping[str, Any]] = {
    "wiki": {},
    "coin": {"ts": np.int64, **_ENDS, "weight": np.float64},
    "comment": {"ts": np.int64, **_ENDS, "num_words": np.int64, "score": np.int64},
    "flight": {"ts": str, **_ENDS, "callsign": "category", "typecode": "category"},
}


def _first_seen(pandas: Any, frame: Any) -> tuple[torch.Tensor, torch.Tensor, Array]:
    """Ids in the order in which they first appear, the source of a line before its destination; and their names."""
    names = frame["src"].cat.categories.union(frame["dst"].cat.categories)
    ends = np.empty((len(frame), 2), dtype=np.int64)
    for place, column in enumerate((frame["src"].cat, frame["dst"].cat)):
        ends[:, place] = names.get_indexer(column.categories)[column.codes]
    nodes, seen = pandas.factorize(ends.ravel())
    src, dst = torch.from_numpy(nodes.reshape(-1, 2)).T.contiguous()
    return src, dst, names.to_numpy()[seen]


def _wiki(frame: Any, name: str) -> EventStream:
    src, dst = (torch.from_numpy(frame.iloc[:, place].to_numpy(dtype=np.int64, copy=True)) for place in (0, 1))
    t = torch.from_numpy(frame.iloc[:, 2].to_numpy(dtype=np.float64).astype(np.int64))
    count = int(src.max()) + 1
    dst += count
    nodes = int(dst.max()) + 1
    msg = torch.from_numpy(frame.iloc[:, 4:].to_numpy(dtype=np.float32, copy=True))
    return EventStream(
        src, dst, t, nodes, msg=msg if msg.size(1) else None, dst_range=(int(dst.min()), nodes), name=name
    )


def _coin_features(frame: Any) -> Array:
    weight = frame["weight"].to_numpy(dtype=np.float64)
    logarithm: Array = np.log2(np.where(weight == 0, 1.0, weight))
    return logarithm[:, None]


def _comment_features(frame: Any) -> Array:
    words = frame["num_words"].to_numpy() / _MAX_WORDS  # twice, as py-tgb has it
    return np.stack((words, words, frame["score"].to_numpy(dtype=np.float64)), 1)


def _flight_features(frame: Any) -> Array:
    parts = []
    for name in ("callsign", "typecode"):
        column = frame[name].cat
        table = np.array([_letters(name, text) for text in column.categories], dtype=np.float32)
        parts.append(table[column.codes])
    return np.concatenate(parts, 1)


def _letters(name: str, text: str) -> list[float]:
    if len(text) > _CODE:
        if name == "callsign":
            raise ValueError(f"a callsign has at most {_CODE} characters, found {text!r}")
        text = ""
    return [
        -1 if one == "!" else float(one) if one.isnumeric() else ord(one.upper()) - 44 + 9
        for one in text.ljust(_CODE, "!")
    ]


_FEATURES = {"coin": _coin_features, "comment": _comment_features, "flight": _flight_features}


def _seconds(times: Array) -> Array:
    """Seconds since 1970; days of version 1 of tgbl-flight at midnight UTC (py-tgb: of the machine's time zone)."""
    if times.dtype.kind in "iu" or str(times[0]).isdigit():
        return times.astype(np.int64)
    seconds: Array = times.astype("datetime64[s]").astype(np.int64)
    return seconds


def read_negatives(path: Path) -> NegativeTable:
    """Negative destinations by (source, destination, time), from py-tgb's pickle, which cannot run code here.

    The pickle is a dictionary of small arrays, several times as large as the table it becomes.

    Raises:
        DatasetIntegrityError: no such pickle.
    """
    try:
        with decoding(path), path.open("rb") as file, _no_collection():
            found = _Harmless(file).load()
    except MemoryError as error:  # a damaged length
        raise DatasetIntegrityError(f"{path}: asks for more memory than there is") from error
    if not isinstance(found, dict):
        raise DatasetIntegrityError(f"{path}: expected a dictionary of negatives, found {type(found).__name__}")
    with decoding(path):
        keys, values = key_columns(found, np.int64), list(found.values())
        found.clear()  # the keys, and then value by value: both are not needed beside the table
        return NegativeTable(keys, values)


@contextmanager
def _no_collection() -> Iterator[None]:
    """Python's search for cycles goes through all that is alive again and again: it doubles the time of reading."""
    running = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if running:
            gc.enable()


class _Harmless(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _HARMLESS:
            raise pickle.UnpicklingError(f"{module}.{name} is no part of a dictionary of arrays")
        return super().find_class(module, name)


__all__ = ["load", "read_negatives"]
