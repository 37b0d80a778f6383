"""Products head by head: those of `matmul`, bit for bit, wherever the numbers of a head lie."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import SEEDS, features, same_bits
from torch import Tensor

from graphmem import ops
from graphmem.errors import ArgumentError
from graphmem.ops import reference

SIZE = st.sampled_from((0, 1, 3, 8, 17, 33, 50))
FLAG = st.booleans()


def heads_of(heads: int, rows: int, columns: int, seed: int, as_rows: bool, dtype: torch.dtype) -> Tensor:
    """[H, R, C], heads one behind the other or side by side in rows."""
    table = features(heads * rows, columns, seed, dtype)
    return table.view(rows, heads, columns).transpose(0, 1) if as_rows else table.view(heads, rows, columns)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@given(st.integers(0, 4), SIZE, SIZE, SIZE, SEEDS, FLAG, FLAG, FLAG, FLAG, FLAG)
def test_is_the_product_of_each_head(
    dtype: torch.dtype,
    heads: int,
    m: int,
    k: int,
    n: int,
    seed: int,
    transpose_a: bool,
    transpose_b: bool,
    a_as_rows: bool,
    b_as_rows: bool,
    rows_first: bool,
) -> None:
    a = heads_of(heads, *((k, m) if transpose_a else (m, k)), seed, a_as_rows, dtype)
    b = heads_of(heads, *((n, k) if transpose_b else (k, n)), seed + 1, b_as_rows, dtype)
    flags = {"transpose_a": transpose_a, "transpose_b": transpose_b}
    found = ops.head_matmul(a, b, **flags, rows_first=rows_first)
    assert found.shape == (heads, m, n)
    assert (found.transpose(0, 1) if rows_first else found).is_contiguous()
    if ops.NATIVE:
        for h in range(heads):
            assert same_bits(found[h].contiguous(), ops.matmul(a[h].contiguous(), b[h].contiguous(), **flags))
    wanted = reference.head_matmul(a, b, transpose_a, transpose_b, rows_first)
    torch.testing.assert_close(found, wanted.transpose(0, 1) if rows_first else wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("transpose_a", [False, True])
@pytest.mark.parametrize("transpose_b", [False, True])
@pytest.mark.parametrize("as_rows", [False, True])
@pytest.mark.parametrize("rows_first", [False, True])
def test_gradcheck_twice(transpose_a: bool, transpose_b: bool, as_rows: bool, rows_first: bool) -> None:
    sizes = (4, 3) if transpose_a else (3, 4), (2, 4) if transpose_b else (4, 2)
    leaves = [heads_of(2, *size, k, as_rows, torch.float64).requires_grad_() for k, size in enumerate(sizes)]

    def run(a: Tensor, b: Tensor) -> Tensor:
        return ops.head_matmul(a, b, transpose_a=transpose_a, transpose_b=transpose_b, rows_first=rows_first)

    assert torch.autograd.gradcheck(run, leaves)
    assert torch.autograd.gradgradcheck(run, leaves)


def test_gradients_lie_as_what_they_are_of() -> None:
    rows, weight = features(5, 6, 0).requires_grad_(), features(6, 4, 1).view(2, 3, 4).requires_grad_()
    heads = rows.view(5, 2, 3).transpose(0, 1)
    out = ops.head_matmul(heads, weight, rows_first=True)
    of_heads, of_weight = torch.autograd.grad(out.square().sum(), (heads, weight))
    assert of_heads.transpose(0, 1).is_contiguous()
    assert of_weight.is_contiguous()


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("a", lambda: ops.head_matmul(torch.ones(3, 3), torch.ones(1, 3, 3))),
        ("a", lambda: ops.head_matmul(torch.ones(1, 3, 3, dtype=torch.int64), torch.ones(1, 3, 3))),
        ("b", lambda: ops.head_matmul(torch.ones(1, 3, 4), torch.ones(1, 3, 4))),
        ("b", lambda: ops.head_matmul(torch.ones(1, 3, 4), torch.ones(2, 4, 4))),
        ("b", lambda: ops.head_matmul(torch.ones(1, 3, 4), torch.ones(1, 4, 4, dtype=torch.float64))),
        ("b", lambda: ops.head_matmul(torch.ones(1, 3, 4), torch.ones(1, 4, 4, device="meta"))),
    ],
)
def test_bad_arguments_are_named(name: str, call: Callable[[], Tensor]) -> None:
    with pytest.raises(ArgumentError, match=f"^{name}: "):
        call()
