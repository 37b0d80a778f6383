"""StreamPredictor: the order of events, growth, and going on from what was saved."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_event_task import ALL, LEARNING, NODES, make_model, make_stream, make_task
from torch import Tensor

from graphmem.data.names import NodeNames
from graphmem.data.stream import EventStream
from graphmem.data.stream_splits import split_stream
from graphmem.engine import StreamPredictor, online
from graphmem.engine.evaluation import evaluating
from graphmem.engine.event_scores import EventScores
from graphmem.engine.lateness import Events, LatenessBuffer
from graphmem.errors import ArgumentError, ArgumentTypeError, CheckpointError, LateEventError
from graphmem.models import TGN, TemporalLinkModel

MESSAGES = {name: 2 if name in (*LEARNING, "tgn, mixed") else 0 for name in ALL}


def warmed(name: str, events: EventStream) -> TemporalLinkModel:
    """A model that has seen some events in training mode, so that mail waits."""
    model = make_model(name, MESSAGES[name])
    model.prepare(events)
    with torch.no_grad():
        for low in range(0, len(events), 16):
            model.update(events[low : low + 16])
    return model


def stream(name: str, **options: Any) -> EventStream:
    return make_stream(msg_dim=MESSAGES[name], **options)


def bits(predictor: StreamPredictor) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in predictor.model.state_dict().items()}


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for key, value in one.items():
        assert torch.equal(value, other[key]), key


@pytest.mark.parametrize("name", ALL)
def test_scores_are_those_of_the_evaluation(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bit for bit, though the evaluation scores negatives in the same call and knows the whole stream."""
    whole = stream(name)
    split = split_stream(whole)
    task = make_task(split, metrics=("ap",), eval_negatives=("random",), ranking_negatives=None)
    seen: list[Tensor] = []
    model = warmed(name, split.train)
    add = EventScores.add

    def noted(self: EventScores, pos: Tensor, neg: Any, ranking: Tensor | None) -> None:
        seen.append(torch.cat((pos.unsqueeze(1), neg["random"]), 1))
        add(self, pos, neg, ranking)

    monkeypatch.setattr(EventScores, "add", noted)
    with evaluating(model):
        for period in ("valid", "test"):
            task.evaluate(model, period)
    model.prepare(whole)
    predictor = StreamPredictor(model, names=NodeNames(NODES), latest=split.train.t[-1].item())
    negatives = task.eval_negatives["random"]
    for events in (split.valid, split.test):
        for low in range(0, len(events), task.batch_size):
            batch = events[low : low + task.batch_size]
            drawn = negatives.draw(batch, 0)[1]
            assert torch.equal(predictor.step(batch, candidates=drawn), seen.pop(0))
    assert seen == []
    assert predictor.num_events == len(whole)


