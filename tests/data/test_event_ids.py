"""Nodes by ids of any kind: none of them is another, and none is changed."""

from __future__ import annotations

import datetime
import decimal
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from graphmem.data.formats.events import read_events
from graphmem.data.formats.node_events import read_node_events
from graphmem.data.names import NodeNames
from graphmem.data.stream import EventStream
from graphmem.errors import ArgumentError, DatasetIntegrityError

UUIDS = [uuid.UUID(int=k) for k in (5, 3, 4)]
DAYS = [datetime.date(2024, 5, day) for day in (3, 1, 2)]


def objects(values: list[Any]) -> Any:
    return np.fromiter(values, dtype=object, count=len(values))


def frame(src: Any, dst: Any) -> Any:
    pandas = pytest.importorskip("pandas")
    columns = {"u": src, "v": dst}
    series = {k: pandas.Series(objects(x), dtype=object) if isinstance(x, list) else x for k, x in columns.items()}
    return pandas.DataFrame({**series, "t": np.arange(len(src))})


def ends(stream: EventStream) -> tuple[list[int], list[int]]:
    return stream.src.tolist(), stream.dst.tolist()


@pytest.mark.parametrize(
    ("src", "dst", "names"),
    [
        ([1, "1"], [2, 3], [1, 2, "1", 3]),  # in order of appearance
        ([1, "1"], np.array([2, 1]), [1, 2, "1"]),
        (["b", "a"], [1, "b"], ["b", 1, "a"]),
        ([(2, 1), (1, 2)], [(1, 1), (2, 1)], [(1, 1), (1, 2), (2, 1)]),  # ascending
        ([(2, 1), ("a", 2)], [(1, 1), (2, 1)], [(2, 1), (1, 1), ("a", 2)]),  # without an order
        (UUIDS[:2], UUIDS[1:], [UUIDS[1], UUIDS[2], UUIDS[0]]),
        ([b"b", b"a"], [b"a", b"c"], [b"a", b"b", b"c"]),
        ([b"b", "b"], ["b", b"b"], [b"b", "b"]),
        (DAYS[:2], DAYS[1:], [DAYS[1], DAYS[2], DAYS[0]]),
        ([0.5, 1.5], [2.5, 0.5], [0.5, 1.5, 2.5]),
        ([0.5, 1.0], [1, 2], [0.5, 1, 2]),
        ([3.0, np.int32(7)], [7, 3], [3, 7]),
        ([decimal.Decimal(1), 1], [1, decimal.Decimal(1)], [decimal.Decimal(1), 1]),
        ([frozenset("ab"), frozenset("a")], [frozenset("b")] * 2, None),
    ],
)
def test_objects_stay_as_they_are(src: Any, dst: Any, names: list[Any] | None) -> None:
    stream = read_events(frame(src, dst))
    found = stream.node_names
    assert found is not None
    if names is not None:
        assert [(type(name), name) for name in np.asarray(found).tolist()] == [(type(name), name) for name in names]
    for nodes, ids in zip(ends(stream), (src, dst), strict=True):
        assert [found[node] for node in nodes] == list(ids)


def test_columns_of_dates_are_ids() -> None:
    days = np.array(["2024-05-02", "2024-05-01"], dtype="datetime64[s]")
    stream = read_events(frame(days, days[::-1].copy()))
    assert stream.node_names is not None
    assert list(stream.node_names) == [days[1], days[0]]
    assert ends(stream) == ([1, 0], [0, 1])


def test_ends_of_several_kinds_apart() -> None:
    stream = read_events(frame([1, "1"], ["1", 1]), bipartite=True)
    assert stream.node_names is not None
    assert list(stream.node_names) == [1, "1", "1", 1]
    assert ends(stream) == ([0, 1], [2, 3])
    mixed = frame([1, "1", decimal.Decimal(1)], ["1", "1", 1])
    assert read_events(mixed, drop_self_loops=True).t.tolist() == [0, 2]
    assert read_events(frame(np.array([5, 6]), ["5", "7"]), drop_self_loops=True).t.tolist() == [1]  # both are text


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([1, True], "row 1: expected an id for src, found True"),
        (["a", np.bool_(False)], "row 1: expected an id for src, found "),
        (["a", None], "empty cells in column 0, the first in row 1"),
        ([1, float("nan")], "empty cells in column 0, the first in row 1"),
        (["a", "nan"], "row 1: expected an id for src, found 'nan'"),
        (["a", " "], "row 1: expected an id for src, found ' '"),
        ([1, [2]], r"row 1: expected an id for src that can be hashed, found \[2\]"),
        ([1, 2**63], r"ids have to be below 2\*\*63, found 9223372036854775808"),
        ([1, -(2**63) - 1], r"ids have to be from -2\*\*63 on, found -9223372036854775809"),
    ],
)
def test_what_is_no_id(ids: list[Any], message: str) -> None:
    with pytest.raises(DatasetIntegrityError, match=message):
        read_events(frame(ids, [1, 2]))


def test_missing_values_of_pandas() -> None:
    pandas = pytest.importorskip("pandas")
    for missing in (pandas.NA, pandas.NaT):
        with pytest.raises(DatasetIntegrityError, match="empty cells in column 1, the first in row 0"):
            read_events(frame([1, 2], [missing, 2]))


def test_ids_of_few_bits(tmp_path: Path) -> None:
    columns: dict[str, Any] = {"dst": np.array([1, 2]), "t": np.array([1, 2])}
    np.savez(tmp_path / "a.npz", src=np.array([1, 2**24 - 1], dtype=np.float32), **columns)
    assert read_events(tmp_path / "a.npz").num_nodes == 3
    np.savez(tmp_path / "a.npz", src=np.array([1, 2**24], dtype=np.float32), **columns)
    with pytest.raises(DatasetIntegrityError, match="row 1: expected an id for src, found 16777216"):
        read_events(tmp_path / "a.npz")
    np.savez(tmp_path / "a.npz", src=np.array(["NaT", "2024-05-01"], dtype="datetime64[s]"), **columns)
    with pytest.raises(DatasetIntegrityError, match="row 0: expected an id for src, found .*NaT"):
        read_events(tmp_path / "a.npz")


def test_what_goes_by_names() -> None:
    stream = read_events(frame([1, "1"], [2, 3]))  # nodes 1, 2, "1", 3
    pandas = pytest.importorskip("pandas")
    alone = pandas.DataFrame({"u": pandas.Series(["1", 1], dtype=object), "t": [0, 1]})
    assert read_node_events(alone, stream).node.tolist() == [2, 0]
    with pytest.raises(DatasetIntegrityError, match="the stream has no node '2'"):
        read_node_events(pandas.DataFrame({"u": ["2"], "t": [0]}), stream)
    with pytest.raises(ArgumentError, match="names: expected whole numbers or text, not both, got 1 and '1'"):
        NodeNames.of(stream)
    with pytest.raises(ArgumentError, match=r"names: expected whole numbers or text, got \(1, 2\) \(tuple\)"):
        NodeNames.of(read_events(frame([(1, 2)], [(2, 3)])))
    assert NodeNames.of(read_events(frame([7], [9]))).find([7, 9]).tolist() == [0, 1]
