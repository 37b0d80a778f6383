"""Segmented gather-sum, its gradients, and the transposition of CSR structures."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import FLOATS, features, ragged, same_bits
from torch import Tensor

from graphmem import ops
from graphmem.ops import reference

Ragged = tuple[Tensor, Tensor, int, int]
WIDTHS = st.sampled_from((1, 3, 4, 17, 64))


def extras(size: int, seed: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """A permutation as slots, weights, and a mask."""
    generator = torch.Generator().manual_seed(seed)
    accumulate = torch.float64 if dtype == torch.float64 else torch.float32
    return (
        torch.randperm(size, generator=generator),
        torch.randn(size, generator=generator, dtype=torch.float64).to(accumulate),
        torch.rand(size, generator=generator) < 0.7,
    )


def dense(ptr: Tensor, idx: Tensor, num_cols: int, values: Tensor) -> Tensor:
    """float64 [S, N]: sum of the values of equal entries."""
    out = torch.zeros(ptr.numel() - 1, num_cols, dtype=torch.float64)
    row = torch.arange(ptr.numel() - 1).repeat_interleave(ptr.diff())
    return out.index_put((row, idx.long()), values.double(), accumulate=True)


@pytest.mark.parametrize("dtype", FLOATS)
@given(case=ragged(), width=WIDTHS, use=st.tuples(st.booleans(), st.booleans(), st.booleans()))
def test_sum_has_the_bits_of_the_reference(
    dtype: torch.dtype, case: Ragged, width: int, use: tuple[bool, bool, bool]
) -> None:
    ptr, idx, num_cols, seed = case
    optional = [t if wanted else None for t, wanted in zip(extras(idx.numel(), seed, dtype), use, strict=True)]
    args = (ptr, idx, *optional, features(num_cols, width, seed, dtype), None, None, None)
    got, want = torch.ops.graphmem.segment_gather_sum(*args), reference.segment_gather_sum(*args)
    assert got.dtype == dtype
    assert same_bits(got, want)


@pytest.mark.parametrize("dtype", FLOATS)
@given(case=ragged(), width=WIDTHS, masked=st.booleans())
def test_dot_has_the_bits_of_the_reference(dtype: torch.dtype, case: Ragged, width: int, masked: bool) -> None:
    ptr, idx, num_cols, seed = case
    keep = extras(idx.numel(), seed, dtype)[2] if masked else None
    grad = features(ptr.numel() - 1, width, seed + 1, dtype)
    args = (ptr, idx, keep, features(num_cols, width, seed, dtype), grad)
    got, want = torch.ops.graphmem.segment_gather_dot(*args), reference.segment_gather_dot(*args)
    assert got.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert same_bits(got, want)


@given(ragged(), WIDTHS, st.booleans(), st.booleans())
def test_sum_is_a_sparse_product(case: Ragged, width: int, weighted: bool, masked: bool) -> None:
    ptr, idx, num_cols, seed = case
    _, weight, keep = extras(idx.numel(), seed, torch.float64)
    x = features(num_cols, width, seed, torch.float64)
    values = (weight if weighted else torch.ones_like(weight)) * (keep if masked else 1)
    got = ops.segment_gather_sum(ptr, idx, x, weight if weighted else None, keep if masked else None)
    torch.testing.assert_close(got, dense(ptr, idx, num_cols, values) @ x)


@given(ragged())
def test_slot_reads_weight_and_mask_elsewhere(case: Ragged) -> None:
    ptr, idx, num_cols, seed = case
    slot, weight, keep = extras(idx.numel(), seed, torch.float32)
    x = features(num_cols, 3, seed)
    run = torch.ops.graphmem.segment_gather_sum
    through = run(ptr, idx, slot, weight, keep, x, None, None, None)
    assert torch.equal(through, run(ptr, idx, None, weight[slot], keep[slot], x, None, None, None))


@given(ragged())
def test_transpose_matches_reference_and_definition(case: Ragged) -> None:
    ptr, idx, num_cols, _ = case
    got = ops.csr_transpose(ptr, idx, num_cols)
    for one, other in zip(got, reference.csr_transpose(ptr, idx, num_cols), strict=True):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)
    row = torch.arange(ptr.numel() - 1).repeat_interleave(ptr.diff())
    order = torch.sort(idx, stable=True).indices
    assert got.row.dtype == idx.dtype
    assert torch.equal(got.slot, order)
    assert torch.equal(got.row.long(), row[order])
    assert torch.equal(got.ptr.diff(), torch.bincount(idx.long(), minlength=num_cols))


@given(ragged())
def test_transposed_twice_is_the_row_sorted_original(case: Ragged) -> None:
    ptr, idx, num_cols, _ = case
    once = ops.csr_transpose(ptr, idx, num_cols)
    twice = ops.csr_transpose(once.ptr, once.row, ptr.numel() - 1)
    assert torch.equal(twice.ptr, ptr)
    ones = torch.ones(idx.numel())
    assert torch.equal(dense(twice.ptr, twice.row, num_cols, ones), dense(ptr, idx, num_cols, ones))


@pytest.mark.parametrize("dtype", FLOATS)
@given(case=ragged(), width=WIDTHS, use=st.tuples(st.booleans(), st.booleans()))
def test_gradient_is_the_transposed_sum(dtype: torch.dtype, case: Ragged, width: int, use: tuple[bool, bool]) -> None:
    """With or without the transposed structure at hand the gradient has the same bits: ascending entries."""
    ptr, idx, num_cols, seed = case
    _, weight, keep = extras(idx.numel(), seed, dtype)
    weight, keep = (t if wanted else None for t, wanted in zip((weight, keep), use, strict=True))
    grad = features(ptr.numel() - 1, width, seed + 1, dtype)
    got = []
    for transposed in (None, ops.csr_transpose(ptr, idx, num_cols)):
        x = features(num_cols, width, seed, dtype).requires_grad_()
        ops.segment_gather_sum(ptr, idx, x, weight, keep, transposed=transposed).backward(grad)
        got.append(x.grad)
    tptr, trow, tslot = reference.csr_transpose(ptr, idx, num_cols)
    want = reference.segment_gather_sum(tptr, trow, tslot, weight, keep, grad, None, None, None)
    assert same_bits(got[0], want)
    assert same_bits(got[1], want)


def fixed(seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    ptr, idx = torch.tensor([0, 3, 3, 7]), torch.tensor([2, 0, 2, 4, 1, 1, 0])
    _, weight, keep = extras(7, seed, torch.float64)
    return ptr, idx, features(5, 3, seed, torch.float64), weight, keep


@pytest.mark.parametrize("masked", [False, True])
def test_gradcheck(masked: bool) -> None:
    ptr, idx, x, weight, keep = fixed()
    mask = keep if masked else None
    run: Any = lambda x, w: ops.segment_gather_sum(ptr, idx, x, w, mask)  # noqa: E731
    assert torch.autograd.gradcheck(run, (x.requires_grad_(), weight.requires_grad_()))
    assert torch.autograd.gradcheck(lambda x: run(x, None), (x,))
    assert torch.autograd.gradcheck(lambda w: run(x.detach(), w), (weight,))


def test_hand_computed() -> None:
    ptr, idx = torch.tensor([0, 2, 2, 3]), torch.tensor([1, 0, 1])
    x = torch.tensor([[1.0, 2.0], [10.0, 20.0]])
    weight, keep = torch.tensor([0.5, 3.0, 2.0]), torch.tensor([True, True, False])
    assert ops.segment_gather_sum(ptr, idx, x).tolist() == [[11, 22], [0, 0], [10, 20]]
    assert ops.segment_gather_sum(ptr, idx, x, weight, keep).tolist() == [[8, 16], [0, 0], [0, 0]]
    grad = torch.tensor([[1.0, 1.0], [5.0, 5.0], [2.0, 0.0]])
    assert torch.ops.graphmem.segment_gather_dot(ptr, idx, keep, x, grad).tolist() == [30, 3, 0]


@pytest.mark.parametrize("dtype", FLOATS)
def test_non_contiguous_features_and_gradients(dtype: torch.dtype) -> None:
    ptr, idx, *_ = fixed()
    x = features(5, 6, 0, dtype)
    strided = x.T.contiguous().T.requires_grad_()
    plain = x.clone().requires_grad_()
    grad = features(3, 6, 1, dtype)
    one, two = ops.segment_gather_sum(ptr, idx, plain), ops.segment_gather_sum(ptr, idx, strided)
    assert torch.equal(one, two)
    one.backward(grad)
    two.backward(grad.T.contiguous().T)
    assert torch.equal(plain.grad, strided.grad)
    # A sum hands down an expanded gradient with stride 0.
    plain.grad = None
    ops.segment_gather_sum(ptr, idx, plain).sum().backward()
    assert torch.equal(plain.grad[:, 0], torch.bincount(idx, minlength=5).to(dtype))


def test_no_segments_no_entries_no_features() -> None:
    x = features(4, 2, 0).requires_grad_()
    nothing = torch.empty(0, dtype=torch.int64)
    for ptr in (torch.zeros(1, dtype=torch.int64), torch.zeros(4, dtype=torch.int64)):
        out = ops.segment_gather_sum(ptr, nothing, x, torch.empty(0), torch.empty(0, dtype=torch.bool))
        assert torch.equal(out, torch.zeros(ptr.numel() - 1, 2))
        (grad,) = torch.autograd.grad(out.sum(), x)
        assert torch.equal(grad, torch.zeros(4, 2))
    assert ops.segment_gather_sum(torch.tensor([0, 1]), torch.tensor([3]), x[:, :0]).shape == (1, 0)
    assert ops.csr_transpose(torch.zeros(1, dtype=torch.int64), nothing, 0).ptr.tolist() == [0]


def test_absent_entry_hides_nan() -> None:
    x = torch.tensor([[1.0], [float("nan")]])
    ptr, idx, keep = torch.tensor([0, 2]), torch.tensor([0, 1]), torch.tensor([True, False])
    assert ops.segment_gather_sum(ptr, idx, x, keep=keep).item() == 1
