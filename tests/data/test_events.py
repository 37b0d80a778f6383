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

from graphmem.data.formats.dgb import is_dgb, read_dgb
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
        ("src,dst,t\n", "has a line of names and no events"),
        ("# some\n\n1,2,3\n4,5\n", "line 4: expected src in column 0, dst in column 1, t in column 2, found '4,5'"),
        ("1,2,3\n4,5,late\n", "line 2: .* found '4,5,late'"),
        ("1,2,3\n\n4,5,\n", "line 3: .* found '4,5,'"),
        ("1,2,3\n\n4,5,nan\n", "line 3: event 1 has no time, but nan"),
        ("1,2,3\n4,5,inf\n", "line 2: event 1 has no time, but inf"),
        ("1,2,3\n\n4,5,2\n", "line 3: event 1 is earlier"),
        ("a,2,3\n,5,4\n", "line 2: expected an id for src, found ''"),
        ("a,2,3\nb, ,4\n", "line 2: expected an id for dst, found ''"),
        ("1,2,3\nnan,5,4\n", "line 2: expected an id for src, found 'nan'"),
        ("1,2,2024-05-01\n1,2,soon\n", "line 2: expected a number or a date, found 'soon'"),
    ],
)
def test_damaged_text(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path / "bad.csv", text)
    with pytest.raises(DatasetIntegrityError, match=message) as caught:
        read_events(path)
    assert str(path) in str(caught.value)


def test_long_names_stay_apart(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", f"{'a' * 300}x,b,1\n{'a' * 300}y,b,2\n")
    stream = read_events(path)
    assert stream.node_names is not None
    assert [stream.node_names[node] for node in stream.src.tolist()] == ["a" * 300 + "x", "a" * 300 + "y"]


def test_large_whole_times_stay_apart(tmp_path: Path) -> None:
    nanoseconds = [1_700_000_000_000_000_001, 1_700_000_000_000_000_002]
    stream = read_events(write(tmp_path / "a.csv", "".join(f"1,2,{t}\n" for t in nanoseconds)))
    assert stream.t.tolist() == nanoseconds
    np.savez(tmp_path / "a.npz", src=[0, 1], dst=[2, 0], t=np.array([1, 2**63], dtype=np.uint64))
    with pytest.raises(DatasetIntegrityError, match=r"times have to be below 2\*\*63"):
        read_events(tmp_path / "a.npz")


def test_dates(tmp_path: Path) -> None:
    want = [1714559400, 1714559401]
    for first, second in (
        ("2024-05-01 10:30:00", "2024-05-01 10:30:01"),
        ("2024-05-01T10:30:00", "2024-05-01T10:30:01Z"),
        ("2024-05-01T12:30:00+02:00", "2024-05-01T10:30:01+00:00"),
    ):
        path = write(tmp_path / "a.csv", f"1,2,{first}\n1,2,{second}\n")
        assert read_events(path).t.tolist() == want
        assert read_events(write(path, "who,whom,when\n" + path.read_text())).t.tolist() == want
    stream = read_events(write(tmp_path / "a.csv", "1,2,2024-05-01\n1,2,2024-05-01 00:00:00.5\n"))
    assert stream.t.tolist() == [1714521600, 1714521600.5]
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"u": [1, 1], "v": [2, 2], "t": pandas.to_datetime(want, unit="s")})
    assert read_events(frame).t.tolist() == want
    frame.loc[1, "t"] = pandas.NaT
    with pytest.raises(DatasetIntegrityError, match="empty cells in column 2"):
        read_events(frame)


def test_ids_that_are_kept(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "1,4,1\n4,4,2\n2,1,3\n")
    stream = read_events(path, ids="keep")
    assert (stream.src.tolist(), stream.num_nodes, stream.node_names) == ([1, 4, 2], 5, None)
    assert read_events(path, ids="keep", num_nodes=9).num_nodes == 9
    pair = read_events(path, ids="keep", bipartite=True)
    assert (pair.src.tolist(), pair.dst.tolist(), pair.num_nodes) == ([1, 4, 2], [9, 9, 6], 10)
    assert pair.dst_range == (5, 10)
    with pytest.raises(DatasetIntegrityError, match=r"at least 0 and below 4, found 1\.\.4"):
        read_events(path, ids="keep", num_nodes=4)
    with pytest.raises(DatasetIntegrityError, match=r"at least 0, found -1\.\.2"):
        read_events(write(tmp_path / "b.csv", "-1,2,3\n"), ids="keep")
    with pytest.raises(DatasetIntegrityError, match="expects whole numbers, found names"):
        read_events(write(tmp_path / "c.csv", "a,2,3\n"), ids="keep")
    with pytest.raises(ArgumentError, match="num_nodes: expected None"):
        read_events(path, num_nodes=9)
    with pytest.raises(ArgumentError, match="ids"):
        read_events(path, ids="guess")


