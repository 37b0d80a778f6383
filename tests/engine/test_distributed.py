"""Two processes train what one trains; what happens when one of them is interrupted or dies."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import distributed_worker
import pytest
import torch

from graphmem.engine import load_checkpoint
from graphmem.engine.distributed import Group, connected, is_first, local_device

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs signals")

DATA = "generated:dcsbm?num_nodes=400&num_blocks=4&mean_degree=8&num_features=32"
TRAIN = ["-m", "graphmem.cli", "train", "ncnc", "--data", DATA, "--preset", "cora", "--batch_size", "101"]
TRAIN += ["--options.hidden_channels", "16", "--options.train_degree", "3", "--eval_every", "10", "--epochs", "30"]


def environment(**values: object) -> dict[str, str]:
    root = str(Path(__file__).parents[2])
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": root, **{k: str(v) for k, v in values.items()}}


def launch(*words: object) -> list[subprocess.Popen[str]]:
    """Two ranks without `torchrun`, so that nobody else ends them."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return [
        subprocess.Popen(
            [sys.executable, *map(str, words)],
            env=environment(RANK=rank, LOCAL_RANK=rank, WORLD_SIZE=2, MASTER_ADDR="127.0.0.1", MASTER_PORT=port),
            **pipes,
        )
        for rank in range(2)
    ]


def finish(processes: list[subprocess.Popen[str]]) -> list[tuple[int, str, str]]:
    try:
        texts = [process.communicate(timeout=240) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [(process.returncode, *text) for process, text in zip(processes, texts, strict=True)]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("ranks")
    ended = finish(launch(distributed_worker.__file__, folder))
    assert [code for code, _, _ in ended] == [0, 0], "\n".join(err for _, _, err in ended)
    return [torch.load(folder / f"outcome_{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.parametrize("name", [*distributed_worker.CASES, *distributed_worker.STREAM_CASES])
def test_two_processes_train_what_one_trains(name: str, outcomes: list[dict[str, Any]]) -> None:
    expected = distributed_worker.train(name, None)
    for outcome in (found[name] for found in outcomes):
        assert outcome["weights"].keys() == expected["weights"].keys()
        for key, value in expected["weights"].items():
            torch.testing.assert_close(
                outcome["weights"][key], value, rtol=1e-7, atol=1e-9, msg=lambda m, k=key: f"{k}: {m}"
            )
        torch.testing.assert_close(torch.tensor(outcome["history"]), torch.tensor(expected["history"]))
    same = outcomes[0][name]["weights"]
    assert all(torch.equal(value, same[key]) for key, value in outcomes[1][name]["weights"].items())


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_shares_cover_the_pairs_once(size: int) -> None:
    pairs = torch.arange(14).view(2, 7)
    shares = [Group(rank, size).shard(pairs) for rank in range(size)]
    assert sorted(torch.cat(shares, dim=1)[0].tolist()) == list(range(7))
    assert max(s.size(1) for s in shares) - min(s.size(1) for s in shares) <= 1


def test_one_process_is_no_group(monkeypatch: pytest.MonkeyPatch) -> None:
    for variables in ({}, {"WORLD_SIZE": "1", "RANK": "0"}):
        for name in ("WORLD_SIZE", "RANK"):
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        with connected() as group:
            assert group is None
        assert is_first()
        assert local_device("cpu") == "cpu"


def test_torchrun_an_interruption_and_its_resumption(tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    runner = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*runner, *TRAIN, "--out", whole], capture_output=True, text=True, check=False, env=environment(), timeout=240
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("files in") == 1  # rank 0 alone speaks
    assert done.stderr.count("seed 0:") == 1
    lines = (whole / "seed_0" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == list(range(1, 31))
    assert json.loads((whole / "result.json").read_text())["processes"] == 2

    ranks = launch(*TRAIN, "--out", parts)
    wait_for(parts / "seed_0" / "last.pt", ranks)
    ranks[1].send_signal(signal.SIGINT)  # one is enough: they agree on the step after which to stop
    ranks[1].send_signal(signal.SIGINT)  # torchrun repeats what the terminal has sent
    ended = finish(ranks)
    assert [code for code, _, _ in ended] == [130, 130], ended
    assert "continue with" in ended[0][2]
    assert load_checkpoint(parts / "seed_0" / "last.pt")["position"]["epoch"] < 30
    assert [code for code, _, _ in finish(launch(*TRAIN, "--out", parts, "--resume"))] == [0, 0]
    first, second = (load_checkpoint(folder / "seed_0" / "last.pt") for folder in (whole, parts))
    assert all(torch.equal(value, second["model"][key]) for key, value in first["model"].items())


def test_a_rank_that_dies_ends_the_others_with_a_message(tmp_path: Path) -> None:
    ranks = launch(*TRAIN, "--out", tmp_path / "run")
    wait_for(tmp_path / "run" / "seed_0" / "last.pt", ranks)
    ranks[1].kill()
    (code, _, err), (killed, _, _) = finish(ranks)
    assert killed == -signal.SIGKILL
    assert code == 2
    assert "graphmem: error: rank 0 of 2: another process does not answer" in err


def test_an_error_of_rank_0_ends_all(tmp_path: Path) -> None:
    (tmp_path / "seed_0").mkdir()
    (tmp_path / "seed_0" / "last.pt").touch()
    (tmp_path / "config.json").write_text("{}")
    for code, _, err in finish(launch(*TRAIN, "--out", tmp_path)):
        assert code == 2
        assert "holds a run; continue it with --resume" in err


def wait_for(path: Path, ranks: list[subprocess.Popen[str]]) -> None:
    deadline = time.monotonic() + 120
    while not path.exists() and time.monotonic() < deadline and all(rank.poll() is None for rank in ranks):
        time.sleep(0.005)
    assert path.exists()
