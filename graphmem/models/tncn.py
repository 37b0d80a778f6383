"""TNCN: common neighbours of the latest events.

Source: X. Zhang, Y. Wang, X. Wang, M. Zhang, "Efficient Neural Common Neighbor for Temporal Graph Link Prediction",
2024 (arXiv 2406.07926), repository GraphPKU/TNCN.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from graphmem.data.graph import CSRGraph
from graphmem.models.tgn import TGN
from graphmem.nn.functional import gather_rows
from graphmem.nn.link_predictor import PairMLP
from graphmem.ops import _check, cn_gather_sum


class TNCN(TGN):
    r"""TGN with a decoder that also sees the common neighbours of a pair among its ends' latest events.

    With :math:`h` of :class:`TGN`, :math:`A_{uw}` the number of u's K latest events that it had with w, and
    :math:`g_w = W_\mathrm{skip} s_w + b` the attention's output for a node without neighbours:

    .. math:: \mathrm{logit}_{uv} = \mathrm{MLP}\Bigl(\bigl[\, h_u \odot h_v \,\Vert\, \sum_w A_{uw} A_{vw}\, g_w
        \,\Vert\, A_{vu} h_u \,\Vert\, A_{uv} h_v \,\bigr]\Bigr)

    The last two, the paper's zero-hop neighbours, are there with ``hops="0-1"``.

    Where the released code differs: there the graph is that of a whole batch with every edge in both directions, so
    that a neighbour counts for u because *it* was asked about in the same batch and has u in its list, and w's
    representation depends on whether w was asked about. Here a score is a function of the state and of the pair. What w
    gives is :math:`g_w`, which is what the released code gives for those that are not in the batch. Its second hop
    (``NCN_mode=2``) is not built.

    Args:
        num_nodes: N.
        msg_dim: D.
        hops: "1", common neighbours (the released code's default), or "0-1", also whether the two have met.
        embedding_dim: width of h, of g and of the MLP's hidden layer.
        **options: of :class:`TGN`.

    Raises:
        ArgumentError: options that are unknown or do not fit each other.
    """

    def __init__(
        self, num_nodes: int, msg_dim: int = 0, *, hops: str = "1", embedding_dim: int = 100, **options: Any
    ) -> None:
        super().__init__(num_nodes, msg_dim, embedding_dim=embedding_dim, **options)
        self.hops = _check.choice("hops", hops, ("1", "0-1"))
        self.predictor = PairMLP((2 if hops == "1" else 4) * embedding_dim, embedding_dim)

    def decode(self, nodes: Tensor, t: Tensor | None, source: Tensor, destination: Tensor) -> Tensor:
        """Logits [B, C] of candidates [B, C] of sources [B], places among nodes [n]."""
        read = self._read(nodes, t)
        h = self._attend(read, t)
        count, width = destination.shape
        alone = self.attention.lin_skip(read.z)
        latest = _graph_of(read.nbr >= 0, read.place, alone)
        if alone.size(0) < latest.num_nodes:  # one node asked about at many times
            alone = F.pad(alone, (0, 0, 0, latest.num_nodes - alone.size(0)))
        pairs = torch.stack((source.unsqueeze(1).expand_as(destination), destination)).flatten(1)
        pooled = cn_gather_sum(latest, alone, pairs).view(count, width, h.size(1))
        h_source = gather_rows(h, source).unsqueeze(1)
        h_destination = gather_rows(h, destination.flatten()).view(count, width, h.size(1))
        features = [h_source * h_destination, pooled]
        if self.hops == "0-1":
            mine, theirs = read.nbr[source], read.nbr[destination]
            met = (mine.unsqueeze(1) == nodes[destination].unsqueeze(2)).sum(2, keepdim=True)
            met_back = (theirs == nodes[source].view(-1, 1, 1)).sum(2, keepdim=True)
            features += [met_back * h_source, met * h_destination]
        out: Tensor = self.predictor(torch.cat(features, 2))
        return out


def _graph_of(there: Tensor, place: Tensor, x: Tensor) -> CSRGraph:
    """The latest events of questions as a graph, weighted by how many each has with a node.

    Args:
        there: bool [n, k], whether a question has so many events.
        place: int64 [n, k], their other ends, as rows of ``x``.
        x: [R, *].
    """
    row, slot = there.nonzero(as_tuple=True)
    size = max(there.size(0), x.size(0))
    return CSRGraph.from_edge_index(torch.stack((place[row, slot], row)), size, x.new_ones(row.numel()))


__all__ = ["TNCN"]
