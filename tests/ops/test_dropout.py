"""Counter-based dropout, alone and fused with ReLU."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import FLOATS, features, same_bits

from graphmem import ops
from graphmem.ops import reference

BLOCK, WRAP = 65_536, (1 << 32) - 1
PROBABILITIES = st.sampled_from((0.0, 0.05, 0.5, 0.999))


def mix(z: int) -> int:
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
    return z ^ (z >> 31)


def draw(seed: int, position: int) -> int:
    """The 32 bits of one element, as docs/architecture.md says, in Python integers."""
    golden = 0x9E3779B97F4A7C15
    block, element = divmod(position, BLOCK)
    stream = mix(mix((seed + golden) % 2**64) ^ ((block * 0xD1342543DE82EF95 + golden) % 2**64))
    h = (element * 0x9E3779B9 + (stream & WRAP)) & WRAP
    h = (h ^ h >> 16) * 0x85EBCA6B & WRAP
    h ^= stream >> 32
    h = (h ^ h >> 13) * 0xC2B2AE35 & WRAP
    return h ^ h >> 16


@given(st.integers(-(2**63), 2**63 - 1), PROBABILITIES)
def test_mask_is_that_of_the_model(seed: int, p: float) -> None:
    size = BLOCK + 50
    positions = [*range(50), BLOCK - 1, *range(BLOCK, size)]
    kept = ops.dropout(torch.ones(size), p, seed=seed) > 0
    assert kept[positions].tolist() == [draw(seed, at) >= int(p * 2**32) for at in positions]


@pytest.mark.parametrize("dtype", FLOATS)
@given(
    rows=st.integers(0, 40), width=st.integers(0, 9), seed=st.integers(0, 2**40), p=PROBABILITIES, relu=st.booleans()
)
def test_has_the_bits_of_the_reference(
    dtype: torch.dtype, rows: int, width: int, seed: int, p: float, relu: bool
) -> None:
    x = features(rows, width, seed % 1000, dtype)
    got, want = torch.ops.graphmem.dropout(x, p, seed, relu), reference.dropout(x, p, seed, relu)
    assert got.dtype == dtype
    assert same_bits(got, want)
    grad = features(rows, width, seed % 1000 + 1, dtype)
    got = torch.ops.graphmem.dropout_relu_backward(grad, want, p)
    assert same_bits(got, reference.dropout_relu_backward(grad, want, p))


@pytest.mark.parametrize("relu", [False, True])
def test_special_values_are_scaled_like_all_others(relu: bool) -> None:
    """Dropout must not hide that training diverged: nan and infinities pass wherever an element is kept."""
    x = torch.tensor([float("nan"), float("inf"), -float("inf"), -0.0, 0.0, -1.0, 1e-45, -1e-45, 3e38]).repeat(20)
    got = ops.dropout(x, 0.3, seed=1, relu=relu)
    kept = ops.dropout(torch.ones_like(x), 0.3, seed=1) > 0
    scaled = (x.relu() if relu else x) * torch.tensor(1 / 0.7)
    torch.testing.assert_close(got, torch.where(kept, scaled, 0), equal_nan=True, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("relu", [False, True])
def test_gradient_is_the_mask(dtype: torch.dtype, relu: bool) -> None:
    x = features(30, 20, 0, dtype).requires_grad_()
    out = ops.dropout(x, 0.4, seed=8, relu=relu)
    grad = features(30, 20, 1, dtype)
    out.backward(grad)
    scaled = ops.dropout(grad, 0.4, seed=8)
    assert same_bits(x.grad, torch.where(x.detach() > 0, scaled, 0) if relu else scaled)


@pytest.mark.parametrize("relu", [False, True])
def test_gradcheck(relu: bool) -> None:
    x = features(6, 5, 0, torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: ops.dropout(x, 0.4, seed=2, relu=relu), (x,))


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_rate_and_mean(p: float) -> None:
    size = 200_000
    out = ops.dropout(torch.ones(size), p, seed=4)
    zeros = int((out == 0).sum())
    assert abs(zeros - p * size) < 4 * (size * p * (1 - p)) ** 0.5
    assert torch.equal(out[out > 0].unique(), torch.tensor([1 / (1 - p)]))


def test_masks_of_two_seeds_are_independent() -> None:
    one, other = (ops.dropout(torch.ones(200_000), 0.5, seed=s) > 0 for s in (1, 2))
    assert abs(int((one & other).sum()) - 50_000) < 4 * (200_000 * 3 / 16) ** 0.5


def test_without_dropout_nothing_changes() -> None:
    x = features(7, 5, 0)
    assert same_bits(ops.dropout(x, 0.0, seed=3), x)
    assert torch.equal(ops.dropout(x, 0.0, seed=3, relu=True), x.relu())


def test_shapes_and_strides() -> None:
    x = features(6, 8, 0)
    assert same_bits(ops.dropout(x.T, 0.5, seed=1), ops.dropout(x.T.contiguous(), 0.5, seed=1))
    flat = ops.dropout(x.flatten(), 0.5, seed=1)
    assert same_bits(ops.dropout(x.view(2, 3, 8), 0.5, seed=1), flat.view(2, 3, 8))
    assert ops.dropout(torch.tensor(1.0), 0.5, seed=1).shape == ()
    assert ops.dropout(x[:0], 0.5, seed=1).shape == (0, 8)
