"""Layouts of events that are recognised by their name or their first lines."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from graphmem.data.formats.event_chunks import EventReader
from graphmem.data.formats.events import read_events
from graphmem.data.formats.jodie import is_jodie, read_jodie
from graphmem.data.formats.konect import is_konect
from graphmem.data.registry import canonical_stream_name, load_stream
from graphmem.errors import ArgumentError, DatasetIntegrityError, DatasetNotFoundError

JODIE = "user_id,item_id,timestamp,state_label,comma_separated_list_of_features\n"


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_users_and_items_of_one_number_are_two_nodes(tmp_path: Path) -> None:
    path = write(tmp_path / "mooc.csv", JODIE + "0,0,0.0,0,0.5,2\n1,0,1.0,1,-0.5,3\n0,1,2.0,0,0.25,4\n")
    for stream in (load_stream(path), read_jodie(path, name="mooc"), load_stream(str(path))):
        assert (stream.name, stream.num_nodes, stream.dst_range) == ("mooc", 4, (2, 4))
        assert (stream.src.tolist(), stream.dst.tolist(), stream.t.tolist()) == ([0, 1, 0], [2, 2, 3], [0, 1, 2])
        assert list(stream.node_names) == [0, 1, 0, 1]  # type: ignore[arg-type]
        assert stream.msg is not None
        assert stream.msg.tolist() == [[0.5, 2], [-0.5, 3], [0.25, 4]]
        assert stream.y is not None
        assert stream.y.tolist() == [0, 1, 0]


def test_what_is_taken_for_the_layout_of_jodie(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    for head, found in (
        (JODIE, True),
        ("\ufeff" + JODIE, True),
        ("user_id, item_id, timestamp, state_label\n", True),
        ("user_id,item_id,timestamp,state_label,f0,f1\n", True),
        ("user_id,item_id,timestamp\n", False),
        ("item_id,user_id,timestamp,state_label\n", False),
        ("", False),
    ):
        write(path, head + "0,0,0.0,1\n")
        assert is_jodie(path) == found, head
    assert load_stream(write(path, JODIE + "0,0,0.0,1\n")).msg is None  # as lastfm.csv
    assert not is_jodie(tmp_path / "none.csv")
    assert not is_jodie(write(tmp_path / "a.tsv", JODIE))
    with pytest.raises(DatasetIntegrityError, match=r"a.csv, line 3: expected .* found '1,0,1.0,x'"):
        load_stream(write(path, JODIE + "0,0,0.0,1\n1,0,1.0,x\n"))


KONECT = "% asym posweighted\n% 3 2 2\n1 2\t1 10\n2 1  -1 11.0\n1 2 3 12\n"


@pytest.mark.parametrize("name", ["out.munmun_digg", "OUT.opsahl-x", "out.some.gz"])
def test_the_layout_of_konect(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(gzip.compress(KONECT.encode()) if name.endswith("gz") else KONECT.encode())
    for stream in (read_events(path), load_stream(path), load_stream(str(path))):
        assert stream.name == name.split(".")[1]
        assert (stream.src.tolist(), stream.dst.tolist(), stream.t.tolist()) == ([0, 1, 0], [1, 0, 1], [10, 11, 12])
        assert stream.weight is not None
        assert stream.weight.tolist() == [1, -1, 3]
        assert not stream.is_bipartite
    assert read_events(path, columns=(0, 1, 2), sort=True).t.tolist() == [-1, 1, 3]
    assert read_events(path, columns=(0, 1, 3)).weight is None
    assert read_events(path, weight_column=3).weight.tolist() == [10, 11, 12]  # type: ignore[union-attr]
    assert read_events(path, drop_neutral=True).num_events == 3
    (chunk,) = EventReader(path).chunks(9)
    assert (chunk.src.tolist(), chunk.dst.tolist(), chunk.t.tolist()) == ([1, 2, 1], [2, 1, 2], [10, 11, 12])
    assert canonical_stream_name(str(path)) == str(path)


def test_sides_of_konect_are_apart(tmp_path: Path) -> None:
    path = write(tmp_path / "out.edits", KONECT.replace("asym", "bip"))
    stream = load_stream(path)
    assert (stream.src.tolist(), stream.dst.tolist(), stream.dst_range) == ([0, 1, 0], [3, 2, 3], (2, 4))


@pytest.mark.parametrize(("line", "cells"), [("1 2", 2), ("1 2 1", 3)])
def test_networks_of_konect_without_times(tmp_path: Path, line: str, cells: int) -> None:
    path = write(tmp_path / "out.static", f"% sym unweighted\n{line}\n")
    with pytest.raises(DatasetIntegrityError, match=f"line 2: .* found {cells} cells; events of a stream need a time"):
        load_stream(path)
    with pytest.raises(ArgumentError, match="has no column 3"):
        list(EventReader(path).chunks(9))
    with pytest.raises(DatasetIntegrityError, match="has no events"):
        load_stream(write(path, "% sym unweighted\n"))
    with pytest.raises(DatasetNotFoundError, match="no file"):
        load_stream(tmp_path / "out.none")


def test_what_is_no_name_of_konect(tmp_path: Path) -> None:
    for name in ("out.csv", "out.txt.gz", "out.tsv", "out.parquet", "out.npz", "out.", "out", "a.out", "out.a.b"):
        assert not is_konect(name), name
    assert read_events(write(tmp_path / "out.csv", "1,2,3\n")).t.tolist() == [3]
    assert [chunk.t.tolist() for chunk in EventReader(tmp_path / "out.csv").chunks(9)] == [[3]]
