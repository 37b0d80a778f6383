"""The scripts that wait for a GPU: as much of them as runs without one."""

from __future__ import annotations

import importlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

GPU = Path(__file__).parents[2] / "benchmarks" / "gpu"


def test_scripts_are_sound() -> None:
    subprocess.run(["sh", "-n", str(GPU / "run.sh")], check=True)
    for script in GPU.glob("*.py"):
        compile(script.read_text(encoding="utf-8"), script.name, "exec")
    waiting = (GPU / "WAITING.md").read_text(encoding="utf-8")
    for name in ("run.sh", "measure.py"):
        assert name in waiting


def test_every_operator_is_called() -> None:
    done = subprocess.run(
        [sys.executable, str(GPU / "every_operator.py"), "--device", "cpu"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_temporal_models_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(GPU))
    found = importlib.import_module("measure").temporal_models("cpu", events=600, nodes=50)
    assert found.keys() == {"nat", "tgn", "semba"}
    for rates in found.values():
        assert rates["training_events_per_second"] > 0
        assert rates["evaluation_pairs_per_second"] > 0


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="needs nvcc")
def test_ceilings_compile(tmp_path: Path) -> None:
    command = [
        "nvcc",
        "-std=c++17",
        "-arch=sm_90",
        "--cubin",
        str(GPU / "ceilings.cu"),
        "-o",
        str(tmp_path / "x.cubin"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
