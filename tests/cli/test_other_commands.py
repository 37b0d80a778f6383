from __future__ import annotations

import csv
import inspect
import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from cli_command import TRAIN, Command

import graphmem
from graphmem import info
from graphmem.cli import main
from graphmem.cli.parser import field_help
from graphmem.engine.build import load_run
from graphmem.engine.run_base import RunBase
from graphmem.engine.run_config import RunConfig
from graphmem.engine.stream_config import StreamRunConfig


def trained(command: Command, *more: object) -> dict:
    return command.json("train", "ncn", *TRAIN, "--epochs", 2, "--out", "run", *more)


def test_evaluate_gives_the_numbers_of_training(command: Command) -> None:
    result = trained(command, "--metrics", "[hits@20,mrr,auc]")
    epoch = result["seeds"][0]["best"]["hits@20"]["epoch"]
    lines = [json.loads(line) for line in Path("run/seed_0/metrics.jsonl").read_text().splitlines()]
    expected = {key: value for key, value in lines[epoch - 1].items() if "/" in key}
    for name in ("run/seed_0", "run/seed_0/best.pt", "run/seed_0/last.pt"):
        found = command.json("evaluate", name)
        assert found["metrics"] == expected
        assert found["seed"] == 0
    assert "auc" in command("evaluate", "run/seed_0")


def test_evaluate_measures_what_training_did_not(command: Command) -> None:
    trained(command)
    before = command.json("evaluate", "run/seed_0")["metrics"]
    found = command.json("evaluate", "run/seed_0", "--metrics", "[hits@20,mrr]")["metrics"]
    assert set(found) == {"valid/hits@20", "valid/mrr", "test/hits@20", "test/mrr"}
    assert found["test/mrr"] == before["test/mrr"]
    assert "test/hits@20" not in before
    table = command("evaluate", "run/seed_0", "--metrics", "[hits@20]")
    assert "hits@20" in table
    assert "hits@100" not in table
    assert "metrics" in command.error("evaluate", "run/seed_0", "--metrics", "[best]")


def test_predict_scores_pairs(command: Command) -> None:
    trained(command)
    experiment, _ = load_run("run/seed_0")
    link = experiment.task.split.train[:, 0].tolist()
    Path("pairs.csv").write_text(f"source,target\n{link[0]},{link[1]}\n# a comment\n5,7\n5,5\n")
    assert command("predict", "run/seed_0", "--pairs", "pairs.csv", "--out", "scores.csv") == ""
    rows = list(csv.DictReader(Path("scores.csv").open()))
    assert [(int(row["source"]), int(row["target"])) for row in rows] == [tuple(link), (5, 7), (5, 5)]
    assert [row["known"] for row in rows][:1] == ["1"]
    pairs = torch.tensor([[link[0], 5, 5], [link[1], 7, 5]])
    model, task = experiment.model.eval(), experiment.task
    with torch.no_grad():
        expected = model.score(model.encode(task.x, task.graph), task.graph, pairs)
    assert np.allclose([float(row["logit"]) for row in rows], expected, atol=1e-5)
    np.savez("pairs.npz", pairs=pairs.numpy())
    document = command.json("predict", "run/seed_0", "--pairs", "pairs.npz")
    assert np.allclose([row["logit"] for row in document["scores"]], expected, atol=1e-6)
    assert command("predict", "run/seed_0", "--pairs", "pairs.csv", "--graph", "all").startswith("source,target,logit")


def test_predict_by_name(command: Command) -> None:
    edges = np.stack(np.triu_indices(30, 1))[:, ::3]
    Path("graph.csv").write_text("".join(f"node{i},node{j}\n" for i, j in edges.T))
    words = ("--preset", "cora", "--batch_size", 0.5, "--epochs", 1)
    command("train", "gae", "--data", "graph.csv", *words, "--out", "run")
    Path("pairs.csv").write_text("from,to\nnode1,node2\n")
    document = command.json("predict", "run/seed_0", "--pairs", "pairs.csv")
    assert document["scores"][0]["source"] == "node1"
    Path("pairs.csv").write_text("node1,node2\nnode1,nodeX\n")
    assert "line 2: expected two node names" in command.error("predict", "run/seed_0", "--pairs", "pairs.csv")


def test_bad_pairs(command: Command) -> None:
    trained(command)
    words = ("predict", "run/seed_0", "--pairs")
    assert "no file nothing.csv" in command.error(*words, "nothing.csv")
    for text, message in (
        ("0,1\n0,300\n", "line 2: nodes of 'generated:dcsbm' are 0 to 299, found 0, 300"),
        ("0,1\n0,x\n", "line 2: expected two node numbers, found '0,x'"),
        ("0,1\n0\n", "line 2: expected two node numbers, found '0'"),
    ):
        Path("bad.csv").write_text(text)
        assert message in command.error(*words, "bad.csv")
    np.savez("bad.npz", other=np.zeros(3))
    assert "has no array 'pairs', only ['other']" in command.error(*words, "bad.npz")
    np.savez("bad.npz", pairs=np.zeros((3, 2)))
    assert "expected integers [2, P], found float64 [3, 2]" in command.error(*words, "bad.npz")
    Path("bad.npz").write_text("no")
    assert "not a readable npz file" in command.error(*words, "bad.npz")
    Path("few.csv").write_text("0,1\n")
    assert "graph: expected one of" in command.error(*words, "few.csv", "--graph", "none")


