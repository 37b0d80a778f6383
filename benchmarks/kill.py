"""A run on a stream that is killed again and again has the bits of one that nobody disturbs.

python benchmarks/kill.py [--data collegemsg] [--model tgn] [--kills 20] [--epochs 12] [--seed 0]

`graphmem train` writes a checkpoint every few steps; SIGKILL hits its process at a random moment, of loading, training,
evaluation or writing, and `--resume` goes on. In the end weights, state, optimizer and history are compared.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from common import provenance, write_json

from graphmem.engine import load_checkpoint


def command(args: argparse.Namespace, folder: Path, *more: str) -> list[str]:
    words = ["train", args.model, "--data", args.data, "--epochs", str(args.epochs), "--checkpoint_every_steps", "7"]
    return [sys.executable, "-m", "graphmem.cli", *words, "--threads", "1", "--out", str(folder), *more]


def undisturbed(args: argparse.Namespace, folder: Path) -> tuple[float, float]:
    """Seconds until the first checkpoint, and until the end."""
    start, ready = time.perf_counter(), None
    process = subprocess.Popen(command(args, folder), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None:
        if ready is None and (folder / "seed_0" / "last.pt").exists():
            ready = time.perf_counter() - start
        time.sleep(0.01)
    if process.returncode or ready is None:
        raise SystemExit("the undisturbed run failed, or wrote no checkpoint")
    return ready, time.perf_counter() - start


def killed(args: argparse.Namespace, folder: Path, ready: float, end: float) -> list[dict[str, Any]]:
    """Kill a run at random moments, some while it starts, most at work; where each one hit."""
    rng = random.Random(args.seed)
    hits: list[dict[str, Any]] = []
    while True:
        more = ["--resume"] if (folder / "config.json").exists() else []
        process = subprocess.Popen(command(args, folder, *more), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        try:
            # So that all of them hit before the work is done.
            latest = ready + 1.5 * (end - ready) / args.kills
            process.wait(None if len(hits) == args.kills else rng.uniform(0.7 * ready, latest))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.returncode == 0:
            return hits
        if process.returncode != -9:
            assert process.stderr is not None
            raise SystemExit(f"the run ended by itself: {process.stderr.read().decode()}")
        found = folder / "seed_0" / "last.pt"
        position = load_checkpoint(found)["position"] if found.exists() else {"epoch": 0, "batch_index": 0}
        hits.append({"epoch": position["epoch"], "batch": position["batch_index"]})


def same(a: Any, b: Any) -> bool:
    """Whether two checkpoints agree, but for the clock."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a if "seconds" not in str(key))
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b or (a != a and b != b))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="collegemsg")
    parser.add_argument("--model", default="tgn")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        whole, parts = Path(work) / "whole", Path(work) / "parts"
        hits = killed(args, parts, *undisturbed(args, whole))
        ends = [load_checkpoint(folder / "seed_0" / "last.pt") for folder in (whole, parts)]
        results = [json.loads((folder / "seed_0" / "result.json").read_text()) for folder in (whole, parts)]
    parts_of = ("model", "optimizer", "history", "best_state", "rng")
    rows = {name: same(ends[0][name], ends[1][name]) for name in parts_of}
    rows["selected"] = same(results[0]["selected"], results[1]["selected"])
    print(f"{len(hits)} kills, the same bits: {rows}")
    write_json("kill", {**provenance(), "notes": __doc__, **vars(args), "hits": hits, "same": rows})


if __name__ == "__main__":
    main()
