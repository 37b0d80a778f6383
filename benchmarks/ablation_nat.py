"""What each choice of NAT is worth on UCI's messages (CollegeMsg) under DyGLib's split.

python benchmarks/ablation_nat.py [--variants default hash-even ...] [--seeds 5] [--epochs 20] [--threads 1]

Everything as in `dyglib.py`, but for one option:

hash-even, hash-odd: the released hash with seed 0 and with seed 1; an even seed reaches 7 of 32 slots, an odd one all.
absolute: times as they are, and none in the pooled features and the decoder. sum: sums instead of attention. one-hop: a
dictionary of 32 slots alone. copied: values of the second hop do not pass the cell again (the paper's Algorithm 1).
sequential: every event of a batch meets what the one before it has left in the caches. rate-...: another learning rate
than 0.001. wide: 8 numbers a slot, states of 172, time codes of 100, as TPNet's search for NAT on this stream has them.
released: the first, the third and the fourth together, with the released widths of time code (1) and pool (1).
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from dyglib import configs
from sweep import sweep

VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "hash-even": {"hash": "reference", "seed": 0},
    "hash-odd": {"hash": "reference", "seed": 1},
    "absolute": {"time": "absolute"},
    "sum": {"pool": "sum"},
    "one-hop": {"sizes": [32]},
    "copied": {"refresh_hop2": False},
    "sequential": {"semantics": "sequential"},
    "wide": {"value_dim": 8, "memory_dim": 172, "time_dim": 100},
    "rate-0.0001": {"lr": 1e-4},
    "rate-0.0003": {"lr": 3e-4},
    "rate-0.003": {"lr": 3e-3},
    "released": {"hash": "reference", "seed": 0, "time": "absolute", "pool": "sum", "time_dim": 1, "pool_dim": 1},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--threads", type=int, default=None)
    args = parser.parse_args()
    for variant in args.variants:
        options = dict(VARIANTS[variant])
        rate = options.pop("lr", None)
        runs = configs(["nat"], ["collegemsg"], args.seeds, args.epochs, args.threads)
        changed = (replace(one, options=options, lr=rate or one.lr) for one in runs)
        sweep("ablation_nat", changed, Path("runs") / "ablation_nat" / variant, __doc__ or "")


if __name__ == "__main__":
    main()
