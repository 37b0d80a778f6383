"""Hyperparameters as data: one TOML file a (model, data set), checked when it is read.

``MODEL-DATA.toml`` is what was published, ``MODEL-DATA-tuned.toml`` what a search of our own found for the clean mode.

A file may say ``extends = "ncn-cora"``: it then takes over that file's ``model``, ``data``, ``[options]`` and
``[train]``, key by key, and states only what differs. ``notes``, ``[start]`` and ``[published]`` are a file's own.

``mean`` and ``std`` of ``[published]`` are percent, as papers print them. ``verified = false`` marks a number that was
not compared with its source.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from graphmem.errors import PresetError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = [
    "RELEASED_TRAINING",
    "TRAINING",
    "Preset",
    "Published",
    "Start",
    "StreamTrainSettings",
    "TrainBase",
    "TrainSettings",
    "close_presets",
    "has_preset",
    "list_presets",
    "load_preset",
]

_TUNED = "-tuned"

FOLDER = Path(__file__).parent

# Names and types of the models' constructor options. This floor imports no model; a test compares the two.
OPTION_TYPES: dict[str, type] = {
    **dict.fromkeys(("conv", "inner_input"), str),
    **dict.fromkeys(("hidden_channels", "num_layers", "num_embeddings"), int),
    **dict.fromkeys(("norm", "residual", "jk", "use_xlin", "tail_act", "two_layer_lin", "learn_pt"), bool),
    **dict.fromkeys(("input_dropout", "dropout", "tail_dropout", "edge_dropout"), float),
    **dict.fromkeys(("pair_dropout", "pair_edge_dropout", "beta", "alpha", "scale", "offset", "pt"), float),
    **dict.fromkeys(("depth", "train_degree", "test_degree"), int),
}
STREAM_OPTION_TYPES: dict[str, type] = {
    **dict.fromkeys(("memory_dim", "time_dim", "embedding_dim", "num_neighbors", "heads", "mailbox"), int),
    **dict.fromkeys(("value_dim", "position_dim", "pool_dim", "seed"), int),
    **dict.fromkeys(("updater", "commit", "aggregator_module", "node_message_module", "state_device"), str),
    **dict.fromkeys(("time_init", "delta", "hops", "pool", "time", "hash", "semantics", "drift"), str),
    **dict.fromkeys(("key_dtype", "value_dtype"), str),
    **dict.fromkeys(("features", "decoder", "aggr", "clock", "ends"), str),
    **dict.fromkeys(("dropout", "time_scale", "window", "replace_prob", "decoder_dropout"), float),
    "hidden_channels": int,
    "sizes": list,
    **dict.fromkeys(("directed", "sign_in_edge", "tie_params", "t_batches", "refresh_hop2"), bool),
}
MODELS = ("gae", "ncn", "ncnc", "ncn-diff", "ncn2")
STREAM_MODELS = ("tgn", "tncn", "dyrep", "jodie", "apan", "nat")
# Models that read the signs of a stream's weights.
SIGNED_MODELS = ("semba",)
SPLITS = ("auto", "ncn", "random", "publisher")
_KEYS = ("extends", "model", "data", "notes", "options", "train", "published", "start")


@dataclass(frozen=True, kw_only=True)
class TrainBase:
    """What every way of training has.

    Args:
        batch_size: items in a batch; below 1, a share of the training items.
        epochs: number of epochs.
        metrics: what is measured; the first one chooses the epoch whose weights are kept.
        clip_norm: largest gradient norm of each group of parameters.
        average: decay per step of an average of the weights, which is then what is evaluated and kept.
    """

    batch_size: int | float
    epochs: int
    metrics: tuple[str, ...]
    clip_norm: float | None = None
    average: float | None = None


@dataclass(frozen=True, kw_only=True)
class TrainSettings(TrainBase):
    """How a model of links is trained and judged; the groups of parameters are encoder and decoder.

    Args:
        encoder_lr: Adam's learning rate of the encoder.
        decoder_lr: Adam's learning rate of the decoder.
        split: "publisher" for the data set's own, or a protocol of :func:`graphmem.data.splits.split_edges`; "auto" is
            the publisher's where there is one, else "ncn".
        remove_targets: take the links of a batch out of the graph of its step.
        valid_edges_at_test: add the validation links to the graph that scores the test links.
        negatives: "uniform" non-edges, or "target" to keep the source of a link and draw any target.
        joint: decode links and negatives in one call; None leaves it to ``compat``.
        multi_edges: "all" or "reference", see :meth:`graphmem.data.graph.CSRGraph.without_edges`; None likewise.
        drop_last: leave out the last, smaller batch.
    """

    encoder_lr: float
    decoder_lr: float
    metrics: tuple[str, ...] = ("hits@100", "mrr")
    split: str = "auto"
    remove_targets: bool = True
    valid_edges_at_test: bool = False
    negatives: str = "uniform"
    joint: bool | None = None
    multi_edges: str | None = None
    drop_last: bool = True


@dataclass(frozen=True, kw_only=True)
class StreamTrainSettings(TrainBase):
    """How a model of streams is trained and judged. The defaults are those of PyG's example of TGN.

    Args:
        lr: Adam's learning rate.
        eval_batch_size: items in a batch of an evaluation; None: as in training.
        split: a protocol of :func:`graphmem.data.stream_splits.split_stream`.
        negatives: kind of the training negatives, see :class:`graphmem.data.event_negatives.EventNegatives`.
        num_negatives: of them for each event.
        eval_negatives: kinds of the negatives of AP and AUC.
        ranking_negatives: kind of those of MRR and Hits@K; None for none. They are TGB's by default.
        num_ranking_negatives: how many; None: 100, or as many as every event can have.
        final_metrics: measured once, of the selected weights: ranking an event among a hundred takes longer than
            learning from it.
        visibility: "batch", "event" or "mixed", what a prediction of the evaluation sees.
        groups: of events reported apart.
        task: "existence" (link prediction), "sign", "signed-existence" or "weight"; None: "sign" for a model of
            :data:`SIGNED_MODELS`, else "existence".
        reduction: of the losses of signs, "class_mean" or "mean".
        keep_ties: a batch goes on until the time changes; None: for models and tasks of signs, which always do.
    """

    batch_size: int | float = 200
    epochs: int = 50
    lr: float = 1e-4
    eval_batch_size: int | None = None
    metrics: tuple[str, ...] = ("ap", "auc")
    split: str = "time"
    negatives: str = "random"
    num_negatives: int = 1
    eval_negatives: tuple[str, ...] = ("random",)
    ranking_negatives: str | None = "hist_rnd"
    num_ranking_negatives: int | None = None
    final_metrics: tuple[str, ...] = ("mrr",)
    visibility: str = "batch"
    groups: tuple[str, ...] = ()
    task: str | None = None
    reduction: str = "class_mean"
    keep_ties: bool | None = None


RELEASED_TRAINING: dict[str, StreamTrainSettings] = {
    # main.py and eval.py of Graph-COM/Neighborhood-Aware-Temporal-Network at a054831, --bs as in its README. It also
    # stops after 3 epochs without a relative gain of 0.001, where `--patience 3` takes any gain.
    "nat": StreamTrainSettings(
        batch_size=100, eval_batch_size=32, epochs=50, lr=1e-4, metrics=("ap_batch", "auc", "ap"), split="time"
    ),
}
"""How released code trains, for the reference mode where a data set has no preset."""

# By validation on CollegeMsg after 20 epochs: benchmarks/results/ablation_nat.json.
TRAINING: dict[str, StreamTrainSettings] = {"nat": StreamTrainSettings(lr=1e-3)}
"""How a model trains where a data set has no preset, if not by the defaults."""


@dataclass(frozen=True, kw_only=True)
class Published:
    """A published result: metric, mean and standard deviation in percent, where it is from, whether it was checked."""

    metric: str
    mean: float
    std: float | None = None
    source: str
    verified: bool = True


@dataclass(frozen=True, kw_only=True)
class Start:
    """What training starts from: the ``"weights"`` or the node ``"embeddings"`` of another trained model."""

    model: str
    take: str


@dataclass(frozen=True, kw_only=True)
class Preset:
    """Hyperparameters of a model on a data set, published or of our own search.

    Args:
        name: the file's name without its ending.
        model: one of :data:`MODELS`, :data:`STREAM_MODELS` or :data:`SIGNED_MODELS`.
        data: name of the data set.
        options: constructor options of the model, all but ``compat`` and what the data decide.
        train: how it is trained.
        published: the paper's result.
        start: what training starts from, if not from random weights.
        notes: what the released command does that a reader would not expect.
    """

    name: str
    model: str
    data: str
    options: Mapping[str, Any]
    train: TrainBase
    published: Published | None = None
    start: Start | None = None
    notes: str = ""

    @property
    def tuned(self) -> bool:
        """Whether these are the settings of our own search."""
        return self.name.endswith(_TUNED)


def list_presets(folder: Path = FOLDER) -> list[Preset]:
    """All presets by name.

    Raises:
        PresetError: a file is malformed.
    """
    return [_load(path.stem, folder) for path in sorted(folder.glob("*.toml"))]


def load_preset(model: str, data: str, folder: Path = FOLDER, *, tuned: bool = False) -> Preset:
    """Read the preset of a model and a data set.

    Args:
        model: one of :data:`MODELS`.
        data: name of the data set, as on its card.
        folder: where the files are.
        tuned: the settings of our own search instead of the published ones.

    Raises:
        PresetError: there is none (the message names similar ones), or the file is malformed.
    """
    name = f"{model}-{data}{_TUNED if tuned else ''}"
    if not (folder / f"{name}.toml").is_file():
        found = "no tuned one" if tuned else "none"
        raise PresetError(f"preset: there is {found} for model {model!r} on data {data!r}{close_presets(name, folder)}")
    preset = _load(name, folder)
    if (preset.model, preset.data) != (model, data):
        raise PresetError(f"{folder / name}.toml: is for {preset.model!r} on {preset.data!r}, not for what it is named")
    return preset


def has_preset(model: str, data: str, folder: Path = FOLDER) -> bool:
    """Whether there is a preset of this model for this data set."""
    return f"{model}-{data}" in {path.stem for path in folder.glob("*.toml")}


def close_presets(name: str, folder: Path = FOLDER) -> str:
    """End of a sentence that names presets similar to ``name``."""
    known = sorted(path.stem for path in folder.glob("*.toml"))
    close = difflib.get_close_matches(name, known, n=4, cutoff=0.5)
    model = [other for other in known if other.startswith(name.partition("-")[0] + "-")]
    shown = list(dict.fromkeys((*close, *model)))[:6] or known
    return f"; similar presets: {', '.join(shown)}"


def _load(name: str, folder: Path) -> Preset:
    path = folder / f"{name}.toml"
    raw = _merged(name, folder, ())
    for key in ("model", "data", "options", "train"):
        if key not in raw:
            raise PresetError(f"{path}: key {key!r} is missing")
    _one_of(path, "model", raw["model"], (*MODELS, *STREAM_MODELS, *SIGNED_MODELS))
    stream = raw["model"] in (*STREAM_MODELS, *SIGNED_MODELS)
    option_types = STREAM_OPTION_TYPES if stream else OPTION_TYPES
    published, start = raw.get("published"), raw.get("start")
    preset = Preset(
        name=name,
        model=raw["model"],
        data=raw["data"],
        options={key: _typed(path, f"options.{key}", raw["options"], key, option_types) for key in raw["options"]},
        train=_train(path, StreamTrainSettings, raw["train"]) if stream else _train(path, TrainSettings, raw["train"]),
        published=None if published is None else _record(path, "published", Published, published),
        start=None if start is None else _record(path, "start", Start, start),
        notes=str(raw.get("notes", "")).strip(),
    )
    if preset.published is not None:
        _one_of(path, "published.metric", preset.published.metric, preset.train.metrics)
    if preset.start is not None:
        _one_of(path, "start.model", preset.start.model, MODELS)
        _one_of(path, "start.take", preset.start.take, ("weights", "embeddings"))
    return preset


def _merged(name: str, folder: Path, chain: tuple[str, ...]) -> dict[str, Any]:
    """The file's content over the content of what it extends."""
    path = folder / f"{name}.toml"
    if name in chain:
        raise PresetError(f"{path}: key 'extends' goes in a circle: {' -> '.join((*chain, name))}")
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        user = folder / f"{chain[-1]}.toml" if chain else path
        raise PresetError(f"{user}: key 'extends' names {name!r}, which is not there") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PresetError(f"{path}: not a TOML file: {error}") from error
    for key, value in raw.items():
        _one_of(path, "", key, _KEYS)
        expected = dict if key in ("options", "train", "published", "start") else str
        if not isinstance(value, expected):
            raise PresetError(f"{path}: key {key!r} must be a {_word(expected)}, found {value!r}")
    if "extends" not in raw:
        return raw
    base = _merged(raw["extends"], folder, (*chain, name))
    for key in ("options", "train"):
        raw[key] = {**base.get(key, {}), **raw.get(key, {})}
    return {**{key: value for key, value in base.items() if key in ("model", "data")}, **raw}


