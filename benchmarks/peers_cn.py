"""Common-neighbour counts and sums against scipy, torch.sparse, NetworKit and GraphBLAS.

OMP_WAIT_POLICY=passive python benchmarks/peers_cn.py [--graphs cora ddi collab-size] [--pairs 7] [--threads 1 2]

Peers, each as its users write it, on blocks of pairs of the size that was fastest of three:
scipy `A[src].multiply(A[dst])`, its row sums or `@ X`; torch.sparse, rows of a COO matrix by `index_select`,
multiplied, then summed or times X; NetworKit's `CommonNeighborsIndex.runOn` (counts only); GraphBLAS, `A A^T` masked by
the pairs with `plus_pair` (counts only; `pip install python-graphblas "suitesparse-graphblas<10.2"`). The last two are
left out, and named in the row, where they are not installed. Matrices are built outside the clock, ours too; blocks of
pairs, masks and lists are made inside. Features are small whole numbers, so that every sum is exact and both sides must
agree to the bit before anything is timed. Pairs of two different nodes: "random"; "hubs", both among the 1 % of largest
degree; "grouped", sources with 1,000 random candidates each. Every case is a process of its own; a case that stands in
the result file is not repeated.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from cases import add_arguments, run_cases
from speed_cn import ddi, generated, grouped
from timing import clock, paired
from torch import Tensor

from graphmem import ops
from graphmem.data import CSRGraph, load_dataset

FEATURES = 64
BLOCKS = (512, 4096, 32_768)
GRAPHS: dict[str, Callable[[], CSRGraph]] = {
    "cora": lambda: cora(),
    "ddi": ddi,
    **{
        name: lambda name=name: generated(f"generated:{name}")
        for name in ("collab-size", "collab-size-chung-lu", "ppa-size", "citation2-size")
    },
}
SMOKE = {"collab-size": lambda: generated("generated:collab-size?scale=0.005")}
PAIRS = ("random", "hubs", "grouped")
COUNTERS = ("scipy", "torch.sparse", "networkit", "graphblas")
SUMMERS = ("scipy", "torch.sparse")
Work = Callable[[Tensor], Any]


def cora() -> CSRGraph:
    dataset = load_dataset("cora")
    return CSRGraph.from_edge_index(dataset.edge_index, dataset.num_nodes, symmetric=True)


def choose(graph: CSRGraph, kind: str, count: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    if kind == "grouped":
        candidates = min(1000, count)
        return without_loops(grouped(graph, count // candidates, candidates), graph.num_nodes)
    if kind == "hubs":
        among = graph.degree().argsort(descending=True, stable=True)[: max(2, graph.num_nodes // 100)]
    else:
        among = torch.arange(graph.num_nodes)
    first, second = torch.randint(0, among.numel(), (2, count), generator=generator)
    second = torch.where(first == second, (second + 1) % among.numel(), second)
    return among[torch.stack((first, second))]


def without_loops(pairs: Tensor, num_nodes: int) -> Tensor:
    return torch.stack((pairs[0], torch.where(pairs[0] == pairs[1], (pairs[1] + 1) % num_nodes, pairs[1])))


def scipy_peer(graph: CSRGraph, x: Tensor | None) -> Work:
    from scipy.sparse import csr_matrix

    ones = np.ones(graph.num_slots, dtype=np.float32)
    a = csr_matrix((ones, graph.col.numpy(), graph.rowptr.numpy()), shape=(graph.num_nodes, graph.num_nodes))

    def work(pairs: Tensor) -> Tensor:
        both = a[pairs[0].numpy()].multiply(a[pairs[1].numpy()])
        return torch.from_numpy(np.asarray(both.sum(axis=1)).ravel() if x is None else both @ x.numpy())

    return work


def torch_peer(graph: CSRGraph, x: Tensor | None) -> Work:
    size = (graph.num_nodes, graph.num_nodes)
    edges = torch.stack((graph.row, graph.col.long()))
    a = torch.sparse_coo_tensor(edges, torch.ones(graph.num_slots), size, is_coalesced=True)

    def work(pairs: Tensor) -> Tensor:
        both = (a.index_select(0, pairs[0]) * a.index_select(0, pairs[1])).coalesce()
        return torch.sparse.sum(both, dim=1).to_dense() if x is None else torch.sparse.mm(both, x)

    return work


def networkit_peer(graph: CSRGraph, x: Tensor | None) -> Work:
    import networkit

    networkit.setNumberOfThreads(torch.get_num_threads())
    edges = graph.edge_index()
    upper = edges[:, edges[0] < edges[1]].numpy()
    g = networkit.GraphFromCoo((upper[0], upper[1]), n=graph.num_nodes, weighted=False, directed=False)
    index = networkit.linkprediction.CommonNeighborsIndex(g)

    def work(pairs: Tensor) -> Tensor:
        assert g is not None  # the index does not keep its graph alive
        found = dict(index.runOn([(i, j) for i, j in pairs.t().tolist()]))  # comes back sorted
        return torch.tensor([found[i, j] for i, j in pairs.t().tolist()])

    return work


def graphblas_peer(graph: CSRGraph, x: Tensor | None) -> Work:
    import graphblas as gb
    from scipy.sparse import csr_matrix

    gb.ss.config["nthreads"] = torch.get_num_threads()
    n = graph.num_nodes
    a = gb.Matrix.from_coo(
        graph.row.numpy(), graph.col.long().numpy(), np.ones(graph.num_slots, np.int64), nrows=n, ncols=n
    )

    def work(pairs: Tensor) -> Tensor:
        src, dst = pairs.numpy()
        mask = gb.Matrix.from_coo(src, dst, True, nrows=n, ncols=n)
        found = gb.Matrix(int, n, n)
        found(mask.S) << gb.semiring.plus_pair(a @ a.T)
        rows, cols, values = found.to_coo(sort=True)
        counts = csr_matrix((values, (rows.astype(np.int64), cols.astype(np.int64))), shape=(n, n))
        return torch.from_numpy(np.asarray(counts[src, dst]).ravel())

    return work


PEERS: dict[str, Callable[[CSRGraph, Tensor | None], Work]] = {
    "scipy": scipy_peer,
    "torch.sparse": torch_peer,
    "networkit": networkit_peer,
    "graphblas": graphblas_peer,
}


def in_blocks(work: Work, pairs: Tensor, block: int) -> Tensor:
    return torch.cat([work(part) for part in pairs.split(block, dim=1)])


def against(name: str, graph: CSRGraph, x: Tensor | None, pairs: Tensor, repeats: int) -> dict[str, Any]:
    try:
        work = PEERS[name](graph, x)
    except ImportError as error:
        return {"skipped": f"not installed: {error}"}

    def ours() -> Tensor:
        return ops.cn_count(graph, pairs) if x is None else ops.cn_gather_sum(graph, x, pairs)

    expected = ours()
    if not torch.equal(in_blocks(work, pairs, BLOCKS[0]).to(expected.dtype), expected):
        raise SystemExit(f"{name} and graphmem disagree")
    blocks = {size: clock(lambda size=size: in_blocks(work, pairs, size)) for size in BLOCKS}
    block = min(blocks, key=blocks.__getitem__)
    result = paired(ours, lambda: in_blocks(work, pairs, block), repeats)
    return {"block": block, **result, "pairs_per_second_ours": pairs.size(1) / result["median_ours"]}


def measure(key: str, repeats: int, smoke: bool) -> list[dict[str, Any]]:
    name, kind, stage, peer, threads = key.split(" ")
    torch.set_num_threads(int(threads))
    graph = (SMOKE if smoke else GRAPHS)[name]()
    pairs = choose(graph, kind, 200 if smoke else 16_000)
    x = None
    if stage == "sum":
        x = torch.randint(-8, 9, (graph.num_nodes, FEATURES), generator=torch.Generator().manual_seed(1)).float()
    counts = ops.cn_count(graph, pairs)
    degree = graph.degree()[pairs]
    shape = {
        **dict(graph=name, pairs=kind, stage=stage, peer=peer, threads=int(threads)),
        **dict(nodes=graph.num_nodes, edges=graph.num_edges // 2, num_pairs=pairs.size(1)),
        **dict(mean_common=float(counts.double().mean()), mean_degree_of_ends=float(degree.double().mean())),
    }
    return [{**shape, **against(peer, graph, x, pairs, repeats)}]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--graphs", nargs="+", default=list(GRAPHS), choices=list(GRAPHS))
    parser.add_argument("--kinds", nargs="+", default=list(PAIRS), choices=list(PAIRS))
    parser.add_argument("--pairs", type=int, default=7, help="interleaved pairs of runs")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    add_arguments(parser, "peers_cn")
    args = parser.parse_args(arguments)
    keys = [
        f"{graph} {kind} {stage} {peer} {n}"
        for graph in args.graphs
        if not args.smoke or graph in SMOKE
        for kind in args.kinds
        for stage, peers in (("count", COUNTERS), ("sum", SUMMERS))
        for peer in peers
        for n in args.threads
    ]
    run_cases(args, __doc__ or "", keys, lambda key: measure(key, args.pairs, args.smoke))


if __name__ == "__main__":
    main()
