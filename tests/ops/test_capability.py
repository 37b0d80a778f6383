"""Every path that the kernels choose by the processor, on one machine."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from test_fallback import run

from graphmem import ops

CAPABILITIES = ("base", "avx2", "avx512", "all")
# What the other tests run on is not run again.
OLDER = CAPABILITIES[: -1 if torch.backends.cpu.get_cpu_capability() == "AVX512" else 1]
TESTS = (
    "test_common_neighbors.py",
    "test_cn_gather_sum.py",
    "test_matmul.py",
    "test_pair_head.py",
    "test_temporal_ops.py",
)

pytestmark = pytest.mark.skipif(not ops.NATIVE, reason="the reference has one path")


@pytest.mark.parametrize("capability", OLDER)
def test_operators_are_right_without_newer_instructions(capability: str) -> None:
    here = Path(__file__).parent
    done = run(
        *("-m", "pytest", "-q", "-p", "no:cacheprovider", *(str(here / name) for name in TESTS)),
        GRAPHMEM_CPU_CAPABILITY=capability,
        GRAPHMEM_HYPOTHESIS_PROFILE="quick",
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


BITS = """
import hashlib, torch
from graphmem import ops
torch.manual_seed(0)
for dtype in (torch.float32, torch.float64):
    x, w, b = torch.randn(131, 301).to(dtype), torch.randn(70, 301).to(dtype), torch.randn(70).to(dtype)
    for y in (ops.linear(x, w, b), ops.matmul(x, x, transpose_a=True)):
        print(hashlib.sha256(y.numpy().tobytes()).hexdigest())
"""


def test_products_have_the_same_bits_on_every_processor_with_fused_operations() -> None:
    first, *others = (run("-c", BITS, GRAPHMEM_CPU_CAPABILITY=name).stdout for name in CAPABILITIES[1:])
    assert first.count("\n") == 4
    assert all(other == first for other in others)
