"""From a :class:`StreamRunConfig` to model, task and optimizer."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import torch

from graphmem.data.fixed_negatives import FixedNegatives
from graphmem.data.registry import load_publisher_negatives, load_stream
from graphmem.data.stream import EventStream
from graphmem.data.stream_splits import StreamSplit, split_stream
from graphmem.engine.device import usable_device
from graphmem.engine.distributed import Group
from graphmem.engine.event_task import TemporalLinkTask
from graphmem.engine.replayed_task import ReplayedLinkTask
from graphmem.engine.run_base import Settings
from graphmem.engine.seeding import seed_everything
from graphmem.engine.signed_task import SignedTask
from graphmem.engine.stream_config import (
    LEARNED,
    SIGNED_NAMES,
    STREAM_HEURISTICS,
    StreamRunConfig,
    resolve_stream,
)
from graphmem.errors import ArgumentError, NoNegativesError
from graphmem.models import (
    APAN,
    JODIE,
    NAT,
    SEMBA,
    TGN,
    TNCN,
    DyRep,
    EdgeBank,
    LocalGlobal,
    Recency,
    Reputation,
    TemporalLinkModel,
)
from graphmem.models.signs import signed_weights
from graphmem.nn import PRES, TemporalNeighbors
from graphmem.presets import StreamTrainSettings

logger = logging.getLogger("graphmem.engine")

_CLASSES: dict[str, Callable[..., TemporalLinkModel]] = {
    "tgn": TGN,
    "tncn": TNCN,
    "dyrep": DyRep,
    "jodie": JODIE,
    "apan": APAN,
    "nat": NAT,
    "semba": SEMBA,
}


class StreamExperiment(NamedTuple):
    """What is trained: ``optimizer`` is None for a heuristic, which has nothing to learn."""

    model: TemporalLinkModel
    task: TemporalLinkTask | SignedTask
    optimizer: torch.optim.Optimizer | None
    settings: Settings
    dataset: EventStream


def build_stream(
    config: StreamRunConfig, seed: int, stream: EventStream | None = None, group: Group | None = None
) -> StreamExperiment:
    """Build everything that one seed needs. Seeds the global generators.

    Args:
        config: the run.
        seed: of negatives, weights, dropout and, where they are random, the split and the model's hash.
        stream: the run's data, where they are loaded already.
        group: the processes that share the work.
    """
    settings = _seeded(resolve_stream(config), seed)
    train = settings.train
    assert isinstance(train, StreamTrainSettings)
    stream = load_stream(settings.data) if stream is None else stream
    if train.task != "existence" and settings.model not in SIGNED_NAMES:
        stream = stream.with_signed_messages()
    split = split_stream(stream, protocol=train.split, seed=seed)
    task = make_task(settings, split, seed, group)
    seed_everything(seed)
    device = usable_device(config.device)
    model = make_model(settings, stream)
    if stream.node_events is not None and (not model.reads_node_events or settings.pres is not None):
        raise ArgumentError(
            f"stream: {settings.model} with these options takes links only, and {stream.name} has events of single "
            'nodes; take stream.with_node_events(None), or options={"node_message_module": "concat"} where the model '
            "has a node memory, without PRES"
        )
    if model.reads_signs:
        signed_weights(stream, "stream")  # what a model of signs cannot take is better known before training
    model.fit_times(split.train)
    if settings.pres is not None:
        model.correctable.fit_pres(split.train.src, split.train.dst, split.train.t)
    model, task = model.to(device), task.to(device)
    optimizer = None
    if settings.model in LEARNED:
        if isinstance(task, SignedTask):
            task.check_selection()
        optimizer = torch.optim.Adam(model.parameters(), lr=train.lr, fused=True)
    experiment = StreamExperiment(model, task, optimizer, settings, stream)
    if train.num_ranking_negatives is not None:
        final_task(experiment, seed, group)  # a number that is too large is better known before training
    return experiment


def final_task(
    experiment: StreamExperiment, seed: int, group: Group | None = None
) -> TemporalLinkTask | SignedTask | None:
    """The task of the metrics that are measured of the selected weights alone; ``None`` where there are none."""
    train = experiment.settings.train
    assert isinstance(train, StreamTrainSettings)
    metrics = tuple(name for name in train.final_metrics if name not in train.metrics)
    if not metrics:
        return None
    settings = replace(experiment.settings, train=replace(train, metrics=metrics))
    split = experiment.task.split
    try:
        return make_task(settings, split.to("cpu"), seed, group).to(split.stream.device)  # as build_stream does
    except NoNegativesError as error:
        logger.warning("%s: left out; %s", ", ".join(metrics), error)
        return None


def _seeded(settings: Settings, seed: int) -> Settings:
    """The settings with the seed of the model's own draws, which is the run's unless the options say another.

    The released code of NAT draws it from Python's generator, seeded with that of its first run.
    """
    if settings.model != "nat" or "seed" in settings.options:
        return settings
    drawn = random.Random(seed).randint(0, 100) if settings.compat == "reference" else seed
    return replace(settings, options={**settings.options, "seed": drawn})


def make_task(
    settings: Settings, split: StreamSplit, seed: int, group: Group | None = None
) -> TemporalLinkTask | SignedTask:
    """The task of a run.

    Raises:
        ArgumentError: settings that the task does not have.
    """
    train = settings.train
    assert isinstance(train, StreamTrainSettings)
    common: dict[str, Any] = {"batch_size": int(train.batch_size), "eval_batch_size": train.eval_batch_size}
    common |= {"seed": seed, "negatives": train.negatives, "visibility": train.visibility, "metrics": train.metrics}
    if train.task != "existence":
        assert train.task is not None
        if group is not None:
            raise ArgumentError(f"task: {train.task!r} is trained by one process only")
        groups = train.groups or ("transductive", "new")
        return SignedTask(split, train.task, reduction=train.reduction, groups=groups, **common)
    ranking: str | FixedNegatives | None = train.ranking_negatives
    if ranking == FixedNegatives.kind:
        ranking = load_publisher_negatives(settings.data, split)
    make: Callable[..., TemporalLinkTask] = TemporalLinkTask if split.replay is None else ReplayedLinkTask
    return make(
        split,
        keep_ties=bool(train.keep_ties),
        num_negatives=train.num_negatives,
        eval_negatives=train.eval_negatives,
        ranking_negatives=ranking,
        num_ranking_negatives=train.num_ranking_negatives,
        groups=train.groups,
        group=group,
        **common,
    )


def make_model(settings: Settings, stream: EventStream) -> TemporalLinkModel:
    """The model of a run; what it has to know of the stream is its nodes, width of messages and kind of times."""
    model = _make_model(settings, stream)
    if settings.pres is not None:
        model.correct_by(PRES(model.num_nodes, model.correctable.width, **settings.pres))
    return model


def _make_model(settings: Settings, stream: EventStream) -> TemporalLinkModel:
    options = dict(settings.options)
    dtype = stream.t.dtype
    if settings.train.visibility == "mixed" and settings.model in ("tgn", "tncn"):  # type: ignore[attr-defined]
        options = {"delta": "query", "neighbors": TemporalNeighbors(stream.num_nodes, dtype=dtype), **options}
    if settings.model == "edgebank":
        return EdgeBank(**options, dtype=dtype)
    if settings.model == "localglobal":
        return LocalGlobal(stream.num_nodes, **options, dtype=dtype)
    if settings.model in STREAM_HEURISTICS:
        return Recency(stream.num_nodes, settings.model, **options, dtype=dtype)
    if settings.model == "reputation":
        return Reputation(stream.num_nodes, **options, dtype=dtype)
    if settings.model == "semba":
        options["out_channels"] = 3 if settings.train.task == "signed-existence" else 1  # type: ignore[attr-defined]
        if settings.compat == "reference":
            options["compat"] = "released"
    elif settings.model != "apan":
        options["compat"] = settings.compat
    try:
        return _CLASSES[settings.model](stream.num_nodes, stream.msg_dim, time_dtype=dtype, **options)
    except TypeError as error:
        raise ArgumentError(f"options: {settings.model} does not take all of {sorted(options)}: {error}") from error
