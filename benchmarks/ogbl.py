"""OGB link prediction: published settings, official evaluator, a table a seed and a record for the leaderboard.

python benchmarks/ogbl.py --dataset ogbl-ddi --model ncn --runs 10

The set is read from GRAPHMEM_DATA or downloaded. Settings are the preset's (`graphmem presets`): on ogbl-citation2 the
source of a link keeps its negatives, gradients are clipped at 1.0, links stay in the graph of their step, and the
publisher's 1,000 negatives a link are ranked; on ogbl-collab validation links join the graph that scores the test links
(--no-valid-edges leaves them out; the record says which). NCNC on ogbl-ddi and ogbl-citation2 starts from a trained NCN
(--start-from its folder); --train-degree draws so many one-sided neighbours of an end in training, weighed up: to take
all is a matter for a GPU. Evaluation takes all. The final scores of every seed, those of the best validation epoch, go
through ogb's own Evaluator where ogb is installed; the record says which evaluator gave its numbers. Started again, the
script goes on where it stopped.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from common import provenance, write_json
from leaderboard import leaderboard, show

from graphmem.engine import evaluate_scores, evaluating
from graphmem.engine.build import load_run
from graphmem.engine.experiment import RunConfig

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
        options={} if args.train_degree is None else {"train_degree": args.train_degree},
        out=args.out or f"runs/{args.model}-{args.dataset}-{args.compat}",
    )


def benchmark(args: argparse.Namespace) -> dict[str, Any]:
    """Train, judge and record."""
    record, result = leaderboard(
        args.dataset, args.model, METRIC[args.dataset], config_of(args), lambda folder: judge(args.dataset, folder)
    )
    record["valid_edges_at_test"] = result["protocol"]["test_graph"] != "train links"
    return {**provenance(), "notes": __doc__, **record, "train_command": result["command"]}


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
    parser.add_argument(
        "--train-degree", type=int, default=None, help="NCNC: one-sided neighbours of an end drawn in training, not all"
    )
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