def test_self_loops_are_dropped_on_request(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path / "a.csv", "1,4,1\n4,4,2\n2,1,3\n2,2,3\n")
    assert read_events(path).num_events == 4
    with caplog.at_level("INFO", logger="graphmem"):
        stream = read_events(path, drop_self_loops=True)
    assert "left out 2 events" in caplog.text
    assert stream.t.tolist() == [1, 3]
    assert stream.left_out == {"from a node to itself": 2}
    assert "left_out={'from a node to itself': 2}" in repr(stream[:1])
    assert read_events(write(tmp_path / "c.csv", "1,4,1\n"), drop_self_loops=True).left_out is None
    with pytest.raises(DatasetIntegrityError, match="all 1 events are left out: from a node to itself"):
        read_events(write(tmp_path / "b.csv", "1,1,1\n"), drop_self_loops=True)


def test_a_quoted_date_is_one_cell(tmp_path: Path) -> None:
    lines = '"1970-01-01 00:00:05" 1 4 7 0.5\n"1970-01-01 00:01:00" 4 2 8 1.5\n'
    stream = read_events(write(tmp_path / "a.txt", lines), columns=(1, 2, 0), msg_from=3)
    assert stream.t.tolist() == [5, 60]
    assert stream.msg is not None
    assert stream.msg.tolist() == [[7, 0.5], [8, 1.5]]
    commas = write(tmp_path / "a.csv", 'a,b,t,x\n1,"4, the second",7,0.5\n')
    assert read_events(commas, msg_from=3).msg.tolist() == [[0.5]]  # type: ignore[union-attr]


def test_labels_are_numbers(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "1,4,1,nan\n4,2,5,1\n")
    with pytest.raises(DatasetIntegrityError, match="y: expected finite numbers, got 1 others, the first in event 0"):
        read_events(path, label_column=3)


def test_a_column_called_weight_is_that_of_the_weights(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "src,dst,time,weight\n1,4,1,2\n4,2,5,-3\n")
    stream = read_events(path)
    assert stream.sign is not None
    assert stream.sign.tolist() == [1, -1]
    assert read_events(path, msg_from=3).weight is None
    assert read_events(write(tmp_path / "b.csv", "1,4,1,2\n4,2,5,-3\n")).weight is None


def test_neutral_events_and_unknown_nodes_are_dropped_on_request(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path / "a.csv", "1,4,2,1\n-1,4,-1,2\n2,1,0,3\n-1,7,0,3\n4,2,-3,5\n")
    options: dict[str, Any] = {"columns": (0, 1, 3), "weight_column": 2}
    assert read_events(path, **options).num_events == 5
    with caplog.at_level("INFO", logger="graphmem"):
        stream = read_events(path, **options, drop_neutral=True, unknown_id=-1)
    assert "left out 2 events of weight 0" in caplog.text
    assert "left out 2 events of unknown nodes (-1)" in caplog.text
    assert stream.left_out == {"of weight 0": 2, "of unknown nodes (-1)": 2}
    assert stream.num_nodes == 3
    assert stream.sign is not None
    assert (stream.src.tolist(), stream.dst.tolist()) == ([0, 2], [2, 1])
    assert (stream.t.tolist(), stream.sign.tolist()) == ([1, 5], [1, -1])
    with pytest.raises(ArgumentError, match="drop_neutral: expected a weight_column"):
        read_events(path, drop_neutral=True)
    with pytest.raises(DatasetIntegrityError, match="all 1 events are left out: of weight 0"):
        read_events(write(tmp_path / "b.csv", "1,2,0,1\n"), **options, drop_neutral=True)


