"""Latest events as a graph: against a loop over rows and the reference, bad arguments."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_ring import batch, empty
from torch import Tensor

from graphmem import ops
from graphmem.errors import ArgumentError
from graphmem.ops import reference


def filled(seed: int, count: int, nodes: int, size: int) -> tuple[Tensor, Tensor, Tensor]:
    state = empty(nodes, size)
    ops.ring_insert(*state, *batch(seed, count, nodes))
    return state[0], state[1], state[3]


@given(
    seed=st.integers(0, 999),
    count=st.sampled_from((0, 1, 7, 40)),
    nodes=st.sampled_from((1, 3, 64, 65, 900)),
    size=st.sampled_from((1, 2, 5)),
    data=st.data(),
)
def test_against_rows(seed: int, count: int, nodes: int, size: int, data: st.DataObject) -> None:
    nbr, eid, held = filled(seed, count, nodes, size)
    ids = data.draw(st.lists(st.integers(0, nodes - 1), max_size=9))
    asked = torch.tensor(ids, dtype=torch.int64)
    found, edges, events = ops.ring_graph(nbr, eid, held, asked)
    rows = zip(ids, *(part.tolist() for part in ops.ring_query(nbr, eid, eid, held, asked, size)[:2]), strict=True)
    entries = [(node, *entry) for node, *row in rows for entry in zip(*row, strict=True) if entry[0] >= 0]
    assert found.tolist() == sorted({*ids, *(other for _, other, _ in entries)})
    assert edges.is_contiguous()
    assert [found[end].tolist() for end in edges] == [[e[1] for e in entries], [e[0] for e in entries]]
    assert events.tolist() == [e[2] for e in entries]
    got = torch.ops.graphmem.ring_graph(nbr, eid, held, asked)
    want = reference.ring_graph(nbr, eid, held, asked)
    assert all(torch.equal(one, other) for one, other in zip(got, want, strict=True))


def test_calls_on_graphs_of_several_sizes_do_not_mix() -> None:
    """What a thread keeps between calls is clean whichever came before, a refused one among them."""
    for nodes in (5, 5000, 70, 100_000, 5):
        nbr, eid, held = filled(nodes, 30, nodes, 3)
        first, last = (nbr[row, : int(held[row])].tolist() for row in (0, -1))
        found = ops.ring_graph(nbr, eid, held, torch.tensor([nodes - 1, 0]))[0]
        assert found.tolist() == sorted({0, nodes - 1, *first, *last})
        broken = nbr.clone()
        broken[0] = nodes
        with pytest.raises(ArgumentError, match=rf"^nbr: expected ids in \[0, {nodes}\), found {nodes}"):
            ops.ring_graph(broken, eid, held.clamp(min=1), torch.tensor([0]))


VALID: dict[str, Any] = dict(zip(("nbr", "eid", "count"), filled(0, 9, 4, 2), strict=True)) | {"ids": torch.arange(3)}


@pytest.mark.parametrize("name", VALID)
def test_every_argument_is_checked(name: str) -> None:
    value = VALID[name]
    for wrong in (value[None], value.to(torch.float16), value.tolist()):
        with pytest.raises(ArgumentError if isinstance(wrong, Tensor) else TypeError, match=rf"^{name}: "):
            ops.ring_graph(**{**VALID, name: wrong})
    for ids in (torch.tensor([4]), torch.tensor([-1])):
        with pytest.raises(ArgumentError, match=r"^ids: expected ids in \[0, 4\)"):
            ops.ring_graph(**{**VALID, "ids": ids})
