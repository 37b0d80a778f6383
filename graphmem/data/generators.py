r"""Generated graphs with known ground truth, for tests, speed claims and learning curves.

Both generators first draw base edges, then close triangles, so that common neighbours carry information:

1. Base: pairs are drawn independently with probability proportional to `w_i w_j g(b_i, b_j)` until the wanted number
   of distinct edges is reached (Chung-Lu for one block; degree-corrected stochastic block model otherwise).
2. Closure: a centre k is drawn with probability proportional to its base degree `d_k`, and two distinct base
   neighbours of it are linked, until the wanted number of new edges is reached. A pair then receives closure draws at a
   rate proportional to `sum_{k in CN(i, j)} 2 / (d_k - 1)` over its base common neighbours: almost resource allocation.

Every draw is counter-based and in integers, so a seed gives the same graph on every machine.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from graphmem.data._random import I64, below, draws, permutation
from graphmem.data.card import DatasetCard
from graphmem.data.dataset import GraphDataset, check_edge_index
from graphmem.data.formats._common import Array, sparse_features
from graphmem.errors import ArgumentError

# Weights are rounded to multiples of 1 / _SCALE, so that the last bit of a platform's `pow` cannot change a graph.
_SCALE = 1 << 16
_ROUNDS = 200
# keys of the random streams
_ORDER, _BLOCKS, _SRC, _DST, _BLOCK_PAIR, _CENTRE, _FIRST, _SECOND, _WORDS, _TOPIC = range(10)


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class GeneratedGraph(GraphDataset):
    """A `GraphDataset` that remembers how it was drawn.

    Args:
        weight: float64 [N], propensity of each node.
        block: int64 [N], block of each node.
        affinity: float64 [K, K], probability that a base draw falls on each (ordered) pair of blocks.
        base_edges: int64 [2, M], edges before closure, `i < j`, sorted.
        base_draws: number of base draws that were made.
        closure_draws: number of closure draws that were made.
    """

    weight: Tensor
    block: Tensor
    affinity: Tensor
    base_edges: Tensor
    base_draws: int
    closure_draws: int

    def best_scores(self, pairs: Tensor) -> Tensor:
        r"""The generator's own log-odds that each pair is an edge.

        With `T` base and `C` closure draws the expected number of draws on the pair is

            lambda_ij = T p_ij + C sum_{k in CN(i, j)} 2 / ((d_k - 1) S),   S = sum of d_k over d_k >= 2,

        and the score is `log(exp(lambda) - 1)`, the log-odds of `1 - exp(-lambda)`. `p_ij` is the true probability of a
        base draw; CN and d are common neighbours and degrees in the base graph.

        In what sense it is best: the score knows the parameters and the base graph apart from the pair itself. Given
        these, whether the pair is an edge is decided by draws independent of those of other pairs (up to the fixed
        total number of draws, a correction of relative order 1 / number of edges), so by the Neyman-Pearson lemma no
        other score of these quantities ranks edges above non-edges better. A model sees neither the parameters nor
        which edges are base edges, and misses the held-out ones, so this is a ceiling to compare with. It is not a
        proven bound: closure edges made through the pair itself are evidence that it leaves unused.

        Args:
            pairs: int64 [2, P].

        Returns:
            float64 [P].

        Raises:
            ArgumentError: ids outside the graph.
        """
        check_edge_index("pairs", pairs, self.num_nodes)
        weight, block = self.weight.numpy(), self.block.numpy()
        affinity = self.affinity.numpy()
        src, dst = pairs.cpu().numpy()
        size = np.bincount(block, weights=weight, minlength=affinity.shape[0])
        joint = affinity[block[src], block[dst]] + affinity[block[dst], block[src]]
        rate = self.base_draws * joint * weight[src] * weight[dst] / (size[block[src]] * size[block[dst]])
        rate = rate + self.closure_draws * _closure_probability(self.base_edges.numpy(), self.num_nodes, src, dst)
        rate = np.where(src == dst, 0.0, rate)
        with np.errstate(divide="ignore"):
            return torch.from_numpy(np.where(rate > 30, rate, np.log(np.expm1(np.minimum(rate, 30)))))


def dcsbm(
    num_nodes: int = 10_000,
    num_blocks: int = 10,
    mean_degree: float = 10.0,
    *,
    mixing: float = 0.2,
    exponent: float = 3.0,
    triadic_closure: float = 0.3,
    num_features: int = 0,
    words_per_node: int = 20,
    feature_signal: float = 0.5,
    seed: int = 0,
) -> GeneratedGraph:
    r"""Degree-corrected stochastic block model (Karrer, Newman 2011) with triadic closure and optional features.

    Args:
        num_nodes: N.
        num_blocks: K; every node belongs to one block, sizes differ by at most 1. `y` is the block.
        mean_degree: average degree of the result, closure included.
        mixing: share of base draws whose two blocks are drawn independently; the others stay inside one block.
        exponent: tail exponent of the propensities, `w_r = (r + 1)^(-1 / (exponent - 1))` for rank r.
        triadic_closure: share of all edges that closure makes, in [0, 1).
        num_features: F; 0 for no features.
        words_per_node: number of word draws of each node.
        feature_signal: probability that a word is drawn from the F / K words of the node's block instead of all F.
        seed: any integer.

    Returns:
        A `GeneratedGraph`; `x` is sparse CSR, binary.

    Raises:
        ArgumentError: an argument out of range, or a graph too dense to be drawn.
    """
    check_range("num_blocks", num_blocks, 1, num_nodes)
    check_range("mixing", mixing, 0, 1)
    check_range("feature_signal", feature_signal, 0, 1)
    if num_features and num_features < num_blocks:
        raise ArgumentError(f"num_features: expected 0 or at least num_blocks={num_blocks}, found {num_features}")
    num_edges = round(num_nodes * mean_degree / 2)
    block = np.empty(num_nodes, dtype=np.int64)
    block[permutation(seed, _BLOCKS, num_nodes)] = np.arange(num_nodes) * num_blocks // num_nodes
    weight = _power_weights(num_nodes, exponent, seed)
    x = _words(block, num_blocks, num_features, words_per_node, feature_signal, seed) if num_features else None
    settings = dict(num_nodes=num_nodes, num_blocks=num_blocks, mean_degree=mean_degree, mixing=mixing)
    card = generated_card("generated:dcsbm", seed, exponent=exponent, triadic_closure=triadic_closure, **settings)
    return _generate(card, weight, block, mixing, num_edges, triadic_closure, seed, x)


def power_law(
    num_nodes: int = 235_868,
    num_edges: int = 967_632,
    exponent: float = 2.8,
    triadic_closure: float = 0.4,
    seed: int = 0,
) -> GeneratedGraph:
    r"""Chung-Lu graph with a power-law degree tail, followed by triadic closure.

    The defaults give a stand-in with the numbers of nodes and distinct edges of ogbl-collab; label it as a stand-in.

    Args:
        num_nodes: N.
        num_edges: E, exact.
        exponent: tail exponent of the expected base degrees, above 2.
        triadic_closure: share of all edges that closure makes, in [0, 1).
        seed: any integer.

    Raises:
        ArgumentError: an argument out of range, or a graph too dense to be drawn.
    """
    weight = _power_weights(num_nodes, exponent, seed)
    block = np.zeros(num_nodes, dtype=np.int64)
    settings = dict(num_nodes=num_nodes, num_edges=num_edges, exponent=exponent, triadic_closure=triadic_closure)
    card = generated_card("generated:power-law", seed, **settings)
    return _generate(card, weight, block, 1.0, num_edges, triadic_closure, seed, None)


def check_range(name: str, value: float, low: float, high: float) -> None:
    """Raise `ArgumentError` unless `low <= value <= high`."""
    if not low <= value <= high:
        raise ArgumentError(f"{name}: expected a number in [{low}, {high}], found {value}")


def generated_card(name: str, seed: int, **settings: float) -> DatasetCard:
    """The card of a generated graph."""
    return DatasetCard(
        name=name,
        title=f"generated graph, seed {seed}",
        format="generated",
        publisher="graphmem",
        licence="MIT",
        options={**settings, "seed": seed},
    )


def _power_weights(num_nodes: int, exponent: float, seed: int) -> I64:
    """Integer propensities in random node order; the largest is capped so that no expected degree nears N."""
    if num_nodes < 2:
        raise ArgumentError(f"num_nodes: expected at least 2, found {num_nodes}")
    if exponent <= 2:
        raise ArgumentError(f"exponent: expected a number above 2 (finite mean degree), found {exponent}")
    rank = np.arange(1, num_nodes + 1, dtype=np.float64)
    value = rank ** (-1.0 / (exponent - 1.0))
    # Chung-Lu needs w_max^2 < sum w; the cap keeps the head of the tail below it.
    value /= value.mean()
    value = np.minimum(value, np.sqrt(num_nodes))
    weight = np.empty(num_nodes, dtype=np.int64)
    weight[permutation(seed, _ORDER, num_nodes)] = np.maximum(np.rint(value * _SCALE), 1).astype(np.int64)
    return weight


def _generate(
    card: DatasetCard,
    weight: I64,
    block: I64,
    mixing: float,
    num_edges: int,
    triadic_closure: float,
    seed: int,
    x: Tensor | None,
) -> GeneratedGraph:
    num_nodes, num_blocks = weight.size, int(block.max()) + 1
    if not 0 <= triadic_closure < 1:
        raise ArgumentError(f"triadic_closure: expected a number in [0, 1), found {triadic_closure}")
    possible = num_nodes * (num_nodes - 1) // 2
    if not 1 <= num_edges <= possible // 2:
        raise ArgumentError(f"num_edges: expected 1..{possible // 2} (half of all pairs), found {num_edges}")
    num_base = num_edges - int(triadic_closure * num_edges)
    base, base_draws = _base_keys(weight, block, num_blocks, mixing, num_base, seed)
    closure, closure_draws = _closure_keys(base, num_nodes, num_edges - num_base, seed)
    # Block pairs: inside one block with probability 1 - mixing, else two independent blocks, both by total weight.
    share = np.bincount(block, weights=weight, minlength=num_blocks) / weight.sum()
    affinity = (1 - mixing) * np.diag(share) + mixing * np.outer(share, share)
    return GeneratedGraph(
        name=card.name,
        edge_index=_pairs(np.concatenate([base, closure]), num_nodes),
        num_nodes=num_nodes,
        x=x,
        y=torch.from_numpy(block) if num_blocks > 1 else None,
        split=None,
        card=card,
        weight=torch.from_numpy(weight / _SCALE),
        block=torch.from_numpy(block),
        affinity=torch.from_numpy(affinity),
        base_edges=_pairs(base, num_nodes),
        base_draws=base_draws,
        closure_draws=closure_draws,
    )


def _pairs(keys: I64, num_nodes: int) -> Tensor:
    keys = np.sort(keys)
    return torch.from_numpy(np.stack([keys // num_nodes, keys % num_nodes]))


def _base_keys(weight: I64, block: I64, num_blocks: int, mixing: float, count: int, seed: int) -> tuple[I64, int]:
    """Keys `i N + j` of `count` distinct base edges in the order of their draws, and the number of draws."""
    by_block = np.argsort(block, kind="stable")
    bounds = np.concatenate([[0], np.cumsum(weight[by_block])])  # prefix sums of the weights, block after block
    first = np.searchsorted(block[by_block], np.arange(num_blocks + 1))
    threshold = round(mixing * 2**32)

    def sample(start: int, size: int) -> I64:
        src = by_block[
            np.searchsorted(bounds, below(draws(seed, _SRC, size, start), int(bounds[-1])), side="right") - 1
        ]
        own = block[src]
        mixed = below(draws(seed, _BLOCK_PAIR, size, start), 2**32) < threshold
        low = np.where(mixed, 0, bounds[first[own]])
        high = np.where(mixed, bounds[-1], bounds[first[own + 1]])
        target = low + below(draws(seed, _DST, size, start), high - low)
        dst = by_block[np.searchsorted(bounds, target, side="right") - 1]
        return _keys(src, dst, weight.size)

    return _collect(sample, count, np.empty(0, dtype=np.int64), "base edges; the graph is too dense for its tail")


def _keys(src: I64, dst: I64, num_nodes: int) -> I64:
    """`i N + j` with `i < j`; -1 for a self-loop."""
    return np.where(src == dst, -1, np.minimum(src, dst) * num_nodes + np.maximum(src, dst))


def _collect(sample: Callable[[int, int], I64], count: int, taken: I64, what: str) -> tuple[I64, int]:
    """Draw until `count` distinct keys outside `taken` are found; also the number of draws up to the last of them."""
    if count == 0:
        return np.empty(0, dtype=np.int64), 0
    from graphmem.data import _growth

    table = _growth.empty_table(count + taken.size)
    _growth.insert_all(table, taken, np.empty(taken.size, dtype=bool), taken.size)
    parts: list[I64] = []
    found = used = 0
    for _ in range(_ROUNDS):
        # Any number of draws gives the same keys: what comes after the last one that is wanted is dropped.
        keys = sample(used, max(2 * (count - found), min(used // 4, 4 * count), 1024))
        fresh = np.empty(keys.size, dtype=bool)
        found += _growth.insert_all(table, keys, fresh, count - found)
        parts.append(keys[fresh])
        if found == count:
            return np.concatenate(parts), used + int(np.flatnonzero(fresh)[-1]) + 1
        used += keys.size
    raise ArgumentError(f"could not draw {count} distinct {what} ({found} found in {used} draws)")


def _adjacency(base: I64, num_nodes: int) -> tuple[I64, I64]:
    """Row pointer and sorted neighbours of the base graph."""
    src, dst = base // num_nodes, base % num_nodes
    both = np.sort(np.concatenate([src * num_nodes + dst, dst * num_nodes + src]))
    ptr = np.concatenate([[0], np.cumsum(np.bincount(both // num_nodes, minlength=num_nodes))])
    return ptr.astype(np.int64), both % num_nodes


def _closure_keys(base: I64, num_nodes: int, count: int, seed: int) -> tuple[I64, int]:
    """Keys of `count` new edges that close wedges of the base graph, and the number of draws."""
    ptr, neighbour = _adjacency(base, num_nodes)
    degree = np.diff(ptr)
    bounds = np.concatenate([[0], np.cumsum(np.where(degree >= 2, degree, 0))])
    if count and bounds[-1] == 0:
        raise ArgumentError(
            "triadic_closure: the base graph has no two edges with a common node; raise the mean degree"
        )

    def sample(start: int, size: int) -> I64:
        pick = below(draws(seed, _CENTRE, size, start), int(bounds[-1]))
        centre = np.searchsorted(bounds, pick, side="right") - 1
        a = below(draws(seed, _FIRST, size, start), degree[centre])
        b = below(draws(seed, _SECOND, size, start), degree[centre] - 1)
        b += b >= a  # a uniform ordered pair of two different neighbours
        return _keys(neighbour[ptr[centre] + a], neighbour[ptr[centre] + b], num_nodes)

    return _collect(sample, count, base, "closure edges; lower triadic_closure")


def _closure_probability(base_edges: I64, num_nodes: int, src: I64, dst: I64) -> Array:
    """Probability that one closure draw falls on each pair: `sum_{k in CN} 2 / ((d_k - 1) S)`."""
    ptr, neighbour = _adjacency(base_edges[0] * num_nodes + base_edges[1], num_nodes)
    degree = np.diff(ptr)
    total = float(degree[degree >= 2].sum())
    out = np.zeros(src.size)
    if total == 0:
        return out
    edge_keys = np.repeat(np.arange(num_nodes), degree) * num_nodes + neighbour
    # Walk the shorter row of each pair, in blocks so that the expanded rows stay small.
    a, b = np.where(degree[src] <= degree[dst], src, dst), np.where(degree[src] <= degree[dst], dst, src)
    ends = np.cumsum(degree[a])
    begin = 0
    while begin < src.size:
        done = ends[begin - 1] if begin else 0
        stop = max(begin + 1, int(np.searchsorted(ends, done + (1 << 22), side="right")))
        lengths = degree[a[begin:stop]]
        pair = np.repeat(np.arange(begin, stop), lengths)
        offset = np.arange(pair.size) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        k = neighbour[ptr[a[pair]] + offset]
        wanted = b[pair] * num_nodes + k
        place = np.minimum(np.searchsorted(edge_keys, wanted), edge_keys.size - 1)
        hit = edge_keys[place] == wanted
        out += np.bincount(pair[hit], weights=2.0 / ((degree[k[hit]] - 1) * total), minlength=src.size)
        begin = stop
    return out


def _words(block: I64, num_blocks: int, num_features: int, count: int, signal: float, seed: int) -> Tensor:
    """Binary word indicators: `count` draws a node, from the words of its block with probability `signal`."""
    size = block.size * count
    node = np.repeat(np.arange(block.size), count)
    own = below(draws(seed, _TOPIC, size), 2**32) < round(signal * 2**32)
    low = np.where(own, block[node] * num_features // num_blocks, 0)
    high = np.where(own, (block[node] + 1) * num_features // num_blocks, num_features)
    word = low + below(draws(seed, _WORDS, size), high - low)
    keys = np.unique(node * num_features + word)
    return sparse_features(keys // num_features, keys % num_features, np.ones(keys.size), (block.size, num_features))
