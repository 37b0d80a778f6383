"""Models for online use, from what a training run left."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch

from graphmem.data.names import NodeNames
from graphmem.data.stream import EventStream
from graphmem.engine.device import usable_device
from graphmem.engine.families import load_any_run
from graphmem.engine.stream_build import StreamExperiment, make_model
from graphmem.engine.stream_config import StreamRunConfig, resolve_stream
from graphmem.errors import CheckpointError
from graphmem.models.temporal import TemporalLinkModel
from graphmem.nn.state import reset_state
from graphmem.ops import _check

# What of a run's stream the state may have seen.
AFTER = ("nothing", "train", "valid", "test")


class FollowedRun(NamedTuple):
    """A trained model behind some of the events of its stream, with their names and the time of the last of them."""

    model: TemporalLinkModel
    names: NodeNames
    latest: float | None
    config: dict[str, Any]


def follow_run(path: str | os.PathLike[str], after: str, device: str | None = None) -> FollowedRun:
    """Load a run on a stream, and show the model the events up to the end of a period.

    Args:
        path: of a checkpoint, see :func:`graphmem.engine.restore.read_run`.
        after: one of :data:`AFTER`.
        device: as for :func:`graphmem.engine.families.load_any_run`.

    Raises:
        CheckpointError: missing, damaged, or of a run on a graph.
        ArgumentError: unknown period, or a state that is behind its end already.
    """
    _check.choice("after", after, AFTER)
    run, content = load_any_run(path, device)
    if not isinstance(run, StreamExperiment):
        raise CheckpointError(f"checkpoint {path}: expected a run on a stream, got one of {run.settings.model!r}")
    split, model = run.task.split, run.model.eval()
    model.prepare(split.stream)
    seen = {"nothing": 0, "train": split.valid.first, "valid": split.test.first, "test": len(split.stream)}[after]
    if seen:
        with torch.no_grad():
            run.task.catch_up(model, seen)
    else:
        reset_state(model)
    latest = split.stream.t[seen - 1].item() if seen else None
    return FollowedRun(model, NodeNames.of(split.stream), latest, content["config"])


def empty_model(
    config: Mapping[str, Any], msg_dim: int, whole_times: bool, device: str | None = None
) -> TemporalLinkModel:
    """The model of a run, without nodes; a state says how many there are."""
    run = StreamRunConfig.from_dict(config)
    none = torch.empty(0, dtype=torch.int64)
    t = none if whole_times else none.double()
    like = EventStream(none, none, t, 0, msg=torch.empty(0, msg_dim) if msg_dim else None)
    return make_model(resolve_stream(run), like).to(usable_device(run.device if device is None else device))


__all__ = ["AFTER", "FollowedRun", "empty_model", "follow_run"]
