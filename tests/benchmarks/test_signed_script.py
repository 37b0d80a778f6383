"""The script of signs: every row is found again by its command, and the logistic regression is one."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest
import torch

from graphmem.data.stream import EventStream


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    return importlib.import_module("signed")


def test_rows_are_found_by_their_commands(script: ModuleType) -> None:
    runs = [row for row in (*script.ROWS, *script.PRES_ROWS) if row != "logistic"]
    for batch, data in ((1, "wiki-rfa-year"), (1, "bitcoin-otc"), (200, "bitcoin-otc")):
        for seeds in (1, 5):
            commands = {row: script.config(row, batch, seeds, data=data).command() for row in runs}
            assert len(set(commands.values())) == len(commands)
            assert {row: script.row_of(command) for row, command in commands.items()} == {row: row for row in commands}
    for row in ("logistic", *script.GRAPH_ROWS):
        assert script.row_of(f"python benchmarks/signed.py --rows {row} --batches 200") == row
    elsewhere = "python benchmarks/signed.py --rows both --batches 200 --elsewhere 1"
    assert script.row_of(elsewhere) == "both, trained at 200"


def test_tasks_are_found_by_their_commands(script: ModuleType) -> None:
    tasks = importlib.import_module("signed_tasks")
    rows = [(task, row) for task in tasks.METRICS for row in tasks.rows_of(task)]
    commands = [tasks.config(*row, 5, None).command() for row in rows]
    assert len(set(commands)) == len(rows) == 9 + 4 + 5
    assert [tasks.row_of(command) for command in commands] == rows


def test_our_side_of_the_speed(script: ModuleType) -> None:
    speed = importlib.import_module("speed_semba")
    g = torch.Generator().manual_seed(0)
    src, dst = torch.randint(30, (2, 300), generator=g)
    weight = 1.0 - 2 * (torch.rand(300, generator=g) < 0.4)
    stream = EventStream(src, dst, torch.arange(300), 30, weight=weight)
    side = speed.Ours(stream, speed.ALIKE)
    side.start()
    losses = [side.train_step(stream[at : at + 50]) for at in range(0, 200, 50)]
    assert all(0 < loss < 5 for loss in losses)
    assert int(side.model.position) == 200


def test_logistic_regression_is_that_of_scikit_learn(script: ModuleType) -> None:
    from sklearn.linear_model import LogisticRegression

    g = torch.Generator().manual_seed(0)
    x = torch.randn(200, 4, generator=g, dtype=torch.float64)
    y = (x @ torch.tensor([1.0, -2, 0, 0.5], dtype=torch.float64) + torch.randn(200, generator=g) > 0.3).double()
    peer = LogisticRegression(C=1 / (200 * script.PENALTY), tol=1e-10, max_iter=1000).fit(x.numpy(), y.numpy())
    wanted = torch.cat((torch.from_numpy(peer.coef_[0]), torch.from_numpy(peer.intercept_)))
    torch.testing.assert_close(script.fitted(x, y), wanted, rtol=0, atol=1e-3)


@pytest.mark.parametrize("row", ["gcn", "sgcn"])
def test_static_networks_know_no_later_events(script: ModuleType, monkeypatch: pytest.MonkeyPatch, row: str) -> None:
    graphs = importlib.import_module("signed_graphs")
    monkeypatch.setattr(graphs, "SNAPSHOT_EPOCHS", 3)
    monkeypatch.setattr(graphs, "EPOCHS", 3)
    monkeypatch.setattr(graphs, "HIDDEN", 8)
    g = torch.Generator().manual_seed(0)
    src, dst = torch.randint(30, (2, 300), generator=g)
    weight = 1.0 - 2 * (torch.rand(300, generator=g) < 0.4)

    def scores(weight: torch.Tensor) -> torch.Tensor:
        stream = EventStream(src, dst, torch.arange(300), 30, weight=weight)
        task = script.SignedTask(script.split_stream(stream), "sign", batch_size=20)
        return script.GRAPH_ROWS[row](task, 0)

    score, last = scores(weight), int(0.9 * 300)
    assert score[-30:].unique().numel() > 20
    flipped = weight.clone()
    flipped[last:] *= -1
    assert torch.equal(scores(flipped)[:last], score[:last])


def test_the_sign_of_a_link_is_that_of_its_last_event(script: ModuleType) -> None:
    graphs = importlib.import_module("signed_graphs")
    src, dst = torch.tensor([[0, 0, 1, 0, 1], [1, 2, 0, 1, 0]])
    stream = EventStream(src, dst, torch.arange(5), 3, weight=torch.tensor([1.0, 2, -1, -3, 4]))
    positive, negative = graphs.latest(stream)
    assert positive.t().tolist() == [[0, 2], [1, 0]]
    assert negative.t().tolist() == [[0, 1]]
