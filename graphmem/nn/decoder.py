"""Pair decoders: what turns node representations and neighbourhoods into a logit for a pair."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal, TypedDict

import torch
from torch import Tensor, nn
from typing_extensions import Unpack

from graphmem import ops
from graphmem.data.graph import CSRGraph
from graphmem.nn.functional import gather_rows, gather_sum
from graphmem.nn.heads import CNBranch, logit_mlp, node_mlp, pair_mlp, reset_all, stack_layers
from graphmem.ops import CNPart
from graphmem.ops.segment import take

Compat = Literal["clean", "reference"]


class Memo(dict[str, Any]):
    """What one evaluation may reuse between batches of pairs: valid for one (h, graph) and fixed weights."""

    def rows(self, h: Tensor, nodes: Tensor | None, transform: Callable[[Tensor], Tensor]) -> Tensor:
        """A table [N, channels] whose rows ``nodes`` (``None``: all) hold ``transform(h)``; each is computed once."""
        if "table" not in self:
            self["table"] = torch.empty_like(h)
            self["done"] = torch.zeros(h.size(0), dtype=torch.bool, device=h.device)
        wanted = torch.zeros_like(self["done"])
        wanted[slice(None) if nodes is None else nodes.long()] = True
        missing = (wanted & ~self["done"]).nonzero().squeeze(1)
        if missing.numel():
            self["table"][missing] = transform(h[missing])
            self["done"][missing] = True
        table: Tensor = self["table"]
        return table


class HeadOptions(TypedDict, total=False):
    """Options of every decoder's perceptrons."""

    dropout: float
    """In the perceptrons; default 0."""
    norm: bool
    """LayerNorm in the perceptrons; default True."""
    tail_act: bool
    """End the branches with an activation instead of a linear layer; default True."""
    two_layer_lin: bool
    """One more hidden layer before the logit; default False."""


class CNOptions(HeadOptions, total=False):
    """Options of the decoders that read neighbourhoods."""

    use_xlin: bool
    """Transform nodes before summing them; default True. Otherwise they are summed as they are."""
    edge_dropout: float
    """Training only: probability that a directed slot is hidden from the neighbourhoods; default 0."""
    beta: float
    """Initial value of the learned factor of the neighbourhood branch; default 1."""


class PairDecoder(nn.Module):
    r"""Decoder without neighbourhood, :math:`\mathrm{lin}(\mathrm{xijlin}(h_i \odot h_j))`; base of the others.

    Args:
        channels: width of h and of all layers.
        **options: see :class:`HeadOptions`.
    """

    def __init__(self, channels: int, **options: Unpack[HeadOptions]) -> None:
        super().__init__()
        dropout, norm = options.get("dropout", 0.0), options.get("norm", True)
        self.channels = channels
        self.xijlin = pair_mlp(channels, dropout, norm, options.get("tail_act", True))
        self.lin = logit_mlp(channels, dropout, norm, options.get("two_layer_lin", False))

    def reset_parameters(self) -> None:
        """Torch's defaults for linear layers and norms."""
        reset_all(self)

    def fused_head(self, h: Tensor, memo: Memo | None) -> ops.HeadWeights | None:
        """The dense layers for :func:`graphmem.ops.pair_head`, where it can serve; otherwise ``None``."""
        if torch.is_grad_enabled() or torch.is_autocast_enabled("cpu") or torch.compiler.is_compiling():
            return None  # first: a training step asks too
        fits = h.dtype == self.lin[0].weight.dtype and h.dtype in (torch.float32, torch.float64)
        dropout = self.training and any(getattr(module, "p", 0) > 0 for module in self.modules())
        if dropout or not fits or h.device.type != "cpu":
            return None
        if memo is None:
            return stack_layers(self.xijlin, self.lin)
        if "head" not in memo:
            memo["head"] = stack_layers(self.xijlin, self.lin)
        head: ops.HeadWeights = memo["head"]
        return head

    def pair_product(self, h: Tensor, pairs: Tensor) -> Tensor:
        r""":math:`e_{ij} = h_i \odot h_j`, [B, channels]."""
        return ops.pair_product(h, pairs)

    def forward(self, h: Tensor, graph: CSRGraph, pairs: Tensor, memo: Memo | None = None) -> Tensor:
        """Logits of pairs.

        Args:
            h: [N, channels].
            graph: graph whose neighbourhoods count.
            pairs: int64 [2, B].
            memo: what evaluation shares between calls.

        Returns:
            [B].
        """
        head = self.fused_head(h, memo)
        if head is not None:
            return ops.pair_head(h, pairs, head)
        out: Tensor = self.lin(self.xijlin(self.pair_product(h, pairs)))
        return out.squeeze(1)


