"""What a checkpoint of a run holds, whatever was trained."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from graphmem.engine.checkpoint import load_checkpoint
from graphmem.errors import CheckpointError

logger = logging.getLogger("graphmem.engine")


class StoredRun(NamedTuple):
    """A checkpoint of a run: its configuration (with the device to use now), seed and whole content."""

    path: Path
    config: dict[str, Any]
    seed: int
    content: dict[str, Any]

    def load_into(self, model: nn.Module) -> None:
        """Give a model the best weights and the state that belongs to them.

        Raises:
            CheckpointError: they do not fit.
        """
        try:
            model.load_state_dict(self.content.get("best_state") or self.content["model"])
        except RuntimeError as error:
            raise CheckpointError(f"checkpoint {self.path} does not fit its own configuration: {error}") from error


def read_run(
    path: str | os.PathLike[str], device: str | None = None, metrics: Sequence[str] | None = None
) -> StoredRun:
    """Read a checkpoint of a run.

    Args:
        path: ``best.pt``, ``last.pt`` (the best weights so far), or the folder of a seed.
        device: "cpu", "cuda" or "auto"; that of the run by default.
        metrics: to measure instead of those of the run.

    Raises:
        CheckpointError: missing, damaged, or not written by a run.
    """
    target = Path(path)
    if target.is_dir():
        target = target / "best.pt"
    content = load_checkpoint(target)
    seed = content.get("seed", content.get("identity", {}).get("seed"))
    config = content.get("config")
    if not isinstance(config, dict) or "model" not in config or seed is None:
        raise CheckpointError(f"checkpoint {target} was not written by `graphmem train`: it has no configuration")
    if device is None and config.get("device", "cpu") != "cpu" and not torch.cuda.is_available():
        logger.warning("%s was trained on %s, which is not usable here; using the CPU", target, config["device"])
        device = "cpu"
    now = {"device": device, "metrics": metrics}
    changed = {name: value for name, value in now.items() if value is not None}
    return StoredRun(target, {**config, **changed}, seed, content)
