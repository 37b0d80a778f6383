"""Products of dense matrices: the values of float64 algebra, one chain of sums an element whatever surrounds it."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import SEEDS, features, same_bits
from torch import Tensor

from graphmem import ops
from graphmem.errors import ArgumentError
from graphmem.nn import functional
from graphmem.ops import reference

DTYPES = (torch.float32, torch.float64)
# Around the sides of tiles (1, 4, 6, 12 rows; 4 to 32 columns), of a task (48 rows) and of a block of sums (256).
ROWS = st.sampled_from((0, 1, 3, 4, 7, 12, 17, 49, 100))
COLUMNS = st.sampled_from((0, 1, 7, 8, 15, 16, 17, 31, 32, 33, 70))
DEPTH = st.sampled_from((0, 1, 5, 64, 256, 257, 600))


def operands(
    m: int, k: int, n: int, seed: int, dtype: torch.dtype, transpose_a: bool, transpose_b: bool
) -> tuple[Tensor, Tensor]:
    a = features(k, m, seed, dtype) if transpose_a else features(m, k, seed, dtype)
    return a, features(n, k, seed + 1, dtype) if transpose_b else features(k, n, seed + 1, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@given(ROWS, DEPTH, COLUMNS, SEEDS, st.booleans(), st.booleans(), st.booleans())
def test_is_the_product(
    dtype: torch.dtype, m: int, k: int, n: int, seed: int, transpose_a: bool, transpose_b: bool, with_bias: bool
) -> None:
    a, b = operands(m, k, n, seed, dtype, transpose_a, transpose_b)
    bias = features(1, n, seed + 2, dtype)[0] if with_bias else None
    left, right = (a.t() if transpose_a else a).double(), (b.t() if transpose_b else b).double()
    want = left @ right + (0 if bias is None else bias.double())
    # k + 1 terms of size at most |a| |b|, each rounded once.
    bound = (k + 1) * torch.finfo(dtype).eps * (left.abs() @ right.abs() + (0 if bias is None else bias.abs()) + 1e-30)
    for got in (
        torch.ops.graphmem.matmul(a, b, bias, transpose_a, transpose_b),
        reference.matmul(a, b, bias, transpose_a, transpose_b),
    ):
        assert got.dtype == dtype
        assert got.shape == (m, n)
        assert torch.all((got.double() - want).abs() <= bound)


@pytest.mark.skipif(not ops.NATIVE, reason="a promise of the compiled operator: torch's BLAS does not give it")
@pytest.mark.parametrize("dtype", DTYPES)
@given(m=st.integers(1, 60), k=st.integers(1, 300), n=st.integers(1, 70), seed=SEEDS)
def test_an_element_does_not_depend_on_its_neighbours(dtype: torch.dtype, m: int, k: int, n: int, seed: int) -> None:
    a, b = operands(m, k, n, seed, dtype, False, False)
    whole = ops.matmul(a, b)
    row, column = seed % m, seed % n
    assert same_bits(ops.matmul(a[row : row + 1], b), whole[row : row + 1])
    assert same_bits(ops.matmul(a, b[:, column : column + 1]), whole[:, column : column + 1].contiguous())
    assert same_bits(ops.matmul(a.t().contiguous(), b.t().contiguous(), transpose_a=True, transpose_b=True), whole)
    # The order of the sum: the first half, then the second on top of it.
    if m == 1 and k > 1:
        half = ops.linear(a[:, k // 2 :], b[k // 2 :].t(), ops.matmul(a[:, : k // 2], b[: k // 2])[0])
        assert same_bits(half, whole)


@given(st.sampled_from((1, 5, 48, 130)), st.sampled_from((1, 9, 33)), st.sampled_from((1, 6, 40)), SEEDS)
def test_linear_and_its_gradients_are_those_of_torch(rows: int, width: int, out: int, seed: int) -> None:
    grads = []
    for function in (ops.linear, torch.nn.functional.linear):
        leaves = [features(*size, seed, torch.float64).requires_grad_() for size in ((rows, width), (out, width))]
        bias = features(1, out, seed, torch.float64)[0].requires_grad_()
        y = function(*leaves, bias)
        y.backward(features(rows, out, seed + 1, torch.float64))
        grads.append([y.detach(), *(leaf.grad for leaf in (*leaves, bias))])
    for got, want in zip(*grads, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("transpose_a", [False, True])
@pytest.mark.parametrize("transpose_b", [False, True])
def test_gradcheck_twice(transpose_a: bool, transpose_b: bool) -> None:
    a, b = (t.requires_grad_() for t in operands(3, 4, 2, 0, torch.float64, transpose_a, transpose_b))

    def run(a: Tensor, b: Tensor) -> Tensor:
        return ops.matmul(a, b, transpose_a=transpose_a, transpose_b=transpose_b)

    assert torch.autograd.gradcheck(run, (a, b))
    assert torch.autograd.gradgradcheck(run, (a, b))


def test_module_is_torch_s_where_the_operator_does_not_apply() -> None:
    layer = functional.Linear(6, 3)
    x = features(5, 6, 0)
    torch.testing.assert_close(layer(x), torch.nn.functional.linear(x, layer.weight, layer.bias))
    assert layer(x[None]).shape == (1, 5, 3)
    assert layer.to(torch.bfloat16)(x.bfloat16()).dtype == torch.bfloat16
    layer.to(torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("x", lambda: ops.linear(torch.ones(3), torch.ones(2, 3))),
        ("x", lambda: ops.linear(torch.ones(3, 3, dtype=torch.float16), torch.ones(2, 3))),
        ("weight", lambda: ops.linear(torch.ones(3, 3), torch.ones(2, 4))),
        ("weight", lambda: ops.linear(torch.ones(3, 3), torch.ones(2, 3, dtype=torch.float64))),
        ("bias", lambda: ops.linear(torch.ones(3, 3), torch.ones(2, 3), torch.ones(3))),
        ("a", lambda: ops.matmul(torch.ones(3, 3, dtype=torch.int64), torch.ones(3, 3))),
        ("b", lambda: ops.matmul(torch.ones(3, 4), torch.ones(3, 4))),
        ("b", lambda: ops.matmul(torch.ones(3, 4), torch.ones(3, 4, device="meta"), transpose_b=True)),
    ],
)
def test_bad_arguments_are_named(name: str, call) -> None:
    with pytest.raises(ArgumentError, match=f"^{name}: "):
        call()
