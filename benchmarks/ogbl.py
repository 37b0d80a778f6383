"""OGB link prediction: published settings, official evaluator, a table a seed and a record for the leaderboard.

python benchmarks/ogbl.py --dataset ogbl-ddi --model ncn --runs 10

The set is read from GRAPHMEM_DATA or downloaded. Settings are the preset's (`graphmem presets`): on ogbl-citation2 the
source of a link keeps its negatives, gradients are clipped at 1.0, links stay in the graph of their step, and the
publisher's 1,000 negatives a link are ranked; on ogbl-collab validation links join the graph that scores the test links
(--no-valid-edges leaves them out; the record says which). NCNC on ogbl-ddi and ogbl-citation2 starts from a trained NCN
(--start-from its folder). The final scores of every seed, those of the best validation epoch, go through ogb's own
Evaluator where ogb is installed; the record says which evaluator gave its numbers. Started again, the script goes on
where it stopped.
"""

from __future__ import annotations

import argparse
import resource
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import provenance, write_json

from graphmem.engine import evaluate_scores, evaluating
from graphmem.engine.build import load_run
from graphmem.engine.experiment import RunConfig, run

METRIC = {"ogbl-ddi": "hits@20", "ogbl-collab": "hits@50", "ogbl-ppa": "hits@100", "ogbl-citation2": "mrr"}


def official(dataset: str, positive: torch.Tensor, negative: torch.Tensor) -> tuple[float, str]:
    """The leaderboard's metric, and whose evaluator computed it."""
    metric = METRIC[dataset]
    try:
        from ogb.linkproppred import Evaluator
    except ImportError:
        return evaluate_scores(positive, negative, (metric,))[metric], "graphmem (ogb is not installed)"
    # As tensors: ogb's numpy path of the mean reciprocal rank is broken.
    answer = Evaluator(dataset).eval({"y_pred_pos": positive, "y_pred_neg": negative})
    value = answer["mrr_list"].mean() if metric == "mrr" else answer[metric]
    return float(value), "ogb"


def judge(dataset: str, folder: Path) -> dict[str, Any]:
    """Scores of the best epoch of a seed, judged by the official evaluator."""
    experiment, content = load_run(folder / "best.pt")
    row: dict[str, Any] = {"seed": content["seed"], "epoch": content["best"][METRIC[dataset]]["epoch"]}
    with evaluating(experiment.model), experiment.task.evaluation(experiment.model):
        for split in ("valid", "test"):
            row[split], row["evaluator"] = official(dataset, *experiment.task.scores(experiment.model, split))
            ours = content["best"][METRIC[dataset]][split]
            if abs(row[split] - ours) > 1e-4:
                raise SystemExit(f"{folder}: {split} is {row[split]} by {row['evaluator']}, was {ours} in training")
    return row


def summary(rows: list[dict[str, Any]], split: str) -> dict[str, float]:
    values = [row[split] for row in rows]
    return {"mean": float(np.mean(values)), "std": float(np.std(values, ddof=1)) if len(values) > 1 else 0.0}


def config_of(args: argparse.Namespace) -> RunConfig:
    return RunConfig(
        model=args.model,
        data=args.dataset,
        compat=args.compat,
        seeds=args.runs,
        metrics=(METRIC[args.dataset],),
        epochs=args.epochs,
        batch_size=args.batch_size,
        eval_every=args.eval_every,
        valid_edges_at_test=False if args.no_valid_edges else None,
        start_from=args.start_from,
        threads=args.threads,
        device=args.device,
        out=args.out or f"runs/{args.model}-{args.dataset}-{args.compat}",
    )


def benchmark(args: argparse.Namespace) -> dict[str, Any]:
    """Train, judge and record."""
    config = config_of(args)
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    result = run(config, resume=(Path(config.folder) / "config.json").exists())
    if result.get("interrupted"):
        raise SystemExit(130)
    rows = [judge(args.dataset, Path(config.folder) / f"seed_{seed['seed']}") for seed in result["seeds"]]
    for row, seed in zip(rows, result["seeds"], strict=True):
        row.update(epochs=seed["epochs"], seconds=seed["seconds"])
    record = {
        "dataset": args.dataset,
        "method": args.model.upper(),
        "metric": METRIC[args.dataset],
        "test": summary(rows, "test"),
        "valid": summary(rows, "valid"),
        "published": result["published"],
        "parameters": result["parameters"],
        "protocol": result["protocol"],
        "valid_edges_at_test": result["protocol"]["test_graph"] != "train links",
        "hyperparameters": result["settings"],
        "peak_memory_bytes_above_import": 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before),
        "seconds": time.perf_counter() - start,
        "runs": rows,
    }
    return {**provenance(), "notes": __doc__, **record, "train_command": result["command"]}


def show(record: dict[str, Any]) -> None:
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


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True, choices=list(METRIC))
    parser.add_argument("--model", default="ncn", choices=["gae", "ncn", "ncnc"])
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--compat", default="clean", choices=["clean", "reference"])
    parser.add_argument("--epochs", type=int, default=None)
    parser.add_argument("--batch-size", type=int, default=None)
    parser.add_argument("--eval-every", type=int, default=1)
    parser.add_argument("--no-valid-edges", action="store_true", help="ogbl-collab: only training links at test time")
    parser.add_argument("--start-from", default=None, help="folder of the trained NCN, or none")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--out", default=None)
    parser.add_argument("--name", default=None, help="of the result file")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    args = parse(arguments)
    record = benchmark(args)
    show(record)
    write_json(args.name or f"{args.dataset}_{args.model}_{args.compat}", record)


if __name__ == "__main__":
    main()
