"""PairMemory against a dictionary."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from graphmem.errors import ArgumentError
from graphmem.nn import pair_memory
from graphmem.nn.pair_memory import NEVER, PairMemory

events = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(0, 3)), max_size=60)


@given(events, st.booleans(), st.integers(1, 7), st.integers(0, 20))
def test_it_is_a_dictionary(drawn: list[tuple[int, int, int]], directed: bool, batch: int, merge: int) -> None:
    memory = PairMemory(directed=directed)
    known: dict[tuple[int, int], tuple[int, int]] = {}
    everybody = torch.cartesian_prod(torch.arange(7), torch.arange(7)).T
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pair_memory, "_MERGE_EVENTS", merge)
        now = 0
        for low in range(0, len(drawn), batch):
            part = []
            for u, v, wait in drawn[low : low + batch]:
                now += wait
                part.append((u, v, now))
                key = (u, v) if directed else (min(u, v), max(u, v))
                known[key] = (now, known.get(key, (0, 0))[1] + 1)
            memory.insert(*torch.tensor(part).T)
            found = memory.find(*everybody)
            for u, v, last, count in zip(*everybody.tolist(), *(f.tolist() for f in found), strict=True):
                key = (u, v) if directed else (min(u, v), max(u, v))
                assert (last, count) == known.get(key, (NEVER, 0))


def test_state() -> None:
    memory = PairMemory(dtype=torch.float64)
    memory.insert(torch.tensor([1, 2]), torch.tensor([3, 4]), torch.tensor([0.5, 1.5]))
    saved = memory.snapshot()
    other = PairMemory(dtype=torch.float64)
    other.load_state_dict(memory.state_dict())
    memory.reset()
    assert memory.find(torch.tensor([1]), torch.tensor([3])).times.item() == 0
    memory.restore(saved)
    for one in (memory, other):
        found = one.find(torch.tensor([2, 4]), torch.tensor([4, 2]))
        assert found.last[0] == 1.5
        assert found.times.tolist() == [1, 0]


def test_other_dtypes_are_refused() -> None:
    with pytest.raises(ArgumentError, match=r"dtype: expected torch.int64 or torch.float64, got torch.float32"):
        PairMemory(dtype=torch.float32)
