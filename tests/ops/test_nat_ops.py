"""Operators of NAT without gradient: the reference in torch's operations, batches, threads, bad arguments."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import SEEDS, features, same_bits
from test_ncache import DTYPES, FEW, NODES, SIZES, filled, layout_of
from test_temporal_ops import agree, integers
from torch import Tensor

from graphmem import ops
from graphmem.errors import ArgumentError
from graphmem.ops import Layout, NATState, NATWidths, reference


def weights_of(widths: NATWidths, seed: int, dtype: torch.dtype) -> Tensor:
    parts = {
        name: 0.5 * features(rows, columns, seed + k, dtype)
        for k, (name, (rows, columns)) in enumerate(widths.parts().items())
    }
    return ops.nat_weights(widths, parts)


def stored(
    layout: Layout, widths: NATWidths, seed: int, known: bool = False, tiles: int = 1, **dtypes: Any
) -> NATState:
    """Filled cells; ``known``: only messages of the events that they hold."""
    cells = [x.repeat(tiles, *[1] * (x.dim() - 1)) for x in filled(layout, widths.value, seed, **dtypes)]
    dtype = torch.float64 if cells[3].dtype == torch.float64 else torch.float32
    nodes, messages, numbers = tiles * NODES, None, None
    cells[1] = torch.where(cells[1] >= 0, cells[1] - 2**24, -1)
    if widths.message:
        messages = features(60, widths.message, seed + 50, dtype)
        if known:
            numbers = cells[1][cells[1] >= 0].unique()
            messages = messages[: numbers.numel()]
    other = integers(seed + 51, -1, nodes, nodes)
    gap = integers(seed + 52, 0, 9, nodes).to(cells[2].dtype)
    return NATState(*cells, features(nodes, widths.state, seed + 53, dtype), other, gap, messages, numbers)


def arguments(layout: Layout, widths: NATWidths, state: NATState, seed: int) -> tuple[Any, ...]:
    weights = weights_of(widths, seed, state.state.dtype)
    return *state, weights, widths.options, *layout.checked(), widths.aged


def questions(state: NATState, seed: int, count: int, candidates: int) -> tuple[Tensor, Tensor, Tensor]:
    """With a pair of a node with itself, and times before some events."""
    nodes = state.key.size(0)
    src, dst = integers(seed, 0, nodes, count), integers(seed + 1, 0, nodes, count, candidates)
    if dst.numel():
        dst[0, 0] = src[0]
    return src, dst, integers(seed + 2, 15, 60, count).to(state.time.dtype)


WIDTHS = st.builds(
    NATWidths,
    state=st.sampled_from((1, 5, 17)),
    value=st.sampled_from((1, 3, 4)),
    message=st.sampled_from((0, 0, 2)),
    time=st.sampled_from((1, 6)),
    position=st.sampled_from((0, 3)),
    heads=st.integers(0, 3),
    hidden=st.sampled_from((1, 8, 33)),
    hops=st.just(0),
    aged=st.booleans(),
)
CELLS = st.fixed_dictionaries(
    {
        "key": st.sampled_from((torch.int32, torch.int64)),
        "time": st.sampled_from((torch.int64, torch.float64)),
        "value": st.sampled_from((*DTYPES, torch.bfloat16, torch.float16)),
    }
)
HASHES = st.sampled_from(("mix", "reference"))


@settings(deadline=None, max_examples=3 if FEW else 60)
@given(WIDTHS, CELLS, SIZES, HASHES, SEEDS, st.booleans(), st.integers(0, 5), st.integers(0, 4))
def test_score(
    widths: NATWidths, dtypes: Any, sizes: Any, hash: str, seed: int, known: bool, count: int, candidates: int
) -> None:
    widths, layout = widths._replace(hops=len(sizes)), layout_of(sizes, seed, hash)
    state = stored(layout, widths, seed, known, **dtypes)
    given, asked = arguments(layout, widths, state, seed), questions(state, seed, count, candidates)
    found = ops.nat_score(state, given[9], widths, layout, *asked)
    agree(found, reference.nat_score(*given, *asked), state.state.dtype)
    assert found.shape == (count, candidates)


@settings(deadline=None, max_examples=3 if FEW else 60)
@given(WIDTHS, CELLS, SIZES, SEEDS, st.booleans(), st.integers(0, 9), st.booleans())
def test_update(
    widths: NATWidths, dtypes: Any, sizes: Any, seed: int, sequential: bool, count: int, asks: bool
) -> None:
    """Keys, numbers, times and ends bit for bit; the scores are those before the events."""
    widths, layout = widths._replace(hops=len(sizes)), layout_of(sizes, seed)
    state = stored(layout, widths, seed, **dtypes)
    given = arguments(layout, widths, state, seed)
    src, asked, _ = questions(state, seed, count, 3)
    dst, t = integers(seed + 9, 0, NODES, count), (30 + torch.arange(count) // 2).to(state.time.dtype)
    how = {"first": 50, "replace_prob": 0.7, "sequential": sequential}
    expected = [x.clone() for x in given[:7]]
    scores = reference.nat_update(*expected, *given[7:], src, dst, t, asked if asks else None, *how.values())
    before = ops.nat_score(state, given[9], widths, layout, src, asked, t)
    found = ops.nat_update(state, given[9], widths, layout, src, dst, t, asked if asks else None, **how)
    agree(found, scores, state.state.dtype)
    if asks:
        assert same_bits(found, before)
    for name, one, two in zip(NATState._fields, state, expected, strict=False):
        if name in ("value", "state"):
            rough = one.dtype in (torch.float16, torch.bfloat16)
            torch.testing.assert_close(one, two, **({"rtol": 2e-2, "atol": 2e-2} if rough else {}))
        else:
            assert same_bits(one, two), name


@pytest.mark.skipif(not ops.NATIVE, reason="a promise of the compiled operators")
def test_a_score_depends_on_no_other_pair() -> None:
    """Bit for bit, whatever else is asked in the same call."""
    layout, widths = Layout((8, 4)), NATWidths(20, 4, 2, 6, 3, 2, 40, 2, True)
    state = stored(layout, widths, 0, tiles=9)
    weights = weights_of(widths, 0, torch.float32)
    src, dst, t = questions(state, 5, 130, 3)
    whole = ops.nat_score(state, weights, widths, layout, src, dst, t)
    for size in (1, 7, 50):
        parts = zip(src.split(size), dst.split(size), t.split(size), strict=True)
        assert same_bits(torch.cat([ops.nat_score(state, weights, widths, layout, *part) for part in parts]), whole)
    columns = [ops.nat_score(state, weights, widths, layout, src, dst[:, c : c + 1], t) for c in range(3)]
    assert same_bits(torch.cat(columns, 1), whole)


@pytest.mark.skipif(not ops.NATIVE, reason="a promise of the compiled operators")
@pytest.mark.usefixtures("restore_threads")
def test_same_bits_for_every_number_of_threads() -> None:
    results = []
    for threads in (1, 2, 4):
        torch.set_num_threads(threads)
        layout, widths = Layout((8, 4)), NATWidths(20, 8, 2, 6, 3, 2, 40, 2, True)
        state = stored(layout, widths, 1, tiles=200)
        src, asked, t = questions(state, 6, 1500, 2)  # enough for every part to wake threads
        entering = src, asked[:, 0].contiguous(), t.sort().values, asked
        how = {"first": 60, "replace_prob": 0.7}
        scores = ops.nat_update(state, weights_of(widths, 2, torch.float32), widths, layout, *entering, **how)
        results.append([scores, *state[:7]])
    for other in results[1:]:
        assert all(same_bits(one, two) for one, two in zip(results[0], other, strict=True))


def test_before_the_first_event_no_messages_are_needed() -> None:
    layout, widths = Layout((2, 1)), NATWidths(3, 2, 4, 5, 3, 1, 6, 2, True)
    state = stored(layout, widths, 3)
    cells = torch.full_like(state.key, -1), torch.full_like(state.eid, -1), torch.zeros_like(state.time)
    empty = state._replace(key=cells[0], eid=cells[1], time=cells[2], messages=None)
    weights = weights_of(widths, 3, torch.float32)
    scores = ops.nat_score(empty, weights, widths, layout, *questions(empty, 3, 4, 2))
    assert torch.isfinite(scores).all()
    with pytest.raises(ArgumentError, match="^messages: expected those of the events that cells hold"):
        ops.nat_score(state._replace(messages=None), weights, widths, layout, *questions(state, 3, 4, 2))


BAD = [
    ("src", torch.tensor([NODES, 0]), r"^src: expected ids in \[0, 11\)"),
    ("src", torch.tensor([0.0, 1.0]), "^src: expected int64"),
    ("dst", torch.tensor([[0], [-1]]), "^dst: expected ids"),
    ("dst", torch.tensor([0, 1]), "^dst: expected int64 of shape"),
    ("t", torch.tensor([1.0, 2.0]), "^t: expected int64"),
    ("weights", torch.zeros(7), "^weights: expected float32 of shape"),
    ("state", torch.zeros(NODES, 3, dtype=torch.float64), "^state: expected float32"),
    ("other", torch.full((NODES,), NODES), "^other: expected ids"),
    ("gap", torch.zeros(NODES), "^gap: expected int64"),
    ("messages", torch.zeros(5, 4), "^messages: expected ids"),
    ("known", torch.zeros(5, dtype=torch.int64), "^known: expected int64 of shape"),
]


@pytest.mark.parametrize(("name", "value", "message"), BAD)
@pytest.mark.parametrize("operator", ["nat_score", "nat_update"])
def test_bad_arguments(operator: str, name: str, value: Tensor, message: str) -> None:
    layout, widths = Layout((2, 1)), NATWidths(3, 2, 4, 5, 3, 1, 6, 2, True)
    state = stored(layout, widths, 3)
    rest = {"src": torch.tensor([0, 1]), "dst": torch.tensor([[2], [3]]), "t": torch.tensor([50, 51])}
    rest["weights"] = weights_of(widths, 3, torch.float32)
    if name in rest:
        rest[name] = value
    else:
        state = state._replace(**{name: value})
    before = [x.clone() for x in state[:7]]
    weights, src, dst, t = (rest[key] for key in ("weights", "src", "dst", "t"))
    with pytest.raises(ArgumentError, match=message):  # noqa: PT012
        if operator == "nat_score":
            ops.nat_score(state, weights, widths, layout, src, dst, t)
        else:
            ends = dst[:, 0] if dst.dim() == 2 else dst[:, None]  # a column, or what nat_score takes
            ops.nat_update(state, weights, widths, layout, src, ends, t, first=50, replace_prob=0.5)
    assert all(same_bits(one, two) for one, two in zip(state[:7], before, strict=True))


def test_bad_numbers() -> None:
    layout, widths = Layout((2, 1)), NATWidths(3, 2, 0, 5, 3, 1, 6, 2, True)
    state, entering = stored(layout, widths, 3), (torch.tensor([0]), torch.tensor([1]), torch.tensor([50]))
    weights = weights_of(widths, 3, torch.float32)
    with pytest.raises(ArgumentError, match="^replace_prob: expected a number from 0 to 1"):
        ops.nat_update(state, weights, widths, layout, *entering, first=0, replace_prob=1.5)
    with pytest.raises(ArgumentError, match="^first: expected at least 0"):
        ops.nat_update(state, weights, widths, layout, *entering, first=-1, replace_prob=0.5)
    with pytest.raises(ArgumentError, match="^asked: expected ids"):
        ops.nat_update(state, weights, widths, layout, *entering, torch.tensor([[99]]), first=0, replace_prob=0.5)
    loose = state._replace(key=state.key.t().contiguous().t())
    with pytest.raises(ArgumentError, match="^key: expected a contiguous tensor"):
        ops.nat_score(loose, weights, widths, layout, entering[0], entering[1][:, None], entering[2])
    spread = weights.repeat_interleave(2)[::2]
    with pytest.raises(ArgumentError, match="^weights: expected a contiguous tensor"):
        ops.nat_score(state, spread, widths, layout, entering[0], entering[1][:, None], entering[2])


@given(SEEDS, WIDTHS, HASHES)
def test_empty_slots_are_not_read(seed: int, widths: NATWidths, hash: str) -> None:
    layout = Layout((5, 3), hash)
    widths = widths._replace(hops=2)
    state = stored(layout, widths, seed)
    empty = state.key < 0
    empty[:, 0] = False
    asked, weights = questions(state, seed, 6, 3), weights_of(widths, seed, torch.float32)
    wanted = ops.nat_score(state, weights, widths, layout, *asked)
    state.value[empty] = float("nan")
    assert same_bits(ops.nat_score(state, weights, widths, layout, *asked), wanted)
    rows = torch.arange(NODES)
    ends = integers(seed, 0, NODES, 9), integers(seed + 1, 0, NODES, 9)
    pool = [*state[:3], rows, state.value.float(), layout, *ends, features(64, 2, seed, torch.float32)]
    found = ops.ncache_pool(*pool)
    pool[4] = pool[4].nan_to_num(7.0)
    assert same_bits(found, ops.ncache_pool(*pool))
