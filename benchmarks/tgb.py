"""TGB link prediction: official negatives, official evaluator, a table a seed and a record for the leaderboard.

python benchmarks/tgb.py --dataset tgbl-wiki --model tgn --runs 5

The set is read from GRAPHMEM_DATA (py-tgb's files in tgb/tgbl_wiki, ...) or downloaded. Split by TGB's quantiles,
batches of 200, visibility by batch, as TGB's examples; settings of PyG's TGN example where the model has no preset.
Scores of every seed, those of the best validation epoch, go through py-tgb's own Evaluator, event by event, where it is
installed; the record says which evaluator gave its numbers. Started again, the script goes on where it stopped.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from common import provenance, write_json
from leaderboard import leaderboard, show

from graphmem.engine.evaluation import evaluating
from graphmem.engine.event_task import TemporalLinkTask
from graphmem.engine.families import load_any_run
from graphmem.engine.metrics import ranks
from graphmem.engine.stream_config import STREAM_HEURISTICS, StreamRunConfig
from graphmem.presets import STREAM_MODELS

DATASETS = ("tgbl-wiki", "tgbl-review", "tgbl-coin", "tgbl-comment", "tgbl-flight")


class Judge:
    """Mean reciprocal rank by py-tgb's Evaluator, or by our own where that is not installed."""

    def __init__(self, dataset: str) -> None:
        try:
            from tgb.linkproppred.evaluate import Evaluator
        except ImportError:
            self.name, self.evaluator = "graphmem (py-tgb is not installed)", None
        else:
            self.name, self.evaluator = "py-tgb", Evaluator(name=dataset)

    def mrr(self, pos: Any, neg: Any) -> list[float]:
        """Of events [B] against their negatives [B, K]; minus infinity is none."""
        if self.evaluator is None:
            return ranks(pos, neg).reciprocal().tolist()
        found = []
        for one, others in zip(pos.double().numpy(), neg.double().numpy(), strict=True):
            scores = {"y_pred_pos": np.array([one]), "y_pred_neg": others[others > -np.inf], "eval_metric": ["mrr"]}
            found.append(float(self.evaluator.eval(scores)["mrr"]))
        return found


def judge(dataset: str, folder: Path) -> dict[str, Any]:
    """Scores of the best epoch of a seed, judged by the official evaluator."""
    official = Judge(dataset)
    experiment, content = load_any_run(folder / "best.pt")
    task = experiment.task
    assert isinstance(task, TemporalLinkTask)
    row: dict[str, Any] = {
        "seed": content["seed"],
        "epoch": content["best"]["mrr"]["epoch"],
        "evaluator": official.name,
    }
    with evaluating(experiment.model):
        for split in ("valid", "test"):
            found = [official.mrr(pos, ranking) for _, pos, _, ranking in task.scored(experiment.model, split)]
            row[split] = float(np.mean(np.concatenate(found)))
            ours = content["best"]["mrr"][split]
            if abs(row[split] - ours) > 1e-4:
                raise SystemExit(f"{folder}: {split} is {row[split]} by {official.name}, was {ours} in training")
    return row


def config_of(args: argparse.Namespace) -> StreamRunConfig:
    return StreamRunConfig(
        model=args.model,
        data=args.dataset,
        seeds=args.runs,
        epochs=args.epochs,
        patience=args.patience,
        batch_size=args.batch_size,
        split="tgb",
        metrics=("mrr",),
        eval_negatives=(),
        ranking_negatives="publisher",
        threads=args.threads,
        device=args.device,
        out=args.out or f"runs/{args.model}-{args.dataset}",
    )


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True, choices=DATASETS)
    parser.add_argument("--model", default="tgn", choices=[*STREAM_MODELS, *STREAM_HEURISTICS])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=None)
    parser.add_argument("--patience", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=200)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--out", default=None)
    parser.add_argument("--name", default=None, help="of the result file")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    args = parse(arguments)
    runs = leaderboard(args.dataset, args.model, "mrr", config_of(args), lambda folder: judge(args.dataset, folder))
    record = {**provenance(), "notes": __doc__, **runs[0], "train_command": runs[1]["command"]}
    show(record)
    write_json(args.name or f"{args.dataset}_{args.model}", record)


if __name__ == "__main__":
    main()
