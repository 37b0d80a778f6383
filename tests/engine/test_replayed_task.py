"""ReplayedLinkTask: nodes that were hidden are tested behind a past that has been shown anew."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from test_event_task import Diary, make_model, make_stream, make_task

from graphmem.data.stream_splits import split_stream
from graphmem.engine import evaluate
from graphmem.engine.conformance import check_task
from graphmem.engine.event_task import TemporalLinkTask
from graphmem.engine.experiment import run
from graphmem.engine.families import load_any_run
from graphmem.engine.replayed_task import ReplayedLinkTask
from graphmem.engine.signed_task import SignedTask
from graphmem.engine.stream_config import StreamRunConfig
from graphmem.errors import ArgumentError

SPLIT = split_stream(make_stream(count=400), protocol="inductive")
OPTIONS = {"batch_size": 16, "eval_batch_size": 8, "ranking_negatives": "random", "num_ranking_negatives": 5}


@pytest.mark.parametrize("name", ["tgn", "nat"])
def test_the_contract_of_a_task(name: str) -> None:
    check_task(ReplayedLinkTask(SPLIT, **OPTIONS), make_model(name))


def test_the_past_is_shown_before_the_test() -> None:
    """What the model has been shown when it is asked, event by event."""
    assert SPLIT.replay is not None
    model, shown = Diary(), []
    task = ReplayedLinkTask(SPLIT, **OPTIONS)
    task.reset(model)
    task.catch_up(model, SPLIT.valid.first)
    for _ in task.scored(model, "valid"):
        pass
    model.asked.clear()
    update = model.update
    model.update = lambda events: (shown.extend(events.t.tolist()), update(events))[1]  # type: ignore[method-assign]
    sizes = [len(events) for events, *_ in task.scored(model, "test")]
    assert shown == SPLIT.replay.stream.t.tolist()
    assert model.asked[0][0] == SPLIT.replay.test.first
    assert sum(sizes) == len(SPLIT.test)
    assert max(sizes) == 8


@pytest.mark.parametrize("name", ["tgn", "nat"])
def test_the_test_is_that_of_a_model_that_saw_all(name: str) -> None:
    """Numbers of the test do not depend on the state before, and are those of a task on the whole past."""
    assert SPLIT.replay is not None
    task, model = ReplayedLinkTask(SPLIT, metrics=("ap", "mrr"), **OPTIONS), make_model(name).eval()
    task.reset(model)
    both, alone = evaluate(model, task), evaluate(model, task, ["test"])
    assert alone.items() <= both.items()
    whole = TemporalLinkTask(SPLIT.replay, metrics=("ap", "mrr"), **{**OPTIONS, "batch_size": 8})
    whole.reset(model)
    assert evaluate(model, whole, ["test"]) == alone
    plain = TemporalLinkTask(split_stream(make_stream(count=400)), metrics=("ap", "mrr"), **OPTIONS)
    plain.reset(model)
    assert evaluate(model, plain, ["test"]) != alone


def test_bad_splits() -> None:
    with pytest.raises(ArgumentError, match="split: 'inductive' shows the past anew"):
        make_task(SPLIT)
    with pytest.raises(ArgumentError, match="split: 'inductive' shows the past anew"):
        SignedTask(SPLIT, "sign", batch_size=8)
    with pytest.raises(ArgumentError, match="split: expected one with replay"):
        ReplayedLinkTask(split_stream(make_stream()))


def test_a_run(tmp_path: Path) -> None:
    """From the command's configuration to a checkpoint that is evaluated again."""
    events = make_stream(count=400)
    path = tmp_path / "events.csv"
    lines = (f"{u},{v},{t}" for u, v, t in zip(*(x.tolist() for x in (events.src, events.dst, events.t)), strict=True))
    path.write_text("\n".join(["src,dst,t", *lines]) + "\n")
    config = StreamRunConfig(
        model="nat",
        data=str(path),
        split="inductive",
        epochs=2,
        out=str(tmp_path / "run"),
        options={"memory_dim": 8, "time_dim": 8, "sizes": [4, 2]},
    )
    result = run(config, progress=False)
    assert result["protocol"]["split"] == "inductive"
    experiment, _ = load_any_run(tmp_path / "run" / "seed_0" / "best.pt")
    assert isinstance(experiment.task, ReplayedLinkTask)
    again = evaluate(experiment.model, experiment.task)
    assert again["test/ap"] == pytest.approx(result["summary"]["ap"]["test"]["mean"], abs=0)
    assert torch.isfinite(torch.tensor(list(again.values()))).all()
