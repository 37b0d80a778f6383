"""Paired difference of two runs over the same splits, with its 95 % interval (Student's t).

python benchmarks/paired.py planetoid_tuned_cora planetoid_reference_cora --name paired_ncnc_cora
    --settings "second search: 13 trials, 8 splits"

Both are names of files in benchmarks/results, written by planetoid.py.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import numpy as np
from common import RESULTS, provenance, write_json
from scipy.stats import t


def load(name: str, model: str, metric: str) -> tuple[dict[int, float], dict[str, Any]]:
    """Test value of each seed, and the run."""
    runs = [run for run in json.loads((RESULTS / f"{name}.json").read_text())["runs"] if run["model"] == model]
    if len(runs) != 1:
        raise SystemExit(f"{name}: expected one run of {model}, found {len(runs)}")
    return {seed["seed"]: seed["best"][metric]["test"] for seed in runs[0]["seeds"]}, runs[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("ours")
    parser.add_argument("other")
    parser.add_argument("--model", default="ncnc")
    parser.add_argument("--metric", default="hits@100")
    parser.add_argument("--settings", required=True, help="where the settings of the first run come from, in words")
    parser.add_argument("--name", required=True)
    args = parser.parse_args()
    (ours, first), (other, second) = (load(name, args.model, args.metric) for name in (args.ours, args.other))
    if ours.keys() != other.keys() or len(ours) < 2:
        raise SystemExit(f"the runs need the same seeds, at least two; got {sorted(ours)} and {sorted(other)}")
    if first["data"] != second["data"]:
        raise SystemExit(f"the runs need the same data; got {first['data']} and {second['data']}")
    difference = np.array([ours[seed] - other[seed] for seed in sorted(ours)])
    half = float(t.ppf(0.975, len(difference) - 1) * difference.std(ddof=1) / np.sqrt(len(difference)))
    mean = float(difference.mean())
    print(f"{100 * mean:+.2f} points, 95 % interval {100 * (mean - half):+.2f} to {100 * (mean + half):+.2f}")
    record = {
        "data": first["data"],
        "model": args.model,
        "metric": args.metric,
        "settings": args.settings,
        "ours": {"command": first["command"], **first["summary"][args.metric]["test"]},
        "other": {"command": second["command"], **second["summary"][args.metric]["test"]},
        "published": second["published"],
        "seeds": sorted(ours),
        "differences": difference.tolist(),
        "mean": mean,
        "interval": [mean - half, mean + half],
    }
    write_json(args.name, {**provenance(), **record})


if __name__ == "__main__":
    main()
