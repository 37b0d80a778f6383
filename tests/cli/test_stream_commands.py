"""Runs on streams from the command line."""

from __future__ import annotations

import json
import math
import re
import signal
import time
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import forked
import pytest
import torch
from cli_command import Command

from graphmem.engine.checkpoint import load_checkpoint
from graphmem.engine.families import load_any_run
from graphmem.engine.online import StreamPredictor
from graphmem.engine.stream_config import STREAM_HEURISTICS
from graphmem.models import NAT
from graphmem.presets import STREAM_MODELS

SMALL = ("--options.memory_dim", 8, "--options.time_dim", 8, "--batch_size", 20, "--threads", 1)


@pytest.fixture
def events(tmp_path: Path) -> str:
    g = torch.Generator().manual_seed(0)
    src, dst = (20 * torch.rand(2, 400, generator=g) ** 2).long()
    t = torch.randint(4, (400,), generator=g).cumsum(0)
    path = tmp_path / "events.csv"
    path.write_text(
        "\n".join(f"{u},{20 + v},{w}" for u, v, w in zip(src.tolist(), dst.tolist(), t.tolist(), strict=True))
    )
    return str(path)


@pytest.mark.parametrize("model", [*STREAM_MODELS, *STREAM_HEURISTICS])
def test_train_and_evaluate(command: Command, events: str, model: str) -> None:
    small = () if model in STREAM_HEURISTICS else ("--epochs", 2, "--batch_size", 20)
    words = ("--ranking_negatives", "random", "--num_ranking_negatives", 5, "--metrics", "[ap,auc,mrr]")
    extra = ("--eval_negatives", "[random,historical]", "--groups", "[new]", "--visibility", "event")
    out = command("train", model, "--data", events, *small, *words, *extra, "--out", "run", "--lr", 0.01)
    assert "mrr" in out
    assert "visibility: event" in out
    assert "negatives: random, historical; ranking negatives: 5 random; negatives seed: 42" in out
    result = json.loads(Path("run/result.json").read_text())
    assert result["protocol"]["visibility"] == "event"
    assert result["protocol"]["ranking_negatives"] == "5 random"
    assert {"valid/ap", "test/historical.ap", "test/new.ap", "test/mrr"} <= set(result["selected"])
    again = command.json("evaluate", "run/seed_0")
    assert again["metrics"] == pytest.approx({k: v["mean"] for k, v in result["selected"].items()}, nan_ok=True)
    rank = command.json("evaluate", "run/seed_0", "--metrics", "[mrr]")["metrics"]
    expected = {k: v["mean"] for k, v in result["selected"].items() if k.endswith("mrr")}
    assert rank == pytest.approx(expected, nan_ok=True)  # one metric alone, from the same state
    assert model not in ("tgn",) or Path("run/seed_0/curve.png").exists()


@pytest.mark.parametrize("model", ["tgn", "recency"])
def test_a_run_of_defaults_says_ap_auc_and_mrr(command: Command, events: str, model: str) -> None:
    """MRR is of the selected weights; as many negatives as every event can have, where that is less than 100."""
    small = () if model == "recency" else ("--epochs", 3, *SMALL)
    out = command("train", model, "--data", events, *small, "--out", "run")
    result = json.loads(Path("run/result.json").read_text())
    negatives = result["protocol"]["ranking_negatives"]
    most = int(negatives.removesuffix(" hist_rnd"))
    assert 1 <= most < 20
    rows = [re.split("  +", line.strip()) for line in out.splitlines() if line.startswith(model)]
    shown = [(row[3], row[4], row[5], row[6]) for row in rows]
    assert shown == [
        (name, against, "batch", "time")
        for name, against in zip(("ap", "auc", "mrr"), ("1 random", "1 random", negatives), strict=True)
    ]
    again = command.json("evaluate", "run/seed_0", "--metrics", "[mrr]")
    assert again["metrics"] == {k: v["mean"] for k, v in result["selected"].items() if k.endswith("/mrr")}
    assert again["protocol"]["ranking_negatives"] == negatives
    assert result["summary"]["mrr"]["test"]["mean"] == again["metrics"]["test/mrr"]
    assert result["seeds"][0]["best"]["mrr"]["epoch"] == result["seeds"][0]["best"]["ap"]["epoch"]
    alone = command("train", model, "--data", events, *small, "--out", "alone", "--final_metrics", "[]")
    assert "mrr" not in alone
    best = [load_checkpoint(Path(name) / "seed_0/best.pt")["model"] for name in ("run", "alone")]
    assert all(torch.equal(value, best[1][name]) for name, value in best[0].items())
    number = ("--num_ranking_negatives", most + 1)
    error = command.error("train", model, "--data", events, *small, *number, "--out", "more")
    assert f"num_ranking_negatives: expected at most {most}" in error


