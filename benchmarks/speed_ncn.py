"""Seconds of a training epoch and of an evaluation against the authors' code, in interleaved pairs.

OMP_WAIT_POLICY=passive python benchmarks/speed_ncn.py --peer PATH [--data cora] [--models ncn ncnc] [--pairs 9]
OMP_WAIT_POLICY=passive python benchmarks/speed_ncn.py --peer PATH --data ogbl-ddi --models ncn --steps 1 --pairs 7

Same process, same split, same batch size, same dropouts, target-link removal on both sides. Training is the peer's own
``train`` function (negatives included on both sides); evaluation scores validation and test pairs only on both sides
(the peer's ``test`` also scores every training link), with metrics outside the clock. "reference" computes what the
peer computes; "clean" is reported apart. With --steps an epoch is cut short, there is no evaluation, and the peer's
negatives, which it draws for the whole epoch, are made outside the clock. Floor: matrix products of our side, counted,
at the rate of a 1024^3 product by torch's BLAS or by our operator, whichever is faster.
"""

from __future__ import annotations

import argparse
import importlib
import itertools
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from common import provenance, write_json
from peer_ncn import build_peer, load_peer, sparse_tensor
from timing import paired, product_rate
from torch.utils.flop_counter import FlopCounterMode, register_flop_formula
from torch_geometric.utils import negative_sampling

from graphmem.data import CSRGraph, load_dataset, split_edges
from graphmem.engine.experiment import RunConfig, build
from graphmem.engine.run_config import resolve
from graphmem.presets import TrainSettings

TEST_BATCH = 8192  # the peer's --testbs


class Peer:
    """The authors' training and evaluation on one split."""

    def __init__(
        self, path: str, name: str, options: dict[str, Any], train: TrainSettings, dataset, split, steps: int | None
    ) -> None:
        model, self.utils = load_peer(path)
        self.script = importlib.import_module("NeighborOverlap")
        x = torch.arange(split.num_nodes) if dataset.x is None else dataset.x.to_dense()
        self.encoder, self.predictor = build_peer(model, name, options, x.size(-1))
        graph = CSRGraph.from_edge_index(split.train, split.num_nodes, symmetric=True)
        self.data = SimpleNamespace(
            x=x, adj_t=sparse_tensor(graph), edge_index=graph.edge_index(), num_nodes=split.num_nodes
        )
        self.edges = split.to_ogb()
        groups = [(self.encoder, train.encoder_lr), (self.predictor, train.decoder_lr)]
        self.optimizer = torch.optim.Adam([{"params": m.parameters(), "lr": lr} for m, lr in groups])
        self.batch_size = int(train.batch_size)
        # Every peer of a process patches what the authors' module had at first.
        batches = self.utils.PermIterator
        self.script.PermIterator = lambda *args: itertools.islice(batches(*args), steps)
        if steps is not None:
            negatives = negative_sampling(self.data.edge_index, split.num_nodes)
            self.script.negative_sampling = lambda *_: negatives

    def train_epoch(self) -> None:
        self.script.train(
            self.encoder, self.predictor, self.data, self.edges, self.optimizer, self.batch_size, True, [], None
        )

    @torch.no_grad()
    def evaluate(self) -> None:
        self.encoder.eval()
        self.predictor.eval()
        adjacency = self.data.adj_t
        h = self.encoder(self.data.x, adjacency)
        for name in ("valid", "test"):
            for kind in ("edge", "edge_neg"):
                pairs = self.edges[name][kind]
                batches = self.utils.PermIterator(pairs.device, pairs.shape[0], TEST_BATCH, False)
                torch.cat([self.predictor(h, adjacency, pairs[perm].t()).squeeze() for perm in batches])


class Ours:
    """Our training and evaluation on the same split."""

    def __init__(self, config: RunConfig, steps: int | None) -> None:
        self.model, self.task, self.optimizer = build(config, 0)[:3]
        self.epoch, self.steps = 0, steps

    def train_epoch(self) -> None:
        self.epoch += 1
        self.model.train()
        for batch in itertools.islice(self.task.batches("train", self.epoch), self.steps):
            self.optimizer.zero_grad(set_to_none=True)
            self.task.loss(self.model, batch).backward()
            self.optimizer.step()

    @torch.no_grad()
    def evaluate(self) -> None:
        self.model.eval()
        with self.task.evaluation(self.model):
            for split in ("valid", "test"):
                self.task.scores(self.model, split)


@register_flop_formula(torch.ops.graphmem.pair_head)
def _head_flops(h: Any, pairs: Any, branch: Any, place: Any, weights_t: Any, *_: Any, **__: Any) -> int:
    """The fused head's products, which the counter does not know."""
    layers, width, _ = weights_t
    return int(2 * pairs[1] * layers * width * width)


@register_flop_formula(torch.ops.graphmem.matmul)
def _matmul_flops(a: Any, b: Any, bias: Any, transpose_a: bool, transpose_b: bool, **_: Any) -> int:
    return int(2 * a[0] * a[1] * b[0 if transpose_b else 1])


def floor(work: Callable[[], None], seconds: float) -> dict[str, float]:
    """Floating point operations in matrix products, and the share of the time that they alone would take."""
    with FlopCounterMode(display=False) as counter:
        work()
    flops = float(counter.get_total_flops())
    rate = product_rate()
    return {"product_flops": flops, "product_rate": rate, "fraction_of_floor": flops / rate / seconds}


def measure(args: argparse.Namespace, name: str, threads: int) -> list[dict[str, Any]]:
    torch.set_num_threads(threads)
    dataset = load_dataset(args.data)
    split = split_edges(dataset, protocol="ncn", seed=0) if dataset.split is None else dataset.split
    rows = []
    stages = ("train_epoch", "evaluate") if args.steps is None else ("train_epoch",)
    for compat in ("reference", "clean") if name == "ncnc" or args.steps is None else ("reference",):
        torch.manual_seed(0)
        config = RunConfig(model=name, data=args.data, compat=compat)
        ours = Ours(config, args.steps)
        settings = resolve(config)
        peer = Peer(args.peer, name, dict(settings.options), settings.train, dataset, split, args.steps)
        for stage in stages:
            result = paired(getattr(ours, stage), getattr(peer, stage), args.pairs)
            result.update(floor(getattr(ours, stage), result["median_ours"]))
            rows.append({"model": name, "compat": compat, "threads": threads, "stage": stage, **result})
            print({k: v for k, v in rows[-1].items() if not k.endswith("_seconds")}, flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer", required=True)
    parser.add_argument("--data", default="cora")
    parser.add_argument("--models", nargs="+", default=["ncn", "ncnc"])
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--steps", type=int, default=None, help="steps of a training epoch; the whole by default")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    args = parser.parse_args()
    rows = [row for name in args.models for threads in args.threads for row in measure(args, name, threads)]
    write_json(f"speed_ncn_{args.data}", {**provenance(), "data": args.data, "steps": args.steps, "rows": rows})


if __name__ == "__main__":
    main()
