"""TemporalLinkTask: its order, its negatives and its numbers, each against a direct computation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphmem.data.event_negatives import EventNegatives
from graphmem.data.stream import EventStream
from graphmem.data.stream_splits import StreamSplit, split_stream
from graphmem.engine import Callback, Trainer
from graphmem.engine.conformance import check_task
from graphmem.engine.evaluation import evaluate
from graphmem.engine.event_task import TemporalLinkTask
from graphmem.engine.metrics import auc, average_precision, ranks
from graphmem.engine.stream_config import SIGNED_HEURISTICS, STREAM_HEURISTICS
from graphmem.errors import ArgumentError, ArgumentTypeError
from graphmem.models import (
    APAN,
    JODIE,
    NAT,
    SEMBA,
    TGN,
    TNCN,
    DyRep,
    EdgeBank,
    LocalGlobal,
    Recency,
    Reputation,
    TemporalLinkModel,
)
from graphmem.nn import TemporalNeighbors

NODES = 24


def make_stream(seed: int = 0, count: int = 240, late: int = 3, msg_dim: int = 0) -> EventStream:
    g = torch.Generator().manual_seed(seed)
    src, dst = ((NODES // 2) * torch.rand(2, count, generator=g) ** 1.5).long()
    t = torch.randint(late, (count,), generator=g).cumsum(0)
    msg = torch.randn(count, msg_dim, generator=g) if msg_dim else None
    weight = 1 + torch.arange(count) % 3 - 5.0 * (torch.rand(count, generator=g) < 0.3)
    return EventStream(src, NODES // 2 + dst, t, NODES, msg=msg, weight=weight, dst_range=(NODES // 2, NODES))


SPLIT = split_stream(make_stream())


def make_task(split: StreamSplit = SPLIT, **options: Any) -> TemporalLinkTask:
    defaults = {"batch_size": 16, "metrics": ("ap", "auc", "ap_batch", "mrr", "hits@3")}
    defaults |= {"eval_negatives": ("random", "historical"), "ranking_negatives": "random", "num_ranking_negatives": 7}
    return TemporalLinkTask(split, **{**defaults, **options})


def make_model(name: str, msg_dim: int = 0, nodes: int = NODES, **options: Any) -> TemporalLinkModel:
    """A small model; ``options`` are those of the node memory where it has one."""
    torch.manual_seed(0)
    small = {"memory_dim": 8, "time_dim": 8, **options}
    if name == "dyrep":
        return DyRep(nodes, msg_dim, **small, num_neighbors=3)
    if name == "tncn":
        return TNCN(nodes, msg_dim, **small, embedding_dim=8, num_neighbors=3, hops="0-1")
    if name == "tgn, mixed":
        neighbors = TemporalNeighbors(nodes)
        return TGN(nodes, msg_dim, **small, embedding_dim=8, num_neighbors=3, delta="query", neighbors=neighbors)
    if name == "tgn":
        return TGN(nodes, msg_dim, **small, embedding_dim=8, num_neighbors=3)
    if name == "jodie":
        return JODIE(nodes, msg_dim, **small, time_scale=10.0)
    if name == "apan":
        return APAN(nodes, msg_dim, embedding_dim=8, time_dim=8, mailbox=3, num_neighbors=2)
    if name == "nat":
        return NAT(nodes, msg_dim, **small, sizes=(4, 2))
    if name == "semba":
        return SEMBA(nodes, msg_dim, **small, embedding_dim=8, heads=2, num_neighbors=3, hidden_channels=8)
    if name == "reputation":
        return Reputation(nodes)
    if name == "localglobal":
        return LocalGlobal(nodes)
    return EdgeBank() if name == "edgebank" else Recency(nodes, name)


LEARNING = ("tgn", "tncn", "dyrep", "jodie", "apan", "nat", "semba")
ALL = (*LEARNING, "tgn, mixed", *STREAM_HEURISTICS, *SIGNED_HEURISTICS)


@pytest.mark.parametrize("name", LEARNING)
@pytest.mark.parametrize("msg_dim", [0, 2])
def test_the_contract_of_a_task(name: str, msg_dim: int) -> None:
    check_task(make_task(split_stream(make_stream(msg_dim=msg_dim))), make_model(name, msg_dim))


@pytest.mark.parametrize("msg_dim", [0, 2])
def test_the_contract_of_a_task_with_neighbours_of_the_batch(msg_dim: int) -> None:
    task = make_task(split_stream(make_stream(msg_dim=msg_dim)), visibility="mixed")
    check_task(task, make_model("tgn, mixed", msg_dim))


class Diary(TemporalLinkModel):
    """Writes down what it is asked and shown; its scores are fixed numbers of pair and time."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[int, Tensor, Tensor, Tensor]] = []
        self.weight = nn.Parameter(torch.ones(()))

    def score(self, src: Tensor, dst: Tensor, t: Tensor) -> Tensor:
        self.asked.append((int(self.position), src, dst, t))
        return self.weight * torch.sin(src.unsqueeze(1) * 3.7 + dst * 1.3 + t.unsqueeze(1))

    def update(self, events: EventStream) -> None:
        assert int(self.position) == events.first
        self._advance(events)


