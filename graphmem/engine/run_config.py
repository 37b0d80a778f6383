"""What a run is asked to do, and the settings that follow from it and from a preset."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

from graphmem.data.registry import graph_card
from graphmem.engine.metrics import check_metrics
from graphmem.engine.run_base import RunBase, Settings, check_choice
from graphmem.errors import ArgumentError, PresetError
from graphmem.presets import (
    MODELS,
    OPTION_TYPES,
    SPLITS,
    Preset,
    TrainSettings,
    close_presets,
    has_preset,
    load_preset,
)

HEURISTICS = ("cn", "aa", "ra", "jaccard", "katz", "ppr")

_COMPLETION = ("depth", "alpha", "scale", "offset", "pt", "learn_pt", "train_degree", "test_degree", "inner_input")
_HEURISTIC_OPTIONS = ("beta", "alpha", "max_length")
_NEEDED = ("batch_size", "epochs", "encoder_lr", "decoder_lr")


@dataclass(frozen=True, kw_only=True)
class RunConfig(RunBase):
    """A link prediction run: one model, one data set, several seeds. ``None`` means: as the preset has it.

    Args:
        model: gae, ncn, ncnc, ncn-diff or ncn2; or a heuristic, evaluated only: cn, aa, ra, jaccard, katz, ppr.
        data: name of a data set (see `graphmem data list`), path of an edge list, or generated:KIND?SETTING=VALUE&...
        tuned: use the settings that our own search found for the clean mode instead of the published ones.
        batch_size: links in a batch; below 1, a share of the training links.
        encoder_lr: learning rate of the encoder.
        decoder_lr: learning rate of the decoder.
        split: publisher, ncn (70/10/20 as the paper's code) or random (70/10/20 by counters); auto takes the
            publisher's where there is one, else ncn.
        remove_targets: take a batch's links out of the graph of its step.
        valid_edges_at_test: add the validation links to the graph that scores the test links.
        negatives: training negatives, uniform (non-edges) or target (the link's source with any target).
        clip_norm: largest gradient norm of encoder and decoder, each.
        average: decay per step of an average of the weights, which is then what is evaluated and kept.
        joint: decode links and negatives in one call; follows compat by default.
        multi_edges: all or reference, which copies of a link are taken out; follows compat by default.
        drop_last: leave out the last, smaller batch.
        start_from: folder of a finished run whose weights or embeddings training starts from, where the published
            settings do so; "none" starts from random weights.
    """

    tuned: bool = False
    batch_size: int | float | None = None
    encoder_lr: float | None = None
    decoder_lr: float | None = None
    split: str | None = None
    remove_targets: bool | None = None
    valid_edges_at_test: bool | None = None
    negatives: str | None = None
    clip_norm: float | None = None
    average: float | None = None
    joint: bool | None = None
    multi_edges: str | None = None
    drop_last: bool | None = None
    start_from: str | None = None

    def __post_init__(self) -> None:
        """Check what can be checked without data; call data sets by the names on their cards."""
        for name in ("data", "preset"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, canonical_name(getattr(self, name)))
        check_choice("model", self.model, (*MODELS, *HEURISTICS))
        super().__post_init__()
        for name, allowed in (("split", SPLITS), ("negatives", ("uniform", "target"))):
            check_choice(name, getattr(self, name), (None, *allowed))
        check_choice("multi_edges", self.multi_edges, (None, "all", "reference"))
        if self.batch_size is not None and not (0 < self.batch_size < 1 or self.batch_size == int(self.batch_size) > 0):
            raise ArgumentError(f"batch_size must be a positive integer or a share below 1, got {self.batch_size!r}")
        if self.metrics is not None:
            check_metrics(self.metrics)
        for name, value in self.options.items():
            check_choice("options", name, options_of(self.model))
            _check_option(name, value)


def options_of(model: str) -> tuple[str, ...]:
    """Names of a model's constructor options."""
    if model in HEURISTICS:
        return _HEURISTIC_OPTIONS
    return tuple(name for name in OPTION_TYPES if model == "ncnc" or name not in _COMPLETION)


def resolve(config: RunConfig) -> Settings:
    """Combine a run's own values with its preset's.

    Raises:
        PresetError: no preset for this pair, and too few values to do without.
        DatasetError: an unknown data set.
    """
    data = config.data
    if config.model in HEURISTICS:
        preset = _heuristic_preset(config, data)
    else:
        preset = _find_preset(config, data)
    given = {f.name: getattr(config, f.name) for f in fields(TrainSettings)}
    given = {name: value for name, value in given.items() if value is not None}
    borrowed = preset is not None and preset.data != data
    if preset is None:
        train = TrainSettings(**{**dict.fromkeys(_NEEDED, 1), **given})
        options: dict[str, Any] = {}
    else:
        # Another data set's preset says nothing about this one's split.
        split = {"split": "auto", "valid_edges_at_test": False} if borrowed else {}
        assert isinstance(preset.train, TrainSettings)
        train = replace(preset.train, **{**split, **given})
        options = {k: v for k, v in preset.options.items() if not (borrowed and k == "num_embeddings")}
    reference = config.compat == "reference"
    train = replace(
        train,
        joint=not reference if train.joint is None else train.joint,
        multi_edges=("reference" if reference else "all") if train.multi_edges is None else train.multi_edges,
    )
    own = preset is not None and not borrowed
    return Settings(
        model=config.model,
        data=data,
        compat=config.compat,
        options={**options, **config.options},
        train=train,
        preset=None if preset is None else preset.name,
        borrowed=borrowed,
        published=preset.published if own and preset else None,
        start=preset.start if own and preset and config.start_from != "none" else None,
    )


def canonical_name(data: str) -> str:
    """The name on a data set's card; paths and generated graphs stay as they are."""
    from graphmem.data.formats.edge_list import SUFFIXES

    return data if data.startswith("generated:") or data.lower().endswith(SUFFIXES) else graph_card(data).name


def _find_preset(config: RunConfig, data: str) -> Preset | None:
    if config.preset is not None:
        preset = load_preset(config.model, config.preset, tuned=config.tuned)
        if preset.start is not None and preset.data != data:
            raise PresetError(f"preset {preset.name}: it starts from a trained model and cannot serve {data!r}")
        return preset
    if config.tuned or has_preset(config.model, data):
        return load_preset(config.model, data, tuned=config.tuned)
    missing = [name for name in _NEEDED if getattr(config, name) is None]
    if missing:
        wanted = " ".join(f"--{name}" for name in missing)
        raise PresetError(
            f"preset: there is none for model {config.model!r} on data {data!r}"
            f"{close_presets(f'{config.model}-{data}')}. Borrow another data set's with --preset, e.g. --preset cora, "
            f"or give {wanted}"
        )
    return None


def _heuristic_preset(config: RunConfig, data: str) -> Preset | None:
    """Heuristics are judged as NCN is: by its metrics, on its split and graphs."""
    source = data if config.preset is None else config.preset
    if config.preset is None and not has_preset("ncn", source):
        return None
    return replace(load_preset("ncn", source), model=config.model, options={}, published=None)


def _check_option(name: str, value: Any) -> None:
    kind = OPTION_TYPES.get(name)
    if kind is None or type(value) is kind or (kind is float and type(value) is int):
        return
    if kind is int and value is None:  # no embeddings, all neighbours
        return
    words = {float: "a number", int: "a whole number", bool: "true or false", str: "a name"}
    raise ArgumentError(f"options: {name} must be {words[kind]}, got {value!r}")
