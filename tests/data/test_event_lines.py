"""What both readers of text make of the same lines."""

from __future__ import annotations

import gzip
import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from graphmem.data.formats.event_chunks import EventReader
from graphmem.data.formats.event_text import EventText
from graphmem.data.formats.events import read_events
from graphmem.errors import DatasetIntegrityError


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def whole(path: Path, **options: Any) -> list[tuple[Any, ...]]:
    """Events as the reader of whole files has them."""
    stream = read_events(path, **options)
    names = np.arange(stream.num_nodes) if stream.node_names is None else np.asarray(stream.node_names)
    return list(
        zip(names[stream.src.numpy()].tolist(), names[stream.dst.numpy()].tolist(), stream.t.tolist(), strict=True)
    )


def chunked(path: Path | str, size: int = 2, **options: Any) -> list[tuple[Any, ...]]:
    """The same from the reader of chunks."""
    chunks = EventReader(path, **options).chunks(size)
    return [event for c in chunks for event in zip(c.src.tolist(), c.dst.tolist(), c.t.tolist(), strict=True)]


@pytest.mark.parametrize("first", ["1,2,x", "1,2,", "u1,v1,17x", "u1,v1,-", "u1,v1,", "1,v,when", "u,2,when"])
def test_a_malformed_first_line_is_no_line_of_names(tmp_path: Path, first: str) -> None:
    path = write(tmp_path / "a.csv", f"# what\n{first}\n3,4,1800000000\n")
    message = rf"a\.csv, line 2: expected src in column 0, .* found '{first}' .*header=True"
    with pytest.raises(DatasetIntegrityError, match=message):
        read_events(path)
    for numbers in (True, False):
        with pytest.raises(DatasetIntegrityError, match=message):
            chunked(path, numbers=numbers)
    assert whole(path, header=True) == [(3, 4, 1800000000)] == chunked(path, header=True)


@pytest.mark.parametrize("first", ["u,v,t", "src,dst,_time", 'source, target,"when exactly"', "a,b,Zeit", "ü,v,été"])
def test_a_line_of_names(tmp_path: Path, first: str) -> None:
    path = write(tmp_path / "a.csv", f"{first}\n3,4,5\n")
    assert whole(path) == [(3, 4, 5)] == chunked(path)


def test_a_line_of_names_between_blanks(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", 'u v "the time"\n3 4 5\n')
    assert whole(path) == [(3, 4, 5)] == chunked(path)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("head", ["", "# comment\n", "u,v,t\n"])
def test_a_byte_order_mark_is_no_part_of_the_text(
    tmp_path: Path, head: str, packed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = f"\ufeff{head}1,2,3\n2,1,4\n"
    path = tmp_path / ("a.csv.gz" if packed else "a.csv")
    path.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    want = [(1, 2, 3), (2, 1, 4)]
    assert whole(path) == want == chunked(path)
    if head.startswith("u"):
        assert whole(path, columns=("u", "v", "t")) == want == chunked(path, columns=("u", "v", "t"))
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))
    assert chunked("-") == want


def test_blanks_around_names_are_none_of_them(tmp_path: Path) -> None:
    text = 'ada, bob , 5\n"ada" ,"bob", 6\n ada, "bob", 7\n" ada ","Doe, Jane",8\nbob, "Doe, Jane" ,9\n'
    text += '"a ""b"" c", "a ""b"" c",10\n'
    path = write(tmp_path / "a.csv", text)
    want = [("ada", "bob", 5), ("ada", "bob", 6), ("ada", "bob", 7), ("ada", "Doe, Jane", 8), ("bob", "Doe, Jane", 9)]
    want.append(('a "b" c',) * 2 + (10,))  # type: ignore[arg-type]
    assert whole(path) == want == chunked(path, numbers=False)
    write(path, text.replace("ada", " ", 1))
    with pytest.raises(DatasetIntegrityError, match="line 1"):
        whole(path)
    with pytest.raises(DatasetIntegrityError, match="line 1"):
        chunked(path, numbers=False)


def test_numbers_in_quotes_behind_blanks(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", '1, "2", 3\n"2", 1, "4"\n')
    assert whole(path) == [(1, 2, 3), (2, 1, 4)] == chunked(path)


@pytest.mark.parametrize("name", ["nan", "NaN", ""])
def test_what_is_no_name(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / "a.csv", f"a,b,1\n{name},b,2\n")
    for read in (whole, lambda path: chunked(path, numbers=False)):
        with pytest.raises(DatasetIntegrityError, match="line 2"):
            read(path)


ODD = ["007", "+7", "-0", "00", "-07", '"007"', " 007", "\u00a007", "+007"]


@pytest.mark.parametrize("ending", ["csv", "tsv", "txt", "csv.gz"])
@pytest.mark.parametrize("odd", ODD)
def test_numbers_in_another_form_are_text(tmp_path: Path, odd: str, ending: str) -> None:
    delimiter = {"tsv": "\t", "txt": " "}.get(ending, ",")
    text = "7,0,1\n-3,7,2\n".replace(",", delimiter) + delimiter.join((odd, "7", "3")) + "\n"
    path = tmp_path / f"a.{ending}"
    path.write_bytes(gzip.compress(text.encode()) if ending.endswith("gz") else text.encode())
    want = [("7", "0", 1), ("-3", "7", 2), (odd.strip().strip('"'), "7", 3)]
    assert whole(path) == want == chunked(path, numbers=False)
    with pytest.raises(DatasetIntegrityError, match=r"line 3: expected two whole numbers .* found the id '.*' in"):
        chunked(path)


@pytest.mark.parametrize(
    "line", ["1,2,3,+1", "1,2,3,-0.5", "1,2,3,007", "-1,2,3,0", "0,1,3,00", "1,2,+3,0", "1,2,03,0"]
)
def test_other_cells_may_have_any_form(tmp_path: Path, line: str) -> None:
    path = write(tmp_path / "a.csv", line + "\n")
    ends = tuple(map(int, line.split(",")[:2]))
    assert whole(path) == [(*ends, 3)] == chunked(path)


def test_ids_in_odd_forms_are_found_wherever_they_stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.csv", "11,222,3\n" * 20 + "11,0222,3\n")
    for size in range(1, 30):
        monkeypatch.setattr("graphmem.data.formats.event_text._BYTES_AT_ONCE", size)
        assert whole(path)[-1] == ("11", "0222", 3)
    write(path, "11,222,3\n" * 20)
    text = EventText(path, {"src": 0, "dst": 1, "t": 2}, None, ",", None)
    assert text.read()["src"].dtype == np.int64


def test_an_odd_id_may_end_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "1,2,0\n2,3,-0")
    assert whole(path, columns=(1, 2, 0)) == [("2", "0", 1), ("3", "-0", 2)]
    with pytest.raises(DatasetIntegrityError, match="line 2: .* found the id '-0' in '2,3,-0'"):
        chunked(path, columns=(1, 2, 0))


