"""Common-neighbour sums against the authors' `adjoverlap` + `spmm_add`, in interleaved pairs.

OMP_WAIT_POLICY=passive python benchmarks/speed_cn.py --peer PATH [--cases ddi collab] [--pairs 7] [--threads 1 2]

Every case runs in a fresh process, one for each number of threads; a case that stands in the result file is not
repeated. Same graph (built outside the clock on both sides), same pairs in random order, same features; sorting and
grouping of pairs, where a side does any, is inside the clock. Stages: the sum, the sum and its gradient. Every case
checks first that both sides compute the same numbers. Peak memory is what the forward pass needs above inputs and
outputs. "grouped": sources with 1,000 random candidates each, as an evaluation asks. Floor: each row of features that
is summed read once from a second-level cache at 64 bytes a cycle, or from memory where the table is larger than 8 MiB,
and the two index rows.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from cases import add_arguments, peak, reset_peak, run_cases
from peer_ncn import load_peer, sparse_tensor
from timing import clock, paired, product_rate
from torch import Tensor

from graphmem import ops
from graphmem.data import CSRGraph, load_dataset


@dataclass
class Case:
    graph: CSRGraph
    pairs: Tensor
    features: int


def positives(graph: CSRGraph, count: int) -> Tensor:
    """Edges of the graph in random order."""
    edges = graph.edge_index()
    generator = torch.Generator().manual_seed(0)
    return edges[:, torch.randperm(edges.size(1), generator=generator)[:count]].contiguous()


def grouped(graph: CSRGraph, sources: int, candidates: int) -> Tensor:
    """Ends of random edges, each with random candidates, one source after the other, as an evaluation asks."""
    generator = torch.Generator().manual_seed(1)
    src = positives(graph, sources)[0]
    dst = torch.randint(0, graph.num_nodes, (sources * candidates,), generator=generator)
    return torch.stack((src.repeat_interleave(candidates), dst))


def ddi() -> CSRGraph:
    dataset = load_dataset("ogbl-ddi")
    return CSRGraph.from_edge_index(dataset.split.train, dataset.num_nodes, symmetric=True)


def generated(name: str) -> CSRGraph:
    dataset = load_dataset(name)
    return CSRGraph.from_edge_index(dataset.edge_index, dataset.num_nodes, symmetric=True)


COLLAB, CHUNG_LU = "generated:collab-size", "generated:collab-size-chung-lu"
CASES: dict[str, Callable[[], Case]] = {
    "ddi": lambda: Case(g := ddi(), positives(g, 24_576), 224),
    "collab": lambda: Case(g := generated(COLLAB), positives(g, 65_536), 64),
    "chung-lu": lambda: Case(g := generated(CHUNG_LU), positives(g, 65_536), 64),
    "ddi-grouped": lambda: Case(g := ddi(), grouped(g, 24, 1000), 224),
    "collab-grouped": lambda: Case(g := generated(COLLAB), grouped(g, 64, 1000), 64),
}
SMOKE: dict[str, Callable[[], Case]] = {
    "collab": lambda: Case(g := generated(f"{COLLAB}?scale=0.01"), positives(g, 256), 16),
    "collab-grouped": lambda: Case(g := generated(f"{COLLAB}?scale=0.01"), grouped(g, 3, 100), 16),
}


def cache_rate() -> float:
    """Bytes a second that one core reads from its second-level cache, for a core that reads a line of 64 bytes a cycle.

    Cycles are counted by a product that does two fused multiply-adds of 16 floats a cycle: 64 operations, so that the
    two rates are the same number.
    """
    return product_rate() / torch.get_num_threads()


def memory_rate() -> float:
    """Bytes a second of reading 256 MiB, all threads; best of ten."""
    x = torch.randn(2**26)
    return x.numel() * 4 / min(clock(lambda: x.sum()) for _ in range(10))


def peak_above_outputs(work: Callable[[], Tensor]) -> int:
    """Bytes held at the worst moment of a first call beyond those before it and its output."""
    with torch.no_grad():
        before = reset_peak()
        out = work()
    return peak() - before - out.numel() * out.element_size()


def measure(key: str, utils: Any, pairs: int, cases: dict[str, Callable[[], Case]]) -> list[dict[str, Any]]:
    from torch_sparse.matmul import spmm_add

    name, threads = key.rsplit(" ", 1)
    torch.set_num_threads(int(threads))
    case = cases[name]()
    graph, ends = case.graph, case.pairs
    x = torch.randn(graph.num_nodes, case.features, generator=torch.Generator().manual_seed(2)).requires_grad_()

    def ours() -> Tensor:
        return ops.cn_gather_sum(graph, x, ends)

    above = peak_above_outputs(ours)
    adjacency = sparse_tensor(graph)
    grad = torch.randn(ends.size(1), case.features, generator=torch.Generator().manual_seed(3))

    def theirs() -> Tensor:
        return spmm_add(utils.adjoverlap(adjacency, adjacency, ends), x)

    def both_ways(forward: Callable[[], Tensor]) -> Callable[[], Any]:
        return lambda: torch.autograd.grad(forward(), x, grad)

    with torch.no_grad():
        torch.testing.assert_close(ours(), theirs(), rtol=1e-4, atol=1e-4)
    counts = ops.cn_count(graph, ends)
    degree = graph.degree()
    shape = {
        "nodes": graph.num_nodes,
        "edges": graph.num_edges // 2,
        "max_degree": int(degree.max()),
        "pairs": ends.size(1),
        "features": case.features,
        "mean_common": float(counts.double().mean()),
        "without_common": float((counts == 0).double().mean()),
    }
    read = 4 * (int(counts.sum()) * case.features + int((degree[ends[0]] + degree[ends[1]]).sum()))
    written = 4 * ends.size(1) * case.features
    fits = graph.num_nodes * case.features * 4 < 2**23
    rate = cache_rate() * int(threads) if fits else memory_rate()
    rows = []
    for stage in ("forward", "forward and gradient"):
        with torch.set_grad_enabled(stage != "forward"):
            mine, other = (ours, theirs) if stage == "forward" else (both_ways(ours), both_ways(theirs))
            result = paired(mine, other, pairs)
        if stage == "forward":
            seconds = read / rate + written / memory_rate()
            result.update(floor_seconds=seconds, fraction_of_floor=seconds / result["median_ours"])
            result.update(peak_bytes_above_inputs_and_outputs=above)
        rows.append({"case": name, "threads": int(threads), "stage": stage, **shape, **result})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer", required=True)
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    add_arguments(parser, "speed_cn")
    args = parser.parse_args()
    _, utils = load_peer(args.peer)
    cases = SMOKE if args.smoke else CASES
    keys = [f"{case} {n}" for case in args.cases if case in cases for n in args.threads]
    run_cases(args, __doc__, keys, lambda key: measure(key, utils, args.pairs, cases))


if __name__ == "__main__":
    main()
