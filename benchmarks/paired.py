"""Paired difference of two runs over the same splits, with its 95 % interval (Student's t).

python benchmarks/paired.py runs/A/result.json runs/B/result.json [--metric hits@100] [--name paired_ncnc_cora]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from common import provenance, write_json
from scipy.stats import t


def tests(path: str, metric: str) -> tuple[dict[int, float], dict[str, Any]]:
    result = json.loads(Path(path).read_text())
    return {seed["seed"]: seed["best"][metric]["test"] for seed in result["seeds"]}, result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("ours")
    parser.add_argument("other")
    parser.add_argument("--metric", default="hits@100")
    parser.add_argument("--name", default=None)
    args = parser.parse_args()
    (ours, first), (other, second) = tests(args.ours, args.metric), tests(args.other, args.metric)
    if ours.keys() != other.keys() or len(ours) < 2:
        raise SystemExit(f"the runs need the same seeds, at least two; got {sorted(ours)} and {sorted(other)}")
    difference = np.array([ours[seed] - other[seed] for seed in sorted(ours)])
    half = float(t.ppf(0.975, len(difference) - 1) * difference.std(ddof=1) / np.sqrt(len(difference)))
    mean = float(difference.mean())
    print(f"{100 * mean:+.2f} points, 95 % interval {100 * (mean - half):+.2f} to {100 * (mean + half):+.2f}")
    if args.name:
        record = {"ours": first["command"], "other": second["command"], "metric": args.metric, "seeds": sorted(ours)}
        interval = [mean - half, mean + half]
        write_json(
            args.name,
            {**provenance(), **record, "differences": difference.tolist(), "mean": mean, "interval": interval},
        )


if __name__ == "__main__":
    main()
