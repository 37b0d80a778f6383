"""Sparse features: the same numbers as dense ones."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import SEEDS, features
from torch import Tensor

from graphmem.errors import ArgumentError, ArgumentTypeError
from graphmem.nn import SparseFeatures
from graphmem.nn.features import as_features


def matrix(seed: int, rows: int = 7, width: int = 6, density: float = 0.3) -> Tensor:
    x = features(rows, width, seed, torch.float64)
    return x * (torch.rand(rows, width, generator=torch.Generator().manual_seed(seed)) < density)


@given(SEEDS, st.sampled_from((0.0, 0.3, 1.0)), st.booleans())
def test_linear_is_the_dense_one(seed: int, density: float, with_bias: bool) -> None:
    x = matrix(seed, density=density)
    weight = features(4, 6, seed + 1, torch.float64).requires_grad_()
    bias = features(4, 1, seed + 2, torch.float64).squeeze(1).requires_grad_() if with_bias else None
    sparse = SparseFeatures.from_tensor(x)
    ours, dense = sparse.linear(weight, bias), torch.nn.functional.linear(x, weight, bias)
    torch.testing.assert_close(ours, dense)
    wanted = (weight,) if bias is None else (weight, bias)
    grad = features(7, 4, seed + 3, torch.float64)
    for one, other in zip(
        torch.autograd.grad(ours, wanted, grad), torch.autograd.grad(dense, wanted, grad), strict=True
    ):
        torch.testing.assert_close(one, other)


def test_forms() -> None:
    x = matrix(0)
    for form in (x, x.to_sparse_coo(), x.to_sparse_csr()):
        sparse = SparseFeatures.from_tensor(form)
        assert torch.equal(sparse.to_dense(), x)
        assert sparse.shape == (7, 6)
        assert (sparse.size(0), sparse.size(1)) == (7, 6)
        assert sparse.value.numel() == int((x != 0).sum())
    assert isinstance(as_features(x.to_sparse_csr()), SparseFeatures)
    assert isinstance(as_features(x.to_sparse_coo()), SparseFeatures)
    assert as_features(x) is x
    assert as_features(None) is None
    assert repr(SparseFeatures.from_tensor(torch.eye(2))) == "SparseFeatures(2, 2, nnz=2)"


def test_dropout_hits_each_value_alone() -> None:
    x = torch.ones(300, 50)
    sparse = SparseFeatures.from_tensor(x)
    torch.manual_seed(0)
    out = sparse.linear(torch.eye(50), dropout=0.6)
    assert set(out.unique().tolist()) == {0.0, 2.5}
    # Standard deviation of the share: 0.004.
    assert float((out > 0).float().mean()) == pytest.approx(0.4, abs=0.016)
    assert not torch.equal(out, sparse.linear(torch.eye(50), dropout=0.6))
    torch.manual_seed(0)
    assert torch.equal(out, sparse.linear(torch.eye(50), dropout=0.6))
    assert torch.equal(sparse.linear(torch.eye(50)), x)


def test_gradients_with_dropout() -> None:
    sparse = SparseFeatures.from_tensor(matrix(4))

    def run(weight: Tensor, bias: Tensor) -> Tensor:
        torch.manual_seed(1)  # the same mask each time
        return sparse.linear(weight, bias, dropout=0.4)

    weight = features(3, 6, 0, torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(run, (weight, torch.zeros(3, dtype=torch.float64, requires_grad=True)))


def test_bad_input() -> None:
    with pytest.raises(ArgumentError, match="x:"):
        SparseFeatures.from_tensor(torch.ones(3, dtype=torch.float32))
    with pytest.raises(ArgumentError, match="x:"):
        SparseFeatures.from_tensor(torch.ones(3, 2, dtype=torch.int64))
    ptr, idx, value = torch.tensor([0, 1, 2]), torch.tensor([0, 1]), torch.ones(2)
    with pytest.raises(ArgumentError, match="ptr"):
        SparseFeatures(ptr.int(), idx, value, 2)
    with pytest.raises(ArgumentError, match="value"):
        SparseFeatures(ptr, idx, torch.ones(3), 2)
    with pytest.raises((ArgumentError, ArgumentTypeError), match="idx"):
        SparseFeatures(ptr, idx.float(), value, 2)
    with pytest.raises(ArgumentError, match="idx"):
        SparseFeatures(ptr, idx + 1, value, 2).linear(torch.ones(1, 2))
    with pytest.raises(ArgumentError, match="ptr"):
        SparseFeatures(ptr + 1, idx, value, 2).linear(torch.ones(1, 2))
    with pytest.raises(ArgumentError, match="weight"):
        SparseFeatures(ptr, idx, value, 2).linear(torch.ones(1, 3))
