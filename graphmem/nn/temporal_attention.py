"""Attention of a node over its recent events."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from graphmem.errors import ArgumentError
from graphmem.nn.functional import Linear, dropout, gather_rows
from graphmem.nn.time import TimeEncoder
from graphmem.ops import _check, matmul


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
    likewise for :math:`W_e`.

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

    def reset_parameters(self) -> None:
        """Reset the projections; the time code belongs to the caller."""
        for module in (self.lin_key, self.lin_query, self.lin_value, self.lin_edge, self.lin_skip):
            module.reset_parameters()

    def forward(self, x: Tensor, root: Tensor, nbr: Tensor, dt: Tensor, msg: Tensor | None = None) -> Tensor:
        """Attend.

        Args:
            x: [m, in_channels].
            root: int64 [n], the rows of x that attend.
            nbr: int64 [n, k], the rows of x that they attend to; -1 where there are fewer than k.
            dt: [n, k], int64 or floating point.
            msg: [n, k, msg_dim]; may be left out where that is 0.

        Returns:
            [n, out_channels]; of a node without events the skip term alone.
        """
        x_root = gather_rows(x, root)
        feature = self._features(x, nbr, dt, msg)
        query = self.lin_query(x_root) / math.sqrt(self.out_channels // self.heads)
        weight = torch.cat((self.lin_key.weight, self.lin_edge.weight), 1)
        folded = torch.stack(self._by_head(query, weight, False), 1)
        absent = (nbr < 0).unsqueeze(1)
        score = folded @ feature.transpose(1, 2)  # [n, heads, k]
        alpha = score.masked_fill(absent, torch.finfo(score.dtype).min).softmax(-1).masked_fill(absent, 0)
        alpha = dropout(alpha, self.dropout, self.training)
        mixed = (alpha @ feature).flatten(1)
        weight = torch.cat((self.lin_value.weight, self.lin_edge.weight), 1)
        bias = (alpha.sum(-1, keepdim=True) * self.lin_value.bias.view(self.heads, -1)).flatten(1)
        skip: Tensor = self.lin_skip(x_root)
        return skip + torch.cat(self._by_head(mixed, weight, True), 1) + bias

    def _by_head(self, x: Tensor, weight: Tensor, transpose: bool) -> list[Tensor]:
        """Columns of x, as many as there are heads, each times its rows of the weight."""
        pairs = zip(x.chunk(self.heads, 1), weight.chunk(self.heads, 0), strict=True)
        return [matmul(columns, rows, transpose_b=transpose) for columns, rows in pairs]

    def _features(self, x: Tensor, nbr: Tensor, dt: Tensor, msg: Tensor | None) -> Tensor:
        """What events offer: [n, k, in_channels + T + msg_dim]."""
        x_nbr = gather_rows(x, nbr.clamp(min=0).view(-1)).view(*nbr.shape, -1)
        parts = [x_nbr, self.time_enc(dt)]
        if msg is not None:
            parts.append(msg)
        elif self.msg_dim > 0:
            raise ArgumentError(f"msg: expected [n, k, {self.msg_dim}], got None")
        return torch.cat(parts, -1)

    def extra_repr(self) -> str:
        """Show the widths."""
        return f"{self.in_channels}, {self.out_channels}, heads={self.heads}"
