"""The pair decoder of the temporal models."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from graphmem.nn.functional import Linear, gather_rows

# Elements of the hidden layer that exist at a time where no gradient is wanted: they stay in a second-level cache.
_HIDDEN = 1 << 18


class LinkPredictor(nn.Module):
    r"""Logits :math:`w^\top \mathrm{ReLU}(W_s h_i + b_s + W_d h_j + b_d) + b` of source i and destination j.

    Each node is projected once, whatever the number of pairs it is in. Source: PyG's ``examples/tgn.py``; the
    parameters have the same names.

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
        source, destination = self.lin_src(gather_rows(h, src)), self.lin_dst(h)
        width = dst.size(1) * h.size(1)
        if torch.is_grad_enabled() or dst.numel() * h.size(1) <= _HIDDEN:
            return self._logits(source, destination, dst)
        rows = max(1, _HIDDEN // width)
        out = [self._logits(a, destination, b) for a, b in zip(source.split(rows), dst.split(rows), strict=True)]
        return torch.cat(out)

    def _logits(self, source: Tensor, destination: Tensor, dst: Tensor) -> Tensor:
        hidden = gather_rows(destination, dst.reshape(-1)).view(*dst.shape, -1) + source.unsqueeze(1)
        out: Tensor = self.lin_final(hidden.flatten(0, 1).relu()).view(dst.shape)
        return out
