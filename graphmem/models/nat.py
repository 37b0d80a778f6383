"""NAT: joint neighbourhoods of a pair, out of dictionaries of neighbours.

Source: Y. Luo, P. Li, "Neighborhood-Aware Scalable Temporal Network Representation Learning", LoG 2022 (arXiv
2209.01084), repository Graph-COM/Neighborhood-Aware-Temporal-Network.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from graphmem.data.stream import EventStream
from graphmem.models.messages import ReadsMessages
from graphmem.nn.cells import GRUCell
from graphmem.nn.functional import Linear, dropout, gather_rows, gather_sum, linear
from graphmem.nn.joint import Joint, joint_keys, known_slots
from graphmem.nn.link_predictor import PairMLP
from graphmem.nn.neighbor_cache import CacheRows, NeighborCache, halves, last_of
from graphmem.nn.time import TimeEncoder
from graphmem.ops import _check, distinct

PAIRS_AT_ONCE = 4096
"""Pairs whose joint neighbourhoods are held at once in evaluation: about 5 kB each with 49 slots a node."""


class _Read(NamedTuple):
    state: Tensor
    """[n, memory_dim], states of the nodes with their last event applied."""
    rows: CacheRows
    """Their dictionaries; values as stored."""
    value: Tensor
    """[n, L, F], values with the events of their slots applied."""
    last: Tensor
    """[n], times of the nodes' last events; 0 before the first."""


