"""EventStream: what it holds, what it refuses, and what a slice is."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from graphmem.data.stream import EventStream
from graphmem.errors import ArgumentError, ArgumentTypeError

T = torch.tensor


def make(**changes: Any) -> EventStream:
    fields: dict[str, Any] = {
        "src": T([0, 1, 0, 2, 1]),
        "dst": T([3, 4, 4, 3, 3]),
        "t": T([0, 5, 5, 7, 9]),
        "num_nodes": 5,
        "msg": torch.arange(10.0).view(5, 2),
        "weight": T([1.0, -2.0, 0.0, 3.0, -1.0]),
        "dst_range": (3, 5),
    }
    return EventStream(**{**fields, **changes})


def test_a_slice_is_a_view_that_knows_its_numbers() -> None:
    stream = make()
    part = stream[1:4][1:]
    assert part.eid.tolist() == [2, 3]
    assert (part.src.tolist(), part.t.tolist()) == ([0, 2], [5, 7])
    assert part.src.data_ptr() == stream.src[2:].data_ptr()
    assert part.msg is not None
    assert part.msg.data_ptr() == stream.msg[2:].data_ptr()  # type: ignore[index]
    assert (len(stream[3:2]), len(stream[9:]), stream[3:2].first) == (0, 0, 3)
    assert stream[-2:].eid.tolist() == [3, 4]
    with pytest.raises(ArgumentTypeError, match="consecutive events"):
        stream[::2]


def test_between() -> None:
    stream = make()
    for low, high in ((0, 5), (5, 6), (5, 9), (-3, 100), (6, 6)):
        want = [k for k, t in enumerate(stream.t.tolist()) if low <= t < high]
        assert stream.between(low, high).eid.tolist() == want


def test_what_it_says_of_itself() -> None:
    stream = make()
    assert stream.sign is not None
    assert stream.sign.tolist() == [1, -1, 0, 1, -1]
    assert (stream.msg_dim, stream.num_events, stream.is_bipartite) == (2, 5, True)
    assert not make(dst_range=None).is_bipartite
    assert repr(stream) == "EventStream('stream', num_events=5, num_nodes=5, t=0..9, msg=[5, 2], weight=[5])"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"src": T([0, 1, 0, 2, 5])}, "src"),
        ({"src": T([0, 1, 0, 2, -1])}, "src"),
        ({"dst": T([3, 4, 4, 3, 2])}, r"dst: expected destinations in \[3, 5\), got 2..4"),
        ({"dst": T([3, 4])}, "dst: expected"),
        ({"t": T([0, 5, 4, 7, 6])}, r"t: expected ascending times, got 4 behind 5 \(event 2, 2 such places\)"),
        ({"t": T([0.0, 5, 5, 7, 9])}, "t: expected"),
        ({"t": T([0.0, 5, 5, 7, float("nan")]).double()}, "t: expected finite numbers, got 1 others, .* event 4"),
        ({"msg": torch.full((5, 2), float("inf"))}, "msg: expected finite numbers, got 10 others"),
        ({"msg": torch.zeros(4, 2)}, "msg: expected"),
        ({"weight": T([1.0, 2.0, float("nan"), 0.0, 1.0])}, "weight: expected finite"),
        ({"dst_range": (3, 6)}, "dst_range"),
        ({"node_names": ["a"]}, "node_names: expected 5 names, got 1"),
        ({"y": torch.zeros(3)}, "y: expected"),
    ],
)
def test_what_it_refuses(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        make(**changes)


def same(one: Tensor | None, other: Tensor | None) -> bool:
    return one is other is None or (one is not None and other is not None and torch.equal(one, other))


def test_round_trip_through_temporal_data() -> None:
    stream = make()
    data = stream.to_temporal_data()
    back = EventStream.from_temporal_data(data, num_nodes=5, dst_range=(3, 5))
    assert all(same(getattr(stream, n), getattr(back, n)) for n in ("src", "dst", "t", "msg", "weight", "y"))
    assert make(msg=None).to_temporal_data().msg.shape == (5, 0)
    assert EventStream.from_temporal_data(data[1:4]).num_nodes == 5
    data.t = data.t.float()
    with pytest.raises(ArgumentError, match="t: expected"):
        EventStream.from_temporal_data(data)


def test_from_tgb() -> None:
    stream = make()
    arrays = {
        "sources": stream.src.numpy(),
        "destinations": stream.dst.numpy(),
        "timestamps": stream.t.numpy(),
        "edge_idxs": stream.eid.numpy() + 1,
        "edge_feat": stream.msg.double().numpy(),  # type: ignore[union-attr]
        "w": stream.weight.double().numpy(),  # type: ignore[union-attr]
        "edge_label": torch.ones(5).numpy(),
    }
    back = EventStream.from_tgb(arrays, name="tgbl-tiny")
    assert all(same(getattr(stream, n), getattr(back, n)) for n in ("src", "dst", "t", "msg", "weight"))
    with pytest.raises(ArgumentError, match="are missing"):
        EventStream.from_tgb({"sources": arrays["sources"]})


def test_extend() -> None:
    stream = make()
    whole = stream[:2].extend(stream[2:])
    assert all(same(getattr(stream, n), getattr(whole, n)) for n in ("src", "dst", "t", "msg", "weight"))
    with pytest.raises(ArgumentError, match="from time 9 on, got 0"):
        stream.extend(stream)
    with pytest.raises(ArgumentError, match="msg is in one of the streams only"):
        stream[:2].extend(make(msg=None)[2:])