def _train(path: Path, kind: type[Train], raw: Mapping[str, Any]) -> Train:
    for key, found in raw.items():
        if _FIELD_TYPES.get(key) is tuple and not _is_names(found):
            raise PresetError(f"{path}: key 'train.{key}' must be an array of names, found {found!r}")
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in raw.items()}
    settings = _record(path, "train", kind, values)
    for key in ("batch_size", "epochs"):
        if not getattr(settings, key) > 0:
            raise PresetError(f"{path}: key 'train.{key}' must be positive, found {getattr(settings, key)!r}")
    for key in ("encoder_lr", "decoder_lr", "lr"):
        if not getattr(settings, key, 0) >= 0:
            raise PresetError(f"{path}: key 'train.{key}' must not be negative, found {getattr(settings, key)!r}")
    if isinstance(settings, TrainSettings):
        _one_of(path, "train.split", settings.split, SPLITS)
        _one_of(path, "train.negatives", settings.negatives, ("uniform", "target"))
        _one_of(path, "train.multi_edges", settings.multi_edges, (None, "all", "reference"))
    return settings


def _is_names(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(name, str) for name in value)


_FIELD_TYPES: dict[str, type] = {
    **dict.fromkeys(("batch_size", "encoder_lr", "decoder_lr", "lr", "clip_norm", "average", "mean", "std"), float),
    **dict.fromkeys(("remove_targets", "valid_edges_at_test", "joint", "drop_last", "verified", "keep_ties"), bool),
    **dict.fromkeys(("split", "negatives", "multi_edges", "metric", "source", "model", "take"), str),
    **dict.fromkeys(("ranking_negatives", "visibility", "task", "reduction"), str),
    **dict.fromkeys(("epochs", "eval_batch_size", "num_negatives", "num_ranking_negatives"), int),
    **dict.fromkeys(("metrics", "final_metrics", "eval_negatives", "groups"), tuple),
}