def value(src: Tensor, dst: Tensor, t: Tensor) -> Tensor:
    return torch.sin(src * 3.7 + dst * 1.3 + t)


def test_predict_then_update() -> None:
    task, model = make_task(), Diary()
    task.reset(model)
    seen = 0
    for batch in task.batches("train", 1):
        model.asked.clear()
        loss = task.loss(model, batch)
        assert all(position == batch.events.first == seen for position, *_ in model.asked)
        e = batch.events
        pos, neg = value(e.src, e.dst, e.t), value(e.src, batch.dst[:, 0], e.t)
        torch.testing.assert_close(loss, F.softplus(-pos).mean() + F.softplus(neg).mean())
        task.update(model, batch)
        seen += len(e)
    assert seen == len(SPLIT.train)
    assert task.num_batches("train", 1) == -(-seen // 16)


@pytest.mark.parametrize("visibility", ["batch", "event"])
def test_numbers_of_a_period(visibility: str) -> None:
    task = make_task(visibility=visibility, groups=("transductive", "new", "new_old", "new_new"))
    model = Diary()
    record = evaluate(model, task)
    assert int(model.position) == 0  # put back
    assert len(record) == 2 * 5 * (2 * 3 + 2)  # no name stands for two numbers
    for period in ("valid", "test"):
        events = getattr(SPLIT, period)
        e = events
        if visibility == "event":
            bounds = [0, *((e.t[1:] != e.t[:-1]).nonzero().flatten() + 1).tolist(), len(e)]
        else:
            bounds = [*range(0, len(e), 16), len(e)]
        parts = [e[a:b] for a, b in zip(bounds[:-1], bounds[1:], strict=True)]
        samplers = {kind: EventNegatives(SPLIT, kind, seed=42, k=1) for kind in ("random", "historical")}
        pos = value(e.src, e.dst, e.t)
        neg = {}
        for kind, sampler in samplers.items():
            found = []
            for part in parts:
                src, dst = sampler.draw(part, 0)
                found.append(value(part.src if src is None else src[:, 0], dst[:, 0], part.t))
            neg[kind] = torch.cat(found)
        many = torch.cat([EventNegatives(SPLIT, "random", seed=42, k=7).draw(part, 0)[1] for part in parts])
        rank = ranks(pos, value(e.src.unsqueeze(1), many, e.t.unsqueeze(1)))
        new = SPLIT.new_nodes[e.src].long() + SPLIT.new_nodes[e.dst].long()
        masks = {"": new >= 0, "transductive.": new == 0, "new.": new > 0, "new_old.": new == 1}
        for group, mask in masks.items():
            for kind, prefix in (("random", ""), ("historical", "historical.")):
                key = f"{period}/{prefix}{group}"
                if not bool(mask.any()):
                    assert record[f"{key}ap"] != record[f"{key}ap"]
                    continue
                assert record[f"{key}ap"] == pytest.approx(average_precision(pos[mask], neg[kind][mask]))
                assert record[f"{key}auc"] == pytest.approx(auc(pos[mask], neg[kind][mask]))
            if bool(mask.any()):
                assert record[f"{period}/{group}mrr"] == pytest.approx(float((1 / rank[mask]).mean()))
                assert record[f"{period}/{group}hits@3"] == pytest.approx(float((rank[mask] <= 3).double().mean()))
        means = [average_precision(pos[a:b], neg["random"][a:b]) for a, b in zip(bounds[:-1], bounds[1:], strict=True)]
        assert record[f"{period}/ap_batch"] == pytest.approx(sum(means) / len(means))


def test_visibility_is_what_was_shown() -> None:
    for visibility in ("batch", "event"):
        task, model = make_task(visibility=visibility), Diary()
        with torch.no_grad():
            task.evaluate(model, "valid")
        first, times = SPLIT.valid.first, SPLIT.stream.t
        for position, _, _, t in model.asked:
            if visibility == "event":  # everything strictly before the question, and nothing else
                assert {int((times < moment).sum()) for moment in t.tolist()} == {max(position, 0)} or position == first
                assert position <= int((times < t.min()).sum()) or position == first
            else:
                assert (position - first) % 16 == 0


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("change", ["msg", "dst", "src", "weight"])
def test_an_event_does_not_show_before_it_happened(name: str, change: str) -> None:
    """Scores of all events up to the changed one stay the same, to the bit; something behind it may change."""
    stream = make_stream(msg_dim=2)
    at = SPLIT.valid.first + 20
    fields = {name: getattr(stream, name).clone() for name in ("src", "dst", "msg", "weight")}
    if change == "msg":
        fields["msg"][at] += 10.0
    elif change == "weight":
        fields["weight"][at] *= -10.0
    else:
        low = 0 if change == "src" else NODES // 2
        fields[change][at] = low + (fields[change][at] - low + 1) % (NODES // 2)
    other = EventStream(t=stream.t, num_nodes=NODES, dst_range=stream.dst_range, **fields)
    model = make_model(name, 2)
    scores = []
    for one in (stream, other):
        model.eval()
        make_task(split_stream(one)).reset(model)
        out = []
        with torch.no_grad():
            for low in range(0, len(one), 8):
                part = one[low : low + 8]
                # The same questions to both.
                asked = stream[low : low + 8]
                candidates = torch.stack([asked.dst, torch.full_like(asked.dst, NODES - 1)], 1)
                out.append(model.score(asked.src, candidates, asked.t))
                model.update(part)
        scores.append(torch.cat(out))
    batch_end = at - at % 8 + 8
    assert torch.equal(scores[0][:batch_end], scores[1][:batch_end])
    reads = name == "semba" if change == "weight" else name in LEARNING
    assert not reads or not torch.equal(*scores)


@pytest.mark.parametrize("late", [1, 3])
def test_mixed_is_memory_of_the_batch_and_neighbours_of_the_moment(late: int) -> None:
    """Against a model that is shown, before each question, the links of the earlier events of its batch one by one."""
    stream = make_stream(late=late + 1, count=96, msg_dim=2)
    model, other = make_model("tgn, mixed", 2).eval(), make_model("tgn", 2).eval()
    assert isinstance(model, TGN)
    assert isinstance(other, TGN)
    other.load_state_dict({k: v for k, v in model.state_dict().items() if "neighbors" not in k}, strict=False)
    other.embeds_time = True  # delta="query"
    model.prepare(stream)
    other.prepare(stream)
    with torch.no_grad():
        for low in range(0, len(stream), 16):
            batch = stream[low : low + 16]
            candidates = torch.stack((batch.dst, batch.dst.flip(0)), 1)
            model.reveal(batch)
            found = model.score(batch.src, candidates, batch.t)
            known = low  # of the events, those strictly before the question
            for n, moment in enumerate(batch.t.tolist()):
                seen = max(int((stream.t < moment).sum()), known)
                part = stream[known:seen]
                other.neighbors.insert(part.src, part.dst, part.t, part.eid)
                known = seen
                expected = other.score(batch.src[n : n + 1], candidates[n : n + 1], batch.t[n : n + 1])
                if (
                    int((stream.t[:low] == moment).sum()) == 0
                ):  # else an earlier batch has shown the moment's own events
                    torch.testing.assert_close(found[n : n + 1], expected)
            rest = stream[known : low + 16]
            other.neighbors.insert(rest.src, rest.dst, rest.t, rest.eid)
            model.update(batch)
            super(TGN, other).update(batch)
            model.reveal(batch)  # nothing happens twice
            assert int(model.neighbors.next_event) == low + len(batch)


def test_mixed_of_one_event_a_batch_is_event() -> None:
    """Where no time comes twice, too, all three are the same."""
    stream = make_stream(count=80)
    stream = EventStream(stream.src, stream.dst, torch.arange(80), NODES, dst_range=stream.dst_range)
    records = []
    for visibility in ("mixed", "event", "batch"):
        task = make_task(split_stream(stream), visibility=visibility, batch_size=1)
        records.append(evaluate(make_model("tgn, mixed"), task))
    for key, value in records[0].items():
        assert all(other[key] == value or value != value for other in records[1:])


def test_ties_are_kept_where_asked() -> None:
    task, model = make_task(keep_ties=True), Diary()
    task.reset(model)
    for batch in task.batches("train", 1):
        task.loss(model, batch)
        task.update(model, batch)
    evaluate(model, task)
    for position, _, _, t in model.asked:
        assert position == 0 or SPLIT.stream.t[position - 1] < t.min()
    assert task.protocol["keep_ties"] is True
    assert "keep_ties" not in make_task().protocol
    start = task.num_batches("train", 1) - 1
    assert len(list(task.batches("train", 1, start=start))) == 1
    with pytest.raises(ArgumentError, match="^keep_ties: expected false with visibility="):
        make_task(keep_ties=True, visibility="mixed")


def test_mixed_needs_neighbours_in_time() -> None:
    for name in ("tgn", "jodie", "apan", "recency"):
        with pytest.raises(ArgumentError, match="visibility: .mixed. needs a model that reads neighbours"):
            evaluate(make_model(name), make_task(visibility="mixed"))
    with pytest.raises(ArgumentError, match="delta: expected .query. with TemporalNeighbors"):
        TGN(NODES, neighbors=TemporalNeighbors(NODES))


@pytest.mark.parametrize("name", ALL)
def test_evaluation_catches_up(name: str) -> None:
    """The test period alone gives what it gives behind the validation period."""
    task, model = make_task(), make_model(name)
    both = evaluate(model, task)
    alone = evaluate(model, task, ("test",))
    for key, found in alone.items():
        assert found == both[key] or found != found
    with torch.no_grad():
        model.eval()
        task.evaluate(model, "test")
        with pytest.raises(ArgumentError, match="from which event .* cannot be predicted"):
            task.evaluate(model, "valid")


@pytest.mark.parametrize("name", LEARNING)
def test_columns_in_any_memory_order(name: str) -> None:
    stream = make_stream(msg_dim=2)
    assert stream.msg is not None
    ends = torch.stack((stream.src, stream.dst), 1)
    columns: dict[str, Any] = {"msg": stream.msg.t().contiguous().t(), "weight": stream.weight}
    other = EventStream(*ends.unbind(1), stream.t, NODES, dst_range=(12, 24), **columns)
    records = [evaluate(make_model(name, 2), make_task(split_stream(one))) for one in (stream, other)]
    assert all(value == records[1][key] or value != value for key, value in records[0].items())


@pytest.mark.parametrize("name", [*LEARNING, "tgn, mixed"])
def test_an_epoch_goes_on_in_its_middle(name: str, tmp_path: Path) -> None:
    def fit(folder: Path, resume: bool = False, stop: int | None = None) -> dict[str, Any]:
        visibility = "mixed" if name == "tgn, mixed" else "batch"
        task, model = make_task(split_stream(make_stream(msg_dim=2)), visibility=visibility), make_model(name, 2)
        optimizer = torch.optim.Adam(model.parameters())
        options: dict[str, Any] = {"epochs": 2, "monitor": ("valid", "ap"), "seed": 0, "progress": False}
        trainer = Trainer(model, task, optimizer, checkpoint_dir=folder, checkpoint_every_steps=3, **options)
        if stop is not None:
            trainer.callbacks = (StopAt(stop),)
        trainer.fit(resume=resume)
        return model.state_dict()

    with pytest.raises(ZeroDivisionError):
        fit(tmp_path / "parts", stop=8)
    resumed, whole = fit(tmp_path / "parts", resume=True), fit(tmp_path / "whole")
    assert all(torch.equal(value, resumed[key]) for key, value in whole.items())


class StopAt(Callback):
    """Ends with an error that nothing catches, behind a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, trainer: Trainer, loss: float) -> None:
        if trainer.step == self.step:
            raise ZeroDivisionError


@pytest.mark.parametrize("name", ALL)
def test_no_question_has_no_answer(name: str) -> None:
    """A rank of several may have no event of a small batch."""
    model, task = make_model(name), make_task()
    task.reset(model)
    model.update(SPLIT.train)
    none = torch.empty(0, dtype=torch.int64)
    out = model.score(none, none.view(0, 3), none)
    assert out.shape == (0, 3)
    if name in LEARNING:
        out.sum().backward()
        assert all(p.grad is None or not p.grad.any() for p in model.parameters())


def test_heuristics_know_what_happened() -> None:
    stream = make_stream(count=400)
    task = make_task(split_stream(stream), eval_negatives=("random",), ranking_negatives=None, metrics=("ap", "auc"))
    for name in STREAM_HEURISTICS:
        assert evaluate(make_model(name), task)["test/auc"] > 0.5


def test_bad_input() -> None:
    with pytest.raises(ArgumentError, match="ranking_negatives: 'mrr' needs them"):
        make_task(ranking_negatives=None)
    for metrics in (("mrr",), ("ap",)):  # also where nothing asks for them
        with pytest.raises(ArgumentError, match="ranking_negatives: expected one of 'random'.*got 'some'"):
            make_task(ranking_negatives="some", metrics=metrics)
    with pytest.raises(ArgumentError, match="eval_negatives: 'ap' needs them"):
        make_task(eval_negatives=())
    with pytest.raises(ArgumentError, match="groups"):
        make_task(groups=("old",))
    with pytest.raises(ArgumentError, match="visibility"):
        make_task(visibility="none")
    with pytest.raises(ArgumentError, match="metrics"):
        make_task(metrics=())
    with pytest.raises(ArgumentError, match="trains on 'train', got 'valid'"):
        list(make_task().batches("valid", 1))
    with pytest.raises(ArgumentTypeError, match="TemporalLinkModel"):
        make_task().evaluate(nn.Linear(1, 1), "valid")


def test_protocol_names_everything() -> None:
    protocol = make_task(visibility="event").protocol
    assert protocol["visibility"] == "event"
    assert protocol["negatives"] == "random, historical"
    assert protocol["ranking_negatives"] == "7 random"
