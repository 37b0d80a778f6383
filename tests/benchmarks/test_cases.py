"""The scripts that measure case by case: they run to the end on tiny sizes, go on where they stopped, note failures."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

Rows = list[dict[str, Any]]


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, restore_threads: None) -> Callable[[str], ModuleType]:
    """A module of benchmarks/, writing into a folder of this test."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    import common

    monkeypatch.setattr(common, "RESULTS", tmp_path)
    return __import__


def rows_of(folder: Path) -> Rows:
    rows: Rows = json.loads((folder / "tiny.json").read_text())["rows"]
    return rows


def test_peers(script: Callable[[str], ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    peers = script("peers_cn")
    for name in ("networkit", "graphblas"):  # whether or not they are there
        monkeypatch.setitem(sys.modules, name, None)
    words = "--smoke --name tiny --graphs collab-size --kinds hubs --pairs 1 --threads 1".split()
    peers.main(words)
    rows = rows_of(tmp_path)
    counters = ("scipy", "torch.sparse", "networkit", "graphblas")
    cases = [*(f"count {peer}" for peer in counters), "sum scipy", "sum torch.sparse"]
    assert [row["key"] for row in rows] == [f"collab-size hubs {case} 1" for case in cases]
    for row in rows:
        assert row["mean_common"] > 1
        if row["peer"] in ("scipy", "torch.sparse"):
            assert row["median_peer"] > 0
        else:
            assert row["skipped"].startswith("not installed")
    # Started again, it measures nothing twice.
    peers.main(words)
    assert rows_of(tmp_path) == rows


def test_a_peer_that_disagrees_is_not_timed(
    script: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    peers = script("peers_cn")
    right = peers.scipy_peer

    def wrong(graph: Any, x: Any) -> Any:
        work = right(graph, x)
        return lambda pairs: work(pairs) + (pairs[0] == pairs[0].max())

    monkeypatch.setitem(peers.PEERS, "scipy", wrong)
    with pytest.raises(SystemExit, match="scipy and graphmem disagree"):
        peers.measure("collab-size random count scipy 1", 1, smoke=True)


@pytest.mark.parametrize("model", ["ncn", "ncnc"])
def test_scale(script: Callable[[str], ModuleType], tmp_path: Path, model: str) -> None:
    words = f"--smoke --name tiny --graphs citation2-size --models {model} --steps 2 --pairs 500 --threads 1".split()
    script("scale").main(words)
    trained, evaluated = rows_of(tmp_path)
    assert (trained["key"], evaluated["key"]) == (f"citation2-size {model} train", f"citation2-size {model} evaluate")
    for row in (trained, evaluated):
        assert 0 < row["fraction"] < 1  # said so, and extrapolated
        assert row["peak_bytes"] >= row["bytes_before"] > 2**27
    expected = trained["first_batch_seconds"] + trained["median_step"] * trained["steps_an_epoch"]
    assert trained["seconds"] == pytest.approx(expected)
    assert evaluated["seconds"] > evaluated["scoring_measured"]


def test_a_whole_evaluation_scores_what_the_task_scores(script: Callable[[str], ModuleType]) -> None:
    scale = script("scale")
    run = scale.experiment("collab-size", "gae", smoke=True)
    facts = scale.evaluate(run, 10**9)
    assert facts["fraction"] == 1
    assert facts["pairs_an_evaluation"] == 601 + 463 + 2 * 1000
    assert facts["seconds"] == pytest.approx(facts["encoding"] + facts["scoring_measured"])


CASE = """
import sys
key = sys.argv[sys.argv.index("--one") + 1]
if key == "slow":
    import time
    time.sleep(60)
if key == "bad":
    raise ValueError("no memory left")
print("noise")
print('[{"value": 1}, {"value": 2}]')
"""


def test_cases_are_processes_whose_failures_are_noted(
    script: Callable[[str], ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases = script("cases")
    (tmp_path / "case.py").write_text(CASE)
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "case.py")])
    args = argparse.Namespace(one=None, name="tiny", smoke=False, timeout=2.0)

    def never(_: str) -> Rows:
        raise AssertionError("measured in this process")

    cases.run_cases(args, "notes", ["good", "bad", "slow"], never)
    rows = rows_of(tmp_path)
    assert [(row["key"], row.get("value")) for row in rows] == [("good", 1), ("good", 2), ("bad", None), ("slow", None)]
    assert rows[2]["failed"] == "exit status 1: ValueError: no memory left"
    assert rows[3]["failed"] == "longer than 2 s"


def test_the_peak_is_that_of_the_work(script: Callable[[str], ModuleType]) -> None:
    cases = script("cases")
    torch.ones(2**25)  # 128 MiB, gone again
    before = cases.reset_peak()
    assert cases.peak() - before < 2**24
    torch.ones(2**24)
    assert abs(cases.peak() - before - 2**26) < 2**24  # the system counts pages in batches


@pytest.mark.parametrize("case", ["gru", "attention", "predict"])
def test_temporal_operators(script: Callable[[str], ModuleType], tmp_path: Path, case: str) -> None:
    script("speed_temporal_ops").main(["--smoke", "--name", "tiny", "--cases", case, "--pairs", "1", "--threads", "1"])
    rows = rows_of(tmp_path)
    assert [row["stage"] for row in rows] == ["forward", "forward and gradient"]
    assert all(row["median_ours"] > 0 for row in rows)


def test_tgn(script: Callable[[str], ModuleType], tmp_path: Path) -> None:
    lines = [f"{k % 7},{10 + k * k % 11},{k // 2}" for k in range(200)]
    (tmp_path / "tiny.csv").write_text("\n".join(lines))
    words = ["--smoke", "--name", "tiny", "--data", str(tmp_path / "tiny.csv"), "--events", "20", "--pairs", "1"]
    script("speed_tgn").main([*words, "--threads", "1"])
    rows = rows_of(tmp_path)
    assert [row["case"] for row in rows] == ["train", "evaluate", *["train parts"] * 4, *["evaluate parts"] * 3]
    assert [row["ours"] for row in rows[6:]] == ["neighbours", "neighbours, memory", "all"]


def test_sampler(script: Callable[[str], ModuleType], tmp_path: Path) -> None:
    script("speed_sampler").main("--smoke --name tiny --batches 100 --pairs 1 --threads 1".split())
    *stages, growth, latest, everything, nat = rows_of(tmp_path)
    assert [row["stage"] for row in stages] == ["insert", "query", "both"]
    for row in (latest, everything):
        assert all(held <= most for held, most in zip(row["bytes"], row["bytes_predicted"], strict=True))
    assert latest["bytes"] == latest["bytes_predicted"]
    assert nat["bytes"] == nat["bytes_predicted"]
    assert all(row["median_ours"] > 0 for row in stages)
    assert len(growth["ours_ns_an_event"]) == len(growth["peer_ns_an_event"]) == 10
