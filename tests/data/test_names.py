"""NodeNames against a loop over events."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from graphmem.data.names import NodeNames
from graphmem.data.stream import EventStream
from graphmem.errors import ArgumentError

BATCHES = st.lists(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=6), max_size=5)


@given(BATCHES, st.booleans(), st.booleans(), st.integers(0, 4), st.data())
def test_new_names_become_the_next_nodes(
    batches: list[list[tuple[int, int]]], text: bool, apart: bool, known: int, data: st.DataObject
) -> None:
    numbered = 0 if text or apart else known
    names = NodeNames(numbered, is_dst=() if apart else None)
    nodes: dict[Any, int] = {(0, name): name for name in range(numbered)}

    def key(name: int, dst: bool) -> Any:
        return (dst if apart else 0, f"n{name}" if text else name)

    def array(column: list[int]) -> Any:
        return np.array([f"n{x}" for x in column], dtype=str) if text else np.array(column, dtype=np.int64)

    for batch in batches:
        expected: tuple[list[int], list[int]] = ([], [])
        src, dst = (array([event[k] for event in batch]) for k in (0, 1))
        asked = names.find(dst, dst=True)
        assert asked.tolist() == [nodes.get(key(v, True), -1) for _, v in batch]
        for event in batch:
            for side, name in enumerate(event):
                expected[side].append(nodes.setdefault(key(name, bool(side)), len(nodes)))
        found = names.add(src, dst)
        assert [column.tolist() for column in found] == list(expected)
        assert len(names) == len(nodes)
        names = data.draw(st.sampled_from([names, NodeNames.from_plain(names.to_plain())]))
    for (_, name), node in nodes.items():
        assert names[[node]].tolist() == [name]
    of_dst = {node for (side, _), node in nodes.items() if side}
    assert names.destinations().tolist() == (sorted(of_dst) if apart else list(range(len(nodes))))


def test_names_of_a_stream() -> None:
    ends, t = (torch.tensor([0, 1, 0]), torch.tensor([2, 3, 3])), torch.arange(3)
    plain = EventStream(*ends, t, 4)
    assert NodeNames.of(plain).find([3, 4]).tolist() == [3, -1]
    named = EventStream(*ends, t, 4, node_names=np.array([7, 8, 9, 10]))
    assert NodeNames.of(named).find([[9], [0]], dst=True).tolist() == [[2], [-1]]
    apart = EventStream(*ends, t, 4, node_names=np.array(["a", "b", "a", "b"]), dst_range=(2, 4))
    names = NodeNames.of(apart)
    assert (names.find("b").tolist(), names.find("b", dst=True).tolist()) == (1, 3)
    assert names.destinations().tolist() == [2, 3]


def test_names_that_are_refused() -> None:
    with pytest.raises(ArgumentError, match="distinct names, got 'a' twice"):
        NodeNames(names=["a", "b", "a"])
    with pytest.raises(ArgumentError, match="distinct names, got 2 twice"):
        NodeNames(3, [2])
    for names in ([1.5], [True], [None]):
        with pytest.raises(ArgumentError, match="expected whole numbers or text"):
            NodeNames().find(names)
    with pytest.raises(ArgumentError, match="named by text, got whole numbers, e.g. 5"):
        NodeNames(names=["a"]).find(5)
    with pytest.raises(ArgumentError, match="named by whole numbers, got text, e.g. 'a'"):
        NodeNames(2).find(["a"])
    with pytest.raises(ArgumentError, match="expected ends of one kind"):
        NodeNames().add(np.array([1]), np.array(["a"]))
    with pytest.raises(ArgumentError, match="from 0 on, got -3"):
        NodeNames(2).find([1, -3])
