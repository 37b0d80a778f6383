"""Times of events from columns of any kind: nothing is rounded, and the order is that of the source."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from graphmem.data.formats.event_chunks import EventReader
from graphmem.data.formats.event_times import as_numbers, parse_date
from graphmem.data.formats.events import read_events
from graphmem.data.stream import EventStream
from graphmem.errors import ArgumentError, DatasetIntegrityError


def frame(t: Any) -> Any:
    pandas = pytest.importorskip("pandas")
    return pandas.DataFrame({"u": [1] * len(t), "v": [2] * len(t), "when": t})


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_times_of_few_bits_are_refused(tmp_path: Path, dtype: Any) -> None:
    t = np.array([1, 2], dtype=dtype)
    message = rf"column '{{}}': expected times as int64 or float64, found {np.dtype(dtype)}"
    np.savez(tmp_path / "a.npz", src=[1, 1], dst=[2, 2], t=t)
    with pytest.raises(DatasetIntegrityError, match="a.npz, " + message.format("t")):
        read_events(tmp_path / "a.npz")
    with pytest.raises(DatasetIntegrityError, match="DataFrame, " + message.format("when")):
        read_events(frame(t))
    pyarrow = pytest.importorskip("pyarrow")
    with pytest.raises(DatasetIntegrityError, match="Table, " + message.format("when")):
        read_events(pyarrow.table({"u": [1, 1], "v": [2, 2], "when": t}))
    frame(t).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(DatasetIntegrityError, match=message.format("when")):
        read_events(tmp_path / "a.parquet")
    for columns in ((0, 1, 2), ("u", "v", "when")):
        with pytest.raises(DatasetIntegrityError, match="a.parquet, " + message.format("when")):
            list(EventReader(tmp_path / "a.parquet", columns=columns).chunks(9))
    with pytest.raises(DatasetIntegrityError, match="column 'when': expected times as"):
        read_events(frame(t.astype(np.longdouble)))


def test_the_order_is_that_of_the_source() -> None:
    stamps = np.array([1_700_000_000_000_000_002, 1_700_000_000_000_000_001]).astype("datetime64[ns]")
    given = frame(stamps)
    with pytest.raises(DatasetIntegrityError, match="row 1: event 1 is earlier than the one before it"):
        read_events(given)
    with pytest.raises(DatasetIntegrityError, match="row 1: event 1 is earlier"):
        read_events(given.assign(when=given["when"].dt.tz_localize("Europe/Berlin")))
    stream = read_events(given.assign(u=[5, 7]), sort=True)
    assert stream.t.tolist() == [1_700_000_000] * 2
    assert stream.node_names is not None
    assert [stream.node_names[node] for node in stream.src.tolist()] == [7, 5]


@pytest.mark.parametrize(
    ("cells", "want"),
    [
        ([20240501, 20240502], [20240501, 20240502]),
        ([1, 2], [1, 2]),
        ([np.int32(1), 2], [1, 2]),
        ([1, 2.5], [1, 2.5]),
        ([1.0, 2.0], [1, 2]),
        (["20240501", " 20240502"], [20240501, 20240502]),
        (["1700000000000000001", "1700000000000000002"], [1_700_000_000_000_000_001, 1_700_000_000_000_000_002]),
        (["1", "2.5"], [1, 2.5]),
        (["1970-01-02", "1970-01-02 00:00:01"], [86400, 86401]),
        ([datetime.date(1970, 1, 2), datetime.date(1970, 1, 3)], [86400, 172800]),
        ([datetime.datetime(1970, 1, 2), "1970-01-03"], [86400, 172800]),
    ],
)
def test_objects(cells: list[Any], want: list[float]) -> None:
    stream = read_events(frame(np.array([None, *cells], dtype=object)[1:]))
    assert stream.t.tolist() == want
    assert stream.t.dtype == (torch.int64 if all(isinstance(x, int) for x in want) else torch.float64)


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ([1, "1970-01-02"], "row 0: expected a number or a date, found 1"),
        (["1970-01-02", "20240501"], "row 1: expected a number or a date, found '20240501'"),
        ([True, False], "row 0: expected a number or a date, found True"),
        ([1, 2**63], rf"times have to be below 2\*\*63, and from -2\*\*63 on, found {2**63}"),
        ([-(2**63) - 1, 1], rf"times have to be below 2\*\*63, and from -2\*\*63 on, found -{2**63 + 1}"),
        ([0.5, 2**53 + 1], r"row 1: expected times below 2\*\*53 beside fractions, found 9007199254740993"),
        ([np.float32(1), np.float32(2)], "row 0: expected a number or a date"),
    ],
)
def test_objects_that_are_no_times(cells: list[Any], message: str) -> None:
    with pytest.raises(DatasetIntegrityError, match=message):
        read_events(frame(np.array([None, *cells], dtype=object)[1:]))


@pytest.mark.parametrize("sort", [False, True])
def test_times_beyond_int64_are_named(tmp_path: Path, sort: bool) -> None:
    large = np.array([5, 2**63 + 5, 2**63], dtype=np.uint64)
    message = rf"times have to be below 2\*\*63, .* found {2**63 + 5}"
    given = frame(large)
    given.to_csv(tmp_path / "a.csv", index=False)
    np.savez(tmp_path / "a.npz", src=[1] * 3, dst=[2] * 3, t=large)
    for source in (given, tmp_path / "a.csv", tmp_path / "a.npz"):
        with pytest.raises(DatasetIntegrityError, match=message):
            read_events(source, sort=sort)
    (tmp_path / "b.csv").write_text("1,2,1e19\n1,2,1e20\n")
    assert read_events(tmp_path / "b.csv").t.tolist() == [1e19, 1e20]
    pytest.importorskip("pyarrow")
    given.to_parquet(tmp_path / "a.parquet")
    with pytest.raises(DatasetIntegrityError, match=message):
        list(EventReader(tmp_path / "a.parquet").chunks(9))
    data = pytest.importorskip("torch_geometric.data")
    ends = torch.tensor([0, 1, 0])
    with pytest.raises(ArgumentError, match=rf"t: expected whole numbers up to {2**63 - 1}, got {2**63 + 5}"):
        EventStream.from_temporal_data(data.TemporalData(src=ends, dst=ends, t=torch.from_numpy(large)))


def test_bytes_and_compact_dates(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", src=[1, 1], dst=[2, 2], t=np.array([b"1970-01-02", b"1970-01-03"]))
    assert read_events(tmp_path / "a.npz").t.tolist() == [86400, 172800]
    assert parse_date("20240501") is None
    assert as_numbers(np.array(["3"]), "x", "t", str).tolist() == [3]
