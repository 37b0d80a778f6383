"""Several runs in a row, collected into one JSON file: what the published tables need.

Each run is a configuration of :mod:`graphmem.engine`, i.e. one `graphmem train` command. Started again, the
script goes on where it stopped: finished runs are read from the result file, finished seeds from the run's folder.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from common import RESULTS, provenance, write_json

from graphmem.engine.experiment import RunBase, run
from graphmem.errors import ArgumentError

# What a table needs of a run; the rest stays in the run's own folder.
KEPT = ("model", "data", "compat", "metric", "summary", "published", "seeds", "protocol", "parameters", "seconds")


def sweep(name: str, configs: Iterable[RunBase], folder: Path, notes: str = "") -> dict[str, Any]:
    """Run all configurations below ``folder`` and write ``results/<name>.json`` after each.

    A run whose command already stands in the file is finished and is not repeated: a table that takes hours is made in
    as many sittings as it needs.
    """
    document: dict[str, Any] = {**provenance(), "notes": notes, "runs": []}
    path = RESULTS / f"{name}.json"
    if path.exists():
        document["runs"] = json.loads(path.read_text())["runs"]
    finished = {row["command"] for row in document["runs"]}
    for config in configs:
        command = dataclasses.replace(config, out=None, threads=None).command()
        if command in finished:
            continue
        label = f"{config.model}-{config.data}-{config.compat}"
        config = dataclasses.replace(config, out=str(folder / label))
        where = {key: provenance()[key] for key in ("date", "machine", "versions")}
        try:
            result = run(config, resume=(folder / label / "config.json").exists(), progress=False)
        except ArgumentError as error:  # what this data set cannot be asked
            document["runs"].append({"command": command, **where, "failed": str(error)})
            print(f"{label}: {error}", flush=True)
            write_json(name, document)
            continue
        if result.get("interrupted"):
            raise SystemExit(130)
        document["runs"].append({"command": command, **where, **{key: result[key] for key in KEPT}})
        summary = result["summary"][result["metric"]]["test"]
        spread = f"{100 * summary['mean']:.2f} ± {100 * summary['std']:.2f}"
        print(f"{label}: {spread}, {result['seconds']:.0f} s", flush=True)
        write_json(name, document)
    return document
