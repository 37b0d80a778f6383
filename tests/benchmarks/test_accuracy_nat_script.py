"""The script that trains NAT's authors' code beside ours, with a stand-in for that code: what it is given and said."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from graphmem.data import EventStream

# Reads what main.py reads, uses what the preamble mends, and writes what main.py writes.
STAND_IN = """
import random, sys, time
import numpy as np
import torch
from beside import HALF
rows = [line.split(",")[1:] for line in open("processed/ml_uci.csv").read().splitlines()]
assert rows[0] == ["u", "i", "ts", "label", "idx"], rows[0]
u, i, t, label, idx = np.array(rows[1:], dtype=float).T
assert np.array_equal(np.unique([u, i]), np.arange(1, max(u.max(), i.max()) + 1))
assert np.load("processed/ml_uci.npy").shape == (len(t) + 1, 1)
assert np.load("processed/ml_uci_node.npy").shape == (int(max(u.max(), i.max())) + 1, 1)
assert t[0] == 1 and np.array_equal(idx, np.arange(len(t)) + 1)
assert len(random.sample({3, 1, 2}, 2)) == 2
assert (torch.tensor([1.5]) << 2).item() == 6.0 and (torch.tensor([3]) << 2).item() == 12
options = dict(zip(sys.argv[1::2], sys.argv[2::2]))
open("log/1.log", "w").write(f'''epoch: 0:
Test statistics: {options["-m"]} all nodes -- acc: 0.5, auc: {HALF}, ap: 0.25, time: 1
early_stoppers [{options["--seed"]}]
''')
"""


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    return importlib.import_module("accuracy_nat")


def stream() -> EventStream:
    g = torch.Generator().manual_seed(0)
    src = torch.cat((torch.arange(20), torch.randint(20, (300,), generator=g)))
    dst = torch.randint(20, (320,), generator=g)
    return EventStream(src, dst, 1_000_000 + torch.randint(3, (320,), generator=g).cumsum(0), 20)


def test_their_main_is_run_as_it_is(script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script, "load_stream", lambda name: stream())
    (tmp_path / "main.py").write_text(STAND_IN)
    (tmp_path / "beside.py").write_text("HALF = 0.5\n")
    assert script.theirs(str(tmp_path), "i", 3, 2, 1) == {"auc": 0.5, "ap": 0.25, "epoch": 3}
    (tmp_path / "main.py").write_text("raise SystemExit('no such data')")
    with pytest.raises(Exception, match="exit status 1"):
        script.theirs(str(tmp_path), "t", 3, 2, 1)


@pytest.mark.realdata
def test_our_sides(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """One epoch of the default in mode i, through the script's own command line."""
    rows = []
    monkeypatch.setattr(script, "run_cases", lambda args, notes, keys, measure: rows.extend(measure("i ours 0")))
    monkeypatch.setattr(sys, "argv", ["accuracy_nat.py"])
    script.main(["--peer", "nowhere", "--smoke"])
    (row,) = rows
    assert (row["mode"], row["side"], row["seed"]) == ("i", "ours", 0)
    assert 0.85 < row["ap"] < 0.96
