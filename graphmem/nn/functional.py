"""Element-wise pieces shared by encoders and decoders."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphmem import ops


def dropout(x: Tensor, p: float, training: bool) -> Tensor:
    """Inverted dropout. On the CPU by our operator, seeded from torch's generator, elsewhere by torch's."""
    if not training or p == 0:
        return x
    if x.device.type != "cpu" or torch.compiler.is_compiling():
        return F.dropout(x, p)
    return ops.dropout(x, p, seed=_draw_seed())


def dropout_relu(x: Tensor, p: float, training: bool) -> Tensor:
    """ReLU and inverted dropout (they commute), in one pass on the CPU."""
    if not training or p == 0:
        return F.relu(x)
    if x.device.type != "cpu" or torch.compiler.is_compiling():
        return F.relu(F.dropout(x, p))
    return ops.dropout(x, p, seed=_draw_seed(), relu=True)


def _draw_seed() -> int:
    """A seed from torch's global generator, so that checkpoints of its state cover dropout too."""
    return int(torch.empty((), dtype=torch.int64).random_())


class DropoutReLU(nn.Module):
    """Dropout followed by ReLU, as one step.

    Args:
        p: probability of a zero.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """[*] to [*]."""
        return dropout_relu(x, self.p, self.training)

    def extra_repr(self) -> str:
        """Show p."""
        return f"p={self.p}"
