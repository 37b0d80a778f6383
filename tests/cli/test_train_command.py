from __future__ import annotations

import json
import os
import shlex
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cli_command import DATA, TRAIN, Command

from graphmem.cli import main
from graphmem.engine.trainer import Trainer

FILES = {"best.pt", "config.json", "last.pt", "metrics.csv", "metrics.jsonl", "result.json"}


def history(folder: Path) -> list[dict[str, Any]]:
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in record.items() if "seconds" not in key} for record in records]


def assert_same(one: Path, two: Path) -> None:
    assert history(one) == history(two)
    for name, key in (("best.pt", "model"), ("last.pt", "model")):
        weights, others = (torch.load(folder / name, weights_only=True)[key] for folder in (one, two))
        assert weights.keys() == others.keys()
        assert all(torch.equal(weights[k], others[k]) for k in weights)


def interrupt_at(monkeypatch: pytest.MonkeyPatch, step: int, times: int = 1) -> None:
    """Press Ctrl-C during the given training step of this process."""
    plain, steps = Trainer.train_step, iter(range(10_000))

    def train_step(self: Trainer, batch: Any) -> float:
        if next(steps) == step:
            for _ in range(times):
                os.kill(os.getpid(), signal.SIGINT)
        return plain(self, batch)

    monkeypatch.setattr(Trainer, "train_step", train_step)


def test_result_says_everything(command: Command) -> None:
    result = command.json("train", "ncn", *TRAIN, "--epochs", 2, "--seeds", 2, "--out", "run")
    assert result == json.loads(Path("run/result.json").read_text())
    assert [document["seed"] for document in result["seeds"]] == [0, 1]
    for split in ("valid", "test"):
        values = [document["best"]["hits@100"][split] for document in result["seeds"]]
        assert result["summary"]["hits@100"][split] == {"mean": np.mean(values), "std": np.std(values)}
    for document in result["seeds"]:
        folder = Path(f"run/seed_{document['seed']}")
        assert {path.name for path in folder.iterdir()} - {"curve.png"} == FILES
        best = max(history(folder), key=lambda record: record["valid/hits@100"])
        assert document["best"]["hits@100"]["epoch"] == best["epoch"]
        assert document["best"]["hits@100"]["test"] == best["test/hits@100"]
        assert document["protocol"]["split_seed"] == document["seed"]
    assert result["published"] is None
    assert result["protocol"]["split"] == "ncn"
    assert result["versions"]["torch"] == torch.__version__
    assert {"cpu", "cores", "threads"} <= result["machine"].keys()
    assert result["parameters"] > 0
    # The recorded command is the run: a second one gives the same numbers.
    words = shlex.split(result["command"].replace("--out run", "--out again"))
    assert words[0] == "graphmem"
    again = command.json(*words[1:])
    assert again["summary"] == result["summary"]
    assert_same(Path("run/seed_1"), Path("again/seed_1"))


def test_table(command: Command) -> None:
    out = command("train", "ncnc", *TRAIN, "--epochs", 1, "--compat", "reference", "--metrics", "[hits@10]")
    assert "ncnc" in out
    assert "hits@10" in out
    assert "files in runs/ncnc-" in out
    assert "seed 0: hits@10 valid" in command.err


