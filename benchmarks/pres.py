"""AP against the size of temporal batches: plain, with PRES, and with what else is done about large batches.

python benchmarks/pres.py [--data collegemsg] [--model tgn] [--base 200] [--epochs 10] [--seeds 5] [--arms ...]
    [--factors 1 4 16] [--plot]

Training batches of 1/4 to 16 times the base, the same number of epochs (so fewer steps the larger the batch), split
70/15/15 by time, PyG's settings of TGN (Adam at 1e-4), one random negative an event, the same ones for all arms. The
epoch is selected by the validation AP with batches of the base size. Its weights are tested twice: "ap_base" with
batches of the base size, "ap_train" with batches as in training, which is what serves whoever cannot update faster.
Neighbours are as old as the memory: those before the batch. AP is pooled over the period.

Arms: "linear" and "sqrt" scale the learning rate with the size of the batch or its root. "sequence": an update for each
event of a node in the batch, in turn, the other ends as before the batch. "t-batches": events are applied in parts
without common ends, so that memories are those of batches of one. "pres": correction (a learned scalar, per time, as
published) and coherence of 0.1; "pres-v" the former alone, "pres-s" the latter alone; "pres-event": moves by events
instead of time; "pres-kalman": that with the Kalman gate.

--overhead measures training steps with and without PRES in turn instead, and counts the events that have a pending
event.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from cases import Rows, add_arguments, run_cases
from tables import rows_of
from torch import Tensor

from graphmem.data import load_stream
from graphmem.engine.checkpoint import load_checkpoint
from graphmem.engine.evaluation import evaluate
from graphmem.engine.experiment import run
from graphmem.engine.stream_build import build_stream
from graphmem.engine.stream_config import StreamRunConfig
from graphmem.ops import pending_events

FIGURES = Path(__file__).parent.parent / "docs" / "figures"
FACTORS = (0.25, 1, 2, 4, 8, 16)
RULES = {"": lambda factor: 1.0, "linear": float, "sqrt": math.sqrt}
PER_EVENT = {"rate": "per_event"}
# What an arm changes: options of PRES, whether updates come in turn, whether batches are taken in as t-batches.
KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "pres": {"pres": {}},
    "pres-v": {"pres": {"beta": 0}},
    "pres-s": {"pres": {"gate": "fixed", "alpha": 1}},
    "pres-event": {"pres": PER_EVENT},
    "pres-kalman": {"pres": {**PER_EVENT, "gate": "kalman"}},
    "sequence": {"sequence": True},
    "t-batches": {"options": {"t_batches": True}},
}
ARMS = ("plain", "pres", "plain linear", "pres linear", "plain sqrt")
MORE_ARMS = ("sequence linear", "t-batches linear", "pres-event linear", "pres-v linear", "pres-s linear")
MORE_ARMS += ("pres-kalman linear", "sequence", "t-batches")
IN_TURN = ("sequence", "t-batches")
# Streams and models: batch sizes over the base, and seeds.
PLANNED = {
    ("collegemsg", "tgn"): (FACTORS, 5),
    ("wikipedia", "tgn"): (FACTORS, 5),
    **{(data, model): ((1, 4, 16), 5) for model in ("jodie", "apan") for data in ("collegemsg", "wikipedia")},
    ("email-eu", "tgn"): ((1, 4), 3),
    ("mathoverflow", "tgn"): ((1, 4), 3),
}
TESTS = {"ap_base": "tested with batches of the base size", "ap_train": "tested with batches as in training"}


def factors(arm: str) -> list[float]:
    """Those where an arm is not another one: a scaled learning rate is the plain one at the base size."""
    slow = arm.startswith(IN_TURN)
    return [f for f in FACTORS if (f > 1 or " " not in arm) and not (slow and f < 1)]


def arms_of(model: str) -> list[str]:
    """All that the model can do: embeddings of APAN are not updated in turn."""
    return [arm for arm in (*ARMS, *MORE_ARMS) if model != "apan" or not arm.startswith(IN_TURN)]


def batches_of(data: str, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    stream = load_stream(data)
    return zip(stream.src.split(size), stream.dst.split(size), strict=True)


def most_events(data: str, size: int) -> int:
    """The most events that a node has in a batch."""
    return max(int(pending_events(*batch).events.max()) for batch in batches_of(data, size))


def config(args: argparse.Namespace, arm: str, factor: float, seed: int, out: str) -> StreamRunConfig:
    kind, _, rule = arm.partition(" ")
    what, size = KINDS[kind], int(factor * args.base)
    options = dict(what.get("options", {}))
    if what.get("sequence"):
        options = {"aggregator_module": "sequence", "mailbox": 2 * most_events(args.data, size)}
    return StreamRunConfig(
        model=args.model,
        data=args.data,
        first_seed=seed,
        batch_size=size,
        eval_batch_size=args.base,
        lr=args.lr * RULES[rule](factor),
        epochs=1 if args.smoke else args.epochs,
        metrics=("ap", "auc"),
        final_metrics=(),
        options=options,
        pres="pres" in what,
        pres_options=what.get("pres", {}),
        threads=args.threads,
        out=out,
    )


def measure_one(args: argparse.Namespace, arm: str, factor: float, seed: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        chosen = config(args, arm, factor, seed, folder)
        result = run(chosen, progress=False)["seeds"][0]
        weights = load_checkpoint(Path(folder) / f"seed_{seed}" / "best.pt")["model"]
    again = build_stream(replace(chosen, eval_batch_size=None), seed)
    again.model.load_state_dict(weights)
    large = evaluate(again.model, again.task)
    found = {**result["selected"], **{f"train_batch.{name}": value for name, value in large.items()}}
    return {
        "data": args.data,
        "model": args.model,
        "arm": arm,
        "factor": factor,
        "batch_size": chosen.batch_size,
        "lr": chosen.lr,
        "seed": seed,
        "epoch": result["best"]["ap"]["epoch"],
        "ap_base": found["test/ap"],
        "ap_train": found["train_batch.test/ap"],
        "valid_ap_base": found["valid/ap"],
        "valid_ap_train": found["train_batch.valid/ap"],
        "epoch_seconds": result["train_seconds_per_epoch"],
    }


def key_of(args: argparse.Namespace, arm: str, seed: int) -> str:
    """A case of the result file; where not all factors are measured, it says which."""
    some = [] if tuple(args.factors) == FACTORS else [f"{factor:g}" for factor in args.factors]
    return ", ".join([args.data, args.model, arm, str(seed), *some])


def measure(key: str, args: argparse.Namespace) -> Rows:
    _, _, arm, seed, *_ = key.split(", ")
    torch.set_num_threads(args.threads)
    return [measure_one(args, arm, factor, int(seed)) for factor in args.factors if factor in factors(arm)]


def overhead(key: str, args: argparse.Namespace) -> Rows:
    """Processor seconds of the same training steps with PRES over those without."""
    size = int(key.rpartition(" ")[2])
    torch.set_num_threads(args.threads)
    sides = []
    for kind in ("plain", "pres", "pres-v"):
        chosen = replace(config(args, kind, 1, 0, ""), batch_size=size)
        model, task, optimizer, *_ = build_stream(chosen, 0)
        model.train()
        task.reset(model)
        sides.append((model, task, optimizer, task.batches("train", 1)))
    seconds: list[list[float]] = [[] for _ in sides]
    for _ in range(3 if args.smoke else len(sides[0][1].split.train) // size):
        for mine, (model, task, optimizer, batches) in zip(seconds, sides, strict=True):
            batch = next(batches)
            start = time.process_time()
            optimizer.zero_grad()
            task.loss(model, batch).backward()
            with torch.no_grad():
                task.update(model, batch)
            optimizer.step()
            mine.append(time.process_time() - start)
    plain, *others = seconds
    ratios = [statistics.median(o / p for o, p in zip(other, plain, strict=True)) for other in others]
    found = {"median_plain": statistics.median(plain), "ratio_pres": ratios[0], "ratio_correction": ratios[1]}
    pending = sum(int(pending_events(*batch).mask.sum()) for batch in batches_of(args.data, size))
    found["pending"] = pending / len(load_stream(args.data))
    return [{"data": args.data, "model": args.model, "batch_size": size, **found}]


def curves(rows: Rows, column: str) -> dict[str, dict[float, list[float]]]:
    """Values of each arm by the factor; where the learning rate is scaled, the plain rate's at the base size."""
    found: dict[str, dict[float, list[float]]] = {}
    for row in sorted(rows, key=lambda row: row["seed"]):
        found.setdefault(row["arm"], {}).setdefault(row["factor"], []).append(row[column])
    for arm, values in found.items():
        same = found.get(arm.partition(" ")[0], {})
        if 1 not in values and 1 in same:
            values[1] = same[1]
    return found


