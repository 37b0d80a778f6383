"""Events of single nodes: in a stream, its parts and splits."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from graphmem.data import EventStream, NodeEvents, read_events, read_node_events, split_stream
from graphmem.errors import ArgumentError, ArgumentTypeError, DatasetIntegrityError


def events(times: list[int], nodes: int = 5, **changes: Any) -> NodeEvents:
    t = torch.tensor(sorted(times), dtype=torch.int64)
    fields = {"node": torch.arange(t.numel()) % nodes, "t": t, "msg": torch.arange(2.0 * t.numel()).view(-1, 2)}
    return NodeEvents(**{**fields, **changes})


def stream(times: list[int], alone: NodeEvents | None) -> EventStream:
    t = torch.tensor(sorted(times), dtype=torch.int64)
    src = torch.arange(t.numel()) % 5
    return EventStream(src, (src + 1) % 5, t, 5, node_events=alone)


def listed(part: EventStream) -> list[tuple[int, int, float]]:
    alone = part.node_events
    assert alone is not None
    assert alone.msg is not None
    return list(zip(alone.node.tolist(), alone.t.tolist(), alone.msg[:, 0].tolist(), strict=True))


times = st.lists(st.integers(0, 12), max_size=12)


@given(times.filter(bool), times, st.lists(st.integers(0, 12), max_size=4), st.integers(0, 12))
def test_the_slices_of_a_partition_have_each_once(links: list[int], alone: list[int], cuts: list[int], at: int) -> None:
    whole = stream(links, events(alone))
    bounds = [0, *sorted(min(cut, len(whole)) for cut in cuts), len(whole)]
    parts = [whole[a:b] for a, b in pairwise(bounds)]
    assert [row for part in parts for row in listed(part)] == listed(whole)
    for part in (whole[a:b] for a, b in pairwise(bounds) if b < len(whole)):  # nothing from behind its last link
        assert all(t <= part.t[-1] for _, t, _ in listed(part))
    later, after = whole[min(at, len(whole)) :], min(at, len(whole))
    halves = [row for a, b in pairwise([0, len(later) // 2, len(later)]) for row in listed(later[a:b])]
    assert halves == listed(later)
    assert all(after == 0 or t > whole.t[after - 1] for _, t, _ in listed(later))


@given(times, times, st.integers(0, 12), st.integers(0, 12))
def test_between_is_by_time(links: list[int], alone: list[int], low: int, high: int) -> None:
    whole = stream(links, events(alone))
    assert listed(whole.between(low, high)) == [row for row in listed(whole) if low <= row[1] < high]


def test_whatever_makes_a_stream_of_a_stream_keeps_them() -> None:
    whole = stream([1, 2, 4, 8], events([0, 3, 9]))
    first, second = whole[:2], whole[2:]
    assert [len(listed(part)) for part in (first, second)] == [1, 2]
    assert listed(first.extend(second)) == listed(whole)
    assert listed(whole.select(torch.tensor([True, False, False, True]))) == listed(whole)
    assert listed(whole.to("cpu")) == listed(whole)
    assert "node_events=3" in repr(whole)
    assert len(whole) == 4
    assert whole.with_node_events(None).node_events is None
    signed = EventStream(whole.src, whole.dst, whole.t, 5, weight=torch.ones(4), node_events=whole.node_events)
    msg = signed.with_signed_messages().node_events.msg  # type: ignore[union-attr]
    assert msg is not None
    assert msg.shape == (3, 4)
    assert not msg[:, :2].any()
    with pytest.raises(ArgumentError, match=r"node_events: .*with_node_events\(None\)"):
        whole.to_temporal_data()


@pytest.mark.parametrize("protocol", ["time", "masked", "dyglib"])
def test_periods_of_a_split_have_theirs_and_hidden_nodes_have_none_in_training(protocol: str) -> None:
    generator = torch.Generator().manual_seed(0)
    src, dst = torch.randint(40, (2, 300), generator=generator)
    t = torch.arange(300)
    alone = NodeEvents(torch.arange(300) % 40, t)
    split = split_stream(EventStream(src, dst, t, 40, node_events=alone), protocol=protocol)
    parts = [period.node_events for period in (split.train, split.valid, split.test)]
    assert all(part is not None for part in parts)
    train, valid, test = parts
    assert int(train.t[-1]) <= int(split.train.t[-1])
    assert int(valid.t[-1]) <= int(split.valid.t[-1])
    assert len(valid) + len(test) == int((t > split.train.t[-1]).sum())  # type: ignore[arg-type]
    if protocol != "time":
        hidden = 40 - torch.cat((split.train.src, split.train.dst)).unique().numel()
        assert hidden
        assert not split.new_nodes[train.node].any()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"node": torch.tensor([0, -1])}, "node: .*at least 0"),
        ({"node": torch.tensor([0])}, "t: expected"),
        ({"t": torch.tensor([2, 1])}, "t: expected ascending"),
        ({"t": torch.tensor([1.0, torch.nan], dtype=torch.float64)}, "t: expected finite"),
        ({"t": torch.tensor([1.0, 2.0])}, "t: expected int64 or float64"),
        ({"msg": torch.tensor([[1.0], [torch.inf]])}, "msg: expected finite"),
        ({"msg": torch.zeros(3, 1)}, "msg: expected"),
    ],
)
def test_what_they_refuse(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        events([1, 2], **changes)


def test_what_a_stream_refuses() -> None:
    with pytest.raises(ArgumentError, match=r"node_events.node: expected ids in \[0, 5\)"):
        stream([1], events([1], node=torch.tensor([5])))
    with pytest.raises(ArgumentError, match="node_events: expected times as those of the stream"):
        stream([1], events([1], t=torch.tensor([1.0], dtype=torch.float64)))
    with pytest.raises(ArgumentTypeError, match="node_events: expected NodeEvents"):
        stream([1], [1])  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="later: msg"):
        events([1]).extend(events([2], msg=None))
    with pytest.raises(ArgumentTypeError, match="index"):
        events([1])[0]  # type: ignore[index]
    with pytest.raises(ArgumentError, match="y: expected finite numbers, got 1 others, the first in event 1"):
        EventStream(torch.zeros(2).long(), torch.ones(2).long(), torch.arange(2), 2, y=torch.tensor([1.0, torch.nan]))


def test_files_name_the_nodes_of_the_stream(tmp_path: Path) -> None:
    pd = pytest.importorskip("pandas")
    links = tmp_path / "links.csv"
    links.write_text("who,whom,when\nada,eve,1\nbob,ada,5\n")
    whole = read_events(links)
    frame = pd.DataFrame({"user": ["bob", "eve"], "when": [2, 4], "age": [0.5, 1.5], "size": [3.0, 4.0]})
    frame.to_csv(tmp_path / "alone.csv", index=False)
    for source in (frame, tmp_path / "alone.csv"):
        for columns in ((0, 1), ("user", "when")):
            found = read_node_events(source, whole, columns=columns, msg_from=2)
            assert found.t.tolist() == [2, 4]
            assert [whole.node_names[node] for node in found.node.tolist()] == ["bob", "eve"]  # type: ignore[index]
            assert found.msg is not None
            assert found.msg.tolist() == [[0.5, 3.0], [1.5, 4.0]]
            assert len(whole.with_node_events(found)[:1].node_events) == 0  # type: ignore[arg-type]
    unsorted = frame.iloc[::-1]
    assert read_node_events(unsorted, whole, sort=True).t.tolist() == [2, 4]
    with pytest.raises(DatasetIntegrityError, match="earlier than the one before"):
        read_node_events(unsorted, whole)
    with pytest.raises(DatasetIntegrityError, match=r"row 1: the stream has no node 'mia' \(1 such events\)"):
        read_node_events(frame.replace("eve", "mia"), whole)
    with pytest.raises(DatasetIntegrityError, match="expected whole times"):
        read_node_events(frame.assign(when=[2.5, 4.0]), whole)
    with pytest.raises(ArgumentError, match="columns: expected those of node and time"):
        read_node_events(frame, whole, columns=(0, 1, 2))
    with pytest.raises(ArgumentError, match="npz"):
        read_node_events("alone.npz", whole)
