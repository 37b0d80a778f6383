"""Dense operators composed of torch's, which serve CUDA tensors: the same as the CPU operators, to rounding."""

from __future__ import annotations

import itertools

import pytest
import torch
from strategies import features, random_pairs

from graphmem.ops._dense import DENSE


@pytest.mark.parametrize(
    ("transpose_a", "transpose_b", "biased"), list(itertools.product((False, True), (False, True), (False, True)))
)
def test_matmul(transpose_a: bool, transpose_b: bool, biased: bool) -> None:
    a = features(*((7, 5) if transpose_a else (5, 7)), 0, torch.float64)
    b = features(*((4, 7) if transpose_b else (7, 4)), 1, torch.float64)
    args = (a, b, features(1, 4, 2, torch.float64)[0] if biased else None, transpose_a, transpose_b)
    torch.testing.assert_close(DENSE["matmul"](*args), torch.ops.graphmem.matmul(*args))


@pytest.mark.parametrize("num_pair_layers", [0, 1, 3])
@pytest.mark.parametrize("branched", [False, True])
def test_pair_head(num_pair_layers: int, branched: bool) -> None:
    h, pairs, width, layers = features(9, 6, 0, torch.float64), random_pairs(9, 20, 1), 6, 3
    branch = features(4, width, 2, torch.float64) if branched else None
    place = torch.arange(20) % 4 if branched else None
    weights = features(layers * width, width, 3, torch.float64).view(layers, width, width)
    rows = [features(layers, width, seed, torch.float64) for seed in (4, 5, 6)]
    out_weight, out_bias = features(1, width, 7, torch.float64)[0], torch.tensor([0.3], dtype=torch.float64)
    args = (h, pairs, branch, place, weights, *rows, out_weight, out_bias, 1e-5, num_pair_layers, 0b101, 0b110)
    torch.testing.assert_close(DENSE["pair_head"](*args), torch.ops.graphmem.pair_head(*args))


@pytest.mark.parametrize("name", DENSE)
def test_serves_cuda(name: str) -> None:
    assert torch._C._dispatch_has_kernel_for_dispatch_key(f"graphmem::{name}", "CUDA")
