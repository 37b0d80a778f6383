"""What is fuzzed of NAT's operators, on cells that events have filled."""

from __future__ import annotations

import random
from typing import Any

import torch
from ncache_targets import (
    WIDTH,
    Arguments,
    cells_of,
    copy_of,
    filled_cache,
    in_place,
    is_unchanged,
    layout_of,
    random_ids,
    random_numbers,
)

from graphmem import ops
from graphmem.ops import Layout, NATLayers, NATState, NATWidths


def score_arguments(rng: random.Random) -> Arguments:
    cache, dtype = filled_cache(rng)
    nodes, count = cache.num_nodes, rng.randint(0, 5)
    widths = NATWidths(
        *(rng.randint(1, 3), WIDTH, rng.choice((0, 2)), rng.randint(1, 3), rng.randint(0, 2), rng.randint(0, 2)),
        *(rng.randint(1, 4), len(cache.layout.sizes), rng.random() < 0.5),
    )
    held = cache.events()
    known = held if rng.random() < 0.5 else None
    letters = held.numel() if known is not None else 40
    return {
        **cells_of(cache, "key", "eid", "time", "value"),
        "state": random_numbers(rng, nodes, widths.state, dtype=dtype),
        "other": random_ids(rng, nodes, nodes) - 1,
        "gap": random_ids(rng, nodes, 9).to(cache.time.dtype),
        "messages": random_numbers(rng, letters, widths.message, dtype=dtype),
        "known": known,
        "weights": random_numbers(rng, widths.size, dtype=dtype),
        "widths": widths,
        **layout_of(cache),
        "src": random_ids(rng, count, nodes),
        "dst": random_ids(rng, 2 * count, nodes).view(count, 2),
        "t": random_ids(rng, count, 60).to(cache.time.dtype),
    }


def _gathered(given: Arguments) -> tuple[Any, ...]:
    layout = Layout(given.pop("sizes"), given.pop("hash"), given.pop("hash_seed"))
    state = NATState(*(given.pop(name) for name in NATState._fields))
    return state, given.pop("weights"), given.pop("widths"), layout


def call_score(**given: Any) -> Any:
    state, weights, widths, layout = _gathered(given)
    out = ops.nat_score(state, weights, widths, layout, **given)
    return out if in_place(state.key, layout) else out.shape


def update_arguments(rng: random.Random) -> Arguments:
    given = score_arguments(rng)
    asked = given.pop("dst")
    return {
        **given,
        "dst": random_ids(rng, asked.size(0), given["key"].size(0)),
        "asked": asked if rng.random() < 0.5 else None,
        "first": rng.choice((0, 60, 2**33)),
        "replace_prob": rng.choice((0.0, 0.5, 1.0)),
        "sequential": rng.random() < 0.5,
    }


def call_update(**given: Any) -> tuple[Any, ...]:
    """Scores and the state behind the events, in copies; a call that is refused must leave it as it was."""
    state, weights, widths, layout = _gathered(given)
    state = NATState(*(copy_of(x) for x in state))
    before = [copy_of(x) for x in state]
    try:
        scores = ops.nat_update(state, weights, widths, layout, **given)
    except Exception as error:
        if not all(is_unchanged(*pair) for pair in zip(state, before, strict=True)):
            raise AssertionError("events were entered by half") from error
        raise
    return scores if in_place(before[0], layout) else scores.shape, *(
        x for x in state[:7] if isinstance(x, torch.Tensor)
    )


def train_arguments(rng: random.Random) -> Arguments:
    given = score_arguments(rng)
    widths, heads, pool_dim = given.pop("widths"), rng.randint(1, 2), rng.randint(1, 3)
    given.pop("weights")
    d, attends, dtype = widths.state, rng.random() < 0.5, given["state"].dtype
    inputs = d + widths.message + widths.time
    cells = [shape for n in (d, WIDTH) for shape in ((3 * n, n), (3 * n, n), (3 * n,), (3 * n,))]
    shapes = [(widths.time, 1), (widths.time,), (d, inputs), (WIDTH, inputs), *cells]
    shapes += [(4 ** (widths.hops + 1), widths.position), (heads * pool_dim, widths.features), (heads * pool_dim,)]
    read = pool_dim * (heads if attends else 1) + 2 * d + 2 * widths.aged
    shapes += [(widths.hidden, read), (widths.hidden,), (1, widths.hidden), (1,), (heads, pool_dim)]
    layers = dict(zip(NATLayers._fields, (random_numbers(rng, *s, dtype=dtype) for s in shapes), strict=True))
    src, dst = given.pop("src"), given.pop("dst")
    nodes, place = ops.distinct(torch.cat((src, dst.view(-1))))
    asked = {"nodes": nodes, "place": place, "heads": heads, "delta": widths.aged, "p": rng.choice((0.0, 0.5))}
    return {**given, **layers, **({} if attends else {"attn": None}), **asked, "seed": rng.randint(0, 9)}


def call_train(**given: Any) -> Any:
    layout = Layout(given.pop("sizes"), given.pop("hash"), given.pop("hash_seed"))
    state = NATState(*(given.pop(name) for name in NATState._fields))
    layers, heads = NATLayers(*(given.pop(name) for name in NATLayers._fields)), given.pop("heads")
    out = ops.nat_train(state, layers, heads, layout, **given)
    return out if in_place(state.key, layout) else tuple(x.shape for x in out)


NAT_TARGETS = {
    "nat_score": (score_arguments, call_score),
    "nat_update": (update_arguments, call_update),
    "nat_train": (train_arguments, call_train),
}
