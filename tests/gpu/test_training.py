"""Models on the GPU: a few steps have the losses of the CPU, an evaluation its metrics."""

from __future__ import annotations

import pytest
import torch
from model_cases import DROPOUT, by_name, edges, nodes_x

from graphmem.data import LinkSplit
from graphmem.engine.link_task import LinkPredictionTask

pytestmark = pytest.mark.gpu


def make_task(device: torch.device) -> LinkPredictionTask:
    links = edges(200, 12.0)
    links = links[:, torch.randperm(links.size(1), generator=torch.Generator().manual_seed(1))]
    others = torch.randint(0, 200, (2, 2, 100), generator=torch.Generator().manual_seed(2))
    split = LinkSplit(
        train=links[:, 200:].contiguous(),
        valid=links[:, :100].contiguous(),
        test=links[:, 100:200].contiguous(),
        valid_neg=others[0],
        test_neg=others[1],
        num_nodes=200,
        protocol="random",
    )
    return LinkPredictionTask(split, nodes_x(200), batch_size=128, metrics=("hits@10", "mrr", "auc")).to(device)


def run(name: str, device: torch.device) -> tuple[list[float], dict[str, float], torch.Tensor]:
    model = by_name[name].build(hidden=32, **DROPOUT).to(device)
    task = make_task(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    torch.manual_seed(3)  # of the dropout masks, which are functions of it on every device
    losses = []
    for epoch in (1, 2):
        for batch in task.batches("train", epoch):
            optimizer.zero_grad()
            loss = task.loss(model, batch)
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
    model.eval()
    with torch.no_grad():
        return losses, task.evaluate(model, "valid"), torch.cat(task.scores(model, "test")).cpu()


@pytest.mark.parametrize("name", ["GAE", "NCN", "NCN-gcn", "NCNDiff", "NCN2", "NCNC-clean", "NCNC-pt", "NCNC-sampled"])
def test_a_few_steps_have_the_losses_of_the_cpu(name: str, device: torch.device) -> None:
    losses, metrics, scores = run(name, device)
    want_losses, want_metrics, want_scores = run(name, torch.device("cpu"))
    assert len(losses) >= 8
    torch.testing.assert_close(torch.tensor(losses), torch.tensor(want_losses), rtol=2e-3, atol=2e-4)
    torch.testing.assert_close(scores, want_scores, rtol=2e-2, atol=2e-2)
    assert metrics["auc"] == pytest.approx(want_metrics["auc"], abs=0.01)


@pytest.mark.parametrize("name", ["NCN", "NCNC-clean"])
def test_training_repeats_its_bits(name: str, device: torch.device) -> None:
    first, second = run(name, device), run(name, device)
    assert first[0] == second[0]
    assert torch.equal(first[2], second[2])


def test_command(device: torch.device, capsys: pytest.CaptureFixture[str], tmp_path, monkeypatch) -> None:
    pytest.importorskip("jsonargparse")
    from cli_command import TRAIN, Command

    monkeypatch.chdir(tmp_path)
    result = Command(capsys).json("train", "ncn", *TRAIN, "--epochs", 1, "--device", device.type, "--out", "run")
    assert result
