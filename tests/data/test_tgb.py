"""TGB's layout on disk: ids, features, fixed negatives."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from tgb_files import VERSIONS, events_of, rows_of, write_tgb

from graphmem.data import load_stream, split_stream
from graphmem.data.fixed_negatives import FixedNegatives
from graphmem.data.formats.tgb import read_negatives
from graphmem.data.registry import load_publisher_negatives
from graphmem.errors import ArgumentError, DatasetError, DatasetIntegrityError, DatasetNotFoundError

pytest.importorskip("pandas")


@pytest.mark.parametrize("name", VERSIONS)
def test_ids_and_times_are_py_tgbs(tmp_path: Path, name: str) -> None:
    write_tgb(tmp_path, name)
    stream = load_stream(name, tmp_path, download=False)
    src, dst, t = events_of(name, rows_of(name, 160))
    assert (stream.src.tolist(), stream.dst.tolist(), stream.t.tolist()) == (src.tolist(), dst.tolist(), t.tolist())
    assert stream.name == name
    if name != "tgbl-wiki":
        assert stream.node_names is not None
        assert [stream.node_names[node] for node in stream.src.tolist()] == [row[1] for row in rows_of(name, 160)]


def test_features_are_py_tgbs(tmp_path: Path) -> None:
    def msg(name: str) -> tuple[torch.Tensor, list[list[str]]]:
        write_tgb(tmp_path, name)
        found = load_stream(name, tmp_path, download=False).msg
        assert found is not None
        return found, rows_of(name, 160)

    found, rows = msg("tgbl-coin")
    assert found[:, 0].tolist() == pytest.approx([np.log2(float(row[3]) or 1) for row in rows])
    found, rows = msg("tgbl-comment")
    words = [int(row[3]) / 5000 for row in rows]
    assert found[:, 0].tolist() == found[:, 1].tolist() == pytest.approx(words)
    assert found[:, 2].tolist() == [float(row[4]) for row in rows]
    found, rows = msg("tgbl-wiki")
    assert found.tolist() == pytest.approx(np.array([row[4:] for row in rows], dtype=np.float32))
    found, rows = msg("tgbl-flight")
    for got, row in zip(found.tolist(), rows, strict=True):
        text = row[3].ljust(8, "!") + (row[4] if len(row[4]) <= 8 else "").ljust(8, "!")
        assert got == [-1 if c == "!" else int(c) if c.isdigit() else ord(c) - 44 + 9 for c in text]


def test_days_of_flights(tmp_path: Path) -> None:
    folder = write_tgb(tmp_path, "tgbl-flight")
    (folder / "tgbl-flight_edgelist_v2.csv").write_text("day,src,dst,callsign,typecode\n2019-01-02,A,B,,\n")
    assert load_stream("tgbl-flight", tmp_path, download=False).t.tolist() == [1546387200]


@pytest.mark.parametrize("name", VERSIONS)
def test_negatives_are_the_publishers(tmp_path: Path, name: str) -> None:
    folder = write_tgb(tmp_path, name)
    stream = load_stream(name, tmp_path, download=False)
    split = split_stream(stream, protocol="tgb")
    negatives = load_publisher_negatives(name, split, tmp_path, download=False)
    assert negatives.k == 6
    for period, file in ((split.valid, "val"), (split.test, "test")):
        with (folder / f"{name}_{file}_ns{VERSIONS[name]}.pkl").open("rb") as opened:
            want = pickle.load(opened)
        for batch in (period[:7], period[7:]):
            src, dst = negatives.draw(batch, 0)
            absent = negatives.absent(batch)
            assert src is None
            for n, key in enumerate(zip(batch.src.tolist(), batch.dst.tolist(), batch.t.tolist(), strict=True)):
                there = dst[n] if absent is None else dst[n][~absent[n]]
                assert there.tolist() == want[key].tolist()
    with pytest.raises(ArgumentError, match="expected events of validation and test"):
        negatives.draw(split.train[-3:], 0)


def test_a_pickle_cannot_run_code(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, (f"touch {tmp_path / 'ran'}",)

    path = tmp_path / "ns.pkl"
    path.write_bytes(pickle.dumps({(1, 2, 3): Evil()}))
    with pytest.raises(DatasetIntegrityError, match="no part of a dictionary of arrays"):
        read_negatives(path)
    assert not (tmp_path / "ran").exists()


def test_other_files_and_splits(tmp_path: Path) -> None:
    path = tmp_path / "ns.pkl"
    for content, message in (
        (b"no pickle", "cannot be read"),
        (b"\x80\x05B\xff\xff\xff\x7f", "cannot be read|more memory"),
        (pickle.dumps([1]), "expected a dictionary of negatives, found list"),
        (pickle.dumps({1: np.ones(2)}), "cannot be read"),
        (pickle.dumps({(1, 2, 3): "x"}), "cannot be read"),
    ):
        path.write_bytes(content)
        with pytest.raises(DatasetIntegrityError, match=message):
            read_negatives(path)
    path.write_bytes(pickle.dumps({(np.int64(1), 2, np.float64(3)): [4, 5]}))
    assert {key: row.tolist() for key, row in read_negatives(path).items()} == {(1, 2, 3): [4, 5]}
    write_tgb(tmp_path, "tgbl-coin")
    stream = load_stream("tgbl-coin", tmp_path, download=False)
    with pytest.raises(ArgumentError, match="the split has to be the publisher's"):
        load_publisher_negatives("tgbl-coin", split_stream(stream, val_ratio=0.3), tmp_path, download=False)
    with pytest.raises(DatasetError, match="'a.csv' gives none"):
        load_publisher_negatives("a.csv", split_stream(stream))
    split = split_stream(stream)
    events = list(zip(stream.src.tolist(), stream.dst.tolist(), stream.t.tolist(), strict=True))
    with pytest.raises(ArgumentError, match="expected nodes in"):
        FixedNegatives(split, *[{key: np.array([stream.num_nodes]) for key in events}] * 2)
    with pytest.raises(DatasetNotFoundError, match="tgbl-wiki_edgelist_v2.csv"):
        load_stream("tgbl-wiki", tmp_path, download=False)


def test_beside_py_tgb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same events, features, split and negatives as py-tgb itself finds in the same folder."""
    dataset = pytest.importorskip("tgb.linkproppred.dataset")
    monkeypatch.setattr(dataset, "PROJ_DIR", "")
    for name in VERSIONS:
        folder = write_tgb(tmp_path, name)
        if name == "tgbl-flight":
            (folder / "airport_node_feat_v2.csv").touch()
            monkeypatch.setattr(dataset, "process_node_feat", lambda *_: None)
        theirs = dataset.LinkPropPredDataset(name, root=str(folder.parent), download=False)
        ours = load_stream(name, tmp_path, download=False)
        data = theirs.full_data
        assert ours.src.tolist() == data["sources"].tolist()
        assert ours.dst.tolist() == data["destinations"].tolist()
        assert ours.t.tolist() == data["timestamps"].tolist()
        np.testing.assert_allclose(ours.msg, data["edge_feat"], rtol=1e-6)
        split = split_stream(ours, protocol="tgb")
        assert [len(split.train), len(split.valid)] == [int(theirs.train_mask.sum()), int(theirs.val_mask.sum())]
        theirs.load_val_ns()
        batch = split.valid[:9]
        found = load_publisher_negatives(name, split, tmp_path, download=False)
        dst, absent = found.draw(batch, 0)[1], found.absent(batch)
        want = theirs.negative_sampler.query_batch(batch.src, batch.dst, batch.t, split_mode="val")
        assert [(row if absent is None else row[~absent[n]]).tolist() for n, row in enumerate(dst)] == want
