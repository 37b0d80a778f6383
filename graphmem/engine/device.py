"""Which device a run uses."""

from __future__ import annotations

import torch

from graphmem.errors import ArgumentError


def usable_device(name: str) -> torch.device:
    """The device of a run: cpu, cuda, or auto for cuda where it is usable.

    Raises:
        ArgumentError: an unknown name, or a device that is not usable.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ArgumentError(f"device: expected cpu, cuda or auto, got {name!r}") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ArgumentError(f"device: {name!r} is not usable here; `graphmem doctor` says what torch sees")
    return device
