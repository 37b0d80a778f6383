"""Where tensors are: link models train and score on a device that is not the CPU."""

from __future__ import annotations

import pytest
import torch
from device_steps import run
from second_device import second_device


@pytest.mark.parametrize("name", ["GAE", "NCN", "NCNDiff", "NCNC-clean", "NCNC-sampled"])
def test_a_few_steps_have_the_losses_of_the_cpu(name: str) -> None:
    losses, metrics, scores = run(name, torch.device("cpu"))
    with second_device() as device:
        found_losses, found_metrics, found_scores = run(name, device)
    assert len(losses) >= 8
    torch.testing.assert_close(torch.tensor(found_losses), torch.tensor(losses), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found_scores, scores, rtol=1e-4, atol=1e-5)
    assert found_metrics == pytest.approx(metrics, abs=0.01)
