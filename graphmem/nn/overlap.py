"""Decoders with a third branch: one-sided neighbours (NCN-diff) and second-order overlaps (NCN2)."""

from __future__ import annotations

import torch
from torch import Tensor
from typing_extensions import Unpack

from graphmem import ops
from graphmem.data.graph import CSRGraph
from graphmem.nn.decoder import CNDecoder, CNOptions, Memo
from graphmem.nn.heads import CNBranch


class _ThirdBranchDecoder(CNDecoder):
    """NCN plus ``MLP(sum)`` of a second kind of neighbourhood sum."""

    def __init__(self, channels: int, **options: Unpack[CNOptions]) -> None:
        super().__init__(channels, **options)
        dropout, norm = options.get("dropout", 0.0), options.get("norm", True)
        self.third = CNBranch(channels, dropout, norm, options.get("tail_act", True))

    def sums(self, h: Tensor, graph: CSRGraph, pairs: Tensor, memo: Memo | None) -> tuple[Tensor, Tensor]:
        """Common-neighbour sums and the third branch's sums, each [B, channels]."""
        raise TypeError("abstract")

    def forward(self, h: Tensor, graph: CSRGraph, pairs: Tensor, memo: Memo | None = None) -> Tensor:
        """Logits of pairs, [B]; arguments as :meth:`PairDecoder.forward`."""
        graph = self.hide_edges(graph)
        common, other = self.sums(self.transform_all(h, memo), graph, pairs, memo)
        every = torch.arange(pairs.size(1), device=pairs.device)
        terms = self.third(every, other, pairs.size(1)) + self.xijlin(self.pair_product(h, pairs))
        out: Tensor = self.lin(self.add_branch(terms, self.xcnlin(every, common, pairs.size(1))))
        return out.squeeze(1)


class CNDiffDecoder(_ThirdBranchDecoder):
    r"""NCN-diff: the third branch sums :math:`N(i) \setminus N(j)` and :math:`N(j) \setminus N(i)`."""

    def sums(self, h: Tensor, graph: CSRGraph, pairs: Tensor, memo: Memo | None) -> tuple[Tensor, Tensor]:
        """See :class:`_ThirdBranchDecoder`."""
        common, left, right = ops.cn_diff_gather_sum(graph, h, pairs)
        return common, left + right


class TwoHopDecoder(_ThirdBranchDecoder):
    r"""NCN2: the third branch sums :math:`N(i) \cap N^2(j)` and :math:`N^2(i) \cap N(j)`, unweighted."""

    def sums(self, h: Tensor, graph: CSRGraph, pairs: Tensor, memo: Memo | None) -> tuple[Tensor, Tensor]:
        """See :class:`_ThirdBranchDecoder`."""
        memo = Memo() if memo is None else memo
        if "two_hop" not in memo:
            memo["two_hop"] = graph.two_hop()
        plain = graph if graph.weight is None else CSRGraph(graph.rowptr, graph.col, keep=graph.keep)
        mixed = ops.cn_gather_sum(plain, h, pairs, g2=memo["two_hop"]) + ops.cn_gather_sum(
            memo["two_hop"], h, pairs, g2=plain
        )
        return ops.cn_gather_sum(graph, h, pairs), mixed
