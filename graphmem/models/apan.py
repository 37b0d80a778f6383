"""APAN: events are mailed to neighbours, and an embedding reads its mailbox only.

Source: X. Wang et al., "APAN: Asynchronous Propagation Attention Network for Real-time Temporal Graph Embedding",
SIGMOD 2021, with the choices of TGL's configuration: a mailbox of ten, mail to both ends and their ten latest
neighbours, a mail that concatenates what the paper adds up, and codes of time, here of ages on a logarithmic scale.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from graphmem.data.stream import EventStream
from graphmem.models.temporal import EmbeddingLinkModel, event_kinds
from graphmem.nn.correction import Correctable
from graphmem.nn.heads import evaluating
from graphmem.nn.mailbox import MailAttention, Mailbox
from graphmem.nn.neighbors import RecentNeighbors
from graphmem.nn.pres import PRES
from graphmem.ops import _check
from graphmem.ops._joint import last_of


class APAN(Correctable, EmbeddingLinkModel):
    r"""Embeddings :math:`z_i(t) = \mathrm{enc}(z_i, \mathrm{mailbox}_i, t)`; see :class:`~graphmem.nn.MailAttention`.

    An event (i, j, t, e) stores :math:`z_i(t), z_j(t)`, and mails :math:`[z_i, z_j, e]` to i and its latest neighbours,
    :math:`[z_j, z_i, e]` to j and its. A node that gets several mails in a batch keeps their mean. What is stored has
    no gradient. Decoder: :class:`~graphmem.nn.LinkPredictor`.

    Args:
        num_nodes: N.
        msg_dim: D.
        embedding_dim: width of z.
        time_dim: of the code of a mail's age.
        mailbox: mails a node keeps.
        num_neighbors: latest neighbours that get an event's mail.
        heads: of the attention.
        dropout: of the encoder.
        time_scale: unit of the ages of mails; None: that of training events. See :class:`~graphmem.nn.LogAge`.
        neighbors: as in :class:`TGN`.
        time_dtype: of times, int64 or float64.

    Raises:
        ArgumentError: options that do not fit each other.
    """

    embeds_time = True
    z: Tensor
    z_time: Tensor

    def __init__(
        self,
        num_nodes: int,
        msg_dim: int = 0,
        *,
        embedding_dim: int = 100,
        time_dim: int = 100,
        mailbox: int = 10,
        num_neighbors: int = 10,
        heads: int = 2,
        dropout: float = 0.1,
        time_scale: float | None = None,
        neighbors: nn.Module | None = None,
        time_dtype: torch.dtype = torch.int64,
    ) -> None:
        super().__init__(embedding_dim)
        _check.integer("msg_dim", msg_dim)
        _check.integer("num_neighbors", num_neighbors, 0)
        self.num_neighbors, self.msg_dim = num_neighbors, msg_dim
        mail_dim = 2 * embedding_dim + msg_dim
        self.register_state("z", (num_nodes, embedding_dim))
        self.mailbox = Mailbox(num_nodes, mailbox, mail_dim, time_dtype)
        self.encoder = MailAttention(
            embedding_dim, mail_dim, time_dim, heads=heads, dropout=dropout, time_scale=time_scale
        )
        if neighbors is None:
            neighbors = RecentNeighbors(num_nodes, max(num_neighbors, 1), dtype=time_dtype)
        self.neighbors: Any = neighbors

    @property
    def correctable(self) -> APAN:
        """The embeddings that the model keeps."""
        return self

    def correct_by(self, pres: PRES) -> None:
        """Let PRES correct embeddings, those that are stored and those that are read."""
        super().correct_by(pres)
        self.register_state("z_time", (self.num_nodes,), dtype=self.time_dtype, device=self.z.device)

    def _stored(self) -> Tensor:
        return self.z

    def _since(self, nodes: Tensor) -> Tensor:
        return self.z_time.index_select(0, nodes)

    def _read(self, nodes: Tensor) -> Tensor:
        return self.embed(nodes, self.mailbox.read(nodes)[1].amax(1))

    @property
    def num_nodes(self) -> int:
        """N."""
        return self.z.size(0)

    @property
    def time_dtype(self) -> torch.dtype:
        """Of times."""
        return self.mailbox.t.dtype

    def reset_parameters(self) -> None:
        """Draw all weights anew."""
        self.encoder.reset_parameters()
        self.predictor.reset_parameters()

    def embed(self, nodes: Tensor, t: Tensor | None) -> Tensor:
        """Encode nodes int64 [n] at times [n]."""
        assert t is not None
        return self.corrected(nodes, self._encode(nodes, t), t)

    def _encode(self, nodes: Tensor, t: Tensor) -> Tensor:
        mail, when = self.mailbox.read(nodes)
        out: Tensor = self.encoder(self.z[nodes], mail, t.unsqueeze(1) - when)
        return out

    @torch.no_grad()
    def update(self, events: EventStream) -> None:
        """Store the embeddings of the events' ends, and mail the events."""
        self._check_links(events)
        src, dst, t = events.src, events.dst, events.t
        _check.in_range("events", torch.cat((src, dst)), self.num_nodes)
        kinds = event_kinds(events, self.pres)
        ends = torch.stack((src, dst), 1).view(-1)  # event by event: a letter for each half
        twice = t.repeat_interleave(2)
        with evaluating(self):
            raw = self._encode(ends, twice)
        z = self.corrected(ends, raw, twice)
        msg = [] if events.msg is None or self.msg_dim == 0 else [events.msg.repeat_interleave(2, 0)]
        letters = torch.cat((z, z.view(-1, 2, z.size(1)).flip(1).flatten(0, 1), *msg), 1)
        owner, letter = self._receivers(ends)
        self.mailbox.deliver(owner, letter, letters, twice)
        nodes, place = ends.unique(return_inverse=True)
        last = last_of(place, nodes.numel())
        self._store(nodes, z[last], twice[last], raw[last])
        if self.pres is not None:
            self.pres.mark_mail(src, dst, owner, letter // 2, kinds)
        self.neighbors.insert(src, dst, t, events.eid)
        self._advance(events)

    def _store(self, nodes: Tensor, z: Tensor, t: Tensor, raw: Tensor) -> None:
        self.z[nodes] = self.committed(nodes, z, t, raw)
        if self.pres is not None:
            self.z_time[nodes] = t
            self.pres.learn_times(nodes)  # the first event's is stored before its mail is

    def _receivers(self, ends: Tensor) -> tuple[Tensor, Tensor]:
        """Who gets which letter: the ends, and the latest neighbours that they had before the batch."""
        letter = torch.arange(ends.numel(), device=ends.device)
        if self.num_neighbors == 0:
            return ends, letter
        nbr = self.neighbors.query(ends, self.num_neighbors)[0]
        half, column = (nbr >= 0).nonzero(as_tuple=True)
        return torch.cat((ends, nbr[half, column])), torch.cat((letter, half))
