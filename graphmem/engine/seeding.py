"""Random number generators: seeding, saving, restoring, and deterministic algorithms."""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

from graphmem.errors import ArgumentError


def seed_everything(seed: int) -> None:
    """Seed Python's ``random``, numpy's global generator and torch (CPU and every accelerator).

    Args:
        seed: ``0 <= seed < 2**32`` (numpy's range).

    Raises:
        ArgumentError: If the seed is not such an integer.
    """
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**32:
        raise ArgumentError(f"seed must be an integer in [0, 2**32), got {seed!r}")
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def rng_state() -> dict[str, Any]:
    """Return the state of every global generator, as tensors and plain values (loadable with ``weights_only=True``).

    CUDA generators are included once CUDA is in use; asking does not start it.

    Raises:
        ArgumentError: If numpy's global generator was replaced by something other than MT19937.
    """
    version, words, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    if name != "MT19937":
        raise ArgumentError(f"numpy's global generator must be MT19937 to be saved, got {name}")
    state: dict[str, Any] = {
        "torch": torch.get_rng_state(),
        "python": {"version": version, "words": torch.tensor(words, dtype=torch.int64), "gauss": gauss},
        "numpy": {
            "keys": torch.from_numpy(np.asarray(keys).astype(np.int64)),
            "position": int(position),
            "has_gauss": int(has_gauss),
            "cached": float(cached),
        },
    }
    if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def restore_rng_state(state: Mapping[str, Any]) -> None:
    """Restore what :func:`rng_state` returned.

    States of CUDA devices that are not here are left out: such a run cannot continue with the same bits anyway.
    """
    python, numpy = state["python"], state["numpy"]
    random.setstate((python["version"], tuple(python["words"].tolist()), python["gauss"]))
    keys = numpy["keys"].numpy().astype(np.uint32)
    np.random.set_state(("MT19937", keys, numpy["position"], numpy["has_gauss"], numpy["cached"]))
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available():
        for device, value in zip(range(torch.cuda.device_count()), state["cuda"], strict=False):
            torch.cuda.set_rng_state(value, device)


@contextlib.contextmanager
def preserve_rng() -> Iterator[None]:
    """Leave every global generator after the block as it was before, whatever the block draws."""
    state = rng_state()
    try:
        yield
    finally:
        restore_rng_state(state)


@contextlib.contextmanager
def deterministic(warn_only: bool = False) -> Iterator[None]:
    """Use deterministic algorithms of torch and cuDNN inside the block; restore the settings after it.

    ``CUBLAS_WORKSPACE_CONFIG`` is set for the block if it is not set yet; cuBLAS reads it when it starts, so enter the
    block before the first CUDA matrix product.

    Args:
        warn_only: Warn about operations without a deterministic version instead of raising.
    """
    variable = "CUBLAS_WORKSPACE_CONFIG"
    before = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.backends.cudnn.benchmark,
        os.environ.get(variable),
    )
    os.environ.setdefault(variable, ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=warn_only)
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        torch.backends.cudnn.benchmark = before[2]
        if before[3] is None:
            os.environ.pop(variable, None)