Train = TypeVar("Train", TrainSettings, StreamTrainSettings)
Record = TypeVar("Record", TrainSettings, StreamTrainSettings, Published, Start)


def _record(path: Path, table: str, kind: type[Record], raw: Mapping[str, Any]) -> Record:
    """A dataclass from a TOML table."""
    known = {field.name: _FIELD_TYPES[field.name] for field in fields(kind)}
    values = {key: _typed(path, f"{table}.{key}", raw, key, known) for key in raw}
    for field in fields(kind):
        if field.name not in values and field.default is MISSING:
            raise PresetError(f"{path}: key '{table}.{field.name}' is missing")
    return kind(**values)


def _typed(path: Path, shown: str, raw: Mapping[str, Any], key: str, known: Mapping[str, type]) -> Any:
    """A value of the type that its key asks for; an integer will do for a number."""
    table = shown.rpartition(".")[0]
    _one_of(path, table, key, known)
    value, kind = raw[key], known[key]
    if kind is float and type(value) in (int, float):
        # A batch size stays the integer that it is.
        return value if key == "batch_size" else float(value)
    if type(value) is not kind:
        raise PresetError(f"{path}: key {shown!r} must be a {_word(kind)}, found {value!r}")
    return value


def _word(kind: type) -> str:
    words = {float: "number", int: "whole number", bool: "true or false", str: "string", dict: "table"}
    return words.get(kind, kind.__name__)


def _one_of(path: Path, place: str, value: Any, allowed: Iterable[Any]) -> None:
    """Check a value, or (with the table as ``place``) the name of a key."""
    allowed = list(allowed)
    if value in allowed:
        return
    close = difflib.get_close_matches(str(value), [str(one) for one in allowed], n=1)
    hint = f"; did you mean {close[0]!r}?" if close else f"; expected one of {allowed}"
    if place in ("", "options", "train", "published", "start"):
        raise PresetError(f"{path}: unknown key {f'{place}.{value}'.lstrip('.')!r}{hint}")
    raise PresetError(f"{path}: key {place!r} has the value {value!r}{hint}")
