"""Same weights, same events: our reference mode of NAT against the authors' code, states, scores and gradients.

python benchmarks/parity_nat.py --peer CHECKOUT [--batches 1000] [--window 59]

CHECKOUT: see peer_nat.py. CollegeMsg, times counted from 1 (the last is 16,736,182, which float32 holds), in windows
of 59 events. Of each window the events are left out that have an end that an earlier one of the window has. Both models
see the batches that remain, with a random destination for each event as a negative; 1,000 batches are compared.
replace_prob is 1 and nothing is dropped. "released" has the authors' preprocessing for SNAP's streams, one zero for
each node and event; the other cases random features of 5 numbers an event and 3 a node. "trained": weights that our
model has after a pass over 300 batches, and not initial ones; the time code is not trained, see below.

State: keys, events and times of all slots and the other end of every node's last event, as numbers of mismatches;
values of slots and states of nodes, logits and the gradients of a batch behind the last as largest absolute
differences, and these over the largest absolute value.

What cannot be the same, and so is not compared:
- their time code rounds the phase w t to float32: half a radian at such times, unless w is a power of two. Here w = 1;
- a batch with two events of one node: they keep the event with the node as destination, or the last row of the
  shuffled batch, ours the last in time; of several offers to a slot which one stays there is not defined by torch;
- replace_prob below 1: their coins come from torch's generator, ours are functions of seed, event and slot;
- events at time 0, which count as absent there; nodes and events beyond 2^24, which their float32 store cannot name;
- dropout: ours is the same function of other draws;
- their training shuffles the rows of a batch, draws the same negatives in every epoch, from the destinations of the
  training period, and stops at a relative gain below 0.001; `--compat reference` does not.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from common import difference, provenance, write_json
from peer_nat import Authors, take_weights, weight_pairs
from torch import Tensor

from graphmem.data import EventStream, load_stream
from graphmem.models import NAT

SEED, WIDTH = 7, 4
CASES = {
    "released, initial weights": {"sizes": (32, 16), "features": False, "trained": 0},
    "released, trained": {"sizes": (32, 16), "features": False, "trained": 300},
    "features, trained": {"sizes": (32, 16), "features": True, "trained": 300},
    "features, one hop, trained": {"sizes": (16,), "features": True, "trained": 300},
    "features, another hash, trained": {"sizes": (32, 16), "features": True, "trained": 300, "seed": 48},
}
Batch = tuple[EventStream, Tensor]


def without_repetition(stream: EventStream, window: int) -> tuple[EventStream, list[int]]:
    """The events whose ends no earlier one of their window that is kept has, and how many of each window."""
    keep, counts, seen = torch.zeros(len(stream), dtype=torch.bool), [], set[int]()
    for e, (u, v) in enumerate(zip(stream.src.tolist(), stream.dst.tolist(), strict=True)):
        if e % window == 0:
            counts.append(0)
            seen = set()
        if u != v and u not in seen and v not in seen:
            seen |= {u, v}
            keep[e] = True
            counts[-1] += 1
    return stream.select(keep), counts


def cut(stream: EventStream, counts: list[int]) -> list[Batch]:
    g = torch.Generator().manual_seed(1)
    negatives = stream.dst[torch.randint(len(stream), (len(stream),), generator=g)]
    ends = torch.tensor(counts).cumsum(0).tolist()
    return [
        (stream[high - size : high], negatives[high - size : high]) for size, high in zip(counts, ends, strict=True)
    ]


def state_differences(model: NAT, peer: Any) -> dict[str, Any]:
    """Our state beside theirs: numbers of slots that differ, and differences of values and states."""
    cache, first, out = model.cache, 0, {"filled": 0, "keys": 0, "events": 0, "times": 0}
    values: list[tuple[Tensor, Tensor]] = []
    for store, size in zip(peer.neighborhood_store, (1, *cache.layout.sizes), strict=True):
        rows = store.view(cache.num_nodes + 1, size, -1)[1:]
        key, eid, time = (rows[..., n].long() for n in range(3))
        mine = slice(first, first + size)
        filled, present = cache.eid[:, mine] >= 0, time != 0
        if first == 0:  # theirs has the key of every node that it was ever asked about
            key = torch.where(present, key, 0)
        out["filled"] += int(filled.sum())
        out["keys"] += int((cache.key[:, mine] + 1 != key).sum())
        out["events"] += int(((cache.eid[:, mine] + 1 != eid) & (filled | present)).sum())
        out["times"] += int(((cache.time[:, mine] != time) & (filled | present)).sum())
        values.append((cache.value[:, mine][filled], rows[..., 3:][filled]))
        first += size
    out["other ends"] = int((model.other + 1 != peer.prev_raw[1:, 0].long()).sum())
    out["values"] = difference(*(torch.cat(part) for part in zip(*values, strict=True)))
    out["states"] = difference(model.state, peer.self_rep[1:])
    return out


def trained(model: NAT, batches: list[Batch]) -> None:
    """Train on some batches: all but the time code, whose phase the authors round."""
    model.train().time_enc.requires_grad_(False)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for batch, neg in batches:
        optimizer.zero_grad()
        loss_of(model, batch, neg).backward()
        optimizer.step()
        model.update(batch)
    model.time_enc.requires_grad_(True)


def scores_of(model: NAT, batch: EventStream, neg: Tensor) -> Tensor:
    return model.score(batch.src, torch.stack((batch.dst, neg), 1), batch.t).t()


def loss_of(model: NAT, batch: EventStream, neg: Tensor) -> Tensor:
    pos, other = scores_of(model, batch, neg)
    return F.softplus(-pos).mean() + F.softplus(other).mean()


def compare(path: str, stream: EventStream, counts: list[int], case: dict[str, Any]) -> dict[str, Any]:
    torch.manual_seed(0)
    sizes, seed = case["sizes"], case.get("seed", SEED)
    features = torch.randn(stream.num_nodes, 3) if case["features"] else torch.zeros(stream.num_nodes, 1)
    msg = torch.randn(len(stream), 5) if case["features"] else torch.zeros(len(stream), 1)
    stream = replace(stream, msg=msg)
    batches = cut(stream, counts)
    common: dict[str, Any] = {"sizes": sizes, "value_dim": WIDTH, "seed": seed, "replace_prob": 1.0, "dropout": 0.0}
    model = NAT(stream.num_nodes, msg.size(1), compat="reference", node_feat=features, **common)
    peer = Authors(stream, path, node_feat=features, **common)
    model.prepare(stream)
    if case["trained"]:
        trained(model, batches[: case["trained"]])
        model.reset(), model.cache.reset()
        for _, mine, theirs in weight_pairs(model, peer.model):
            theirs.copy_(mine[0] if theirs.dim() < mine.dim() else mine)
    take_weights(model, peer.model)
    logits: list[Tensor] = []
    peer.model.out_layer.register_forward_hook(lambda _, __, out: logits.append(out.detach().clone()))
    peer.start()
    record: dict[str, Any] = {"batches": len(batches) - 1, "events": sum(counts[:-1]), "largest_batch": max(counts)}
    found = []
    model.eval(), peer.mode(False)
    with torch.no_grad():
        for batch, neg in batches[:-1]:
            ours = scores_of(model, batch, neg)
            peer.pass_on(batch, neg)
            found.append((ours, torch.stack([part.view(-1) for part in logits])))
            logits.clear()
            model.update(batch)
    record["logits"] = difference(*(torch.cat(part, 1) for part in zip(*found, strict=True)))
    record["state"] = state_differences(model, peer.model)
    record["gradients"] = gradients(model, peer, *batches[-1])
    return record


def gradients(model: NAT, peer: Authors, batch: EventStream, neg: Tensor) -> dict[str, float]:
    model.train(), peer.mode(True)
    model.zero_grad()
    loss_of(model, batch, neg).backward()
    peer.optimizer = torch.optim.SGD(peer.model.parameters(), lr=0.0)
    peer.train_step(batch, neg)
    found = [difference(mine, theirs) for _, mine, theirs in weight_pairs(model, peer.model, grad=True)]
    return {name: max(one[name] for one in found) for name in ("absolute", "relative")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", required=True, help="checkout of the authors' repository")
    parser.add_argument("--batches", type=int, default=1000)
    parser.add_argument("--window", type=int, default=59)
    args = parser.parse_args()
    torch.set_num_threads(1)  # of two entries for one slot the later one stays, in torch's assignment too
    stream = load_stream("collegemsg")
    stream = replace(stream, t=stream.t - stream.t[0] + 1)
    assert int(stream.t[-1]) < 2**24
    stream, counts = without_repetition(stream, args.window)
    counts = counts[: args.batches + 1]
    stream = stream[: sum(counts)]
    records = []
    for name, case in CASES.items():
        records.append({"case": name, **case, **compare(args.peer, stream, counts, case)})
        print(records[-1], flush=True)
    mismatches = {name: max(r["state"][name] for r in records) for name in ("keys", "events", "times", "other ends")}
    worst = {name: max(r["state"][name]["absolute"] for r in records) for name in ("values", "states")}
    worst |= {name: max(r[name]["relative"] for r in records) for name in ("logits", "gradients")}
    print(mismatches, worst)
    document = {**provenance(), "notes": __doc__, "data": "collegemsg", "dtype": "float32"}
    write_json("parity_nat", {**document, "mismatches": mismatches, "worst": worst, "cases": records})


if __name__ == "__main__":
    main()
