"""Pending events: against the definition, pair of events by pair of events; shares on real streams."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from graphmem.errors import ArgumentError
from graphmem.ops import pending_events, reference

Ends = list[tuple[int, int]]


def slowly(ends: Ends) -> tuple[list[bool], dict[int, int], set[int]]:
    """The definition: an earlier event shares an end."""
    mask = [any(set(ends[e]) & set(ends[f]) for f in range(e)) for e in range(len(ends))]
    nodes = {v for pair in ends for v in pair}
    count = {v: sum(v in pair for pair in ends) for v in nodes}
    return mask, count, {v for pair, hit in zip(ends, mask, strict=True) if hit for v in pair}


@given(ends=st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), max_size=25))
def test_is_the_definition(ends: Ends) -> None:
    src, dst = torch.tensor(ends, dtype=torch.int64).view(-1, 2).t()
    found = pending_events(src, dst)
    mask, count, affected = slowly(ends)
    assert found.mask.tolist() == mask
    assert found.nodes.tolist() == list(dict.fromkeys(v for pair in ends for v in pair))
    assert dict(zip(found.nodes.tolist(), found.events.tolist(), strict=True)) == count
    assert set(found.nodes[found.affected].tolist()) == affected
    assert found.nodes[found.place].tolist() == [v for pair in ends for v in pair]
    columns = src.contiguous(), dst.contiguous()
    both = zip(reference.pending_events(*columns), torch.ops.graphmem.pending_events(*columns), strict=True)
    assert all(torch.equal(one, other) for one, other in both)


def test_batches_of_one_and_of_none() -> None:
    for ends in ([(3, 5)], [(3, 3)]):
        found = pending_events(*torch.tensor(ends).t())
        assert not found.mask.any()
        assert not found.affected.any()
        assert found.events.tolist() == [1] * len(set(ends[0]))
    assert pending_events(torch.empty(0, dtype=torch.int64), torch.empty(0, dtype=torch.int64)).nodes.numel() == 0


def test_bad_input_is_named() -> None:
    with pytest.raises(ArgumentError, match="src"):
        pending_events(torch.tensor([1.0]), torch.tensor([1]))
    with pytest.raises(ArgumentError, match="dst"):
        pending_events(torch.tensor([1, 2]), torch.tensor([1]))
    with pytest.raises(ArgumentError, match="dst: .*found -1"):
        pending_events(torch.tensor([1, 2]), torch.tensor([1, -1]))


@pytest.mark.realdata
def test_shares_of_bitcoin_otc() -> None:
    """Shares of events with a pending event, as they were counted once by a script of its own."""
    path = Path(os.environ["GRAPHMEM_DATA"]) / "signed/BitcoinOTC/raw/soc-sign-bitcoinotc.csv"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    with path.open() as file:
        rows = [(int(float(t)), int(u), int(v)) for u, v, _, t in csv.reader(file)]
    rows.sort(key=lambda row: row[0])  # stable
    _, src, dst = (torch.tensor(column) for column in zip(*rows, strict=True))
    known = {1: 0.0, 50: 0.692, 200: 0.839, 500: 0.908, 1000: 0.943, 2000: 0.966, 4000: 0.980}
    for size, share in known.items():
        parts = zip(src.split(size), dst.split(size), strict=True) if size > 1 else []
        pending = sum(int(pending_events(*part).mask.sum()) for part in parts)
        assert pending / len(rows) == pytest.approx(share, abs=5e-4)
