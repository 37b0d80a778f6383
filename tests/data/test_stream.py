"""EventStream: what it holds, what it refuses, and what a slice is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
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


COLUMNS = ("src", "dst", "t", "msg", "weight", "edge_type", "y")


def assert_equal(one: EventStream, other: EventStream) -> None:
    for name in (*COLUMNS, "node_features"):
        assert same(getattr(one, name), getattr(other, name)), name
    for name in ("num_nodes", "dst_range", "first", "name", "left_out"):
        assert getattr(one, name) == getattr(other, name), name
    assert (one.node_names is None) == (other.node_names is None)
    assert one.node_names is None or list(one.node_names) == list(other.node_names or ())


@pytest.mark.parametrize("msg", [None, torch.arange(10.0).view(5, 2)])
def test_what_temporal_data_has_no_place_for_comes_back_by_options(msg: Tensor | None) -> None:
    options: dict[str, Any] = {
        "num_nodes": 7,
        "node_names": ["ada", "bob", "eve", "x", "y", "z", "nobody"],
        "dst_range": (3, 6),
        "node_features": torch.rand(7, 2),
        "name": "log",
        "left_out": {"self-loops": 2},
    }
    stream = make(msg=msg, edge_type=T([0, 1, 0, 1, 1]), y=T([0.5, 1, 2, 3, 4]), **options)
    data = stream[1:].to_temporal_data()
    assert set(data.keys()) <= set(COLUMNS)
    assert_equal(stream[1:], EventStream.from_temporal_data(data, first=1, **options))
    bare = EventStream.from_temporal_data(data)
    assert (bare.num_nodes, bare.node_names, bare.dst_range, bare.name) == (5, None, None, "stream")


def test_columns_of_temporal_data_are_arrays_or_tensors() -> None:
    data = make().to_temporal_data()
    data.src = np.array([0, 1, 0, 2, 1], dtype=np.int32)
    assert same(EventStream.from_temporal_data(data).src, make().src)
    data.src = np.array(["a", "b", "a", "c", "b"])
    with pytest.raises(ArgumentError, match=r"data.src: expected an array of whole numbers, got <U1 \[5\], the first"):
        EventStream.from_temporal_data(data)
    data.src = make().src > 0
    with pytest.raises(ArgumentError, match=r"data.src: expected whole numbers, got bool \[5\]"):
        EventStream.from_temporal_data(data)


def tgb(**changes: Any) -> dict[str, Any]:
    arrays: dict[str, Any] = {"sources": np.array([0, 1, 0]), "destinations": np.array([2, 3, 3])}
    arrays |= {"timestamps": np.array([5, 6, 8]), "edge_feat": np.arange(6.0).reshape(3, 2), "w": np.ones(3)}
    return {**arrays, **changes}


def test_from_tgb_takes_arrays_in_any_order_of_rows_and_bytes() -> None:
    want = EventStream.from_tgb(tgb())
    backwards = {name: np.ascontiguousarray(column[::-1])[::-1] for name, column in tgb().items()}
    assert_equal(want, EventStream.from_tgb(backwards))
    big = {name: column.astype(column.dtype.newbyteorder(">")) for name, column in tgb().items()}
    assert_equal(want, EventStream.from_tgb(big))
    assert_equal(want, EventStream.from_tgb(tgb(sources=np.array([0, 1, 0], dtype=np.uint32))))
    assert_equal(want, EventStream.from_tgb(tgb(edge_feat=np.asfortranarray(np.arange(6.0).reshape(3, 2)))))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"sources": np.array(["a", "b", "a"])},
            r"data\['sources'\]: expected an array of whole numbers, got <U1 \[3\]",
        ),
        ({"destinations": np.array([1, 2, None])}, r"data\['destinations'\]: .* whole numbers, got object .* first 1"),
        ({"sources": np.array([0.0, 1, 0])}, r"data\['sources'\]: .* whole numbers, got float64"),
        ({"sources": np.array([True, False, True])}, r"data\['sources'\]: .* whole numbers, got bool"),
        ({"timestamps": np.array(["1", "2", "3"])}, r"data\['timestamps'\]: expected an array of numbers, got <U1"),
        ({"timestamps": np.array([0, 1, 2], dtype="M8[s]")}, r"data\['timestamps'\]: .* numbers, got datetime64"),
        ({"timestamps": np.array([0, 1, 2**63], dtype=np.uint64)}, r"data\['timestamps'\]: .* got 9223372036854775808"),
        ({"timestamps": np.array([0, 1, 2], dtype=np.float32)}, "t: expected int64 or float64"),
        ({"edge_feat": np.array([["a"], ["b"], ["c"]])}, r"data\['edge_feat'\]: expected an array of numbers"),
        ({"w": np.array([1j, 2, 3])}, r"data\['w'\]: expected an array of numbers"),
        ({"sources": np.array([-1, 1, 0])}, r"src: expected ids in \[0, 4\), found -1"),
    ],
)
def test_from_tgb_names_the_column_that_does_not_fit(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        EventStream.from_tgb(tgb(**changes))


def test_extend() -> None:
    stream = make()
    whole = stream[:2].extend(stream[2:])
    assert all(same(getattr(stream, n), getattr(whole, n)) for n in ("src", "dst", "t", "msg", "weight"))
    with pytest.raises(ArgumentError, match="from time 9 on, got 0"):
        stream.extend(stream)
    with pytest.raises(ArgumentError, match="msg is in one of the streams only"):
        stream[:2].extend(make(msg=None)[2:])


def named(names: Any, first: int = 0) -> EventStream:
    nodes = 2 if names is None else len(names)
    return EventStream(T([0, 1]), T([1, nodes - 1]), T([first, first + 1]), nodes, node_names=names)


NAMES = ["ada", "bob", "eve"]


@pytest.mark.parametrize(
    ("names", "others"),
    [
        (NAMES, NAMES),
        (NAMES[:2], NAMES),
        (NAMES, NAMES[:2]),
        (np.array(NAMES), tuple(NAMES[:2])),
        (np.array(NAMES[:2], dtype=object), pd.Series(NAMES, dtype="string")),
        (np.array([7, 8]), [7, 8, 9]),
        (None, None),
    ],
)
def test_extend_keeps_the_longer_names(names: Any, others: Any) -> None:
    whole = named(names).extend(named(others, 2))
    assert len(whole) == 4
    if names is None:
        assert whole.node_names is None
    else:
        longer = max(names, others, key=len)
        assert whole.node_names is longer
        assert whole.num_nodes == len(longer)


@pytest.mark.parametrize(
    ("names", "others", "message"),
    [
        (["ada", "bob"], ["eve", "zoe"], "'ada' in this stream and 'eve' in the later events for node 0 .2 such"),
        (np.array(NAMES), NAMES[:1] + ["zoe"], "got 'bob' in this stream and 'zoe' in the later events for node 1"),
        ([1, 2], ["1", "2"], "got 1 in this stream and '1' in the later events for node 0"),
        (np.array([1, 2]), np.array(["1", "2"]), "got 1 in this stream and '1' in the later events for node 0"),
        (["ada", "bob"], None, "those of this stream only; give both the same names, or none"),
        (None, ["ada", "bob"], "those of the later events only; give both"),
    ],
)
def test_extend_refuses_nodes_of_other_names(names: Any, others: Any, message: str) -> None:
    with pytest.raises(ArgumentError, match=f"later: .*{message}"):
        named(names).extend(named(others, 2))


def test_extend_takes_slices_of_one_stream() -> None:
    whole = named(NAMES)
    assert whole[:1].extend(whole[1:]).node_names is whole.node_names
