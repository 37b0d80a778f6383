"""EventReader: chunks of text and Parquet, the lines of what is malformed, and nothing read ahead."""

from __future__ import annotations

import gzip
import io
import os
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphmem.data.formats.event_chunks import EventChunk, EventReader
from graphmem.data.formats.events import read_events
from graphmem.errors import ArgumentError, DatasetIntegrityError, DatasetNotFoundError

TEXT = "# made by hand\nwho,to,when,a,b\n3,10,0.0,0.5,1\n\n3,11,2,-1,2e3\n1,10,2,0,0\n"


def write(folder: Path, text: str, name: str = "events.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def joined(chunks: list[EventChunk]) -> list[list[Any]]:
    return [np.concatenate([getattr(chunk, name) for chunk in chunks]).tolist() for name in ("src", "dst", "t", "msg")]


@pytest.mark.parametrize("size", [1, 2, 3, 7])
@pytest.mark.parametrize("skip", [0, 1, 3, 9])
@pytest.mark.parametrize("format", ["csv", "csv.gz", "tsv", "txt", "parquet", "stdin"])
def test_chunks(tmp_path: Path, size: int, skip: int, format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    source = str(tmp_path / f"events.{format}")
    if format == "stdin":
        source = "-"
        monkeypatch.setattr(sys, "stdin", io.StringIO(TEXT))
    elif format == "parquet":
        pandas = pytest.importorskip("pandas")
        pytest.importorskip("pyarrow")
        pandas.read_csv(io.StringIO(TEXT), comment="#").to_parquet(source, row_group_size=2)
    elif format == "csv.gz":
        Path(source).write_bytes(gzip.compress(TEXT.encode()))
    else:
        write(tmp_path, TEXT.replace(",", {"csv": ",", "tsv": "\t", "txt": "  "}[format]), Path(source).name)
    reader = EventReader(source, columns=("who", 1, "when"), msg_from=3)
    chunks = list(reader.chunks(size, skip))
    left = max(3 - skip, 0)
    assert [len(chunk.places) for chunk in chunks] == [size] * (left // size) + [left % size] * (left % size > 0)
    if not chunks:
        return
    places = [place for chunk in chunks for place in chunk.places]
    assert places == (["row 0", "row 1", "row 2"] if format == "parquet" else ["line 3", "line 5", "line 6"])[skip:]
    src, dst, t, msg = joined(chunks)
    assert (src, dst, t) == ([3, 3, 1][skip:], [10, 11, 10][skip:], [0, 2, 2][skip:])
    assert msg == [[0.5, 1.0], [-1.0, 2000.0], [0.0, 0.0]][skip:]
    assert all(chunk.t.dtype == np.int64 and chunk.msg.dtype == np.float32 for chunk in chunks)  # type: ignore[union-attr]


@pytest.mark.parametrize("format", ["csv", "parquet"])
def test_weights(tmp_path: Path, format: str) -> None:
    text = "who,to,when,w,a\n3,10,0,-2.5,7\n3,11,2,1,8\n1,10,2,0,9\n"
    path = tmp_path / f"events.{format}"
    if format == "parquet":
        pandas = pytest.importorskip("pandas")
        pytest.importorskip("pyarrow")
        pandas.read_csv(io.StringIO(text)).to_parquet(path)
    else:
        path.write_text(text, encoding="utf-8")
    chunks = EventReader(path, weight_column="w", msg_from=4).chunks(2)
    first = next(chunks)
    assert first.weight is not None
    assert (first.weight.tolist(), first.weight.dtype) == ([-2.5, 1], np.float32)
    assert first.msg is not None
    assert first.msg.tolist() == [[7], [8]]
    wanted = r"two whole numbers, a whole time and a weight other than 0 .*'w'.* found 1, 10, 2(\.0)?, 0"
    with pytest.raises(DatasetIntegrityError, match=wanted):
        next(chunks)
    assert next(EventReader(path, weight_column=3).chunks(1)).weight == [-2.5]
    assert next(EventReader(path).chunks(1)).weight is None


@given(
    st.lists(st.tuples(st.integers(-9, 99), st.integers(0, 99), st.integers(0, 5)), min_size=1, max_size=20), st.data()
)
def test_as_the_reader_of_whole_files(tmp_path_factory: pytest.TempPathFactory, rows: Any, data: st.DataObject) -> None:
    path = write(
        tmp_path_factory.mktemp("x"), "\n".join(f"{u},{v},{w}" for u, v, w in sorted(rows, key=lambda r: r[2]))
    )
    stream = read_events(path)
    names = np.arange(stream.num_nodes) if stream.node_names is None else np.asarray(stream.node_names)
    chunks = list(EventReader(path).chunks(data.draw(st.integers(1, 25))))
    for name in ("src", "dst"):
        assert np.array_equal(
            np.concatenate([getattr(chunk, name) for chunk in chunks]), names[getattr(stream, name).numpy()]
        )
    assert np.array_equal(np.concatenate([chunk.t for chunk in chunks]), stream.t)


def test_names_with_anything_in_them(tmp_path: Path) -> None:
    path = write(tmp_path, 'source,target,t\n"Doe, Jane",#1,0.5\n' + "x" * 400 + ",7,0.75\n")
    (chunk,) = EventReader(path, numbers=False, whole_times=False).chunks(5)
    assert chunk.src.tolist() == ["Doe, Jane", "x" * 400]
    assert chunk.dst.tolist() == ["#1", "7"]
    assert chunk.t.tolist() == [0.5, 0.75]


BAD_LINES = {
    "too few": "4,5",
    "text as a number": "4,x,5",
    "fraction as an id": "4,1.5,5",
    "empty cell": "4,,5",
    "no time": "4,5,",
    "fraction as a time": "4,5,6.5",
    "no number as a time": "4,5,nan",
    "huge time": "4,5,1e300",
}


@pytest.mark.parametrize("case", BAD_LINES)
def test_malformed_lines_are_named(tmp_path: Path, case: str) -> None:
    path = write(tmp_path, f"1,2,3\n\n2,3,4\n{BAD_LINES[case]}\n5,6,7\n")
    chunks = EventReader(path).chunks(2)
    assert next(chunks).t.tolist() == [3, 4]
    with pytest.raises(DatasetIntegrityError, match=r"events.csv, line 4: expected two whole numbers and a whole time"):
        next(chunks)


def test_malformed_names_features_and_files(tmp_path: Path) -> None:
    for text, options, message in (
        ("a,,3", {"numbers": False}, "line 1: expected two names"),
        ("1,2,3,inf", {"msg_from": 3}, "line 1: .*, and finite features"),
        ("1,2,3,4\n1,2,3", {"msg_from": 3}, "line 2: .*, and finite features"),
    ):
        with pytest.raises(DatasetIntegrityError, match=message):
            list(EventReader(write(tmp_path, text), **options).chunks(9))  # type: ignore[arg-type]
    (tmp_path / "b.csv").write_bytes(b"1,2,3\n\xff\xfe,1,2\n")
    (tmp_path / "c.csv.gz").write_bytes(gzip.compress(b"1,2,3\n" * 9999)[:40])
    (tmp_path / "d.parquet").write_bytes(b"PAR1 no")
    for name in ("b.csv", "c.csv.gz", "d.parquet"):
        with pytest.raises(DatasetIntegrityError, match=name):
            list(EventReader(tmp_path / name).chunks(9))
    with pytest.raises(DatasetNotFoundError, match="no file"):
        EventReader(tmp_path / "none.csv")
    for source, options, message in (
        ("b.csv", {"format": "xml"}, "format: expected one of csv"),
        ("-", {"format": "parquet"}, "for standard input, got 'parquet'"),
        ("b.csv", {"columns": (0, 1)}, "columns: expected"),
        ("b.csv", {"columns": (0, 1, "t")}, "no column 't'"),
        ("b.csv", {"columns": (0, 1, 7)}, "no column 7"),
    ):
        where = "-" if source == "-" else write(tmp_path, "1,2,3", source)
        with pytest.raises(ArgumentError, match=message):
            list(EventReader(where, **options).chunks(9))  # type: ignore[arg-type]
    assert list(EventReader(write(tmp_path, "\n# nothing\n")).chunks(9)) == []
    assert list(EventReader(write(tmp_path, "source,target,time\n")).chunks(9)) == []


def test_parquet_names_the_row_of_an_empty_cell(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    frame = pandas.DataFrame({"u": [1, 2, 3, 4], "v": [1, 2, 3, 4], "t": [1, 2, None, 4]})
    frame.to_parquet(tmp_path / "x.parquet")
    with pytest.raises(DatasetIntegrityError, match="row 2: expected .* nothing in column 't'"):
        list(EventReader(tmp_path / "x.parquet").chunks(2))
    frame["t"] = ["a", "b", "c", "d"]
    frame.to_parquet(tmp_path / "x.parquet")
    with pytest.raises(DatasetIntegrityError, match="row 0: expected a number or a date, found 'a'"):
        list(EventReader(tmp_path / "x.parquet").chunks(2))


def test_a_pipe_is_read_no_further_than_the_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch is there as soon as its last event is, though the pipe stays open."""
    read, write_end = os.pipe()
    with os.fdopen(read) as pipe, os.fdopen(write_end, "w", buffering=1) as feed:
        monkeypatch.setattr(sys, "stdin", pipe)
        chunks = EventReader("-").chunks(2)
        feed.write("1,2,3\n2,3,4\n")
        found: list[EventChunk] = []
        reading = threading.Thread(target=lambda: found.append(next(chunks)), daemon=True)
        reading.start()
        reading.join(30)
        assert [chunk.t.tolist() for chunk in found] == [[3, 4]]