def test_a_run_whose_events_have_met_everybody_goes_without_mrr(command: Command, tmp_path: Path) -> None:
    lines = [f"{k % 2},{2 + k % 3},{k}" for k in range(60)]
    (tmp_path / "met.csv").write_text("\n".join(lines))
    words = ("train", "tgn", "--data", str(tmp_path / "met.csv"), "--epochs", 1, *SMALL)
    assert "mrr" not in command(*words)
    error = command.error(*words, "--metrics", "[mrr]", "--out", "other")
    assert "ranking_negatives: an event's source has met all destinations" in error


@pytest.fixture
def signed_events(tmp_path: Path, events: str) -> str:
    lines = Path(events).read_text().splitlines()
    path = tmp_path / "signed.csv"
    rows = (f"{line},{-2 if int(line.split(',')[1]) % 3 == 0 else 1}" for line in lines)
    path.write_text("\n".join(["src,dst,time,weight", *rows]))
    return str(path)


@pytest.mark.parametrize(
    ("model", "task", "metric"),
    [
        ("semba", "sign", "auc"),
        ("semba", "signed-existence", "macro_f1"),
        ("semba", "weight", "spearman"),
        ("semba", "existence", "ap"),
        ("reputation", "sign", "ap_neg"),
        ("tgn", "sign", "auc"),
    ],
)
def test_signed_tasks(command: Command, signed_events: str, model: str, task: str, metric: str) -> None:
    small = ("--epochs", 2, "--batch_size", 20, "--lr", 0.01, "--task", task, "--out", "run")
    out = command("train", model, "--data", signed_events, *small)
    assert metric in out
    result = json.loads(Path("run/result.json").read_text())
    assert result["protocol"]["keep_ties"] is True
    assert result["protocol"].get("task", "existence") == task
    again = command.json("evaluate", "run/seed_0")
    assert again["metrics"] == pytest.approx({k: v["mean"] for k, v in result["selected"].items()}, nan_ok=True)
    if (model, task) == ("semba", "sign"):
        assert result["selected"]["test/auc"]["mean"] > 0.9  # a third of the destinations is never trusted


def test_signed_tasks_that_do_not_fit(command: Command, events: str, signed_events: str) -> None:
    assert "weights other than 0" in command.error("train", "semba", "--data", events, "--batch_size", 20)
    lines = Path(signed_events).read_text().replace(",-2", ",0").splitlines()
    Path("classes.csv").write_text("\n".join(lines))
    for model, task in (("semba", "existence"), ("semba", "sign"), ("reputation", "sign"), ("tgn", "sign")):
        error = command.error("train", model, "--data", "classes.csv", "--task", task)
        assert "weights other than 0" in error
        assert "write -1 and 1" in error
    assert "task" in command.error("train", "semba", "--data", signed_events, "--task", "signs")
    assert "metrics" in command.error("train", "semba", "--data", signed_events, "--metrics", "[r2]")
    words = ("--data", signed_events, "--keep_ties", "false")
    assert "keep_ties: expected true" in command.error("train", "semba", *words)
    assert "outputs" in command.error("train", "tgn", "--data", signed_events, "--task", "signed-existence")


def test_labels_that_leave_a_metric_without_a_value(command: Command, signed_events: str) -> None:
    """NaN chooses no epoch: an error before training where the labels say so, the last epoch where training does."""
    lines = Path(signed_events).read_text().splitlines()
    Path("ones.csv").write_text("\n".join([lines[0], *(line.rpartition(",")[0] + ",1" for line in lines[1:])]))
    words = ("train", "semba", "--data", "ones.csv", "--epochs", 2, "--batch_size", 20)
    assert "choose by macro_f1 or f1_neg" in command.error(*words, "--task", "sign", "--out", "first")
    assert "'spearman' chooses an epoch" in command.error(*words, "--task", "weight", "--out", "second")
    command(*words, "--task", "sign", "--metrics", "[macro_f1, auc]", "--out", "run")
    result = json.loads(Path("run/result.json").read_text())
    assert math.isnan(result["summary"]["auc"]["test"]["mean"])
    assert result["seeds"][0]["best"]["auc"]["epoch"] == 2
    assert result["summary"]["macro_f1"]["test"]["mean"] > 0
    command("train", "reputation", "--data", "ones.csv", "--task", "sign", "--out", "counted")
    command("train", "semba", "--data", "ones.csv", "--task", "signed-existence", "--epochs", 1, "--out", "classes")


def test_what_a_model_takes_depends_on_it(command: Command, events: str) -> None:
    assert "--visibility" in command("train", "tgn", "--help")
    assert "--visibility" not in command("train", "ncn", "--help")
    assert "heads" in command.error("train", "tgn", "--data", events, "--options.haeds", 2)
    assert "is a graph, not a stream" in command.error("train", "tgn", "--data", "cora")
    assert "use load_stream" in command.error("train", "ncn", "--data", "collegemsg")
    assert "visibility" in command.error("train", "tgn", "--data", events, "--visibility", "all")
    error = command.error("train", "jodie", "--data", events, "--options.embedding_dim", 8)
    assert "options: jodie does not take all of" in error


