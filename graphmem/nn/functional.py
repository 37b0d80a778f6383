"""Element-wise pieces shared by encoders and decoders."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphmem import ops
from graphmem.ops import _check
from graphmem.ops.segment import segment_gather_sum_operator


def _has_kernel(x: Tensor) -> bool:
    """Whether our element-wise operators run where ``x`` lies, without a detour through the CPU."""
    return x.device.type == "cpu" or (x.device.type == "cuda" and ops.CUDA_LIBRARY is not None)


def dropout(x: Tensor, p: float, training: bool) -> Tensor:
    """Inverted dropout. By our operator where it has a kernel, seeded from torch's generator, elsewhere by torch's."""
    if not training or p == 0:
        return x
    if not _has_kernel(x) or torch.compiler.is_compiling():
        return F.dropout(x, p)
    return ops.dropout(x, p, seed=draw_seed())


def dropout_relu(x: Tensor, p: float, training: bool) -> Tensor:
    """ReLU and inverted dropout (they commute), in one pass where our operator has a kernel."""
    if not training or p == 0:
        return F.relu(x)
    if not _has_kernel(x) or torch.compiler.is_compiling():
        return F.relu(F.dropout(x, p))
    return ops.dropout(x, p, seed=draw_seed(), relu=True)


def gather_rows(x: Tensor, index: Tensor) -> Tensor:
    """``x[index]`` with a gradient that is summed in a fixed order, so the same bits for every number of threads."""
    ptr = torch.arange(index.numel() + 1, device=index.device)
    return gather_sum(ptr, index, x)


def gather_sum(ptr: Tensor, idx: Tensor, x: Tensor, weight: Tensor | None = None) -> Tensor:
    """:func:`graphmem.ops.segment_gather_sum` for indices made in this package, which need no second check."""
    if weight is not None:
        weight = weight.to(_check.accumulate_dtype(x.dtype))
    out: Tensor = segment_gather_sum_operator(
        ptr, idx.contiguous(), None, weight, None, x.contiguous(), None, None, None
    )
    return out


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``x W^T + b``: by our operator where it applies (matrices of float32 or float64 on the CPU), else torch's."""
    return ops.linear(x, weight, bias) if is_dense(x, weight) else F.linear(x, weight, bias)


def node_gaps(src: Tensor, dst: Tensor, t: Tensor) -> Tensor:
    """Positive gaps between the times of two events in a row of a node, in either role, sorted; float64 [M].

    Args:
        src: int64 [E], in the order of time.
        dst: int64 [E].
        t: [E].
    """
    owner, order = torch.stack((src, dst), 1).view(-1).sort(stable=True)
    gaps = t.repeat_interleave(2)[order].diff()[owner[1:] == owner[:-1]]
    return gaps[gaps > 0].double().sort().values


def is_dense(x: Tensor, other: Tensor) -> bool:
    """Whether our operators for matrices are better than torch's: float32 or float64 on the CPU, in eager mode."""
    fits = x.dim() == 2 and x.dtype in (torch.float32, torch.float64) and x.dtype == other.dtype
    return (
        fits and x.device.type == "cpu" and not torch.compiler.is_compiling() and not torch.is_autocast_enabled("cpu")
    )


class Linear(nn.Linear):
    """``torch.nn.Linear`` on :func:`linear`: the same parameters and initialisation, the same bits for all threads."""

    def forward(self, x: Tensor) -> Tensor:
        """[R, in_features] to [R, out_features]."""
        return linear(x, self.weight, self.bias)


def draw_seed() -> int:
    """A seed from torch's global generator, so that checkpoints of its state cover dropout too."""
    return int(torch.empty((), dtype=torch.int64).random_())


class NormDropoutReLU(nn.LayerNorm):
    """LayerNorm, dropout and ReLU of a hidden layer, as one step where our operator applies.

    Args:
        channels: width.
        p: probability of a zero.
    """

    def __init__(self, channels: int, p: float) -> None:
        super().__init__(channels)
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """[R, channels] to [R, channels]."""
        fits = x.dim() == 2 and self.weight.dtype == _check.accumulate_dtype(x.dtype)
        if not fits or not _has_kernel(x) or torch.compiler.is_compiling():
            return dropout_relu(super().forward(x), self.p, self.training)
        p = self.p if self.training else 0.0
        return ops.norm_dropout_relu(x, self.weight, self.bias, eps=self.eps, p=p, seed=draw_seed() if p > 0 else 0)

    def extra_repr(self) -> str:
        """Show width and p."""
        return f"{super().extra_repr()}, p={self.p}"


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