@pytest.mark.parametrize("name", ALL)
def test_predictions_write_nothing(name: str) -> None:
    events = stream(name)
    predictor = StreamPredictor(warmed(name, events[:100]), names=NodeNames(NODES))
    predictor.update(events[100:110])
    before = bits(predictor)
    many = predictor.predict([0, 3, NODES + 5], [[13, 14], [15, 99], [16, 17]], [500, 500, 501])
    one = predictor.predict(3, [15, 99], 500)
    assert torch.equal(many[1], one)
    assert not many.requires_grad
    assert not many.is_inference()
    assert_same(before, bits(predictor))
    assert len(predictor.names) == NODES


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("spare", [1, 64])
def test_growth_is_as_if_the_nodes_had_been_there(name: str, spare: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model of half of the nodes, whose others arrive one by one, against one that was built with all."""
    monkeypatch.setattr(online, "_SPARE_ROWS", spare)
    whole = stream(name)
    order = torch.stack((whole.src, whole.dst), 1).view(-1).tolist()
    rank = {node: place for place, node in enumerate(dict.fromkeys(order))}
    place = torch.tensor([rank.get(node, 0) for node in range(NODES)])
    events = EventStream(place[whole.src], place[whole.dst], whole.t, NODES, msg=whole.msg, weight=whole.weight)
    known = int(max(events.src[:20].max(), events.dst[:20].max())) + 1
    assert known < NODES - 4
    grown, full = make_model(name, MESSAGES[name], known), make_model(name, MESSAGES[name])
    one, other = StreamPredictor(grown), StreamPredictor(full)
    one.update(events[:20])
    other.update(events[:20])
    for low in range(20, len(events), 7):
        batch = events[low : low + 7]
        question = (batch.src, torch.arange(NODES).expand(len(batch), -1), batch.t)
        assert torch.equal(one.predict(*question), other.predict(*question))
        assert torch.equal(one.step(batch), other.step(batch))
        assert grown.num_nodes == 0 or len(one.names) < grown.num_nodes <= len(one.names) * 5 // 4 + spare
    assert len(one.names) == len(rank)


def brute_force(times: list[int], lateness: int, cuts: list[int]) -> tuple[list[list[int]], int | None]:
    """Which events enter with each call, one event after the other; and the first that is too late."""
    waiting: list[int] = []
    batches = []
    latest = None
    for low, high in zip(cuts[:-1], cuts[1:], strict=True):
        for event in range(low, high):
            if latest is not None and times[event] < latest - lateness:
                return batches, event
            latest = times[event] if latest is None else max(latest, times[event])
            waiting.append(event)
        ready = [event for event in waiting if latest is not None and times[event] <= latest - lateness]
        waiting = [event for event in waiting if event not in ready]
        batches.append(sorted(ready, key=lambda event: (times[event], event)))
    return batches, None


@st.composite
def arrivals(draw: st.DrawFn) -> tuple[list[int], int, list[int]]:
    lateness = draw(st.integers(0, 6))
    steps = draw(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 7)), min_size=1, max_size=30))
    now, times = 0, []
    for forward, back in steps:
        now += forward
        times.append(now - min(back, lateness + draw(st.integers(0, 20)) // 20))
    inner = draw(st.sets(st.integers(1, len(times)), max_size=8))
    return times, lateness, sorted({0, *inner, len(times)})


@given(arrivals(), st.sampled_from([torch.int64, torch.float64]))
@settings(max_examples=300)
def test_lateness_buffer_against_one_event_after_the_other(
    case: tuple[list[int], int, list[int]], dtype: torch.dtype
) -> None:
    times, lateness, cuts = case
    expected, too_late = brute_force(times, lateness, cuts)
    buffer = LatenessBuffer(lateness, dtype=dtype)
    t = torch.tensor(times, dtype=dtype)
    entered: list[int] = []
    for number, (low, high) in enumerate(zip(cuts[:-1], cuts[1:], strict=True)):
        if number == len(expected):
            with pytest.raises(LateEventError) as error:
                buffer.check(t[low:high].numpy())
            assert error.value.event == too_late - low  # type: ignore[operator]
            break
        buffer.check(t[low:high].numpy())
        index = torch.arange(low, high)
        out = buffer.push(Events(index, index + 100, t[low:high], index.view(-1, 1).float()))
        assert out.src.tolist() == expected[number]
        assert torch.equal(out.t, t[out.src])
        assert torch.equal(out.dst, out.src + 100)
        assert out.msg is not None
        assert torch.equal(out.msg.view(-1), out.src.float())
        entered += out.src.tolist()
        assert len(buffer) == high - len(entered)
        again = LatenessBuffer(dtype=dtype)
        again.restore(buffer.to_plain(), torch.device("cpu"))
        buffer = again
    else:
        rest = buffer.flush()
        entered += [] if rest is None else rest.src.tolist()
        assert entered == sorted(range(len(times)), key=lambda event: (times[event], event))
        assert len(buffer) == 0
        with pytest.raises(LateEventError):
            buffer.check(np.array([max(times) - 1], dtype=t.numpy().dtype))
        buffer.check(np.array([max(times)], dtype=t.numpy().dtype))


def test_events_that_wait_enter_before_others_where_lateness_ends() -> None:
    """As after `load(path, lateness=0)` of a predictor with waiting events."""
    buffer = LatenessBuffer(4)
    index, t = torch.arange(3), torch.tensor([10, 12, 9])
    assert len(buffer.push(Events(index, index, t, None))) == 0
    buffer.restore({**buffer.to_plain(), "lateness": 0}, torch.device("cpu"))
    buffer.check(np.array([12]))
    assert buffer.push(Events(index[:1], index[:1], t[1:2], None)).t.tolist() == [9, 10, 12, 12]
    assert len(buffer) == 0


@pytest.mark.parametrize("name", ALL)
def test_step_is_a_prediction_and_an_update(name: str) -> None:
    """Of known nodes, where the model does both at once, and of new ones."""
    events, known = stream(name, count=120), NODES - 3
    together, apart = (StreamPredictor(make_model(name, MESSAGES[name], known)) for _ in range(2))
    g = torch.Generator().manual_seed(3)
    for low in range(0, 120, 8):
        batch = events[low : low + 8]
        others = torch.randint(NODES, (8, 3), generator=g).numpy()
        scores = together.step(batch, others)
        asked = np.concatenate((batch.dst.view(-1, 1).numpy(), others), 1)
        assert torch.equal(scores, apart.predict(batch.src.numpy(), asked, batch.t.numpy()))
        apart.update(batch)
    assert_same(bits(together), bits(apart))


def test_late_events_enter_in_order() -> None:
    """A shuffled stream gives the state and the scores of the one that was in order, once everything is in."""
    events = stream("tgn", count=120)
    g = torch.Generator().manual_seed(1)
    lateness = 6
    order = (events.t + torch.randint(lateness, (120,), generator=g)).argsort(stable=True)
    shuffled = [column[order] for column in (events.src, events.dst, events.t, events.msg)]  # type: ignore[index]
    late, straight = StreamPredictor(make_model("tgn", 2), lateness=lateness), StreamPredictor(make_model("tgn", 2))
    for k in range(120):
        before = late.num_events
        late.step(tuple(column[k : k + 1] for column in shuffled))
        entered = late.num_events - before
        # Equal times enter as they came.
        assert late.num_events + late.num_waiting == k + 1
        if entered:
            low = late.num_events - entered
            part = torch.sort(events.t[order], stable=True).indices[low : low + entered]
            straight.update(tuple(column[part] for column in shuffled))
    late.flush()
    part = torch.sort(events.t[order], stable=True).indices[straight.num_events :]
    straight.update(tuple(column[part] for column in shuffled))
    assert late.num_events == 120
    assert_same(bits(late), bits(straight))
    with pytest.raises(LateEventError, match="from .* on .* with a lateness of 6"):
        late.update((0, 13, int(events.t[-1]) - 1, [0.0, 0.0]))


@pytest.mark.parametrize("name", ALL)
def test_saved_and_loaded_gives_the_same_bits(name: str, tmp_path: Path) -> None:
    events = stream(name)
    text = [
        np.array([f"{side}{node}" for node in end.tolist()]) for side, end in (("u", events.src), ("i", events.dst))
    ]
    names = NodeNames(names=["u0", "i12"], is_dst=[False, True])

    def part(low: int, high: int) -> tuple[Any, ...]:
        assert events.weight is not None
        msg = None if events.msg is None else events.msg[low:high]
        late = events.t[low:high] - (torch.arange(low, high) % 3)
        return text[0][low:high], text[1][low:high], late, msg, events.weight[low:high]

    whole = StreamPredictor(make_model(name, MESSAGES[name], 2), names=names, lateness=4)
    for low in range(0, 120, 8):
        whole.step(part(low, low + 8))
    assert whole.num_waiting > 0
    whole.extra["read"] = 120
    whole.save(tmp_path / "state")
    torch.manual_seed(99)
    torch.rand(1)
    loaded = StreamPredictor.load(tmp_path / "state", model=make_model(name, MESSAGES[name], 2))
    assert loaded.extra == {"read": 120}
    assert (loaded.lateness, loaded.latest, loaded.num_waiting) == (4, whole.latest, whole.num_waiting)
    assert_same(bits(whole), bits(loaded))
    for low in range(120, 240, 8):
        assert torch.equal(whole.step(part(low, low + 8)), loaded.step(part(low, low + 8)))
    assert_same(bits(whole), bits(loaded))
    assert whole.names.to_plain() == loaded.names.to_plain()
    with pytest.raises(CheckpointError, match="expected `model`"):
        StreamPredictor.load(tmp_path / "state")


def test_messages_that_nothing_refers_to_are_dropped() -> None:
    events = stream("tgn", count=2000)
    predictor = StreamPredictor(make_model("tgn", 2))
    held = []
    for low in range(0, 2000, 10):
        predictor.update(events[low : low + 10])
        model = predictor.model
        assert isinstance(model, TGN)
        assert model.messages is not None
        held.append(model.messages.eid.numel())
        referred = model.neighbors.events()
        found = model.messages.msg[model.messages.find(referred)]
        assert torch.equal(found, events.msg[referred])  # type: ignore[index]
    live, rows = 3 * NODES, predictor.model.num_nodes
    assert max(held) <= 2 * live + rows + 10
    assert len(set(held)) < 20  # not a new store for every batch


BAD = {
    "no columns": (([0], [1]), ArgumentTypeError, "events: expected an EventStream"),
    "lengths": (([0, 1], [13], [5]), ArgumentError, r"columns \[E\] of one length, got \[2\], \[1\], \[1\]"),
    "table": (([[0]], [[13]], [[5]]), ArgumentError, "one length"),
    "text among numbers": ((["a"], [13], [5]), ArgumentError, "named by whole numbers, got text"),
    "fraction as a name": (([0.5], [13], [5]), ArgumentError, "expected whole numbers or text, got 0.5"),
    "negative number": (([-1], [13], [5]), ArgumentError, "numbers of nodes from 0 on, got -1"),
    "fraction as a time": (([0], [13], [5.5]), ArgumentError, "expected whole times"),
    "float32 as a time": (([0], [13], np.float32([5])), ArgumentError, "float32"),
    "text as a time": (([0], [13], ["5"]), ArgumentError, "t: expected whole or float64"),
    "no number as a time": (([0], [13], [float("nan")]), ArgumentError, "expected whole times"),
    "huge time": (([0], [13], [2**62]), ArgumentError, "below 2"),
    "going back": (([0, 1, 2], [13, 13, 13], [7, 9, 8]), LateEventError, "got 8 for event 2"),
    "too late": ((0, 13, 4), LateEventError, "from 5 on"),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("call", ["update", "step"])
def test_bad_events_change_nothing(case: str, call: str) -> None:
    events, kind, message = BAD[case]
    predictor = StreamPredictor(make_model("tgn"))
    predictor.update(([3, 4], [13, 14], [5, 5]))
    before = bits(predictor)
    with pytest.raises(kind, match=message):
        getattr(predictor, call)(events)
    assert_same(before, bits(predictor))
    assert (predictor.latest, len(predictor.names), predictor.num_events) == (5, NODES, 2)


@pytest.mark.parametrize("name", ["semba", "reputation"])
def test_signs_are_asked_for(name: str) -> None:
    predictor = StreamPredictor(make_model(name))
    before = {key: value.clone() for key, value in predictor.model.state_dict().items()}
    for weight, named in ((None, "weight: expected signed weights"), ([1, 0], "other than 0"), ([1], "weight")):
        with pytest.raises(ArgumentError, match=named):
            predictor.update(([0, 1], [2, 3], [10, 11], None, weight))
    assert all(torch.equal(before[key], value) for key, value in predictor.model.state_dict().items())
    predictor.update(([0, 1], [2, 3], [10, 11], None, [1, -2]))
    assert predictor.num_events == 2


def test_bad_messages_and_questions() -> None:
    predictor = StreamPredictor(make_model("tgn", 2))
    for msg, message in (
        (None, r"expected messages \[1, 2\], got none"),
        ([1.0, 2.0, 3.0], "msg: expected float32"),
        ([[1.0, float("inf")]], "msg: expected finite"),
    ):
        with pytest.raises(ArgumentError, match=message):
            predictor.update(([0], [13], [5], msg))
    for question in (([0, 1], [[13]], [5, 5]), (0, [[13]], 5), ([0], [13], [5]), ([0], [[13]], 5)):
        with pytest.raises(ArgumentError, match="src, candidates, t: expected shapes"):
            predictor.predict(*question)
    with pytest.raises(ArgumentError, match="candidates: expected"):
        predictor.step(([0], [13], [5], [[1.0, 2.0]]), candidates=[13])
    with pytest.raises(ArgumentError, match="at most those of 24 nodes, got 30"):
        StreamPredictor(make_model("tgn"), names=NodeNames(30))
    for lateness in (-1, 0.5, float("inf")):
        with pytest.raises(ArgumentError, match="lateness: expected"):
            StreamPredictor(make_model("tgn"), lateness=lateness)
    assert StreamPredictor(TGN(3, time_dtype=torch.float64), lateness=0.5).lateness == 0.5
    seen = warmed("edgebank", stream("edgebank"))
    with pytest.raises(ArgumentError, match="names: expected those of the events that EdgeBank has seen"):
        StreamPredictor(seen)


@pytest.mark.parametrize("kind", ["list", "array of objects", "array of text", "column"])
def test_a_stream_with_names_of_text(kind: str, tmp_path: Path) -> None:
    """As load_stream reads a file: its names are an array of objects."""
    listed = [f"n{node}" for node in range(NODES)]
    kinds: dict[str, Any] = {"list": listed, "array of objects": np.array(listed, dtype=object)}
    kinds |= {"array of text": np.array(listed), "column": pd.Series(listed, dtype="string")}
    numbered = stream("tgn")
    named = dataclasses.replace(numbered, node_names=kinds[kind], dst_range=None)
    one = StreamPredictor(make_model("tgn", 2), names=NodeNames.of(named))
    other = StreamPredictor(make_model("tgn", 2))
    for predictor, events in ((one, named), (other, numbered)):
        predictor.update(events[:50])
    assert torch.equal(one.step(named[50:60]), other.step(numbered[50:60]))
    asked = kinds[kind][13:15]
    assert torch.equal(one.predict("n0", asked, 10**6), other.predict(0, [13, 14], 10**6))
    frame = pd.DataFrame({"src": ["n0", "new"], "dst": ["n1", "n0"], "t": [10**6, 10**6]})
    rows = np.zeros((2, 2))
    scores = one.step((frame.src, frame.dst.astype("string"), frame.t, rows))
    assert torch.equal(scores, other.step(([0, NODES], [1, 0], [10**6] * 2, rows)))
    one.save(tmp_path)
    assert StreamPredictor.load(tmp_path, model=make_model("tgn", 2)).names.find("new") == NODES


def test_lists_of_both_kinds_of_names_are_refused() -> None:
    predictor = StreamPredictor(make_model("tgn", 2), names=NodeNames(names=["a", "5"]))
    with pytest.raises(ArgumentError, match="names: expected whole numbers or text, not both, got 'a' and 5"):
        predictor.predict(["a", 5], [["a"], ["a"]], [1, 1])
    with pytest.raises(ArgumentError, match="not both"):
        predictor.update((["a", 5], ["a", "a"], [1, 1], np.zeros((2, 2))))
