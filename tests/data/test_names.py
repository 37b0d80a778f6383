"""NodeNames against a loop over events."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from graphmem.data.names import NodeNames, as_names
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


TEXT = ["ada", "bob", "ada"]
COLUMNS_OF_TEXT = {
    "list": TEXT,
    "tuple": tuple(TEXT),
    "array of text": np.array(TEXT),
    "array of objects": np.array(TEXT, dtype=object),
    "array of numpy's strings": np.array([np.str_(name) for name in TEXT], dtype=object),
    "strings of any length": np.array(TEXT, dtype=np.dtypes.StringDType()),
    "column of objects": pd.Series(TEXT, dtype=object),
    "column of strings": pd.Series(TEXT, dtype="string"),
    "column of categories": pd.Series(TEXT, dtype="category"),
}


@pytest.mark.parametrize("kind", COLUMNS_OF_TEXT)
def test_every_column_of_text_holds_names(kind: str) -> None:
    column = COLUMNS_OF_TEXT[kind]
    assert NodeNames(names=["bob", "ada"]).find(column).tolist() == [1, 0, 1]
    names = NodeNames()
    assert [ends.tolist() for ends in names.add(column, column)] == [[0, 1, 0]] * 2
    assert names.to_plain()["names"] == ["ada", "bob"]
    assert {type(name) for name in names.to_plain()["names"]} == {str}


@pytest.mark.parametrize(
    "column",
    [
        [7, 2**40, 7],
        np.array([7, 2**40, 7], dtype=object),
        [np.int32(7), 2**40, torch.tensor(7)],
        np.array([7, 2**40, 7], dtype=np.uint64),
        pd.Series([7, 2**40, 7], dtype="Int64"),
    ],
)
def test_every_column_of_whole_numbers_holds_names(column: Any) -> None:
    assert NodeNames(names=[2**40, 7]).find(column).tolist() == [1, 0, 1]
    assert NodeNames(8).find(column).tolist() == [7, -1, 7]


def test_names_are_told_apart_to_the_last_bit() -> None:
    names = NodeNames(names=["a", "a\0", ""])
    assert names.find([["a\0", ""], ["a", "b"]]).tolist() == [[1, 2], [0, -1]]
    large = NodeNames(names=[2**63 + 1, 2**63])
    assert large.find([2**63, 2**63 + 1]).tolist() == [1, 0]
    assert NodeNames(2).find(np.array([1, 2**63], dtype=np.uint64)).tolist() == [1, -1]


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (["a", 5], "not both, got 'a' and 5"),
        ([1, 2, "x"], "not both, got 1 and 'x'"),
        (np.array(["a", 5], dtype=object), "not both, got 'a' and 5"),
        ([1, True], r"got True \(bool\)"),
        (np.array([1, False], dtype=object), r"got False \(bool\)"),
        (["a", None], r"got None \(NoneType\)"),
        (pd.Series(["a", None], dtype="string"), "got <NA>"),
        (np.array([2.5, 1], dtype=object), r"got 2.5 \(float\)"),
        ([["a"], ["b", "c"]], r"got \['a'\] \(list\)"),
        ([-1, 2**63], "fit 64 bits together, got 9223372036854775808"),
        (np.array([2**70], dtype=object), "fit 64 bits together, got 1180591620717411303424"),
    ],
)
def test_a_column_of_something_else_names_the_first(column: Any, message: str) -> None:
    for take in (as_names, NodeNames().find):
        with pytest.raises(ArgumentError, match=f"^names: expected whole numbers .*{message}"):
            take(column)


def test_names_of_a_stream_that_are_not_of_one_kind() -> None:
    one = torch.tensor([0])
    with pytest.raises(ArgumentError, match="not both, got 'a' and 5"):
        NodeNames.of(EventStream(one, one + 1, one, 2, node_names=["a", 5]))


@pytest.mark.parametrize("names", [["100", "7", "100", "9"], ["u", "v", "p", "q"]])
def test_ends_of_a_slice_are_named_apart_as_those_of_the_whole(names: list[str]) -> None:
    whole = EventStream(
        torch.tensor([0, 1, 0]), torch.tensor([2, 3, 3]), torch.arange(3), 4, node_names=names, dst_range=(2, 4)
    )
    want = NodeNames.of(whole).to_plain()
    assert want["is_dst"] == [False, False, True, True]
    for part in (whole[:1], whole[:0], whole[1:][:0], whole.between(7, 9), whole.select(whole.t < 0), whole.to("cpu")):
        assert part.is_bipartite
        assert NodeNames.of(part).to_plain() == want


def test_ends_are_not_named_apart_where_a_destination_is_a_source() -> None:
    ends = torch.tensor([0, 1, 2]), torch.tensor([2, 3, 3])
    for dst_range in ((2, 4), (0, 4), None):
        whole = EventStream(*ends, torch.arange(3), 4, node_names=["a", "b", "c", "d"], dst_range=dst_range)
        for part in (whole, whole[:1], whole[:0]):
            assert not part.is_bipartite
            assert not NodeNames.of(part).bipartite
