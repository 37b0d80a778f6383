"""Element-wise pieces shared by encoders and decoders."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


def dropout_relu(x: Tensor, p: float, training: bool) -> Tensor:
    """ReLU and inverted dropout (they commute); may overwrite ``x``."""
    if training and p > 0:
        x = F.dropout(x, p, True)
    return F.relu(x)


class DropoutReLU(nn.Module):
    """Dropout followed by ReLU, as one step."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """[*] to [*]."""
        return dropout_relu(x, self.p, self.training)

    def extra_repr(self) -> str:
        return f"p={self.p}"
