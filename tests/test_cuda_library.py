"""The CUDA library: when it is built, what it asks of torch, and when it is loaded."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from graphmem import info, ops
from graphmem.ops import _loader

ROOT = Path(__file__).parents[1]
LIBRARY = _loader.find_library("graphmem_cuda")
NVCC = shutil.which("nvcc")


def configure(folder: Path, *options: str, nvcc: bool = True) -> subprocess.CompletedProcess[str]:
    folders = [str(Path(sys.executable).parent), *os.environ.get("PATH", "").split(os.pathsep)]
    if not nvcc:
        folders = [name for name in folders if not (Path(name) / "nvcc").exists()]
    env = {**os.environ, "PATH": os.pathsep.join(folders)}
    for name in ("TORCH_CUDA_ARCH_LIST", "CUDACXX", "CUDA_PATH", "CUDA_HOME"):
        env.pop(name, None)
    if not nvcc:
        env["CUDACXX"] = str(folder / "no-nvcc")
    command = ["cmake", "-S", str(ROOT / "csrc"), "-B", str(folder), "-G", "Ninja", *options]
    command.append(f"-DPython3_EXECUTABLE={sys.executable}")
    return subprocess.run(command, capture_output=True, text=True, check=False, env=env)


needs_tools = pytest.mark.skipif(shutil.which("g++") is None, reason="needs a compiler")


@needs_tools
def test_build_without_nvcc(tmp_path: Path) -> None:
    without = configure(tmp_path, nvcc=False)
    assert without.returncode == 0, without.stderr
    assert "no nvcc found, CUDA operators are left out" in without.stdout
    required = configure(tmp_path, "-DGRAPHMEM_CUDA=ON", nvcc=False)
    assert required.returncode != 0
    assert "GRAPHMEM_CUDA=ON, but no nvcc" in required.stderr
    wrong = configure(tmp_path, "-DGRAPHMEM_CUDA=maybe", nvcc=False)
    assert "expected AUTO, ON or OFF, got 'maybe'" in wrong.stderr


@needs_tools
@pytest.mark.skipif(NVCC is None, reason="needs nvcc")
def test_architectures_are_those_asked_for(tmp_path: Path) -> None:
    done = configure(tmp_path, "-DTORCH_CUDA_ARCH_LIST=8.0 9.0a+PTX")
    assert "for 80-real;90a-real;90a-virtual" in done.stdout, done.stderr
    facts = json.loads((tmp_path / "graphmem_cuda.json").read_text())
    assert facts["code"] == ["sm_80", "sm_90a", "compute_90a"]
    wrong = configure(tmp_path, "-DTORCH_CUDA_ARCH_LIST=Hopper")
    assert "TORCH_CUDA_ARCH_LIST: expected versions such as 8.0;9.0+PTX, got 'Hopper'" in wrong.stderr


@pytest.mark.skipif(NVCC is None, reason="needs nvcc")
def test_library_is_built_where_nvcc_is() -> None:
    assert LIBRARY is not None
    build = _loader.cuda_build()
    assert build is not None
    assert build["code"]
    assert int(build["toolkit"].split(".")[0]) >= 12


@pytest.mark.skipif(LIBRARY is None or shutil.which("readelf") is None, reason="needs the CUDA library and binutils")
def test_library_asks_torch_for_its_stable_interface_alone() -> None:
    dynamic = subprocess.run(["readelf", "-d", str(LIBRARY)], capture_output=True, text=True, check=True).stdout
    # Without this line it would not find the current stream under a torch with CUDA.
    assert "Shared library: [libtorch_cuda.so]" in dynamic
    assert "libcudart" not in dynamic
    symbols = subprocess.run(["nm", "-D", "--undefined-only", str(LIBRARY)], capture_output=True, text=True, check=True)
    names = [line.split()[-1] for line in symbols.stdout.splitlines()]
    assert "aoti_torch_get_current_cuda_stream" in names
    assert not [
        name for name in names if name.startswith(("_ZN2at", "_ZNK2at", "_ZN3c10", "_ZNK3c10", "_ZN5torch", "Py"))
    ]


@pytest.mark.parametrize(
    ("toolkit", "driver", "problem"),
    [
        ("13.0.88", 13000, None),
        ("13.0.88", 13020, None),
        ("12.8", 13000, None),
        ("13.0.88", 0, None),  # no driver, so no CUDA tensors
        ("13.0.88", 12080, "it was built with CUDA 13.0.88, but the driver supports CUDA 12.8"),
        ("unknown", 12080, None),
    ],
)
def test_driver_of_the_toolkits_version_or_newer(toolkit: str, driver: int, problem: str | None) -> None:
    assert _loader.cuda_problem(toolkit, driver) == problem


def stand_in(folder: Path, monkeypatch: pytest.MonkeyPatch, driver: int) -> None:
    """A CUDA library that is none, built with CUDA 13.0, beside a driver of some version."""
    (folder / "libgraphmem_cuda.so").write_bytes(b"")
    (folder / "graphmem_cuda.json").write_text('{"toolkit": "13.0", "code": ["sm_80", "compute_80"]}')
    monkeypatch.setenv("GRAPHMEM_LIBRARY_DIR", str(folder))
    monkeypatch.setattr(_loader, "_driver_version", lambda: driver)


@pytest.mark.skipif(sys.platform != "linux", reason="the name of a library")
@pytest.mark.parametrize(
    ("driver", "message"),
    [(12080, "built with CUDA 13.0, but the driver supports CUDA 12.8"), (13000, "does not load under torch")],
)
def test_what_cannot_work_is_left_out_with_one_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, driver: int, message: str
) -> None:
    stand_in(tmp_path, monkeypatch, driver)
    with pytest.warns(RuntimeWarning, match=message) as warned:
        assert _loader._load_cuda() is None
    assert len(warned) == 1
    assert "CUDA tensors go through the CPU operators" in str(warned[0].message)


@pytest.mark.skipif(sys.platform != "linux" or ops.CUDA_LIBRARY is not None, reason="the CUDA operators are loaded")
def test_doctor_says_what_is_there_and_why_it_is_not_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def line() -> str:
        return next(row for row in info.report(info.collect()).splitlines() if row.startswith("CUDA operators:"))

    stand_in(tmp_path, monkeypatch, 12080)
    monkeypatch.setattr(_loader, "NATIVE", True)
    monkeypatch.setattr(torch.version, "cuda", None)
    assert f"not loaded (CUDA 13.0; sm_80, compute_80): torch {torch.__version__} has no CUDA" in line()
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    assert "the driver supports CUDA 12.8" in line()
    (tmp_path / "libgraphmem_cuda.so").unlink()
    assert line().endswith("not loaded: built without them")
    facts: dict[str, Any] = {"cuda": "/there.so", "cuda_build": {"toolkit": "13.0", "code": ["sm_80"]}}
    assert info._cuda_line(facts) == "/there.so (CUDA 13.0; sm_80)"
