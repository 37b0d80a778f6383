"""Where common neighbours matter: GAE, NCN, NCNC and heuristics on graphs other than Planetoid.

python benchmarks/overlap.py [--small | --large] [--data photo ...]

Protocol: 70/10/20 split of the links by seed, as many uniform negatives as links; Hits@100 and MRR; the published
settings for Cora with batches of a tenth of the training links, 50 epochs, one-sided neighbours sampled at 8 (training)
and 32 (evaluation), validation every 5 epochs. Graphs without features get learned embeddings. Planetoid cannot tell
these models apart (there GAE does as well as NCN); these graphs can.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from sweep import sweep

from graphmem.engine.experiment import RunConfig

SMALL = ("usair", "ns", "celegans", "power", "router", "pb", "ecoli", "cs", "photo")
LARGE = ("facebook", "ppi", "wikipedia_words", "arxiv", "computers", "physics")
HEURISTICS = ("cn", "aa", "ra", "jaccard", "katz", "ppr")
METRICS = ("hits@100", "mrr")
# What the inner decoder read when the table was made.
COMPLETION = {"train_degree": 8, "test_degree": 32, "inner_input": "encoded"}


def configs(data: list[str], models: list[str], seeds: int, threads: int | None) -> Iterator[RunConfig]:
    for name in data:
        for model in HEURISTICS:
            yield RunConfig(model=model, data=name, seeds=seeds, split="random", metrics=METRICS, threads=threads)
        for model in models:
            yield RunConfig(
                model=model,
                data=name,
                preset="cora",
                seeds=seeds,
                split="random",
                metrics=METRICS,
                batch_size=0.1,
                epochs=50,
                eval_every=5,
                options=COMPLETION if model == "ncnc" else {},
                checkpoint_every_epochs=10,
                threads=threads,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--large", action="store_true", help="the large graphs: heuristics, GAE and NCN, one seed")
    parser.add_argument("--data", nargs="+", default=None)
    parser.add_argument("--models", nargs="+", default=None)
    parser.add_argument("--threads", type=int, default=None)
    args = parser.parse_args()
    data = args.data or list(LARGE if args.large else SMALL)
    models = args.models or (["gae", "ncn"] if args.large else ["gae", "ncn", "ncnc"])
    name = "overlap_large" if args.large else "overlap"
    sweep(name, configs(data, models, 1 if args.large else 5, args.threads), Path("runs") / name, __doc__ or "")


if __name__ == "__main__":
    main()
