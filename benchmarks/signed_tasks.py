"""The other tasks on the ratings of Bitcoin OTC: links, classes (positive, negative, none) and weights.

python benchmarks/signed_tasks.py [--tasks existence signed-existence weight] [--rows both tgn ...] [--seeds 5]
    [--threads 1]

Protocol of `signed.py`: split 70/15/15 by quantiles of the time, blocks of 200 and longer where their last time goes
on, predicted from the state before them; at most 25 epochs, stopped after 6 without a better validation score. Links:
AP and AUC against a random and a historical destination of the same source, MRR against 100 `hist_rnd` ones. Classes:
an event against one pair without a link, macro-F1. Weights: Spearman's correlation chooses the epoch.

Rows: `memory`, `history`, `both`: SEMBA with that in the decoder, settings of the preset, which were chosen for signs;
`linear`: a linear layer on the counts of `history` alone; `tgn`: TGN, of weights with signed weights as messages; of
links also the heuristics, which learn nothing.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sweep import sweep

from graphmem.engine.stream_config import STREAM_HEURISTICS, StreamRunConfig

DATA = "bitcoin-otc"
METRICS: dict[str, dict[str, Any]] = {
    "existence": {
        "metrics": ("ap", "auc", "mrr"),
        "eval_negatives": ("random", "historical"),
        "ranking_negatives": "hist_rnd",
        "groups": ("new",),
    },
    "signed-existence": {"metrics": ("macro_f1",)},
    "weight": {"metrics": ("spearman", "r2")},
}
SEMBA_ROWS: dict[str, dict[str, Any]] = {
    "memory": {"features": "memory"},
    "history": {"features": "history"},
    "both": {"features": "both"},
    "linear": {"features": "history", "decoder": "linear", "decoder_dropout": 0.0},
}
ROWS = (*STREAM_HEURISTICS, "tgn", *SEMBA_ROWS)


def rows_of(task: str) -> tuple[str, ...]:
    """Those that predict what the task asks for."""
    if task == "existence":
        return tuple(row for row in ROWS if row != "reputation")
    return tuple(row for row in ROWS if row in SEMBA_ROWS or (row == "tgn" and task == "weight"))


def config(task: str, row: str, seeds: int, threads: int | None) -> StreamRunConfig:
    """The run of a row."""
    semba = row in SEMBA_ROWS
    return StreamRunConfig(
        model="semba" if semba else row,
        data=DATA,
        task=task,
        options=SEMBA_ROWS[row] if semba else {},
        batch_size=200,
        lr=1e-3 if row == "tgn" else None,
        seeds=1 if row in STREAM_HEURISTICS else seeds,
        epochs=25,
        patience=6,
        threads=threads,
        **METRICS[task],
    )


def row_of(command: str) -> tuple[str, str]:
    """Task and row of a command of the result file."""
    for task in METRICS:
        for row in rows_of(task):
            for seeds in range(1, 11):
                if config(task, row, seeds, None).command() == command:
                    return task, row
    raise ValueError(command)


def configs(args: argparse.Namespace) -> Iterator[tuple[str, str, StreamRunConfig]]:
    for task in args.tasks:
        for row in rows_of(task):
            if row in args.rows:
                yield task, row, config(task, row, args.seeds, args.threads)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=list(METRICS), choices=list(METRICS))
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=ROWS)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=None)
    args = parser.parse_args()
    for task, row, run in configs(args):
        sweep("signed_tasks", [run], Path("runs") / "signed_tasks" / f"{task}-{row}", __doc__ or "")


if __name__ == "__main__":
    main()
