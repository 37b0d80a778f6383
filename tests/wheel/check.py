"""Does a wheel install and compute in fresh environments? `make wheel-check`: the first Python with every torch, and
every other Python with the last torch.

python tests/wheel/check.py --wheel dist/graphmem-*.whl --torch torch==2.10.0 torch --out wheel_check.json

An environment has no compiler on its path and sees nothing of this checkout. Whether a torch is one for the CPU or one
with CUDA depends on where pip gets it; under one with CUDA the CUDA operators must load, GPU or not. Every row is
written down, and the exit status says whether all of them passed.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

SMOKE = Path(__file__).with_name("smoke.py")


def run(
    command: list[str], folder: Path, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment)


def row(python: str, torch: str, wheel: Path, folder: Path) -> dict[str, Any]:
    """Make an environment, install, run; "failed" says what went wrong."""
    what = {"wanted": f"{Path(python).name}, {torch}"}
    bin_folder = folder / "env" / "bin"
    executable = str(bin_folder / "python")
    install = [executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-cache-dir"]
    for step in (
        [python, "-m", "venv", str(folder / "env")],
        # A wheel is what users get: nothing here may be built, but for the pure Python packages that exist as sources.
        [*install, "--only-binary", "torch,numpy,numba,graphmem", torch, f"graphmem[cli] @ {wheel.as_uri()}"],
    ):
        done = run(step, folder)
        if done.returncode:
            return {**what, "failed": done.stderr.strip()[-600:]}
    bare = {"PATH": str(bin_folder), "HOME": str(folder), "GRAPHMEM_REQUIRE_NATIVE": "1"}
    done = run([executable, "-I", str(SMOKE)], folder, bare)
    if done.returncode:
        return {**what, "failed": done.stderr.strip()[-600:]}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {**what, **found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--wheel", type=Path, required=True)
    parser.add_argument("--python", nargs="+", default=[sys.executable])
    parser.add_argument("--torch", nargs="+", default=["torch"])
    parser.add_argument("--out", type=Path, default=None, help="where the rows go as JSON")
    args = parser.parse_args()
    rows = []
    pairs = [(args.python[0], torch) for torch in args.torch] + [(python, args.torch[-1]) for python in args.python[1:]]
    for python, torch in pairs:
        with tempfile.TemporaryDirectory() as folder:
            rows.append(row(python, torch, args.wheel.resolve(), Path(folder)))
        print(rows[-1], flush=True)
    if args.out is not None:
        system = {"system": platform.system(), "processor": platform.machine(), "libc": " ".join(platform.libc_ver())}
        args.out.write_text(json.dumps({"wheel": args.wheel.name, "machine": system, "rows": rows}, indent=1) + "\n")
    raise SystemExit(any("failed" in row for row in rows))


if __name__ == "__main__":
    main()
