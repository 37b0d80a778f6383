"""What NAT does by one operator of the whole model: scores, with and without gradient, and the taking in of events."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from graphmem.data.stream import EventStream
from graphmem.errors import ArgumentError
from graphmem.models.messages import ReadsMessages
from graphmem.models.nat_weights import LayersOfNAT, PreparedNAT, ReadNAT
from graphmem.nn.functional import draw_seed
from graphmem.nn.neighbor_cache import NeighborCache
from graphmem.ops import NATIVE, distinct
from graphmem.ops.nat import nat_enter, nat_score_unchecked, nat_update_unchecked
from graphmem.ops.nat_train import nat_train_unchecked


class NATAtOnce(ReadsMessages):
    """The state of NAT, on which its operators work where they apply; else :class:`~graphmem.models.NAT` composes."""

    cache: NeighborCache
    state: Tensor
    gap: Tensor
    other: Tensor
    heads: int
    dropout: float
    time: str

    def __init__(self) -> None:
        super().__init__()
        self._layers: LayersOfNAT | None = None
        self._prepared: PreparedNAT | None = None
        self._last_read: ReadNAT | None = None

    def _usable_layers(self) -> LayersOfNAT | None:
        """The layers, as operators of the whole model take them; ``None`` where none applies."""
        layers = self._layers
        if layers is None or not layers.are_of(self):
            self._layers = layers = LayersOfNAT(self)
        state = self._buffers["state"]
        applies = NATIVE and layers.usable and state is not None and state.is_cpu
        return layers if applies and not torch.compiler.is_compiling() else None

    def _stored(self) -> tuple[Tensor | None, ...]:
        """What operators of the whole model are given first."""
        own, cells = self._buffers, self._modules["cache"]._buffers  # type: ignore[union-attr]
        told: tuple[Tensor | None, Tensor | None] = (None, None)
        if self.msg_dim and int(self.position):
            told = self._told()
        stored = cells["key"], cells["eid"], cells["time"], cells["value"], own["state"], own["other"], own["gap"]
        return *stored, *told

    def _at_once(self) -> tuple[Any, ...] | None:
        """State, weights and options for the operators without gradient; ``None`` where none applies."""
        layers = self._usable_layers()
        if layers is None:
            return None
        prepared = self._prepared
        if prepared is None or not prepared.holds(layers):
            if self.training:  # weights change before they would be read a second time
                return None
            self._prepared = prepared = PreparedNAT(self, layers)
        return *self._stored(), prepared.weights, *prepared.options

    def _train_at_once(self, src: Tensor, dst: Tensor, t: Tensor) -> Tensor | None:
        """What :meth:`score` returns, by an operator with a gradient; ``None`` where it does not apply."""
        layers = self._usable_layers()
        if layers is None or torch.is_autocast_enabled("cpu"):
            return None
        seed = draw_seed() if self.training and self.dropout > 0 else None
        try:
            return self._learn_at_once(layers, seed, src, dst, t)
        except (ArgumentError, RuntimeError, TypeError, AttributeError):
            # The checks say why, or make what does not fit contiguous.
            return self._learn_at_once(layers, seed, *self._checked(src, dst, t))

    def _learn_at_once(self, layers: LayersOfNAT, seed: int | None, src: Tensor, dst: Tensor, t: Tensor) -> Tensor:
        if dst.dim() != 2 or not src.shape == t.shape == dst.shape[:1]:  # the operator sees places alone
            src, dst, t = self._checked(src, dst, t)
        nodes, place = distinct(torch.cat((src, dst.view(-1))))
        how = self.heads, 0.0 if seed is None else self.dropout, seed or 0
        layout, delta = self.cache.layout.options, self.time == "delta"
        scores, own, now = nat_train_unchecked(self._stored(), layers.listed, layout, delta, nodes, place, t, *how)
        self._last_read = ReadNAT(self, layers, nodes, own, now)
        return scores.view(dst.shape)

    def _score_at_once(self, src: Tensor, dst: Tensor, t: Tensor) -> Tensor | None:
        """What :meth:`score` returns, by one operator; ``None`` where it does not apply."""
        given = self._at_once()
        if given is None:
            return None
        try:
            return nat_score_unchecked(*given, src, dst, t)
        except (RuntimeError, TypeError):  # the checks say why, or make what does not fit contiguous
            return nat_score_unchecked(*given, *self._checked(src, dst, t))

    def _enter_at_once(self, given: tuple[Any, ...], events: EventStream, asked: Tensor | None) -> Tensor:
        """Write all state but messages by one operator, behind scores of candidates."""
        if self._last_read is not None:  # a module's attributes are slow to set, and online there is none
            self._last_read = None
        if self.messages is not None:
            self._keep_messages(events)
        cache: Any = self._modules["cache"]
        how = events.first, cache.replace_prob, cache.semantics == "sequential"
        columns = events.src.contiguous(), events.dst.contiguous(), events.t.contiguous()
        return nat_update_unchecked(*given, *columns, asked, *how)

    def _enter_again(self, read: ReadNAT, events: EventStream) -> bool:
        """The same with what was read before, where it still holds and has all nodes of the events."""
        layers = self._usable_layers()
        if layers is None or not read.holds(self, layers):
            return False
        count = read.nodes.numel()
        at = distinct(torch.cat((read.nodes, events.src, events.dst)))[1][count:]
        if int(at.max()) >= count:
            return False
        self._keep_messages(events)
        self._write(events, read.nodes, at, read.own, read.now)
        return True

    def _write(self, events: EventStream, nodes: Tensor, at: Tensor, own: Tensor, now: Tensor) -> None:
        cache = self.cache
        state = cache.key, cache.eid, cache.time, cache.value, self.state, self.other, self.gap
        entering = events.src.contiguous(), events.dst.contiguous(), events.t.contiguous(), events.eid, nodes, at
        how = *cache.layout.options, cache.replace_prob, cache.semantics == "sequential"
        nat_enter(*state, *entering, own.contiguous(), now.contiguous(), *how)
