"""Greedy search for the clean mode's settings on splits that no result is reported on (seeds 100 and up).

python benchmarks/tune.py --data cora --model ncnc --splits 8 --name tune4_ncnc_cora --minutes 45

Trial 0 is the published setting. Every further trial changes one setting of the best trial so far, in the order of
CANDIDATES, and takes its place if its score is higher by more than a standard error of the paired difference. Score:
the mean over the tuning splits of the validation and test values at the best validation epoch (nothing is reported on
these splits, so both may count). All trials are written down; started again, the script goes on where it stopped.

Earlier searches are kept: tune1 (three splits, no standard error) and tune2, both with an inner decoder that reads h;
tune3, cut short, with one that reads x~ computed without dropout. What they gave on the test splits: docs/results.md.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from common import RESULTS, provenance, write_json

from graphmem.engine.experiment import RunConfig, run
from graphmem.presets import load_preset


class Times(float):
    """A factor on the published value."""


CANDIDATES: list[tuple[str, Any]] = [
    ("epochs", 200),
    ("decoder_lr", Times(0.5)),
    ("joint", False),
    ("average", 0.99),
    ("alpha", 0.5),
    ("num_layers", 2),
    ("batch_size", Times(2)),
    ("encoder_lr", Times(0.5)),
    ("hidden_channels", 512),
    ("dropout", 0.3),
    ("pair_dropout", 0.3),
    ("input_dropout", 0.8),
    ("pair_edge_dropout", 0.0),
    ("tail_dropout", 0.5),
    ("offset", Times(0.5)),
    ("two_layer_lin", True),
    ("residual", True),
    ("inner_input", "encoded"),
    ("average", 0.997),
    ("epochs", 300),
]
TRAIN = ("batch_size", "encoder_lr", "decoder_lr", "epochs", "average", "joint")
COMPLETION = ("alpha", "scale", "offset", "inner_input")
FIRST_SEED = 100


def configure(args: argparse.Namespace, trial: int, changes: dict[str, Any]) -> RunConfig:
    return RunConfig(
        model=args.model,
        data=args.data,
        compat="clean",
        seeds=args.splits,
        first_seed=FIRST_SEED,
        metrics=("hits@100",),
        threads=args.threads,
        eval_every=2,
        checkpoint_every_epochs=50,
        options={name: value for name, value in changes.items() if name not in TRAIN},
        out=str(Path("runs") / f"tune_{args.model}_{args.data}" / f"trial_{trial}"),
        **{name: value for name, value in changes.items() if name in TRAIN},
    )


def plan(model: str, data: str) -> list[tuple[str, Any] | None]:
    """What each trial changes; trial 0 changes nothing."""
    preset = load_preset(model, data)
    published = {**preset.options, **vars(preset.train)}
    changes: list[tuple[str, Any] | None] = [None]
    for name, value in CANDIDATES:
        if isinstance(value, Times):
            if name not in published:
                continue
            value = type(published[name])(published[name] * value)
        if published.get(name) != value and (model == "ncnc" or name not in COMPLETION):
            changes.append((name, value))
    return changes


def better(trial: dict[str, Any], best: dict[str, Any] | None) -> bool:
    """Whether a trial takes the place of the best one."""
    if best is None:
        return True
    difference = np.array(trial["scores"]) - np.array(best["scores"])
    return bool(difference.mean() > difference.std(ddof=1) / np.sqrt(len(difference)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="cora")
    parser.add_argument("--model", default="ncnc")
    parser.add_argument("--splits", type=int, default=8)
    parser.add_argument("--minutes", type=float, default=1e9, help="begin no trial after so long")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--name", default=None, help="of the result file")
    args = parser.parse_args()
    name = args.name or f"tune_{args.model}_{args.data}"
    path = RESULTS / f"{name}.json"
    trials: list[dict[str, Any]] = json.loads(path.read_text())["trials"] if path.exists() else []
    best: dict[str, Any] | None = None
    for done in trials:
        best = done if better(done, best) else best
    end = time.monotonic() + 60 * args.minutes
    for trial, change in list(enumerate(plan(args.model, args.data)))[len(trials) :]:
        if time.monotonic() > end:
            break
        changes = {} if best is None or change is None else {**best["changes"], change[0]: change[1]}
        result = run(configure(args, trial, changes), overwrite=True, progress=False)
        if result.get("interrupted"):
            raise SystemExit(130)
        found = [seed["best"]["hits@100"] for seed in result["seeds"]]
        values = {split: [seed[split] for seed in found] for split in ("valid", "test")}
        scores = [(seed["valid"] + seed["test"]) / 2 for seed in found]
        row = {"trial": trial, "changes": changes, "score": float(np.mean(scores)), "scores": scores, **values}
        trials.append(row)
        best = row if better(row, best) else best
        print(json.dumps(row), flush=True)
        seeds = list(range(FIRST_SEED, FIRST_SEED + args.splits))
        write_json(name, {**provenance(), "notes": __doc__, "seeds": seeds, "best": best, "trials": trials})


if __name__ == "__main__":
    main()
