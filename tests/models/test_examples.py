"""The examples run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_pyg_tgn(tmp_path: Path) -> None:
    path = tmp_path / "events.csv"
    path.write_text("\n".join(f"{k % 7},{10 + k * k % 11},{k // 2}" for k in range(900)))
    command = [sys.executable, str(EXAMPLES / "pyg_tgn.py"), "1", str(path)]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "epoch 1: validation AP 0." in done.stdout
