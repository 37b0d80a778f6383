"""What the pages of results are made of: rows of the JSON files, and tables."""

from __future__ import annotations

import json
import statistics
from typing import Any

from common import RESULTS

NAMES = {
    "gae": "GAE",
    "ncn": "NCN",
    "ncnc": "NCNC",
    "ncn-diff": "NCN-diff",
    "ncn2": "NCN2",
    "ppr": "PPR",
    "katz": "Katz",
}


def load(pattern: str) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(RESULTS.glob(pattern))]


def spread(value: dict[str, Any] | None, digits: int = 2) -> str:
    """Mean ± deviation in percent, from shares."""
    if value is None:
        return "–"
    deviation = value.get("std")
    text = f"{100 * value['mean']:.{digits}f}"
    return text if deviation is None else f"{text} ± {100 * deviation:.{digits}f}"


def spread_of(values: list[float]) -> str:
    """:func:`spread` of single values; one has no deviation."""
    deviation = {"std": statistics.pstdev(values)} if len(values) > 1 else {}
    return spread({"mean": statistics.fmean(values), **deviation})


def name_of(model: str) -> str:
    return NAMES.get(model, model.upper() if len(model) == 2 else model.capitalize())


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def runs(pattern: str) -> list[dict[str, Any]]:
    return [run for document in load(pattern) for run in document["runs"]]


def rows_of(name: str) -> list[dict[str, Any]]:
    """Rows of one file, those of cases that failed included; none where it does not exist."""
    return [row for document in load(f"{name}.json") for row in document["rows"]]


def ratio_cells(row: dict[str, Any]) -> list[str]:
    """Ours, theirs (milliseconds) and both ratios of an interleaved comparison."""
    milliseconds = [1e3 * row[name] for name in ("median_ours", "median_peer")]
    times = [f"{value:,.0f}" if value >= 100 else f"{value:.3g}" for value in milliseconds]
    return [*times, *(f"{row[name]:.1f}" for name in ("median_paired_ratio", "peer_best_over_our_median"))]
