"""The allocator's threshold and torch's huge pages."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import torch
from pathlib import Path
from graphmem.allocator import prepare_allocator
def resident():
    return 1024 * int(Path("/proc/self/status").read_text().split("VmRSS:")[1].split()[0])
def left():
    before = resident()
    blocks = [torch.ones(5 * 2**18) for _ in range(40)]  # 5 MiB each
    pin = torch.ones(2**18)  # above them, so that the heap cannot shrink
    del blocks
    return pin, resident() - before
print(prepare_allocator())
torch.ones(6 * 2**20)  # 24 MiB: once freed, glibc serves what is smaller from the heap
print(left()[1])
import os
os.environ["MALLOC_MMAP_THRESHOLD_"] = "1"
print(prepare_allocator())
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


# What another part of the process maps by huge pages does not count: only the tensor is that large.
HUGE = """
from pathlib import Path
{prepare}
import torch
held = torch.ones(2**26)
print(Path("/proc/self/smaps_rollup").read_text().split("AnonHugePages:")[1].split()[0])
"""
COMMAND = """
import contextlib, io
from graphmem.cli import main
with contextlib.redirect_stdout(io.StringIO()):
    main(["presets"])
"""


def _huge_mib(prepare: str, **environment: str) -> int:
    words = [sys.executable, "-c", HUGE.format(prepare=prepare)]
    others = {name: value for name, value in os.environ.items() if name != "THP_MEM_ALLOC_ENABLE"}
    done = subprocess.run(words, capture_output=True, text=True, check=True, env={**others, **environment})
    return int(done.stdout) // 1024


def test_commands_let_torch_ask_for_huge_pages() -> None:
    setting = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    if not setting.exists() or "[madvise]" not in setting.read_text():
        pytest.skip("the system gives huge pages to all or to none")
    if _huge_mib("", THP_MEM_ALLOC_ENABLE="1") < 128:
        pytest.skip("no huge pages left, or a torch that does not ask for them")
    assert _huge_mib("") < 64
    assert _huge_mib("from graphmem.allocator import prepare_allocator\nprepare_allocator()") >= 128
    assert _huge_mib(COMMAND) >= 128  # nothing that the command imports has made a tensor before
    assert _huge_mib(COMMAND, THP_MEM_ALLOC_ENABLE="0") < 64  # settings of the user's own stay
