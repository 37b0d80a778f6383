"""Events from files and frames."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from graphmem.data.formats.events import read_events
from graphmem.data.registry import canonical_stream_name, dataset_card, list_datasets, load_dataset, load_stream
from graphmem.errors import ArgumentError, DatasetError, DatasetIntegrityError, DatasetNotFoundError

rows = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(0, 5), st.integers(-3, 3)), min_size=1)


@given(rows, st.sampled_from(["csv", "tsv", "txt", "csv.gz"]), st.booleans(), st.booleans())
def test_round_trip(
    tmp_path_factory: pytest.TempPathFactory, drawn: list[tuple[int, ...]], ending: str, header: bool, named: bool
) -> None:
    path = tmp_path_factory.mktemp("events") / f"some.{ending}"
    delimiter = {"csv": ",", "tsv": "\t", "txt": " "}[ending.partition(".")[0]]
    now, lines, want = 0, ["# a comment", *([delimiter.join("uvtw")] if header else [])], []
    for u, v, wait, w in drawn:
        now += wait
        want.append((u, v, now, w))
        ends = (f"user{u}", f"user{v}") if named else (10 * u, 10 * v)
        lines.append(delimiter.join(map(str, (*ends, now, w))))
    text = ("\n".join(lines) + "\n").encode()
    path.write_bytes(gzip.compress(text) if ending.endswith("gz") else text)
    stream = read_events(path, columns=("u", "v", "t") if header else (0, 1, 2), weight_column=3)
    names = stream.node_names if stream.node_names is not None else range(stream.num_nodes)
    for end, column in ((stream.src, 0), (stream.dst, 1)):
        found = [names[node] for node in end.tolist()]
        assert found == [f"user{row[column]}" if named else 10 * row[column] for row in want]
    assert stream.t.tolist() == [row[2] for row in want]
    assert stream.t.dtype == torch.int64
    assert stream.weight is not None
    assert stream.weight.tolist() == [row[3] for row in want]
    assert stream.name == "some"


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_bipartite_features_labels_and_times(tmp_path: Path) -> None:
    path = write(
        tmp_path / "j.csv", "user_id,item_id,timestamp,state_label,f,f\n3,0,0.5,0,1,2\n1,0,0.5,1,3,4\n3,2,2,0,5,6\n"
    )
    stream = read_events(path, label_column="state_label", msg_from=4, bipartite=True)
    assert (stream.src.tolist(), stream.dst.tolist(), stream.dst_range) == ([1, 0, 1], [2, 2, 3], (2, 4))
    assert stream.t.dtype == torch.float64
    assert stream.msg is not None
    assert stream.msg.tolist() == [[1, 2], [3, 4], [5, 6]]
    assert stream.y is not None
    assert stream.y.tolist() == [0, 1, 0]
    assert read_events(path, msg_from=6).msg is None


def test_sorting_is_asked_for(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "1 2 5\n3 4 4\n5 6 5\n7 8 4\n")
    with pytest.raises(DatasetIntegrityError, match=r"event 1 is earlier than the one before it \(2 such places\)"):
        read_events(path)
    stream = read_events(path, sort=True)
    assert stream.node_names is not None
    assert [stream.node_names[k] for k in stream.src.tolist()] == [3, 7, 1, 5]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no events"),
        ("# nothing\n\n", "has no events"),
        ("1,2,3\n4,5\n", "cannot be read"),
        ("1,2,3\n4,5,late\n", "cannot be read"),
        ("1,2,3\n4,5,\n", "cannot be read"),
        ("1,2,3\n4,5,nan\n", "event 1 has no time, but nan"),
        ("1,2,3\n4,5,inf\n", "event 1 has no time, but inf"),
    ],
)
def test_damaged_text(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path / "bad.csv", text)
    with pytest.raises(DatasetIntegrityError, match=message) as caught:
        read_events(path)
    assert str(path) in str(caught.value)


def test_wrong_calls(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "1,2,3\n")
    for options, message in (
        ({"columns": (0, 1)}, "columns: expected those of"),
        ({"columns": (0, 1, 3)}, "no column 3"),
        ({"columns": ("a", 1, 2)}, "no column 'a'"),
        ({"weight_column": 9}, "no column 9"),
    ):
        with pytest.raises(ArgumentError, match=message):
            read_events(path, **options)  # type: ignore[arg-type]
    with pytest.raises(DatasetNotFoundError, match="no file"):
        read_events(tmp_path / "none.csv")
    with pytest.raises(ArgumentError, match="ends in none of"):
        read_events(write(tmp_path / "a.dat", "1 2 3"))
    with pytest.raises(ArgumentError, match="expected a path"):
        read_events(3)


def test_npz_and_frames(tmp_path: Path) -> None:
    columns: dict[str, Any] = {"src": np.array([0, 1]), "dst": np.array([2, 0]), "t": np.array([1, 2])}
    np.savez(tmp_path / "a.npz", **columns, weight=np.array([1.0, -1.0]))
    stream = read_events(tmp_path / "a.npz")
    assert (stream.num_nodes, stream.sign.tolist()) == (3, [1, -1])  # type: ignore[union-attr]
    np.savez(tmp_path / "b.npz", src=columns["src"])
    with pytest.raises(DatasetIntegrityError, match=r"\['dst', 't'\] are missing"):
        read_events(tmp_path / "b.npz")
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"who": ["x", "y"], "whom": ["z", "x"], "when": [1.5, 2.5]})
    stream = read_events(frame, columns=("who", "whom", "when"), name="f")
    assert (list(stream.node_names), stream.src.tolist(), stream.name) == (["x", "y", "z"], [0, 1], "f")  # type: ignore[arg-type]
    frame.loc[1, "whom"] = None
    with pytest.raises(DatasetIntegrityError, match="empty cells in column 'whom', the first in row 1"):
        read_events(frame, columns=("who", "whom", "when"))


def test_names_of_streams_and_graphs(tmp_path: Path) -> None:
    assert canonical_stream_name("JODIE-wikipedia") == "wikipedia"
    assert canonical_stream_name("x/y.csv") == "x/y.csv"
    with pytest.raises(DatasetError, match=r"use load_stream\('collegemsg'\)"):
        load_dataset("uci-messages")
    with pytest.raises(DatasetError, match=r"use load_dataset\('cora'\)"):
        load_stream("Cora")
    assert load_stream(str(write(tmp_path / "a.csv", "1,2,3\n"))).num_nodes == 2


STREAMS = [card.name for card in list_datasets() if card.is_stream and card.name not in ("reddit", "mooc", "lastfm")]


@pytest.mark.realdata
@pytest.mark.parametrize("name", STREAMS)
def test_local_streams_are_what_their_cards_say(name: str) -> None:
    stream, card = load_stream(name, download=False), dataset_card(name)
    assert (stream.num_nodes, stream.num_events) == (card.num_nodes, card.num_events)
    assert bool((stream.t.diff() >= 0).all())


@pytest.mark.realdata
def test_wikipedia_with_features(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The publisher's file has features; the same events pass, others do not."""
    import os

    path = Path(os.environ["GRAPHMEM_DATA"]) / "temporal/wikipedia/raw/wikipedia.csv"
    lines = path.read_text().splitlines()
    target = tmp_path / "temporal/wikipedia/raw"
    target.mkdir(parents=True)
    (target / "wikipedia.csv").write_text("\n".join([lines[0], *(line + ",0.5,-1" for line in lines[1:])]))
    stream = load_stream("wikipedia", root=tmp_path, download=False)
    assert stream.msg_dim == 2
    (target / "wikipedia.csv").write_text("\n".join([lines[0], "1,0,0,0", *lines[2:]]))
    with pytest.raises(DatasetIntegrityError):
        load_stream("wikipedia", root=tmp_path, download=False)
