"""Neural Common Neighbor with Completion: neighbours of one end only count with the probability of the missing edge."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from typing_extensions import Unpack

from graphmem import ops
from graphmem.data.graph import CSRGraph
from graphmem.errors import ArgumentError
from graphmem.nn.decoder import (
    CNDecoder,
    CNOptions,
    Compat,
    Memo,
    Neighborhoods,
    cn_weight,
    compact_nodes,
    work_chunks,
)
from graphmem.nn.functional import Linear, gather_rows
from graphmem.nn.heads import evaluating
from graphmem.ops import CNPart, _check
from graphmem.ops.segment import take

InnerInput = Literal["transformed", "encoded"]


class NodeTable(NamedTuple):
    """Rows of some nodes: ``nodes`` says of which, ``place`` [N] where each node's row is. Without them: of all."""

    rows: Tensor
    nodes: Tensor | None = None
    place: Tensor | None = None

    def at(self, idx: Tensor) -> Tensor:
        """A list of nodes in terms of the rows."""
        return idx if self.place is None else self.place[idx.long()]

    def spread(self) -> Tensor:
        """A row for every node, without gradient; zeros for nodes that are not in the table."""
        if self.nodes is None or self.place is None:
            return self.rows.detach()
        return self.rows.new_zeros(self.place.numel(), self.rows.size(1)).index_copy_(0, self.nodes, self.rows.detach())


