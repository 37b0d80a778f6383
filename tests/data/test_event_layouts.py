"""Layouts of events that are recognised by their name or their first lines."""

from __future__ import annotations

from pathlib import Path

import pytest

from graphmem.data.formats.jodie import is_jodie, read_jodie
from graphmem.data.registry import load_stream
from graphmem.errors import DatasetIntegrityError

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
