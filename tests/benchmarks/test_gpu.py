"""The scripts that wait for a GPU: as much of them as runs without one."""

from __future__ import annotations

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