class CNDecoder(PairDecoder):
    r"""Neural Common Neighbor.

    .. math::
        s_{ij} = \mathrm{lin}(\beta\,\mathrm{xcnlin}(z_{ij}) + \mathrm{xijlin}(h_i \odot h_j)), \qquad
        z_{ij} = \sum_{u \in N(i) \cap N(j)} a_{iu} a_{ju} \tilde h_u, \qquad \tilde h = h + \mathrm{xlin}(h)

    Source: Wang, Yang, Zhang, ICLR 2024; the sum of two branches is the released code's form of the paper's
    concatenation.

    Args:
        channels: width of h and of all layers.
        **options: see :class:`CNOptions`.
    """

    def __init__(self, channels: int, **options: Unpack[CNOptions]) -> None:
        # The base reads the options that it knows by name.
        super().__init__(channels, **options)  # type: ignore[misc]
        dropout, norm = options.get("dropout", 0.0), options.get("norm", True)
        self.xlin = node_mlp(channels, dropout, norm) if options.get("use_xlin", True) else None
        self.xcnlin = CNBranch(channels, dropout, norm, options.get("tail_act", True))
        self.edge_dropout, self.initial_beta = options.get("edge_dropout", 0.0), options.get("beta", 1.0)
        self.beta = nn.Parameter(torch.full((1,), self.initial_beta))

    def reset_parameters(self) -> None:
        """Torch's defaults for linear layers and norms; ``beta`` to its initial value."""
        super().reset_parameters()
        nn.init.constant_(self.beta, self.initial_beta)

    def forward(self, h: Tensor, graph: CSRGraph, pairs: Tensor, memo: Memo | None = None) -> Tensor:
        """Logits of pairs, [B]; arguments as :meth:`PairDecoder.forward`."""
        graph = self.hide_edges(graph)
        part = ops.cn_index(graph, pairs, parts=("cn",))["cn"]
        table, idx = self.transform_needed(h, part.idx, memo)
        return self.combine(h, pairs, Neighborhoods(table, [(part.ptr, idx, cn_weight(graph, part))]), memo)

    def combine(self, h: Tensor, pairs: Tensor, neighborhoods: Neighborhoods, memo: Memo | None) -> Tensor:
        """Logits of pairs from their neighbourhoods; without gradient in blocks whose activations stay in cache."""
        num_pairs = pairs.size(1)
        head = self.fused_head(h, memo)
        if head is not None:
            rows, place = self.xcnlin.compact(*neighborhoods.sums(0, num_pairs), num_pairs)
            return ops.pair_head(h, pairs, head, rows * self.beta, place)
        block = HEAD_ROWS if h.device.type == "cpu" else DEVICE_HEAD_ROWS
        if torch.is_grad_enabled() or num_pairs <= block:
            return self._head(h, pairs, *neighborhoods.sums(0, num_pairs))
        blocks = [(start, min(start + block, num_pairs)) for start in range(0, num_pairs, block)]
        return torch.cat(
            [self._head(h, pairs[:, low:high].contiguous(), *neighborhoods.sums(low, high)) for low, high in blocks]
        )

    def _head(self, h: Tensor, pairs: Tensor, ids: Tensor, sums: Tensor) -> Tensor:
        branch = self.xcnlin(ids, sums, pairs.size(1))
        out: Tensor = self.lin(self.add_branch(self.xijlin(self.pair_product(h, pairs)), branch))
        return out.squeeze(1)

    def add_branch(self, pair_term: Tensor, branch: Tensor) -> Tensor:
        """The pair term plus ``beta`` times the neighbourhood branch."""
        # Expanded, so that the gradient is summed by columns first: a sum over everything would depend on the threads.
        return torch.addcmul(pair_term, branch, self.beta.expand(self.channels).to(branch.dtype))

    def hide_edges(self, graph: CSRGraph) -> CSRGraph:
        """Apply edge dropout. Only presence counts here, so nothing is rescaled."""
        return graph.drop_edges(self.edge_dropout, rescale=False) if self.training and self.edge_dropout > 0 else graph

    def transform(self, h: Tensor) -> Tensor:
        r""":math:`\tilde h = h + \mathrm{xlin}(h)`, row by row."""
        return h if self.xlin is None else h + self.xlin(h)

    def transform_all(self, h: Tensor, memo: Memo | None) -> Tensor:
        """Transform every row; once per evaluation."""
        return self.transform(h) if memo is None or self.xlin is None else memo.rows(h, None, self.transform)

    def transform_needed(self, h: Tensor, idx: Tensor, memo: Memo | None) -> tuple[Tensor, Tensor]:
        """Rows of ``transform(h)`` for the nodes of a list alone, and the list in terms of these rows."""
        if self.xlin is None:
            return h, idx
        if memo is not None:
            return memo.rows(h, idx, self.transform), idx
        nodes, place = compact_nodes((idx,), h.size(0))
        return self.transform(gather_rows(h, nodes)), place[idx.long()]


