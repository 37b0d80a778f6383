"""What is fuzzed of dictionaries of neighbours: the three operators, on cells that events have filled."""

from __future__ import annotations

import random
from typing import Any

import torch
from torch import Tensor

from graphmem import ops
from graphmem.nn import NeighborCache
from graphmem.ops import CellWeights, Layout

Arguments = dict[str, Any]
WIDTH, TIMES = 2, 3


def random_numbers(rng: random.Random, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(rng.getrandbits(32))
    return torch.randn(shape, generator=generator).to(dtype)


def random_ids(rng: random.Random, count: int, upper: int) -> Tensor:
    generator = torch.Generator().manual_seed(rng.getrandbits(32))
    return torch.randint(max(upper, 1), (count,), generator=generator)


def filled_cache(rng: random.Random) -> tuple[NeighborCache, torch.dtype]:
    """A cache with some events, and the dtype of what its cells are worth."""
    nodes, dtype = rng.randint(1, 6), rng.choice((torch.int64, torch.float64))
    value = rng.choice((torch.float32, torch.float32, torch.float64, torch.bfloat16))
    cache = NeighborCache(
        nodes,
        rng.choice(((2, 1), (3,), (1, 2, 1))),
        WIDTH,
        hash=rng.choice(("mix", "reference")),
        seed=rng.randint(0, 9),
        dtype=dtype,
        key_dtype=rng.choice((torch.int32, torch.int64)),
        value_dtype=value,
    )
    worth = torch.float64 if value == torch.float64 else torch.float32
    for k in range(rng.randint(0, 3)):
        src, dst = random_ids(rng, 8, nodes).view(2, 4)
        found, at = ops.distinct(torch.cat((src, dst)))
        now = random_numbers(rng, found.numel(), cache.num_slots, WIDTH, dtype=worth)
        cache.commit(src, dst, torch.arange(4).to(dtype) + 9 * k, torch.arange(4) + 9 * k, found, at, now)
    return cache, worth


def layout_of(cache: NeighborCache) -> Arguments:
    sizes, hash, seed = cache.layout
    return {"sizes": sizes, "hash": hash, "hash_seed": seed}


def cells_of(cache: NeighborCache, *names: str) -> Arguments:
    return {name: getattr(cache, name) for name in names}


def refresh_arguments(rng: random.Random) -> Arguments:
    cache, dtype = filled_cache(rng)
    count, depth, raw = rng.randint(0, 7), rng.randint(1, 3), rng.choice((None, 0, 2))
    shapes = (
        (TIMES,),
        (TIMES,),
        (WIDTH, depth + (raw or 0) + TIMES),
        *([(3 * WIDTH, WIDTH)] * 2),
        *([(3 * WIDTH,)] * 2),
    )
    weights = {
        name: random_numbers(rng, *shape, dtype=dtype) for name, shape in zip(CellWeights._fields, shapes, strict=True)
    }
    row = None if raw is None else random_ids(rng, count * cache.num_slots, 5).view(count, cache.num_slots)
    return {
        **cells_of(cache, "key", "eid", "time", "value"),
        "nodes": random_ids(rng, count, cache.num_nodes),
        "state": random_numbers(rng, cache.num_nodes, depth, dtype=dtype),
        "messages": None if raw is None else random_numbers(rng, 5, raw, dtype=dtype),
        "row": row,
        "delta": rng.random() < 0.5,
        **weights,
    }


def call_refresh(**given: Any) -> Tensor:
    weights = CellWeights(*(given.pop(name) for name in CellWeights._fields))
    return ops.ncache_refresh(**given, weights=weights)


def join_arguments(rng: random.Random) -> Arguments:
    cache, _ = filled_cache(rng)
    count, size = rng.randint(0, 5), rng.randint(1, 3)
    nodes = random_ids(rng, count * size, cache.num_nodes).view(count, size)
    room = rng.choice((None, count * size * cache.num_slots))
    return {**cells_of(cache, "key"), "nodes": nodes, **layout_of(cache), "capacity": room}


def call_join(key: Any, nodes: Any, sizes: Any, hash: Any, hash_seed: Any, capacity: Any) -> tuple[Any, ...]:
    return tuple(ops.ncache_join(key, Layout(sizes, hash, hash_seed), nodes, capacity))


def pool_arguments(rng: random.Random) -> Arguments:
    cache, dtype = filled_cache(rng)
    count, pairs, depth, heads = rng.randint(1, 7), rng.randint(0, 6), rng.randint(0, 3), rng.choice((None, 1, 3))
    timed = rng.random() < 0.5
    width = WIDTH + depth + (2 if timed else 0)
    return {
        **cells_of(cache, "key", "eid", "time"),
        "nodes": random_ids(rng, count, cache.num_nodes),
        "now": random_numbers(rng, count, cache.num_slots, WIDTH, dtype=dtype),
        **layout_of(cache),
        "first": random_ids(rng, pairs, count),
        "second": random_ids(rng, pairs, count),
        "position": random_numbers(rng, 4 ** (len(cache.layout.sizes) + 1), depth, dtype=dtype),
        "t": random_ids(rng, pairs, 40).to(cache.time.dtype) if timed else None,
        "query": None if heads is None else random_numbers(rng, heads, width, dtype=dtype),
        "constant": None if heads is None else random_numbers(rng, heads, dtype=dtype),
    }


def call_pool(sizes: Any, hash: Any, hash_seed: Any, **given: Any) -> Any:
    layout = Layout(sizes, hash, hash_seed)
    out = ops.ncache_pool(**given, layout=layout)
    return out if in_place(given["key"], layout) else out.shape


def in_place(key: Tensor, layout: Layout) -> bool:
    """Whether keys lie where the layout has them, which is the caller's promise: else one may count twice."""
    low = 1
    for hop, size in enumerate(layout.sizes, 1):
        part = key[:, low : low + size].long()
        wanted = layout.place(part.clamp(min=0), hop)
        if bool(((part >= 0) & (wanted != torch.arange(low, low + size))).any()):
            return False
        low += size
    return True


def commit_arguments(rng: random.Random) -> Arguments:
    cache, dtype = filled_cache(rng)
    count = rng.randint(0, 6)
    src, dst = random_ids(rng, 2 * count, cache.num_nodes).view(2, count)
    nodes, at = ops.distinct(torch.cat((src, dst)))
    return {
        **cells_of(cache, "key", "eid", "time", "value"),
        "src": src,
        "dst": dst,
        "t": torch.arange(count).to(cache.time.dtype) + 40,
        "event": torch.arange(count) + 2**33,
        "nodes": nodes,
        "at": at,
        "now": random_numbers(rng, nodes.numel(), cache.num_slots, WIDTH, dtype=dtype),
        **layout_of(cache),
        "replace_prob": rng.choice((0.0, 0.5, 1.0)),
        "sequential": rng.random() < 0.5,
    }


def call_commit(key: Any, eid: Any, time: Any, value: Any, **given: Any) -> tuple[Any, ...]:
    """The state behind the events, in copies; a call that is refused must leave it as it was."""
    layout = Layout(given.pop("sizes"), given.pop("hash"), given.pop("hash_seed"))
    state = [copy_of(x) for x in (key, eid, time, value)]
    before = [copy_of(x) for x in state]
    try:
        ops.ncache_commit(*state, **given, layout=layout)
    except Exception as error:
        if not all(is_unchanged(*pair) for pair in zip(state, before, strict=True)):
            raise AssertionError("events were entered by half") from error
        raise
    return tuple(state)


def copy_of(x: Any) -> Any:
    return x.detach().clone().requires_grad_(x.requires_grad) if isinstance(x, Tensor) else x


def is_unchanged(x: Any, before: Any) -> bool:
    if not isinstance(x, Tensor) or x.is_meta or x.layout != torch.strided:
        return True
    return torch.equal(x.detach().nan_to_num(), before.detach().nan_to_num())


NCACHE_TARGETS = {
    "ncache_refresh": (refresh_arguments, call_refresh),
    "ncache_join": (join_arguments, call_join),
    "ncache_pool": (pool_arguments, call_pool),
    "ncache_commit": (commit_arguments, call_commit),
}
