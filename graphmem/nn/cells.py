"""Recurrent cells on our products: the same bits for every number of threads."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from graphmem.nn.functional import is_dense, linear
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
