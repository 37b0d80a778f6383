"""The TGB script from files on disk to its record."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest
from tgb_files import VERSIONS, write_tgb

pytest.importorskip("pandas")

MODELS = {"tgbl-wiki": "tgn", "tgbl-review": "recency", "tgbl-coin": "tncn", "tgbl-flight": "localglobal"}
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """benchmarks/tgb.py, writing into a folder of this test; by path, for py-tgb's package has its name."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.setenv("GRAPHMEM_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("GRAPHMEM_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    import common

    spec = importlib.util.spec_from_file_location("tgb_script", BENCHMARKS / "tgb.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(common, "RESULTS", tmp_path / "results")
    return module


@pytest.mark.parametrize("name", VERSIONS)
def test_from_files_to_record(
    script: ModuleType, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_tgb(tmp_path / "data", name)
    model = MODELS.get(name, "apan")
    words = ["--dataset", name, "--model", model, "--runs", "2", "--epochs", "2", "--batch-size", "50"]
    script.main(words)
    record = json.loads((tmp_path / "results" / f"{name}_{model}.json").read_text())
    assert (record["dataset"], record["metric"], record["protocol"]["split"]) == (name, "mrr", "tgb")
    assert record["protocol"]["ranking_negatives"] == "6 publisher"
    assert [row["seed"] for row in record["runs"]] == [0, 1]
    assert all(1 / 7 <= row[split] <= 1 for row in record["runs"] for split in ("valid", "test"))
    script.main(words)  # goes on where it stopped: at the end
    again = json.loads((tmp_path / "results" / f"{name}_{model}.json").read_text())
    assert [row["test"] for row in again["runs"]] == [row["test"] for row in record["runs"]]
    assert f"{model.upper()} on {name}, mrr by" in capsys.readouterr().out
