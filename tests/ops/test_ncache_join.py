"""Keys that tuples of nodes hold together: against Python's dictionaries, the reference, threads, bad arguments."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import SEEDS, same_bits
from test_ncache import NODES, SIZES, filled, layout_of
from test_temporal_ops import integers
from torch import Tensor

from graphmem import ops
from graphmem.errors import ArgumentError, ArgumentTypeError
from graphmem.nn import NeighborCache
from graphmem.ops import Layout, reference


def slowly(key: Tensor, layout: Layout, nodes: list[int]) -> dict[int, list[int]]:
    """Keys of a tuple, as they are met node by node and column by column, and the cell of each dictionary."""
    columns, hops = key.size(1), len(layout.sizes) + 1
    hop_of = [0, *(hop for hop, size in enumerate(layout.sizes, 1) for _ in range(size))]
    found: dict[int, list[int]] = {}
    for side, node in enumerate(nodes):
        for column in range(columns):
            held = node if column == 0 else int(key[node, column])
            if held >= 0:
                cells = found.setdefault(held, [-1] * len(nodes) * hops)
                cells[side * hops + hop_of[column]] = node * columns + column
    return found


@given(
    sizes=SIZES,
    hash=st.sampled_from(("mix", "reference")),
    tuples=st.integers(0, 9),
    size=st.integers(1, 4),
    key=st.sampled_from((torch.int32, torch.int64)),
    seed=SEEDS,
)
@settings(deadline=None)
def test_is_what_dictionaries_hold(
    sizes: tuple[int, ...], hash: str, tuples: int, size: int, key: torch.dtype, seed: int
) -> None:
    layout = layout_of(sizes, seed, hash)
    cells = filled(layout, 2, seed, key=key)[0]
    nodes = integers(seed, 0, NODES, tuples, size)  # some of them twice in a tuple
    joined = ops.ncache_join(cells, layout, nodes)
    for n, of in enumerate(nodes.tolist()):
        low, high = joined.ptr[n : n + 2].tolist()
        found = zip(joined.key[low:high].tolist(), joined.cell[low:high].flatten(1).tolist(), strict=True)
        assert list(found) == list(slowly(cells, layout, of).items())  # in this order
        assert (joined.tuples[low:high] == n).all()
    arguments = cells, *layout.checked(), nodes, None
    expected = reference.ncache_join(*arguments)
    for one, other in zip(torch.ops.graphmem.ncache_join(*arguments), expected, strict=True):
        assert same_bits(one, other)


@given(sizes=SIZES, tuples=st.integers(0, 9), size=st.integers(1, 4), more=st.integers(-20, 20), seed=SEEDS)
@settings(deadline=None)
def test_a_capacity_is_filled_up(sizes: tuple[int, ...], tuples: int, size: int, more: int, seed: int) -> None:
    layout = layout_of(sizes, seed, "mix")
    cells, nodes = filled(layout, 2, seed)[0], integers(seed, 0, NODES, tuples, size)
    whole = ops.ncache_join(cells, layout, nodes)
    keys = whole.key.numel()
    capacity = max(keys + more, 0)
    arguments = cells, *layout.checked(), nodes, capacity
    native, slow = torch.ops.graphmem.ncache_join(*arguments), reference.ncache_join(*arguments)
    assert all(same_bits(one, other) for one, other in zip(native, slow, strict=True))
    if capacity < keys:
        with pytest.raises(ArgumentError, match=f"capacity: expected room for {keys} keys, got {capacity}"):
            ops.ncache_join(cells, layout, nodes, capacity)
        return
    joined = ops.ncache_join(cells, layout, nodes, capacity)
    assert torch.equal(joined.ptr, whole.ptr)
    assert joined.key.numel() == capacity
    for one, other in ((joined.key, whole.key), (joined.cell, whole.cell), (joined.tuples, whole.tuples)):
        assert torch.equal(one[:keys], other)
    assert (joined.key[keys:] == -1).all()
    assert (joined.cell[keys:] == -1).all()
    assert (joined.tuples[keys:] == tuples).all()


@pytest.mark.parametrize("tuples", [0, 3])
def test_tuples_of_no_node_hold_nothing(tuples: int) -> None:
    """They are refused by the face, and not undefined behind it."""
    layout = layout_of((4,), 0, "mix")
    cells = filled(layout, 2, 0)[0]
    nodes = torch.empty(tuples, 0, dtype=torch.int64)
    ptr, found, cell = torch.ops.graphmem.ncache_join(cells, *layout.checked(), nodes, 5)
    assert (ptr.tolist(), found.tolist(), cell.shape) == ([0] * (tuples + 1), [-1] * 5, (5, 0))


def test_a_key_that_lies_where_it_does_not_belong_counts_for_nothing() -> None:
    """As in the reference: no question finds it there."""
    layout = layout_of((4,), 0, "mix")
    key = torch.full((3, 5), -1, dtype=torch.int64)
    key[0, 1:] = 2  # in its place, and in three others
    joined = ops.ncache_join(key, layout, torch.tensor([[0]]))
    assert joined.key.tolist() == [0, 2]
    assert joined.cell[1, 0, 1] == int(layout.place(torch.tensor([2]), 1))


@given(sizes=SIZES, hash=st.sampled_from(("mix", "reference")), seed=SEEDS)
@settings(deadline=None)
def test_lookup_finds_keys(sizes: tuple[int, ...], hash: str, seed: int) -> None:
    layout = layout_of(sizes, seed, hash)
    cache = NeighborCache(NODES, sizes, 2, hash=hash, seed=layout.seed)
    cache.key.copy_(filled(layout, 2, seed)[0])
    nodes, keys = (x.flatten() for x in torch.meshgrid(*[torch.arange(NODES)] * 2, indexing="ij"))
    found = cache.lookup(nodes, keys)
    for node, key, cells in zip(nodes.tolist(), keys.tolist(), found.tolist(), strict=True):
        assert cells == slowly(cache.key, layout, [node]).get(key, [-1] * (len(sizes) + 1))
    joined = cache.join(nodes[:3].unsqueeze(1))
    assert same_bits(joined.cell[:, 0], cache.lookup(nodes[:3][joined.tuples], joined.key))


def test_a_head_of_ones_own_learns_through_it() -> None:
    """Values summed by key and by pair, as `ncache_pool` does, with its gradient."""
    layout = layout_of((8, 4), 1)
    key, eid, time, value = filled(layout, 3, 1, value=torch.float64)
    pairs, nodes = integers(3, 0, NODES, 20, 2), torch.arange(NODES)
    now = value.clone().requires_grad_()
    joined = ops.ncache_join(key, layout, pairs)
    rows = now.flatten(0, 1)[joined.cell.clamp(min=0)] * (joined.cell >= 0).unsqueeze(-1)
    ours = rows.sum((1, 2)).new_zeros(20, 3).index_add(0, joined.tuples, rows.sum((1, 2)))
    again = value.clone().requires_grad_()
    position = torch.zeros(64, 0, dtype=torch.float64)
    pooled = ops.ncache_pool(key, eid, time, nodes, again, layout, *pairs.t().contiguous(), position)[0]
    torch.testing.assert_close(ours, pooled)
    for out in (ours, pooled):
        out.square().sum().backward()
    torch.testing.assert_close(now.grad, again.grad)


@pytest.mark.skipif(not ops.NATIVE, reason="a promise of the compiled operators")
@pytest.mark.usefixtures("restore_threads")
def test_same_bits_for_every_number_of_threads() -> None:
    layout = Layout((8, 4), "mix", 1)
    key, nodes = filled(layout, 2, 0)[0], integers(5, 0, NODES, 3000, 2)
    results = []
    for threads in (1, 2, 4):
        torch.set_num_threads(threads)
        results.append(ops.ncache_join(key, layout, nodes))
    for other in results[1:]:
        assert all(same_bits(one, two) for one, two in zip(results[0], other, strict=True))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("nodes", torch.tensor([[NODES]]), "nodes: expected ids"),
        ("nodes", torch.tensor([[-1]]), "nodes: expected ids"),
        ("nodes", torch.tensor([0]), "nodes: expected"),
        ("nodes", torch.zeros(3, 0, dtype=torch.int64), "nodes: expected tuples of at least one node"),
        ("nodes", torch.tensor([[0.0]]), "nodes: expected"),
        ("key", torch.zeros(NODES, 4, dtype=torch.int64), "key: expected"),
        ("layout", Layout((0,)), "sizes"),
        ("capacity", -1, "capacity: expected at least 0"),
        ("capacity", 1.5, "capacity: expected a whole number"),
    ],
)
def test_bad_arguments_are_named(name: str, value: object, message: str) -> None:
    layout = layout_of((4, 2), 0)
    given = {"key": filled(layout, 1, 0)[0], "layout": layout, "nodes": torch.tensor([[0, 1]])}
    with pytest.raises((ArgumentError, ArgumentTypeError), match=message):
        ops.ncache_join(**{**given, name: value})  # type: ignore[arg-type]
    cache = NeighborCache(NODES)
    with pytest.raises(ArgumentError, match="keys: expected"):
        cache.lookup(torch.tensor([0, 1]), torch.tensor([NODES, 0]))
    with pytest.raises(ArgumentError, match="nodes: expected"):
        cache.lookup(torch.tensor([[0]]), torch.tensor([0]))
