"""The allocator's threshold."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

SCRIPT = """
import torch
from pathlib import Path
from graphmem.engine.heap import return_large_blocks
def resident():
    return 1024 * int(Path("/proc/self/status").read_text().split("VmRSS:")[1].split()[0])
def left():
    before = resident()
    blocks = [torch.ones(5 * 2**18) for _ in range(40)]  # 5 MiB each
    pin = torch.ones(2**18)  # above them, so that the heap cannot shrink
    del blocks
    return pin, resident() - before
print(return_large_blocks())
torch.ones(6 * 2**20)  # 24 MiB: once freed, glibc serves what is smaller from the heap
print(left()[1])
import os
os.environ["MALLOC_MMAP_THRESHOLD_"] = "1"
print(return_large_blocks())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc")
def test_freed_blocks_return_to_the_system() -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    words = [sys.executable, "-c", SCRIPT]
    done = subprocess.run(words, capture_output=True, text=True, check=True, env=environment)
    was_set, left, again = done.stdout.split()
    assert again == "False"  # settings of the user's own stay
    if was_set == "False":
        pytest.skip("another C library")
    assert int(left) < 20 * 2**20
