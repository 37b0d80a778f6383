"""Codes of time differences."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from graphmem import ops
from graphmem.nn.functional import Linear
from graphmem.ops import _check


class TimeEncoder(nn.Module):
    r"""Learnable harmonics of a time difference: :math:`\phi(\Delta t) = \cos(w\,\Delta t + b)`.

    Source: D. Xu et al., "Inductive Representation Learning on Temporal Graphs", ICLR 2020, section 3.1, in the form
    that TGN and PyG's ``TGNMemory`` use it. The parameters lie in ``lin``, as in PyG's ``TimeEncoder``.

    Args:
        out_channels: number of harmonics T.
        init: "linear", the initialisation of ``torch.nn.Linear`` (PyG): all frequencies within [-1, 1]; or "log",
            :math:`w_i = 10^{-9 i / (T - 1)}`, b = 0, from periods of seconds to centuries (the code of the TGN paper).

    Raises:
        ArgumentError: no harmonics, or an unknown initialisation.
    """

    def __init__(self, out_channels: int, init: str = "linear") -> None:
        super().__init__()
        _check.integer("out_channels", out_channels, 1)
        self.out_channels = out_channels
        self.init = _check.choice("init", init, ("linear", "log"))
        self.lin = Linear(1, out_channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw or compute the frequencies anew."""
        self.lin.reset_parameters()
        if self.init == "log":
            with torch.no_grad():
                self.lin.weight.copy_(10 ** -torch.linspace(0, 9, self.out_channels).unsqueeze(1))
                self.lin.bias.zero_()

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
