"""Ages, and codes of time differences."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from graphmem import ops
from graphmem.errors import ArgumentError
from graphmem.nn.functional import Linear, node_gaps
from graphmem.nn.state import StateModule
from graphmem.ops import _check

DAY = 86_400.0
SLOW = 0.1


class LogAge(StateModule):
    r"""Ages on a logarithmic scale, in units of their own: :math:`a(\Delta) = \ln(1 + \max(\Delta, 0) / \tau)`.

    What is older than anything in training is then not far from what was.

    Args:
        time_scale: :math:`\tau`, a typical time between two events of a node, in the unit of the stream's times. None:
            :meth:`fit` takes the median of training events; a day in seconds until then.

    Raises:
        ArgumentError: ``time_scale`` is not positive.
    """

    time_scale: Tensor

    def __init__(self, time_scale: float | None = None) -> None:
        super().__init__()
        if time_scale is not None and not _check.real("time_scale", time_scale) > 0:
            raise ArgumentError(f"time_scale: expected a positive number or None, got {time_scale}")
        self._fits = time_scale is None
        # Not state: a fact about the data, which a new epoch does not forget.
        self.register_buffer("time_scale", torch.tensor(time_scale or DAY, dtype=torch.float64))
        self._state_exact |= {"time_scale"}

    @torch.no_grad()
    def fit(self, src: Tensor, dst: Tensor, t: Tensor) -> None:
        """Take the median of the positive gaps between two events in a row of a node, unless a unit was given.

        Without such gaps it stays what it was.

        Args:
            src: int64 [E], of events in the order of time.
            dst: int64 [E].
            t: [E].
        """
        gaps = node_gaps(src, dst, t) if self._fits else t.new_empty(0)
        if gaps.numel():
            self.time_scale.copy_(gaps.median())

    def forward(self, dt: Tensor) -> Tensor:
        """Differences of times [*], int64 or floating point, to float64 [*]."""
        return (dt.double() / self.time_scale).clamp(min=0).log1p()


class TimeEncoder(nn.Module):
    r"""Learnable harmonics of a time difference: :math:`\phi(\Delta t) = \cos(w\,\Delta t + b)`.

    Source: D. Xu et al., "Inductive Representation Learning on Temporal Graphs", ICLR 2020, section 3.1, in the form
    that TGN and PyG's ``TGNMemory`` use it. The parameters lie in ``lin``, as in PyG's ``TimeEncoder``.

    Args:
        out_channels: number of harmonics T.
        init: "linear", the initialisation of ``torch.nn.Linear`` (PyG): all frequencies within [-1, 1]; "log",
            :math:`w_i = 10^{-9 i / (T - 1)}`, b = 0, from periods of seconds to centuries (the code of the TGN paper),
            of which a few steps of a usual learning rate leave little: they are of its size; or "slow", for ages of
            :class:`LogAge`: frequencies within [-0.1, 0.1], so that the code of an age beyond all those of training is
            close to that of the oldest of them.

    Raises:
        ArgumentError: no harmonics, or an unknown initialisation.
    """

    def __init__(self, out_channels: int, init: str = "linear") -> None:
        super().__init__()
        _check.integer("out_channels", out_channels, 1)
        self.out_channels = out_channels
        self.init = _check.choice("init", init, ("linear", "log", "slow"))
        self.lin = Linear(1, out_channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw or compute the frequencies anew."""
        self.lin.reset_parameters()
        if self.init == "log":
            with torch.no_grad():
                self.lin.weight.copy_(10 ** -torch.linspace(0, 9, self.out_channels).unsqueeze(1))
                self.lin.bias.zero_()
        if self.init == "slow":
            with torch.no_grad():
                self.lin.weight.mul_(SLOW)

    def forward(self, dt: Tensor) -> Tensor:
        """Encode differences of times.

        Args:
            dt: [*], int64 or floating point. Subtract times as they are (int64 or float64) and hand the difference
                over: a Unix time as float32 is off by a minute.

        Returns:
            [*, out_channels].
        """
        weight, bias = self.lin.weight.view(-1), self.lin.bias
        if weight.dtype in (torch.float32, torch.float64):
            code = ops.time_code(dt.reshape(-1).double(), weight, bias)
        else:
            code = self.lin(dt.reshape(-1, 1).to(weight.dtype)).cos()
        return code.view(*dt.shape, self.out_channels)

    def extra_repr(self) -> str:
        """Show width and initialisation."""
        return f"{self.out_channels}, init={self.init!r}"