def cases(name: str) -> list[tuple[str, str]]:
    """Streams and models that the file has finished rows of."""
    return list(dict.fromkeys((row["data"], row["model"]) for row in rows_of(name) if "arm" in row))


def rows_for(name: str, data: str, model: str) -> Rows:
    return [row for row in rows_of(name) if "arm" in row and (row["data"], row["model"]) == (data, model)]


def figure_name(data: str, model: str) -> str:
    return f"pres_{Path(data).stem}_{model}.png"


def plot(name: str, data: str, model: str) -> Path:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    rows = rows_for(name, data, model)
    size = {row["factor"]: row["batch_size"] for row in rows}
    figure, axes = plt.subplots(1, 2, figsize=(10, 4), sharey=True)
    for axis, (column, title) in zip(axes, TESTS.items(), strict=True):
        for number, (arm, values) in enumerate(curves(rows, column).items()):
            at = sorted(values)
            means = [100 * statistics.fmean(values[f]) for f in at]
            deviations = [100 * statistics.pstdev(values[f]) for f in at]
            style = "--" if arm.startswith("pres") else "-"
            places = [size[f] * 1.01 ** (number - 4) for f in at]
            axis.errorbar(places, means, deviations, label=arm, linestyle=style, marker="o", markersize=3, linewidth=1)
        axis.set_xscale("log", base=2)
        axis.set_xticks(list(size.values()), [str(one) for one in size.values()])
        axis.set_xlabel("events in a training batch")
        axis.set_title(title, fontsize=9)
    axes[0].set_ylabel("test AP, %")
    axes[1].legend(fontsize=7)
    figure.tight_layout()
    FIGURES.mkdir(parents=True, exist_ok=True)
    path = FIGURES / figure_name(data, model)
    figure.savefig(path, dpi=150)
    plt.close(figure)
    return path


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="collegemsg")
    parser.add_argument("--model", default="tgn")
    parser.add_argument("--base", type=int, default=200)
    parser.add_argument("--lr", type=float, default=1e-4)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--arms", nargs="+", help="default: all that the model can do")
    parser.add_argument("--factors", type=float, nargs="+", default=list(FACTORS), choices=FACTORS)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--plot", action="store_true", help="draw what is in the file, and measure nothing")
    parser.add_argument("--overhead", action="store_true", help="what PRES costs")
    add_arguments(parser, "pres")
    args = parser.parse_args(argv)
    if args.plot:
        for case in cases(args.name):
            print(plot(args.name, *case))
        return
    if args.overhead:
        costs = [f"overhead, {args.data}, {args.model} {size}" for size in (50, 200, 800, 3200)]
        run_cases(args, __doc__ or "", costs, lambda key: overhead(key, args))
        return
    keys = [key_of(args, arm, seed) for seed in range(args.seeds) for arm in args.arms or arms_of(args.model)]
    run_cases(args, __doc__ or "", keys, lambda key: measure(key, args))


if __name__ == "__main__":
    main()
