"""Hits@100 on Cora and Citeseer by the authors' protocol: python benchmarks/planetoid.py [--models ncn ncnc] ...

With `--compat clean --tuned --models ncnc --name planetoid_tuned_cora --data cora`: the settings that tune.py found.

All seeds are written down, none is run again. Restart the command to go on after an interruption.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from sweep import sweep

from graphmem.engine.experiment import RunConfig


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=["ncn", "ncnc"])
    parser.add_argument("--data", nargs="+", default=["cora", "citeseer"])
    parser.add_argument("--compat", default="reference")
    parser.add_argument("--tuned", action="store_true", help="the settings of our own search, with --compat clean")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--name", default=None, help="name of the result file")
    parser.add_argument("--folder", default="runs/planetoid")
    args = parser.parse_args()
    configs = [
        RunConfig(model=model, data=data, compat=args.compat, tuned=args.tuned, seeds=args.seeds, threads=args.threads)
        for data in args.data
        for model in args.models
    ]
    sweep(args.name or f"planetoid_{args.compat}", configs, Path(args.folder))


if __name__ == "__main__":
    main()
