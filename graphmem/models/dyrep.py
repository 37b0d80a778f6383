"""DyRep: messages that carry what the other end's neighbourhood looks like.

Source: R. Trivedi, M. Farajtabar, P. Biswal, H. Zha, "DyRep: Learning Representations over Dynamic Graphs", ICLR 2019,
in the form of table 1 of TGN's paper (arXiv 2006.10637), which TGL's, DyGLib's and TGB's comparisons use.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from graphmem.data.stream import EventStream
from graphmem.errors import ArgumentError
from graphmem.models.temporal import MemoryLinkModel, event_kinds
from graphmem.models.tgn import TGN
from graphmem.nn.functional import gather_rows
from graphmem.nn.temporal_neighbors import TemporalNeighbors
from graphmem.ops import distinct


class DyRep(TGN):
    r"""A node memory that is read as it is, moved by messages with an attention over the other end's latest events.

    .. math:: s_i' = \mathrm{RNN}([s_i, h_j, e, \phi(t - t_i)], s_i), \quad
        h_j = \mathrm{attention}(s_j, \text{latest events of } j), \quad
        \mathrm{logit}_{uv} = w^\top \mathrm{ReLU}(W_s s_u + W_d s_v)

    with the attention of :class:`TGN` over memories as they were written; :math:`h_j` is computed, with gradient, when
    the message is read, as everything in a message is (:class:`~graphmem.nn.NodeMemory`), and knows j's events up to
    then, that of the message included. Trivedi et al. pool neighbours by their maximum and model the intensity of
    events; neither is in the form that is compared.

    Args:
        num_nodes: N.
        msg_dim: D.
        memory_dim: width of s and h.
        updater: "rnn" or "gru".
        **options: of :class:`TGN`, but for ``embedding_dim`` and ``delta``.

    Raises:
        ArgumentError: options that are unknown or do not fit each other.
    """

    def __init__(
        self, num_nodes: int, msg_dim: int = 0, *, memory_dim: int = 100, updater: str = "rnn", **options: Any
    ) -> None:
        super().__init__(
            num_nodes, msg_dim, memory_dim=memory_dim, embedding_dim=memory_dim, updater=updater, **options
        )
        if self.embeds_time or isinstance(self.neighbors, TemporalNeighbors):
            raise ArgumentError('delta, neighbors: a score of DyRep reads no neighbours; expected "edge" and a ring')
        self.memory.represent_others(self._represent)

    def embed(self, nodes: Tensor, t: Tensor | None) -> Tensor:
        """Read the memory of nodes int64 [n]."""
        memory: Tensor = self.memory(nodes)[0]
        return memory

    def _represent(self, nodes: Tensor) -> Tensor:
        nodes, place = distinct(nodes)
        return gather_rows(self._attend(self._read(nodes, None, self.memory.stored), None), place)

    @torch.no_grad()
    def update(self, events: EventStream) -> None:
        """Give the events to neighbours, whom messages read, and to the memory."""
        self._check_times(events)
        self.memory.check_events(events.src, events.dst, events.t, events.msg)
        if events.node_events is not None:
            self.memory.check_node_events(events.node_events)
        event_kinds(events, self.memory.pres)
        self._remember(events)
        MemoryLinkModel.update(self, events)


__all__ = ["DyRep"]