def test_bad_checkpoints(command: Command) -> None:
    assert "does not exist" in command.error("evaluate", "nothing.pt")
    Path("bad.pt").write_text("no")
    assert "damaged" in command.error("evaluate", "bad.pt")
    from graphmem.engine.checkpoint import save_checkpoint

    save_checkpoint("other.pt", {"model": {}})
    assert "was not written by `graphmem train`" in command.error("evaluate", "other.pt")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "ncm", "--data", "cora"], "did you mean 'ncn'"),
        (["train", "ncn", "--data", "corra"], "did you mean 'cora'"),
        (["train", "ncn", "--data", "photo"], "--preset cora"),
        (["train", "ncn", "--data", "photo", "--preset", "usair"], "there is none for model 'ncn' on data 'usair'"),
        (["train", "ncn", "--data", "cora", "--compat", "old"], "compat: expected one of clean, reference"),
        (["train", "ncn", "--data", "cora", "--seeds", "0"], "seeds must be a positive integer"),
        (["train", "ncn", "--data", "cora", "--options.depth", "2"], "options: expected one of"),
        (["train", "ncn", "--data", "cora", "--options.dropout", "much"], "options: dropout must be a number"),
        (["train", "ncn", "--data", "cora", "--options.jk", "1"], "options: jk must be true or false"),
        (["train", "ncn", "--data", "cora", "--metrics", "[hits]"], "metrics must be 'hits@K'"),
        (["train", "ncn", "--data", "cora", "--batch_size", "1.5"], "batch_size must be a positive integer"),
        (["train", "ncn", "--data", "nothing.csv", "--preset", "cora"], "no file nothing.csv"),
        (["train", "gae", *TRAIN, "--device", "abacus"], "device: expected cpu, cuda or auto"),
        (["train", "gae", *TRAIN, "--split", "publisher"], "has no publisher's split"),
        (["data", "info", "corra"], "did you mean 'cora'"),
    ],
)
def test_errors_are_one_line(command: Command, words: list[str], message: str) -> None:
    assert message in command.error(*words)


def test_traceback_on_demand(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    command("data", "info", "corra", "--debug", code=2)
    assert "Traceback" in command.err
    monkeypatch.setenv("GRAPHMEM_DEBUG", "1")
    command("data", "info", "corra", code=2)
    assert "Traceback" in command.err


def test_usage(command: Command) -> None:
    assert command("--version") == f"graphmem {graphmem.__version__}\n"
    assert "train" in command("--help")
    command("train", "ncn", code=2)
    command(code=2)
    command("fly", code=2)
    for config in (RunConfig, StreamRunConfig):
        assert set(field_help(config)) == set(config.__dataclass_fields__)
        # Python 3.13 takes the indentation out of docstrings, earlier versions leave it.
        own, base = (inspect.cleandoc(one.__doc__ or "") for one in (config, RunBase))
        stripped = type("Stripped", (type("Base", (), {"__doc__": base}),), {"__doc__": own})
        assert field_help(stripped) == field_help(config)
    text = command("train", "--help")
    assert "where there is one, else ncn" in " ".join(text.split())


def test_data_and_presets(command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert "citeseer" in command("data", "list")
    assert any(card["name"] == "cora" for card in command.json("data", "list"))
    assert command.json("data", "info", "ddi")["name"] == "ogbl-ddi"
    assert "1433" in command("data", "info", "cora")
    presets = command.json("presets")
    assert {"model": "ncn", "data": "cora"}.items() <= next(p for p in presets if p["name"] == "ncn-cora").items()
    assert "89.65±1.36" in command("presets")
    monkeypatch.setenv("GRAPHMEM_DATA", str(tmp_path))
    monkeypatch.setenv("GRAPHMEM_CACHE", str(tmp_path / "cache"))
    assert "is missing" in command.error("data", "prepare", "cora", "--download", "false")


@pytest.mark.realdata
def test_prepare_finds_local_files(command: Command) -> None:
    assert command("data", "prepare", "cora", "--download", "false").strip().endswith("raw")


def test_doctor_needs_no_extra(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("jsonargparse", "matplotlib", "tensorboard", "ogb"):
        monkeypatch.setitem(sys.modules, name, None)
    for name in [name for name in sys.modules if name.startswith("graphmem.cli.")]:
        monkeypatch.delitem(sys.modules, name)
    out = command("doctor")
    line = next(line for line in out.splitlines() if line.startswith("library:"))
    from graphmem import ops

    assert (ops.CPU_LIBRARY or "numba reference") in line
    assert torch.__version__ in out
    assert command.json("doctor")["library"]["kind"] in ("native", "reference")
    assert 'pip install "graphmem[cli]"' in command.error("train", "ncn", "--data", "cora")
    assert command("--version").startswith("graphmem ")


def test_doctor_reports_what_is_missing(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = {"kind": "none", "cpu": None, "cuda": None, "problem": "NativeLibraryError: not there"}
    monkeypatch.setattr(info, "library", lambda: broken)
    assert "none, NativeLibraryError: not there" in command("doctor", code=1)
    monkeypatch.setitem(sys.modules, "torch", None)
    facts = info.collect()
    assert not info.healthy(facts)
    assert "cannot be imported" in info.report(facts)


def test_info_module_says_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as request:
        runpy.run_path(info.__file__, run_name="__main__")  # as `python -m graphmem.info`
    assert request.value.code == 0
    assert "\nlibrary:" in capsys.readouterr().out


def test_keyboard_interrupt_outside_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(info, "collect", stop)
    assert main(["doctor"]) == 130
