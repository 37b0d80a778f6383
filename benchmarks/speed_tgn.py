"""Training and evaluation of TGN against PyG's own example, in interleaved pairs.

OMP_WAIT_POLICY=passive python benchmarks/speed_tgn.py [--data wikipedia] [--events 20000] [--pairs 7] [--threads 1 2]

Both sides: memory, time code and embedding of 100 channels, ten neighbours, batches of 200, one negative an event (the
same ones), Adam, mail committed when the node's next event comes. The stream has no features; PyG's side gets one zero
column, since it refuses none. Theirs is `examples/tgn.py` with `TGNMemory`, `LastNeighborLoader` and `TransformerConv`,
with plain Adam as there, ours fused; metrics are outside the clock on both sides. Training: --events events from the
middle of the training period, from the state that all events before them leave; evaluation: as many from the validation
period. Events/s are of that many events in one pass. "train parts" and "evaluate parts" say what gave what: their
example with one part of ours after the other in it, each beside the example as it is.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from cases import Rows, add_arguments, run_cases
from timing import paired
from torch import Tensor, nn
from torch_geometric.nn import TransformerConv
from torch_geometric.nn.models.tgn import IdentityMessage, LastAggregator, LastNeighborLoader, TGNMemory

from graphmem.data import EventStream, load_stream, split_stream
from graphmem.engine import step_optimizer
from graphmem.models import TGN
from graphmem.nn import NodeMemory, RecentNeighbors
from graphmem.nn.state import detach_state, reset_state, restore_state, snapshot_state

CHANNELS, NEIGHBORS, BATCH = 100, 10, 200
CASES = ("train", "evaluate", "train parts", "evaluate parts")
# Parts of ours in their example, one more each time; the attention and the decoder make it all ours.
PARTS = ("neighbours", "memory", "optimizer")


class PyGExample:
    """What PyG's examples/tgn.py does with a batch; ``ours``: those of :data:`PARTS` that are ours."""

    def __init__(self, stream: EventStream, ours: Sequence[str] = ()) -> None:
        self.stream = stream = replace(stream, msg=torch.zeros(len(stream), 1))
        sizes = (stream.num_nodes, 1, CHANNELS, CHANNELS)
        message = IdentityMessage(1, CHANNELS, CHANNELS)
        self.memory = NodeMemory(*sizes) if "memory" in ours else TGNMemory(*sizes, message, LastAggregator())
        self.conv = TransformerConv(CHANNELS, CHANNELS // 2, heads=2, dropout=0.1, edge_dim=1 + CHANNELS)
        self.lin_src, self.lin_dst, self.lin_final = (nn.Linear(CHANNELS, n) for n in (CHANNELS, CHANNELS, 1))
        self.modules = nn.ModuleList([self.memory, self.conv, self.lin_src, self.lin_dst, self.lin_final])
        self.step = step_optimizer if "optimizer" in ours else torch.optim.Adam.step
        self.optimizer = torch.optim.Adam(self.modules.parameters(), lr=1e-4, fused="optimizer" in ours or None)
        make = RecentNeighbors if "neighbours" in ours else LastNeighborLoader
        self.neighbors: Any = make(stream.num_nodes, NEIGHBORS)
        self.assoc = torch.empty(stream.num_nodes, dtype=torch.long)

    def start(self, first: int) -> None:
        self.modules.train()
        self.memory.reset_state()
        self.neighbors.reset_state()
        for low in range(0, first, 2000):
            batch = self.stream[low : min(low + 2000, first)]
            self.update(batch)
        self.memory.detach()

    def snapshot(self) -> Any:
        if isinstance(self.neighbors, RecentNeighbors):
            neighbors = snapshot_state(self.neighbors)
        else:
            neighbors = {k: v.clone() if isinstance(v, Tensor) else v for k, v in vars(self.neighbors).items()}
        if isinstance(self.memory, NodeMemory):
            return neighbors, snapshot_state(self.memory)
        state = {k: v.clone() for k, v in self.memory.named_buffers()}
        return neighbors, (state, dict(self.memory.msg_s_store), dict(self.memory.msg_d_store))

    def restore(self, snapshot: Any) -> None:
        neighbors, memory = snapshot
        if isinstance(self.neighbors, RecentNeighbors):
            restore_state(self.neighbors, neighbors)
        else:
            vars(self.neighbors).update({k: v.clone() if isinstance(v, Tensor) else v for k, v in neighbors.items()})
        if isinstance(self.memory, NodeMemory):
            restore_state(self.memory, memory)
            return
        state, sources, destinations = memory
        for name, value in state.items():
            self.memory.get_buffer(name).copy_(value)
        self.memory.msg_s_store, self.memory.msg_d_store = dict(sources), dict(destinations)

    def update(self, batch: EventStream) -> None:
        self.memory.update_state(batch.src, batch.dst, batch.t, self.stream.msg[batch.first : batch.first + len(batch)])
        self.neighbors.insert(batch.src, batch.dst)

    def score(self, batch: EventStream, neg: Tensor) -> tuple[Tensor, Tensor]:
        n_id, edge_index, e_id = self.neighbors(torch.cat([batch.src, batch.dst, neg]).unique())
        self.assoc[n_id] = torch.arange(n_id.size(0))
        z, last_update = self.memory(n_id)
        rel_t = last_update[edge_index[0]] - self.stream.t[e_id]
        code = self.memory.time_enc(rel_t.to(z.dtype))
        z = self.conv(z, edge_index, torch.cat([code, self.stream.msg[e_id]], dim=-1))
        rows = [z[self.assoc[nodes]] for nodes in (batch.src, batch.dst, neg)]
        hidden = [self.lin_src(rows[0]) + self.lin_dst(row) for row in rows[1:]]
        pos, neg_out = (self.lin_final(h.relu()) for h in hidden)
        return pos, neg_out

    def train_step(self, batch: EventStream, neg: Tensor) -> None:
        self.optimizer.zero_grad()
        pos, neg_out = self.score(batch, neg)
        loss = F.binary_cross_entropy_with_logits(pos, torch.ones_like(pos))
        loss = loss + F.binary_cross_entropy_with_logits(neg_out, torch.zeros_like(neg_out))
        self.update(batch)
        loss.backward()
        self.step(self.optimizer)
        self.memory.detach()

    def eval_mode(self) -> None:
        self.modules.eval()
        if isinstance(self.memory, NodeMemory):
            self.memory.flush()


class Ours:
    """The same with graphmem's TGN."""

    def __init__(self, stream: EventStream) -> None:
        self.stream = stream
        self.model = TGN(stream.num_nodes, memory_dim=CHANNELS, time_dim=CHANNELS, embedding_dim=CHANNELS)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-4, fused=True)

    def start(self, first: int) -> None:
        self.model.train()
        reset_state(self.model)
        self.model.prepare(self.stream)
        for low in range(0, first, 2000):
            self.model.update(self.stream[low : min(low + 2000, first)])

    def snapshot(self) -> Any:
        return snapshot_state(self.model)

    def restore(self, snapshot: Any) -> None:
        restore_state(self.model, snapshot)

    def score(self, batch: EventStream, neg: Tensor) -> tuple[Tensor, Tensor]:
        out = self.model.score(batch.src, torch.stack([batch.dst, neg], 1), batch.t)
        return out[:, 0], out[:, 1]

    def update(self, batch: EventStream) -> None:
        self.model.update(batch)

    def train_step(self, batch: EventStream, neg: Tensor) -> None:
        self.optimizer.zero_grad()
        pos, neg_out = self.score(batch, neg)
        loss = F.softplus(-pos).mean() + F.softplus(neg_out).mean()
        loss.backward()
        self.update(batch)
        detach_state(self.model)
        step_optimizer(self.optimizer)

    def eval_mode(self) -> None:
        self.model.eval()
        self.model.memory.flush()


