"""Logits of pairs from embeddings of their ends and from what was counted of the pair."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from graphmem.errors import ArgumentError
from graphmem.nn.functional import Linear, dropout_relu, gather_rows
from graphmem.nn.signed_history import NAMES, PRIOR_NEG, PRIOR_POS
from graphmem.ops import _check


class SignedDecoder(nn.Module):
    r"""Logits of pairs (u, v), with embeddings z, counted features f, or both.

    With :math:`x = [z_u, z_v, |z_u - z_v|, z_u \odot z_v, f]`

    .. math:: \mathrm{logits} = W_o\,\mathrm{drop}(\mathrm{ReLU}(W_h x + b_h)) + b_o + W_f f

    so that a logistic regression on f is one of the functions it can learn. With ``kind="linear"`` it is
    :math:`W_o [z_u, z_v, f] + b_o`, what the released code of SEMBA has (without f).

    Log-odds are read less what they are before the first event, and those and logarithms are halved: constants, for
    statistics of a stream would tell of its end.

    Args:
        embedding_dim: E, width of z; 0 for none.
        history_dim: width of f: 16, see :class:`~graphmem.nn.SignedHistoryFeatures`; 0 for none.
        out_channels: K, logits of a pair.
        hidden_channels: of the hidden layer.
        kind: "mlp" or "linear".
        dropout: in the hidden layer.

    Raises:
        ArgumentError: neither embeddings nor features, or a number out of range.
    """

    shift: Tensor
    scale: Tensor

    def __init__(
        self,
        embedding_dim: int,
        history_dim: int,
        out_channels: int = 1,
        *,
        hidden_channels: int = 64,
        kind: str = "mlp",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if history_dim not in (0, len(NAMES)):
            raise ArgumentError(f"history_dim: expected 0 or {len(NAMES)}, got {history_dim!r}")
        _check.integer("embedding_dim", embedding_dim, 0 if history_dim else 1)
        _check.integer("out_channels", out_channels, 1)
        _check.integer("hidden_channels", hidden_channels, 1)
        self.kind = _check.choice("kind", kind, ("mlp", "linear"))
        self.dropout = _check.probability("dropout", dropout)
        width = (2 if kind == "linear" else 4) * embedding_dim + history_dim
        self.lin_hidden = Linear(width, hidden_channels) if kind == "mlp" else None
        self.lin_final = Linear(hidden_channels if kind == "mlp" else width, out_channels)
        self.lin_history = Linear(history_dim, out_channels, bias=False) if kind == "mlp" and history_dim else None
        is_odds = torch.tensor([name.startswith("odds") for name in NAMES])
        halved = ~torch.tensor([name.startswith("reverse") for name in NAMES])
        self.register_buffer("shift", is_odds * math.log(PRIOR_POS / PRIOR_NEG), persistent=False)
        self.register_buffer("scale", 1 - 0.5 * halved, persistent=False)

    def reset_parameters(self) -> None:
        """Reset all layers."""
        for layer in (self.lin_hidden, self.lin_final, self.lin_history):
            if layer is not None:
                layer.reset_parameters()

    def forward(self, z: Tensor | None, src: Tensor, dst: Tensor, history: Tensor | None = None) -> Tensor:
        """Score pairs.

        Args:
            z: [n, E]; ``None`` where E is 0.
            src: int64 [P], rows of z.
            dst: int64 [P], rows of z.
            history: [P, 16]; ``None`` where there is none.

        Returns:
            [P, K].
        """
        parts: list[Tensor] = []
        if z is not None:
            u, v = gather_rows(z, src), gather_rows(z, dst)
            parts = [u, v] if self.kind == "linear" else [u, v, (u - v).abs(), u * v]
        if history is not None:
            history = (history - self.shift) * self.scale
            parts.append(history)
        x = torch.cat(parts, 1)
        if self.lin_hidden is not None:
            x = dropout_relu(self.lin_hidden(x), self.dropout, self.training)
        out: Tensor = self.lin_final(x)
        return out if self.lin_history is None else out + self.lin_history(history)


__all__ = ["SignedDecoder"]