def test_numbers_too_large_for_a_node_are_text(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", f"{2**63},7,1,+1\n7,7,2,+1\n")
    assert whole(path) == [(str(2**63), "7", 1), ("7", "7", 2)]


DATES = [
    ("2024-05-01 10:30:00", "2024-05-01T10:30:01Z"),
    ("2024-05-01T12:30:00+02:00", '"2024-05-01 10:30:01"'),
    (" 2024-05-01T10:30", " 2024-05-01 10:30:01"),
]


@pytest.mark.parametrize("dates", DATES)
@pytest.mark.parametrize("head", ["", "u,v,t\n"])
@pytest.mark.parametrize("size", [1, 2])
def test_dates_are_seconds(tmp_path: Path, dates: tuple[str, str], head: str, size: int) -> None:
    path = write(tmp_path / "a.csv", head + "".join(f"1,2,{date}\n" for date in dates))
    want = [(1, 2, 1714559400), (1, 2, 1714559401)]
    assert whole(path) == want == chunked(path, size)
    write(path, f"{head}1,2,{dates[0]}\n")
    assert whole(path) == want[:1] == chunked(path, size)


def test_dates_that_are_no_whole_seconds(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "1,2,2024-05-01\n1,2,2024-05-01 00:00:00.5\n")
    want = [(1, 2, 1714521600), (1, 2, 1714521600.5)]
    assert whole(path) == want == chunked(path, whole_times=False)
    with pytest.raises(DatasetIntegrityError, match=r"line 2: expected two whole numbers and a whole time"):
        chunked(path)
    write(path, "1,2,2024-05-01\n1,2,soon\n")
    for read in (whole, chunked):
        with pytest.raises(DatasetIntegrityError, match="line 2: expected a number or a date, found 'soon'"):
            read(path)


def test_nanoseconds_stay_apart(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "1,2,1700000009000000001\n1,2,1700000009000000002\n1,2,1700000009000000003\n")
    want = [(1, 2, 1_700_000_009_000_000_000 + k) for k in (1, 2, 3)]
    assert whole(path) == want == chunked(path)
    for text in ("1,2,1700000009000000001\n1,2,1.0\n", "1,2,9223372036854775808\n"):
        with pytest.raises(DatasetIntegrityError, match=r"line 1: .* a whole time .* found 1, 2, "):
            chunked(write(path, text))


@pytest.mark.parametrize("zone", [None, "Europe/Berlin"])
@pytest.mark.parametrize("unit", ["ns", "us", "s"])
def test_dates_of_parquet(tmp_path: Path, zone: str | None, unit: str) -> None:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    times = pandas.Series(pandas.to_datetime([1714559400, 1714559401], unit="s", utc=True)).astype(
        f"datetime64[{unit}, UTC]"
    )
    times = times.dt.tz_convert(zone) if zone else times.dt.tz_localize(None)
    frame = pandas.DataFrame({"u": [1, 1], "v": [2, 2], "t": times})
    frame.to_parquet(tmp_path / "a.parquet")
    want = [(1, 2, 1714559400), (1, 2, 1714559401)]
    assert whole(tmp_path / "a.parquet") == want == chunked(tmp_path / "a.parquet")
    frame["t"] = times.astype(str)
    frame.to_parquet(tmp_path / "a.parquet")
    assert whole(tmp_path / "a.parquet") == want == chunked(tmp_path / "a.parquet")


def test_a_quote_that_is_not_closed_takes_no_event(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", '1,2,3\n1,"2,4\n1,2",5\n')
    for read in (whole, lambda path: chunked(path, 9), lambda path: chunked(path, 9, numbers=False)):
        with pytest.raises(DatasetIntegrityError, match="line 2: expected"):
            read(path)
    write(path, '1,2,3,"a\nb"\n2,1,4,c\n')  # a column that is not read
    assert whole(path) == [(1, 2, 3), (2, 1, 4)]
    with pytest.raises(DatasetIntegrityError, match="line 2: expected .* found 'b\"'"):
        chunked(path, 9)


def test_a_cell_of_any_length(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "1,2,3," + "x" * 200_000 + "\n")
    for read in (whole, chunked):
        with pytest.raises(DatasetIntegrityError, match="found a line that begins with '1,2,3,x"):
            read(path)
