"""Readers on small files made here: what they accept, what they refuse, and how they say so."""

from __future__ import annotations

import json
import pickle
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from ogb_files import SPLITS, write_ogb, write_rows

from graphmem.data.cache import LocatedFiles
from graphmem.data.card import DatasetCard
from graphmem.data.formats import musae, npz_graph, ogb, planetoid, seal_mat
from graphmem.data.formats._common import sparse_features, undirected_edges
from graphmem.data.registry import dataset_card, load_dataset
from graphmem.errors import DatasetIntegrityError, DatasetNotFoundError, MissingExtraError

# ---- shared steps


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=60))
def test_undirected_edges(pairs: list[tuple[int, int]]) -> None:
    array = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    found = undirected_edges(array[:, 0], array[:, 1], 10).t().tolist()
    assert found == sorted([min(p), max(p)] for p in {frozenset(p) for p in pairs if p[0] != p[1]})


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4), st.sampled_from([-1.0, 0.5, 1.0, 2.0])), max_size=30))
def test_sparse_features_equal_dense(entries: list[tuple[int, int, float]]) -> None:
    dense = torch.zeros(4, 5)
    for i, j, value in entries:
        dense[i, j] += value
    row, col, value = (np.array(list(c)) for c in zip(*entries, strict=True)) if entries else (np.empty(0),) * 3
    found = sparse_features(row, col, value, (4, 5))
    assert torch.equal(found.to_dense(), dense)
    assert found.values().numel() == int((dense != 0).sum())


def test_edges_outside_the_graph() -> None:
    with pytest.raises(DatasetIntegrityError, match=r"\[0, 3\), found 0..3"):
        undirected_edges(np.array([0]), np.array([3]), 3)


