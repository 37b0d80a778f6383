"""SignedHistoryFeatures against counting in loops."""

from __future__ import annotations

import copy
import math
from collections import Counter
from unittest import mock

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from signed_cases import SignedEvents, signed_events, streams
from torch import Tensor

from graphmem.errors import ArgumentError
from graphmem.nn import SignedHistoryFeatures, signed_history
from graphmem.nn.signed_history import NAMES


def slow_features(past: SignedEvents, nodes: int, u: int, v: int) -> list[float]:
    """By one loop over all events for each number."""
    events = list(zip(past.src.tolist(), past.dst.tolist(), past.sign.tolist(), strict=True))
    out, into = Counter((a, s) for a, _, s in events), Counter((b, s) for _, b, s in events)
    met: Counter[tuple[int, int, int]] = Counter()
    for a, b, s in events:
        met[a, b, s] += 1
        met[b, a, s] += 1
    counts = [way[end, sign] for end in (u, v) for way in (out, into) for sign in (1, -1)]
    odds = [
        math.log((counts[at] + 1.8) / (counts[at + 1] + 0.2))
        for at in (0, 6, 2, 4)  # of u out, v in, u in, v out
    ]
    reverse = [float((v, u, s) in events) for s in (1, -1)]
    triads = [
        sum(met[u, w, a] * met[v, w, a * way] for w in range(nodes) if w not in (u, v) for a in (1, -1))
        for way in (1, -1)
    ]
    return [*odds, *map(math.log1p, counts), *reverse, *map(math.log1p, triads)]


def every_pair(nodes: int) -> tuple[Tensor, Tensor]:
    return torch.arange(nodes).repeat_interleave(nodes), torch.arange(nodes).repeat(nodes)


@given(streams(), st.sampled_from([0, 4, 1000]))
def test_features_are_counts_of_what_was_before_the_block(stream: tuple[SignedEvents, int, int], limit: int) -> None:
    """However often new pairs are put among the others."""
    events, nodes, size = stream
    with mock.patch.object(signed_history, "_MERGE_PAIRS", limit):
        check_blocks(events, nodes, size)


def check_blocks(events: SignedEvents, nodes: int, size: int) -> None:
    history = SignedHistoryFeatures(nodes)
    src, dst = every_pair(nodes)
    for start, batch in zip(range(0, len(events), size), events.batches(size), strict=True):
        past = events.at(slice(0, start))
        found = history(src, dst)
        wanted = [slow_features(past, nodes, u, v) for u, v in zip(src.tolist(), dst.tolist(), strict=True)]
        torch.testing.assert_close(found, torch.tensor(wanted))
        history.insert(batch.src, batch.dst, batch.sign)


@given(streams())
def test_blocks_and_order_leave_the_same_state(stream: tuple[SignedEvents, int, int]) -> None:
    events, nodes, size = stream
    pieces, whole, shuffled = (SignedHistoryFeatures(nodes) for _ in range(3))
    for batch in events.batches(size):
        pieces.insert(batch.src, batch.dst, batch.sign)
    whole.insert(events.src, events.dst, events.sign > 0)
    mixed = events.at(torch.randperm(len(events), generator=torch.Generator().manual_seed(size)))
    shuffled.insert(mixed.src, mixed.dst, mixed.sign)
    everything = [(*state_of(one), one(*every_pair(nodes))) for one in (pieces, whole, shuffled)]
    for other in everything[1:]:
        assert all(torch.equal(a, b) for a, b in zip(everything[0], other, strict=True))


def state_of(history: SignedHistoryFeatures) -> tuple[Tensor, ...]:
    """Degrees and pairs, wherever the latter are."""
    one = copy.deepcopy(history)
    one._merge()
    return one.degree, one.keys, one.counts


def test_names() -> None:
    history = SignedHistoryFeatures(4)
    assert len(NAMES) == len(set(NAMES)) == history.out_channels == 16
    history.insert(torch.tensor([1, 0, 2, 3]), torch.tensor([0, 2, 1, 1]), torch.tensor([-1, 1, -1, 1]))
    found = dict(zip(NAMES, history(torch.tensor([0]), torch.tensor([1]))[0].tolist(), strict=True))
    assert (found["reverse_pos"], found["reverse_neg"]) == (0, 1)
    assert found["balanced"] == 0
    assert found["unbalanced"] == pytest.approx(math.log(2))  # over node 2: a friend of 0, an enemy of 1
    assert found["odds_dst_in"] == pytest.approx(math.log(2.8 / 1.2))
    assert found["src_out_pos"] == pytest.approx(math.log(2))


def test_forgotten_nodes_were_never_there() -> None:
    events = signed_events(5, 60, 8)
    history, without = SignedHistoryFeatures(8), SignedHistoryFeatures(8)
    history.insert(events.src, events.dst, events.sign)
    gone = torch.tensor([2, 5])
    history.forget(gone)
    kept = events.at(~(torch.isin(events.src, gone) | torch.isin(events.dst, gone)))
    without.insert(kept.src, kept.dst, kept.sign)
    assert all(torch.equal(a, b) for a, b in zip(state_of(history), state_of(without), strict=True))
    with pytest.raises(ArgumentError, match="events"):
        history.forget(events=gone)


def test_state_is_taken_back_and_grows() -> None:
    first, second = signed_events(6, 60, 8).batches(30)
    history, pairs = SignedHistoryFeatures(8), every_pair(8)
    history.insert(first.src, first.dst, first.sign)
    snapshot, before = history.snapshot(), history(*pairs)
    history.insert(second.src, second.dst, second.sign)
    after = history(*pairs)
    history.restore(snapshot)
    assert torch.equal(history(*pairs), before)
    fresh = SignedHistoryFeatures(8)
    fresh.load_state_dict(history.state_dict())
    fresh.insert(second.src, second.dst, second.sign)
    assert torch.equal(fresh(*pairs), after)
    fresh.grow(11)
    assert torch.equal(fresh(*pairs), after)
    assert torch.equal(fresh(torch.tensor([10]), torch.tensor([0]))[0, -4:], torch.zeros(4))
    fresh.reset()
    assert torch.equal(fresh(*pairs), SignedHistoryFeatures(11)(*pairs))


def test_bad_input() -> None:
    history, node = SignedHistoryFeatures(3), torch.tensor([0])
    for src, dst, named in ((node.int(), node, "src"), (node, torch.tensor([3]), "dst"), (node, node[:0], "dst")):
        with pytest.raises(ArgumentError, match=rf"^{named}"):
            history(src, dst)
    with pytest.raises(ArgumentError, match="sign"):
        history.insert(node, node, torch.tensor([2]))
    with pytest.raises(ArgumentError, match="num_nodes"):
        SignedHistoryFeatures(2**31)
