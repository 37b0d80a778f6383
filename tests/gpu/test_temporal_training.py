"""Temporal models on the GPU: an epoch has the losses, the scores and the state of the CPU."""

from __future__ import annotations

import pytest
import torch
from device_cases import IN_MAIN_MEMORY, NAMES, assert_same_epoch, build, epoch

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("name", NAMES)
def test_an_epoch_is_that_of_the_cpu(name: str, device: torch.device) -> None:
    assert_same_epoch(epoch(build(name), device), epoch(build(name), torch.device("cpu")))


@pytest.mark.parametrize("name", IN_MAIN_MEMORY)
def test_state_in_main_memory(name: str, device: torch.device) -> None:
    found = epoch(build(name, state_device="cpu"), device)
    assert_same_epoch(found, epoch(build(name), torch.device("cpu")))


@pytest.mark.parametrize("kind", ["tgn", "nat"])
def test_training_repeats_its_bits(kind: str, device: torch.device) -> None:
    first, second = epoch(build(kind), device), epoch(build(kind), device)
    assert torch.equal(first.losses, second.losses)
    assert all(torch.equal(first.state[key], value) for key, value in second.state.items())
