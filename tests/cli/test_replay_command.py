"""`graphmem replay`: scores, metrics, and going on."""

from __future__ import annotations

import csv
import datetime
import io
import json
import signal
import sys
import time
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import forked
import pytest
import torch
from cli_command import Command

from graphmem.cli.replay import ReplayOptions, replay
from graphmem.data.formats.events import read_events
from graphmem.data.names import NodeNames
from graphmem.data.stream_splits import split_stream
from graphmem.engine import StreamPredictor, load_checkpoint
from graphmem.engine.event_task import TemporalLinkTask
from graphmem.models import TGN
from graphmem.nn.state import reset_state

SMALL = {
    "tgn": ("--options.memory_dim", 8, "--options.time_dim", 8, "--options.embedding_dim", 8, "--epochs", 2),
    "jodie": ("--options.memory_dim", 8, "--options.time_dim", 8, "--epochs", 2),
    "apan": ("--options.embedding_dim", 8, "--options.time_dim", 8, "--epochs", 2),
    "edgebank": (),
    "recency": (),
    "localglobal": (),
}
# Training events of the run.
SEEN = 280


def lines(count: int = 400, msg_dim: int = 0, apart: bool = False) -> list[str]:
    """Events; with ``apart`` destinations have the names of sources."""
    g = torch.Generator().manual_seed(0)
    src, dst = (20 * torch.rand(2, count, generator=g) ** 2).long()
    t = torch.randint(4, (count,), generator=g).cumsum(0)
    msg = torch.randn(count, msg_dim, generator=g)
    columns = (src.tolist(), (dst if apart else 20 + dst).tolist(), t.tolist(), msg.tolist())
    return [",".join(map(str, (u, v, w, *m))) for u, v, w, m in zip(*columns, strict=True)]


def train(command: Command, model: str) -> str:
    Path("events.csv").write_text("\n".join(lines()))
    command("train", model, "--data", "events.csv", *SMALL[model], "--batch_size", 20, "--out", "run", "--quiet")
    Path("rest.csv").write_text("\n".join(lines()[SEEN:]))
    return "run/seed_0"


@pytest.fixture
def run(command: Command) -> str:
    """A small run of TGN; events.csv has all of its stream, rest.csv what comes behind its training period."""
    return train(command, "tgn")


def rows(path: str | Path) -> list[dict[str, str]]:
    with Path(path).open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("model", SMALL)
def test_scores_are_those_of_the_library(command: Command, model: str) -> None:
    checkpoint = train(command, model)
    document = command.json("replay", checkpoint, "--after", "train", "--events", "rest.csv", "--batch-size", 20,
                            "--candidates", 5, "--out", "out/scores.csv", "--quiet")  # fmt: skip
    assert (document["events"], document["new_nodes"], document["waiting"]) == (400 - SEEN, 0, 0)
    found = rows("out/scores.csv")
    predictor = StreamPredictor.load(checkpoint, after="train")
    assert predictor.num_events == SEEN
    events = torch.tensor([[int(x) for x in line.split(",")] for line in lines()[SEEN:]])
    assert [[int(row[k]) for k in ("source", "destination", "time")] for row in found] == events.tolist()
    scores = torch.cat([predictor.step(tuple(batch.T)) for batch in events.split(20)])
    logits = torch.tensor([float(row["logit"]) for row in found], dtype=scores.dtype)
    if scores.dtype == torch.float32:
        assert torch.equal(logits, scores)
    torch.testing.assert_close(logits, scores, rtol=1e-8, atol=0)
    ranks = [float(row["rank"]) for row in found]
    assert document["metrics"]["mrr"] == pytest.approx(sum(1 / rank for rank in ranks) / len(ranks))
    assert 1 <= min(ranks)
    assert max(ranks) <= 6
    assert "ap: " in command("replay", checkpoint, "--events", "rest.csv", "--after", "train", "--candidates", 1,
                             "--out", "s.csv", "--quiet")  # fmt: skip


def test_signs(command: Command) -> None:
    """A model of signs is shown the weights of the file."""
    weights = [(-3, 1, 2)[k % 3] for k in range(400)]
    signed = [f"{line},{weight}" for line, weight in zip(lines(), weights, strict=True)]
    Path("events.csv").write_text("\n".join(["u,v,t,weight", *signed]))
    Path("rest.csv").write_text("\n".join(["u,v,t,weight", *signed[SEEN:]]))
    small = [word for name in ("memory_dim", "time_dim", "embedding_dim") for word in (f"--options.{name}", 8)]
    command("train", "semba", "--data", "events.csv", "--task", "sign", "--epochs", 1, "--batch_size", 20, *small,
            "--out", "run", "--quiet")  # fmt: skip
    asked = ("replay", "run/seed_0", "--after", "train", "--events", "rest.csv", "--batch-size", 20, "--out", "s.csv")
    message = command.error(*asked, "--quiet")
    assert "weight_column: expected that of signed weights" in message
    command(*asked, "--weight_column", "weight", "--quiet")
    predictor = StreamPredictor.load("run/seed_0", after="train")
    events = torch.tensor([[int(x) for x in line.split(",")] for line in signed[SEEN:]])
    scores = torch.cat([predictor.step((*batch.T[:3], None, batch.T[3].float())) for batch in events.split(20)])
    assert torch.equal(torch.tensor([float(row["logit"]) for row in rows("s.csv")]), scores)