def run_case(case: str, threads: int, args: argparse.Namespace) -> Rows:
    case, _, parts = case.partition(" ")
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    split = split_stream(load_stream(args.data))
    stream = split.stream
    stream = replace(stream, msg=None)
    low, high = stream.dst_range or (0, stream.num_nodes)
    negatives = torch.randint(low, high, (len(stream),))
    first = len(split.train) // 2 if case == "train" else split.valid.first
    part = stream[first : first + args.events]
    cut = [part[at : at + BATCH] for at in range(0, len(part), BATCH)]
    batches = [(batch, negatives[batch.eid]) for batch in cut]

    def work(side: Ours | PyGExample) -> Any:
        def train() -> None:
            for batch, neg in batches:
                side.train_step(batch, neg)

        @torch.no_grad()
        def evaluate() -> None:
            for batch, neg in batches:
                side.score(batch, neg)
                side.update(batch)

        return train if case == "train" else evaluate

    def measured(ours: Ours | PyGExample) -> dict[str, Any]:
        sides = ours, PyGExample(stream)
        for side in sides:
            side.start(first)
            if case == "evaluate":
                side.eval_mode()
        states = [side.snapshot() for side in sides]

        def put_back() -> None:
            for side, state in zip(sides, states, strict=True):
                side.restore(state)

        row = paired(work(sides[0]), work(sides[1]), args.pairs, before=put_back)
        rates = {f"events_per_second_{who}": len(part) / row[f"median_{who}"] for who in ("ours", "peer")}
        return {"events": len(part), **rates, **row}

    if not parts:
        return [measured(Ours(stream))]
    kept = [PARTS[: k + 1] for k in range(len(PARTS)) if case == "train" or PARTS[k] != "optimizer"]
    rows: Rows = [{"ours": ", ".join(some), **measured(PyGExample(stream, some))} for some in kept]
    return [*rows, {"ours": "all", **measured(Ours(stream))}]


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="wikipedia")
    parser.add_argument("--events", type=int, default=20_000)
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=CASES)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    add_arguments(parser, "speed_tgn")
    args = parser.parse_args(argv)
    keys = [f"{case} {threads}" for case in args.cases for threads in args.threads]

    def measure(key: str) -> Rows:
        case, _, threads = key.rpartition(" ")
        return [{"case": case, "threads": int(threads), **row} for row in run_case(case, int(threads), args)]

    run_cases(args, __doc__ or "", keys, measure)


if __name__ == "__main__":
    main()
