"""Several runs in a row, collected into one JSON file: what the published tables need.

Each run is a :class:`graphmem.engine.experiment.RunConfig`, i.e. one `graphmem train` command; it goes on where it
stopped when the script is started again, and finished seeds are never run twice.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from common import provenance, write_json

from graphmem.engine.experiment import RunConfig, run

# What a table needs of a run; the rest stays in the run's own folder.
KEPT = ("model", "data", "compat", "metric", "summary", "published", "seeds", "protocol", "parameters", "seconds")


def sweep(name: str, configs: Iterable[RunConfig], folder: Path, notes: str = "") -> dict[str, Any]:
    """Run all configurations below ``folder`` and write ``results/<name>.json`` after each."""
    rows: list[dict[str, Any]] = []
    document: dict[str, Any] = {**provenance(), "notes": notes, "runs": rows}
    for config in configs:
        label = f"{config.model}-{config.data}-{config.compat}"
        config = dataclasses.replace(config, out=str(folder / label))
        result = run(config, resume=(folder / label / "config.json").exists(), progress=False)
        if result.get("interrupted"):
            raise SystemExit(130)
        command = dataclasses.replace(config, out=None).command()
        rows.append({"command": command, **{key: result[key] for key in KEPT}})
        summary = result["summary"][result["metric"]]["test"]
        print(f"{label}: {100 * summary['mean']:.2f} ± {100 * summary['std']:.2f}, {result['seconds']:.0f} s", flush=True)
        write_json(name, document)
    return document
