"""The N-cache against dictionaries in Python, event by event."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from graphmem.errors import GraphMemError
from graphmem.nn import NeighborCache
from graphmem.ops import distinct
from graphmem.ops._joint import joint_keys, known_slots, offer_draws

NODES, WIDTH = 9, 2
Slots = dict[tuple[int, int], tuple[int, int, int, tuple[float, ...]]]
"""(owner, column) to key, event, time and value."""


def make(sizes: tuple[int, ...] = (4, 2), **options: Any) -> NeighborCache:
    return NeighborCache(NODES, sizes, WIDTH, **options)


def commit(cache: NeighborCache, src: Tensor, dst: Tensor, t: Tensor, eid: Tensor) -> Tensor:
    """Commit a batch with the values that are stored, one added; these values."""
    nodes, at = distinct(torch.cat((src, dst)))
    value = cache.value[nodes].to(torch.promote_types(cache.value.dtype, torch.float32)) + 1
    cache.commit(src, dst, t, eid, nodes, at, value)
    return value


class Simulated:
    """Offers one by one; what slots held before the batch, or with "sequential" before the event, is kept apart."""

    def __init__(self, cache: NeighborCache) -> None:
        self.cache, self.slots = cache, Slots()

    def column(self, key: int, hop: int) -> int:
        return int(self.cache.layout.place(torch.tensor([key]), hop))

    def accepts(self, before: Slots, owner: int, column: int, key: int, event: int, number: int) -> bool:
        held = before.get((owner, column))
        if held is None or held[0] == key:
            return True
        draw = float(offer_draws(self.cache.layout.seed, torch.tensor([event]), torch.tensor([number])))
        return draw < self.cache.replace_prob

    def commit(self, src: Tensor, dst: Tensor, t: Tensor, eid: Tensor) -> None:
        events = [*zip(src.tolist(), dst.tolist(), t.tolist(), eid.tolist(), strict=True)]
        written: set[tuple[int, int]] = set()
        for part in [[event] for event in events] if self.cache.semantics == "sequential" else [events]:
            self.enter(part, dict(self.slots), written)

    def enter(self, events: list[tuple[int, ...]], before: Slots, written: set[tuple[int, int]]) -> None:
        sizes, fresh = self.cache.layout.sizes, set(written)
        own: Slots = {}

        def worth(place: tuple[int, int]) -> tuple[float, ...]:
            """One more than what is stored; what this batch has written as it is."""
            value = before[place][3] if place in before else (0.0,) * WIDTH
            return value if place in fresh else tuple(x + 1 for x in value)

        for i, j, when, event in events:
            for end, (owner, other) in enumerate(((i, j), (j, i))):
                column = self.column(other, 1)
                if self.accepts(before, owner, column, other, event, end):
                    held = before.get((owner, column))
                    known = held is not None and held[0] == other
                    value = worth((owner, column)) if known else (0.0,) * WIDTH
                    self.slots[owner, column] = (other, event, when, value)
                    written.add((owner, column))
                for hop in range(2, len(sizes) + 1):
                    low = 1 + sum(sizes[: hop - 2])
                    for source in range(low, low + sizes[hop - 2]):
                        if (other, source) not in before:
                            continue
                        key, number, time, _ = before[other, source]
                        column = self.column(key, hop)
                        if self.accepts(before, owner, column, key, event, 2 * source + end):
                            self.slots[owner, column] = (key, number, time, worth((other, source)))
                            written.add((owner, column))
                own[owner, 0] = (owner, event, when, worth((owner, 0)))
        self.slots.update(own)
        written.update(own)

    def check(self) -> None:
        cache = self.cache
        filled = (cache.key >= 0).nonzero().tolist()
        assert {(i, c) for i, c in filled} == set(self.slots)
        for (i, c), (key, event, time, value) in self.slots.items():
            assert (int(cache.key[i, c]), int(cache.eid[i, c]), int(cache.time[i, c])) == (key, event, time)
            assert cache.value[i, c].tolist() == list(value)


@settings(deadline=None)
@given(
    events=st.lists(st.tuples(st.integers(0, NODES - 1), st.integers(0, NODES - 1)), max_size=60),
    size=st.integers(1, 17),
    sizes=st.sampled_from([(4, 2), (1,), (3, 5), (2, 2, 2)]),
    replace_prob=st.sampled_from([0.0, 0.5, 1.0]),
    seed=st.integers(0, 3),
    hash=st.sampled_from(["mix", "reference"]),
    semantics=st.sampled_from(["prebatch", "sequential"]),
    key_dtype=st.sampled_from([torch.int32, torch.int64]),
    value_dtype=st.sampled_from([torch.bfloat16, torch.float16, torch.float32, torch.float64]),
)
def test_equals_dictionaries(events: list[tuple[int, int]], size: int, sizes: tuple[int, ...], **options: Any) -> None:
    cache = make(sizes, **options)
    simulated = Simulated(cache)
    src, dst = torch.tensor(events, dtype=torch.int64).view(-1, 2).t()
    t = torch.arange(len(events)) // 3  # from time 0 on, in groups of equal times
    eid = torch.arange(len(events)) + 2**24 + 1  # beyond what float32 tells apart
    for low in range(0, len(events), size):
        batch = [x[low : low + size] for x in (src, dst, t, eid)]
        commit(cache, *batch)
        simulated.commit(*batch)
        simulated.check()


def random_cache(seed: int = 0, **options: Any) -> NeighborCache:
    cache, generator = make(**options), torch.Generator().manual_seed(seed)
    for k in range(6):
        src, dst = torch.randint(NODES - 1, (2, 5), generator=generator)  # the last node stays without events
        commit(cache, src, dst, torch.full((5,), 10 * k), torch.arange(5) + 5 * k)
    return cache


@pytest.mark.parametrize("hash", ["mix", "reference"])
@pytest.mark.parametrize("sizes", [(4, 2), (3,), (2, 3, 2)])
def test_joint_neighbourhoods_by_sets(sizes: tuple[int, ...], hash: str) -> None:
    cache = random_cache(sizes=sizes, hash=hash)
    nodes = torch.arange(NODES)
    keys = cache.key.clone()
    keys[:, 0] = nodes
    slots, hops = cache.num_slots, len(sizes) + 1
    hop_of = [0, *(h for h, size in enumerate(sizes, 1) for _ in range(size))]
    first, second = (x.flatten() for x in torch.meshgrid(nodes, nodes, indexing="ij"))
    joint = joint_keys(known_slots(keys, sizes, hash == "reference", cache.layout.seed), first, second)
    assert int(joint.ptr[-1]) == joint.mask.numel() == joint.pair.numel()
    for p, (u, v) in enumerate(zip(first.tolist(), second.tolist(), strict=True)):
        expected: dict[int, tuple[list[int], int, list[int], list[int]]] = {}
        for side, node in enumerate((u, v)):
            for column in range(slots):
                key = int(keys[node, column])
                if key < 0:
                    continue
                where, mask, *sides = expected.get(key, ([], 0, [], []))
                place = node * slots + column
                sides[side].append(place)
                expected[key] = ([*where, place], mask | 1 << (hop_of[column] + side * hops), *sides)
        found = {}
        for r in range(int(joint.ptr[p]), int(joint.ptr[p + 1])):
            places = joint.slot[joint.slot_ptr[r] : joint.slot_ptr[r + 1]].tolist()
            key = int(keys.view(-1)[places[0]])
            assert key not in found
            assert int(joint.pair[r]) == p
            found[key] = (places, int(joint.mask[r]), int(joint.first[r]), int(joint.second[r]))
        assert found == {
            key: (where, mask, mine[0] if mine else -1, theirs[0] if theirs else -1)
            for key, (where, mask, mine, theirs) in expected.items()
        }


def test_the_hash_reaches_every_slot_and_the_released_one_does_not() -> None:
    """Even seeds of the released hash reach 7 of 32 slots."""
    keys = torch.arange(20_000)

    def reached(hash: str, seed: int) -> int:
        cache = NeighborCache(1, (32,), hash=hash, seed=seed)
        return cache.layout.place(keys, 1).unique().numel()

    assert {reached("mix", seed) for seed in range(100)} == {32}
    assert {reached("reference", seed) for seed in range(0, 100, 2)} <= {7, 8}
    counts = NeighborCache(1, (32,)).layout.place(keys, 1).bincount(minlength=33)[1:]
    assert counts.min() > 0.85 * 20_000 / 32
    large = torch.tensor([0, 2**31, 2**40, 2**62])
    assert ((NeighborCache(1, (32,)).layout.place(large, 1) - 1) < 32).all()


def test_draws_are_uniform_and_differ() -> None:
    draws = offer_draws(3, torch.arange(20_000), torch.zeros(20_000, dtype=torch.int64))
    assert abs(float(draws.mean()) - 0.5) < 0.01
    assert float(draws.min()) >= 0
    assert float(draws.max()) < 1
    other = offer_draws(3, torch.arange(20_000), torch.ones(20_000, dtype=torch.int64))
    assert abs(float(torch.corrcoef(torch.stack((draws, other)))[0, 1])) < 0.03
    assert not torch.equal(draws, offer_draws(4, torch.arange(20_000), torch.zeros(20_000, dtype=torch.int64)))


@pytest.mark.parametrize("key_dtype", [torch.int32, torch.int64])
def test_forgetting_nodes_and_events(key_dtype: torch.dtype) -> None:
    cache = random_cache(key_dtype=key_dtype, value_dtype=torch.bfloat16)
    before = cache.snapshot()
    cache.forget(nodes=torch.tensor([2]), events=torch.tensor([7, 11]))
    gone = (before["key"] == 2) | torch.isin(before["eid"], torch.tensor([7, 11]))
    gone[2] = True
    assert gone.any(1).sum() > 1
    for name, value in cache.snapshot().items():
        assert torch.equal(value[~gone], before[name][~gone])
        assert bool((value[gone] == cache._state_fill[name]).all())
    cache.restore(before)
    cache.grow(NODES + 2)
    assert torch.equal(cache.key[:NODES], before["key"])
    assert bool((cache.key[NODES:] == -1).all())
    assert (cache.key.dtype, cache.value.dtype) == (key_dtype, torch.bfloat16)


@pytest.mark.parametrize("hash", ["mix", "reference"])
def test_a_loaded_state_is_read_where_its_keys_lie(hash: str) -> None:
    """Every key is found again by a cache that was made with another seed and hash."""
    cache = random_cache(sizes=(8, 4), hash=hash, seed=3)
    loaded = make((8, 4), hash="mix" if hash == "reference" else "reference", seed=4)
    assert loaded.layout != cache.layout
    loaded.load_state_dict(cache.state_dict())
    assert loaded.layout == cache.layout
    first = 1
    for hop, size in enumerate((8, 4), 1):
        held = loaded.key[:, first : first + size]
        place = loaded.layout.place(held.clamp(min=0), hop) - first
        assert bool((place == torch.arange(size))[held >= 0].all())
        first += size


def test_growth_ends_where_keys_do() -> None:
    """Refused before rows are made: 2^31 of them would not fit here."""
    cache = random_cache(key_dtype="int32")
    before = cache.snapshot()
    with pytest.raises(GraphMemError, match="^grow: num_nodes must be at most 2147483647 for keys of 32 bits, got 214"):
        cache.grow(2**31)
    assert all(torch.equal(before[name], kept) for name, kept in cache.snapshot().items())
    with pytest.raises(GraphMemError, match="^key_dtype: expected torch.int64 for 2147483648 nodes"):
        NeighborCache(2**31, key_dtype="int32")
    NeighborCache(0).check_size(2**31)


@pytest.mark.parametrize("semantics", ["prebatch", "sequential"])
def test_dtypes_change_memory_and_nothing_else(semantics: str) -> None:
    """Keys of 32 bits name the same nodes; values of 16 bits are rounded where they are stored; both survive saving."""
    plain = random_cache(semantics=semantics, sizes=(8, 4))
    small = random_cache(semantics=semantics, sizes=(8, 4), key_dtype=torch.int32, value_dtype=torch.bfloat16)
    for name in ("key", "eid", "time", "value"):  # the values are whole numbers, which bfloat16 has
        assert torch.equal(getattr(plain, name), getattr(small, name).to(getattr(plain, name).dtype))
    per_node = [
        sum(x.element_size() * x[0].numel() for x in cache.buffers() if x.dim() > 1) for cache in (plain, small)
    ]
    assert per_node == [13 * (8 + 16 + 4 * WIDTH), 13 * (4 + 16 + 2 * WIDTH)]
    loaded = make((8, 4), semantics=semantics, key_dtype=torch.int32, value_dtype=torch.bfloat16)
    loaded.load_state_dict(small.state_dict())
    assert all(torch.equal(x, loaded.get_buffer(name)) for name, x in small.named_buffers())


def test_sequential_is_the_stream_and_prebatch_the_batch() -> None:
    """Cut otherwise, events leave the same slots in turn, and other ones at once."""
    kept: dict[tuple[str, int], list[Tensor]] = {}
    generator = torch.Generator().manual_seed(4)
    src, dst = torch.randint(NODES, (2, 40), generator=generator)
    t, eid = torch.arange(40), torch.arange(40)
    for semantics in ("prebatch", "sequential"):
        for size in (1, 5, 40):
            cache = make(semantics=semantics)
            for low in range(0, 40, size):
                commit(cache, *(x[low : low + size] for x in (src, dst, t, eid)))
            kept[semantics, size] = [cache.key, cache.eid, cache.time]
    first, *rest = (kept["sequential", size] for size in (1, 5, 40))
    assert all(torch.equal(*pair) for other in rest for pair in zip(first, other, strict=True))
    assert all(torch.equal(*pair) for pair in zip(first, kept["prebatch", 1], strict=True))
    assert not torch.equal(first[1], kept["prebatch", 40][1])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("src", torch.tensor([1, NODES])),
        ("dst", torch.tensor([1])),
        ("t", torch.tensor([1.0, 2.0])),
        ("event", torch.tensor([1, 2], dtype=torch.int32)),
        ("nodes", torch.tensor([0, 1, NODES])),
        ("at", torch.tensor([0, 1, 2, 3])),
        ("at", torch.tensor([1, 0, 2, 1])),
        ("now", torch.zeros(3, 7, 1)),
    ],
)
def test_bad_events_write_nothing(name: str, value: Tensor) -> None:
    cache = random_cache()
    before = cache.snapshot()
    src, dst = torch.tensor([0, 1]), torch.tensor([2, 1])
    nodes, at = distinct(torch.cat((src, dst)))
    t, eid = torch.tensor([90, 91]), torch.tensor([40, 41])
    given = {"src": src, "dst": dst, "t": t, "event": eid, "nodes": nodes, "at": at, "now": cache.value[nodes]}
    with pytest.raises(GraphMemError, match=f"^{'at' if name == 'src' else name}: expected"):
        cache.commit(**{**given, name: value})
    assert all(torch.equal(before[key], kept) for key, kept in cache.snapshot().items())
    cache.commit(**given)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sizes": (0,)}, "sizes"),
        ({"replace_prob": 1.5}, "replace_prob"),
        ({"hash": "md5"}, "hash"),
        ({"dtype": torch.float32}, "dtype"),
        ({"key_dtype": torch.int16}, "key_dtype: expected one of 'int32', 'int64', got torch.int16"),
        (
            {"value_dtype": torch.int64},
            "value_dtype: expected one of 'float32', 'float64', .*, got torch.int64",
        ),
        ({"semantics": "batch"}, "semantics: expected one of 'prebatch', 'sequential', got 'batch'"),
        ({"semantics": None}, "semantics"),
        ({"seed": -1}, "seed"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(GraphMemError, match=f"^{message}"):
        make(**options)