def test_metrics_are_those_of_the_evaluation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where destinations are named apart: the same random destinations, so the same ranks."""
    path = tmp_path / "events.csv"
    path.write_text("\n".join(lines(msg_dim=2, apart=True)))
    stream = read_events(path, msg_from=3, bipartite=True)
    split = split_stream(stream)
    task = TemporalLinkTask(split, batch_size=20, ranking_negatives="random", num_ranking_negatives=5, metrics=("mrr",))
    torch.manual_seed(0)
    model = TGN(stream.num_nodes, 2, memory_dim=8, time_dim=8, embedding_dim=8).eval()
    with torch.no_grad():
        expected = task.evaluate(model, "valid")
        reset_state(model)
        task.catch_up(model, split.valid.first)
    first, last = split.valid.first, split.test.first
    path.write_text("\n".join(lines(msg_dim=2, apart=True)[first:last]))
    predictor = StreamPredictor(model, names=NodeNames.of(stream), latest=split.train.t[-1].item())
    monkeypatch.setattr(StreamPredictor, "load", lambda *_, **__: predictor)
    options = ReplayOptions(events=str(path), msg_from=3, batch_size=20, candidates=5, out=str(tmp_path / "out.csv"))
    assert replay(tmp_path, options, quiet=True)["metrics"]["mrr"] == expected["mrr"]


def test_pipe_and_batches_of_one(command: Command, run: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(lines()[SEEN : SEEN + 10])))
    out = command("replay", run, "--after", "train", "--events", "-", "--batch_size", 1, "--quiet")
    assert "10 events, 0 new nodes" in command.err
    found = list(csv.DictReader(io.StringIO(out)))
    predictor = StreamPredictor.load(run, after="train")
    for line, row in zip(lines()[SEEN : SEEN + 10], found, strict=True):
        score = predictor.step(tuple(int(x) for x in line.split(",")))
        assert float(row["logit"]) == pytest.approx(score.item(), rel=1e-7)
        assert float(row["probability"]) == pytest.approx(torch.sigmoid(score).item(), rel=1e-6)


@pytest.mark.parametrize("lateness", [0, 8])
def test_going_on_from_a_saved_state(command: Command, run: str, lateness: int) -> None:
    """Two files and a state between them, against one file: the same scores, for new nodes, too."""
    cells = [line.split(",") for line in lines()[SEEN:]]
    rest = [",".join((u if k % 3 else f"9000{u}", v, w)) for k, (u, v, w) in enumerate(cells)]
    if lateness:  # neighbours change places
        rest = [rest[k + 1 - 2 * (k % 2)] for k in range(len(rest))]
    Path("all.csv").write_text("\n".join(rest))
    Path("a.csv").write_text("\n".join(rest[:60]))
    Path("b.csv").write_text("\n".join(rest[60:]))
    shared = ("--batch_size", 20, "--quiet", "--out")
    first = ("--after", "train", "--lateness", lateness)
    whole = command.json("replay", run, "--events", "all.csv", *first, *shared, "all.out", "--save-state", "all.state")
    one = command.json("replay", run, "--events", "a.csv", *first, *shared, "a.out", "--save_state", "state")
    two = command.json("replay", "state", "--events", "b.csv", *shared, "b.out", "--save_state", "state")
    assert one["new_nodes"] + two["new_nodes"] == whole["new_nodes"] > 0
    assert two["waiting"] == whole["waiting"]
    assert (lateness > 0) == (whole["waiting"] > 0)
    assert rows("a.out") + rows("b.out") == rows("all.out")
    kept, expected = (load_checkpoint(f"{folder}/predictor.pt")["predictor"] for folder in ("state", "all.state"))
    assert all(torch.equal(value, kept["model"][name]) for name, value in expected["model"].items())
    assert kept["names"] == expected["names"]


def test_dates_as_in_training(command: Command) -> None:
    """A model trained on dates, or on their seconds, is shown dates; a file of one event is one event."""
    first = datetime.datetime(2024, 5, 1, tzinfo=datetime.timezone.utc)
    cells = [line.split(",") for line in lines()]
    dated = [f"{u},{v},{(first + datetime.timedelta(seconds=int(t))).isoformat(' ')}" for u, v, t in cells]
    seconds = [f"{u},{v},{int(first.timestamp()) + int(t)}" for u, v, t in cells]
    asked = ("--after", "train", "--batch_size", 20, "--quiet")
    for name, rows_of_file in (("dated", dated), ("seconds", seconds)):
        Path(f"{name}.csv").write_text("\n".join(rows_of_file))
        Path(f"{name}_rest.csv").write_text("\n".join(rows_of_file[SEEN:]))
        Path(f"{name}_one.csv").write_text(rows_of_file[-1])
        command(
            "train", "jodie", "--data", f"{name}.csv", *SMALL["jodie"], "--batch_size", 20, "--out", name, "--quiet"
        )
    for run in ("dated", "seconds"):
        for name in ("dated", "seconds"):
            command("replay", f"{run}/seed_0", "--events", f"{name}_rest.csv", *asked, "--out", f"{run}_{name}.csv")
            one = ("--events", f"{name}_one.csv", *asked, "--out", "one.csv")
            assert command.json("replay", f"{run}/seed_0", *one)["events"] == 1
    texts = {Path(f"{run}_{name}.csv").read_bytes() for run in ("dated", "seconds") for name in ("dated", "seconds")}
    assert len(texts) == 1


def test_a_malformed_first_line_is_an_error(command: Command, run: str) -> None:
    Path("rest.csv").write_text("1,20,90x\n1,20,901\n")
    message = command.error("replay", run, "--after", "train", "--events", "rest.csv", "--out", "s.csv")
    assert "rest.csv, line 1: expected src in column 0" in message
    assert "header=True" in message


def test_killed_and_resumed(command: Command, run: str) -> None:
    """Killed at any moment, some inside a write, and gone on with until it is done."""
    Path("rest.csv").write_text("\n".join(lines(4000)))
    words = ["replay", run, "--after", "nothing", "--events", "rest.csv", "--batch_size", "20", "--candidates", "3"]
    words += ["--save_every", "3", "--quiet", "--json"]
    whole = json.loads(command(*words, "--out", "whole.csv", "--save_state", "whole"))

    def start() -> ForkServerProcess:
        more = ["--out", "killed.csv", "--save_state", "killed", "--resume"]
        return forked.start([*words, *more], out=Path("killed.json"))

    state = Path("killed/predictor.pt")
    process, kills = start(), 0
    for attempt in range(12):
        before = state.stat().st_mtime_ns if state.exists() else 0
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and process.is_alive():
            if attempt < 3 and state.exists() and state.stat().st_mtime_ns != before:
                process.kill()
                break
            time.sleep(0.001)
        kills += forked.wait(process, 60) == -signal.SIGKILL
        if process.exitcode == 0:
            break
        load_checkpoint(state)  # whole, whatever the moment
        process = start()
    assert process.exitcode == 0
    assert kills >= 2
    done = json.loads(Path("killed.json").read_text())
    assert Path("killed.csv").read_bytes() == Path("whole.csv").read_bytes()
    assert done["metrics"] == whole["metrics"]
    assert done["events"] == whole["events"] == 4000


def test_bad_input(command: Command, run: str) -> None:
    good = ("replay", run, "--after", "train", "--events", "rest.csv", "--out", "s.csv")
    Path("rest.csv").write_text("1,20,900\n1,x,901\n")
    assert "rest.csv, line 2: expected two whole numbers" in command.error(*good)
    Path("rest.csv").write_text("1,20,900\n\n1,20,901\n1,20,3\n")
    assert "rest.csv, line 4: t: expected times from 901 on" in command.error(*good)
    assert "Traceback" not in command.err
    assert "no file" in command.error("replay", run, "--events", "none.csv")
    assert "does not exist" in command.error("replay", "nowhere", "--events", "rest.csv")
    assert "after: expected one of 'nothing'" in command.error("replay", run, "--events", "rest.csv", "--after", "now")
    assert "resume: expected save_state" in command.error("replay", run, "--events", "rest.csv", "--resume")
    assert "save_every: expected save_state" in command.error("replay", run, "--events", "rest.csv", "--save_every", 2)
    assert "json: expected --out" in command.error("replay", run, "--events", "rest.csv", "--json")
    assert "batch_size" in command.error("replay", run, "--events", "rest.csv", "--batch_size", 0)
    Path("rest.csv").write_text("\n".join(lines()[SEEN:]))
    command(*good, "--save_state", "state", "--quiet")
    Path("s.csv").write_text("short")
    assert "out: expected the" in command.error(*good, "--save_state", "state", "--resume")
    assert "seed: expected 42" in command.error(*good, "--save_state", "state", "--resume", "--seed", 1)
    assert "after: expected None" in command.error("replay", "state", "--events", "rest.csv", "--after", "train")
    Path("state/predictor.pt").write_bytes(b"damaged")
    assert "damaged" in command.error("replay", "state", "--events", "rest.csv")
