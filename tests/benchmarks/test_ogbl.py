"""The OGB script from files on disk to its record, through ogb's own classes and Evaluator."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from ogb_files import write_ogb

from graphmem.data import registry

NODES, NEGATIVES = 60, 120


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """benchmarks/ogbl.py, writing into a folder of this test."""
    pytest.importorskip("ogb")
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    monkeypatch.setenv("GRAPHMEM_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("GRAPHMEM_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(registry, "verify", lambda *_: None)  # counts are those of the real sets
    import common
    import ogbl

    monkeypatch.setattr(common, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(sys, "argv", ["ogbl.py"])
    return ogbl


def write(root: Path, name: str) -> None:
    random = np.random.default_rng(0)
    links = random.integers(0, NODES, (400, 2))
    links = links[links[:, 0] != links[:, 1]]
    held_out = {"valid": links[:20], "test": links[20:50]}
    if name == "ogbl-citation2":
        held_out["valid"] = links[:30]  # the negatives of both are written once
        negatives = random.integers(0, NODES, (30, 25, 2))
    else:
        negatives = random.integers(0, NODES, (NEGATIVES, 2))
    features = (
        np.eye(58)[random.integers(0, 58, NODES)].astype(int) if name == "ogbl-ppa" else random.normal(size=(NODES, 8))
    )
    write_ogb(root, name, links[50:], held_out, negatives, features.tolist())


@pytest.mark.parametrize("name", ["ogbl-collab", "ogbl-ppa", "ogbl-citation2"])
def test_from_files_to_record(
    script: ModuleType, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "data", name)
    words = ["--dataset", name, "--model", "ncn", "--runs", "2", "--epochs", "2", "--batch-size", "100"]
    script.main(words)
    record = json.loads((tmp_path / "results" / f"{name}_ncn_clean.json").read_text())
    assert [row["evaluator"] for row in record["runs"]] == ["ogb", "ogb"]
    tests = [row["test"] for row in record["runs"]]
    assert record["test"]["mean"] == pytest.approx(np.mean(tests))
    assert record["test"]["std"] == pytest.approx(np.std(tests, ddof=1))
    assert record["metric"] == script.METRIC[name]
    assert record["parameters"] > 0
    assert record["valid_edges_at_test"] == (name == "ogbl-collab")
    train = record["hyperparameters"]["train"]
    assert record["protocol"]["target_link_removal"] == (name != "ogbl-citation2")
    assert (train["negatives"], train["clip_norm"]) == (
        ("target", 1.0) if name == "ogbl-citation2" else ("uniform", None)
    )
    assert record["protocol"]["negatives"] == ("per positive" if name == "ogbl-citation2" else "shared")
    assert "published" in capsys.readouterr().out
    # Again: nothing is trained twice, and the record is the same.
    script.main(words)
    again = json.loads((tmp_path / "results" / f"{name}_ncn_clean.json").read_text())
    assert again["runs"] == record["runs"]


def test_collab_without_validation_links(script: ModuleType, tmp_path: Path) -> None:
    write(tmp_path / "data", "ogbl-collab")
    script.main("--dataset ogbl-collab --model gae --runs 1 --epochs 1 --batch-size 100 --no-valid-edges".split())
    record = json.loads((tmp_path / "results" / "ogbl-collab_gae_clean.json").read_text())
    assert record["valid_edges_at_test"] is False
    assert record["protocol"]["test_graph"] == "train links"


def test_completion_on_citation2_starts_from_embeddings(script: ModuleType, tmp_path: Path) -> None:
    write(tmp_path / "data", "ogbl-citation2")
    common = "--dataset ogbl-citation2 --runs 1 --epochs 1 --batch-size 100".split()
    script.main([*common, "--model", "ncn", "--out", "first"])
    script.main([*common, "--model", "ncnc", "--start-from", "first", "--train-degree", "3"])
    record = json.loads((tmp_path / "results" / "ogbl-citation2_ncnc_clean.json").read_text())
    assert 0 < record["test"]["mean"] <= 1
    assert record["hyperparameters"]["options"]["train_degree"] == 3
