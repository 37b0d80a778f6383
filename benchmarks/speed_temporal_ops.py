"""Operators of the temporal models against what PyG's TGN example computes the same with, in interleaved pairs.

OMP_WAIT_POLICY=passive python benchmarks/speed_temporal_ops.py [--cases gru attention] [--pairs 7] [--threads 1 2]

Sizes are those of a batch of 200 events of Wikipedia (JODIE) with 100 channels and ten neighbours: 690 of 796 nodes
have mail, 314 nodes attend to 2,161 events; times are random within its 31 days. "predict": 200 sources with 1,000
candidates each, as a ranking evaluation asks. Stages: the forward pass, and with the gradient. Both sides are checked
to compute the same numbers first, on times of up to a hundred seconds, whose phases float32 can hold.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any

import torch
from cases import Rows, add_arguments, run_cases
from timing import paired
from torch import Tensor, nn
from torch_geometric.nn import TransformerConv
from torch_geometric.nn.models.tgn import TimeEncoder as PyGTimeEncoder

from graphmem.nn import LinkPredictor, NodeMemory, TemporalAttention, TimeEncoder

NODES, MAIL, ROOTS, K, CHANNELS, MONTH = 796, 690, 314, 10, 100, 2_678_373
Work = Callable[[], Tensor]
# Ours, theirs, what the gradient is taken of; by the largest time difference.
Case = Callable[[int], tuple[Work, Work, list[Tensor]]]


def gru(longest: int) -> tuple[Work, Work, list[Tensor]]:
    """Reading the mail of a memory: messages, time code and GRU cell."""
    memory = NodeMemory(NODES, 0, CHANNELS, CHANNELS)
    memory.memory = torch.randn(NODES, CHANNELS)
    memory.last_update = torch.zeros(NODES, dtype=torch.int64)
    other, t = torch.randint(NODES, (MAIL,)), torch.randint(longest, (MAIL,))
    memory.mail.other[:MAIL, 0], memory.mail.t[:MAIL, 0], memory.mail.count[:MAIL] = other, t, 1
    cell = nn.GRUCell(3 * CHANNELS, CHANNELS)
    cell.load_state_dict(memory.updater.state_dict())
    code = pyg_code(memory.time_enc)
    nodes = torch.arange(MAIL)

    def theirs() -> Tensor:
        x = torch.cat((memory.memory[nodes], memory.memory[other], code(t.float())), -1)
        return cell(x, memory.memory[nodes])

    return lambda: memory(nodes)[0], theirs, [*memory.updater.parameters(), *cell.parameters()]


def attention(longest: int) -> tuple[Work, Work, list[Tensor]]:
    """Attention over the latest events, from the memory to the embedding."""
    ours = TemporalAttention(CHANNELS, CHANNELS, 0, TimeEncoder(CHANNELS), dropout=0.0)
    theirs = TransformerConv(CHANNELS, CHANNELS // 2, heads=2, edge_dim=CHANNELS)
    ours.load_state_dict(theirs.state_dict(), strict=False)
    code = pyg_code(ours.time_enc)
    nbr, dt = torch.randint(NODES, (ROOTS, K)), torch.randint(longest, (ROOTS, K))
    nbr[torch.rand(ROOTS, K) > 2161 / (ROOTS * K)] = -1
    x = torch.randn(NODES, CHANNELS).requires_grad_()
    there = nbr >= 0
    edges = torch.stack((nbr[there], torch.arange(ROOTS).unsqueeze(1).expand_as(nbr)[there]))

    def example() -> Tensor:
        return theirs(x, edges, code(dt[there].float()))[:ROOTS]

    return lambda: ours(x, nbr, dt), example, [x, *ours.parameters(), *theirs.parameters()]


def predict(_: int) -> tuple[Work, Work, list[Tensor]]:
    """Logits of candidates."""
    ours = LinkPredictor(CHANNELS)
    h = torch.randn(1200, CHANNELS).requires_grad_()
    src, dst = torch.arange(200), torch.randint(200, 1200, (200, 1000))

    def theirs() -> Tensor:
        hidden = ours.lin_src(h[src]).unsqueeze(1) + ours.lin_dst(h[dst.view(-1)]).view(200, 1000, -1)
        return ours.lin_final(hidden.relu()).squeeze(-1)

    return lambda: ours(h, src, dst), theirs, [h, *ours.parameters()]


def pyg_code(ours: TimeEncoder) -> nn.Module:
    """PyG's time code with the same weights."""
    code = PyGTimeEncoder(CHANNELS)
    code.load_state_dict(ours.state_dict())
    return code


CASES: dict[str, Case] = {"gru": gru, "attention": attention, "predict": predict}


def measure(key: str, pairs: int, calls: int) -> Rows:
    name, threads = key.rsplit(" ", 1)
    torch.set_num_threads(int(threads))
    torch.manual_seed(0)
    ours, theirs, _ = CASES[name](100)
    torch.testing.assert_close(ours(), theirs(), rtol=1e-3, atol=1e-4)
    ours, theirs, leaves = CASES[name](MONTH)
    grad = torch.randn_like(ours().detach())

    def both_ways(forward: Work) -> Callable[[], Any]:
        return lambda: torch.autograd.grad(forward(), leaves, grad, allow_unused=True)

    rows = []
    for stage in ("forward", "forward and gradient"):
        with torch.set_grad_enabled(stage != "forward"):
            mine, other = (ours, theirs) if stage == "forward" else (both_ways(ours), both_ways(theirs))
            repeat = lambda work: lambda: [work() for _ in range(calls)] and None  # noqa: E731
            result = paired(repeat(mine), repeat(other), pairs)
        rows.append({"case": name, "threads": int(threads), "stage": stage, "calls_a_sample": calls, **result})
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    add_arguments(parser, "speed_temporal_ops")
    args = parser.parse_args(arguments)
    keys = [f"{case} {n}" for case in args.cases for n in args.threads]
    run_cases(args, __doc__ or "", keys, lambda key: measure(key, args.pairs, 1 if args.smoke else 20))


if __name__ == "__main__":
    main()
