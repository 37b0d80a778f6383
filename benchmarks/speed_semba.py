"""An epoch of SEMBA against its authors' code, in interleaved pairs.

OMP_WAIT_POLICY=passive python benchmarks/speed_semba.py --peer CHECKOUT [--pairs 7] [--threads 1 2] [--cases ...]

CHECKOUT: claws-lab/semba at ae75932, see peer_semba.py. Both sides: the sign task, states of 64, time codes of 32,
embeddings of 64 by 8 heads, a linear decoder, Adam, the training events in batches of 1,000 from an empty memory,
losses of classes apart, metrics outside the clock. Theirs attends to all events so far, for all nodes, and shows the
batch to itself; ours to the 10 latest of the nodes that a batch asks for. So losses are not equal: `loss` is the mean
of the last quarter of the epoch's batches in the last of the pairs (each trains on from the weights of the one before).
"released": ReleasedSEMBA on our side, the same function as theirs (parity_semba.py) but for the draws of dropout.
"loader": nodes as their loader numbers them, every user once as a source and once as a destination, on both sides; else
a user is one node. "default" is our preset's model, which also reads counts of the past.

--batches N stops an epoch early: wiki-RfA has 129 batches, of which a late one takes theirs a second.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from typing import Any

import torch
from cases import Rows, add_arguments, run_cases
from peer_semba import BATCH, Authors, as_loader, batches_of, released_loss
from timing import paired

from graphmem.data import EventStream, load_stream, split_stream
from graphmem.engine import step_optimizer
from graphmem.engine.signed_task import SignedBatch, SignedTask
from graphmem.models import SEMBA
from graphmem.models.semba_released import ReleasedSEMBA
from graphmem.presets import load_preset

ALIKE = {"features": "memory", "decoder": "linear", "sign_in_edge": False, "compat": "released"}
CASES: dict[str, tuple[str, dict[str, Any] | None]] = {
    "otc": ("bitcoin-otc", ALIKE),
    "otc-loader": ("bitcoin-otc", ALIKE),
    "otc-released": ("bitcoin-otc", None),
    "otc-released-loader": ("bitcoin-otc", None),
    "otc-default": ("bitcoin-otc", load_preset("semba", "bitcoin-otc").options),
    "wiki-rfa": ("wiki-rfa-year", ALIKE),
    "wiki-rfa-released": ("wiki-rfa-year", None),
}
"""Stream and options of SEMBA; None: ReleasedSEMBA."""


class Ours:
    """The same with graphmem's SEMBA."""

    def __init__(self, stream: EventStream, options: dict[str, Any]) -> None:
        self.model = SEMBA(stream.num_nodes, 0, time_dtype=stream.t.dtype, **options)
        self.task = SignedTask(split_stream(stream), kind="sign", batch_size=BATCH, reduction="class_mean")
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=0.01, fused=True)

    def start(self) -> None:
        self.task.reset(self.model)
        self.model.train()

    def train_step(self, batch: EventStream) -> float:
        asked = SignedBatch(batch, None)
        self.optimizer.zero_grad()
        loss = self.task.loss(self.model, asked)
        loss.backward()
        self.task.update(self.model, asked)
        step_optimizer(self.optimizer)
        return float(loss.detach())


class Released:
    """The same with what computes what theirs does."""

    def __init__(self, stream: EventStream) -> None:
        self.model = ReleasedSEMBA(stream.num_nodes, time_dtype=stream.t.dtype)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=0.01, fused=True)

    def start(self) -> None:
        self.model.reset()
        self.model.train()

    def train_step(self, batch: EventStream) -> float:
        self.optimizer.zero_grad()
        loss = released_loss(self.model(batch), batch)
        loss.backward()
        step_optimizer(self.optimizer)
        return float(loss.detach()) / 2


def measure(key: str, args: argparse.Namespace) -> Rows:
    case, threads = key.split()
    torch.set_num_threads(int(threads))
    torch.manual_seed(0)
    data, options = CASES[case]
    stream = load_stream(data)
    if case.endswith("loader"):
        stream = as_loader(stream)
    train = split_stream(stream).train
    batches = batches_of(train)[: args.batches]
    sides = Released(stream) if options is None else Ours(stream, options), Authors(stream, args.peer)
    losses: list[list[float]] = [[], []]

    def epoch(number: int) -> None:
        losses[number] = [sides[number].train_step(batch) for batch in batches]

    def start() -> None:
        for side in sides:
            side.start()

    row = paired(lambda: epoch(0), lambda: epoch(1), args.pairs, before=start)
    count = sum(map(len, batches))
    last = [statistics.fmean(values[-len(batches) // 4 :]) for values in losses]
    rates = {f"events_per_second_{who}": count / row[f"median_{who}"] for who in ("ours", "peer")}
    found = {"case": case, "threads": int(threads), "events": count, **rates, **row}
    return [{**found, "loss_ours": 2 * last[0], "loss_peer": last[1]}]  # theirs adds the classes' means, ours halves


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", required=True, help="checkout of the authors' repository")
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--batches", type=int, default=None)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    add_arguments(parser, "speed_semba")
    args = parser.parse_args(argv)
    keys = [f"{case} {threads}" for case in args.cases for threads in args.threads]
    run_cases(args, __doc__ or "", keys, lambda key: measure(key, args))


if __name__ == "__main__":
    main()