def test_self_loops_are_those_of_nodes(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "1,1,1\n1,2,2\n")
    assert read_events(path, bipartite=True, drop_self_loops=True).num_events == 2  # user 1 and page 1 are two nodes
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"u": [5, 6], "v": ["5", "7"], "t": [1, 2]})
    assert read_events(frame, drop_self_loops=True).t.tolist() == [2]


def test_names_as_bytes(tmp_path: Path) -> None:
    columns: dict[str, Any] = {"src": np.array([b"b", b"a"]), "dst": np.array(["a", "c"]), "t": np.array([1, 2])}
    np.savez(tmp_path / "a.npz", **columns)
    assert list(read_events(tmp_path / "a.npz").node_names) == ["a", "b", "c"]  # type: ignore[arg-type]
    for change, message in (
        ({"src": np.array([b"\xff", b"a"])}, "cannot be read"),
        ({"src": np.array([True, False])}, "expected ids for src, found truth values"),
    ):
        np.savez(tmp_path / "b.npz", **{**columns, **change})
        with pytest.raises(DatasetIntegrityError, match=message):
            read_events(tmp_path / "b.npz")


@pytest.mark.parametrize("rows", [1, 5])
@pytest.mark.parametrize("options", [{}, {"sort": True}, {"sort": True, "drop_self_loops": True}])
def test_messages_of_another_number_of_events(tmp_path: Path, rows: int, options: dict[str, bool]) -> None:
    np.savez(tmp_path / "a.npz", src=[0, 1, 2], dst=[1, 2, 2], t=[3, 2, 1], msg=np.ones((rows, 2)))
    with pytest.raises(DatasetIntegrityError, match="expected a row of msg for each of 3 events"):
        read_events(tmp_path / "a.npz", **options)  # type: ignore[arg-type]


def test_damaged_arrays(tmp_path: Path) -> None:
    good: dict[str, Any] = {"src": np.array([0.0, 1]), "dst": np.array([2, 0]), "t": np.array([1, 2])}
    np.savez(tmp_path / "a.npz", **good)
    assert read_events(tmp_path / "a.npz").src.tolist() == [0, 1]
    for change, message in (
        ({"src": np.array([0, np.nan])}, "row 1: expected an id for src, found nan"),
        ({"dst": np.array([0.5, 1])}, "row 0: expected an id for dst, found 0.5"),
        ({"dst": np.array([2.0**60, 1])}, "row 0: expected an id for dst"),
        ({"src": np.array([2**63, 1], dtype=np.uint64)}, r"ids have to be below 2\*\*63"),
        ({"src": np.array([1])}, "expected columns of one length"),
        ({"src": np.array([[1], [2]])}, "expected columns of one length"),
        ({"t": np.array(5)}, "expected columns of one length"),
        ({"weight": np.ones(3)}, "expected columns of one length"),
        ({"weight": np.array(["a", "b"])}, "cannot be read"),
        ({"msg": np.ones((1, 2))}, "msg"),
        ({name: np.empty(0) for name in good}, "there are no events"),
    ):
        np.savez(tmp_path / "b.npz", **{**good, **change})
        with pytest.raises(DatasetIntegrityError, match=message):
            read_events(tmp_path / "b.npz")


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


DGB = ",u,i,ts,label,idx\n0,1,3,0.0,0.0,1\n1,2,4,0.0,1.0,2\n2,1,4,7.0,0.0,3\n"


