"""What every run has in common, whatever it trains on."""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from typing import Any, TypeVar

from graphmem.engine.options import check_count
from graphmem.errors import ArgumentError
from graphmem.presets import Published, Start, TrainBase

Config = TypeVar("Config", bound="RunBase")


@dataclass(frozen=True, kw_only=True)
class RunBase:
    """Fields of every run. ``None`` means: as the preset has it.

    Args:
        model: name of the model.
        data: name of a data set, or path of a file.
        preset: data set whose hyperparameters are used; the run's own by default.
        seeds: number of runs; the seed decides negatives, weights, dropout and, where it is random, the split.
        first_seed: seed of the first run; the others count up from it.
        epochs: number of epochs.
        metrics: what is measured; the first one chooses the epoch whose weights are kept.
        options: constructor options of the model over the preset's, e.g. --options.dropout 0.1.
        device: cpu, cuda, or auto for cuda where it is usable.
        threads: CPU threads; torch's default otherwise.
        eval_every: evaluate after every so many epochs.
        patience: stop after so many evaluations without improvement on validation.
        checkpoint_every_epochs: write last.pt after every so many epochs.
        checkpoint_every_steps: write it after every so many steps too.
        out: folder of the run; runs/MODEL-DATA-COMPAT by default.
        compat: "clean", or "reference" for what the released code computes.
    """

    model: str
    data: str
    preset: str | None = None
    seeds: int = 1
    first_seed: int = 0
    compat: str = "clean"
    epochs: int | None = None
    metrics: tuple[str, ...] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    device: str = "cpu"
    threads: int | None = None
    eval_every: int = 1
    patience: int | None = None
    checkpoint_every_epochs: int = 1
    checkpoint_every_steps: int | None = None
    out: str | None = None

    def __post_init__(self) -> None:
        """Check what can be checked without data."""
        check_choice("compat", self.compat, ("clean", "reference"))
        for name in ("seeds", "epochs", "threads", "eval_every", "patience", "checkpoint_every_epochs"):
            if getattr(self, name) is not None:
                check_count(name, getattr(self, name))
        if self.first_seed < 0:
            raise ArgumentError(f"first_seed must not be negative, got {self.first_seed}")

    @property
    def folder(self) -> str:
        """Where the run's files go."""
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", self.data.rpartition("/")[2]).strip("-")
        return self.out if self.out is not None else f"runs/{self.model}-{name}-{self.compat}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for checkpoints and JSON."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in _plain(self).items()}

    @classmethod
    def from_dict(cls: type[Config], values: Mapping[str, Any]) -> Config:
        """The configuration that :meth:`to_dict` wrote.

        Raises:
            ArgumentError: a field that this version does not have.
        """
        unknown = sorted(set(values) - {f.name for f in fields(cls)})
        if unknown:
            raise ArgumentError(f"config: unknown fields {unknown}; it was written by another version of graphmem")
        plain: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**plain)

    def command(self) -> str:
        """The command line that repeats the run."""
        words = ["graphmem", "train", self.model, "--data", self.data]
        for f in fields(self):
            value = getattr(self, f.name)
            if f.name in ("model", "data") or (f.default is not MISSING and value == f.default):
                continue
            if not isinstance(value, Mapping):
                words += [f"--{f.name}", _word(value)]
        for f in fields(self):  # options of something come last
            if isinstance(getattr(self, f.name), Mapping):
                for name, value in getattr(self, f.name).items():
                    words += [f"--{f.name}.{name}", _word(value)]
        return shlex.join(words)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """A run with every choice made.

    Args:
        model: its name.
        data: name of the data set as the loader takes it.
        compat: "clean" or "reference".
        options: constructor options of the model.
        train: how it is trained; nothing in it is left open.
        preset: name of the preset that was used.
        borrowed: whether that preset is another data set's.
        published: the published result for this model and data set.
        start: what training starts from.
        pres: constructor options of PRES; None: memories are not corrected.
    """

    model: str
    data: str
    compat: str
    options: Mapping[str, Any]
    train: TrainBase
    preset: str | None = None
    borrowed: bool = False
    published: Published | None = None
    start: Start | None = None
    pres: Mapping[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return _plain(self)


def check_choice(name: str, value: Any, allowed: tuple[Any, ...]) -> None:
    """Raise an ArgumentError that names ``name`` and a close word, unless ``value`` is allowed."""
    if value in allowed:
        return
    shown = [str(one) for one in allowed if one is not None]
    close = difflib.get_close_matches(str(value), shown, n=1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    raise ArgumentError(f"{name}: expected one of {', '.join(shown)}; got {value!r}{hint}")


def _plain(settings: RunBase | Settings) -> dict[str, Any]:
    values = asdict(settings)
    return {name: dict(value) if isinstance(value, Mapping) else value for name, value in values.items()}


def _word(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    return "[" + ",".join(map(str, value)) + "]" if isinstance(value, tuple) else str(value)
