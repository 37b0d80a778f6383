"""Fused LayerNorm, dropout, ReLU: the bits of the reference, the values of torch, the same for all thread counts."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from strategies import FLOATS, features, same_bits

from graphmem import ops
from graphmem.errors import ArgumentError
from graphmem.ops import reference

PROBABILITIES = st.sampled_from((0.0, 0.05, 0.5, 0.9))


@pytest.mark.parametrize("dtype", FLOATS)
@given(
    rows=st.integers(0, 150), width=st.sampled_from((1, 3, 16, 17, 33, 64)), seed=st.integers(0, 999), p=PROBABILITIES
)
def test_has_the_bits_of_the_reference(dtype: torch.dtype, rows: int, width: int, seed: int, p: float) -> None:
    x = features(rows, width, seed, dtype)
    full = torch.float64 if dtype == torch.float64 else torch.float32
    weight, bias = features(2, width, seed + 1, full)
    got = torch.ops.graphmem.norm_dropout_relu(x, weight, bias, 1e-5, p, seed)
    want = reference.norm_dropout_relu(x, weight, bias, 1e-5, p, seed)
    assert all(same_bits(a, b) for a, b in zip(got, want, strict=True))
    grad = features(rows, width, seed + 2, dtype)
    y, mean, rstd = want
    got = torch.ops.graphmem.norm_dropout_relu_backward(grad, y, x, mean, rstd, weight, p)
    want = reference.norm_dropout_relu_backward(grad, y, x, mean, rstd, weight, p)
    assert all(same_bits(a, b) for a, b in zip(got, want, strict=True))


def test_is_layer_norm_dropout_and_relu() -> None:
    torch.manual_seed(0)
    x = torch.randn(700, 300, dtype=torch.float64) + 3  # rows that lie in several blocks of draws
    weight, bias = torch.randn(300, dtype=torch.float64), torch.randn(300, dtype=torch.float64)
    mask = ops.dropout(torch.ones_like(x), 0.3, seed=5)
    want = F.relu(F.layer_norm(x, (300,), weight, bias)) * mask
    torch.testing.assert_close(ops.norm_dropout_relu(x, weight, bias, p=0.3, seed=5), want)


@pytest.mark.parametrize("p", [0.0, 0.4])
def test_gradients(p: float) -> None:
    torch.manual_seed(1)
    x, weight, bias = (torch.randn(size, dtype=torch.float64, requires_grad=True) for size in ((5, 7), 7, 7))
    assert torch.autograd.gradcheck(lambda *a: ops.norm_dropout_relu(*a, p=p, seed=2), (x, weight, bias))


def test_opcheck() -> None:
    x, weight, bias = torch.randn(9, 20, requires_grad=True), torch.randn(20), torch.randn(20)
    torch.library.opcheck(torch.ops.graphmem.norm_dropout_relu.default, (x, weight, bias, 1e-5, 0.2, 3))


def test_same_bits_for_every_number_of_threads() -> None:
    torch.manual_seed(2)
    x, weight, bias = torch.randn(3000, 256), torch.randn(256), torch.randn(256)
    results = []
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 4):
            torch.set_num_threads(threads)
            leaves = [t.clone().requires_grad_() for t in (x, weight, bias)]
            y = ops.norm_dropout_relu(*leaves, p=0.3, seed=7)
            y.square().sum().backward()
            results.append([y, *(leaf.grad for leaf in leaves)])
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("x", {"x": torch.ones(3)}),
        ("weight", {"weight": torch.ones(3)}),
        ("bias", {"bias": torch.ones(4, dtype=torch.float64)}),
        ("p", {"p": 1.0}),
        ("eps", {"eps": -1.0}),
        ("seed", {"seed": 2**63}),
    ],
)
def test_bad_arguments_are_named(name: str, change: dict[str, object]) -> None:
    arguments = {"x": torch.ones(2, 4), "weight": torch.ones(4), "bias": torch.ones(4), **change}
    with pytest.raises(ArgumentError, match=f"^{name}"):
        ops.norm_dropout_relu(**arguments)
