"""NAT against its authors' code, and the N-cache's operators against what that code does, in interleaved pairs.

OMP_WAIT_POLICY=passive python benchmarks/speed_nat.py --peer CHECKOUT [--pairs 7] [--threads 1 2] [--cases train ...]

CHECKOUT: Graph-COM/Neighborhood-Aware-Temporal-Network at a054831, see peer_nat.py. Both sides: CollegeMsg with the
authors' preprocessing for streams of SNAP (node and edge features of width 1, zeros), M = 32 and 16, F = 8, D = 72,
positions of 16, time codes of 1 harmonic of absolute times, 2 heads, sums (the authors' attention is computed and
dropped), their hash, batches of 100, one negative an event (the same ones), Adam (theirs plain as there, ours fused).
Metrics are outside the clock. "default" is our model with its default options on the same events.

train, evaluate: --events events from the middle of the training period, or of the validation period, from the state
that all events before them leave. Ours evaluates by `NAT.step`, which scores a batch and takes it in, theirs by the two
calls of their eval.py. online: our default model without a peer, one event at a time, from the middle of the stream:
`step`, `score` and `update` apart, and 100 candidates of a source; percentiles of the last three quarters of the calls.
join: the joint neighbourhoods of 200 pairs pooled by sum, against packing (pair, key) into int64, `unique` and
`index_add_`. commit: the caches' update by a batch, against the authors' `update_memory`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from cases import Rows, add_arguments, run_cases
from peer_nat import Authors
from timing import paired
from torch import Tensor

from graphmem import ops
from graphmem.data import EventStream, load_stream, split_stream
from graphmem.engine import step_optimizer
from graphmem.models import NAT
from graphmem.nn.state import reset_state, restore_state, snapshot_state

SIZES, WIDTH, BATCH, SEED = (32, 16), 8, 100, 7
REFERENCE = {
    "sizes": SIZES,
    "value_dim": WIDTH,
    "time_dim": 1,
    "pool_dim": 1,
    "pool": "sum",
    "time": "absolute",
    "hash": "reference",
    "seed": SEED,
}


class Ours:
    """The same with graphmem's NAT."""

    def __init__(self, stream: EventStream, **options: Any) -> None:
        self.stream = stream
        self.model = NAT(stream.num_nodes, 1, **options)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-4, fused=True)

    def start(self) -> None:
        reset_state(self.model)
        self.model.prepare(self.stream)

    def mode(self, training: bool) -> None:
        self.model.train(training)

    def snapshot(self) -> Any:
        return snapshot_state(self.model)

    def restore(self, snapshot: Any) -> None:
        restore_state(self.model, snapshot)

    def score(self, batch: EventStream, neg: Tensor) -> tuple[Tensor, Tensor]:
        out = self.model.score(batch.src, torch.stack([batch.dst, neg], 1), batch.t)
        return out[:, 0], out[:, 1]

    def pass_on(self, batch: EventStream, neg: Tensor) -> tuple[Tensor, Tensor]:
        out = self.model.step(batch, torch.stack([batch.dst, neg], 1))
        return out[:, 0], out[:, 1]

    def train_step(self, batch: EventStream, neg: Tensor) -> None:
        self.optimizer.zero_grad()
        pos, neg_out = self.score(batch, neg)
        loss = F.softplus(-pos).mean() + F.softplus(neg_out).mean()
        loss.backward()
        self.model.update(batch)
        step_optimizer(self.optimizer)


class Work:
    """The stream, cut into batches with negatives, and both sides brought to its first event."""

    def __init__(self, case: str, args: argparse.Namespace) -> None:
        torch.manual_seed(0)
        split = split_stream(load_stream("collegemsg"))
        self.stream = replace(split.stream, msg=torch.zeros(len(split.stream), 1))
        options = {"pool_dim": 32, "time_dim": 16} if case.startswith("default") else REFERENCE
        self.ours = Ours(self.stream, **options)
        self.peer = Authors(self.stream, args.peer, sizes=SIZES, value_dim=WIDTH, seed=SEED)
        first = split.valid.first if case.endswith("evaluate") else len(split.train) // 2
        negatives = torch.randint(self.stream.num_nodes, (len(self.stream),))
        before = self.cut(0, first, negatives)
        self.batches = self.cut(first, min(first + args.events, len(self.stream)), negatives)
        for side in (self.ours, self.peer):
            side.start()
            side.mode(False)
            with torch.no_grad():
                for batch, neg in before:
                    side.pass_on(batch, neg)

    def cut(self, low: int, high: int, negatives: Tensor) -> list[tuple[EventStream, Tensor]]:
        batches = [self.stream[at : min(at + BATCH, high)] for at in range(low, high, BATCH)]
        return [(batch, negatives[batch.eid]) for batch in batches]


def whole_model(case: str, args: argparse.Namespace) -> Rows:
    work = Work(case, args)
    sides = work.ours, work.peer
    states = [side.snapshot() for side in sides]
    training = case.endswith("train")

    def run(side: Ours | Authors) -> Callable[[], None]:
        def train() -> None:
            for batch, neg in work.batches:
                side.train_step(batch, neg)

        @torch.no_grad()
        def evaluate() -> None:
            for batch, neg in work.batches:
                side.pass_on(batch, neg)

        return train if training else evaluate

    def put_back() -> None:
        for side, state in zip(sides, states, strict=True):
            side.restore(state)
            side.mode(training)

    row = paired(run(work.ours), run(work.peer), args.pairs, before=put_back)
    count = sum(len(batch) for batch, _ in work.batches)
    return [
        {
            "events": count,
            **{f"events_per_second_{who}": count / row[f"median_{who}"] for who in ("ours", "peer")},
            **row,
        }
    ]


