r"""Generated graphs of the sizes of OGB's link sets, with a split and negatives, for speed and memory claims.

`groups` grows a graph of overlapping cliques, as co-author graphs (papers) and protein graphs (complexes) are;
`citations` grows a directed graph of papers and references. Both are models of growth with preferential attachment
(Barabási, Albert 1999) in which links close triangles: by groups (team assembly: Guimerà et al. 2005), and by copied
references (Kleinberg et al. 1999). Every draw is counter-based and in integers, so a seed gives the same graph on every
machine. Nodes are numbered at random. Features are noise; nothing can be learned from them.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from graphmem.data._random import I64, MASK, below, distinct_below, draws, permutation
from graphmem.data.dataset import GraphDataset, LinkSplit
from graphmem.data.generators import check_range, generated_card
from graphmem.data.splits import non_edge_pairs
from graphmem.errors import ArgumentError

_SCALE = 1 << 16  # integer weights; see graphmem.data.generators
_ONE = 1 << 32
# keys of the random streams; group g of blocks grows with key _GROWTH + g
_ORDER, _LINKS, _NEGATIVES, _FEATURES, _WANTED, _HELD_VALID, _HELD_TEST, _NEG_VALID, _NEG_TEST = range(9)
_GROWTH = 1 << 10
_FIRST_YEAR, _NUM_YEARS, _YEARLY = 1980, 40, 1.07


def groups(
    num_nodes: int = 10_000,
    num_edges: int = 40_000,
    num_valid: int = 0,
    num_test: int = 0,
    num_negatives: int = 1_000,
    *,
    size_exponent: float = 2.5,
    max_size: int = 16,
    newcomers: float = 0.5,
    repeat: float = 0.65,
    preferential: float = 0.5,
    density: float = 1.0,
    num_blocks: int = 1,
    num_features: int = 0,
    split: str = "time",
    scale: float = 1.0,
    seed: int = 0,
) -> GraphDataset:
    r"""Union of groups of nodes, added one by one until there are enough distinct edges.

    A group has s members, `P(s) ~ s^-size_exponent` for `2 <= s <= max_size`. A member is a new node with probability
    `newcomers`, until all N are used. Else it is, with probability `repeat`, a member of an earlier group of the
    earlier node chosen before it in the same group; else a node drawn by its number of groups (with probability
    `preferential`) or uniformly. Each pair of members is linked with probability `density`.

    Args:
        num_nodes: N.
        num_edges: training links, distinct; `edge_index` holds these.
        num_valid: validation links, distinct and no training links; 0, with `num_test=0`, for no split.
        num_test: test links, likewise.
        num_negatives: non-links (of all three sets), shared, for validation and as many for test.
        size_exponent: see above.
        max_size: largest group.
        newcomers: see above.
        repeat: see above.
        preferential: see above.
        density: see above.
        num_blocks: K; groups stay inside one of K blocks of equal size, and `x` is the block, int64 [N].
        num_features: with one block, width of `x`: uniform noise in [-1, 1), float32; 0 for no features.
        split: "time": the links held out are the last ones; "random": any.
        scale: factor on all five counts, for smaller siblings with the same settings.
        seed: any integer.

    Raises:
        ArgumentError: an argument out of range, or too few nodes for the edges.
    """
    for name, value in dict(newcomers=newcomers, repeat=repeat, preferential=preferential, density=density).items():
        check_range(name, value, 0, 1)
    if split not in ("time", "random") or (split == "time" and num_blocks > 1):
        raise ArgumentError(f"split: expected 'random', or 'time' with one block, found {split!r}, {num_blocks} blocks")
    card = generated_card("generated:groups", seed, num_nodes=num_nodes, num_edges=num_edges, scale=scale)
    num_nodes, num_edges, num_valid, num_test, num_negatives = _scaled(
        scale, num_nodes, num_edges, num_valid, num_test, num_negatives
    )
    check_range("num_blocks", num_blocks, 1, num_nodes // 2)
    chances = round(newcomers * _ONE), round(repeat * _ONE), round(preferential * _ONE), round(density * _ONE)
    keys = _grow(
        num_nodes, num_edges + num_valid + num_test, num_blocks, _weights(size_exponent, 2, max_size), chances, seed
    )
    if split == "random":
        keys = keys[permutation(seed, _LINKS, keys.size)]
    train, valid, test = np.split(keys, [num_edges, num_edges + num_valid])
    links = None
    if num_valid + num_test:
        free = num_nodes * (num_nodes - 1) // 2 - keys.size
        index = distinct_below(seed, _NEGATIVES, free, 2 * num_negatives)
        negative = torch.from_numpy(non_edge_pairs(_ends(np.sort(keys), num_nodes), num_nodes, index))
        links = LinkSplit(
            train=torch.from_numpy(_ends(train, num_nodes)),
            valid=torch.from_numpy(_ends(valid, num_nodes)),
            valid_neg=negative[:, :num_negatives].contiguous(),
            test=torch.from_numpy(_ends(test, num_nodes)),
            test_neg=negative[:, num_negatives:].contiguous(),
            num_nodes=num_nodes,
            protocol=f"generated, {split}",
            seed=seed,
        )
    x = _noise(num_nodes, num_features, seed) if num_blocks == 1 else _blocks(num_nodes, num_blocks, seed)
    edge_index = torch.from_numpy(_ends(np.sort(train), num_nodes))
    return GraphDataset(card.name, edge_index, num_nodes, x, None, links, card)


def citations(
    num_nodes: int = 10_000,
    num_edges: int = 100_000,
    num_held_out: int = 300,
    num_negatives: int = 1_000,
    *,
    out_exponent: float = 1.2,
    max_out: int = 100,
    copy: float = 0.5,
    preferential: float = 0.7,
    recent: float = 0.3,
    num_features: int = 0,
    scale: float = 1.0,
    seed: int = 0,
) -> GraphDataset:
    r"""Papers in order of time, each with references to earlier ones; the split is made like ogbl-citation2's.

    A paper has d references, `P(d) ~ d^-out_exponent` for `1 <= d <= max_out`, then scaled to the wanted total. A
    reference is, with probability `copy`, one of the references of a paper that is cited already; else the target of
    one of the latest references of all papers (with probability `preferential`), or one of the latest papers. The
    latest are the last `recent` of all so far; with 1, a few early papers are cited by a third of all others.
    The number of papers a year grows by 7 %.

    Of each of the newest `num_held_out` papers with at least three references one is held out for validation and
    another one for test. Their negatives keep the source: papers that it does not cite.

    Args:
        num_nodes: N.
        num_edges: training links.
        num_held_out: validation links, and as many test links.
        num_negatives: negatives of each link held out.
        out_exponent: see above.
        max_out: largest number of references before scaling.
        copy: see above.
        preferential: see above.
        recent: see above.
        num_features: width of `x`: uniform noise in [-1, 1), float32; 0 for no features.
        scale: factor on the first three counts, for smaller siblings with the same settings.
        seed: any integer.

    Returns:
        A data set whose `split` keeps the direction (source cites target); `split.attributes["train.year"]` is the year
        of the source, int16 [E]. `edge_index` is undirected.

    Raises:
        ArgumentError: an argument out of range, or too few papers with three references.
    """
    from graphmem.data import _growth

    check_range("copy", copy, 0, 1)
    check_range("preferential", preferential, 0, 1)
    check_range("recent", recent, 0, 1)
    check_range("num_negatives", num_negatives, 1, 1 << 20)
    card = generated_card("generated:citations", seed, num_nodes=num_nodes, num_edges=num_edges, scale=scale)
    num_nodes, num_edges, held = _scaled(scale, num_nodes, num_edges, num_held_out)
    total = num_edges + 2 * held
    if not 1 <= 8 * total <= num_nodes * (num_nodes - 1):
        raise ArgumentError(
            f"num_edges: {total} links in all are too many for {num_nodes} nodes (an eighth of all pairs)"
        )
    weights = _weights(out_exponent, 1, max_out)
    wanted = 1 + np.searchsorted(weights, below(draws(seed, _WANTED, num_nodes), int(weights[-1])), side="right")
    running = np.concatenate([[0], np.cumsum(wanted)])
    offsets = running * total // running[-1]
    ptr, target = np.empty(num_nodes + 1, dtype=np.int64), np.empty(total, dtype=np.int64)
    unsigned = np.uint64(seed & MASK)
    chances = round(copy * _ONE), round(preferential * _ONE), round(recent * _ONE)
    _growth.grow_citations(offsets, *chances, unsigned, _GROWTH, ptr, target)
    name = permutation(seed, _ORDER, num_nodes)
    degree = np.diff(ptr)
    papers = np.flatnonzero(degree >= 3)[-held:] if held else np.empty(0, dtype=np.int64)
    if papers.size < held or ptr[-1] < total:
        raise ArgumentError(f"num_held_out: found {papers.size} papers with three references, expected {held}")
    first = below(draws(seed, _HELD_VALID, held), degree[papers])
    second = below(draws(seed, _HELD_TEST, held), degree[papers] - 1)
    places = {"valid": ptr[papers] + first, "test": ptr[papers] + second + (second >= first)}
    keep = np.ones(total, dtype=bool)
    keep[np.concatenate(list(places.values()))] = False
    source = np.repeat(np.arange(num_nodes), degree)[keep]
    train = np.stack([name[source], name[target[keep]]])
    sets = {"train": torch.from_numpy(train)}
    for part, stream in (("valid", _NEG_VALID), ("test", _NEG_TEST)):
        negative = np.empty((held, num_negatives, 2), dtype=np.int64)
        _growth.draw_not_cited(papers, ptr, target, name, unsigned, stream, negative)
        sets[part] = torch.from_numpy(np.stack([name[papers], name[target[places[part]]]]))
        sets[f"{part}_neg"] = torch.from_numpy(negative)
    years = {"train.year": torch.from_numpy(_years(num_nodes)[source])}
    links = LinkSplit(**sets, num_nodes=num_nodes, protocol="generated, time", seed=seed, attributes=years)
    keys = np.sort(train.min(axis=0) * num_nodes + train.max(axis=0))
    edge_index = torch.from_numpy(_ends(keys, num_nodes))
    return GraphDataset(card.name, edge_index, num_nodes, _noise(num_nodes, num_features, seed), None, links, card)


def _scaled(scale: float, *counts: int) -> list[int]:
    if not 0 < scale <= 1:
        raise ArgumentError(f"scale: expected a number in (0, 1], found {scale}")
    if min(counts) < 0 or counts[0] < 4:
        raise ArgumentError(f"num_nodes and the other counts: expected at least 4 nodes, no negative count; {counts}")
    return [round(scale * count) for count in counts]


def _weights(exponent: float, low: int, high: int) -> I64:
    """Cumulative integer weights `k^-exponent` of `k = low..high`."""
    if high < low:
        raise ArgumentError(f"max_size, max_out: expected at least {low}, found {high}")
    value = np.arange(low, high + 1, dtype=np.float64) ** -exponent
    weights: I64 = np.cumsum(np.maximum(np.rint(value * _SCALE), 1).astype(np.int64))
    return weights


def _grow(
    num_nodes: int, num_edges: int, num_blocks: int, sizes: I64, chances: tuple[int, int, int, int], seed: int
) -> I64:
    """Keys `i N + j`, `i < j`, of the edges in the order in which they came, block after block."""
    from graphmem.data import _growth

    name = permutation(seed, _ORDER, num_nodes)
    keys = np.empty(num_edges, dtype=np.int64)
    nodes, edges = (np.arange(num_blocks + 1) * count // num_blocks for count in (num_nodes, num_edges))
    for block in range(num_blocks):
        part, width = keys[edges[block] : edges[block + 1]], int(nodes[block + 1] - nodes[block])
        found = 0
        if 4 * part.size <= width * (width - 1):
            _, found = _growth.grow_groups(width, sizes, *chances, np.uint64(seed & MASK), _GROWTH + block, part)
        if found < part.size:
            raise ArgumentError(
                f"num_edges: {width} nodes of a block are too few for {part.size} links of these groups"
            )
        ends = name[nodes[block] + _ends(part, width)]
        part[:] = ends.min(axis=0) * num_nodes + ends.max(axis=0)
    return keys


def _blocks(num_nodes: int, num_blocks: int, seed: int) -> Tensor:
    """Block of each node, int64 [N], under the numbers that nodes get in the end."""
    block = np.empty(num_nodes, dtype=np.int64)
    block[permutation(seed, _ORDER, num_nodes)] = np.searchsorted(
        np.arange(1, num_blocks) * num_nodes // num_blocks, np.arange(num_nodes), side="right"
    )
    return torch.from_numpy(block)


def _ends(keys: I64, num_nodes: int) -> I64:
    return np.stack([keys // num_nodes, keys % num_nodes])


def _noise(num_nodes: int, num_features: int, seed: int) -> Tensor | None:
    """Features uniform in [-1, 1), float32 [N, F]: four 16-bit numbers of each draw, in blocks of bounded memory."""
    if num_features == 0:
        return None
    if num_features % 4:
        raise ArgumentError(f"num_features: expected a multiple of 4, found {num_features}")
    x = np.empty((num_nodes, num_features), dtype=np.float32)
    per_row = num_features // 4
    for begin in range(0, num_nodes, 1 << 14):
        rows = x[begin : begin + (1 << 14)]
        raw = draws(seed, _FEATURES, len(rows) * per_row, begin * per_row).astype("<u8").view("<u2")
        rows[:] = (raw.reshape(rows.shape).astype(np.float32) - 32768) / 32768
    return torch.from_numpy(x)


def _years(num_nodes: int) -> np.ndarray[tuple[int], np.dtype[np.int16]]:
    """Year of each paper in order of time, int16 [N]."""
    growth = _YEARLY ** np.arange(1, _NUM_YEARS + 1)
    last = np.rint(num_nodes * (growth - 1) / (growth[-1] - 1)).astype(np.int64)
    return (_FIRST_YEAR + np.searchsorted(last, np.arange(num_nodes), side="right")).astype(np.int16)
