"""Attention of a node over its recent events."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from graphmem.errors import ArgumentError
from graphmem.nn.functional import Linear, draw_seed, gather_rows, linear
from graphmem.nn.time import TimeEncoder
from graphmem.ops import _check
from graphmem.ops.head_matmul import head_matmul_unchecked
from graphmem.ops.temporal_attention import temporal_attention_operator

_Maps = tuple[tuple[Tensor, ...], Tensor]


def by_head(weight: Tensor, heads: int) -> Tensor:
    """Rows [H C, F] as [H, C, F]."""
    return weight.view(heads, -1, weight.size(1))


def ask_features(query: Tensor, keys: Tensor, heads: int) -> Tensor:
    """Queries [n, H C] times the key weights [H C, F]: what the features of an event are multiplied with, [n, H F]."""
    rows = query.view(query.size(0), heads, query.size(1) // heads).transpose(0, 1)
    return head_matmul_unchecked(rows, by_head(keys, heads), rows_first=True).transpose(0, 1).flatten(1)


def mix_features(
    query: Tensor,
    x: Tensor,
    nbr: Tensor,
    dt: Tensor,
    messages: Tensor | None,
    eid: Tensor | None,
    time_enc: TimeEncoder,
    p: float,
) -> Tensor:
    """:func:`graphmem.ops.temporal_attention` for arguments made in this package, with a mask of its own."""
    code = time_enc.lin
    seed = draw_seed() if p > 0 else 0
    weight = code.weight.view(-1)
    out: Tensor = temporal_attention_operator(query, x, nbr, dt.double(), weight, code.bias, messages, eid, p, seed)[0]
    return out


def project_mixed(mixed: Tensor, values: Tensor, heads: int) -> Tensor:
    """Mixed features and sums [H, n, F + 1] by the value weights and biases [H C, F + 1], [n, H C]."""
    out = head_matmul_unchecked(mixed, by_head(values, heads), transpose_b=True, rows_first=True)
    return out.transpose(0, 1).flatten(1)


class TemporalAttention(nn.Module):
    r"""Multi-head attention over the k latest events of each node, by dense [n, k] tensors.

    With :math:`e_{ij} = W_e [\phi(\Delta t_{ij}), m_{ij}]`, in each head

    .. math::
        \alpha_{ij} = \mathrm{softmax}_j \frac{(W_q x_i + b_q)^\top (W_k x_j + e_{ij})}{\sqrt{C}}, \quad
        z_i = \sum_j \alpha_{ij} (W_v x_j + b_v + e_{ij})

    and the output is :math:`W_s x_i + b_s + [z_i^1, \dots, z_i^H]`. This is PyG's ``TransformerConv`` with
    ``edge_dim``, and its parameters have the same names, but for ``lin_key.bias``: :math:`q^\top b_k` is the same for
    all j, leaves the softmax, and is left out. The products are arranged so that no event is projected:
    :math:`q^\top W_k x_j = (W_k^\top q)^\top x_j` and :math:`\sum_j \alpha_j W_v x_j = W_v \sum_j \alpha_j x_j`,
    likewise for :math:`W_e`. Where heads are wide, :math:`W_k^\top W_q` is multiplied first, else :math:`W_q x_i`.

    Source: E. Rossi et al., "Temporal Graph Networks for Deep Learning on Dynamic Graphs", 2020, section 3.1; the form
    is that of PyG's ``examples/tgn.py``. What :math:`\Delta t` is, its caller decides.

    Args:
        in_channels: width of x.
        out_channels: width of the output, H C.
        msg_dim: D, width of the events' messages.
        time_enc: :math:`\phi`.
        heads: H.
        dropout: of the attention coefficients.

    Raises:
        ArgumentError: ``out_channels`` is no multiple of ``heads``, or a number out of range.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        msg_dim: int,
        time_enc: TimeEncoder,
        *,
        heads: int = 2,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        for name, value in (("in_channels", in_channels), ("out_channels", out_channels), ("heads", heads)):
            _check.integer(name, value, 1)
        if out_channels % heads:
            raise ArgumentError(f"out_channels: expected a multiple of heads = {heads}, got {out_channels}")
        self.in_channels, self.out_channels, self.msg_dim, self.heads = in_channels, out_channels, msg_dim, heads
        self.dropout = _check.probability("dropout", dropout)
        self.time_enc = time_enc
        self.lin_key = Linear(in_channels, out_channels, bias=False)
        self.lin_query = Linear(in_channels, out_channels)
        self.lin_value = Linear(in_channels, out_channels)
        self.lin_edge = Linear(time_enc.out_channels + msg_dim, out_channels, bias=False)
        self.lin_skip = Linear(in_channels, out_channels)
        features = in_channels + time_enc.out_channels + msg_dim
        # Multiplications a node; the few large products are worth twice as many small ones.
        folded, in_turn = in_channels * heads * features, out_channels * (in_channels + features)
        self._fold = folded <= 2 * in_turn
        self._frozen = False
        self._kept: tuple[Any, _Maps] | None = None

    def reset_parameters(self) -> None:
        """Reset the projections; the time code belongs to the caller."""
        for module in (self.lin_key, self.lin_query, self.lin_value, self.lin_edge, self.lin_skip):
            module.reset_parameters()

    def forward(
        self,
        x: Tensor,
        nbr: Tensor,
        dt: Tensor,
        messages: Tensor | None = None,
        eid: Tensor | None = None,
        root: Tensor | None = None,
    ) -> Tensor:
        """Attend.

        Args:
            x: [m, in_channels].
            nbr: int64 [n, k], the rows of x that nodes attend to; -1 where there are fewer than k.
            dt: [n, k], int64 or floating point.
            messages: [E, msg_dim], of events; may be left out where msg_dim is 0.
            eid: int64 [n, k], the rows of ``messages``.
            root: int64 [n], the rows of x that attend; default: the first n.

        Returns:
            [n, out_channels]; of a node without events the skip term alone.
        """
        if self.msg_dim == 0:
            messages = eid = None
        elif messages is None or eid is None:
            raise ArgumentError(f"messages and eid: expected [*, {self.msg_dim}] and [n, k], got None")
        x_root = x[: nbr.size(0)] if root is None else gather_rows(x, root)
        queries, values = self._maps()
        mixed = self._mixed(self._asked(x_root, queries), x, nbr, dt, messages, eid)
        return self._combined(x_root, mixed, values)

    def over_lists(self, x: Tensor, length: Tensor, nbr: Tensor, dt: Tensor, messages: Tensor | None = None) -> Tensor:
        """Attend over all events of each node, however many they are: lists of like length at a time.

        Args:
            x: [m, in_channels]; the first n rows attend.
            length: int64 [n], of the lists, which lie one behind the other.
            nbr: int64 [M], the rows of x that are attended to.
            dt: [M].
            messages: [M, msg_dim]; may be left out where msg_dim is 0.

        Returns:
            [n, out_channels], as :meth:`forward`.
        """
        x_root = x[: length.numel()]
        queries, values = self._maps()
        query, begin = self._asked(x_root, queries), length.cumsum(0) - length
        mixed, roots = [], []
        low, width, longest = -1, 4, int(length.max()) if length.numel() else -1
        while low < longest:
            rows = ((length > low) & (length <= width)).nonzero().view(-1)
            column = torch.arange(width, device=x.device)
            there = column < length[rows].unsqueeze(1)
            at = torch.where(there, begin[rows].unsqueeze(1) + column, 0)
            eid = None if messages is None else at
            mixed.append(self._mixed(gather_rows(query, rows), x, nbr[at].where(there, -1), dt[at], messages, eid))
            roots.append(rows)
            low, width = width, 4 * width
        if not mixed:
            return x.new_zeros(0, self.out_channels)
        order = torch.cat(roots)
        return gather_rows(self._combined(gather_rows(x_root, order), torch.cat(mixed, 1), values), order.argsort())

    def _asked(self, x_root: Tensor, queries: tuple[Tensor, ...]) -> Tensor:
        """Queries times the key weights, [n, H F]."""
        weight, bias, *keys = queries
        query = linear(x_root, weight, bias)
        return ask_features(query, keys[0], self.heads) if keys else query

    def _mixed(
        self, query: Tensor, x: Tensor, nbr: Tensor, dt: Tensor, messages: Tensor | None, eid: Tensor | None
    ) -> Tensor:
        p = self.dropout if self.training else 0.0
        return mix_features(query, x, nbr, dt, messages, eid, self.time_enc, p)

    def _combined(self, x_root: Tensor, mixed: Tensor, values: Tensor) -> Tensor:
        skip: Tensor = self.lin_skip(x_root)
        return skip + project_mixed(mixed, values, self.heads)

    def freeze(self) -> None:
        """Keep what is computed from weights alone between calls without gradient, for as long as no weight changes.

        For many small calls, of which it is a good part. A change through ``weight.data`` is not noticed.
        """
        self._frozen = True

    def _maps(self) -> _Maps:
        if not self._frozen or torch.is_grad_enabled():
            return self._folded()
        query, key, value = self.lin_query, self.lin_key, self.lin_value
        weights = (query.weight, query.bias, key.weight, self.lin_edge.weight, value.weight, value.bias)
        state = [(weight.data_ptr(), weight._version) for weight in weights]
        if self._kept is None or self._kept[0] != state:
            self._kept = (state, self._folded())
        return self._kept[1]

    def _folded(self) -> _Maps:
        """From a node to its queries times the key weights, in all heads, and from mixed features to values.

        The former: a weight [H F, in_channels] and a bias [H F]; or those of the queries alone, [out_channels, *], and
        the weight [out_channels, F] of the keys. The latter: the weight [H C, F + 1] from mixed features and the sum of
        their coefficients.
        """
        query = torch.cat((self.lin_query.weight, self.lin_query.bias.unsqueeze(1)), 1)
        query = query / math.sqrt(self.out_channels // self.heads)
        key = torch.cat((self.lin_key.weight, self.lin_edge.weight), 1)
        keys: tuple[Tensor, ...] = (key,)
        if self._fold:
            folded = head_matmul_unchecked(by_head(key, self.heads), by_head(query, self.heads), transpose_a=True)
            query, keys = folded.flatten(0, 1), ()
        values = torch.cat((self.lin_value.weight, self.lin_edge.weight, self.lin_value.bias.unsqueeze(1)), 1)
        return (query[:, :-1].contiguous(), query[:, -1].contiguous(), *keys), values

    def extra_repr(self) -> str:
        """Show the widths."""
        return f"{self.in_channels}, {self.out_channels}, heads={self.heads}"
