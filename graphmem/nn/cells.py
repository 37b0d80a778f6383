"""What moves a state: cells on our products, with the same bits for every number of threads."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphmem.errors import ArgumentError
from graphmem.nn.functional import Linear, gather_rows, gather_sum, is_dense, linear
from graphmem.ops.gru_step import gru_step_unchecked


class GRUCell(nn.GRUCell):
    r"""``torch.nn.GRUCell``: the same equations, parameters and initialisation.

    .. math::
        r = \sigma(W_{ir} x + b_{ir} + W_{hr} h + b_{hr}), \quad
        z = \sigma(W_{iz} x + b_{iz} + W_{hz} h + b_{hz})

        n = \tanh(W_{in} x + b_{in} + r \odot (W_{hn} h + b_{hn})), \quad h' = (1 - z) \odot n + z \odot h
    """

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """Input [R, input_size] and states [R, hidden_size] (zeros by default) to new states."""
        h = input.new_zeros(input.size(0), self.hidden_size) if hx is None else hx
        return self._step(linear(input, self.weight_ih, self.bias_ih), h)

    def forward_parts(self, constant: Tensor, rest: Tensor, h: Tensor) -> Tensor:
        """:meth:`forward` of an input whose first columns, ``constant``, need no gradient, and so cost none."""
        first, last = self.weight_ih.split((constant.size(1), rest.size(1)), 1)
        return self._step(linear(constant, first, self.bias_ih) + linear(rest, last), h)

    def forward_rows(self, input: Tensor, rows: Tensor, h: Tensor) -> Tensor:
        """:meth:`forward` of inputs that are zeros but for those [M, *] of some distinct rows, int64 [M]."""
        bias = self.bias_ih.expand(h.size(0), -1)
        return self._step(bias.index_copy(0, rows, linear(input, self.weight_ih, self.bias_ih)), h)

    def _step(self, gates_x: Tensor, h: Tensor) -> Tensor:
        gates_h = linear(h, self.weight_hh, self.bias_hh)
        if is_dense(h, gates_x):
            return gru_step_unchecked(gates_x, gates_h, h)
        width = 2 * self.hidden_size
        r, z = (gates_x[:, :width] + gates_h[:, :width]).sigmoid().chunk(2, 1)
        n = torch.tanh(gates_x[:, width:] + r * gates_h[:, width:])
        return n + z * (h - n)


class RNNCell(nn.RNNCell):
    r"""``torch.nn.RNNCell``: :math:`h' = \tanh(W_i x + b_i + W_h h + b_h)`, or ReLU."""

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """Input [R, input_size] and states [R, hidden_size] (zeros by default) to new states."""
        h = input.new_zeros(input.size(0), self.hidden_size) if hx is None else hx
        y = linear(input, self.weight_ih, self.bias_ih) + linear(h, self.weight_hh, self.bias_hh)
        return y.tanh() if self.nonlinearity == "tanh" else y.relu()


class TransformerCell(nn.Module):
    r"""A state moved by attention over its messages, in place of one message's or their mean's effect.

    .. math::
        a = \mathrm{softmax}_k(q^\top k_k / \sqrt{d / H}), \quad q = W_q h, \; k_k = W_k m_k, \; v_k = W_v m_k

        h' = W_2\, \mathrm{ReLU}(W_1\, \mathrm{LN}(h + \textstyle\sum_k a_k v_k))

    with H heads of d / H columns each.

    Source: the encoder of X. Wang et al., "APAN", SIGMOD 2021, section 3.2, as a memory's updater as in TGL (H. Zhou et
    al., VLDB 2022), whose two heads these are.

    Args:
        input_size: C, width of a message.
        hidden_size: d.
        heads: H.

    Raises:
        ArgumentError: d is no multiple of H.
    """

    def __init__(self, input_size: int, hidden_size: int, heads: int = 2) -> None:
        super().__init__()
        if hidden_size % heads:
            raise ArgumentError(f"hidden_size: expected a multiple of heads = {heads}, got {hidden_size}")
        self.input_size, self.hidden_size, self.heads = input_size, hidden_size, heads
        self.lin_query, self.lin_key = Linear(hidden_size, hidden_size), Linear(input_size, hidden_size, bias=False)
        self.lin_value, self.norm = Linear(input_size, hidden_size), nn.LayerNorm(hidden_size)
        self.hidden, self.out = Linear(hidden_size, hidden_size), Linear(hidden_size, hidden_size)

    def reset_parameters(self) -> None:
        """Reset every layer."""
        for module in self.children():
            module.reset_parameters()  # type: ignore[operator]

    def forward(self, messages: Tensor, row: Tensor, h: Tensor) -> Tensor:
        """Move states.

        Args:
            messages: [M, C].
            row: int64 [M], ascending, whose message each is.
            h: states [n, d].

        Returns:
            [n, d]; of a state without messages what an empty sum moves it to.
        """
        count, width = h.size(0), self.hidden_size // self.heads
        ptr = torch.searchsorted(row, torch.arange(count + 1, device=row.device))
        each = torch.arange(row.numel(), device=row.device)
        query, key = gather_rows(self.lin_query(h), row), self.lin_key(messages)
        score = (query * key).view(-1, self.heads, width).sum(2) / math.sqrt(width)
        top = score.detach().new_full((count, self.heads), -math.inf)
        top = top.scatter_reduce(0, row.unsqueeze(1).expand_as(score), score.detach(), "amax")
        weight = (score - top.index_select(0, row)).exp()
        total = gather_sum(ptr, each, weight).clamp(min=torch.finfo(weight.dtype).tiny)
        value = self.lin_value(messages).view(-1, self.heads, width) * weight.unsqueeze(2)
        mixed = gather_sum(ptr, each, value.flatten(1)).view(count, self.heads, width) / total.unsqueeze(2)
        # Scaled apart: torch's gradients of the two vectors depend on the number of threads.
        normal = F.layer_norm(h + mixed.flatten(1), self.norm.normalized_shape) * self.norm.weight + self.norm.bias
        out: Tensor = self.out(self.hidden(normal).relu())
        return out
