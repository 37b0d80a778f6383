"""From a configuration to trained models and a result that explains itself.

``run`` trains one model a seed. The folder of a run holds ``config.json`` and, at the end, ``result.json``; the folder
``seed_<k>`` of each seed ``config.json``, ``last.pt`` (to resume), ``best.pt`` (to use), ``metrics.jsonl``,
``metrics.csv``, ``curve.png`` (where matplotlib is installed) and ``result.json``. Values
in JSON are shares, not percent.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from graphmem import info
from graphmem.engine.callbacks import Callback, CSVLogger, JSONLLogger, LearningCurve, TensorBoardLogger
from graphmem.engine.checkpoint import plain_copy, save_checkpoint
from graphmem.engine.distributed import DistributedTrainer, Group, connected, local_device, num_processes
from graphmem.engine.evaluation import evaluate, plain_names
from graphmem.engine.families import (
    AnyExperiment,
    Data,
    build,
    config_from_dict,
    load_data,
    measure_selected,
    resolve_any,
)
from graphmem.engine.result import BestEpoch, FitResult
from graphmem.engine.run_base import RunBase, Settings
from graphmem.engine.run_config import RunConfig
from graphmem.engine.trainer import Trainer
from graphmem.errors import ArgumentError, CheckpointError, MissingExtraError

__all__ = ["RunBase", "RunConfig", "build", "run", "write_json"]

logger = logging.getLogger("graphmem.engine")

T = TypeVar("T")

# What may differ between a run and its continuation: how far, how fast and where, not what is computed.
_FREE = (
    *("seeds", "first_seed", "epochs", "out", "threads", "device"),
    *("checkpoint_every_epochs", "checkpoint_every_steps"),
)


def run(
    config: RunBase,
    *,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool | None = None,
    tensorboard: bool = False,
) -> dict[str, Any]:
    """Train and evaluate every seed.

    Args:
        config: the run.
        resume: go on where an earlier run of the same configuration stopped: finished seeds are kept, an unfinished
            one continues from its checkpoint with the same bits. With more ``epochs`` than that run had, its seeds go
            on to them, as if asked for from the start, but for an evaluation more where ``eval_every`` does not divide
            the earlier number; with fewer, a seed that has more keeps them.
        overwrite: replace an earlier run in the same folder.
        progress: show progress bars; None: if the output is a terminal.
        tensorboard: write event files too (extra ``track``).

    Under ``torchrun`` the processes share the work (:mod:`graphmem.engine.distributed`), and rank 0 writes.

    Returns:
        What ``result.json`` holds; or, after Ctrl-C, ``{"interrupted": True, "resume": <command>, ...}``.

    Raises:
        ArgumentError: the folder holds a run and neither ``resume`` nor ``overwrite`` is set.
        CheckpointError: ``resume``, and the folder holds a run of another configuration.
        DistributedError: under ``torchrun``, another process does not answer.
    """
    with connected(local_device(config.device)) as group:
        return _run(config, resume, overwrite, progress, tensorboard, group)


def _run(
    config: RunBase, resume: bool, overwrite: bool, progress: bool | None, tensorboard: bool, group: Group | None
) -> dict[str, Any]:
    settings = resolve_any(config)
    folder = Path(config.folder)
    _first(group, lambda: _open_folder(folder, config, settings, resume, overwrite))
    threads = torch.get_num_threads()
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    try:
        load = partial(load_data, config)
        dataset = load() if group is None else group.first_alone(load)  # it may fetch and cache files
        documents: list[dict[str, Any]] = []
        for seed in range(config.first_seed, config.first_seed + config.seeds):
            document = _run_seed(config, seed, dataset, resume, progress, tensorboard, group)
            if document is None:
                command = f"{config.command()} --resume"
                return {"interrupted": True, "resume": command, "folder": str(folder), "finished": len(documents)}
            documents.append(document)
            logger.info("seed %d: %s", seed, _line(document))
        result = _result(config, settings, documents)
    finally:
        torch.set_num_threads(threads)
    _first(group, lambda: write_json(folder / "result.json", result))
    return result


def _first(group: Group | None, function: Callable[[], T]) -> T:
    """Run something that reads or writes the run's folder: on rank 0 only, with the same outcome for all."""
    return function() if group is None else group.first(function)


