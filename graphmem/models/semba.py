"""SEMBA: signed links on a stream, from a friendly and a hostile state of each node.

Source: K. Sharma, M. Raghavendra, Y.-C. Lee, A. Kumar M, S. Kumar, "Representation Learning in Continuous-Time Dynamic
Signed Networks", CIKM 2023 (arXiv 2207.03408), repository claws-lab/semba.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from graphmem.data.stream import EventStream
from graphmem.errors import ArgumentError
from graphmem.models.signs import signed_weights
from graphmem.models.temporal import TemporalLinkModel, event_kinds
from graphmem.nn.correction import Correctable
from graphmem.nn.edge_neighbors import EdgeNeighbors
from graphmem.nn.signed_decoder import SignedDecoder
from graphmem.nn.signed_history import SignedHistoryFeatures
from graphmem.nn.signed_memory import SignedMemory, scaled
from graphmem.nn.temporal_attention import TemporalAttention
from graphmem.ops import _check, distinct

FEATURES = ("memory", "history", "both")


class SEMBA(TemporalLinkModel):
    r"""Logits of pairs from signed memories, propagated over recent events, and from counts of the past.

    Memory: :class:`~graphmem.nn.SignedMemory`, whose raw message is :math:`[\ln(1 + |w|), e]`. Long-term propagation:
    :class:`~graphmem.nn.TemporalAttention` over each node's latest events, in both directions, with
    direction, :math:`\ln(1 + |w|)`, e, sign and :math:`\phi(\ln(1 + t_j - t_e))` of each, with :math:`t_j` the time of
    the other end's last event. Counts: :class:`~graphmem.nn.SignedHistoryFeatures`. Decoder:
    :class:`~graphmem.nn.SignedDecoder`.

    Neither sign nor weight of an event is an input before :meth:`update` was called with it.

    Args:
        num_nodes: N.
        msg_dim: D, width of e.
        features: what the decoder reads: the "memory", the "history" of counts (no memory is kept then), or "both".
        out_channels: K: 1 for a sign, a link or a weight, 3 for classes positive, negative and no link.
        memory_dim: d, width of each of the two states (the released checkpoints' 64).
        time_dim: of the time code, which memory and attention share.
        embedding_dim: width of the attention's output.
        num_neighbors: latest events of a node that it attends to; 0 for no propagation (the released "noprop").
        heads: of the attention.
        dropout: of the attention coefficients.
        sign_in_edge: whether the attention reads the signs of past events, which the released code's does not.
        decoder: "mlp" or "linear", see :class:`~graphmem.nn.SignedDecoder`.
        hidden_channels: of the decoder.
        decoder_dropout: likewise.
        time_dtype: of times, int64 or float64.
        **memory_options: of :class:`~graphmem.nn.SignedMemory`.

    Raises:
        ArgumentError: options that are unknown or do not fit each other.
    """

    reads_signs = True

    def __init__(
        self,
        num_nodes: int,
        msg_dim: int = 0,
        *,
        features: str = "both",
        out_channels: int = 1,
        memory_dim: int = 64,
        time_dim: int = 32,
        embedding_dim: int = 64,
        num_neighbors: int = 10,
        heads: int = 8,
        dropout: float = 0.5,
        sign_in_edge: bool = True,
        decoder: str = "mlp",
        hidden_channels: int = 64,
        decoder_dropout: float = 0.0,
        time_dtype: torch.dtype = torch.int64,
        **memory_options: Any,
    ) -> None:
        super().__init__()
        _check.choice("features", features, FEATURES)
        _check.integer("msg_dim", msg_dim)
        _check.integer("num_neighbors", num_neighbors)
        if out_channels not in (1, 3):
            raise ArgumentError(f"out_channels: expected 1 or 3, got {out_channels!r}")
        if features == "history" and memory_options:
            raise ArgumentError(f"features: 'history' keeps no memory, which {sorted(memory_options)} are options of")
        self.features, self.sign_in_edge, self._out_channels = features, sign_in_edge, out_channels
        self.msg_dim, self._time_dtype = msg_dim, time_dtype
        self.memory: SignedMemory | None = None
        self.neighbors: EdgeNeighbors | None = None
        self.attention: TemporalAttention | None = None
        width = 0
        if features != "history":
            self.memory = SignedMemory(
                num_nodes, 1 + msg_dim, memory_dim, time_dim, time_dtype=time_dtype, **memory_options
            )
            width = 2 * memory_dim
        if self.memory is not None and num_neighbors:
            edge_dim = 2 + int(sign_in_edge) + msg_dim
            self.neighbors = EdgeNeighbors(num_nodes, num_neighbors, edge_dim, dtype=time_dtype)
            self.attention = TemporalAttention(
                width, embedding_dim, edge_dim, self.memory.time_enc, heads=heads, dropout=dropout
            )
            width = embedding_dim
        self.history = SignedHistoryFeatures(num_nodes) if features != "memory" else None
        counted = 0 if self.history is None else self.history.out_channels
        options: dict[str, Any] = {"hidden_channels": hidden_channels, "kind": decoder, "dropout": decoder_dropout}
        self.decoder = SignedDecoder(width, counted, out_channels, **options)

    def reset_parameters(self) -> None:
        """Draw all weights anew and forget what the memory knows."""
        for module in (self.memory, self.attention, self.decoder):
            if module is not None:
                module.reset_parameters()

    @property
    def num_nodes(self) -> int:
        """N."""
        state = self.history if self.memory is None else self.memory
        assert state is not None
        return state.num_nodes

    @property
    def time_dtype(self) -> torch.dtype:
        """Of times, int64 or float64."""
        return self._time_dtype

    @property
    def num_outputs(self) -> int:
        """K, logits of a pair."""
        return self._out_channels

    @property
    def correctable(self) -> Correctable:
        """The signed memory: rows of both states of a node.

        Raises:
            ArgumentError: none is kept, with ``features="history"``.
        """
        if self.memory is None:
            raise ArgumentError('pres: features="history" keeps no memory that it could correct')
        return self.memory

    def aux_loss(self, share: Callable[[Tensor], Tensor] | None = None) -> Tensor | None:
        """The coherence of PRES, where it corrects the memory; see :meth:`TemporalLinkModel.aux_loss`."""
        return None if self.memory is None else self.memory.aux_loss(share)

    def score(self, src: Tensor, dst: Tensor, t: Tensor) -> Tensor:
        """Logits [B, C] of candidates dst int64 [B, C] of sources int64 [B], at times [B].

        With three classes it is the log-odds of a link of either sign.
        """
        out = self.outputs(src, dst, t)
        return out[..., 0] if self.num_outputs == 1 else out[..., :2].logsumexp(-1) - out[..., 2]

    def outputs(self, src: Tensor, dst: Tensor, t: Tensor) -> Tensor:
        """All outputs [B, C, K] of candidates; arguments as for :meth:`score`."""
        src, dst, t = self._checked(src, dst, t)
        nodes, place = distinct(torch.cat((src, dst.view(-1))))
        source, destination = place[: src.numel()].repeat_interleave(dst.size(1)), place[src.numel() :]
        z = None if self.memory is None else self.embed(nodes)
        counted = None if self.history is None else self.history(nodes[source], nodes[destination])
        out: Tensor = self.decoder(z, source, destination, counted)
        return out.view(*dst.shape, self.num_outputs)

    def embed(self, nodes: Tensor) -> Tensor:
        """Embeddings [n, embedding_dim] of distinct nodes int64 [n]."""
        assert self.memory is not None
        if self.neighbors is None or self.attention is None:
            state: Tensor = self.memory(nodes)[0]
            return state
        found, edge = self.neighbors.query_edges(nodes)
        read, place = distinct(torch.cat((nodes, found.nbr.view(-1))))
        state, clock = self.memory.read(read)
        place = place[nodes.numel() :].view(found.nbr.shape)  # -1 where there is no event
        age = scaled(clock.amax(1)[place] - found.t, self.memory.time_scale)
        eid = torch.arange(place.numel(), device=place.device).view(place.shape)
        out: Tensor = self.attention(state, place, age, edge.flatten(0, 1), eid)
        return out

    @torch.no_grad()
    def update(self, events: EventStream) -> None:
        """Take in events that happened, in order: their signs and weights are those of ``events.weight``.

        Raises:
            ArgumentError: no weights, weights that are 0, or messages that do not fit.
        """
        self._check_links(events)
        # Whoever checks most comes first: events that do not fit change nothing.
        weight, sign = signed_weights(events)
        dtype = self.decoder.lin_final.weight.dtype
        parts = [weight.to(dtype).abs().log1p().unsqueeze(1)]
        if self.msg_dim:
            dim, kinds = (len(events), self.msg_dim), tuple(dict.fromkeys((torch.float32, dtype)))
            msg = _check.tensor("events.msg", events.msg, shape=dim, dtypes=kinds, device=weight.device)
            parts.append(msg.to(dtype))
        types = None if self.memory is None else event_kinds(events, self.memory.pres)
        if self.neighbors is not None:
            self._remember(self.neighbors, events, sign, parts)
        if self.memory is not None:
            self.memory.update_state(events.src, events.dst, events.t, torch.cat(parts, 1), sign, types)
        if self.history is not None:
            self.history.insert(events.src, events.dst, sign)
        self._advance(events)

    def _remember(self, neighbors: EdgeNeighbors, events: EventStream, sign: Tensor, parts: list[Tensor]) -> None:
        dtype, device = parts[0].dtype, parts[0].device
        direction = torch.tensor((1.0, -1.0), dtype=dtype, device=device).repeat(len(events)).unsqueeze(1)
        columns = [*parts, *([sign.unsqueeze(1).to(dtype)] if self.sign_in_edge else [])]
        edge = torch.cat((direction, torch.cat(columns, 1).repeat_interleave(2, 0)), 1)
        neighbors.insert_edges(events.src, events.dst, events.t, edge, events.eid)

    def extra_repr(self) -> str:
        """Show what is not seen in the modules."""
        return f"{self.num_nodes}, features={self.features!r}"


__all__ = ["FEATURES", "SEMBA"]
