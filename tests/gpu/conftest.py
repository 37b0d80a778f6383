"""Tests on a GPU. What they compare with is computed on the CPU; other folders' tests lend their inputs."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_map

TESTS = Path(__file__).parents[1]
sys.path += [str(TESTS / name) for name in ("ops", "models", "engine", "cli")]


@pytest.fixture(scope="session")
def device() -> torch.device:
    return torch.device("cpu" if os.environ.get("GRAPHMEM_GPU_TESTS_ON") == "cpu" else "cuda")


@pytest.fixture(scope="session")
def move(device: torch.device) -> Callable[[Any], Any]:
    """Anything with tensors in it, on the device; leaves stay leaves."""

    def one(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        return value.detach().to(device).requires_grad_(value.requires_grad)

    return lambda value: tree_map(one, value)


@pytest.fixture(scope="session")
def no_waiting(device: torch.device) -> Callable[[], AbstractContextManager[None]]:
    """A block in which the host must not wait for the device."""

    @contextmanager
    def block() -> Any:
        before = torch.cuda.get_sync_debug_mode()
        torch.cuda.set_sync_debug_mode("error")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode(before)

    return block if device.type == "cuda" else nullcontext