def _open_folder(folder: Path, config: RunBase, settings: Settings, resume: bool, overwrite: bool) -> None:
    """Keep runs apart: a folder belongs to one configuration."""
    path = folder / "config.json"
    # Without a checkpoint or a result, the earlier run failed before its first epoch.
    used = path.exists() and any(folder.glob("seed_*/*.pt"))
    if used and not (resume or overwrite):
        raise ArgumentError(
            f"out: {folder} holds a run; continue it with --resume, replace it with --overwrite, or choose another "
            "folder with --out"
        )
    if used and resume:
        # Through the class, so that a setting that is newer than the run has its default.
        stored = config_from_dict(json.loads(path.read_text(encoding="utf-8"))["config"])
        earlier, now = (json.loads(json.dumps(one.to_dict())) for one in (stored, config))
        changed = [key for key in now if key not in _FREE and now[key] != earlier.get(key)]
        if changed:
            key = changed[0]
            raise CheckpointError(
                f"resume: {folder} belongs to another run: its {key} is {earlier.get(key)!r}, here {now[key]!r}"
            )
    if overwrite:
        for old in [folder / "result.json", *folder.glob("seed_*/result.json"), *folder.glob("seed_*/*.pt")]:
            old.unlink(missing_ok=True)
    write_json(path, _description(config, settings))


def _description(config: RunBase, settings: Settings) -> dict[str, Any]:
    return {
        "command": config.command(),
        "config": config.to_dict(),
        "settings": settings.to_dict(),
        "versions": info.versions(),
        "machine": info.machine(),
        "processes": num_processes(),
    }


def _run_seed(
    config: RunBase,
    seed: int,
    dataset: Data,
    resume: bool,
    progress: bool | None,
    tensorboard: bool,
    group: Group | None,
) -> dict[str, Any] | None:
    """Train one seed; None if it was interrupted."""
    folder = Path(config.folder) / f"seed_{seed}"
    if resume:
        finished = _first(group, lambda: _finished(folder, resolve_any(config).train.epochs))
        if finished is not None:
            return finished
    experiment = build(config, seed, dataset, group)
    settings = experiment.settings
    _first(group, lambda: write_json(folder / "config.json", {"seed": seed, **_description(config, settings)}))
    start = time.perf_counter()
    if experiment.optimizer is None:
        selected = evaluate(experiment.model, experiment.task)
        best = {name: {"epoch": 0, **_pair(selected, name)} for name in settings.train.metrics}
        facts: dict[str, Any] = {"epochs": 0}
        weights: Mapping[str, Any] = experiment.model.state_dict()
    else:
        trainer = _trainer(config, seed, experiment, folder, progress, tensorboard, group)
        fit = trainer.fit(resume=resume)
        if fit.interrupted:
            return None
        best = {name: _best(fit, name) for name in settings.train.metrics}
        selected = dict(_chosen(fit, settings.train.metrics[0]).metrics)
        facts = _times(fit)
        weights = trainer.best_state or _last_state(trainer)
    measured = time.perf_counter()
    final, protocol = measure_selected(experiment, weights, seed, group)
    epoch = best[settings.train.metrics[0]]["epoch"]
    best |= {name: {"epoch": epoch, **_pair(final, name)} for name in plain_names(final)}
    facts["seconds"] = facts.get("seconds", measured - start) + time.perf_counter() - measured
    own = {"model_seed": settings.options["seed"]} if "seed" in settings.options else {}
    document = {
        "seed": seed,
        **own,
        "best": best,
        "selected": {**selected, **final},
        **facts,
        "parameters": sum(p.numel() for p in experiment.model.parameters()),
        "protocol": dict(protocol),
    }
    content = {"config": config.to_dict(), "seed": seed, "best": best, "model": weights}
    _first(group, lambda: save_checkpoint(folder / "best.pt", content))
    return _first(group, lambda: _write_result(folder, document))


def _finished(folder: Path, epochs: int) -> dict[str, Any] | None:
    """The result of a seed that has nothing left to do."""
    path = folder / "result.json"
    if not path.exists():
        return None
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    more = 0 < document["epochs"] < epochs and not document["stopped_early"]  # a heuristic has none
    return None if more else document


def _write_result(folder: Path, document: dict[str, Any]) -> dict[str, Any]:
    write_json(folder / "result.json", document)
    return document


