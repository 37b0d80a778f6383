"""From a :class:`RunConfig` to model, task and optimizer; and back from a checkpoint."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from graphmem.data.dataset import GraphDataset, LinkSplit
from graphmem.data.registry import load_dataset
from graphmem.data.splits import split_edges
from graphmem.engine.checkpoint import load_checkpoint
from graphmem.engine.device import usable_device
from graphmem.engine.distributed import Group, local_device
from graphmem.engine.evaluation import evaluating
from graphmem.engine.link_task import LinkPredictionTask
from graphmem.engine.restore import StoredRun, read_run
from graphmem.engine.run_base import Settings
from graphmem.engine.run_config import HEURISTICS, RunConfig, resolve
from graphmem.engine.seeding import seed_everything
from graphmem.errors import ArgumentError, CheckpointError
from graphmem.models import GAE, NCN, NCN2, NCNC, LinkModel, NCNDiff
from graphmem.presets import TrainSettings

logger = logging.getLogger("graphmem.engine")

_CLASSES = {"gae": GAE, "ncn": NCN, "ncnc": NCNC, "ncn-diff": NCNDiff, "ncn2": NCN2}


class Experiment(NamedTuple):
    """What is trained: ``optimizer`` is None for a heuristic, which has nothing to learn."""

    model: LinkModel
    task: LinkPredictionTask
    optimizer: torch.optim.Optimizer | None
    settings: Settings
    dataset: GraphDataset


def build(config: RunConfig, seed: int, dataset: GraphDataset | None = None, group: Group | None = None) -> Experiment:
    """Build everything that one seed needs. Seeds the global generators.

    Args:
        config: the run.
        seed: of split, negatives, weights and dropout.
        dataset: the run's data set, where it is loaded already.
        group: the processes that share the work, see :mod:`graphmem.engine.distributed`.
    """
    settings = resolve(config)
    train = settings.train
    assert isinstance(train, TrainSettings)
    dataset = load_dataset(settings.data) if dataset is None else dataset
    split = _split(dataset, train.split, seed)
    x = None if "num_embeddings" in settings.options and _has_features(dataset) else dataset.x
    if settings.start is not None and settings.start.take == "embeddings":
        x = _embeddings(_start_checkpoint(config, settings, seed))
    size = train.batch_size
    batch_size = max(1, round(size * split.num_train)) if size < 1 else int(size)
    task = LinkPredictionTask(
        split,
        x,
        batch_size=batch_size,
        seed=seed,
        metrics=train.metrics,
        remove_targets=train.remove_targets,
        multi_edges="reference" if train.multi_edges == "reference" else "all",
        joint=bool(train.joint),
        valid_edges_at_test=train.valid_edges_at_test,
        drop_last=train.drop_last,
        negatives=train.negatives,
        name=settings.data if settings.data.startswith("generated:") else dataset.name,
        group=group,
    )
    _warn_of_few_negatives(split, train.metrics)
    seed_everything(seed)
    model = _model(settings, x, dataset.num_nodes)
    if settings.start is not None and settings.start.take == "weights":
        _load_start(model, _start_checkpoint(config, settings, seed))
    device = usable_device(local_device(config.device))
    model, task = model.to(device), task.to(device)
    optimizer = None if settings.model in HEURISTICS else _adam(model, train.encoder_lr, train.decoder_lr)
    return Experiment(model, task, optimizer, settings, dataset)


def _has_features(dataset: GraphDataset) -> bool:
    return dataset.x is not None and dataset.x.is_floating_point()


def _split(dataset: GraphDataset, protocol: str, seed: int) -> LinkSplit:
    if protocol == "auto":
        protocol = "ncn" if dataset.split is None else "publisher"
    if protocol != "publisher":
        return split_edges(dataset, protocol=protocol, seed=seed)
    if dataset.split is None:
        raise ArgumentError(f"split: data set {dataset.name!r} has no publisher's split; use ncn or random")
    return dataset.split


def _warn_of_few_negatives(split: LinkSplit, metrics: Sequence[str]) -> None:
    for name, negatives in (("validation", split.valid_neg), ("test", split.test_neg)):
        count = 0 if negatives is None else negatives.size(1)  # [2, M] shared, or [P, K, 2] of each link
        few = [metric for metric in metrics if metric.startswith("hits@") and int(metric[5:]) > count]
        if few:
            logger.warning("%s has only %d %s negatives: it is 1 for any scores", ", ".join(few), count, name)


def _model(settings: Settings, x: Tensor | None, num_nodes: int) -> LinkModel:
    if settings.model in HEURISTICS:
        from graphmem.models.heuristics import Heuristic

        return Heuristic(settings.model, **settings.options)  # type: ignore[arg-type]
    options = dict(settings.options)
    num_embeddings = options.pop("num_embeddings", None)
    in_channels = None
    if x is not None and x.is_floating_point():
        in_channels = x.size(1)
    elif num_embeddings is None:
        num_embeddings = num_nodes if x is None else int(x.max()) + 1
    if num_embeddings is not None:
        options["num_embeddings"] = num_embeddings
    widths = options.pop("hidden_channels", 256), options.pop("num_layers", 1)
    model: LinkModel = _CLASSES[settings.model](in_channels, *widths, compat=settings.compat, **options)  # type: ignore[arg-type]
    return model


def _adam(model: LinkModel, encoder_lr: float, decoder_lr: float) -> torch.optim.Optimizer:
    groups: list[dict[str, Any]] = [
        {"params": list(model.encoder.parameters()), "lr": encoder_lr},
        {"params": list(model.decoder.parameters()), "lr": decoder_lr},
    ]
    try:
        return torch.optim.Adam(groups, fused=True)
    except RuntimeError:  # a device without the fused kernel
        return torch.optim.Adam(groups)


def _start_checkpoint(config: RunConfig, settings: Settings, seed: int) -> Path:
    assert settings.start is not None
    if config.start_from is None:
        raise ArgumentError(
            f"start_from: the published settings start from the {settings.start.take} of a trained "
            f"{settings.start.model}; run `graphmem train {settings.start.model} --data {settings.data}` first and "
            'give its folder, or "none" to start from random weights'
        )
    return Path(config.start_from) / f"seed_{seed}" / "best.pt"


def _load_start(model: LinkModel, path: Path) -> None:
    """Load the weights of a smaller model; what only this one has stays as it was initialised."""
    weights = load_checkpoint(path)["model"]
    try:
        result = model.load_state_dict(weights, strict=False)
    except RuntimeError as error:
        raise CheckpointError(f"start_from: {path} does not fit: {error}") from error
    if result.unexpected_keys or any(key.startswith("encoder.") for key in result.missing_keys):
        raise CheckpointError(
            f"start_from: {path} does not fit: unexpected {result.unexpected_keys}, missing {result.missing_keys}"
        )


def _embeddings(path: Path) -> Tensor:
    trained, _ = load_run(path)
    with evaluating(trained.model):
        return trained.model.encode(trained.task.x, trained.task.graph).cpu()


def load_run(
    path: str | os.PathLike[str], device: str | None = None, metrics: Sequence[str] | None = None
) -> tuple[Experiment, dict[str, Any]]:
    """Rebuild model, data and task from a checkpoint of :func:`run`, with its best weights.

    Args:
        path: ``best.pt``, ``last.pt`` (the best weights so far), or the folder of a seed.
        device: "cpu", "cuda" or "auto"; that of the run by default.
        metrics: to measure instead of those of the run.

    Returns:
        The experiment and the checkpoint's content.

    Raises:
        CheckpointError: missing, damaged, not written by :func:`run` for a model of links, or its weights do not fit.
    """
    stored = read_run(path, device, metrics)
    return rebuild(stored), stored.content


def rebuild(stored: StoredRun) -> Experiment:
    """Model, data and task of a checkpoint that has been read, see :func:`load_run`."""
    model = stored.config["model"]
    if model not in _CLASSES and model not in HEURISTICS:
        raise CheckpointError(f"checkpoint {stored.path}: expected a model of links, found {model!r}")
    config = RunConfig.from_dict(stored.config)
    start = resolve(config).start
    if start is not None and start.take == "weights":  # they are overwritten below
        config = replace(config, start_from="none")
    experiment = build(config, stored.seed)
    stored.load_into(experiment.model)
    return experiment