class CompletionDecoder(CNDecoder):
    r"""NCNC: sums over common neighbours, completed by the neighbours of one end.

    .. math::
        z_{ij} = \sum_{u \in N(i) \cap N(j)} \tilde h_u + \sum_{u \in N(i) \setminus N(j)} p_{ju} \tilde h_u
               + \sum_{u \in N(j) \setminus N(i)} p_{iu} \tilde h_u, \qquad
        p = \frac{\alpha\, p_t\, q}{p_t\, q + 1 - q}, \quad q = \sigma(\mathrm{scale} (s - \mathrm{offset}))

    where s is the logit of the same decoder one step less deep (depth 0 is NCN), computed without gradient.

    The decoder of s reads the step's :math:`\tilde h`, dropout and all, in place of h (``inner_input="transformed"``,
    as the released code; xlin is then applied twice to what it sums), or h (``"encoded"``, as the paper's equation).

    ``compat="clean"`` computes s without dropout of its own, from the graph as it is, each unordered pair once.
    ``compat="reference"`` does what the released code does: dropout on, and edge dropout applied a second time.

    Args:
        channels: width of h and of all layers.
        depth: number of completion steps.
        alpha, scale, offset, pt: calibration of p above. Searched per data set in the paper.
        learn_pt: let a perceptron on :math:`h_i \odot h_j` give pt.
        train_degree, test_degree: sample at most so many one-sided neighbours of each end in training / evaluation;
            ``None`` takes all.
        compat: "clean" or "reference".
        inner_input: "transformed" or "encoded". The default is the better of the two on splits of Cora and Citeseer
            that no result is reported on (docs/ncn.md).
        **options: see :class:`~graphmem.nn.decoder.CNOptions`.

    Raises:
        ArgumentError: a value out of range, or ``inner_input="encoded"`` with ``compat="reference"``.
    """

    alpha: Tensor
    scale: Tensor
    offset: Tensor
    pt: Tensor

    def __init__(
        self,
        channels: int,
        *,
        depth: int = 1,
        alpha: float = 1.0,
        scale: float = 5.0,
        offset: float = 3.0,
        pt: float = 0.5,
        learn_pt: bool = False,
        train_degree: int | None = None,
        test_degree: int | None = None,
        compat: Compat = "clean",
        inner_input: InnerInput = "transformed",
        **options: Unpack[CNOptions],
    ) -> None:
        super().__init__(channels, **options)
        if depth < 1:
            raise ArgumentError(f"depth: expected at least 1 (0 is NCN), got {depth}")
        for name, degree in (("train_degree", train_degree), ("test_degree", test_degree)):
            if degree is not None and degree < 1:
                raise ArgumentError(f"{name}: expected at least 1, or None for all neighbours, got {degree}")
        _check.choice("inner_input", inner_input, ("transformed", "encoded"))
        if compat == "reference" and inner_input != "transformed":
            raise ArgumentError(f"inner_input: compat='reference' knows 'transformed' alone, got {inner_input!r}")
        self.depth, self.learn_pt, self.compat, self.inner_input = depth, learn_pt, compat, inner_input
        self.train_degree, self.test_degree = train_degree, test_degree
        for name, value in (("alpha", alpha), ("scale", scale), ("offset", offset), ("pt", pt)):
            self.register_buffer(name, torch.tensor([float(value)]))
        # Always there, as in the released code, so that parameter counts do not depend on learn_pt.
        self.ptlin = nn.Sequential(Linear(channels, channels), nn.ReLU(), Linear(channels, 1), nn.Sigmoid())

    def set_alpha(self, alpha: float) -> None:
        """Change the weight of completed neighbours, e.g. to raise it during training."""
        self.alpha.fill_(alpha)

    def forward(self, h: Tensor, graph: CSRGraph, pairs: Tensor, memo: Memo | None = None) -> Tensor:
        """Logits of pairs, [B]; arguments as :meth:`PairDecoder.forward`."""
        return self._logits(h, graph, pairs, self.depth, memo)

    def _logits(self, h: Tensor, graph: CSRGraph, pairs: Tensor, depth: int, memo: Memo | None) -> Tensor:
        if depth == 0:
            return super().forward(h, graph, pairs, memo)
        seen = self.hide_edges(graph)
        parts = ops.cn_index(seen, pairs)
        cn, left, right = parts["cn"], parts["left"], parts["right"]
        inner_h, inner_graph = h, seen if self.compat == "reference" else graph
        if self.inner_input == "transformed":
            # All rows that an inner decoder may read. A clean one sees hidden edges, too.
            around = [part.idx for part in parts.values()] if inner_graph is seen else [graph.neighbors(pairs)]
            table = self._transform_listed(h, None if depth > 1 else [pairs.flatten(), *around], memo)
            inner_h = table.spread()
        left, left_scale = self._sample(left, pairs[0] * graph.num_nodes + pairs[1])
        right, right_scale = self._sample(right, pairs[1] * graph.num_nodes + pairs[0])
        left_pairs, right_pairs = _residual_pairs(left, pairs[1]), _residual_pairs(right, pairs[0])
        left_logit, right_logit = self._inner(inner_h, inner_graph, (left_pairs, right_pairs), depth - 1, memo)
        if self.inner_input == "encoded":
            table = self._transform_listed(h, [part.idx for part in (cn, left, right)], memo)
        pt = self.ptlin(self.pair_product(h, pairs)).squeeze(1) if self.learn_pt else None
        terms: list[tuple[Tensor, Tensor, Tensor | None]] = [(cn.ptr, table.at(cn.idx), cn_weight(seen, cn))]
        for part, logit, scale in ((left, left_logit, left_scale), (right, right_logit, right_scale)):
            row_pt = None if pt is None else take(pt, _rows(part))
            weight = self._probability(logit, row_pt)
            if scale is not None:
                weight = weight * scale
            if seen.weight is not None:
                weight = weight * take(seen.weight, part.slot)
            terms.append((part.ptr, table.at(part.idx), weight))
        return self.combine(h, pairs, Neighborhoods(table.rows, terms), memo)

    def _probability(self, logit: Tensor, pt: Tensor | None) -> Tensor:
        q = torch.sigmoid(self.scale * (logit - self.offset))
        odds = q * (self.pt if pt is None else pt)
        return self.alpha * odds / (odds + 1 - q)

    def _sample(self, part: CNPart, row_key: Tensor) -> tuple[CNPart, Tensor | None]:
        """At most ``train_degree`` or ``test_degree`` one-sided neighbours a row, and their weights d/k."""
        k = self.train_degree if self.training else self.test_degree
        if k is None or part.idx.numel() == 0:
            return part, None
        # Training draws anew each time; an evaluation must not depend on what ran before it, nor on its chunks.
        seed = int(torch.randint(2**62, ())) if self.training else 0
        sampled = ops.sample_rows(part.ptr, part.idx, k, seed, replace=self.compat == "reference", row_key=row_key)
        return CNPart(sampled.ptr, sampled.idx, part.slot[sampled.pos], None), sampled.weight

    def _transform_listed(self, h: Tensor, lists: list[Tensor] | None, memo: Memo | None) -> NodeTable:
        """Rows of ``transform(h)`` for the listed nodes; for all, where ``lists`` is ``None``."""
        if self.xlin is None:
            return NodeTable(h)
        if lists is None:
            return NodeTable(self.transform_all(h, memo))
        if memo is not None:
            return NodeTable(memo.rows(h, torch.cat([nodes.long() for nodes in lists]), self.transform))
        nodes, place = compact_nodes(lists, h.size(0))
        return NodeTable(self.transform(gather_rows(h, nodes)), nodes, place)

    def _inner(
        self, h: Tensor, graph: CSRGraph, sides: tuple[Tensor, Tensor], depth: int, memo: Memo | None
    ) -> list[Tensor]:
        """Logits of the residual pairs of both sides, without gradient."""
        clean = self.compat == "clean"
        same_h = self.inner_input == "encoded"
        inner_memo = None if memo is None else memo if same_h else memo.setdefault("inner", Memo())

        def logits(pairs: Tensor) -> Tensor:
            chunks = [self._logits(h, graph, chunk, depth, inner_memo) for chunk in work_chunks(graph, pairs)]
            return torch.cat(chunks) if chunks else h.new_empty(0)

        with torch.no_grad(), evaluating(self) if clean else nullcontext():
            h = h.detach()
            if self.training:  # reference: dropout differs from pair to pair, so nothing is shared
                return [logits(pairs) for pairs in sides]
            cache = None if memo is None else memo.setdefault(f"logits{depth}", {})
            merged = unique_logits(torch.cat(sides, dim=1), graph, logits, cache)
            return list(merged.split([pairs.size(1) for pairs in sides]))


