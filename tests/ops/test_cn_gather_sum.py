"""Feature sums over common, left and right neighbours, and their gradients."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import (
    FLOATS,
    Graph,
    PairCase,
    features,
    from_dense,
    graphs,
    pair_cases,
    random_graph,
    random_pairs,
    same_bits,
)
from torch import Tensor

from graphmem import ops
from graphmem.ops import reference

WIDTHS = st.sampled_from((1, 3, 4, 17, 64, 225))


def accumulate_dtype(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def op_args(case: PairCase, last: Tensor, dtype: torch.dtype, *more: Any) -> tuple[Any, ...]:
    def structure(graph: Graph) -> tuple[Tensor | None, ...]:
        *rest, weight = graph.weighted_structure()
        return (*rest, None if weight is None else weight.to(accumulate_dtype(dtype)))

    return (*structure(case.a), *structure(case.b), case.pairs, last, *more)


@pytest.mark.parametrize("dtype", FLOATS)
@given(case=pair_cases(weight_dtype=torch.float64), parts=st.integers(1, 7), width=WIDTHS)
def test_forward_has_the_bits_of_the_reference(dtype: torch.dtype, case: PairCase, parts: int, width: int) -> None:
    x = features(case.a.num_nodes, width, case.seed, dtype)
    args = op_args(case, x, dtype, case.exclude_endpoints, parts)
    got, want = torch.ops.graphmem.cn_gather_sum(*args), reference.cn_gather_sum(*args)
    assert got.dtype == dtype
    assert same_bits(got, want)


@pytest.mark.parametrize("dtype", FLOATS)
@given(case=pair_cases(weight_dtype=torch.float64), parts=st.integers(1, 7), width=WIDTHS)
def test_backward_has_the_bits_of_the_reference(dtype: torch.dtype, case: PairCase, parts: int, width: int) -> None:
    rows = parts.bit_count() * case.pairs.size(1)
    grad = features(rows, width, case.seed, dtype).view(parts.bit_count(), case.pairs.size(1), width)
    args = op_args(case, grad, dtype, case.a.num_nodes, case.exclude_endpoints, parts)
    got, want = torch.ops.graphmem.cn_gather_sum_backward(*args), reference.cn_gather_sum_backward(*args)
    assert got.dtype == dtype
    assert same_bits(got, want)


@given(pair_cases(weight_dtype=torch.float64), WIDTHS)
def test_dense_oracle(case: PairCase, width: int) -> None:
    x = features(case.a.num_nodes, width, case.seed, torch.float64)
    i, j = case.pairs
    in_a, in_b = case.a.present()[i], case.b.present()[j]
    if case.exclude_endpoints:
        ids = torch.arange(case.a.num_nodes)
        outside = (ids != i[:, None]) & (ids != j[:, None])
        in_a, in_b = in_a & outside, in_b & outside
    a, b = case.a.dense()[i], case.b.dense()[j]
    want = ((a * b * (in_a & in_b)) @ x, (a * (in_a & ~in_b)) @ x, (b * (in_b & ~in_a)) @ x)
    options = {"g2": case.b, "exclude_endpoints": case.exclude_endpoints}
    for mode in ("recompute", "index", "auto"):
        got = ops.cn_diff_gather_sum(case.a, x, case.pairs, mode=mode, **options)
        for one, other in zip(got, want, strict=True):
            torch.testing.assert_close(one, other)
        torch.testing.assert_close(ops.cn_gather_sum(case.a, x, case.pairs, mode=mode, **options), want[0])


@pytest.mark.parametrize("dtype", FLOATS)
@given(case=pair_cases(weight_dtype=torch.float32), width=WIDTHS)
def test_modes_give_the_same_bits(dtype: torch.dtype, case: PairCase, width: int) -> None:
    x = features(case.a.num_nodes, width, case.seed, dtype)
    out, grads = {}, {}
    for mode in ("recompute", "index", "auto"):
        leaf = x.clone().requires_grad_()
        out[mode] = ops.cn_gather_sum(
            case.a, leaf, case.pairs, g2=case.b, exclude_endpoints=case.exclude_endpoints, mode=mode
        )
        out[mode].backward(features(case.pairs.size(1), width, case.seed + 1, dtype))
        grads[mode] = leaf.grad
    for mode in ("index", "auto"):
        assert same_bits(out[mode], out["recompute"])
        assert same_bits(grads[mode], grads["recompute"])


@given(pair_cases(weight_dtype=torch.float32))
def test_modes_give_the_same_bits_for_all_parts(case: PairCase) -> None:
    x = features(case.a.num_nodes, 5, case.seed)
    options = {"g2": case.b, "exclude_endpoints": case.exclude_endpoints}
    recomputed = ops.cn_diff_gather_sum(case.a, x, case.pairs, mode="recompute", **options)
    indexed = ops.cn_diff_gather_sum(case.a, x, case.pairs, mode="index", **options)
    assert all(same_bits(one, other) for one, other in zip(recomputed, indexed, strict=True))


@given(pair_cases(weight_dtype=torch.float32))
def test_swapping_ends_and_graphs_swaps_left_and_right(case: PairCase) -> None:
    x = features(case.a.num_nodes, 6, case.seed)
    cn, left, right = ops.cn_diff_gather_sum(case.a, x, case.pairs, g2=case.b, exclude_endpoints=case.exclude_endpoints)
    flipped = ops.cn_diff_gather_sum(case.b, x, case.pairs.flip(0), g2=case.a, exclude_endpoints=case.exclude_endpoints)
    assert torch.equal(cn, flipped[0])
    assert torch.equal(left, flipped[2])
    assert torch.equal(right, flipped[1])


@given(graphs(masked=False), st.integers(0, 2**31 - 1))
def test_invariant_under_pair_order_and_relabelling(graph: Graph, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    pairs = random_pairs(graph.num_nodes, 40, seed)
    # Small integers add up exactly in every order.
    x = torch.randint(-8, 8, (graph.num_nodes, 5), generator=generator).float()
    out = torch.stack(ops.cn_diff_gather_sum(graph, x, pairs))
    order = torch.randperm(40, generator=generator)
    assert torch.equal(torch.stack(ops.cn_diff_gather_sum(graph, x, pairs[:, order])), out[:, order])
    label = torch.randperm(graph.num_nodes, generator=generator)
    adjacency = torch.zeros(graph.num_nodes, graph.num_nodes, dtype=torch.bool)
    adjacency[label[graph.row], label[graph.col.long()]] = True
    moved = torch.empty_like(x)
    moved[label] = x
    assert torch.equal(torch.stack(ops.cn_diff_gather_sum(from_dense(adjacency), moved, label[pairs])), out)


@given(pair_cases(weight_dtype=torch.float32), WIDTHS)
def test_compact_lists_the_pairs_with_common_neighbours(case: PairCase, width: int) -> None:
    x = features(case.a.num_nodes, width, case.seed)
    options = {"g2": case.b, "exclude_endpoints": case.exclude_endpoints}
    ids, rows = ops.cn_gather_sum(case.a, x, case.pairs, compact=True, **options)
    full = ops.cn_gather_sum(case.a, x, case.pairs, **options)
    counts = ops.cn_count(case.a, case.pairs, **options)
    assert torch.equal(ids, counts.nonzero().squeeze(1))
    assert torch.equal(rows, full[ids])
    assert not full[counts == 0].any()


def weighted_case(seed: int = 0, *, keep: bool = False) -> tuple[Graph, Graph, Tensor, Tensor]:
    a = random_graph(9, 0.4, seed, weight_dtype=torch.float64, keep=keep)
    b = random_graph(9, 0.5, seed + 1, weight_dtype=torch.float64, keep=keep)
    return a, b, random_pairs(9, 7, seed), features(9, 3, seed, torch.float64)


@pytest.mark.parametrize("mode", ["recompute", "index", "auto"])
@pytest.mark.parametrize("keep", [False, True])
def test_gradcheck_features(mode: str, keep: bool) -> None:
    a, b, pairs, x = weighted_case(keep=keep)
    x.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: ops.cn_gather_sum(a, x, pairs, g2=b, mode=mode), (x,))
    assert torch.autograd.gradcheck(lambda x: ops.cn_diff_gather_sum(a, x, pairs, g2=b, mode=mode), (x,))


@pytest.mark.parametrize("mode", ["index", "auto"])
def test_gradcheck_edge_weights(mode: str) -> None:
    a, b, pairs, x = weighted_case(keep=True)

    def run(wa: Tensor, wb: Tensor, x: Tensor) -> tuple[Tensor, ...]:
        first, second = dataclasses.replace(a, weight=wa), dataclasses.replace(b, weight=wb)
        return ops.cn_diff_gather_sum(first, x, pairs, g2=second, mode=mode)

    inputs = tuple(t.clone().requires_grad_() for t in (a.weight, b.weight, x))
    assert torch.autograd.gradcheck(run, inputs)


def test_weight_of_one_graph_used_on_both_sides_gets_both_gradients() -> None:
    a, _, pairs, x = weighted_case()
    weight = a.weight.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda w: ops.cn_gather_sum(dataclasses.replace(a, weight=w), x, pairs), (weight,))


@pytest.mark.parametrize("dtype", FLOATS)
def test_non_contiguous_features_and_gradients(dtype: torch.dtype) -> None:
    graph, pairs = random_graph(20, 0.3, 1), random_pairs(20, 30, 1)
    x = features(20, 10, 1, dtype)
    wide = features(20, 20, 2, dtype)
    wide[:, ::2] = x
    grad = features(30, 10, 3, dtype)
    for strided in (wide[:, ::2], x.T.contiguous().T):
        plain, other = x.clone().requires_grad_(), strided.detach().requires_grad_()
        one, two = ops.cn_gather_sum(graph, plain, pairs), ops.cn_gather_sum(graph, other, pairs)
        assert torch.equal(one, two)
        one.backward(grad)
        two.backward(grad.T.contiguous().T)
        assert torch.equal(plain.grad, other.grad)


def test_no_pairs_no_edges_no_features() -> None:
    graph, x = random_graph(6, 0.5, 0), features(6, 4, 0)
    none = torch.empty(2, 0, dtype=torch.int64)
    x.requires_grad_()
    for mode in ("recompute", "index"):
        out = ops.cn_gather_sum(graph, x, none, mode=mode)
        assert out.shape == (0, 4)
        (grad,) = torch.autograd.grad(out.sum(), x)
        assert torch.equal(grad, torch.zeros_like(x))
        empty = random_graph(6, 0.0, 0)
        assert torch.equal(ops.cn_gather_sum(empty, x, random_pairs(6, 3, 0), mode=mode), torch.zeros(3, 4))
        assert ops.cn_gather_sum(graph, x[:, :0], random_pairs(6, 3, 0), mode=mode).shape == (3, 0)


def test_equal_ends_sum_the_whole_row() -> None:
    graph, x = random_graph(12, 0.4, 5, weight_dtype=torch.float64), features(12, 3, 5, torch.float64)
    pairs = torch.arange(12).repeat(2, 1)
    torch.testing.assert_close(ops.cn_gather_sum(graph, x, pairs), graph.dense().square() @ x)


def test_half_is_rounded_once() -> None:
    """2048 + 1 is not a float16: accumulation in half precision would lose every one of the ones."""
    graph = from_dense(torch.ones(64, 64, dtype=torch.bool))
    x = torch.ones(64, 1, dtype=torch.float16)
    x[0] = 2048
    pairs = torch.tensor([[3], [5]])
    assert ops.cn_gather_sum(graph, x, pairs).item() == torch.tensor(2048.0 + 63).half().item()


def test_absent_entry_hides_nan() -> None:
    graph = random_graph(8, 1.0, 0)
    masked = dataclasses.replace(graph, keep=graph.col != 3)
    x = features(8, 2, 0)
    x[3] = float("nan")
    pairs = random_pairs(8, 10, 0)
    for mode in ("recompute", "index"):
        assert all(not out.isnan().any() for out in ops.cn_diff_gather_sum(masked, x, pairs, mode=mode))


def test_second_graph_may_have_fewer_nodes() -> None:
    """A pair (i, j) intersects row i of one graph with row j of another."""
    adjacency = torch.rand(12, 12, generator=torch.Generator().manual_seed(0)) < 0.5
    a = from_dense(adjacency)
    b = from_dense(adjacency[:5, :5])
    pairs = torch.tensor([[11, 7, 3], [4, 0, 2]])
    x = features(12, 4, 0)
    want = (adjacency[pairs[0], :5] & adjacency[pairs[1], :5]).float() @ x[:5]
    torch.testing.assert_close(ops.cn_gather_sum(a, x, pairs, g2=b), want)
