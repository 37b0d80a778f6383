"""The pair decoders of the temporal models."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from graphmem.nn.functional import Linear, linear
from graphmem.ops.pair_relu_dot import pair_relu_dot_operator


class LinkPredictor(nn.Module):
    r"""Logits :math:`w^\top \mathrm{ReLU}(W_s h_i + b_s + W_d h_j + b_d) + b` of source i and destination j.

    Each node is projected once, whatever the number of pairs it is in, and the hidden layer of pairs is not stored.
    Source: PyG's ``examples/tgn.py``; the parameters have the same names.

    Args:
        in_channels: width of h and of the hidden layer.
    """

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.lin_src = Linear(in_channels, in_channels)
        self.lin_dst = Linear(in_channels, in_channels)
        self.lin_final = Linear(in_channels, 1)

    def reset_parameters(self) -> None:
        """Reset the three layers."""
        for layer in (self.lin_src, self.lin_dst, self.lin_final):
            layer.reset_parameters()

    def forward(self, h: Tensor, src: Tensor, dst: Tensor) -> Tensor:
        """Score candidates.

        Args:
            h: [n, in_channels].
            src: int64 [B], rows of h.
            dst: int64 [B, C], the rows of each source's candidates.

        Returns:
            [B, C].
        """
        weight = torch.cat((self.lin_src.weight, self.lin_dst.weight))
        projected = linear(h, weight, torch.cat((self.lin_src.bias, self.lin_dst.bias)))
        last = self.lin_final
        out: Tensor = pair_relu_dot_operator(projected, src, dst, last.weight.view(-1), last.bias)
        return out


class PairMLP(nn.Module):
    r"""Logits :math:`w^\top \mathrm{ReLU}(W x + b) + c` of feature vectors.

    Args:
        in_channels: width of x.
        hidden_channels: of the hidden layer.
    """

    def __init__(self, in_channels: int, hidden_channels: int) -> None:
        super().__init__()
        self.lin_hidden = Linear(in_channels, hidden_channels)
        self.lin_final = Linear(hidden_channels, 1)

    def reset_parameters(self) -> None:
        """Reset both layers."""
        self.lin_hidden.reset_parameters()
        self.lin_final.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        """[..., in_channels] to [...]."""
        rows = x.flatten(0, -2)
        return self.lin_final(self.lin_hidden(rows).relu()).view(x.shape[:-1])  # type: ignore[no-any-return]