# Rows of a block of the dense heads. Measured on NCNC's evaluation of Cora (width 256, two cores, 32 MiB of third-level
# cache): 132 ms with 4,096 rows, 167 with 1,024, 175 with 16,384; small blocks pay for waking threads at every step.
HEAD_ROWS = 4096
# A GPU has no cache that a block of activations would fit: here they only bound memory (64 MiB at width 256).
DEVICE_HEAD_ROWS = 2**16


class Neighborhoods:
    """Weighted neighbour lists of a batch of pairs, summed on demand.

    Args:
        table: [T, channels], rows to sum.
        terms: lists in CSR form, (ptr [B + 1], idx into ``table``, weight or ``None``); a pair's sum runs over all.
    """

    def __init__(self, table: Tensor, terms: list[tuple[Tensor, Tensor, Tensor | None]]) -> None:
        self.table, self.terms = table, terms

    def sums(self, low: int, high: int) -> tuple[Tensor, Tensor]:
        """Of the pairs low..high-1: which have a non-empty list (counted from low), and the sums of these."""
        filled = torch.stack([ptr[low : high + 1].diff() > 0 for ptr, _, _ in self.terms]).any(0)
        ids = filled.nonzero().squeeze(1)
        total: Tensor | None = None
        for ptr, idx, weight in self.terms:
            rows = ptr[low : high + 1]
            # Of all pairs the ends are known; to read them would wait for a GPU.
            whole = low == 0 and high == ptr.numel() - 1
            first, last = (0, idx.numel()) if whole else (int(rows[0]), int(rows[-1]))
            # Rows that are empty in every list vanish from the offsets.
            offsets = torch.cat((rows[:1], rows[1:][ids])) - first
            part = None if weight is None else weight[first:last]
            out = gather_sum(offsets, idx[first:last], self.table, part)
            total = out if total is None else total + out
        assert total is not None
        return ids, total


# Neighbour entries that one chunk of pairs may touch: 2^21 of them are 16 MiB of indices, and at width 256 the
# activations of the at most 2^14 pairs that go with them stay near 100 MiB.
CHUNK_WORK = 2**21
CHUNK_PAIRS = 2**14


def work_chunks(graph: CSRGraph, pairs: Tensor) -> Iterator[Tensor]:
    """Cut pairs [2, P] into chunks by the neighbour entries they touch, so that hubs do not blow up memory."""
    degree = graph.rowptr.diff()
    work = (degree[pairs[0]] + degree[pairs[1]]).clamp_(min=CHUNK_WORK // CHUNK_PAIRS).cumsum(0).cpu()
    start = 0
    while start < pairs.size(1):
        done = int(work[start - 1]) if start else 0
        end = max(start + 1, int(torch.searchsorted(work, done + CHUNK_WORK, right=True)))
        yield pairs[:, start:end].contiguous()
        start = end


def compact_nodes(lists: Iterable[Tensor], num_nodes: int) -> tuple[Tensor, Tensor]:
    """Distinct nodes of some lists, ascending, and the place of each node among them, [N]; linear, no sort."""
    chosen = [nodes.long() for nodes in lists]
    seen = torch.zeros(num_nodes, dtype=torch.bool, device=chosen[0].device)
    for nodes in chosen:
        seen[nodes] = True
    return seen.nonzero().squeeze(1), seen.cumsum(0).sub_(1)


def cn_weight(graph: CSRGraph, part: CNPart) -> Tensor | None:
    """Product of the two edge weights of each common neighbour, or ``None`` where all are 1."""
    if graph.weight is None or part.slot_b is None:
        return None
    return take(graph.weight, part.slot) * take(graph.weight, part.slot_b)
