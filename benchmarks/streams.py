"""Temporal link prediction on real streams: TGN, TNCN, DyRep, JODIE, APAN, NAT, and what needs no training.

python benchmarks/streams.py [--data wikipedia ...] [--models tgn ...] [--threads 1]

Split 70/15/15 by quantiles of the time, batches of 200, at most 20 epochs, stopped after 5 without a better validation
AP, at whose epoch all is measured; a learning rate of 0.001, with which NAT and TGN have a better validation AP after
20 epochs of CollegeMsg than with the 0.0001 of PyG's TGN example, whose settings the others are. AP and AUC against one
random, historical and inductive negative an event; MRR of the selected weights against 100 `hist_rnd` negatives, the
same for all seeds; 20 where the stream has fewer than 1,000 nodes, since they are distinct and some events of radoslaw
and USLegis can have no more than 58 and 36. USLegis and CanParl have 12 and 14 stamps and are evaluated with one batch
a stamp ("event" visibility), the others by "batch". Seeds: 5 below 100,000 events, else 3, MathOverflow 1. A run that
fails leaves its error in the file.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from sweep import sweep

from graphmem.data.registry import dataset_card
from graphmem.engine.stream_config import STREAM_HEURISTICS, StreamRunConfig
from graphmem.presets import STREAM_MODELS

DATA = ("collegemsg", "highschool", "radoslaw", "uslegis", "canparl", "digg", "wikipedia", "email-eu", "mathoverflow")


def configs(data: list[str], models: list[str], threads: int | None) -> Iterator[StreamRunConfig]:
    for model in (*STREAM_HEURISTICS, *STREAM_MODELS):
        for name in data:
            if model not in models:
                continue
            card = dataset_card(name)
            assert card.num_events is not None
            assert card.num_nodes is not None
            seeds = 5 if card.num_events < 100_000 else 1 if name == "mathoverflow" else 3
            yield StreamRunConfig(
                model=model,
                data=name,
                lr=None if model in STREAM_HEURISTICS else 1e-3,
                seeds=1 if model in STREAM_HEURISTICS else seeds,
                epochs=20,
                patience=5,
                metrics=("ap", "auc", *(["mrr"] if model in STREAM_HEURISTICS else [])),
                eval_negatives=("random", "historical", "inductive"),
                ranking_negatives="hist_rnd",
                num_ranking_negatives=100 if card.num_nodes >= 1000 else 20,
                groups=("transductive", "new", "new_old", "new_new"),
                visibility="event" if name in ("uslegis", "canparl") else "batch",
                threads=threads,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", nargs="+", default=list(DATA))
    parser.add_argument("--models", nargs="+", default=[*STREAM_HEURISTICS, *STREAM_MODELS])
    parser.add_argument("--threads", type=int, default=None)
    args = parser.parse_args()
    sweep("streams", configs(args.data, args.models, args.threads), Path("runs") / "streams", __doc__ or "")


if __name__ == "__main__":
    main()