def test_the_layout_of_dgb(tmp_path: Path) -> None:
    path, features = write(tmp_path / "ml_some.csv", DGB), tmp_path / "ml_some.npy"
    np.save(features, np.arange(8.0).reshape(4, 2))
    stream = load_stream(path)
    assert (stream.name, stream.dst_range, list(stream.node_names)) == ("some", (2, 4), [1, 2, 3, 4])  # type: ignore[arg-type]
    assert (stream.src.tolist(), stream.dst.tolist(), stream.t.tolist()) == ([0, 1, 0], [2, 3, 3], [0, 0, 7])
    assert stream.msg is not None
    assert stream.msg.tolist() == [[2, 3], [4, 5], [6, 7]]
    assert stream.y is not None
    assert stream.y.tolist() == [0, 1, 0]
    assert stream.node_features is None
    for rows in (5, 7):  # that of id 0, and perhaps those of nodes without an event
        np.save(tmp_path / "ml_some_node.npy", np.arange(2.0 * rows).reshape(rows, 2))
        found = read_dgb(path).node_features
        assert found is not None
        assert found.tolist() == [[2, 3], [4, 5], [6, 7], [8, 9]]
    np.save(tmp_path / "ml_some_node.npy", np.zeros((5, 2)))
    assert read_dgb(path).node_features is None
    np.save(features, np.zeros((4, 1)))  # no features
    assert read_dgb(path).msg is None
    features.unlink()
    assert read_dgb(path, name="other").name == "other"
    # Another order, in which idx says whose features are whose.
    lines = DGB.splitlines()
    shuffled = "\n".join([lines[0], lines[3], *lines[1:3]])
    np.save(features, np.arange(8.0).reshape(4, 2))
    with pytest.raises(DatasetIntegrityError, match="line 3: event 1 is earlier"):
        read_dgb(write(path, shuffled))
    assert read_dgb(path, sort=True).msg.tolist() == [[2, 3], [4, 5], [6, 7]]  # type: ignore[union-attr]


def test_a_damaged_layout_of_dgb(tmp_path: Path) -> None:
    path, features = write(tmp_path / "ml_some.csv", DGB), tmp_path / "ml_some.npy"
    for array in (np.ones((3, 2)), np.ones(4), np.array([["a"]] * 4)):
        np.save(features, array)
        with pytest.raises(DatasetIntegrityError, match=r"expected features \[4, D\]"):
            read_dgb(path)
    features.unlink()
    for array in (np.ones((4, 2)), np.ones(5), np.array([["a"]] * 5)):
        np.save(tmp_path / "ml_some_node.npy", array)
        with pytest.raises(DatasetIntegrityError, match=r"ml_some_node.npy: expected features \[5 or more, F\]"):
            read_dgb(path)
    np.save(tmp_path / "ml_some_node.npy", np.full((5, 2), np.nan))
    with pytest.raises(ArgumentError, match="node_features: expected finite"):
        read_dgb(path)
    (tmp_path / "ml_some_node.npy").unlink()
    features.write_bytes(b"no array")
    with pytest.raises(DatasetIntegrityError, match=r"ml_some.npy: cannot be read"):
        read_dgb(path)
    np.save(features, np.ones((4, 2)))
    with pytest.raises(DatasetIntegrityError, match=r"the numbers 1 to 3 in column 'idx'"):
        read_dgb(write(path, DGB.replace(",3\n", ",2\n")))
    with pytest.raises(ArgumentError, match="no column 'u'"):
        read_dgb(write(path, "a,b\n1,2\n"))
    assert not is_dgb(path)
    assert not is_dgb(tmp_path / "ml_none.csv")


def test_names_of_streams_and_graphs(tmp_path: Path) -> None:
    assert canonical_stream_name("JODIE-wikipedia") == "wikipedia"
    assert canonical_stream_name("x/y.csv") == "x/y.csv"
    with pytest.raises(DatasetError, match=r"use load_stream\('collegemsg'\)"):
        load_dataset("uci-messages")
    with pytest.raises(DatasetError, match=r"use load_dataset\('cora'\)"):
        load_stream("Cora")
    assert load_stream(str(write(tmp_path / "a.csv", "1,2,3\n"))).num_nodes == 2


ABSENT = ("reddit", "mooc", "lastfm", "bitcoin-alpha")  # and TGB's, which have a format of their own
STREAMS = [card.name for card in list_datasets() if card.format == "events" and card.name not in ABSENT]


@pytest.mark.realdata
def test_signs_of_bitcoin_otc() -> None:
    stream = load_stream("bitcoin-otc", download=False)
    assert stream.sign is not None
    assert int((stream.sign < 0).sum()) == 3563
    assert int((stream.sign == 0).sum()) == 0
    assert stream.t.long().unique().numel() == 35_427
    keys = stream.src * stream.num_nodes + stream.dst
    assert keys.unique().numel() == len(stream)
    assert not bool((stream.src == stream.dst).any())


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
