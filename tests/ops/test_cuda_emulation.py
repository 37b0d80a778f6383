"""The CUDA kernels without a GPU: compiled for the host, they pass the operators' own tests (see tests/cuda_emulation).

This checks their logic: indices, order of sums, masks, barriers. It cannot check what only a device does: that is
tests/gpu.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from test_fallback import run

from graphmem import ops

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
SOURCES = ROOT / "tests" / "cuda_emulation"
BUILD = ROOT / "build" / "emulation"
TESTS = (
    *("test_row_lengths.py", "test_common_neighbors.py", "test_cn_gather_sum.py", "test_segment_gather.py"),
    *("test_pair_product.py", "test_dropout.py", "test_norm.py", "test_random_ops.py"),
    *("test_ring.py", "test_temporal.py", "test_ncache.py", "test_ncache_join.py"),
    "test_direct_calls.py",
)
# Kernels that misuse the device, and what is said of them.
MISUSES = {
    "barrier_by_some": "__syncthreads at .*: thread .* waits for thread .*, which has ended",
    "barriers_at_two_places": "__syncthreads at .*: the threads it names wait at different places",
    "lane_has_ended": "__ballot_sync at .*: thread .* waits for thread .*, which has ended",
    "lanes_at_two_places": "the threads it names wait at different places",
    "two_masks": "__syncwarp at",
    "not_in_mask": "__ballot_sync at .*: a thread calls it that its mask does not name",
    "reads_unnamed_lane": "__shfl_sync at .*: lane . reads lane 9, which its mask does not name",
    "writes_past_shared": "write outside of the 256 bytes of shared memory",
}

# In a process that already runs on the emulation, or without any library, there is nothing to build.
pytestmark = [
    pytest.mark.skipif(not ops.NATIVE or "GRAPHMEM_LIBRARY_DIR" in os.environ, reason="runs on the CPU library"),
    pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++"),
]


def call(*command: str | Path) -> str:
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "PATH": path})
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def emulation() -> Path:
    """Folder of the emulated library, brought up to date."""
    options = ("-DCMAKE_BUILD_TYPE=Release", "-DGRAPHMEM_EMULATE_CUDA=ON", f"-DPython3_EXECUTABLE={sys.executable}")
    call("cmake", "-S", ROOT / "csrc", "-B", BUILD, "-G", "Ninja", *options)
    call("cmake", "--build", BUILD)
    return BUILD


def test_operators_pass_their_tests_on_the_kernels(emulation: Path) -> None:
    done = run(
        *(
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "-k",
            "not compile and not opcheck and not gradcheck and not threads",
            *(str(HERE / name) for name in TESTS),
        ),
        GRAPHMEM_LIBRARY_DIR=str(emulation),
        GRAPHMEM_HYPOTHESIS_PROFILE="quick",
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


def test_every_kernel_is_in_the_emulation(emulation: Path) -> None:
    """A kernel file that is missing there would leave an operator untested without anyone noticing."""
    code = """
import torch
from graphmem import ops
from graphmem.ops import _fallback
names = [schema.split("(")[0] for schema in _fallback.SCHEMAS]
served = torch._C._dispatch_has_kernel_for_dispatch_key
print([name for name in names if not served("graphmem::" + name, "CPU")], ops.CPU_LIBRARY)
"""
    done = run("-c", code, GRAPHMEM_LIBRARY_DIR=str(emulation))
    assert done.stdout.startswith(f"[] {emulation}"), done.stdout + done.stderr


@pytest.fixture(scope="module")
def misuse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("emulator") / "misuse"
    flags = ("-std=c++20", "-O1", "-Wall", "-Wextra", "-Werror")
    call("g++", *flags, SOURCES / "emulator.cpp", SOURCES / "misuse.cpp", "-o", program)
    return program


def test_emulator_runs_a_right_kernel(misuse: Path) -> None:
    """A reversal through shared memory, a swap of eighths of a warp, and the number of even lanes."""
    assert [int(number) for number in call(misuse, "right").split()] == [63 - (t ^ 8) + 16 for t in range(64)]


@pytest.mark.parametrize("name", MISUSES)
def test_emulator_names_what_a_device_would_get_wrong(misuse: Path, name: str) -> None:
    message, after = call(misuse, name).splitlines()
    assert re.search(MISUSES[name], message), message
    assert after.split()[0] == "71"  # the next launch is sound


def test_emulator_shows_a_forgotten_barrier(misuse: Path) -> None:
    assert call(misuse, "forgets_barrier").split()[0] == "-1"
