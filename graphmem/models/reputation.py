"""Signs without parameters: whom everybody trusts is trusted, and who trusts everybody trusts."""

from __future__ import annotations

import torch
from torch import Tensor

from graphmem.data.stream import EventStream
from graphmem.errors import ArgumentError
from graphmem.models.signs import signed_weights
from graphmem.models.temporal import TemporalLinkModel
from graphmem.nn.signed_history import counted, log_odds
from graphmem.ops import _check


class Reputation(TemporalLinkModel):
    r"""Log-odds of a positive event from what source and target did so far.

    .. math:: s_{uv} = \ln\frac{i_v^+ + 1.8}{i_v^- + 0.2} + \ln\frac{o_u^+ + 1.8}{o_u^- + 0.2}

    with :math:`i_v^\pm` the signed events to v and :math:`o_u^\pm` those from u; without the second term where
    ``ends="target"``. What any trained model of signs has to beat.

    Args:
        num_nodes: N.
        ends: "both" or "target".
        dtype: of times.

    Raises:
        ArgumentError: another name or dtype.
    """

    reads_signs = True
    degree: Tensor

    def __init__(self, num_nodes: int, *, ends: str = "both", dtype: torch.dtype = torch.int64) -> None:
        super().__init__()
        _check.integer("num_nodes", num_nodes)
        if dtype not in (torch.int64, torch.float64):
            raise ArgumentError(f"dtype: expected torch.int64 or torch.float64, got {dtype}")
        self.ends, self._dtype = _check.choice("ends", ends, ("both", "target")), dtype
        self.register_state("degree", (num_nodes, 4), dtype=torch.int64)

    @property
    def num_nodes(self) -> int:
        """N."""
        return self.degree.size(0)

    @property
    def time_dtype(self) -> torch.dtype:
        """Of times."""
        return self._dtype

    def score(self, src: Tensor, dst: Tensor, t: Tensor) -> Tensor:
        """Log-odds of every candidate, float64 [B, C]."""
        src, dst, t = self._checked(src, dst, t)
        received = log_odds(self.degree[dst])[..., 1]
        return received if self.ends == "target" else received + log_odds(self.degree[src])[:, :1]

    def update(self, events: EventStream) -> None:
        """Count the events; their signs are those of ``events.weight``.

        Raises:
            ArgumentError: no weights, or weights of 0.
        """
        self._check_links(events)
        _check.in_range("events", torch.cat((events.src, events.dst)), self.num_nodes)
        _, sign = signed_weights(events)
        self.degree = counted(self.degree, events.src, events.dst, sign < 0)
        self._advance(events)


__all__ = ["Reputation"]
