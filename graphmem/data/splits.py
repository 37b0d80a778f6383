r"""Random splits of the links of a graph.

Protocols:

- `"ncn"`: the split of the NCN paper (Wang, Yang, Zhang, ICLR 2024) for Planetoid, tensor for tensor.
- `"random"`: a leak-free split by counter-based random numbers, with memory O(E).

Pairs `(i, j)`, `i < j`, of N nodes are numbered row by row: `rank(i, j) = i N - i (i + 1) / 2 + j - i - 1`. With the
ranks `e_0 < e_1 < ...` of the edges, the q-th non-edge has rank `q + #{m : e_m - m <= q}`. Both maps need integers
only, so non-edges are drawn without an N x N mask.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from graphmem.data._random import I64, distinct_below, permutation
from graphmem.data.dataset import GraphDataset, LinkSplit, check_edge_index
from graphmem.errors import ArgumentError, ArgumentTypeError
from graphmem.ops import _check

PROTOCOLS = ("ncn", "random")

# torch.randperm takes one 32-bit number for each element below this length, and two above it.
_RANDPERM_32_LIMIT = (2**32 - 1) // 20


def split_edges(
    graph: GraphDataset | Tensor,
    *,
    num_nodes: int | None = None,
    protocol: str = "ncn",
    seed: int = 0,
    val_ratio: float = 0.1,
    test_ratio: float = 0.2,
    num_valid_neg: int | None = None,
    num_test_neg: int | None = None,
    edge_order: str = "row",
) -> LinkSplit:
    r"""Split the links of an undirected graph at random.

    The caller's random state is not touched. Links are undirected: both directions and repeated edges count as one, so
    that no copy of a held-out link stays in the training set. All sets come with `i < j`.

    `"ncn"` repeats what the authors' code does after `torch.manual_seed(seed)`: permute the E edges, take
    `floor(0.2 E)` for validation and as many for test; permute the non-edges, take as many negatives for each; permute
    the validation links and give the first part back to training, so that `int(0.5 floor(0.2 E))` of them stay. Sets
    are then sorted. Cora has 3,696 / 527 / 1,055 links and 1,055 negatives in both sets. The permutation of the
    non-edges is followed without being stored: O(N + E) memory, O(N^2) time (PubMed: 1.9e8 numbers, seconds).

    `"random"` permutes the edges and draws distinct negatives uniformly from the non-edges of the whole graph
    (training, validation and test links all excluded), validation and test negatives being disjoint.
    Time O(E log E), memory O(E), the same tensors on every machine.

    Args:
        graph: a `GraphDataset`, or int64 [2, E] edges in one or both directions.
        num_nodes: number of nodes; needed for a tensor.
        protocol: `"ncn"` or `"random"`.
        seed: for `"ncn"` the torch seed (the authors use the run number, 0..9).
        val_ratio: share of validation links; `"ncn"` fixes it at 0.1 (of E, before rounding).
        test_ratio: share of test links; `"ncn"` fixes it at 0.2.
        num_valid_neg: `"random"` only, number of validation negatives; default: as many as validation links.
        num_test_neg: likewise for test.
        edge_order: `"ncn"` only, the order of the edges before the first permutation. `"row"` sorts by (i, j), as PyG
            did up to the version that the authors used (2.2); `"column"` sorts by (j, i), as the Planetoid class of
            recent versions of PyG (2.8) does.

    Returns:
        A `LinkSplit` with shared negatives [2, M].

    Raises:
        ArgumentTypeError: `graph` is neither a `GraphDataset` nor a tensor.
        ArgumentError: unknown protocol, ratios that leave a set empty, self-loops, or too few non-edges.
    """
    edges, num_nodes = _canonical(graph, num_nodes)
    _check.integer("seed", seed, -(2**63), 2**63 - 1)
    for name, ratio in (("val_ratio", val_ratio), ("test_ratio", test_ratio)):
        _check.real(name, ratio)
    for name, count in (("num_valid_neg", num_valid_neg), ("num_test_neg", num_test_neg)):
        if count is not None:
            _check.integer(name, count)
    if protocol == "ncn":
        if (val_ratio, test_ratio, num_valid_neg, num_test_neg) != (0.1, 0.2, None, None):
            raise ArgumentError("protocol 'ncn' fixes the ratios and the number of negatives; use protocol='random'")
        return _split_ncn(edges, num_nodes, seed, edge_order)
    if protocol == "random":
        if edge_order != "row":
            raise ArgumentError(f"edge_order: only protocol 'ncn' has an order, found {edge_order!r}")
        return _split_random(edges, num_nodes, seed, (val_ratio, test_ratio), (num_valid_neg, num_test_neg))
    raise ArgumentError(f"protocol: expected one of {PROTOCOLS}, found {protocol!r}")


def _canonical(graph: GraphDataset | Tensor, num_nodes: int | None) -> tuple[I64, int]:
    """Edges int64 [2, E] with `i < j`, unique and sorted, and the number of nodes."""
    if isinstance(graph, GraphDataset):
        if num_nodes not in (None, graph.num_nodes):
            raise ArgumentError(f"num_nodes: the data set has {graph.num_nodes} nodes, found {num_nodes}")
        edge_index, num_nodes = graph.edge_index, graph.num_nodes
    elif isinstance(graph, Tensor):
        if num_nodes is None:
            raise ArgumentError("num_nodes: needed when the graph is a tensor, found None")
        check_edge_index("graph", graph, num_nodes)
        edge_index = graph
    else:
        raise ArgumentTypeError(f"graph: expected a GraphDataset or a Tensor, found {type(graph).__name__}")
    pairs = edge_index.detach().cpu().numpy()
    loops = int((pairs[0] == pairs[1]).sum())
    if loops:
        raise ArgumentError(f"graph: found {loops} self-loops; a self-loop is not a link, remove them first")
    low, high = np.minimum(pairs[0], pairs[1]), np.maximum(pairs[0], pairs[1])
    keys = np.unique(low * num_nodes + high)
    return np.stack([keys // num_nodes, keys % num_nodes]), num_nodes


def non_edge_pairs(edges: I64, num_nodes: int, index: I64) -> I64:
    """The non-edges with the given positions in the row-major list of all pairs `i < j` that are no edge.

    Args:
        edges: int64 [2, E], `i < j`, unique, sorted.
        num_nodes: number of nodes.
        index: int64 [M], positions in `[0, num_non_edges)`.

    Returns:
        int64 [2, M].
    """
    node = np.arange(num_nodes, dtype=np.int64)
    row_start = node * num_nodes - node * (node + 1) // 2
    edge_rank = row_start[edges[0]] + edges[1] - edges[0] - 1
    # Before the m-th edge lie e_m - m non-edges, so as many edges precede the q-th non-edge as have e_m - m <= q.
    rank = index + np.searchsorted(edge_rank - np.arange(edge_rank.size), index, side="right")
    # The last row is empty: its start equals the number of pairs, which no rank reaches.
    row = np.searchsorted(row_start, rank, side="right") - 1
    return np.stack([row, rank - row_start[row] + row + 1])


def _num_non_edges(edges: I64, num_nodes: int) -> int:
    return num_nodes * (num_nodes - 1) // 2 - int(edges.shape[1])


def _need_non_edges(wanted: int, edges: I64, num_nodes: int) -> None:
    found = _num_non_edges(edges, num_nodes)
    if wanted > found:
        raise ArgumentError(f"graph: too dense, {wanted} negatives are wanted but only {found} pairs are not linked")


def _sorted_pairs(edges: I64) -> Tensor:
    return torch.from_numpy(edges[:, np.lexsort((edges[1], edges[0]))].astype(np.int64, copy=False))


def _split_ncn(edges: I64, num_nodes: int, seed: int, edge_order: str) -> LinkSplit:
    if edge_order == "column":
        edges_in_order = edges[:, np.lexsort((edges[0], edges[1]))]
    elif edge_order == "row":
        edges_in_order = edges
    else:
        raise ArgumentError(f"edge_order: expected 'row' or 'column', found {edge_order!r}")
    # A generator of our own gives the stream of torch.manual_seed(seed) without touching the global one.
    generator = torch.Generator().manual_seed(seed)
    num_edges = edges.shape[1]
    held = math.floor(0.2 * num_edges)
    kept = int(held * 0.1 / 0.2)  # the authors' expression, in their order of operations
    if kept < 1:
        raise ArgumentError(f"graph: protocol 'ncn' needs at least 10 edges, found {num_edges}")
    _need_non_edges(2 * held, edges, num_nodes)
    shuffled = edges_in_order[:, torch.randperm(num_edges, generator=generator).numpy()]
    index = randperm_prefix(_num_non_edges(edges, num_nodes), 2 * held, generator)
    negative = non_edge_pairs(edges, num_nodes, index)
    valid = shuffled[:, :held][:, torch.randperm(held, generator=generator).numpy()]
    return LinkSplit(
        train=_sorted_pairs(np.concatenate([shuffled[:, 2 * held :], valid[:, :-kept]], axis=1)),
        valid=_sorted_pairs(valid[:, -kept:]),
        valid_neg=_sorted_pairs(negative[:, :held]),
        test=_sorted_pairs(shuffled[:, held : 2 * held]),
        test_neg=_sorted_pairs(negative[:, held:]),
        num_nodes=num_nodes,
        protocol="ncn" if edge_order == "row" else "ncn-column",
        seed=seed,
    )


def randperm_prefix(n: int, k: int, generator: torch.Generator) -> I64:
    """`torch.randperm(n, generator=generator)[:k]`, bit for bit, in O(k) memory.

    The generator is left where `torch.randperm` leaves it. torch shuffles by Fisher-Yates from the front, one 32-bit
    number a step, so k steps fix the first k entries; the other n - 1 - k numbers are drawn in blocks and dropped.
    For `n` from 2^32 / 20 on torch may use 64-bit numbers; `torch.randperm` itself is called then (8 n bytes).

    Args:
        n: length of the permutation.
        k: wanted entries.
        generator: CPU generator.
    """
    if n >= _RANDPERM_32_LIMIT:
        return torch.randperm(n, generator=generator)[:k].numpy()
    steps = min(k, n - 1)
    raw = _raw_32(steps, generator)
    moved: dict[int, int] = {}  # the shuffled array, where it differs from 0..n-1
    out = np.arange(k, dtype=np.int64)
    for i in range(steps):
        j = i + int(raw[i]) % (n - i)
        out[i], moved[j] = moved.get(j, j), moved.get(i, i)
    if k == n and n > 0:
        out[n - 1] = moved.get(n - 1, n - 1)
    rest = max(n - 1 - steps, 0)
    while rest:
        block = min(rest, 1 << 22)
        _raw_32(block, generator)
        rest -= block
    return out


def _raw_32(count: int, generator: torch.Generator) -> I64:
    """The next `count` 32-bit outputs of a CPU generator.

    A full-range int64 draw is made of two outputs, high half first. An odd last output is read from a copy of the
    generator that draws a pair, and the generator itself goes on by one int32 draw, which takes exactly one output.
    """
    pairs = torch.empty(count // 2, dtype=torch.int64).random_(-(2**63), None, generator=generator).numpy()
    out = np.empty(count, dtype=np.int64)
    unsigned = pairs.view(np.uint64)
    out[0 : count - count % 2 : 2] = (unsigned >> np.uint64(32)).astype(np.int64)
    out[1:count:2] = (unsigned & np.uint64(0xFFFFFFFF)).astype(np.int64)
    if count % 2:
        ahead = torch.Generator()
        ahead.set_state(generator.get_state())
        last = torch.empty(1, dtype=torch.int64).random_(-(2**63), None, generator=ahead)
        out[-1] = (int(last) >> 32) & 0xFFFFFFFF
        torch.empty(1, dtype=torch.int32).random_(generator=generator)
    return out


def _split_random(
    edges: I64, num_nodes: int, seed: int, ratios: tuple[float, float], negatives: tuple[int | None, int | None]
) -> LinkSplit:
    for name, ratio in zip(("val_ratio", "test_ratio"), ratios, strict=True):
        if not 0 < ratio < 1:
            raise ArgumentError(f"{name}: expected a number between 0 and 1, found {ratio}")
    if sum(ratios) >= 1:
        raise ArgumentError(f"val_ratio + test_ratio: must be below 1, found {sum(ratios)}")
    num_edges = edges.shape[1]
    sizes = [math.floor(ratio * num_edges) for ratio in ratios]
    if min(sizes) < 1:
        raise ArgumentError(f"graph: {num_edges} edges leave an empty set with ratios {ratios}; need more edges")
    counts = [size if wanted is None else wanted for size, wanted in zip(sizes, negatives, strict=True)]
    _need_non_edges(sum(counts), edges, num_nodes)
    order = permutation(seed, 0, num_edges)
    index = distinct_below(seed, 1, _num_non_edges(edges, num_nodes), sum(counts))
    negative = non_edge_pairs(edges, num_nodes, index)
    valid, test, train = np.split(edges[:, order], [sizes[0], sum(sizes)], axis=1)
    return LinkSplit(
        train=_sorted_pairs(train),
        valid=_sorted_pairs(valid),
        valid_neg=_sorted_pairs(negative[:, : counts[0]]),
        test=_sorted_pairs(test),
        test_neg=_sorted_pairs(negative[:, counts[0] :]),
        num_nodes=num_nodes,
        protocol="random",
        seed=seed,
    )
