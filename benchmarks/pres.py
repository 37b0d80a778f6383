"""AP against the size of temporal batches: plain, with PRES, and with what else is done about large batches.

For a model of signs, AUROC of the sign of each event.

python benchmarks/pres.py [--data collegemsg] [--model tgn] [--base 200] [--epochs 10] [--seeds 5] [--arms ...]
    [--factors 1 4 16] [--lr 1e-4] [--plot]

Training batches of 1/4 to 16 times the base, the same number of epochs (so fewer steps the larger the batch), split
70/15/15 by time, PyG's settings of TGN (Adam at 1e-4) or those of the stream's preset, one random negative an event,
the same ones for all arms. The epoch is selected by the validation AP with batches of the base size. Its weights are
tested twice: "ap_base" with batches of the base size, "ap_train" with batches as in training, which is what serves
whoever cannot update faster. Neighbours are as old as the memory: those before the batch. AP is pooled over the period.
SEMBA predicts signs and is selected and tested by AUROC, "auc_base" and "auc_train".

What the file has, of the same stream, model, base batch, learning rate, epochs, arm, factor and seed, is not measured
again; were it there twice, the later row counts. Behind the measurements the figure of the stream is drawn. The exit
status is 1 where a case failed, now or before.

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
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

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
TESTS = {"base": "tested with batches of the base size", "train": "tested with batches as in training"}
SIGNED = ("semba",)


class Case(NamedTuple):
    """What the curves of one figure have in common."""

    data: str
    model: str
    base: int = 200
    lr: float = 1e-4
    epochs: int = 10

    @property
    def metrics(self) -> tuple[str, ...]:
        """The first selects and is drawn."""
        return ("auc", "ap_neg") if self.model in SIGNED else ("ap", "auc")

    @property
    def measure(self) -> str:
        return {"ap": "AP", "auc": "AUROC"}[self.metrics[0]]

    @property
    def changes(self) -> list[str]:
        """Settings that are not the usual ones, in words; keys of usual cases have none of them."""
        usual, names = Case._field_defaults, ("base", "lr", "epochs")
        return [f"{name} {getattr(self, name):g}" for name in names if getattr(self, name) != usual[name]]


def case_of(row: dict[str, Any]) -> Case:
    """The case of a row; the oldest rows do not say their settings, which were the usual ones."""
    usual, names = Case._field_defaults, {"base": "base", "lr": "base_lr", "epochs": "epochs"}
    return Case(row["data"], row["model"], *(row.get(key, usual[name]) for name, key in names.items()))


def factors(arm: str) -> list[float]:
    """Those where an arm is not another one: a scaled learning rate is the plain one at the base size."""
    slow = arm.startswith(IN_TURN)
    return [f for f in FACTORS if (f > 1 or " " not in arm) and not (slow and f < 1)]


def arms_of(model: str) -> list[str]:
    """All that the model can do: embeddings of APAN and the two states of SEMBA are not updated in turn."""
    return [arm for arm in (*ARMS, *MORE_ARMS) if model not in ("apan", *SIGNED) or not arm.startswith(IN_TURN)]


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
        epochs=args.epochs,
        task="sign" if args.model in SIGNED else "existence",
        metrics=asked(args).metrics,
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
    case = asked(args)
    metric = case.metrics[0]
    return {
        "data": case.data,
        "model": case.model,
        "base": case.base,
        "base_lr": case.lr,
        "epochs": case.epochs,
        "arm": arm,
        "factor": factor,
        "batch_size": chosen.batch_size,
        "lr": chosen.lr,
        "seed": seed,
        "epoch": result["best"][metric]["epoch"],
        f"{metric}_base": result["selected"][f"test/{metric}"],
        f"{metric}_train": large[f"test/{metric}"],
        f"valid_{metric}_base": result["selected"][f"valid/{metric}"],
        f"valid_{metric}_train": large[f"valid/{metric}"],
        "epoch_seconds": result["train_seconds_per_epoch"],
    }


def asked(args: argparse.Namespace) -> Case:
    return Case(*(getattr(args, name) for name in Case._fields))


def key_of(case: Case, arm: str, seed: int, some: Sequence[float]) -> str:
    """A case of the result file; it says which factors where not all are measured, and settings that are not usual."""
    named = [] if tuple(some) == FACTORS else [f"{factor:g}" for factor in some]
    return ", ".join([case.data, case.model, arm, str(seed), *named, *case.changes])


def keys_of(args: argparse.Namespace) -> list[str]:
    """What is asked for and not in the file."""
    case = asked(args)
    there = {(row["arm"], row["seed"], row["factor"]) for row in rows_for(args.name, case)}
    keys = []
    for seed in range(args.seeds):
        for arm in args.arms or arms_of(args.model):
            of_arm = [factor for factor in args.factors if factor in factors(arm)]
            left = [factor for factor in of_arm if (arm, seed, factor) not in there]
            if left:
                # An arm that has not all factors is called by those that were asked for, as it always was.
                keys.append(key_of(case, arm, seed, args.factors if left == of_arm else left))
    return keys


def measure(key: str, args: argparse.Namespace) -> Rows:
    _, _, arm, seed, *more = key.split(", ")
    torch.set_num_threads(args.threads)
    some = [float(word) for word in more if " " not in word] or FACTORS
    return [measure_one(args, arm, factor, int(seed)) for factor in some if factor in factors(arm)]


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
    steps = 3 if args.smoke else len(sides[0][1].split.train) // size
    for batches in islice(zip(*(side[3] for side in sides), strict=True), steps):
        for mine, batch, (model, task, optimizer, _) in zip(seconds, batches, sides, strict=True):
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
    """Values of each arm by the factor; where the learning rate is scaled, the plain rate's at the base size.

    Each seed counts once: of rows of the same arm, factor and seed, the last one.
    """
    once = {(row["arm"], row["factor"], row["seed"]): row for row in rows}
    found: dict[str, dict[float, list[float]]] = {}
    for row in sorted(once.values(), key=lambda row: row["seed"]):
        found.setdefault(row["arm"], {}).setdefault(row["factor"], []).append(row[column])
    for arm, values in found.items():
        same = found.get(arm.partition(" ")[0], {})
        if 1 not in values and 1 in same:
            values[1] = same[1]
    return found


def cases(name: str) -> list[Case]:
    """What the file has finished rows of."""
    return list(dict.fromkeys(case_of(row) for row in rows_of(name) if "arm" in row))


def rows_for(name: str, case: Case) -> Rows:
    return [row for row in rows_of(name) if "arm" in row and case_of(row) == case]


def figure_name(name: str, case: Case) -> str:
    words = [name, Path(case.data).stem, case.model, *(change.replace(" ", "") for change in case.changes)]
    return f"{'_'.join(words)}.png"


def plot(name: str, case: Case) -> Path:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    rows = rows_for(name, case)
    size = {row["factor"]: row["batch_size"] for row in rows}
    figure, axes = plt.subplots(1, 2, figsize=(10, 4), sharey=True)
    for axis, (tested, title) in zip(axes, TESTS.items(), strict=True):
        for number, (arm, values) in enumerate(curves(rows, f"{case.metrics[0]}_{tested}").items()):
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
    axes[0].set_ylabel(f"test {case.measure}, %")
    axes[1].legend(fontsize=7)
    figure.tight_layout()
    FIGURES.mkdir(parents=True, exist_ok=True)
    path = FIGURES / figure_name(name, case)
    figure.savefig(path, dpi=150)
    plt.close(figure)
    return path


def draw(name: str, some: Sequence[Case]) -> None:
    """Draw what the file has; without matplotlib, say so."""
    try:
        for case in some:
            if rows_for(name, case):
                print(plot(name, case))
    except ImportError as error:
        print(f"no figure: {error}; it takes matplotlib")


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
    if args.smoke:
        args.epochs = 1
    if args.plot:
        draw(args.name, cases(args.name))
        return
    if args.overhead:
        costs = [f"overhead, {args.data}, {args.model} {size}" for size in (50, 200, 800, 3200)]
        failed = run_cases(args, __doc__ or "", costs, lambda key: overhead(key, args))
    else:
        failed = run_cases(args, __doc__ or "", keys_of(args), lambda key: measure(key, args))
        if args.one is None:
            draw(args.name, [asked(args)])
    if failed:
        raise SystemExit(f"failed: {'; '.join(failed)}")


if __name__ == "__main__":
    main()
