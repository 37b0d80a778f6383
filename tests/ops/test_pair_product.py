"""Element-wise products of node pairs."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import FLOATS, SEEDS, features, random_pairs, same_bits
from torch import Tensor

from graphmem import ops
from graphmem.ops import reference


def transposed_ends(pairs: Tensor, num_nodes: int) -> tuple[Tensor, Tensor]:
    tptr, _, tslot = reference.csr_transpose(torch.arange(pairs.numel() + 1), pairs.flatten(), num_nodes)
    return tptr, tslot


@pytest.mark.parametrize("dtype", FLOATS)
@given(nodes=st.integers(1, 20), count=st.integers(0, 40), width=st.sampled_from((1, 3, 4, 17)), seed=SEEDS)
def test_has_the_bits_of_the_reference(dtype: torch.dtype, nodes: int, count: int, width: int, seed: int) -> None:
    x, pairs = features(nodes, width, seed, dtype), random_pairs(nodes, count, seed)
    got = torch.ops.graphmem.pair_product(x, pairs)
    assert same_bits(got, reference.pair_product(x, pairs))
    assert same_bits(got, x[pairs[0]] * x[pairs[1]])
    args = (features(count, width, seed + 1, dtype), x, pairs, *transposed_ends(pairs, nodes))
    grad = torch.ops.graphmem.pair_product_backward(*args)
    assert same_bits(grad, reference.pair_product_backward(*args))
    leaf = x.clone().requires_grad_()
    ops.pair_product(leaf, pairs).backward(args[0])
    assert same_bits(leaf.grad, grad)


@given(st.integers(1, 12), st.integers(0, 30), SEEDS)
def test_symmetric_in_the_ends(nodes: int, count: int, seed: int) -> None:
    x, pairs = features(nodes, 5, seed), random_pairs(nodes, count, seed)
    assert same_bits(ops.pair_product(x, pairs), ops.pair_product(x, pairs.flip(0)))


def test_gradcheck_with_equal_ends() -> None:
    x = features(6, 3, 0, torch.float64).requires_grad_()
    pairs = torch.tensor([[0, 1, 1, 5, 3], [0, 2, 2, 1, 3]])
    assert torch.autograd.gradcheck(lambda x: ops.pair_product(x, pairs), (x,))


def test_non_contiguous_and_expanded() -> None:
    x, pairs = features(6, 4, 0), random_pairs(6, 9, 0)
    plain, strided = x.clone().requires_grad_(), x.T.contiguous().T.requires_grad_()
    for leaf in (plain, strided):
        ops.pair_product(leaf, pairs).sum().backward()
    assert same_bits(plain.grad, strided.grad)
