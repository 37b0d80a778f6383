"""Models on the GPU: a few steps have the losses of the CPU, an evaluation its metrics."""

from __future__ import annotations

import pytest
import torch
from device_steps import run

pytestmark = pytest.mark.gpu


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
