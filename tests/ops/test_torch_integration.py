"""Every operator under torch.library.opcheck and torch.compile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from strategies import Graph, features, random_graph, random_pairs, same_bits
from torch import Tensor

from graphmem import ops


def operators() -> dict[str, list[tuple[Any, ...]]]:
    """Arguments for each operator: plain, and with everything optional given."""
    plain = random_graph(10, 0.4, 0)
    full = random_graph(10, 0.4, 1, keep=True, weight_dtype=torch.float32, col_dtype=torch.int32)
    pairs, x = random_pairs(10, 6, 0), features(10, 5, 0)
    pair_count = (*full.structure(), *full.structure(), pairs, True)
    sizes = torch.ops.graphmem.cn_count(*pair_count)
    ptr = torch.cat((sizes.new_zeros(1), sizes.flatten().cumsum(0)))
    offsets = ptr[torch.arange(3)[:, None] * 6 + torch.arange(7)]
    entries = full.col.numel()
    slot = torch.randperm(entries)
    transposed = torch.ops.graphmem.csr_transpose(full.rowptr, full.col, 10)
    short = full.rowptr.diff().clamp(max=2)
    out_ptr = torch.cat((short.new_zeros(1), short.cumsum(0)))
    both = (*plain.weighted_structure(), *plain.weighted_structure(), pairs)
    weighted = (*full.weighted_structure(), *full.weighted_structure(), pairs)
    ends = torch.ops.graphmem.csr_transpose(torch.arange(13), pairs.flatten(), 10)
    leaf = x.clone().requires_grad_()
    segment = (full.rowptr, full.col)
    layers = features(10, 5, 3).view(2, 5, 5)
    code, dt = (x[0, :3].clone().requires_grad_(), x[1, :3].contiguous()), features(10, 6, 2).double()
    fixed = tuple(part.detach() for part in code)
    gru_weights = (features(15, 15, 3), features(15, 5, 4), features(15, 1, 5)[:, 0], features(15, 1, 6)[:, 0])
    cell = (x, pairs[0], pairs[1], features(6, 2, 2), dt[0], *code, *(w.contiguous() for w in gru_weights))
    near = pairs[0, :3].repeat(10, 1) - 1  # 3 events for each of 10 nodes, some of them absent
    query, letters = features(10, 20, 7), features(10, 2, 8)
    event = (leaf, near, dt[:, :3].contiguous(), *code, letters, near.clamp(min=0), 0.3, 5)
    ring = (near.clone(), near.clone(), near.clone(), torch.arange(10))
    timed = (*ring[:2], near.double(), ring[3])
    plainly = (torch.tensor(3), torch.tensor(-1), pairs[0], pairs[1])
    happened = (torch.tensor(3), torch.zeros(()).double(), *pairs, torch.arange(6).double(), torch.arange(6) + 50)
    # Ten nodes with two events each and two free places, in a pool of 60.
    pool = (torch.arange(10) * 4, torch.full((10,), 2), torch.arange(60) % 10, torch.arange(60), torch.arange(60) // 9)
    pooled = (*pool[:4], pool[4].double())
    questions = (pairs[0], torch.arange(6))
    # Rows of an own entry and hops of two slots and one; nobody in the second.
    cells = (near - 1, near.clamp(max=4), near.clone(), features(10, 6, 4).view(10, 3, 2))
    brief = (cells[0].int(), cells[1], cells[2].double(), cells[3].bfloat16())
    rows, parts = torch.tensor([7, 0, 4]), torch.tensor([0, 2, 1, 1])
    weights = (*code, features(2, 10, 1), *features(12, 2, 2).view(2, 6, 2), *features(2, 6, 3))
    known = (features(10, 5, 5), features(10, 2, 6), torch.zeros(3, 3, dtype=torch.int64), True)
    now, places = features(9, 2, 7).view(3, 3, 2), features(64, 3, 8)
    joint = (rows, now.clone().requires_grad_(), [1, 1], False, 3, parts, parts.flip(0))
    joined = (torch.arange(4).double(), places.clone().requires_grad_(), features(2, 7, 9), x[0, :2].contiguous())
    entering = (rows[parts], rows[parts.flip(0)], torch.arange(4), torch.arange(4) + 50)
    entered = (rows, torch.cat((parts, parts.flip(0))), now, [1, 1])
    # NAT with states of 5 numbers and values of 2, messages of 2, codes of 3, positions of 3, hidden layers of 4.
    wide, timeless = ops.NATWidths(5, 2, 2, 3, 3, 2, 4, 2, True), ops.NATWidths(5, 2, 0, 3, 3, 0, 4, 2, False)
    ends_of = (features(10, 5, 5), pairs.flatten()[:10] - 1, torch.arange(10))
    told = (features(10, 2, 6), torch.arange(10), features(wide.size, 1, 7)[:, 0].contiguous(), wide.options)
    untold = (None, None, features(timeless.size, 1, 8)[:, 0].contiguous(), timeless.options)
    nat = (*cells, *ends_of, *told, [1, 1], False, 3, True)
    sums = (*brief, *ends_of[:2], torch.arange(10).double(), *untold, [1, 1], True, 3, False)
    meeting = (rows, torch.tensor([[3, 7], [4, 1], [9, 9]]), torch.arange(3) + 9)
    past = (rows, rows.flip(0), torch.arange(3).double())
    # Their layers: of the pooling with heads of 3, or sums of 2.
    shapes = [(3, 1), (3,), (5, 10), (2, 10), (15, 5), (15, 5), (15,), (15,), (6, 2), (6, 2), (6,), (6,), (64, 3)]
    shapes += [(6, 7), (6,), (4, 18), (4,), (1, 4), (1,), (2, 3)]
    made = [features(1, torch.Size(shape).numel(), k).view(shape) for k, shape in enumerate(shapes)]
    seen = (*nat[:9], [1, 1], False, 3, True, rows, torch.tensor([0, 1, 2, 1, 1, 0]), torch.arange(2) + 9)
    taught = (made, 2, 0.3, 7)
    kept = (now, features(3, 15, 1), features(3, 20, 2), features(8, 7, 3).view(4, 2, 7), features(4, 18, 4))
    enters = (*cells, *ends_of, rows, rows.flip(0), torch.arange(3), torch.arange(3) + 50)
    # Running rates of ten rows, for two kinds of events.
    moments = (
        features(10, 2, 1).square(),
        features(20, 5, 2).view(10, 2, 5),
        features(20, 5, 3).view(10, 2, 5).square(),
    )
    clock = (torch.arange(3).double(), torch.tensor(0.5).double(), torch.tensor(1.5).double())
    measured = (features(3, 5, 1).requires_grad_(), features(3, 5, 2))
    head = (layers, x[:2], x[2:4], x[4:6], x[6], x[7, :1], 1e-5, 1, 1, 2)
    return {
        "cn_count": [(*plain.structure(), *plain.structure(), pairs, False), pair_count],
        "cn_index": [(*pair_count, 7, offsets, int(ptr[-1]), int(offsets[0, -1]))],
        "cn_gather_sum": [(*both, leaf, False, 1), (*weighted, leaf, True, 7)],
        "cn_gather_sum_backward": [
            (*both, features(6, 5, 1)[None], 10, False, 1),
            (*weighted, features(18, 5, 1).view(3, 6, 5).bfloat16(), 10, True, 7),
        ],
        "coherence": [(features(10, 5, 1).requires_grad_(), torch.tensor([3, 0, 3]), features(3, 5, 2))],
        "coherence_backward": [
            (
                features(1, 1, 0)[0, 0],
                features(10, 5, 1),
                torch.tensor([3, 0, 3]),
                features(3, 5, 2),
                features(3, 3, 3),
            ),
        ],
        "csr_transpose": [(plain.rowptr, plain.col, 10), (*segment, 12)],
        "distinct": [(pairs.flatten() - 2,)],
        "dropout": [(leaf, 0.4, -3, False), (leaf.half(), 0.4, 3, True)],
        "dropout_relu_backward": [(features(10, 5, 1), x, 0.4)],
        "find_edges": [(plain.rowptr, plain.col, pairs), (*segment, pairs)],
        "gru_step": [
            (features(6, 15, 1).requires_grad_(), features(6, 15, 2), features(6, 5, 3).requires_grad_(), True),
            (features(6, 15, 1).double(), features(6, 15, 2).double(), features(6, 5, 3).double(), False),
        ],
        "gru_step_backward": [(features(6, 5, 1), features(6, 20, 2).sigmoid(), features(6, 5, 3))],
        "head_matmul": [
            (
                features(5, 6, 1).view(5, 2, 3).transpose(0, 1).requires_grad_(),
                features(6, 4, 2).view(2, 3, 4).requires_grad_(),
                False,
                False,
                True,
            ),
            (features(10, 3, 1).view(2, 5, 3).double(), features(6, 5, 2).view(2, 3, 5).double(), True, True, False),
        ],
        "matmul": [
            (leaf, features(4, 5, 1).requires_grad_(), x[0, :4].clone().requires_grad_(), False, True),
            (leaf, features(10, 3, 1), None, True, False),
        ],
        "memory_gru": [
            (*cell, True),
            (*(c.detach() for c in cell), False),
            (*cell[:2], pairs[1] - 3, *cell[3:7], features(15, 10, 3), *cell[8:], True),
        ],
        "memory_gru_backward": [
            (features(6, 5, 9), features(6, 15, 1), features(6, 20, 2).sigmoid(), dt[0], *fixed, weight)
            for weight in (cell[7], features(15, 10, 3))
        ],
        "nat_enter": [
            (*enters, rows, torch.tensor([0, 1, 2, 2, 1, 0]), features(3, 5, 5), now, [1, 1], False, 3, 0.5, False),
        ],
        "nat_score": [(*nat, *meeting), (*sums, *meeting[:2], past[2])],
        "nat_train": [(*seen, *taught)],
        "nat_train_backward": [(features(1, 4, 1)[0], *kept, features(4, 4, 5), *seen, *taught)],
        "nat_update": [
            (*nat, rows, rows.flip(0), meeting[2], meeting[1], 50, 0.5, False),
            (*sums, *past, None, 50, 0.5, True),
        ],
        "ncache_commit": [
            (*cells, *entering, *entered, False, 3, 0.5, False),
            (*brief, *entering[:2], entering[2].double(), entering[3], *entered, True, 3, 0.5, True),
        ],
        "ncache_join": [
            (cells[0], [1, 1], False, 3, pairs.t().contiguous(), None),
            (cells[0], [1, 1], False, 3, pairs.t().contiguous(), 2),
            (brief[0], [2], True, 3, rows.view(-1, 1), 99),
        ],
        "ncache_pool": [
            (*cells[:3], *joint, None, places, None, None),
            (*brief[:3], *joint, *joined),
        ],
        "ncache_pool_backward": [
            (features(4, 5, 1)[None], *cells[:3], rows, now, *joint[2:], None, places, None, None),
            (features(8, 7, 1).view(2, 4, 7), *brief[:3], rows, now, *joint[2:], *(j.detach() for j in joined)),
        ],
        "ncache_refresh": [
            (*cells, rows, features(10, 5, 5), None, None, False, *code, features(2, 8, 1), *weights[3:]),
            (*brief, rows, *known, *weights),
        ],
        "ncache_refresh_backward": [(now, *brief, rows, *known, *fixed, *weights[2:])],
        "norm_dropout_relu": [(leaf, x[0], x[1], 1e-5, 0.3, 4), (leaf.half(), x[0], x[1], 1e-5, 0.0, 0)],
        "norm_dropout_relu_backward": [(x, x.relu(), x, x[:, 0].contiguous(), x[:, 1].contiguous(), x[0], 0.3)],
        "pair_head": [
            (x, pairs, None, None, *head),
            (x, pairs, features(3, 5, 2), torch.tensor([0, 2, 1, 1, 0, 2]), *head),
        ],
        "pair_product": [(leaf, pairs), (leaf.half(), pairs)],
        "pair_product_backward": [(features(6, 5, 1), x, pairs, ends[0], ends[2])],
        "pair_relu_dot": [(features(10, 10, 4).requires_grad_(), pairs[0], pairs.t().contiguous(), x[0], x[1, :1])],
        "pair_relu_dot_backward": [
            (features(6, 2, 1), features(10, 10, 4), pairs[0], pairs.t().contiguous(), x[0]),
        ],
        "pending_events": [(rows, rows.flip(0)), (pairs[0].contiguous(), pairs[1].contiguous())],
        "pres_correct": [
            (
                *measured,
                rows,
                None,
                None,
                *moments[:2],
                *(None,) * 7,
                torch.tensor([[0.4]]),
                0.0,
                0.0,
                1.0,
                False,
                False,
                True,
            ),
            (
                *measured,
                rows,
                rows > 4,
                torch.arange(10) - 1,
                *moments,
                features(3, 2, 4).sigmoid(),
                *clock,
                rows,
                features(1, 1, 5)[0, 0].square(),
                torch.tensor([[0.4]], requires_grad=True),
                0.1,
                0.5,
                1.0,
                True,
                False,
                True,
            ),
        ],
        "pres_correct_backward": [
            (*(features(3, 5, k) for k in range(3)), features(3, 5, 3).sigmoid(), rows > 4, torch.tensor([[0.4]])),
            (*(features(3, 5, k) for k in range(3)), features(0, 5, 3), rows > 4, features(1, 5, 3)),
        ],
        "pres_observe": [
            (*moments, torch.ones(1), features(3, 5, 2), None, rows, None, 10, None, None, None, None, 0.0, 1.0, 0.1),
            (
                *moments[:2],
                features(0, 10, 3).view(0, 2, 5),
                torch.ones(0),
                *(features(3, 5, k) for k in range(2)),
                rows,
                torch.arange(10) - 1,
                9,
                features(3, 2, 4).sigmoid(),
                *clock,
                0.1,
                0.9,
                0.0,
            ),
        ],
        "ring_graph": [(near.clamp(min=0), near, torch.arange(10), pairs[0])],
        "ring_insert": [(*ring, *plainly, None, None), (*timed, *happened)],
        "ring_query": [(*ring, pairs[0], None, 2), (*timed, pairs[0], torch.arange(6).double(), 3)],
        "sample_non_edges": [(plain.rowptr, plain.col, 10, 3, 8, 5)],
        "sample_rows": [(full.rowptr, out_ptr, int(out_ptr[-1]), 2, -9, torch.arange(10), r) for r in (False, True)],
        "segment_gather_dot": [(*segment, None, x, features(10, 5, 1)), (*segment, full.keep, x, x)],
        "segment_gather_sum": [
            (*segment, None, None, None, leaf, None, None, None),
            (*segment, None, full.weight.clone().requires_grad_(), full.keep, leaf, *transposed),
            (*segment, slot, full.weight, full.keep, leaf.half(), None, None, None),
        ],
        "temporal_append": [
            (*pool, torch.tensor(40), *plainly, None, None),
            (*pooled, torch.tensor(40), *happened),
            (*pooled, torch.tensor(60), *happened),  # no room
        ],
        "temporal_attention": [
            (features(10, 16, 7), *event[:5], None, None, 0.0, 0),
            (query.clone().requires_grad_(), *event),
        ],
        "temporal_attention_backward": [
            (
                features(20, 11, 1).view(2, 10, 11),
                features(10, 6, 2).sigmoid().view(10, 2, 3),
                query,
                x,
                *event[1:3],
                *fixed,
                *event[5:],
            ),
        ],
        "temporal_sample": [
            (*pool, *questions, None, 2, 0, True, 0.0, 0, None),
            (*pooled, pairs[0], torch.arange(6).double(), torch.zeros(6).double(), 1, 1, False, 0.0, -3, pairs[1]),
            (*pool, *questions, None, 1, 2, False, 0.5, 7, None),
        ],
        "time_code": [(dt[0], *code)],
        "time_code_backward": [(features(6, 3, 1), dt[0], *fixed)],
    }


def test_every_operator_is_listed() -> None:
    names = {
        schema.name.removeprefix("graphmem::")
        for schema in torch._C._jit_get_all_schemas()
        if schema.name.startswith("graphmem::")
    }
    assert names == set(operators())


@pytest.mark.parametrize("name", sorted(operators()))
def test_opcheck(name: str) -> None:
    for args in operators()[name]:
        torch.library.opcheck(getattr(torch.ops.graphmem, name).default, args)


@pytest.mark.parametrize(
    "run",
    [
        lambda x: ops.cn_gather_sum(GRAPHS["plain"], x, random_pairs(30, 9, 0), mode="recompute"),
        lambda x: ops.pair_product(x, random_pairs(30, 9, 0)),
        lambda x: ops.dropout(x, 0.5, seed=0, relu=True).exp(),
        lambda x: ops.segment_gather_sum(*GRAPHS["plain"].structure()[:2], x.detach(), x[:, 0][GRAPHS["plain"].col]),
    ],
    ids=["cn_gather_sum", "pair_product", "dropout", "segment_gather_sum"],
)
def test_second_derivative_raises(run: Callable[[Tensor], Tensor]) -> None:
    """Operators are differentiable once; a second derivative must not come out as a silent zero."""
    x = features(30, 4, 0).requires_grad_()
    (grad,) = torch.autograd.grad(run(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once|twice|double|second"):
        torch.autograd.grad(grad.sum(), x)


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    torch._dynamo.reset()
    return torch.compile(function, fullgraph=True, dynamic=True, backend="aot_eager")


GRAPHS = {
    "plain": random_graph(30, 0.3, 0),
    "full": random_graph(30, 0.3, 1, keep=True, weight_dtype=torch.float32, col_dtype=torch.int32),
}


@pytest.mark.parametrize("graph", GRAPHS.values(), ids=GRAPHS.keys())
def test_compile_integer_operators(graph: Graph) -> None:
    def run(pairs: Tensor) -> tuple[Tensor, ...]:
        count = ops.cn_count(graph, pairs + 0, exclude_endpoints=True)
        return count * 2, ops.cn_sizes(graph, pairs), ops.find_edges(graph, pairs)

    fast = compiled(run)
    for size in (5, 9, 17):
        pairs = random_pairs(30, size, size)
        assert all(torch.equal(one, other) for one, other in zip(fast(pairs), run(pairs), strict=True))


@pytest.mark.parametrize("graph", GRAPHS.values(), ids=GRAPHS.keys())
@pytest.mark.parametrize("mode", ["auto", "recompute"])
def test_compile_pair_sums(graph: Graph, mode: str) -> None:
    def run(x: Tensor, pairs: Tensor) -> tuple[Tensor, ...]:
        return (
            ops.cn_gather_sum(graph, x * 2, pairs, mode=mode).relu(),
            *ops.cn_diff_gather_sum(graph, x, pairs, mode=mode),
        )

    fast = compiled(run)
    for size, width in ((5, 8), (9, 12), (17, 3)):
        grads = []
        for function in (fast, run):
            x = features(30, width, size).requires_grad_()
            out = function(x, random_pairs(30, size, size))
            sum(part.square().sum() for part in out).backward()
            grads.append((*(part.detach() for part in out), x.grad))
        for one, other in zip(*grads, strict=True):
            torch.testing.assert_close(one, other)


def test_compile_segment_sum() -> None:
    def run(ptr: Tensor, idx: Tensor, x: Tensor, weight: Tensor) -> Tensor:
        return ops.segment_gather_sum(ptr, idx, x.sin(), weight).cos()

    fast = compiled(run)
    for size, width in ((10, 4), (14, 7), (25, 3)):
        graph = random_graph(size, 0.4, size)
        grads = []
        for function in (fast, run):
            x = features(size, width, 0).requires_grad_()
            weight = features(graph.col.numel(), 1, 1).squeeze(1).requires_grad_()
            out = function(graph.rowptr, graph.col, x, weight)
            out.sum().backward()
            grads.append((out.detach(), x.grad, weight.grad))
        assert all(same_bits(one, other) for one, other in zip(*grads, strict=True))


def test_compile_dropout_and_pair_product() -> None:
    def run(x: Tensor) -> Tensor:
        dropped = ops.dropout(x * 2, 0.3, seed=5, relu=True) + ops.dropout(x, 0.3, seed=6)
        return ops.pair_product(dropped, torch.arange(x.size(0)).repeat(2, 1).flip(1))

    fast = compiled(run)
    for rows in (7, 9, 30):
        grads = []
        for function in (fast, run):
            x = features(rows, 4, rows).requires_grad_()
            out = function(x)
            out.sum().backward()
            grads.append((out.detach(), x.grad))
        assert all(same_bits(one, other) for one, other in zip(*grads, strict=True))


def test_compile_takes_the_graph_as_an_argument() -> None:
    def run(graph: Graph, x: Tensor, pairs: Tensor) -> Tensor:
        return ops.cn_gather_sum(graph, x, pairs)

    fast = compiled(run)
    for seed in range(3):
        graph, x, pairs = random_graph(20 + seed, 0.3, seed), features(20 + seed, 4, seed), random_pairs(20, 6, seed)
        assert same_bits(fast(graph, x, pairs), run(graph, x, pairs))
