"""From a :class:`StreamRunConfig` to model, task and optimizer."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch

from graphmem.data.fixed_negatives import FixedNegatives
from graphmem.data.registry import load_publisher_negatives, load_stream
from graphmem.data.stream import EventStream
from graphmem.data.stream_splits import split_stream
from graphmem.engine.device import usable_device
from graphmem.engine.distributed import Group
from graphmem.engine.event_task import TemporalLinkTask
from graphmem.engine.run_base import Settings
from graphmem.engine.seeding import seed_everything
from graphmem.engine.stream_config import STREAM_HEURISTICS, StreamRunConfig, resolve_stream
from graphmem.errors import ArgumentError
from graphmem.models import APAN, JODIE, NAT, TGN, TNCN, DyRep, EdgeBank, LocalGlobal, Recency, TemporalLinkModel
from graphmem.nn import PRES, TemporalNeighbors
from graphmem.presets import StreamTrainSettings

_CLASSES: dict[str, Callable[..., TemporalLinkModel]] = {
    "tgn": TGN,
    "tncn": TNCN,
    "dyrep": DyRep,
    "jodie": JODIE,
    "apan": APAN,
    "nat": NAT,
}


class StreamExperiment(NamedTuple):
    """What is trained: ``optimizer`` is None for a heuristic, which has nothing to learn."""

    model: TemporalLinkModel
    task: TemporalLinkTask
    optimizer: torch.optim.Optimizer | None
    settings: Settings
    dataset: EventStream


def build_stream(
    config: StreamRunConfig, seed: int, stream: EventStream | None = None, group: Group | None = None
) -> StreamExperiment:
    """Build everything that one seed needs. Seeds the global generators.

    Args:
        config: the run.
        seed: of negatives, weights, dropout and, where it is random, the split.
        stream: the run's data, where they are loaded already.
        group: the processes that share the work.
    """
    settings = resolve_stream(config)
    train = settings.train
    assert isinstance(train, StreamTrainSettings)
    stream = load_stream(settings.data) if stream is None else stream
    split = split_stream(stream, protocol=train.split, seed=seed)
    ranking: str | FixedNegatives | None = train.ranking_negatives
    if ranking == FixedNegatives.kind:
        ranking = load_publisher_negatives(settings.data, split)
    task = TemporalLinkTask(
        split,
        batch_size=int(train.batch_size),
        eval_batch_size=train.eval_batch_size,
        seed=seed,
        negatives=train.negatives,
        num_negatives=train.num_negatives,
        eval_negatives=train.eval_negatives,
        ranking_negatives=ranking,
        num_ranking_negatives=train.num_ranking_negatives,
        visibility=train.visibility,
        groups=train.groups,
        metrics=train.metrics,
        group=group,
    )
    seed_everything(seed)
    device = usable_device(config.device)
    model = make_model(settings, stream)
    if settings.pres is not None:
        model.correctable.fit_pres(split.train.src, split.train.dst, split.train.t)
    model, task = model.to(device), task.to(device)
    optimizer = None
    if settings.model not in STREAM_HEURISTICS:
        optimizer = torch.optim.Adam(model.parameters(), lr=train.lr, fused=True)
    return StreamExperiment(model, task, optimizer, settings, stream)


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
    if settings.model not in ("apan", "nat"):
        options["compat"] = settings.compat
    try:
        return _CLASSES[settings.model](stream.num_nodes, stream.msg_dim, time_dtype=dtype, **options)
    except TypeError as error:
        raise ArgumentError(f"options: {settings.model} does not take all of {sorted(options)}: {error}") from error