def _rows(part: CNPart) -> Tensor:
    lengths = part.ptr.diff()
    rows = torch.arange(lengths.numel(), device=lengths.device)
    return rows.repeat_interleave(lengths, output_size=part.idx.numel())


def _residual_pairs(part: CNPart, anchors: Tensor) -> Tensor:
    """Pairs (anchor, u) for every entry u of a part; the anchor is the end that u is no neighbour of."""
    anchor = anchors.repeat_interleave(part.ptr.diff(), output_size=part.idx.numel())
    return torch.stack((anchor, part.idx.to(torch.int64)))


def unique_logits(
    pairs: Tensor, graph: CSRGraph, logits: Callable[[Tensor], Tensor], cache: dict[str, Tensor] | None
) -> Tensor:
    """Evaluate each distinct pair once; on a symmetric graph (i, j) and (j, i) are the same pair.

    ``cache`` keeps the sorted keys and logits of what was evaluated before.
    """
    low, high = pairs[0], pairs[1]
    if graph.is_symmetric():
        low, high = torch.minimum(low, high), torch.maximum(low, high)
    keys, inverse = torch.unique(low * graph.num_nodes + high, return_inverse=True)
    known = pairs.new_empty(0) if cache is None else cache.get("keys", pairs.new_empty(0))
    if known.numel():
        place = torch.searchsorted(known, keys).clamp_(max=known.numel() - 1)
        fresh = known[place] != keys
    else:
        fresh = torch.ones_like(keys, dtype=torch.bool)
    new_keys = keys[fresh]
    anchors = torch.div(new_keys, graph.num_nodes, rounding_mode="floor")
    new = logits(torch.stack((anchors, new_keys - anchors * graph.num_nodes)))
    values = new.new_empty(keys.numel())
    values[fresh] = new
    if known.numel():
        assert cache is not None
        values[~fresh] = cache["values"][place[~fresh]]
    if cache is not None and new_keys.numel():
        merged = torch.cat((known, new_keys))
        order = merged.argsort()
        cache["values"] = torch.cat((cache["values"], new) if known.numel() else (new,))[order]
        cache["keys"] = merged[order]
    return values[inverse]
