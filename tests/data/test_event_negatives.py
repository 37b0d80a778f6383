"""Negatives of events, against what each kind promises, by plain Python."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from graphmem.data.event_negatives import KINDS, EventNegatives
from graphmem.data.registry import load_stream
from graphmem.data.stream import EventStream
from graphmem.data.stream_splits import StreamSplit, split_stream
from graphmem.errors import ArgumentError


def make_split(seed: int, count: int = 120, nodes: int = 30, bipartite: bool = True, late: int = 3) -> StreamSplit:
    g = torch.Generator().manual_seed(seed)
    src, dst = (nodes * torch.rand(2, count, generator=g) ** 2).long()
    dst_range = None
    if bipartite:
        src, dst, dst_range = src // 2, nodes // 2 + dst // 2, (nodes // 2, nodes)
    t = torch.randint(late, (count,), generator=g).cumsum(0)
    return split_stream(EventStream(src, dst, t, nodes, dst_range=dst_range))


Cases = st.tuples(st.integers(0, 50), st.booleans())


def batches(split: StreamSplit, size: int) -> list[EventStream]:
    stream = split.stream
    return [stream[low : low + size] for low in range(0, len(stream), size)]


@given(Cases, st.integers(1, 40), st.integers(1, 3), st.integers(0, 3))
@settings(max_examples=40)
def test_random_is_a_function_of_the_event(case: tuple[int, bool], size: int, k: int, epoch: int) -> None:
    split = make_split(case[0], bipartite=case[1])
    sampler = EventNegatives(split, "random", seed=7, k=k)
    src, whole = sampler.draw(split.stream, epoch)
    assert src is None
    assert torch.equal(torch.cat([sampler.draw(part, epoch)[1] for part in batches(split, size)]), whole)
    allowed = set(range(15, 30)) if case[1] else set(split.stream.dst.tolist())
    assert set(whole.flatten().tolist()) <= allowed
    assert not torch.equal(whole, sampler.draw(split.stream, epoch + 1)[1])
    assert not torch.equal(whole, EventNegatives(split, "random", seed=8, k=k).draw(split.stream, epoch)[1])


@given(Cases, st.integers(1, 40), st.integers(1, 3))
@settings(max_examples=40)
def test_random_of_new_is_a_destination_of_the_inductive_events(case: tuple[int, bool], size: int, k: int) -> None:
    split = make_split(case[0], count=200, nodes=60, bipartite=case[1])
    sampler, plain = EventNegatives(split, "random_new", seed=7, k=k), EventNegatives(split, "random", seed=7, k=k)
    whole = sampler.draw(split.stream, 0)[1]
    assert torch.equal(torch.cat([sampler.draw(part, 0)[1] for part in batches(split, size)]), whole)
    assert torch.equal(whole[: len(split.train)], plain.draw(split.train, 0)[1])
    trained = {*split.train.src.tolist(), *split.train.dst.tolist()}
    for period in (split.valid, split.test):
        ends = zip(period.src.tolist(), period.dst.tolist(), strict=True)
        allowed = {v for u, v in ends if u not in trained or v not in trained}
        drawn = sampler.draw(period, 0)[1]
        assert set(drawn.flatten().tolist()) <= allowed or not allowed
        if allowed:
            many = EventNegatives(split, "random_new", seed=7, k=4000 // len(period)).draw(period, 0)[1]
            chi_square(many.flatten().tolist(), allowed)


def test_random_is_uniform() -> None:
    split = make_split(0, count=20_000)
    drawn = EventNegatives(split, seed=3).draw(split.stream, 1)[1].flatten()
    counts = torch.bincount(drawn - 15, minlength=15).double()
    expected = drawn.numel() / 15
    assert float(((counts - expected) ** 2 / expected).sum()) < 36.1  # chi-square with 14 degrees of freedom, p = 0.001


@given(Cases, st.integers(1, 40), st.sampled_from(["historical", "inductive"]))
@settings(max_examples=40)
def test_pairs_happened_before(case: tuple[int, bool], size: int, kind: str) -> None:
    split = make_split(case[0], bipartite=case[1])
    sampler = EventNegatives(split, kind, seed=1, k=2)
    every = list(zip(split.stream.src.tolist(), split.stream.dst.tolist(), strict=True))
    trained = set(every[: len(split.train)])
    for part in batches(split, size):
        src, dst = sampler.draw(part, 0)
        assert src is not None
        own = set(zip(part.src.tolist(), part.dst.tolist(), strict=True))
        seen = set(every[: part.first]) - (trained if kind == "inductive" else set())
        for row, source in enumerate(part.src.tolist()):
            for pair in zip(src[row].tolist(), dst[row].tolist(), strict=True):
                assert pair in seen - own if seen - own else pair[0] == source


def chi_square(drawn: list[Any], support: set[Any]) -> None:
    """All of the support and nothing else, equally often up to p = 1e-6 or less."""
    counts = Counter(drawn)
    assert set(counts) == support
    expected, freedom = len(drawn) / len(support), len(support) - 1
    assert sum((n - expected) ** 2 / expected for n in counts.values()) < freedom + 6 * (2 * freedom) ** 0.5 + 10


def as_pairs(drawn: tuple[torch.Tensor | None, torch.Tensor]) -> list[tuple[int, int]]:
    src, dst = drawn
    assert src is not None
    return list(zip(src.flatten().tolist(), dst.flatten().tolist(), strict=True))


@pytest.mark.parametrize("kind", ["historical", "inductive"])
@pytest.mark.parametrize("size", [1, 60])
def test_pairs_are_uniform(kind: str, size: int) -> None:
    split = make_split(5, count=600, nodes=40)
    last = split.stream[-size:]
    every = list(zip(split.stream.src.tolist(), split.stream.dst.tolist(), strict=True))
    seen = set(every[:-size]) - set(every[-size:])
    if kind == "inductive":
        seen -= set(every[: len(split.train)])
    assert len(seen) > 1
    count = 200 * len(seen) // size + 1
    chi_square(as_pairs(EventNegatives(split, kind, seed=2, k=count).draw(last, 0)), seen)


def test_pairs_are_uniform_where_the_batch_has_nearly_all() -> None:
    """100 pairs happened, and 98 of them happen again in the batch."""
    first = [(i, 100 + i) for i in range(100)]
    ends = torch.tensor(first + first[2:] + first[:2])
    split = split_stream(EventStream(ends[:, 0], ends[:, 1], torch.arange(200), 200), val_ratio=0.2, test_ratio=0.1)
    drawn = as_pairs(EventNegatives(split, "historical", k=50).draw(split.stream[100:198], 0))
    chi_square(drawn, set(first[:2]))


def test_random_part_of_hist_rnd_is_uniform() -> None:
    split = make_split(1, count=300, nodes=80)
    stream, k = split.stream, 4
    event = stream[-1:]
    u, t = int(event.src), int(event.t)
    met = {v for w, v in zip(split.train.src.tolist(), split.train.dst.tolist(), strict=True) if w == u}
    positives = set(stream.dst[(stream.src == u) & (stream.t == t)].tolist())
    assert len(met - positives) >= k // 2
    rows = [EventNegatives(split, "hist_rnd", seed=s, k=k).draw(event, 0)[1][0].tolist() for s in range(3000)]
    chi_square([v for row in rows for v in row if v in met], met - positives)
    chi_square([v for row in rows for v in row if v not in met], set(range(40, 80)) - met - positives)


@given(st.integers(0, 60), st.integers(1, 40), st.sampled_from([1, 2, 5, 6]), st.sampled_from([2, 4]))
@settings(max_examples=60)
def test_hist_rnd_keeps_tgbs_promises(seed: int, size: int, k: int, late: int) -> None:
    split = make_split(seed, nodes=60, late=late)
    stream = split.stream
    sampler = EventNegatives(split, "hist_rnd", seed=42, k=k)
    met: dict[int, set[int]] = {}
    for u, v in zip(split.train.src.tolist(), split.train.dst.tolist(), strict=True):
        met.setdefault(u, set()).add(v)
    happens: dict[tuple[int, int], set[int]] = {}
    for u, v, t in zip(stream.src.tolist(), stream.dst.tolist(), stream.t.tolist(), strict=True):
        happens.setdefault((u, t), set()).add(v)
    whole = sampler.draw(stream, 0)[1]
    assert torch.equal(torch.cat([sampler.draw(part, 0)[1] for part in batches(split, size)]), whole)
    for u, t, row in zip(stream.src.tolist(), stream.t.tolist(), whole.tolist(), strict=True):
        positives = happens[u, t]
        assert len(set(row)) == k
        assert not set(row) & positives
        assert all(30 <= v < 60 for v in row)
        historical = [v for v in row if v in met.get(u, set())]
        assert len(historical) == min(k // 2, len(met.get(u, set()) - positives))


def test_hist_rnd_of_many_nodes() -> None:
    """Where nodes are drawn and not put in order."""
    split = make_split(3, nodes=4000)
    drawn = EventNegatives(split, "hist_rnd", k=10).draw(split.stream, 0)[1]
    assert all(len(set(row)) == 10 for row in drawn.tolist())
    ordered = drawn.flatten().unique()
    assert ordered.numel() > 500
    assert 2000 <= int(ordered[0]) < int(ordered[-1]) < 4000


def test_hist_rnd_takes_all_there_are() -> None:
    """As many negatives as nodes are left; one more is an error."""
    ends = torch.tensor([(0, 5), (0, 6), (1, 7), (1, 8), (0, 5), (2, 9), (0, 5), (0, 9), (2, 6), (3, 5)])
    t = torch.tensor([0, 1, 2, 3, 4, 5, 6, 7, 7, 8])
    split = split_stream(EventStream(ends[:, 0], ends[:, 1], t, 10, dst_range=(5, 10)))
    last = split.stream[-1:]
    assert set(EventNegatives(split, "hist_rnd", k=4).draw(last, 0)[1][0].tolist()) == {6, 7, 8, 9}
    with pytest.raises(ArgumentError, match="at most 4 negatives for event 9"):
        EventNegatives(split, "hist_rnd", k=5).draw(last, 0)


@given(st.integers(0, 60), st.integers(4, 14), st.booleans())
@settings(max_examples=60)
def test_most_is_the_largest_number_that_can_be_drawn(seed: int, nodes: int, bipartite: bool) -> None:
    split = make_split(seed, nodes=nodes, bipartite=bipartite)
    test = split.test
    most = EventNegatives(split, "hist_rnd").most(test)
    if most:
        EventNegatives(split, "hist_rnd", k=most).draw(test, 0)
    with pytest.raises(ArgumentError, match="k: expected at most"):
        EventNegatives(split, "hist_rnd", k=most + 1).draw(test, 0)
    with pytest.raises(ArgumentError, match="distinct"):
        EventNegatives(split, "random").most(test)


@pytest.mark.realdata
@pytest.mark.parametrize("name", ["collegemsg", "wikipedia"])
@pytest.mark.parametrize("kind", KINDS)
def test_real_streams(name: str, kind: str) -> None:
    split = split_stream(load_stream(name, download=False))
    stream, k = split.stream, 4
    sampler = EventNegatives(split, kind, k=k)
    every = list(zip(stream.src.tolist(), stream.dst.tolist(), strict=True))
    trained = set(every[: len(split.train)])
    batch = split.test[400:600]
    happens = set(zip(stream.src.tolist(), stream.t.tolist(), stream.dst.tolist(), strict=True))
    src, dst = sampler.draw(batch, 3)
    if src is not None:
        seen = set(every[: batch.first]) - set(every[batch.first : batch.first + len(batch)])
        assert set(as_pairs((src, dst))) <= (seen - trained if kind == "inductive" else seen)
        return
    single = [sampler.draw(batch[i : i + 1], 3)[1] for i in range(len(batch))]
    assert torch.equal(torch.cat(single), dst)
    assert set(dst.flatten().tolist()) <= set(range(int(stream.dst.min()), int(stream.dst.max()) + 1))
    if kind != "hist_rnd":
        return
    for u, t, row in zip(batch.src.tolist(), batch.t.tolist(), dst.tolist(), strict=True):
        assert len(set(row)) == k
        assert not any((u, t, v) in happens for v in row)
        assert sum((u, v) in trained for v in row) <= k // 2


def test_bad_input() -> None:
    split = make_split(0)
    with pytest.raises(ArgumentError, match="kind"):
        EventNegatives(split, "hard")
    with pytest.raises(ArgumentError, match="k"):
        EventNegatives(split, k=0)
    with pytest.raises(ArgumentError, match=r"k: expected at most \d+ negatives for event \d+, .* got 40"):
        EventNegatives(split, "hist_rnd", k=40).draw(split.stream, 0)
    with pytest.raises(ArgumentError, match="events: expected events of the stream, 0 to 119, got 120 to 121"):
        EventNegatives(split, "hist_rnd").draw(replace(split.stream[:2], first=120), 0)
    many = replace(split, stream=replace(split.stream, num_nodes=2**32))
    with pytest.raises(ArgumentError, match="keys of 64 bits"):
        EventNegatives(many, "historical")


@pytest.mark.parametrize("kind", KINDS)
def test_shapes(kind: str) -> None:
    split: Any = make_split(1)
    src, dst = EventNegatives(split, kind, k=3).draw(split.valid, 2)
    assert dst.shape == (len(split.valid), 3)
    assert src is None or src.shape == dst.shape
