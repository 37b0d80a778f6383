"""Negatives of events, against what each kind promises, by plain Python."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from graphmem.data.event_negatives import KINDS, EventNegatives
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
                if seen - own and pair not in seen - own:
                    # A random negative after many rounds: only where nearly all that was seen is in the batch.
                    assert len(seen - own) / len(seen) < 0.5
                    assert pair[0] == source
                elif not seen - own:
                    assert pair[0] == source


@pytest.mark.parametrize("kind", ["historical", "inductive"])
def test_pairs_are_uniform(kind: str) -> None:
    split = make_split(5, count=4000, nodes=12)
    last = split.stream[-1:]
    drawn = [EventNegatives(split, kind, seed=s, k=50).draw(last, 0) for s in range(40)]
    keys = torch.cat([src * 12 + dst for src, dst in drawn if src is not None]).flatten()  # type: ignore[operator]
    if kind == "inductive" and int(keys.unique().numel()) == 1:
        pytest.skip("no new pair")
    counts = keys.unique(return_counts=True)[1].double()
    expected = keys.numel() / counts.numel()
    freedom = counts.numel() - 1
    assert float(((counts - expected) ** 2 / expected).sum()) < freedom + 4 * (2 * freedom) ** 0.5 + 5


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


def test_bad_input() -> None:
    split = make_split(0)
    with pytest.raises(ArgumentError, match="kind"):
        EventNegatives(split, "hard")
    with pytest.raises(ArgumentError, match="k"):
        EventNegatives(split, k=0)
    with pytest.raises(ArgumentError, match=r"k: expected at most \d+ negatives for event \d+, .* got 40"):
        EventNegatives(split, "hist_rnd", k=40).draw(split.stream, 0)


@pytest.mark.parametrize("kind", KINDS)
def test_shapes(kind: str) -> None:
    split: Any = make_split(1)
    src, dst = EventNegatives(split, kind, k=3).draw(split.valid, 2)
    assert dst.shape == (len(split.valid), 3)
    assert src is None or src.shape == dst.shape
