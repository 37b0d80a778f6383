"""The benchmark of batch sizes: rows, curves, tables and the figure, from a small stream."""

from __future__ import annotations

import json
import sys
from pathlib import Path

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


def test_from_a_stream_to_the_page(scripts: Path, capsys: pytest.CaptureFixture[str], restore_threads: None) -> None:
    import pres
    import report_streams

    g = torch.Generator().manual_seed(0)
    src, dst = (20 * torch.rand(2, 400, generator=g) ** 2).long().tolist()
    t = torch.randint(4, (400,), generator=g).cumsum(0).tolist()
    events = scripts / "events.csv"
    events.write_text("\n".join(f"{u},{20 + v},{w}" for u, v, w in zip(src, dst, t, strict=True)))
    arms = ["plain", "pres", "plain linear", "pres-kalman linear", "sequence", "t-batches"]
    words = ["--data", str(events), "--base", "10", "--seeds", "2", "--factors", "1", "4", "--smoke"]
    pres.main([*words, "--arms", *arms])
    pres.main([*words, "--arms", *arms])  # all is there already
    rows = json.loads((scripts / "pres.json").read_text())["rows"]
    found = [(row["arm"], row["factor"], row["seed"]) for row in rows]
    assert len(found) == len(set(found)) == 2 * (2 * len(arms) - 2)
    assert {row["batch_size"] for row in rows} == {10, 40}
    assert all(row["ap_base"] == row["ap_train"] for row in rows if row["factor"] == 1)
    assert {row["lr"] for row in rows} == {1e-4, 4e-4}
    capsys.readouterr()
    pres.main([*words, "--plot"])
    assert Path(capsys.readouterr().out.strip()).exists()
    page = "\n\n".join(report_streams.batch_sizes())
    assert "| pres-kalman linear |" in page
    assert "(2)" in page
