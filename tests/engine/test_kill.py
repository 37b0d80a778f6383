"""Processes that are really killed, at random moments, and continued until training is finished."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import engine_toy
import pytest
import torch
from engine_toy import assert_same, build, outcome

from graphmem.engine import load_checkpoint

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL and fork")
PAUSE = 0.01


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """The bits of a sum depend on the number of threads; the workers use one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def expected(one_thread):
    trainer = build(epochs=6)
    return outcome(trainer, trainer.fit())


def spawn(*arguments: object, **options: object) -> subprocess.Popen:
    worker = Path(engine_toy.__file__)
    path = os.pathsep.join([str(worker.parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, str(worker), *map(str, arguments)]
    return subprocess.Popen(command, env={**os.environ, "PYTHONPATH": path}, text=True, **options)


def written(checkpoint: Path) -> int:
    return checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0


def wait_until(condition, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.001)


def finish(directory: Path, expected: dict) -> None:
    assert_same(torch.load(directory / "outcome.pt", weights_only=True), expected)


def test_killed_process(tmp_path, expected):
    checkpoint = tmp_path / "last.pt"
    process = spawn(tmp_path, 2, PAUSE)
    wait_until(lambda: written(checkpoint) or process.poll() is not None)
    time.sleep(3 * PAUSE)
    process.kill()
    assert process.wait(timeout=60) == -signal.SIGKILL
    position = load_checkpoint(checkpoint)["position"]  # whatever the moment, it is whole
    assert 1 <= position["step"] < 24
    assert spawn(tmp_path, 3, 0).wait(timeout=60) == 0
    finish(tmp_path, expected)


def test_many_kills(tmp_path, expected):
    """Forks of one process are killed at random, some inside a write, until several runs are finished."""
    chance, kills, positions = random.Random(2), 0, set()
    server = spawn("serve", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    for run in range(3):
        directory = tmp_path / str(run)
        directory.mkdir()
        checkpoint = directory / "last.pt"
        for attempt in range(60):
            before = written(checkpoint)
            server.stdin.write(f"{directory} {1 + run} {chance.choice([0, PAUSE])}\n")
            server.stdin.flush()
            pid = int(server.stdout.readline())
            # a worker that was killed after its last checkpoint writes the outcome only
            wait_until(lambda c=checkpoint, b=before: written(c) != b or (c.parent / "outcome.pt").exists())
            time.sleep(chance.uniform(0, 0.03) if attempt < 50 else 1)
            # The server has not collected the child before it prints the status, so the pid is still the child's
            # unless it has just finished.
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            code = int(server.stdout.readline())
            assert code in (0, -signal.SIGKILL)
            kills += code != 0
            position = load_checkpoint(checkpoint)["position"]
            positions.add((position["epoch"], position["batch_index"]))
            if (directory / "outcome.pt").exists():
                break
        finish(directory, expected)
    server.stdin.close()
    assert server.wait(timeout=60) == 0
    server.stdout.close()
    assert kills >= 5, kills
    assert len(positions) >= 4, positions


def test_ctrl_c(tmp_path, expected):
    process = spawn(tmp_path, 1000, PAUSE)
    # written after every epoch: the first file means that training is under way
    wait_until(lambda: written(tmp_path / "last.pt") or process.poll() is not None)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 0, "a clean end, not a traceback"
    assert 4 <= load_checkpoint(tmp_path / "last.pt")["position"]["step"] < 24
    assert not (tmp_path / "outcome.pt").exists()
    trainer = build(tmp_path, epochs=6)
    assert_same(outcome(trainer, trainer.fit(resume=True)), expected)