class NAT(ReadsMessages):
    r"""Scores of pairs from what their ends' caches have in common; see :class:`~graphmem.nn.NeighborCache`.

    What is stored lags one event behind, so that a gradient reaches the cells through one step. With
    :math:`\phi` the time code, :math:`e` the message of the event that a slot holds and :math:`s_a` the stored state
    of its key:

    .. math:: s'_u = \mathrm{GRU}_D([s_{\mathrm{opp}}; e; \phi(\delta_u)]\,W_s,\; s_u), \qquad
        z'_{u,a} = \mathrm{GRU}_F([s_a; e; \phi(\delta_{u,a})]\,W_n,\; z_{u,a})

    For each node a that any dictionary of u or v holds, :math:`\zeta_a` is the sum of its values,
    :math:`m_a` the 2 (H + 1) bits that say which dictionaries hold it, and

    .. math:: h_a = [\zeta_a;\; \mathrm{Emb}(m_a);\; \ln(1 + t - t_{u,a});\; \ln(1 + t - t_{v,a})], \qquad
        \mathrm{logit}_{uv} = \mathrm{MLP}([\mathrm{pool}_a\, h_a;\; s'_u;\; s'_v;\; \tau_u;\; \tau_v])

    with :math:`\tau` the logarithm of the time since a node's last event, 0 before its first.

    Args:
        num_nodes: N.
        msg_dim: width of e; with messages call :meth:`prepare` with the stream first or, where it has no end,
            :meth:`follow`.
        memory_dim: D, width of s (the released code's 72).
        value_dim: F, width of z.
        sizes: slots of each hop.
        position_dim: width of Emb (the released code's 16).
        pool_dim: width of the pooled neighbourhood of each head.
        time_dim: of the time codes.
        heads: of the pooling.
        pool: "attn", per head the mean of :math:`W h_a` under a softmax over the neighbourhood of
            :math:`\mathrm{LeakyReLU}(w^\top W h_a)`, GAT's score; or "sum", the sum of :math:`W h_a` and one
            bias, averaged over heads: what the released code computes, where the attention's result is dropped.
        time: "delta": a slot's :math:`\delta` is the time of the owner's last event minus that of the slot's, and a
            node's the time between its last two events; or "absolute", times as they are and no times in h and
            the decoder, as in the released code.
        dropout: of pooled neighbourhoods.
        replace_prob: see :class:`~graphmem.nn.NeighborCache`.
        hash: likewise.
        seed: likewise.
        time_dtype: of times, int64 or float64.

    Raises:
        ArgumentError: options that are unknown.
    """

    state: Tensor
    gap: Tensor
    other: Tensor

    def __init__(
        self,
        num_nodes: int,
        msg_dim: int = 0,
        *,
        memory_dim: int = 72,
        value_dim: int = 4,
        sizes: Sequence[int] = (32, 16),
        position_dim: int = 16,
        pool_dim: int = 32,
        time_dim: int = 16,
        heads: int = 2,
        pool: str = "attn",
        time: str = "delta",
        dropout: float = 0.1,
        replace_prob: float = 0.9,
        hash: str = "mix",
        seed: int = 0,
        time_dtype: torch.dtype = torch.int64,
    ) -> None:
        super().__init__()
        for name, value in (("memory_dim", memory_dim), ("pool_dim", pool_dim), ("heads", heads)):
            _check.integer(name, value, 1)
        self.pool = _check.choice("pool", pool, ("attn", "sum"))
        self.time = _check.choice("time", time, ("delta", "absolute"))
        self.msg_dim, self.dropout, self.heads = msg_dim, dropout, heads
        self.cache = NeighborCache(
            num_nodes, sizes, value_dim, replace_prob=replace_prob, hash=hash, seed=seed, dtype=time_dtype
        )
        self.register_state("state", (num_nodes, memory_dim))
        # The other end of a node's last event; number and time of that event are in the cache's own entry.
        self.register_state("other", (num_nodes,), dtype=torch.int64, fill=-1)
        self.register_state("gap", (num_nodes,), dtype=time_dtype)
        self.time_enc = TimeEncoder(time_dim, init="log")
        width = memory_dim + time_dim + msg_dim
        self.lin_state, self.lin_value = Linear(width, memory_dim, bias=False), Linear(width, value_dim, bias=False)
        self.state_cell, self.value_cell = GRUCell(memory_dim, memory_dim), GRUCell(value_dim, value_dim)
        self.position_emb = nn.Embedding(4 ** (len(self.cache.sizes) + 1), position_dim)
        clocks = 2 if time == "delta" else 0
        self.lin_pool = Linear(value_dim + position_dim + clocks, heads * pool_dim)
        self.attn = nn.Parameter(torch.empty(heads, pool_dim)) if pool == "attn" else None
        pooled = pool_dim * (heads if pool == "attn" else 1)
        self.predictor = PairMLP(pooled + 2 * memory_dim + clocks, memory_dim + pool_dim)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all weights anew."""
        layers: list[Any] = [self.time_enc, self.lin_state, self.lin_value, self.state_cell, self.value_cell]
        for layer in (*layers, self.position_emb, self.lin_pool, self.predictor):
            layer.reset_parameters()
        if self.attn is not None:
            nn.init.xavier_uniform_(self.attn)

    @property
    def num_nodes(self) -> int:
        """N."""
        return self.other.numel()

    @property
    def time_dtype(self) -> torch.dtype:
        """Of times, int64 or float64."""
        return self.gap.dtype

    @property
    def _referred(self) -> Callable[[], Tensor]:
        return self.cache.events

    def score(self, src: Tensor, dst: Tensor, t: Tensor) -> Tensor:
        """Logits [B, C] of candidates dst int64 [B, C] of sources int64 [B], at times [B]."""
        src, dst, t = self._checked(src, dst, t)
        nodes, place = distinct(torch.cat((src, dst.view(-1))))
        read = self._read(nodes)
        known = known_slots(self.cache, read.rows)
        first, second = place[: src.numel()].repeat_interleave(dst.size(1)), place[src.numel() :]
        when = t.repeat_interleave(dst.size(1))
        parts = zip(*(x.split(PAIRS_AT_ONCE) for x in (first, second, when)), strict=True)
        scores = torch.cat([self._decode(read, joint_keys(known, u, v), u, v, now) for u, v, now in parts])
        return scores.view(dst.shape)

    def _read(self, nodes: Tensor) -> _Read:
        """Apply the events that were stored unapplied, for distinct nodes."""
        rows, state, other = self.cache.rows(nodes), self.state[nodes], self.other[nodes]
        n, slots = rows.key.shape
        last = rows.time[:, 0]
        # Rows of the node cell, then of the slots: an event each.
        known = rows.eid >= 0
        node, owner_slot = ((other >= 0) & known[:, 0]).nonzero().view(-1), known.flatten().nonzero().view(-1)
        if self.time == "delta":
            steps = torch.cat((self.gap[nodes][node], (last.unsqueeze(1) - rows.time).flatten()[owner_slot]))
        else:
            steps = torch.cat((last[node], rows.time.flatten()[owner_slot]))
        code = self.time_enc(steps).split([node.numel(), owner_slot.numel()])
        inputs = self._input(self.lin_state, self.state[other[node]], None, rows.eid[node, 0], code[0])
        state = state.index_copy(0, node, self.state_cell(inputs, state[node]))
        # A key's part of the input is computed once, however many dictionaries hold it.
        keys, at = distinct(rows.key.flatten()[owner_slot])
        value = rows.value.flatten(0, 1)
        inputs = self._input(self.lin_value, self.state[keys], at, rows.eid.flatten()[owner_slot], code[1])
        value = value.index_copy(0, owner_slot, self.value_cell(inputs, value[owner_slot]))
        return _Read(state, rows, value.view(n, slots, value.size(1)), last)

    def _input(self, layer: Linear, state: Tensor, at: Tensor | None, eid: Tensor, code: Tensor) -> Tensor:
        """The layer of states [m] (rows ``at`` of them), time codes and messages, by parts."""
        widths = [state.size(1), code.size(1), self.msg_dim]
        of_state, of_time, of_message = layer.weight.split(widths, dim=1)
        from_state = state @ of_state.t()
        out: Tensor = (from_state if at is None else gather_rows(from_state, at)) + code @ of_time.t()
        if self.msg_dim and eid.numel():
            messages, row = self._look_up(eid)
            assert messages is not None
            out = out + messages[row] @ of_message.t()
        return out

    def _decode(self, read: _Read, joint: Joint, u: Tensor, v: Tensor, t: Tensor) -> Tensor:
        """Logits [P] of pairs of rows of what was read, at times [P]."""
        value = read.value.flatten(0, 1)
        zeta = gather_sum(joint.slot_ptr, joint.slot, value)
        parts = [zeta, gather_rows(self.position_emb.weight, joint.mask)]
        tau: list[Tensor] = []
        if self.time == "delta":
            when = read.rows.time.flatten()
            ages = [_age(t[joint.pair] - when[at], at >= 0, zeta.dtype) for at in (joint.first, joint.second)]
            parts.append(torch.stack(ages, dim=1))
            met = read.rows.eid[:, 0] >= 0
            tau = [_age(t - read.last[x], met[x], zeta.dtype).unsqueeze(1) for x in (u, v)]
        pooled = self._pool(torch.cat(parts, dim=1), joint)
        pooled = dropout(pooled, self.dropout, self.training)
        ends = [gather_rows(read.state, x) for x in (u, v)]
        out: Tensor = self.predictor(torch.cat((pooled, *ends, *tau), dim=1))
        return out

    def _pool(self, h: Tensor, joint: Joint) -> Tensor:
        """[R, in] of the keys to [P, ...] of the pairs. A mean of W h + b is W (mean of h) + b: pairs are projected."""
        every = torch.arange(h.size(0), device=h.device)
        if self.attn is None:
            by_head: Tensor = self.lin_pool(gather_sum(joint.ptr, every, h)).unflatten(1, (self.heads, -1))
            return by_head.mean(1)
        weights, biases = self.lin_pool.weight.chunk(self.heads), self.lin_pool.bias.chunk(self.heads)
        queries = torch.stack([a @ weight for a, weight in zip(self.attn, weights, strict=True)])
        constants = (self.attn * self.lin_pool.bias.view_as(self.attn)).sum(1)
        score = nn.functional.leaky_relu(linear(h, queries, constants), 0.2)
        pairs = joint.ptr.numel() - 1
        index = joint.pair.unsqueeze(1).expand_as(score)
        top = score.new_full((pairs, self.heads), -torch.inf).scatter_reduce(0, index, score.detach(), "amax")
        weight = (score - gather_rows(top, joint.pair)).exp()
        share = weight / gather_rows(gather_sum(joint.ptr, every, weight), joint.pair)
        means = [gather_sum(joint.ptr, every, h, part.contiguous()) for part in share.unbind(1)]
        return torch.cat([linear(*head) for head in zip(means, weights, biases, strict=True)], dim=1)

    @torch.no_grad()
    def update(self, events: EventStream) -> None:
        """Take in events that happened: caches, and the last event of each node, its state with the one before."""
        if len(events) == 0:
            return
        nodes, at = distinct(torch.cat((events.src, events.dst)))
        read = self._read(nodes)
        last = last_of(halves(*at.chunk(2)), nodes.numel())
        met = read.rows.eid[:, 0] >= 0
        self.gap[nodes] = torch.where(met, halves(events.t, events.t)[last] - read.last, 0)
        self.other[nodes], self.state[nodes] = halves(events.dst, events.src)[last], read.state
        self.cache.commit(events.src, events.dst, events.t, events.eid, nodes, at, read.value)
        self._keep_messages(events)
        self._advance(events)

    def extra_repr(self) -> str:
        """Show what is not seen in the modules."""
        return f"{self.num_nodes}, pool={self.pool!r}, time={self.time!r}"


def _age(dt: Tensor, known: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.where(known, dt.clamp(min=0).double().log1p(), 0).to(dtype)


__all__ = ["NAT"]
