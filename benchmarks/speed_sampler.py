"""The latest events of every node: RecentNeighbors against PyG's LastNeighborLoader, in interleaved pairs.

OMP_WAIT_POLICY=passive python benchmarks/speed_sampler.py [--batches 200 5000] [--pairs 7] [--threads 1 2]

Wikipedia (JODIE), ten events a node, the whole stream a sample. Stages: "insert", every batch in order; "query", the
graph of the latest events of each batch's ends and of a random destination an event, from the state behind the stream;
"both", as training does. Ours stores times as well, PyG's loader has none. Both are checked to agree first, on events
that come one by one: of a node with more than ten events in a batch, which ones PyG's loader keeps is not defined.

"growth": nanoseconds an event of "both" in each tenth of SFHH's stream (batches of the first of --batches, one thread).
"""

from __future__ import annotations

import argparse
import os
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cases import Rows, add_arguments, run_cases
from timing import clock, paired
from torch import Tensor
from torch_geometric.nn.models.tgn import LastNeighborLoader

from graphmem.nn import RecentNeighbors

SIZE, TENTHS = 10, 10
Events = tuple[Tensor, Tensor, Tensor]


class Replay:
    """A stream in batches, given to one side; its questions are drawn before the clock starts."""

    def __init__(self, loader: Any, events: Events, nodes: int, size: int, timed: bool) -> None:
        self.loader, self.timed = loader, timed
        generator = torch.Generator().manual_seed(0)
        self.batches = list(zip(*(part.split(size) for part in events), strict=True))
        drawn = [events[1][torch.randint(len(events[1]), (len(b[0]),), generator=generator)] for b in self.batches]
        self.asked = [torch.cat((*b[:2], other)).unique() for b, other in zip(self.batches, drawn, strict=True)]

    def insert(self, batch: Events) -> None:
        self.loader.insert(*(batch if self.timed else batch[:2]))

    def run(self, stage: str, batches: slice = slice(None)) -> None:
        for batch, n_id in zip(self.batches[batches], self.asked[batches], strict=True):
            if stage != "insert":
                self.loader(n_id)
            if stage != "query":
                self.insert(batch)

    def whole(self, stage: str) -> Callable[[], None]:
        def work() -> None:
            if stage != "query":
                self.loader.reset_state()
            self.run(stage)

        return work


def sides(events: Events, nodes: int, size: int) -> tuple[Replay, Replay]:
    ours, theirs = RecentNeighbors(nodes, SIZE), LastNeighborLoader(nodes, SIZE)
    return Replay(ours, events, nodes, size, True), Replay(theirs, events, nodes, size, False)


def wikipedia() -> tuple[Events, int]:
    """Users are numbered from 0, items behind them."""
    path = Path(os.environ["GRAPHMEM_DATA"]) / "temporal/wikipedia/raw/wikipedia.csv"
    user, item, t = torch.from_numpy(np.loadtxt(path, delimiter=",", skiprows=1, usecols=(0, 1, 2)).T.copy()).long()
    dst = item + 1 + user.max()
    return (user, dst, t), 1 + int(dst.max())


def sfhh() -> tuple[Events, int]:
    """Contacts at a conference, 403 people: source, destination, second."""
    path = Path(os.environ["GRAPHMEM_DATA"]) / "temporal/SFHH-copresence/tij_pres_SFHH.txt.gz"
    table = torch.from_numpy(np.loadtxt(path, dtype=np.int64))
    table = table[table[:, 2].argsort(stable=True)]
    people, place = table[:, :2].unique(return_inverse=True)
    return (*place.t().contiguous(), table[:, 2].contiguous()), people.numel()


def tiny() -> tuple[Events, int]:
    generator = torch.Generator().manual_seed(0)
    src, dst = (50 * torch.rand(2, 1000, generator=generator) ** 2).long()
    return (src, dst, torch.arange(1000)), 50


def check(events: Events, nodes: int) -> None:
    """Both sides give the same graphs for the first thousand events, one by one."""
    ours, theirs = sides(tuple(part[:1000] for part in events), nodes, 1)
    for number, n_id in enumerate(ours.asked):
        if not all(torch.equal(a, b) for a, b in zip(ours.loader(n_id), theirs.loader(n_id), strict=True)):
            raise SystemExit(f"the two sides disagree after {number} events")
        ours.run("insert", slice(number, number + 1))
        theirs.run("insert", slice(number, number + 1))


def growth(ours: Replay, theirs: Replay, repeats: int) -> dict[str, Any]:
    """Nanoseconds an event in each tenth of the stream, medians over replays; both sides run a tenth, in turn."""
    cut = [len(ours.batches) * k // TENTHS for k in range(TENTHS + 1)]
    tenths = [slice(*ends) for ends in zip(cut, cut[1:], strict=False)]
    samples: dict[str, list[list[float]]] = {"ours": [], "peer": []}
    for _ in range(repeats):
        for side, replay in zip(samples, (ours, theirs), strict=True):
            replay.loader.reset_state()
            samples[side].append([])
        for tenth in tenths:
            events = sum(len(batch[0]) for batch in ours.batches[tenth])
            for side, replay in zip(samples, (ours, theirs), strict=True):
                samples[side][-1].append(clock(lambda r=replay, t=tenth: r.run("both", t)) / events * 1e9)
    result: dict[str, Any] = {}
    for side, replays in samples.items():
        median = [statistics.median(tenth) for tenth in zip(*replays, strict=True)]
        result |= {f"{side}_samples": replays, f"{side}_ns_an_event": median}
        result[f"{side}_last_over_first"] = median[-1] / median[0]
    return result


def measure(key: str, pairs: int, smoke: bool) -> Rows:
    name, size, threads = key.split()
    torch.set_num_threads(int(threads))
    events, nodes = tiny() if smoke else {"wikipedia": wikipedia, "growth": sfhh}[name]()
    check(events, nodes)
    ours, theirs = sides(events, nodes, int(size))
    facts = {"case": name, "batch": int(size), "threads": int(threads), "events": len(events[0]), "nodes": nodes}
    if name == "growth":
        return [{**facts, "stage": "both", **growth(ours, theirs, pairs)}]
    rows = []
    for stage in ("insert", "query", "both"):
        rows.append({**facts, "stage": stage, **paired(ours.whole(stage), theirs.whole(stage), pairs)})
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, nargs="+", default=[200, 5000])
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    add_arguments(parser, "speed_sampler")
    args = parser.parse_args(arguments)
    keys = [f"wikipedia {size} {n}" for size in args.batches for n in args.threads]
    keys.append(f"growth {args.batches[0]} 1")
    run_cases(args, __doc__ or "", keys, lambda key: measure(key, args.pairs, args.smoke))


if __name__ == "__main__":
    main()
