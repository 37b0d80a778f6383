"""Kinds of runs: what a model's name decides about its configuration, data and construction."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from graphmem.data.dataset import GraphDataset
from graphmem.data.registry import load_dataset, load_stream
from graphmem.data.stream import EventStream
from graphmem.engine.build import Experiment, rebuild
from graphmem.engine.build import build as build_links
from graphmem.engine.distributed import Group
from graphmem.engine.evaluation import evaluate
from graphmem.engine.restore import read_run
from graphmem.engine.run_base import RunBase, Settings
from graphmem.engine.run_config import RunConfig, resolve
from graphmem.engine.stream_build import StreamExperiment, build_stream, final_task
from graphmem.engine.stream_config import STREAM_NAMES, StreamRunConfig, resolve_stream

Data = GraphDataset | EventStream
AnyExperiment = Experiment | StreamExperiment


def config_class(model: Any) -> type[RunBase]:
    """The class of a model's configuration; that of link prediction for unknown names, whose check explains."""
    return StreamRunConfig if model in STREAM_NAMES else RunConfig


def config_from_dict(values: Mapping[str, Any]) -> RunBase:
    """The configuration that its ``to_dict`` wrote."""
    return config_class(values.get("model")).from_dict(values)


def resolve_any(config: RunBase) -> Settings:
    """Combine a run's own values with its preset's."""
    return resolve_stream(config) if isinstance(config, StreamRunConfig) else resolve(_link(config))


def load_data(config: RunBase) -> Data:
    """The data of a run."""
    return load_stream(config.data) if isinstance(config, StreamRunConfig) else load_dataset(config.data)


def build(config: RunBase, seed: int, data: Data | None = None, group: Group | None = None) -> AnyExperiment:
    """Build everything that one seed needs. Seeds the global generators.

    Args:
        config: the run.
        seed: of everything random.
        data: the run's data, where they are loaded already.
        group: the processes that share the work, see :mod:`graphmem.engine.distributed`.
    """
    if isinstance(config, StreamRunConfig):
        assert data is None or isinstance(data, EventStream)
        return build_stream(config, seed, data, group)
    assert data is None or isinstance(data, GraphDataset)
    return build_links(_link(config), seed, data, group)


def measure_selected(
    experiment: AnyExperiment, weights: Mapping[str, Any], seed: int, group: Group | None = None
) -> tuple[dict[str, float], Mapping[str, Any]]:
    """Measure what is left until the weights are selected; the model has these afterwards, and their state.

    Returns:
        ``{"<split>/<metric>": value}``, empty where nothing is left, and the protocol of the whole run.
    """
    task = final_task(experiment, seed, group) if isinstance(experiment, StreamExperiment) else None
    if task is None:
        return {}, experiment.task.protocol
    experiment.model.load_state_dict(weights)
    return evaluate(experiment.model, task), task.protocol


def _link(config: RunBase) -> RunConfig:
    assert isinstance(config, RunConfig)
    return config


def load_any_run(
    path: str | os.PathLike[str], device: str | None = None, metrics: Sequence[str] | None = None
) -> tuple[AnyExperiment, dict[str, Any]]:
    """Rebuild model, data and task of any run from its checkpoint; see :func:`graphmem.engine.build.load_run`."""
    stored = read_run(path, device, metrics)
    if config_class(stored.config["model"]) is RunConfig:
        return rebuild(stored), stored.content
    experiment = build_stream(StreamRunConfig.from_dict(stored.config), stored.seed)
    stored.load_into(experiment.model)
    return experiment, stored.content
