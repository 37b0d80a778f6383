"""Same weights, same events: ReleasedSEMBA against the authors' code, losses, states and weights.

python benchmarks/parity_semba.py --peer CHECKOUT [--data bitcoin-otc] [--batches 25]

CHECKOUT: see peer_semba.py. Both are trained on the sign task from the same weights by Adam at 0.01, in batches of
1,000 from the first event of the stream on, and then see the validation period in evaluation mode. Nothing is dropped.
Times are whole hours from the first event on, and of the time code all frequencies are 1 and all shifts 0, and are not
trained: theirs rounds a phase to float32, which is no phase at all for seconds. "loader": nodes as their loader numbers
them, every user once as a source and once as a destination.

Losses: the largest difference over the batches, and that over the loss. Logits of the validation period and states
behind it: largest absolute differences, and these over the largest absolute value. Clocks: how many differ.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
from common import difference, provenance, write_json
from peer_semba import Authors, as_loader, batches_of, released_loss, take_weights

from graphmem.data import EventStream, load_stream, split_stream
from graphmem.models.semba_released import ReleasedSEMBA

HOUR = 3600


def compare(stream: EventStream, path: str, count: int) -> dict[str, Any]:
    torch.manual_seed(0)
    ours, peer = ReleasedSEMBA(stream.num_nodes, dropout=0.0), Authors(stream, path, dropout=0.0)
    torch.nn.init.ones_(ours.time_enc.lin.weight)
    torch.nn.init.zeros_(ours.time_enc.lin.bias)
    take_weights(ours, peer.model)
    for code in (ours.time_enc, peer.model.mem_model.time_enc):
        code.requires_grad_(False)
    optimizer = torch.optim.Adam(ours.parameters(), lr=0.01)
    peer.start()
    split, losses = split_stream(stream), []
    train = batches_of(split.train)[:count]
    for batch in train:
        optimizer.zero_grad()
        loss = released_loss(ours(batch), batch)
        loss.backward()
        optimizer.step()
        losses.append((float(loss.detach()), peer.train_step(batch)))
    ours.eval(), peer.model.eval()
    with torch.no_grad():
        logits = [(ours(batch), peer.logits(batch)) for batch in batches_of(split.valid)]
    memory = peer.model.mem_model
    theirs = torch.stack((memory.memory_pos, memory.memory_neg), 1)
    clocks = torch.stack((memory.last_update_pos, memory.last_update_neg), 1)
    gaps = [abs(a - b) for a, b in losses]
    return {
        "events": sum(map(len, train)) + len(split.valid),
        "losses": losses,
        "loss": {"absolute": max(gaps), "relative": max(gap / b for gap, (_, b) in zip(gaps, losses, strict=True))},
        "logits": difference(*(torch.cat(part) for part in zip(*logits, strict=True))),
        "states": difference(ours.memory, theirs.detach()),
        "clocks": int((ours.last_update != clocks).sum()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", required=True, help="checkout of the authors' repository")
    parser.add_argument("--data", default="bitcoin-otc")
    parser.add_argument("--batches", type=int, default=25, help="training batches of the first epoch")
    args = parser.parse_args()
    stream = load_stream(args.data)
    hours = ((stream.t - stream.t[0]) // HOUR).long()
    stream = EventStream(stream.src, stream.dst, hours, stream.num_nodes, weight=stream.weight)
    cases = {}
    for case, events in {"one node a user": stream, "loader": as_loader(stream)}.items():
        cases[case] = compare(events, args.peer, args.batches)
        print(case, {name: value for name, value in cases[case].items() if name != "losses"}, flush=True)
    write_json("parity_semba", {**provenance(), "notes": __doc__, "data": args.data, "cases": cases})


if __name__ == "__main__":
    main()