NAT_SMALL = ("--options.sizes", "[8,4]", *SMALL, "--epochs", 2, "--lr", 0.01)


@pytest.mark.parametrize(
    ("words", "used"),
    [((), [4, 5]), (("--compat", "reference"), [30, 79]), (("--options.seed", 9), [9, 9])],
)
def test_seed_of_the_cache(command: Command, events: str, words: tuple[object, ...], used: list[int]) -> None:
    """That of the run, or what the released code draws from it; recorded, and found again by all that loads a model."""
    dtypes = ("--options.value_dtype", "bfloat16", "--options.key_dtype", "int32")
    command(
        "train", "nat", "--data", events, *NAT_SMALL, *dtypes, *words, "--seeds", 2, "--first_seed", 4, "--out", "run"
    )
    result = json.loads(Path("run/result.json").read_text())
    assert [seed["model_seed"] for seed in result["seeds"]] == used
    for seed, number in zip((4, 5), used, strict=True):
        assert json.loads(Path(f"run/seed_{seed}/config.json").read_text())["settings"]["options"]["seed"] == number
        experiment, content = load_any_run(f"run/seed_{seed}")
        assert isinstance(experiment.model, NAT)
        cache = experiment.model.cache
        assert (cache.layout.seed, cache.key.dtype, cache.value.dtype) == (number, torch.int32, torch.bfloat16)
        found = command.json("evaluate", f"run/seed_{seed}")["metrics"]
        assert found == pytest.approx(next(s["selected"] for s in result["seeds"] if s["seed"] == seed), nan_ok=True)
    predictor = StreamPredictor.load("run/seed_5", after="train")
    predictor.save("state")
    again = StreamPredictor.load("state")
    assert isinstance(again.model, NAT)
    assert again.model.cache.layout.seed == used[1]


@pytest.mark.parametrize("model", ["tgn", "tncn", "dyrep", "jodie", "apan"])
def test_pres(command: Command, events: str, model: str) -> None:
    words = ("--data", events, "--epochs", 2, "--batch-size", 40, "--pres", "--lr", 0.01)
    assert f"{model} + PRES" in command("train", model, *words, "--pres_options.gate", "kalman", "--out", "run")
    result = json.loads(Path("run/result.json").read_text())
    assert "--pres true --pres_options.gate kalman" in result["command"]
    again = command.json("evaluate", "run/seed_0")
    assert again["metrics"] == pytest.approx({k: v["mean"] for k, v in result["selected"].items()}, nan_ok=True)
    replayed = command.json("replay", "run/seed_0", "--events", events, "--out", "scores.csv", "--after", "nothing")
    assert replayed["events"] == 400


def test_pres_is_explained(command: Command, events: str) -> None:
    words = ("train", "tgn", "--data", events, "--epochs", 1)
    assert "pres_options: expected --pres" in command.error(*words, "--pres_options.gate", "fixed")
    assert "did you mean 'gate'" in command.error(*words, "--pres", "--pres_options.gaet", "fixed")
    assert "pres: expected a model with a node memory, got NAT" in command.error(
        "train", "nat", "--data", events, "--pres", "--epochs", 1
    )
    assert "--pres_options" in command("train", "tgn", "--help")


ALL_STATE = {
    "tgn": ("--options.embedding_dim", "8", "--pres"),
    "nat": ("--options.sizes", "[8,4]", "--first_seed", "3", "--options.value_dtype", "bfloat16"),
}


@pytest.mark.parametrize("model", ALL_STATE)
def test_killed_in_mid_epoch_and_resumed(events: str, tmp_path: Path, model: str) -> None:
    words = ["train", model, "--data", events, "--epochs", "3", *map(str, SMALL), *ALL_STATE[model]]
    words += ["--checkpoint_every_steps", "3", "--quiet"]

    def run(out: str, *more: str) -> ForkServerProcess:
        return forked.start([*words, "--out", str(tmp_path / out), *more])

    assert forked.wait(run("whole")) == 0
    process = run("killed")
    checkpoint = tmp_path / "killed" / ("seed_3" if model == "nat" else "seed_0") / "last.pt"
    kills = 0
    for _ in range(20):
        deadline, before = time.monotonic() + 60, checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
        while time.monotonic() < deadline and process.is_alive():
            if checkpoint.exists() and checkpoint.stat().st_mtime_ns != before:
                break
            time.sleep(0.002)
        process.kill()
        kills += forked.wait(process) == -signal.SIGKILL
        if (tmp_path / "killed/result.json").exists():
            break
        process = run("killed", "--resume")
    assert forked.wait(process) == 0
    assert kills > 1
    folder = "seed_3" if model == "nat" else "seed_0"
    one, other = (load_checkpoint(tmp_path / name / folder / "best.pt") for name in ("whole", "killed"))
    assert one["best"] == other["best"]
    assert one["model"].keys() == other["model"].keys()
    assert all(torch.equal(value, other["model"][key]) for key, value in one["model"].items())