# ---- Planetoid


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("this pickle ran code",)


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_pickles_cannot_run_code(protocol: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "ind.cora.graph"
    path.write_bytes(pickle.dumps({0: [Evil()]}, protocol=protocol))
    with pytest.raises(DatasetIntegrityError, match=r"ind.cora.graph.*asks for .*print"):
        planetoid.read_pickle(path)
    assert "ran code" not in capsys.readouterr().out


def test_damaged_pickle(tmp_path: Path) -> None:
    path = tmp_path / "ind.cora.y"
    path.write_bytes(b"\x80\x02}q\x01U")
    with pytest.raises(DatasetIntegrityError, match="ind.cora.y: cannot be read"):
        planetoid.read_pickle(path)


def test_unverified_planetoid_files_are_not_opened() -> None:
    with pytest.raises(DatasetIntegrityError, match="only with a known sha256"):
        planetoid.load(DatasetCard("cora", options={"prefix": "cora"}), LocatedFiles({}, verified=False))


@pytest.mark.realdata
def test_damaged_planetoid_file_is_not_opened(real_data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "root" / "planetoid/Cora/raw"
    folder.mkdir(parents=True)
    (folder / "ind.cora.graph").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(DatasetIntegrityError, match=r"ind.cora.graph is damaged.*expected 58f13302"):
        load_dataset("cora", tmp_path / "root")


# ---- npz, mat, musae


def npz_arrays() -> dict[str, np.ndarray[Any, Any]]:
    return {
        "adj_data": np.ones(4, np.float32),
        "adj_indices": np.array([1, 1, 0, 2]),
        "adj_indptr": np.array([0, 1, 3, 4]),
        "adj_shape": np.array([3, 3]),
        "attr_data": np.array([2.0, 0.0, 0.3], np.float32),
        "attr_indices": np.array([3, 0, 1]),
        "attr_indptr": np.array([0, 2, 2, 3]),
        "attr_shape": np.array([3, 4]),
        "labels": np.array([1, 0, 1], np.int32),
    }


def located(path: Path) -> LocatedFiles:
    return LocatedFiles({path.name: path}, verified=True)


def test_npz_graph(tmp_path: Path) -> None:
    np.savez(tmp_path / "g.npz", **npz_arrays())
    graph = npz_graph.load(DatasetCard("g"), located(tmp_path / "g.npz"))
    assert graph.edge_index.tolist() == [[0], [1]]  # (1, 1) and (2, 2) are self-loops, (0, 1) comes twice
    assert graph.x is not None
    assert graph.x.to_dense().tolist() == [[0, 0, 0, 1], [0, 0, 0, 0], [0, 1, 0, 0]]
    assert graph.y is not None
    assert graph.y.tolist() == [1, 0, 1]


def test_npz_graph_refuses(tmp_path: Path) -> None:
    arrays = npz_arrays()
    del arrays["labels"]
    np.savez(tmp_path / "g.npz", **arrays)
    with pytest.raises(DatasetIntegrityError, match=r"g.npz: cannot be read .*labels"):
        npz_graph.load(DatasetCard("g"), located(tmp_path / "g.npz"))
    np.savez(tmp_path / "g.npz", labels=np.array([Evil()], dtype=object), **arrays)
    with pytest.raises(DatasetIntegrityError, match="allow_pickle"):
        npz_graph.load(DatasetCard("g"), located(tmp_path / "g.npz"))


def test_seal_mat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import scipy.io
    import scipy.sparse

    net = scipy.sparse.csc_matrix(np.array([[1, 1, 0], [1, 0, 1], [0, 1, 0]], dtype=float))
    group = scipy.sparse.csc_matrix(np.array([[1, 0], [1, 1], [0, 0]], dtype=float))
    path = tmp_path / "toy.mat"
    scipy.io.savemat(path, {"net": net, "group": group})
    graph = seal_mat.load(DatasetCard("toy"), located(path))
    assert graph.edge_index.tolist() == [[0, 1], [1, 2]]
    assert (graph.num_nodes, graph.num_classes, graph.x) == (3, 2, None)
    path.write_bytes(b"MATLAB 5.0 MAT-file, cut off")
    with pytest.raises(DatasetIntegrityError, match="toy.mat: cannot be read"):
        seal_mat.load(DatasetCard("toy"), located(path))
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    with pytest.raises(MissingExtraError, match=r"pip install graphmem\[mat\]"):
        seal_mat.load(DatasetCard("toy"), located(path))


def test_musae(tmp_path: Path) -> None:
    path = tmp_path / "git_web_ml.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("git_web_ml/musae_git_edges.csv", "id_1,id_2\n2,0\n0,1\n")
        archive.writestr("git_web_ml/musae_git_target.csv", 'id,name,ml_target\n1,x,1\n0,"y,z",0\n2,w,0\n')
        archive.writestr("git_web_ml/musae_git_features.json", json.dumps({"0": [1, 3, 1], "2": [0], "1": []}))
    graph = musae.load(DatasetCard("github"), located(path))
    assert graph.edge_index.tolist() == [[0, 0], [1, 2]]
    assert graph.y is not None
    assert graph.y.tolist() == [0, 1, 0]
    assert graph.x is not None
    assert graph.x.to_dense().tolist() == [[0, 1, 0, 1], [0, 0, 0, 0], [1, 0, 0, 0]]
    path.write_bytes(b"")
    with pytest.raises(DatasetIntegrityError, match="git_web_ml.zip: cannot be read"):
        musae.load(DatasetCard("github"), located(path))


# ---- OGB


@pytest.mark.realdata
def test_ddi_through_ogb_equals_ddi_without_it(real_data: Path, cache: Path) -> None:
    pytest.importorskip("ogb")
    from graphmem.data.cache import locate

    card = dataset_card("ogbl-ddi")
    plain = load_dataset("ogbl-ddi", download=False)
    through = ogb.load_with_ogb(card, locate(card, download=False))
    assert plain.split is not None
    assert through.split is not None
    assert torch.equal(plain.edge_index, through.edge_index)
    for name in ("train", "valid", "valid_neg", "test", "test_neg"):
        assert torch.equal(getattr(plain.split, name), getattr(through.split, name)), name
    files = locate(card, download=False)
    without_npz = {key: path for key, path in files.paths.items() if not key.startswith("split_npz")}
    from_pt = ogb.load(card, LocatedFiles(without_npz, True))
    assert from_pt.split is not None
    assert torch.equal(from_pt.split.test_neg, plain.split.test_neg)  # type: ignore[arg-type]
    neither = {key: path for key, path in without_npz.items() if not key.endswith(".pt")}
    with pytest.raises(DatasetNotFoundError, match="neither split_npz"):
        ogb.load(card, LocatedFiles(neither, True))


def test_the_allow_list_ends_with_the_block(tmp_path: Path) -> None:
    torch.save({"edge": np.arange(4).reshape(2, 2)}, tmp_path / "split.pt")
    with ogb.ogb_globals():
        assert torch.load(tmp_path / "split.pt", weights_only=True)["edge"].tolist() == [[0, 1], [2, 3]]
    with pytest.raises(pickle.UnpicklingError):
        torch.load(tmp_path / "split.pt", weights_only=True)


def ogb_folder(root: Path, name: str) -> Path:
    """A tiny set: 5 nodes, 3 training rows of which two are the same edge."""
    one_hot = [[int(i == 2 * n % 3) for i in range(3)] for n in range(5)]
    features = one_hot if name == "ogbl-ppa" else [[n + 0.5, -n] for n in range(5)]
    negatives = np.array([[[2, 1], [2, 3]]]) if name == "ogbl-citation2" else np.array([[2, 4], [1, 2]])
    train, held_out = np.array([[3, 1], [0, 4], [1, 3]]), np.array([[2, 0]])
    return write_ogb(root, name, train, {"valid": held_out, "test": held_out}, negatives, features)


def ogb_files(folder: Path) -> LocatedFiles:
    return LocatedFiles({"RELEASE_v1.txt": folder / "RELEASE_v1.txt"}, verified=False)


@pytest.mark.parametrize("name", SPLITS)
def test_sets_that_go_through_ogb(name: str, cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("ogb")
    folder = ogb_folder(tmp_path / "shared", name)
    before = sorted(folder.rglob("*"))
    dataset = ogb.load(dataset_card(name), ogb_files(folder))
    assert sorted(folder.rglob("*")) == before, "the read-only root is untouched"
    assert capsys.readouterr().out == ""
    split = dataset.split
    assert split is not None
    assert split.train.tolist() == [[3, 0, 1], [1, 4, 3]]
    assert dataset.x is not None
    if name == "ogbl-collab":
        assert dataset.edge_index.tolist() == [[0, 1, 1], [4, 3, 3]]
        assert split.attributes["train.weight"].tolist() == [1, 2, 3]
    else:
        assert dataset.edge_index.tolist() == [[0, 1], [4, 3]]
    if name == "ogbl-ppa":
        assert dataset.x.tolist() == [0, 2, 1, 0, 2]
    else:
        assert dataset.x.dtype == torch.float32
        assert dataset.x[1].tolist() == [1.5, -1.0]
    if name == "ogbl-citation2":
        assert split.valid_neg is not None
        assert split.valid_neg.tolist() == [[[2, 1], [2, 3]]]


def test_ogb_is_never_asked_with_files_missing(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = ogb_folder(tmp_path / "shared", "ogbl-collab")
    (folder / "split/time/test.pt").unlink()
    with pytest.raises(DatasetNotFoundError, match=r"test.pt is missing"):
        ogb.load(dataset_card("ogbl-collab"), ogb_files(folder))
    copy = cache / "ogb" / "ogbl_collab"
    (copy / "RELEASE_v1.txt").unlink()
    with pytest.raises(DatasetNotFoundError, match=r"no RELEASE_v1.txt"):
        ogb.load(dataset_card("ogbl-collab"), ogb_files(folder))


def test_ogb_extra_is_named(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = ogb_folder(tmp_path / "shared", "ogbl-collab")
    monkeypatch.setitem(sys.modules, "ogb.linkproppred", None)
    with pytest.raises(MissingExtraError, match=r"pip install graphmem\[ogb\]"):
        ogb.load(dataset_card("ogbl-collab"), ogb_files(folder))


def test_ppa_types_must_be_one_hot(cache: Path, tmp_path: Path) -> None:
    pytest.importorskip("ogb")
    folder = ogb_folder(tmp_path / "shared", "ogbl-ppa")
    write_rows(folder / "raw/node-feat.csv.gz", [[1, 1]] * 5)
    with pytest.raises(DatasetIntegrityError, match="one-hot"):
        ogb.load(dataset_card("ogbl-ppa"), ogb_files(folder))
