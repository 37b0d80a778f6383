"""The benchmark of batch sizes: rows, curves, tables and the figure, from a small stream."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

SCRIPTS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import common
    import pres
    import tables

    for module in (common, tables):
        monkeypatch.setattr(module, "RESULTS", tmp_path)
    monkeypatch.setattr(pres, "FIGURES", tmp_path)
    monkeypatch.setattr(sys, "argv", ["benchmarks/pres.py"])
    return tmp_path


def written(folder: Path, *, signed: bool = False) -> str:
    """A file of 400 events."""
    g = torch.Generator().manual_seed(0)
    src, dst = (20 * torch.rand(2, 400, generator=g) ** 2).long().tolist()
    t = torch.randint(4, (400,), generator=g).cumsum(0).tolist()
    rows = [f"{u},{20 + v},{w}" for u, v, w in zip(src, dst, t, strict=True)]
    if signed:
        rows = ["src,dst,time,weight", *(f"{row},{-1 if v % 3 == 0 else 1}" for row, v in zip(rows, dst, strict=True))]
    (folder / "events.csv").write_text("\n".join(rows))
    return str(folder / "events.csv")


def rows_in(folder: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((folder / "pres.json").read_text())["rows"]
    return rows


def test_from_a_stream_to_the_page(scripts: Path, capsys: pytest.CaptureFixture[str], restore_threads: None) -> None:
    import pres
    import report_streams

    events = written(scripts)
    arms = ["plain", "pres", "plain linear", "pres-kalman linear", "sequence", "t-batches"]
    words = ["--data", events, "--base", "10", "--seeds", "2", "--factors", "1", "4", "--smoke"]
    pres.main([*words, "--arms", *arms])
    pres.main([*words, "--arms", *arms])  # all is there already
    rows = rows_in(scripts)
    found = [(row["arm"], row["factor"], row["seed"]) for row in rows]
    assert len(found) == len(set(found)) == 2 * (2 * len(arms) - 2)
    assert {row["batch_size"] for row in rows} == {10, 40}
    assert all(row["ap_base"] == row["ap_train"] for row in rows if row["factor"] == 1)
    assert {row["lr"] for row in rows} == {1e-4, 4e-4}
    figure = "pres_events_tgn_base10_epochs1.png"
    assert str(scripts / figure) in capsys.readouterr().out.splitlines()
    (scripts / figure).unlink()
    pres.main([*words, "--plot"])
    assert capsys.readouterr().out.splitlines() == [str(scripts / figure)]
    assert (scripts / figure).exists()
    assert rows_in(scripts) == rows
    page = "\n\n".join(report_streams.batch_sizes())
    assert "| pres-kalman linear |" in page
    assert "TGN, " in page
    assert "base 10, epochs 1, test AP, tested with" in page
    assert "(2)" in page


def test_a_model_of_signs(scripts: Path, capsys: pytest.CaptureFixture[str], restore_threads: None) -> None:
    import pres
    import report_streams

    words = ["--data", written(scripts, signed=True), "--model", "semba", "--base", "20", "--seeds", "1", "--smoke"]
    pres.main([*words, "--arms", "plain", "pres", "--factors", "1", "4"])
    rows = rows_in(scripts)
    assert [(row["arm"], row["factor"]) for row in rows] == [("plain", 1), ("plain", 4), ("pres", 1), ("pres", 4)]
    assert all(0 <= row[name] <= 1 for row in rows for name in ("auc_base", "auc_train", "valid_auc_base"))
    assert all("ap_base" not in row for row in rows)
    assert Path(capsys.readouterr().out.splitlines()[-1]).name == "pres_events_semba_base20_epochs1.png"
    assert "test AUROC, tested with" in "\n".join(report_streams.batch_sizes())
    assert not any(arm.startswith(("sequence", "t-batches")) for arm in pres.arms_of("semba"))
    pres.main([*words, "--overhead"])
    assert sum("ratio_pres" in row for row in rows_in(scripts)) == 4


def test_what_is_measured_again(scripts: Path, restore_threads: None) -> None:
    """What changes the result: settings; not which factors are asked for together."""
    import pres

    words = ["--data", written(scripts), "--base", "20", "--seeds", "1", "--arms", "plain", "--smoke"]
    pres.main([*words, "--factors", "1", "2"])
    pres.main([*words, "--factors", "1"])
    assert len(rows_in(scripts)) == 2
    pres.main([*words, "--factors", "1", "4"])
    pres.main([*words, "--factors", "1", "--lr", "0.001"])
    pres.main([*words, "--factors", "1", "--lr", "0.001"])
    rows = rows_in(scripts)
    assert [(row["factor"], row["base_lr"]) for row in rows] == [(1, 1e-4), (2, 1e-4), (4, 1e-4), (1, 1e-3)]
    one, other = pres.cases("pres")
    assert other == one._replace(lr=1e-3)
    assert other.changes == ["base 20", "lr 0.001", "epochs 1"]
    found = pres.curves([*pres.rows_for("pres", one), {**rows[0], "ap_base": 2.0}], "ap_base")
    assert found["plain"][1] == [2.0]  # the row that stands later


def test_keys_of_the_rows_that_are_there(scripts: Path) -> None:
    import pres

    usual = pres.Case("collegemsg", "tgn")
    assert pres.key_of(usual, "plain", 0, pres.FACTORS) == "collegemsg, tgn, plain, 0"
    assert pres.key_of(usual, "plain", 0, (1.0, 4.0)) == "collegemsg, tgn, plain, 0, 1, 4"
    changed = pres.key_of(pres.Case("collegemsg", "tgn", 100, 1e-3, 5), "plain", 0, pres.FACTORS)
    assert changed == "collegemsg, tgn, plain, 0, base 100, lr 0.001, epochs 5"
    assert pres.case_of({"data": "collegemsg", "model": "tgn", "lr": 4e-4}) == usual
    (scripts / "pres.json").write_text((SCRIPTS / "results" / "pres.json").read_text())
    for model, some in (("tgn", pres.FACTORS), ("tgn", (1.0, 4.0)), ("jodie", (1.0, 4.0, 16.0))):
        case = {"name": "pres", "data": "collegemsg", "model": model, "base": 200, "lr": 1e-4, "epochs": 10}
        args = argparse.Namespace(**case, seeds=5, arms=["plain", "pres", "plain linear"], factors=list(some))
        assert pres.keys_of(args) == []


def test_failures_and_a_figure_that_cannot_be_drawn(
    scripts: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], restore_threads: None
) -> None:
    import cases
    import pres

    words = ["--data", written(scripts), "--base", "20", "--seeds", "1", "--arms", "plain"]
    pres.main([*words, "--factors", "1", "--smoke"])
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "matplotlib", None)
        pres.main([*words, "--factors", "1", "--smoke"])
    assert "no figure" in capsys.readouterr().out
    monkeypatch.setattr(cases, "_rows", lambda command, timeout: [{"failed": "exit status 1"}])
    for _ in range(2):  # the second time the row says so
        with pytest.raises(SystemExit, match="failed: .*, plain, 0, 4, base 20"):
            pres.main([*words, "--factors", "4"])