def online(args: argparse.Namespace) -> Rows:
    """Microseconds of single calls."""
    torch.manual_seed(0)
    stream = load_stream("collegemsg")
    model = NAT(stream.num_nodes).eval()
    warm, count = len(stream) // 2, min(args.events, 8_000)
    events = [stream[e : e + 1] for e in range(warm, warm + 3 * count)]
    candidates = torch.randint(stream.num_nodes, (1, 100))

    def step(event: EventStream) -> None:
        model.step(event, event.dst.unsqueeze(1))

    def apart(event: EventStream) -> None:
        model.score(event.src, event.dst.unsqueeze(1), event.t)
        model.update(event)

    def rank(event: EventStream) -> None:
        model.score(event.src, candidates, event.t)

    rows = []
    with torch.no_grad():
        for batch in (stream[e : min(e + BATCH, warm)] for e in range(0, warm, BATCH)):
            model.update(batch)
        for k, (name, call) in enumerate({"step": step, "apart": apart, "rank-100": rank}.items()):
            ticks = [time.perf_counter()]
            for event in events[k * count : (k + 1) * count]:
                call(event)
                ticks.append(time.perf_counter())
            taken = 1e6 * np.diff(ticks)[count // 4 :]
            shares = {f"p{q}": float(np.percentile(taken, q)) for q in (10, 50, 90, 99)}
            rows.append({"stage": name, "calls": taken.size, "microseconds": shares})
    return rows


def join(args: argparse.Namespace) -> Rows:
    """Sums over the joint neighbourhood of each pair, of [values, position]."""
    work = Work("evaluate", args)
    cache = work.ours.model.cache
    batch, neg = work.batches[0]
    nodes, place = ops.distinct(torch.cat((batch.src, batch.dst, neg)))
    count = len(batch)
    first, second = place[:count].repeat(2), place[count:]
    now, position = cache.value[nodes], work.ours.model.position_emb.weight.detach()
    cells = cache.key, cache.eid, cache.time
    key = cache.key[nodes]
    key[:, 0] = nodes
    hop = torch.tensor([0] + [1] * SIZES[0] + [2] * SIZES[1])

    def ours() -> Tensor:
        return ops.ncache_pool(*cells, nodes, now, cache.layout, first, second, position)[0]

    def peer() -> Tensor:
        parts = []
        for side, rows in enumerate((first, second)):
            keys = key[rows]
            pair, column = (keys >= 0).nonzero(as_tuple=True)
            packed = pair * work.stream.num_nodes + keys[pair, column]
            values = torch.cat((now[rows[pair], column], (1 << (hop[column] + 3 * side)).unsqueeze(1)), 1)
            parts.append((packed, values))
        packed, values = (torch.cat(part) for part in zip(*parts, strict=True))
        found, place = packed.unique(return_inverse=True)
        joint = values.new_zeros(found.numel(), values.size(1)).index_add_(0, place, values)
        features = torch.cat((joint[:, :-1], position[joint[:, -1].long()]), 1)
        return features.new_zeros(first.numel(), features.size(1)).index_add_(
            0, found // work.stream.num_nodes, features
        )

    torch.testing.assert_close(ours(), peer(), rtol=1e-4, atol=1e-4)
    return [{"pairs_scored": first.numel(), **repeated(ours, peer, args.pairs, 50)}]


def commit(args: argparse.Namespace) -> Rows:
    work = Work("evaluate", args)
    cache, authors = work.ours.model.cache, work.peer.model
    batch, _ = work.batches[0]
    nodes, at = ops.distinct(torch.cat((batch.src, batch.dst)))
    now = cache.value[nodes]
    ends, when = torch.cat((batch.src, batch.dst)) + 1, batch.t.float()
    with torch.no_grad():
        refreshed = [authors.batch_fetch_ncaches(ends, when.repeat(2), hop=hop) for hop in (0, 1)]
    events = batch.src + 1, batch.dst + 1, batch.eid + 1, when

    def ours() -> None:
        cache.commit(batch.src, batch.dst, batch.t, batch.eid, nodes, at, now)

    def peer() -> None:
        authors.update_memory(*events, *refreshed, len(batch))

    return [{"events": len(batch), **repeated(ours, peer, args.pairs, 50)}]


def repeated(ours: Callable[[], Any], peer: Callable[[], Any], pairs: int, times: int) -> dict[str, Any]:
    def loop(work: Callable[[], Any]) -> Callable[[], None]:
        def run() -> None:
            for _ in range(times):
                work()

        return run

    with torch.no_grad():
        return {"calls_per_sample": times, **paired(loop(ours), loop(peer), pairs)}


CASES: dict[str, Callable[[argparse.Namespace], Rows]] = {
    **{
        case: (lambda args, case=case: whole_model(case, args))
        for case in ("train", "evaluate", "default-train", "default-evaluate")
    },
    "online": online,
    "join": join,
    "commit": commit,
}


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer", required=True, help="checkout of the authors' repository")
    parser.add_argument("--events", type=int, default=8_000)
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    add_arguments(parser, "speed_nat")
    args = parser.parse_args(argv)

    def measure(key: str) -> Rows:
        case, threads = key.split()
        torch.set_num_threads(int(threads))
        return [{"case": case, "threads": int(threads), **row} for row in CASES[case](args)]

    run_cases(args, __doc__ or "", [f"{case} {threads}" for case in args.cases for threads in args.threads], measure)


if __name__ == "__main__":
    main()