def test_interrupted_run_resumes_with_the_same_bits(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("train", "ncn", *TRAIN, "--epochs", 3, "--seeds", 2)
    command(*words, "--out", "whole")
    with monkeypatch.context() as patch:
        interrupt_at(patch, step=17)  # four steps an epoch: in the second epoch of the second seed
        assert command(*words, "--out", "parts", code=130) == ""
    assert "interrupted; continue with: graphmem train ncn" in command.err
    assert not Path("parts/result.json").exists()
    finished = Path("parts/seed_0/last.pt").stat().st_mtime_ns
    hint = command.err.splitlines()[-1].partition("continue with: graphmem ")[2]
    result = command.json(*shlex.split(hint))
    assert Path("parts/seed_0/last.pt").stat().st_mtime_ns == finished
    whole = json.loads(Path("whole/result.json").read_text())
    assert result["summary"] == whole["summary"]
    for seed in (0, 1):
        assert_same(Path(f"whole/seed_{seed}"), Path(f"parts/seed_{seed}"))
    # A run of an older version, whose settings lack one that has come since, goes on; one of another setting does not.
    stored = json.loads(Path("parts/config.json").read_text())
    for change, code in (({}, 0), ({"eval_every": 4}, 2)):
        config = {**stored["config"], **change}
        del config["tuned"]
        Path("parts/config.json").write_text(json.dumps({**stored, "config": config}))
        command(*words, "--out", "parts", "--resume", code=code)
    Path("parts/config.json").write_text(json.dumps(stored))
    # One more seed extends the run.
    more = command.json(*words[:-1], 3, "--out", "parts", "--resume")
    assert more["seeds"][:2] == result["seeds"]
    assert len(more["seeds"]) == 3


def test_second_interrupt_ends_at_once(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("train", "gae", *TRAIN, "--epochs", 2, "--out", "run")
    with monkeypatch.context() as patch:
        interrupt_at(patch, step=5, times=2)
        command(*words, code=130)
    assert "continue with" in command.err
    command(*words, "--resume")
    command(*words[:-1], "whole")
    assert_same(Path("run/seed_0"), Path("whole/seed_0"))


def test_folder_of_another_run_is_respected(command: Command) -> None:
    words = ("train", "gae", *TRAIN, "--epochs", 1, "--out", "run")
    command(*words)
    assert "--resume" in command.error(*words)
    assert "its batch_size is 0.25, here 9" in command.error(*words, "--batch_size", 9, "--resume")
    command(*words, "--epochs", 2, "--overwrite")
    assert json.loads(Path("run/result.json").read_text())["seeds"][0]["epochs"] == 2


def test_more_epochs_on_resume(command: Command) -> None:
    """A finished run goes on with the bits of one that was asked for all epochs at once; fewer change nothing."""
    words = ("train", "gae", *TRAIN, "--seeds", 2, "--epochs")
    command(*words, 2, "--out", "run")
    command(*words, 4, "--out", "run", "--resume")
    whole = command.json(*words, 4, "--out", "whole")
    for seed in ("seed_0", "seed_1"):
        assert_same(Path("run", seed), Path("whole", seed))
    less = command.json(*words, 3, "--out", "run", "--resume")
    assert [seed["best"] for seed in less["seeds"]] == [seed["best"] for seed in whole["seeds"]]
    assert [seed["epochs"] for seed in less["seeds"]] == [4, 4]


def test_a_seed_that_stopped_early_has_nothing_left_to_do(command: Command) -> None:
    words = ("train", "gae", *TRAIN, "--patience", 1, "--out", "run", "--epochs")
    first = command.json(*words, 30)
    assert first["seeds"][0]["stopped_early"]
    assert command.json(*words, 60, "--resume")["seeds"] == first["seeds"]


def test_failed_start_leaves_the_folder_usable(command: Command) -> None:
    words = ("train", "gae", "--data", DATA, "--preset", "cora", "--epochs", 1, "--out", "run")
    assert "batch_size" in command.error(*words)
    command(*words, "--batch_size", 100)


@pytest.mark.parametrize("model", ["gae", "ncn-diff", "ncn2"])
@pytest.mark.parametrize("compat", ["clean", "reference"])
def test_other_models(command: Command, model: str, compat: str) -> None:
    result = command.json("train", model, *TRAIN, "--epochs", 1, "--compat", compat)
    assert result["model"] == model


@pytest.mark.parametrize("model", ["cn", "aa", "ra", "jaccard", "katz", "ppr"])
def test_heuristics_are_only_evaluated(command: Command, model: str) -> None:
    result = command.json("train", model, "--data", DATA, "--out", "run")
    assert result["parameters"] == 0
    assert result["seeds"][0]["epochs"] == 0
    found = command.json("evaluate", "run/seed_0")
    assert found["metrics"]["test/mrr"] == result["summary"]["mrr"]["test"]["mean"]


def test_without_features_and_without_preset(command: Command) -> None:
    words = ("--batch_size", 50, "--epochs", 1, "--encoder_lr", 0.01, "--decoder_lr", 0.01)
    result = command.json(
        "train", "ncn", "--data", "generated:dcsbm?num_nodes=200&num_features=0", *words, "--clip_norm", 1
    )
    assert result["settings"]["preset"] is None
    assert result["parameters"] > 200 * 256


def test_edge_list_target_negatives_tensorboard(command: Command) -> None:
    pytest.importorskip("tensorboard")
    edges = np.stack(np.triu_indices(25, 1))[:, ::2]
    np.savetxt("graph.csv", edges.T, fmt="%d", delimiter=",")
    words = ("--preset", "cora", "--batch_size", 0.5, "--epochs", 1, "--negatives", "target", "--tensorboard")
    result = command.json("train", "gae", "--data", "graph.csv", *words, "--split", "random")
    assert result["protocol"]["training_negatives"] == "the link's source and a uniform target"
    assert result["protocol"]["split"] == "random"
    assert "hits@100 has only 15 validation negatives" in command.err
    assert list(Path("runs").rglob("events.*"))


def test_config_file(command: Command) -> None:
    Path("run.yaml").write_text("data: 'generated:dcsbm?num_nodes=300&num_features=10'\npreset: cora\nepochs: 1\n")
    result = command.json("train", "gae", "--config", "run.yaml", "--batch_size", 0.2, "--options.dropout", 0.3)
    assert result["settings"]["options"]["dropout"] == 0.3


def test_start_from_weights_and_embeddings(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    from graphmem.engine import build
    from graphmem.engine.run_config import resolve
    from graphmem.presets import Start

    command("train", "ncn", *TRAIN, "--epochs", 1, "--out", "ncn")
    for take in ("weights", "embeddings"):
        monkeypatch.setattr(build, "resolve", lambda c, take=take: replace(resolve(c), start=start(c, take)))

        def start(config: Any, take: str) -> Start | None:
            return Start(model="ncn", take=take) if config.model == "ncnc" and config.start_from != "none" else None

        words = ("train", "ncnc", *TRAIN, "--epochs", 1)
        assert "run `graphmem train ncn" in command.error(*words, "--out", take)
        command(*words, "--start_from", "ncn", "--out", take)
        Path("ncn").rename("away")  # weights are in the checkpoint, embeddings are not
        assert bool(main(["evaluate", f"{take}/seed_0"])) == (take == "embeddings")
        Path("away").rename("ncn")
        command("train", "ncnc", *TRAIN, "--epochs", 1, "--start_from", "none", "--out", f"{take}-none")
        assert "does not exist" in command.error(*words, "--start_from", "nowhere", "--out", "x")


@pytest.mark.realdata
def test_published_value_is_shown_for_cora(command: Command) -> None:
    words = ("train", "ncn", "--data", "Cora", "--epochs", 2, "--compat", "reference")
    out = command(*words)
    assert "89.05±0.96" in out
    result = json.loads(Path("runs/ncn-cora-reference/result.json").read_text())
    assert result["published"]["mean"] == pytest.approx(0.8905)
    assert "ICLR 2024" in result["published"]["source"]
    assert result["parameters"] == 764_163
    assert result["settings"]["train"]["joint"] is False
    assert result["summary"]["hits@100"]["test"]["mean"] > 0.3
