"""What the scripts of the leaderboards (OGB, TGB) share: runs of several seeds, judged by the official evaluator."""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from graphmem.engine.experiment import run
from graphmem.engine.run_base import RunBase


def leaderboard(
    dataset: str, model: str, metric: str, config: RunBase, judge: Callable[[Path], dict[str, Any]]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Train all seeds, or go on where that stopped.

    Args:
        dataset: name.
        model: name.
        metric: the leaderboard's.
        config: of the run.
        judge: from the folder of a seed to a row with its seed, epoch and the metric of "valid" and "test".

    Returns:
        The record for the leaderboard, and the run's own result.
    """
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    try:
        result = run(config, resume=(Path(config.folder) / "config.json").exists())
    finally:
        if Path(config.folder).is_dir():  # an interrupted run, too, says what it needed
            largest_peak(Path(config.folder), before)
    if result.get("interrupted"):
        raise SystemExit(130)
    rows = [judge(Path(config.folder) / f"seed_{seed['seed']}") for seed in result["seeds"]]
    for row, seed in zip(rows, result["seeds"], strict=True):
        row.update(epochs=seed["epochs"], seconds=seed["seconds"])
    record = {
        "dataset": dataset,
        "method": model.upper(),
        "metric": metric,
        "test": summary(rows, "test"),
        "valid": summary(rows, "valid"),
        "published": result["published"],
        "parameters": result["parameters"],
        "protocol": result["protocol"],
        "hyperparameters": result["settings"],
        "peak_memory_bytes_above_import": largest_peak(Path(config.folder), before),
        "seconds": time.perf_counter() - start,
        "runs": rows,
    }
    return record, result


def largest_peak(folder: Path, before: int) -> int:
    """Bytes above ``before`` kibibytes of the process that needed most, of all that worked on a run in ``folder``.

    A run that is resumed has most of its work behind it. What each process needed stays beside the run.
    """
    path = folder / "peak_memory.json"
    earlier = json.loads(path.read_text())["bytes_above_import"] if path.exists() else 0
    most = max(earlier, 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before))
    path.write_text(json.dumps({"bytes_above_import": most}))
    return int(most)


def summary(rows: list[dict[str, Any]], split: str) -> dict[str, float]:
    values = [row[split] for row in rows]
    return {"mean": float(np.mean(values)), "std": float(np.std(values, ddof=1)) if len(values) > 1 else 0.0}


def show(record: dict[str, Any]) -> None:
    """Print a row a seed and the summary."""

    def percent(value: dict[str, float]) -> str:
        return f"{100 * value['mean']:.2f} ± {100 * value['std']:.2f}"

    print(f"{record['method']} on {record['dataset']}, {record['metric']} by {record['runs'][0]['evaluator']}")
    for row in record["runs"]:
        values = f"valid {100 * row['valid']:.2f}, test {100 * row['test']:.2f}"
        print(f"  seed {row['seed']}: {values}, epoch {row['epoch']} of {row['epochs']}")
    published = record["published"]
    beside = "" if published is None else f" (published {percent({'std': 0.0, **published})})"
    print(f"  valid {percent(record['valid'])}, test {percent(record['test'])}{beside}")
    memory = record["peak_memory_bytes_above_import"] / 2**20
    print(f"  {record['parameters']:,} parameters, {memory:.0f} MiB above import, {record['seconds']:.0f} s")
