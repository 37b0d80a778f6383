"""NAT trained by its authors' own main.py and here, on the same events, in both of its modes.

python benchmarks/accuracy_nat.py --peer CHECKOUT [--modes t i] [--runs 3] [--threads 1]

CHECKOUT: see peer_nat.py. CollegeMsg with a zero for each node and event and times from 1, as their preprocessing of
SNAP's streams has it. Mode t: all events behind the 0.85 quantile of the time are tested; i: a tenth of the nodes is
hidden from training and validation, the past is shown anew, and the events with one of them are tested.

theirs: main.py in an empty folder, once a seed, `--bs 100` as in their README and else its defaults: 50 epochs, stopped
after 3 without a relative gain of 0.001, learning rate 1e-4. Changed by a preamble for today's Python and torch: float
tensors can be shifted, sets can be sampled. The last file of its log has the test's numbers.
reference: `graphmem train nat --compat reference --patience 3`. ours: the defaults, learning rate 1e-3, batches of 200
(32 in evaluation, like the others). Both with `--split time` or `--split inductive`, at the weights with the best
validation AP. What else differs from theirs is in docs/nat.md. AP and AUC are means over batches of 32.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cases import Rows, add_arguments, run_cases
from peer_nat import with_row_zero

from graphmem.data import load_stream
from graphmem.engine.experiment import run
from graphmem.engine.stream_config import StreamRunConfig

DATA, SPLITS = "collegemsg", {"t": "time", "i": "inductive"}
OURS: dict[str, dict[str, Any]] = {
    "reference": {"compat": "reference", "patience": 3},
    "ours": {"batch_size": 200, "eval_batch_size": 32, "patience": 5},
}
PREAMBLE = """
import random, runpy, sys, torch
sys.path.append(sys.argv.pop(1))
from peer_nat import allow_shifts
allow_shifts()
sample = random.sample
random.sample = lambda some, count: sample(tuple(some), count)
torch.set_num_threads(int(sys.argv.pop(1)))
sys.path.insert(0, sys.argv.pop(1))
sys.argv[0] = "main.py"
runpy.run_path(sys.path[0] + "/main.py", run_name="__main__")
"""


def write_stream(folder: Path) -> None:
    """The stream in the form that their main.py reads, under one of the names that it takes."""
    stream = load_stream(DATA)
    number = np.arange(len(stream)) + 1
    columns = (stream.src + 1, stream.dst + 1, stream.t - stream.t[0] + 1)
    u, i, t = (column.numpy() for column in columns)
    rows = np.stack((number - 1, u, i, t, np.zeros_like(u), number), axis=1)
    np.savetxt(folder / "ml_uci.csv", rows, fmt="%d", delimiter=",", header=",u,i,ts,label,idx", comments="")
    np.save(folder / "ml_uci.npy", with_row_zero(torch.zeros(len(stream), 1)))
    np.save(folder / "ml_uci_node.npy", with_row_zero(torch.zeros(stream.num_nodes, 1)))


def theirs(checkout: str, mode: str, seed: int, epochs: int, threads: int) -> dict[str, Any]:
    """One run of main.py: its test's AP and AUC, and the epoch of its weights."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in ("processed", "log"):
            (folder / part).mkdir()
        write_stream(folder / "processed")
        places = str(Path(__file__).resolve().parent), str(threads), os.path.abspath(checkout)
        command = [sys.executable, "-c", PREAMBLE, *places, "-d", "uci", "-m", mode]
        options = ["--bs", "100", "--seed", str(seed), "--run", "1", "--n_epoch", str(epochs)]
        subprocess.run([*command, *options], cwd=folder, check=True, capture_output=True, text=True)
        (path,) = (folder / "log").glob("*.log")
        log = path.read_text()
    (line,) = re.findall(r"Test statistics: .*auc: ([\d.]+), ap: ([\d.]+)", log)
    (best,) = re.findall(r"early_stoppers \[(\d+)\]", log)
    return {"auc": float(line[0]), "ap": float(line[1]), "epoch": int(best)}


def ours(side: str, mode: str, seed: int, epochs: int, threads: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        options = {"metrics": ("ap_batch", "auc"), **OURS[side], "epochs": epochs, "threads": threads}
        config = StreamRunConfig(
            model="nat", data=DATA, split=SPLITS[mode], first_seed=seed, seeds=1, out=folder, **options
        )
        (document,) = run(config, progress=False)["seeds"]
    found = document["selected"]
    return {"auc": found["test/auc"], "ap": found["test/ap_batch"], "epoch": document["best"]["ap_batch"]["epoch"]}


def measure(key: str, args: argparse.Namespace) -> Rows:
    mode, side, number = key.split()
    epochs = 1 if args.smoke else 50
    start = time.perf_counter()
    if side == "theirs":
        found = theirs(args.peer, mode, int(number), epochs, args.threads)
    else:
        found = ours(side, mode, int(number), epochs, args.threads)
    return [{"mode": mode, "side": side, "seed": int(number), **found, "seconds": time.perf_counter() - start}]


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", required=True, help="checkout of the authors' repository")
    parser.add_argument("--modes", nargs="+", default=list(SPLITS), choices=list(SPLITS))
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    add_arguments(parser, "accuracy_nat")
    args = parser.parse_args(argv)
    sides = ("ours", "reference", "theirs")
    keys = [f"{mode} {side} {seed}" for side in sides for mode in args.modes for seed in range(args.runs)]
    run_cases(args, __doc__ or "", keys, lambda key: measure(key, args))


if __name__ == "__main__":
    main()
