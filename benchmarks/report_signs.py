"""The part of docs/results.md on signed streams."""

from __future__ import annotations

from typing import Any

import signed
import signed_tasks
from tables import load, ratio_cells, rows_of, runs, spread_of, table

DATA = {"bitcoin-otc": "Bitcoin OTC", "wiki-rfa-year": "wiki-RfA, blocks of whole years"}
METRICS = ("auc", "ap_neg", "f1_neg", "macro_f1", "transductive.auc", "new.auc")
TASKS: dict[str, dict[str, str]] = {
    "existence": {"ap": "AP", "auc": "AUC", "historical.ap": "AP historical", "new.ap": "AP new nodes", "mrr": "MRR"},
    "signed-existence": {
        "macro_f1": "macro-F1",
        "f1_pos": "F1 positive",
        "f1_neg": "F1 negative",
        "f1_none": "F1 no link",
    },
    "weight": {"spearman": "Spearman", "r2": "R2", "rmse": "RMSE", "kl": "KL"},
}
IN_UNITS = ("rmse", "kl")  # not percent


def signs() -> list[str]:
    """Signs, by stream and block size."""
    rows: dict[str, list[tuple[int, int, list[str]]]] = {}
    for run in runs("signed.json"):
        name, block = signed.row_of(run["command"]), run["protocol"]["batch_size"]
        place = signed.EVERY_ROW.index(name.partition(",")[0])
        rows.setdefault(run["data"], []).append((block, place, [name, *_cells(run, METRICS)]))
    words = (
        "`benchmarks/signed.py`, protocol and rows in its head; test period, at the epoch of the best validation AUC."
    )
    head = "block, row, seeds, AUC, AP negative, F1 negative, macro-F1, AUC both ends seen, AUC new end".split(", ")
    parts = []
    for data, found in rows.items():
        parts += [f"{DATA[data]}:", table(head, [[str(block), *row] for block, _, row in sorted(found)])]
    return ["## Signs", words, *parts] if rows else []


def other_tasks() -> list[str]:
    """Links, classes and weights of signed events."""
    rows: dict[str, list[list[str]]] = {}
    for run in runs("signed_tasks.json"):
        if "failed" not in run:
            task, name = signed_tasks.row_of(run["command"])
            rows.setdefault(task, []).append([name, *_cells(run, tuple(TASKS[task]))])
    parts = []
    for task, found in rows.items():
        parts += [f"`{task}`:", table(["row", "seeds", *TASKS[task].values()], found)]
    words = "`benchmarks/signed_tasks.py`, Bitcoin OTC in blocks of 200, protocol and rows in its head; test period."
    return ["## Links, classes and weights of signed events", words, *parts] if rows else []


def _cells(run: dict[str, Any], metrics: tuple[str, ...]) -> list[str]:
    found = [seed["selected"] for seed in run["seeds"]]
    cells = [str(len(found))]
    for metric in metrics:
        values = [one[f"test/{metric}"] for one in found if f"test/{metric}" in one]
        scale = 0.01 if metric in IN_UNITS else 1
        cells.append(spread_of([scale * value for value in values]) if values else "–")
    return cells


def parity() -> list[str]:
    """The released SEMBA beside its authors' code."""
    rows = []
    for document in load("parity_semba.json"):
        for case, found in document["cases"].items():
            counts = [str(len(found["losses"])), f"{found['events']:,}"]
            values = [found["loss"]["relative"], found["logits"]["relative"], found["states"]["absolute"]]
            rows.append([case, *counts, *(f"{value:.1e}" for value in values), str(found["clocks"])])
    words = (
        "`benchmarks/parity_semba.py`: ReleasedSEMBA and the authors' code from the same weights, trained on an epoch "
        "of Bitcoin OTC and evaluated on what follows; protocol in its head. Largest relative difference of the "
        "losses and of all logits, largest absolute one of the states, number of clocks that differ."
    )
    return [words, table("nodes, batches, events, losses, logits, states, clocks".split(", "), rows)] if rows else []


def speeds() -> list[str]:
    """SEMBA beside its authors' code."""
    rows = []
    for row in rows_of("speed_semba"):
        rates = [f"{row[f'events_per_second_{who}']:,.0f}" for who in ("ours", "peer")]
        losses = [f"{row[f'loss_{who}']:.3f}" for who in ("ours", "peer")]
        rows.append([row["case"], str(row["threads"]), *rates, *ratio_cells(row)[2:], *losses])
    head = ["what", "threads", "ours, events/s", "authors', events/s", "median paired ratio", "their best / our median"]
    words = "`benchmarks/speed_semba.py`, training in batches of 1,000, settings and what is not the same in its head."
    parts = ["## SEMBA against its authors' code", words, table([*head, "loss, ours", "loss, authors'"], rows)]
    return parts if rows else []
