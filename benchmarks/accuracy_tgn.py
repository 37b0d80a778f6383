"""Validation AP of TGN beside PyG's own example, epoch by epoch, on the same events and negatives.

python benchmarks/accuracy_tgn.py [--data wikipedia] [--epochs 5] [--seeds 5] [--threads 1]

Both sides are those of speed_tgn.py: 100 channels, ten neighbours, batches of 200, Adam at 1e-4, one negative an event.
Training negatives are drawn anew each epoch, the same on both sides; those of the validation are the same for all.
Seeds decide weights, dropout and training negatives. AP is pooled over the validation period, behind each epoch.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace

import torch
from cases import Rows, add_arguments, run_cases
from speed_tgn import BATCH, Ours, PyGExample
from torch import Tensor

from graphmem.data import EventNegatives, EventStream, load_stream, split_stream
from graphmem.engine.metrics import average_precision

SIDES: dict[str, type[Ours | PyGExample]] = {"ours": Ours, "pyg": PyGExample}


@torch.no_grad()
def evaluate(side: Ours | PyGExample, events: EventStream, negatives: EventNegatives) -> float:
    side.eval_mode()
    found: list[tuple[Tensor, Tensor]] = []
    for low in range(0, len(events), BATCH):
        batch = events[low : low + BATCH]
        found.append(side.score(batch, negatives.draw(batch, 0)[1][:, 0]))
        side.update(batch)
    pos, neg = (torch.cat([scores[k].view(-1) for scores in found]) for k in (0, 1))
    return average_precision(pos, neg)


def measure(key: str, args: argparse.Namespace) -> Rows:
    name, number = key.split()
    seed = int(number)
    torch.set_num_threads(args.threads)
    split = split_stream(load_stream(args.data))
    train = split.train[:2000] if args.smoke else split.train
    valid = split.valid[:1000] if args.smoke else split.valid
    negatives = EventNegatives(split, seed=seed)
    torch.manual_seed(seed)
    side = SIDES[name](replace(split.stream, msg=None))
    aps = []
    for epoch in range(1, args.epochs + 1):
        side.start(0)
        for low in range(0, len(train), BATCH):
            batch = train[low : low + BATCH]
            side.train_step(batch, negatives.draw(batch, epoch)[1][:, 0])
        aps.append(evaluate(side, valid, EventNegatives(split, seed=42)))
    return [{"side": name, "seed": seed, "valid_ap": aps}]


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="wikipedia")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    add_arguments(parser, "accuracy_tgn")
    args = parser.parse_args(argv)
    keys = [f"{name} {seed}" for seed in range(args.seeds) for name in SIDES]
    run_cases(args, __doc__ or "", keys, lambda key: measure(key, args))


if __name__ == "__main__":
    main()
