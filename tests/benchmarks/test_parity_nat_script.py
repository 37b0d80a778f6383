"""The script that compares NAT with its authors' code, without that code: what it feeds both, and how it reads bits."""

from __future__ import annotations

import importlib
from itertools import product
from pathlib import Path
from types import ModuleType

import pytest
import torch

from graphmem.data import EventStream


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    return importlib.import_module("parity_nat")


def test_batches_without_repetition(script: ModuleType) -> None:
    """Every node once in a batch, and no event is left out without need."""
    g = torch.Generator().manual_seed(0)
    src, dst = torch.randint(12, (2, 100), generator=g)
    stream = EventStream(src, dst, torch.arange(100), 12, msg=torch.arange(100.0).view(-1, 1))
    kept, counts = script.without_repetition(stream, 9)
    assert (len(counts), sum(counts)) == (12, len(kept))
    batches = script.cut(kept, counts)
    numbers: list[int] = []
    for window, (batch, neg) in enumerate(batches):
        ends = torch.cat((batch.src, batch.dst)).tolist()
        assert len(set(ends)) == len(ends)
        assert neg.shape == batch.src.shape
        found = batch.msg.view(-1).long().tolist()
        assert all(number // 9 == window for number in found)
        for e in {*range(9 * window, min(9 * window + 9, 100))} - set(found):
            earlier = {int(end[f]) for f in found if f < e for end in (src, dst)}
            assert int(src[e]) == int(dst[e]) or {int(src[e]), int(dst[e])} & earlier
        numbers += found
    assert numbers == sorted(numbers)


@pytest.mark.parametrize("hops", [1, 2])
def test_positions_in_their_table(script: ModuleType, hops: int) -> None:
    """Theirs are sums of 2^hop for the first node and 2^(hop + 3) for the second."""
    peer = importlib.import_module("peer_nat")
    sets = list(product(*([(0, 1)] * (hops + 1))))
    for first, second in product(sets, sets):
        mask = sum(bit << hop for hop, bit in enumerate((*first, *second)))
        theirs = sum(bit << hop for hop, bit in enumerate(first)) + sum(
            bit << 3 + hop for hop, bit in enumerate(second)
        )
        assert int(peer.their_position(torch.tensor(mask), hops)) == theirs