def _trainer(
    config: RunBase,
    seed: int,
    experiment: AnyExperiment,
    folder: Path,
    progress: bool | None,
    tensorboard: bool,
    group: Group | None,
) -> Trainer:
    assert experiment.optimizer is not None
    train = experiment.settings.train
    callbacks: list[Callback] = []
    if group is None or group.is_first:
        callbacks = [JSONLLogger(folder / "metrics.jsonl"), CSVLogger(folder / "metrics.csv")]
        with contextlib.suppress(MissingExtraError):  # the picture is a gift where matplotlib is there
            drawn = [f"{split}/{name}" for split in ("valid", "test") for name in train.metrics]
            callbacks.append(LearningCurve(folder / "curve.png", drawn))
        if tensorboard:
            callbacks.append(TensorBoardLogger(folder / "tensorboard"))
    make: Callable[..., Trainer] = Trainer if group is None else partial(DistributedTrainer, group=group)
    return make(
        experiment.model,
        experiment.task,
        experiment.optimizer,
        epochs=train.epochs,
        monitor=[("valid", name) for name in train.metrics],
        eval_every=config.eval_every,
        clip_norm=None if train.clip_norm is None else (train.clip_norm,) * len(experiment.optimizer.param_groups),
        patience=config.patience,
        average=train.average,
        callbacks=callbacks,
        checkpoint_dir=folder,
        checkpoint_every_steps=config.checkpoint_every_steps,
        checkpoint_every_epochs=config.checkpoint_every_epochs,
        seed=seed,
        config=config.to_dict(),
        progress=progress,
    )


def _pair(record: Mapping[str, float], metric: str) -> dict[str, float]:
    return {split: record[f"{split}/{metric}"] for split in ("valid", "test")}


def _chosen(fit: FitResult, metric: str) -> BestEpoch:
    """The best epoch by a metric of validation; where that is NaN in all of them, the last one."""
    key = f"valid/{metric}"
    if key not in fit.best:
        last = [record for record in fit.history if key in record][-1]
        logger.warning("%s: NaN in every epoch, so that it chooses none; epoch %d, the last one", key, last["epoch"])
        values = {name: value for name, value in last.items() if "/" in name}
        return BestEpoch(key, int(last["epoch"]), last[key], values)
    return fit.best[key]


def _last_state(trainer: Trainer) -> dict[str, Any]:
    """What the last evaluation saw."""
    with trainer._average.applied():
        state: dict[str, Any] = plain_copy(trainer.model.state_dict(), "model")
    return state


def _best(fit: FitResult, metric: str) -> dict[str, Any]:
    chosen = _chosen(fit, metric)
    return {"epoch": chosen.epoch, **_pair(chosen.metrics, metric)}


def _times(fit: FitResult) -> dict[str, Any]:
    return {
        "epochs": fit.epochs,
        "stopped_early": fit.stopped_early,
        "train_seconds_per_epoch": fit.train_seconds,
        "eval_seconds": fit.eval_seconds,
        "seconds": sum(r["train_seconds"] + r.get("eval_seconds", 0.0) for r in fit.history),
    }


def _result(config: RunBase, settings: Settings, documents: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What all seeds say together."""
    summary = {
        metric: {split: _mean_std([d["best"][metric][split] for d in documents]) for split in ("valid", "test")}
        for metric in documents[0]["best"]
        if all(metric in d["best"] for d in documents)  # likewise
    }
    protocol = {key: value for key, value in documents[0]["protocol"].items() if key != "split_seed"}
    found = [d.get("selected", {}) for d in documents]  # seeds of an earlier version may lack it
    selected = {name: _mean_std([one[name] for one in found]) for name in found[0] if all(name in d for d in found)}
    published = settings.published
    return {
        "model": settings.model,
        "data": settings.data,
        "compat": settings.compat,
        "metric": settings.train.metrics[0],
        "summary": summary,
        "selected": selected,
        "published": None
        if published is None
        else {
            "metric": published.metric,
            "mean": published.mean / 100,
            "std": None if published.std is None else published.std / 100,
            "source": published.source,
            "verified": published.verified,
        },
        "seeds": list(documents),
        "protocol": {
            **protocol,
            "seeds": "split, negatives, weights, dropout and hashes follow the seed",
            "selection": "best epoch on validation, by each metric for itself; std over seeds, population",
        },
        "parameters": documents[0]["parameters"],
        "seconds": sum(d["seconds"] for d in documents),
        **_description(config, settings),
    }


def _mean_std(values: Sequence[float]) -> dict[str, float]:
    return {"mean": float(np.mean(values)), "std": float(np.std(values))}


def _line(document: Mapping[str, Any]) -> str:
    parts = [
        f"{name} valid {100 * best['valid']:.2f} test {100 * best['test']:.2f} (epoch {best['epoch']})"
        for name, best in document["best"].items()
    ]
    return f"{', '.join(parts)}, {document['seconds']:.1f} s"


def write_json(path: Path, document: Any) -> None:
    """Write a JSON file so that it is at any moment the old or the new one, whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    os.replace(temporary, path)
