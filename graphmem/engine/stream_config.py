"""A run on a stream of events."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from graphmem.engine.options import check_count
from graphmem.engine.run_base import RunBase, Settings, check_choice
from graphmem.engine.signed_task import SIGNED_METRICS
from graphmem.errors import ArgumentError
from graphmem.nn.pres import PRES
from graphmem.presets import (
    RELEASED_TRAINING,
    SIGNED_MODELS,
    STREAM_MODELS,
    STREAM_OPTION_TYPES,
    TRAINING,
    StreamTrainSettings,
    has_preset,
    load_preset,
)

PRES_OPTIONS = tuple(name for name in inspect.signature(PRES).parameters if name not in ("num_nodes", "dim"))
# Nothing to learn: evaluated only.
STREAM_HEURISTICS = ("edgebank", "recency", "popularity", "localglobal")
# Likewise, of signs.
SIGNED_HEURISTICS = ("reputation",)
LEARNED = (*STREAM_MODELS, *SIGNED_MODELS)
SIGNED_NAMES = (*SIGNED_MODELS, *SIGNED_HEURISTICS)
STREAM_NAMES = (*LEARNED, *STREAM_HEURISTICS, *SIGNED_HEURISTICS)
TASKS = ("existence", *SIGNED_METRICS)


@dataclass(frozen=True, kw_only=True)
class StreamRunConfig(RunBase):
    """A run on a stream. ``None`` means: as the preset has it or, where there is none, PyG's example of TGN.

    In the reference mode of nat it is as the released code trains, and else a learning rate of 0.001.

    Args:
        model: tgn, tncn, dyrep, jodie, apan, nat or, of signs, semba; or a heuristic, evaluated only: edgebank,
            recency, popularity, localglobal or, of signs, reputation.
        data: name of a stream (see `graphmem data list`), or path of a file of events.
        batch_size: events that are predicted from the same state.
        eval_batch_size: the same for evaluations; batch_size by default.
        lr: learning rate.
        split: time (70/15/15 by quantiles of the time), tgb, dyglib, masked or inductive (test of hidden nodes alone).
        negatives: kind of the training negatives, random, historical, inductive or hist_rnd.
        eval_negatives: kinds of the negatives of AP and AUC, of these or random_new (of destinations of the period's
            events with a new node); the first gives the plain names.
        ranking_negatives: kind of those of MRR and Hits@K; publisher, of TGB's streams, takes TGB's own.
        num_ranking_negatives: how many of them an event has; 100 by default, or as many as every event can have.
        final_metrics: what is measured of the selected weights alone, once, as far as it is not in metrics; mrr by
            default where links are predicted, [] for nothing.
        visibility: what a prediction of the evaluation sees, batch (all events before its batch), event (all events
            before its own time) or, with tgn or tncn, in training too, mixed (memories of batch, neighbours of event).
        groups: of events reported apart, transductive, new (the inductive setting), new_old, new_new.
        clip_norm: largest norm of the gradient.
        task: what is predicted: existence (of links), sign, signed-existence (positive, negative or none) or weight;
            the last three need weights, and their visibility is batch or event. By default sign for a model of signs.
        reduction: of the loss of signs, class_mean or mean over events.
        keep_ties: a batch goes on until the time changes; always for models and tasks of signs.
        average: decay per step of an average of the weights, which is then what is evaluated and kept.
        pres: correct memories for the events that a large batch loses; see docs/pres.md.
        pres_options: constructor options of PRES, e.g. --pres_options.gate kalman.
    """

    batch_size: int | None = None
    eval_batch_size: int | None = None
    lr: float | None = None
    split: str | None = None
    negatives: str | None = None
    eval_negatives: tuple[str, ...] | None = None
    ranking_negatives: str | None = None
    num_ranking_negatives: int | None = None
    final_metrics: tuple[str, ...] | None = None
    visibility: str | None = None
    groups: tuple[str, ...] | None = None
    clip_norm: float | None = None
    average: float | None = None
    pres: bool = False
    pres_options: Mapping[str, Any] = field(default_factory=dict)
    task: str | None = None
    reduction: str | None = None
    keep_ties: bool | None = None

    def __post_init__(self) -> None:
        """Check what can be checked without data."""
        from graphmem.data.registry import canonical_stream_name

        for name in ("data", "preset"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, canonical_stream_name(getattr(self, name)))
        check_choice("model", self.model, STREAM_NAMES)
        check_choice("task", self.task, (None, *TASKS))
        super().__post_init__()
        for name in ("batch_size", "eval_batch_size", "num_ranking_negatives"):
            if getattr(self, name) is not None:
                check_count(name, getattr(self, name))
        if self.lr is not None and not self.lr > 0:
            raise ArgumentError(f"lr must be positive, got {self.lr!r}")
        for name in self.options:
            check_choice("options", name, tuple(STREAM_OPTION_TYPES))
        for name in self.pres_options:
            check_choice("pres_options", name, PRES_OPTIONS)
        if self.pres_options and not self.pres:
            raise ArgumentError(f"pres_options: expected --pres with them, got {dict(self.pres_options)}")


def resolve_stream(config: StreamRunConfig) -> Settings:
    """Combine a run's own values with its preset's, or with the defaults where there is none.

    Raises:
        PresetError: ``preset`` names a data set without one.
    """
    source = config.data if config.preset is None else config.preset
    preset = None
    if config.model in LEARNED and (config.preset is not None or has_preset(config.model, source)):
        preset = load_preset(config.model, source)
    given: dict[str, Any] = {f.name: getattr(config, f.name, None) for f in fields(StreamTrainSettings)}
    given = {name: value for name, value in given.items() if value is not None}
    usual = RELEASED_TRAINING if config.compat == "reference" else TRAINING
    train = usual.get(config.model, StreamTrainSettings()) if preset is None else preset.train
    assert isinstance(train, StreamTrainSettings)
    train = _with_task(replace(train, **given), config, measured=train.task or "existence")
    borrowed = preset is not None and preset.data != config.data
    return Settings(
        model=config.model,
        data=config.data,
        compat=config.compat,
        options={**({} if preset is None else preset.options), **config.options},
        train=train,
        preset=None if preset is None else preset.name,
        borrowed=borrowed,
        published=None if preset is None or borrowed else preset.published,
        pres=config.pres_options if config.pres else None,
    )


def _with_task(train: StreamTrainSettings, config: StreamRunConfig, measured: str) -> StreamTrainSettings:
    """The settings with what follows from the task; ``measured`` is the one that their metrics are of."""
    signed = config.model in SIGNED_NAMES
    task = train.task or ("sign" if signed else "existence")
    metrics, final = train.metrics, train.final_metrics
    if config.metrics is None and task != measured:
        metrics = SIGNED_METRICS.get(task, StreamTrainSettings.metrics)
    if config.final_metrics is None and task != "existence":
        final = ()
    keep_ties = train.keep_ties if train.keep_ties is not None else signed or task != "existence"
    if not keep_ties and (signed or task != "existence"):
        raise ArgumentError("keep_ties: expected true for models and tasks of signs, got false")
    return replace(train, task=task, metrics=metrics, final_metrics=final, keep_ties=keep_ties)
