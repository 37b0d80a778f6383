"""Neighbours in time: RecentNeighbors against PyG's LastNeighborLoader, TemporalNeighbors against TGL's C++ sampler.

OMP_WAIT_POLICY=passive python benchmarks/speed_sampler.py [--batches 200 5000] [--pairs 7] [--threads 1 2] [--tgl PATH]

Wikipedia (JODIE), ten events a node, the whole stream a sample, interleaved pairs. Stages: "insert", every batch in
order; "query", the graph of the latest events of each batch's ends and of a random destination an event, from the state
behind the stream; "both", as training does. Ours stores times as well, PyG's loader has none. Both are checked to agree
first, on events that come one by one: of a node with more than ten events in a batch, which ones PyG's loader keeps is
not defined.

"growth": nanoseconds an event of "both" in each tenth of SFHH's stream (batches of the first of --batches, one thread).

"latest", "all": RecentNeighbors and TemporalNeighbors on a stream of --events events between a million nodes, made as
it goes (batches of the last of --batches): nanoseconds an event, ten events of its source asked for and the event taken
in, and bytes of the state beside the largest that the documentation allows, in each tenth. "nat": the same of NAT with
its default options, whose operators score and take in the events (`NAT.step`).

"tgl" (--tgl: a folder with TGL's `sampler_core`, built by its setup.py): ten events before each event's time of its
source, its destination and a random one, batches of 600 as in its sampler.py, over all of Wikipedia. Theirs is the time
that its C++ code reports, without what Python does around it; ours is the call. "shared": share of their neighbours, in
the last hundred batches, that we find, too: their times are float32, and draws differ.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cases import Rows, add_arguments, peak, reset_peak, run_cases
from timing import clock, paired
from torch import Tensor
from torch_geometric.nn.models.tgn import LastNeighborLoader

from graphmem.data import EventStream
from graphmem.models import NAT
from graphmem.nn import RecentNeighbors, TemporalNeighbors

SIZE, TENTHS = 10, 10
GENERATED_NODES = 1_000_000
Events = tuple[Tensor, Tensor, Tensor]
State = RecentNeighbors | TemporalNeighbors | NAT
GENERATED: dict[str, Callable[[int], State]] = {
    "latest": lambda nodes: RecentNeighbors(nodes, SIZE),
    "all": TemporalNeighbors,
    "nat": lambda nodes: NAT(nodes).eval(),
}


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


def state_bytes(module: torch.nn.Module) -> int:
    return sum(buffer.numel() * buffer.element_size() for buffer in module.buffers())


def generated(kind: str, size: int, events: int, nodes: int) -> dict[str, Any]:
    """Nanoseconds an event and bytes in each tenth of a stream with hubs, of which one chunk is there at a time."""
    torch.manual_seed(0)
    state = GENERATED[kind](nodes)
    seconds, bytes_held, most = [], [], []
    reset_peak()
    for tenth in range(TENTHS):
        spent = 0.0
        for first in range(tenth * events // TENTHS, (tenth + 1) * events // TENTHS, 1_000_000):
            count = min(1_000_000, (tenth + 1) * events // TENTHS - first)
            src, dst = (nodes * torch.rand(2, count, dtype=torch.float64) ** 3).long()
            replay = list(zip(src.split(size), dst.split(size), (first + torch.arange(count)).split(size), strict=True))
            spent += clock(lambda r=replay, s=state: ask_and_insert(s, r))
        seconds.append(spent / (events / TENTHS) * 1e9)
        bytes_held.append(state_bytes(state))
        most.append(bytes_predicted(state, nodes))
    return {
        "ours_ns_an_event": seconds,
        "ours_last_over_first": seconds[-1] / seconds[0],
        "bytes": bytes_held,
        "bytes_predicted": most,
        "peak_bytes": peak(),
    }


def bytes_predicted(state: State, nodes: int) -> int:
    """As the documentation has it; of TemporalNeighbors the bound."""
    if isinstance(state, TemporalNeighbors):
        return 16 * nodes + int(24 * 1.5 * 1.5 * state.length.clamp(min=4).sum())
    if isinstance(state, NAT):
        return nodes * (1960 + 304) + 8  # the latter: the number of events so far
    return nodes * (24 * SIZE + 9) + 16


def ask_and_insert(state: State, batches: Sequence[Events]) -> None:
    for src, dst, t in batches:
        if isinstance(state, NAT):
            events = EventStream.trusted(src, dst, t, state.num_nodes, first=int(state.position))
            state.step(events, dst.unsqueeze(1))
            continue
        if isinstance(state, RecentNeighbors):
            state.query(src)
        else:
            state.query(src, t, SIZE)
        state.insert(src, dst, t)


def tgl(folder: str, threads: int, pairs: int, events: Events, nodes: int) -> Rows:
    sys.path.insert(0, folder)
    from sampler_core import ParallelSampler

    src, dst, t = events
    ours = TemporalNeighbors(nodes)
    ours.insert(src, dst, t)
    owner, other = torch.stack((src, dst), 1).flatten(), torch.stack((dst, src), 1).flatten()
    order = owner.argsort(stable=True)
    rowptr = torch.cat((torch.zeros(1, dtype=torch.int64), owner.bincount(minlength=nodes).cumsum(0)))
    structure = [part.numpy().astype(np.int32) for part in (rowptr, other[order], order // 2)]
    times = t[order // 2].numpy().astype(np.float32)
    generator = torch.Generator().manual_seed(0)
    drawn = dst[torch.randint(len(dst), (len(dst),), generator=generator)]
    batches = zip(*(part.split(600) for part in (src, dst, drawn, t)), strict=True)
    asked = [(torch.cat(ends), at.repeat(3)) for *ends, at in batches]
    questions = [(ids.numpy().astype(np.int32), at.numpy().astype(np.float32)) for ids, at in asked]
    found = []
    for strategy in ("recent", "uniform"):
        options = (threads, 1, 1, [SIZE], strategy == "recent", False, 1, 0.0)
        theirs = ParallelSampler(*structure, times, *options)
        samples = [(ours_on(ours, asked, strategy), theirs_on(theirs, questions)) for _ in range(pairs + 2)][2:]
        found.append(
            {
                "strategy": strategy,
                "questions": 3 * len(src),
                "ours_seconds": [a for a, _ in samples],
                "peer_seconds": [b for _, b in samples],
                "median_ours": statistics.median(a for a, _ in samples),
                "median_peer": statistics.median(b for _, b in samples),
                "median_paired_ratio": statistics.median(b / a for a, b in samples),
                "peer_best_over_our_median": min(b for _, b in samples) / statistics.median(a for a, _ in samples),
                "shared": shared(ours, theirs, asked, questions, strategy),
            }
        )
    return found


def ours_on(ours: TemporalNeighbors, asked: list[tuple[Tensor, Tensor]], strategy: str) -> float:
    def work() -> None:
        for ids, t in asked:
            ours.query(ids, t, SIZE, strategy)

    return clock(work)


def theirs_on(theirs: Any, questions: list[tuple[Any, Any]]) -> float:
    theirs.reset()
    seconds = 0.0
    for ids, t in questions:
        theirs.sample(ids, t)
        seconds += theirs.get_ret()[0].tot_time()
    return seconds


def shared(ours: TemporalNeighbors, theirs: Any, asked: Any, questions: Any, strategy: str) -> float:
    """Share of their neighbours in the last hundred batches that are among ours."""
    common = total = 0
    theirs.reset()
    for number, ((ids, t), (their_ids, their_t)) in enumerate(zip(asked, questions, strict=True)):
        theirs.sample(their_ids, their_t)
        if number < len(asked) - 100:
            continue
        block = theirs.get_ret()[0]
        row, eid = torch.from_numpy(block.row()).long(), torch.from_numpy(block.eid()).long()
        mine = ours.query(ids, t, SIZE, strategy).eid
        common += int((mine[row] == eid.unsqueeze(1)).any(1).sum())
        total += eid.numel()
    return common / total


def measure(key: str, args: argparse.Namespace) -> Rows:
    name, size, threads = key.split()
    pairs, smoke = args.pairs, args.smoke
    torch.set_num_threads(int(threads))
    facts = {"case": name, "batch": int(size), "threads": int(threads)}
    if name in GENERATED:
        count, nodes = (10_000, 100) if smoke else (args.events, GENERATED_NODES)
        return [{**facts, "events": count, "nodes": nodes, **generated(name, int(size), count, nodes)}]
    events, nodes = tiny() if smoke else {"wikipedia": wikipedia, "growth": sfhh, "tgl": wikipedia}[name]()
    facts |= {"events": len(events[0]), "nodes": nodes}
    if name == "tgl":
        return [{**facts, **row} for row in tgl(args.tgl, int(threads), pairs, events, nodes)]
    check(events, nodes)
    ours, theirs = sides(events, nodes, int(size))
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
    parser.add_argument("--events", type=int, default=50_000_000, help="of the generated stream")
    parser.add_argument("--tgl", default=None, help="folder with TGL's sampler_core")
    add_arguments(parser, "speed_sampler")
    args = parser.parse_args(arguments)
    keys = [f"wikipedia {size} {n}" for size in args.batches for n in args.threads]
    keys += [f"growth {args.batches[0]} 1", *(f"{kind} {args.batches[-1]} 1" for kind in GENERATED)]
    if args.tgl is not None:
        keys += [f"tgl 600 {n}" for n in args.threads]
    run_cases(args, __doc__ or "", keys, lambda key: measure(key, args))


if __name__ == "__main__":
    main()
