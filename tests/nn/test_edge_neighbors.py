"""EdgeNeighbors: the rows of RecentNeighbors, with the features that belong to each entry."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from signed_cases import signed_events

from graphmem.errors import ArgumentError
from graphmem.nn import EdgeNeighbors, RecentNeighbors


def features(eid: torch.Tensor, owner_is_source: bool) -> torch.Tensor:
    return torch.stack((eid.float(), torch.full_like(eid, 1 if owner_is_source else -1, dtype=torch.float32)), 1)


@given(st.integers(0, 10_000), st.integers(1, 30), st.integers(1, 5), st.integers(1, 9), st.booleans())
def test_entries_keep_their_features(seed: int, count: int, size: int, batch: int, forget: bool) -> None:
    events, nodes = signed_events(seed, count, 5), 5
    plain = RecentNeighbors(nodes, size)
    full = EdgeNeighbors(nodes, size, 2)
    gone = torch.tensor([seed % nodes])
    for start in range(0, count, batch):
        part = events.at(slice(start, start + batch))
        eid = torch.arange(start, start + len(part))
        plain.insert(part.src, part.dst, part.t, eid)
        edge = torch.stack((features(eid, True), features(eid, False)), 1).flatten(0, 1)
        full.insert_edges(part.src, part.dst, part.t, edge, eid)
        if forget and start == 2 * batch:
            plain.forget(gone)
            full.forget(gone)
        expected = plain.query(torch.arange(nodes))
        found, edge = full.query_edges(torch.arange(nodes))
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
        for node in range(nodes):
            for k, e in enumerate(found.eid[node].tolist()):
                if e < 0:
                    assert edge[node, k].tolist() == [0, 0]
                    continue
                assert int(edge[node, k, 0]) == e
                ends = {1: int(events.src[e]), -1: int(events.dst[e])}
                assert ends[int(edge[node, k, 1])] == node
        # An event from a node to itself is there twice, once from each side.
        newest = found.eid[:, :2]
        both = (
            (newest[:, 0] == newest[:, 1]) & (newest[:, 0] >= 0) if size > 1 else torch.zeros(nodes, dtype=torch.bool)
        )
        assert bool((edge[both][:, :2, 1].sum(1) == 0).all())


def test_bad_features_change_nothing() -> None:
    neighbors, ends = EdgeNeighbors(3, 2, 2), torch.tensor([0, 1])
    with pytest.raises(ArgumentError, match="^edge: expected"):
        neighbors.insert_edges(ends, ends, ends, torch.zeros(2, 2))
    assert int(neighbors.count.sum()) == 0


def test_state_is_taken_back() -> None:
    neighbors = EdgeNeighbors(3, 2, 1)
    ends = torch.tensor([0]), torch.tensor([1]), torch.tensor([5])
    neighbors.insert_edges(*ends, torch.tensor([[2.0], [3.0]]))
    snapshot, node = neighbors.snapshot(), torch.tensor([1])
    neighbors.insert_edges(torch.tensor([1]), torch.tensor([2]), torch.tensor([6]), torch.tensor([[4.0], [5.0]]))
    assert neighbors.query_edges(node)[1].tolist() == [[[4], [3]]]
    neighbors.restore(snapshot)
    assert neighbors.query_edges(node)[1].tolist() == [[[3], [0]]]
    neighbors.grow(5)
    assert neighbors.query_edges(node)[1].tolist() == [[[3], [0]]]
    neighbors.reset()
    assert not bool(neighbors.query_edges(node)[1].any())
