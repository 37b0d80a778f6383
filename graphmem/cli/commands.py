"""What the commands do."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from graphmem.cli.parser import make_parser
from graphmem.cli.predict import predict
from graphmem.cli.replay import ReplayOptions, replay
from graphmem.cli.text import beside, conditions, percent, protocol_text, result_text, table
from graphmem.errors import ArgumentError


def run(arguments: Sequence[str]) -> int:
    """Parse the arguments and run their command."""
    options = make_parser(arguments).parse_args(list(arguments))
    command = {
        "train": _train,
        "evaluate": _evaluate,
        "predict": _predict,
        "replay": _replay,
        "plan": _plan,
        "presets": _presets,
        "data": _data,
    }
    return command[options.command](options[options.command])


def _print(options: Any, document: Any, text: str) -> int:
    print(json.dumps(document, indent=2) if options.json else text)
    return 0


def _train(options: Any) -> int:
    from graphmem.engine import experiment
    from graphmem.engine.distributed import is_first
    from graphmem.engine.families import config_class

    kind = config_class(options.model)
    values = {field.name: options[field.name] for field in fields(kind)}
    values.update({name: dict(values[name] or {}) for name in ("options", "pres_options") if name in values})
    config = kind.from_dict(values)
    try:
        result = experiment.run(
            config,
            resume=options.resume,
            overwrite=options.overwrite,
            progress=False if options.quiet else None,
            tensorboard=options.tensorboard,
        )
    except KeyboardInterrupt:
        result = {"interrupted": True, "resume": f"{config.command()} --resume", "folder": config.folder}
    if not is_first():
        return 130 if result.get("interrupted") else 0
    if result.get("interrupted"):
        print(f"graphmem: interrupted; continue with: {result['resume']}", file=sys.stderr)
        if options.json:
            print(json.dumps(result, indent=2))
        return 130
    return _print(options, result, result_text(result, config.folder))


def _evaluate(options: Any) -> int:
    from graphmem.engine.evaluation import evaluate, plain_names
    from graphmem.engine.families import load_any_run, measure_selected

    experiment, content = load_any_run(options.checkpoint, options.device, options.metrics)
    seed = content.get("seed", content.get("identity", {}).get("seed"))
    record, protocol = evaluate(experiment.model, experiment.task), experiment.task.protocol
    metrics = list(experiment.settings.train.metrics)
    if options.metrics is None:  # all that the run says of its selected weights
        final, protocol = measure_selected(experiment, experiment.model.state_dict(), seed)
        record |= final
        metrics += plain_names(final)
    document = {"checkpoint": options.checkpoint, "seed": seed, "metrics": record, "protocol": dict(protocol)}
    rows = [
        [name, *conditions(name, protocol), *(percent(record[f"{split}/{name}"]) for split in ("valid", "test"))]
        for name in metrics
    ]
    text = table(["metric", *beside(protocol), "valid", "test"], rows)
    return _print(options, document, f"{text}\n\n{protocol_text(protocol)}")


def _predict(options: Any) -> int:
    document = predict(
        Path(options.checkpoint),
        Path(options.pairs),
        None if options.out is None else Path(options.out),
        graph=options.graph,
        device=options.device,
        quiet=options.quiet,
        rows=options.json,
    )
    if options.json:
        print(json.dumps(document, indent=2))
    return 0


def _replay(options: Any) -> int:
    if options.json and options.out is None:
        raise ArgumentError("json: expected --out for the scores, since both would go to stdout")
    given = {field.name: options[field.name] for field in fields(ReplayOptions)}
    given["columns"] = None if given["columns"] is None else tuple(given["columns"])
    found = replay(Path(options.checkpoint), ReplayOptions(**given), quiet=options.quiet)
    if options.json:
        print(json.dumps(found, indent=2))
        return 0
    lines = [f"{found['events']} events, {found['new_nodes']} new nodes, {found['seconds']:.1f} s"]
    lines += [f"{name}: {percent(value)}" for name, value in found["metrics"].items()]
    lines += [f"{key}: {found[key]}" for key in ("out", "state") if found[key] is not None]
    if found["waiting"]:
        lines.append(f"{found['waiting']} events wait for those before them")
    print("\n".join(lines), file=sys.stderr if options.out is None else sys.stdout)
    return 0


def _plan(options: Any) -> int:
    from graphmem.engine.memory import plan_memory
    from graphmem.engine.workload import Workload

    workload = Workload(**{field.name: options[field.name] for field in fields(Workload)})
    plan = plan_memory(workload)
    phases = {name: getattr(plan, name) for name in ("setup", "training", "evaluation", "checkpoint")}
    document = {"workload": asdict(workload), "peak_bytes": plan.peak, **{k: asdict(v) for k, v in phases.items()}}
    purposes = list(dict.fromkeys(name for phase in phases.values() for name in phase.held))
    rows = [[name, *(_mib(phase.held.get(name, 0)) for phase in phases.values())] for name in purposes]
    text = table(["MiB", *phases], [*rows, ["all", *(_mib(phase.peak) for phase in phases.values())]])
    return _print(options, document, f"{text}\n\npeak above the level after import: {_mib(plan.peak)} MiB")


def _mib(size: int) -> str:
    return f"{size / 2**20:,.1f}"


def _presets(options: Any) -> int:
    from graphmem.presets import list_presets

    presets = list_presets()
    rows = []
    for preset in presets:
        best = preset.published
        shown = "" if best is None else f"{best.mean:.2f}" + ("" if best.std is None else f"±{best.std:.2f}")
        rows.append([preset.model, preset.data, preset.train.metrics[0], shown, "" if best is None else best.source])
    text = table(["model", "data", "metric", "published", "source"], rows)
    return _print(options, [{**asdict(preset), "options": dict(preset.options)} for preset in presets], text)


def _data(options: Any) -> int:
    from graphmem.data.registry import dataset_card, list_datasets, prepare_dataset

    action, options = options.action, options[options.action]
    if action == "list":
        cards = list_datasets()
        columns = ["num_nodes", "num_edges", "num_events", "num_features"]
        rows = [
            [card.name, *("" if (n := getattr(card, c)) is None else f"{n:,}" for c in columns), card.title]
            for card in cards
        ]
        header = ["name", "nodes", "edges", "events", "features", ""]
        return _print(options, [asdict(card) for card in cards], table(header, rows))
    if action == "info":
        card = asdict(dataset_card(options.name))
        shown = {key: value for key, value in card.items() if key != "files" and value not in ("", None, (), {})}
        lines = [f"{key + ':':<15}{value}" for key, value in shown.items()]
        return _print(options, card, "\n".join([*lines, *(f"file:          {file['path']}" for file in card["files"])]))
    folder = str(prepare_dataset(options.name, download=options.download))
    return _print(options, {"name": options.name, "folder": folder}, folder)
