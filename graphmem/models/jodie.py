"""JODIE's update and projection as a link model.

Source: S. Kumar, X. Zhang, J. Leskovec, "Predicting Dynamic Embedding Trajectory in Temporal Interaction Networks", KDD
2019, sections 3.1 and 3.2, in the form that TGN's authors and TGL compare with: one recurrent cell for both kinds of
nodes, batches of events instead of t-batches, and logits of pairs instead of a predicted embedding of the next item.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from graphmem.models.temporal import MemoryLinkModel
from graphmem.nn.functional import Linear, gather_rows
from graphmem.nn.memory import NodeMemory
from graphmem.nn.time import LogAge
from graphmem.ops import _check, distinct


class JODIE(MemoryLinkModel):
    r"""A recurrent memory whose rows drift while nothing happens: no neighbours are read.

    .. math:: z_i(t) = \left(1 + w\, a_i(t) + b\right) \odot s_i, \qquad
        a_i(t) = \ln\left(1 + \frac{t - t_i}{\tau}\right)

    with :math:`s_i, t_i` of :class:`~graphmem.nn.NodeMemory` (RNN updater). Decoder:
    :class:`~graphmem.nn.LinkPredictor`.

    Args:
        num_nodes: N.
        msg_dim: D.
        memory_dim: width of memory and embedding.
        time_dim: of the time code in messages.
        drift: "log" as above; "linear" for :math:`a_i(t) = (t - t_i) / \tau`, as in the paper, with which the embedding
            of a node that comes back late is large without bounds: on CollegeMsg, in 20 epochs at a learning rate of
            0.001 and in units of a day, a test AP of 77.2 +- 6.3 in place of 91.5 +- 0.7 (five seeds).
        time_scale: :math:`\tau`; None: that of training events. See :class:`~graphmem.nn.LogAge`.
        time_dtype: of times, int64 or float64.
        **memory_options: of :class:`~graphmem.nn.NodeMemory`.

    Raises:
        ArgumentError: options that are unknown or do not fit each other.
    """

    embeds_time = True

    def __init__(
        self,
        num_nodes: int,
        msg_dim: int = 0,
        *,
        memory_dim: int = 100,
        time_dim: int = 100,
        drift: str = "log",
        time_scale: float | None = None,
        time_dtype: torch.dtype = torch.int64,
        **memory_options: Any,
    ) -> None:
        options = {"updater": "rnn", "time_dtype": time_dtype, **memory_options}
        super().__init__(NodeMemory(num_nodes, msg_dim, memory_dim, time_dim, **options), memory_dim)
        self.drift = _check.choice("drift", drift, ("log", "linear"))
        self.age = LogAge(time_scale)
        self.projection = Linear(1, memory_dim)

    def reset_parameters(self) -> None:
        """Draw all weights anew and forget what the memory knows."""
        for module in (self.memory, self.projection, self.predictor):
            module.reset_parameters()

    def embed(self, nodes: Tensor, t: Tensor | None) -> Tensor:
        """Project nodes int64 [n] to times [n]."""
        assert t is not None
        nodes, place = distinct(nodes)
        z, last_update = self.memory(nodes)
        dt = t - last_update[place]
        age = self.age(dt) if self.drift == "log" else dt.double() / self.age.time_scale
        out: Tensor = gather_rows(z, place) * (1 + self.projection(age.to(z.dtype).unsqueeze(1)))
        return out
