"""Every operator on the GPU against the reference on the CPU: integers and sums in a fixed order have the same bits.

Those of torch's products, and the N-cache's sums, which each device adds in an order of its own, agree to rounding.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from strategies import FLOATS, Graph, features, random_graph, random_pairs, same_bits
from test_row_lengths import NUM_NODES, all_pairs, graph_of_lengths
from test_torch_integration import operators
from torch import Tensor

from graphmem import ops
from graphmem.data import CSRGraph
from graphmem.ops import reference
from graphmem.ops._dense import DENSE

pytestmark = pytest.mark.gpu

Move = Callable[[Any], Any]
OPERATORS = operators()
# Wait for the device, as their documentation says.
WAITING = ("cn_gather_sum_backward", "ncache_join")
ROUNDED = (*DENSE, *(f"ncache_{name}{way}" for name in ("pool", "refresh") for way in ("", "_backward")))


def tensors(results: Any) -> tuple[Tensor, ...]:
    return (results,) if isinstance(results, Tensor) else tuple(results)


def agree(got: Any, want: Any, device: torch.device, bits: bool = True) -> None:
    for one, other in zip(tensors(got), tensors(want), strict=True):
        assert one.device.type == device.type
        if bits:
            assert same_bits(one.detach().cpu(), other.detach())
        else:
            torch.testing.assert_close(one.detach().cpu(), other.detach())


def outcome(operator: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    """What a call returns; of one that returns nothing, the tensors it was given, for it has written some of them."""
    copies = [a.detach().clone() if isinstance(a, Tensor) else a for a in args]
    result = operator(*copies)
    return [a for a in copies if isinstance(a, Tensor)] if result is None else result


def test_the_kernels_are_loaded(device: torch.device) -> None:
    if device.type == "cuda":
        assert ops.CUDA_LIBRARY is not None


@pytest.mark.parametrize("name", OPERATORS)
def test_operator(name: str, device: torch.device, move: Move, no_waiting: Callable[[], Any]) -> None:
    if device.type == "cpu" and name in DENSE:
        pytest.skip("no kernel of CUDA's; the CPU's keeps other things for its gradient")
    operator = getattr(torch.ops.graphmem, name)
    for args in OPERATORS[name]:
        want = outcome(getattr(reference, name), args)
        moved = move(args)
        outcome(operator, moved)  # the allocator asks the device for memory the first time
        with no_waiting() if name not in (*WAITING, *DENSE) else torch.no_grad():
            got = outcome(operator, moved)
        agree(got, want, device, bits=name not in ROUNDED)


@pytest.mark.parametrize("name", [name for name in OPERATORS if name not in DENSE])
def test_an_argument_left_on_the_host_is_refused(name: str, device: torch.device, move: Move) -> None:
    if device.type == "cpu":
        pytest.skip("needs two devices")
    args = OPERATORS[name][-1]
    moved = move(args)
    places = [k for k, value in enumerate(args) if isinstance(value, Tensor)]
    for k in places if len(places) > 1 else ():
        with torch.no_grad(), pytest.raises(RuntimeError, match="on a CUDA device"):
            getattr(torch.ops.graphmem, name)(*moved[:k], args[k].detach(), *moved[k + 1 :])
    getattr(torch.ops.graphmem, name)(*moved)


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("col_dtype", [torch.int32, torch.int64])
def test_pairs_of_all_lengths(keep: bool, col_dtype: torch.dtype, device: torch.device, move: Move) -> None:
    graph, pairs = graph_of_lengths(col_dtype, keep=keep, weighted=False), all_pairs()
    args = (*graph.structure(), *graph.structure(), pairs, keep)
    sizes = reference.cn_count(*args)
    agree(torch.ops.graphmem.cn_count(*move(args)), sizes, device)
    ends = sizes.flatten().cumsum(0).view(sizes.shape)
    ptr = torch.cat((ends[:, :1] - sizes[:, :1], ends), dim=1)
    rest = (7, ptr, int(ends[-1, -1]), int(sizes[0].sum()))
    agree(torch.ops.graphmem.cn_index(*move((*args, *rest))), reference.cn_index(*args, *rest), device)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(("width", "parts"), [(1, 1), (64, 7), (300, 1), (224, 7)])
def test_sums_and_gradients(dtype: torch.dtype, width: int, parts: int, device: torch.device, move: Move) -> None:
    graph, pairs = graph_of_lengths(torch.int32, keep=True, weighted=True), all_pairs()
    assert graph.weight is not None
    graph = dataclasses.replace(
        graph, weight=graph.weight.to(torch.float64 if dtype == torch.float64 else torch.float32)
    )
    args = (*graph.weighted_structure(), *graph.weighted_structure(), pairs)
    rest: tuple[Any, ...] = (features(NUM_NODES, width, 3, dtype), True, parts)
    agree(torch.ops.graphmem.cn_gather_sum(*move((*args, *rest))), reference.cn_gather_sum(*args, *rest), device)
    grad = features(bin(parts).count("1") * pairs.size(1), width, 4, dtype).view(-1, pairs.size(1), width)
    rest = (grad, NUM_NODES, True, parts)
    want = reference.cn_gather_sum_backward(*args, *rest)
    for _ in range(2):
        agree(torch.ops.graphmem.cn_gather_sum_backward(*move((*args, *rest))), want, device)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("width", [1, 3, 32, 260])
def test_segments(dtype: torch.dtype, width: int, device: torch.device, move: Move) -> None:
    graph = graph_of_lengths(torch.int64, keep=True, weighted=True)
    assert graph.weight is not None
    weight = graph.weight.to(torch.float64 if dtype == torch.float64 else torch.float32)
    x, slot = features(NUM_NODES, width, 3, dtype), torch.randperm(graph.col.numel())
    args = (graph.rowptr, graph.col, slot, weight, graph.keep, x, None, None, None)
    agree(torch.ops.graphmem.segment_gather_sum(*move(args)), reference.segment_gather_sum(*args), device)
    dots = (graph.rowptr, graph.col, graph.keep, x, features(NUM_NODES, width, 4, dtype))
    agree(torch.ops.graphmem.segment_gather_dot(*move(dots)), reference.segment_gather_dot(*dots), device)
    turned = (graph.rowptr, graph.col, NUM_NODES)
    agree(torch.ops.graphmem.csr_transpose(*move(turned)), reference.csr_transpose(*turned), device)


@pytest.mark.parametrize("dtype", FLOATS)
def test_element_wise(dtype: torch.dtype, device: torch.device, move: Move) -> None:
    x = features(700, 270, 0, dtype)  # rows cross the blocks of draws
    accumulate = torch.float64 if dtype == torch.float64 else torch.float32
    weight, bias = features(2, 270, 1, accumulate)
    for relu in (False, True):
        args = (x, 0.3, -5, relu)
        agree(torch.ops.graphmem.dropout(*move(args)), reference.dropout(*args), device)
    forward = (x, weight, bias, 1e-5, 0.3, 9)
    want = reference.norm_dropout_relu(*forward)
    agree(torch.ops.graphmem.norm_dropout_relu(*move(forward)), want, device)
    backward = (features(700, 270, 2, dtype), want[0], x, want[1], want[2], weight, 0.3)
    got = torch.ops.graphmem.norm_dropout_relu_backward(*move(backward))
    agree(got, reference.norm_dropout_relu_backward(*backward), device)


def test_draws(device: torch.device, move: Move) -> None:
    graph = random_graph(500, 0.1, 0, col_dtype=torch.int32)
    args = (graph.rowptr, graph.col, 500, 2**40, 20_000, -3)
    agree(torch.ops.graphmem.sample_non_edges(*move(args)), reference.sample_non_edges(*args), device)
    short = graph.rowptr.diff().clamp(max=20)
    out_ptr = torch.cat((short.new_zeros(1), short.cumsum(0)))
    for replace in (False, True):
        rows = (graph.rowptr, out_ptr, int(out_ptr[-1]), 20, 11, torch.arange(500) * 2**50, replace)
        agree(torch.ops.graphmem.sample_rows(*move(rows)), reference.sample_rows(*rows), device)


def on_device(graph: Graph, move: Move) -> Graph:
    return Graph(*(move(array) for array in graph.weighted_structure()))


@pytest.mark.parametrize("mode", ["recompute", "index"])
def test_autograd(mode: Any, device: torch.device, move: Move) -> None:
    graph, pairs = random_graph(60, 0.3, 0, keep=True, weight_dtype=torch.float32), random_pairs(60, 200, 0)
    found = []
    for place in (lambda value: value, move):
        x = place(features(60, 20, 0).requires_grad_())
        ops.cn_gather_sum(on_device(graph, place), x, place(pairs), mode=mode).square().sum().backward()
        ops.pair_product(x, place(pairs)).sum().backward()
        found.append(x.grad)
    agree(found[1], found[0], device)


def test_gradient_of_edge_weights(device: torch.device, move: Move) -> None:
    graph, pairs = random_graph(60, 0.3, 0, weight_dtype=torch.float32), random_pairs(60, 200, 0)
    found = []
    for place in (lambda value: value, move):
        moved = on_device(graph, place)
        assert moved.weight is not None
        moved = dataclasses.replace(moved, weight=moved.weight.requires_grad_())
        ops.cn_gather_sum(moved, place(features(60, 20, 0)), place(pairs)).sum().backward()
        found.append(moved.weight.grad)
    agree(found[1], found[0], device)


def test_work_goes_to_the_current_stream(device: torch.device) -> None:
    if device.type != "cuda":
        pytest.skip("a CPU has no streams")
    graph, pairs, x = random_graph(200, 0.3, 0), random_pairs(200, 5000, 0), features(200, 64, 0)
    args = (*graph.weighted_structure(), *graph.weighted_structure(), pairs, x, False, 1)
    moved = [a.cuda() if isinstance(a, Tensor) else a for a in args]
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        moved[9] = moved[9] * 1  # what the kernel must wait for
        got = torch.ops.graphmem.cn_gather_sum(*moved)
    stream.synchronize()
    agree(got, reference.cn_gather_sum(*args), device)


def test_a_join_with_a_capacity_does_not_wait(device: torch.device, move: Move, no_waiting: Callable[[], Any]) -> None:
    for args in OPERATORS["ncache_join"]:
        if args[-1] is not None:
            moved = move(args)
            torch.ops.graphmem.ncache_join(*moved)  # the allocator asks the device for memory the first time
            with no_waiting():
                got = torch.ops.graphmem.ncache_join(*moved)
            agree(got, reference.ncache_join(*args), device)


@pytest.mark.parametrize(
    ("name", "case"), [("ncache_refresh", 0), ("ncache_pool", 0), ("ncache_commit", 0), ("ncache_join", 1)]
)
def test_a_graph_of_the_device_replays_the_n_cache(name: str, case: int, device: torch.device, move: Move) -> None:
    if device.type != "cuda":
        pytest.skip("a CPU has no graphs")
    operator, args = getattr(torch.ops.graphmem, name), OPERATORS[name][case]
    want = outcome(getattr(reference, name), args)
    moved = [a.detach().clone() if isinstance(a, Tensor) else a for a in move(args)]
    before = [a.clone() if isinstance(a, Tensor) else a for a in moved]
    with torch.no_grad():
        operator(*moved)  # first calls ask the device for memory
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            result = operator(*moved)
        for a, b in zip(moved, before, strict=True):  # what was written is as it was before the first call
            if isinstance(a, Tensor):
                a.copy_(b)
        graph.replay()
    got = [a for a in moved if isinstance(a, Tensor)] if result is None else result
    agree(got, want, device, bits=name not in ROUNDED)


def test_targets_are_removed_without_waiting(device: torch.device, move: Move, no_waiting: Callable[[], Any]) -> None:
    edges = torch.randint(0, 300, (2, 2000), generator=torch.Generator().manual_seed(0))
    graph = CSRGraph.from_edge_index(edges.unique(dim=1), 300, symmetric=True)
    moved, batch = graph.to(device), move(edges[:, :100].contiguous())
    moved.without_edges(batch)
    with no_waiting():
        view = moved.without_edges(batch)
        degree = view.degree()
    want = graph.without_edges(edges[:, :100].contiguous())
    assert want.keep is not None
    assert view.keep is not None
    agree(view.keep, want.keep, device)
    agree(degree, want.degree(), device)
    assert moved.to(device) is moved
