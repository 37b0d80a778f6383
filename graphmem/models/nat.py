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
from graphmem.errors import ArgumentError
from graphmem.models.nat_at_once import NATAtOnce
from graphmem.models.nat_reference import DEFAULTS, pooled_key_by_key, unmet
from graphmem.nn.cells import GRUCell
from graphmem.nn.functional import Linear, dropout, gather_rows, linear
from graphmem.nn.link_predictor import PairMLP
from graphmem.nn.neighbor_cache import NeighborCache
from graphmem.nn.node_features import NodeFeatures
from graphmem.nn.time import TimeEncoder
from graphmem.ops import CellWeights, _check, distinct, matmul
from graphmem.ops.memory_gru import memory_gru_unchecked
from graphmem.ops.ncache import ncache_pool_unchecked

PAIRS_AT_ONCE = 4096
"""Pairs that are decoded at once in evaluation."""


class _Read(NamedTuple):
    nodes: Tensor
    """int64 [n], distinct."""
    state: Tensor
    """[n, memory_dim], their states with their last event applied."""
    value: Tensor
    """[n, L, F], values of their slots with the events of these applied."""


class NAT(NATAtOnce):
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

    with :math:`t_{u,a}` the time of the event in the slot of u's smallest hop that holds a, and :math:`\tau` the
    logarithm of one more than the time since a node's last event; all of them 0 where there is no event. So scores do
    not change when all times are moved.

    With node features x, :math:`\zeta_a` is preceded by :math:`x_a` times the number of dictionaries that hold a, as in
    the released code.

    Args:
        num_nodes: N.
        msg_dim: width of e; with messages call :meth:`prepare` with the stream first or, where it has no end,
            :meth:`follow`.
        compat: "clean", or "reference" for what the released code computes: other defaults (:data:`DEFAULTS`); the
            state of a node without an event is :math:`\mathrm{GRU}_D([0; 0; \phi(0)]\,W_s,\; 0)` where it is read,
            not 0; dropout of every :math:`h_a` and every :math:`W h_a`, not of the pooled; a decoder as wide as its
            input; and the released initialisation of pooling and decoder.
        memory_dim: D, width of s (the released code's 72).
        value_dim: F, width of z.
        sizes: slots of each hop.
        position_dim: width of Emb (the released code's 16).
        pool_dim: width of the pooled neighbourhood of each head, 32; in the reference mode that of the node features.
        time_dim: of the time codes, 16; in the reference mode 1.
        heads: of the pooling.
        pool: "attn", per head the mean of :math:`W h_a` under a softmax over the neighbourhood of
            :math:`\mathrm{LeakyReLU}(w^\top W h_a)`, GAT's score; or "sum", the sum of :math:`W h_a` and one
            bias, averaged over heads: what the released code computes, where the attention's result is dropped.
        time: "delta": a slot's :math:`\delta` is the time of the owner's last event minus that of the slot's, and a
            node's the time between its last two events; or "absolute", times as they are and no times in h and
            the decoder, as in the released code.
        dropout: of pooled neighbourhoods.
        refresh_hop2: whether a value of the second hop, which the cell has made before it was copied there, passes it
            again where it is read: as in the released code, where the paper's Algorithm 1 has a plain copy.
        replace_prob: see :class:`~graphmem.nn.NeighborCache`.
        hash: likewise.
        seed: likewise; a run of the engine takes its own seed.
        semantics: likewise.
        key_dtype: likewise.
        value_dtype: likewise.
        node_feat: x, floating point [N, d].
        time_dtype: of times, int64 or float64.

    Raises:
        ArgumentError: options that are unknown or, as attention in the reference mode, do not fit each other; or
            features of another shape.
    """

    def __init__(
        self,
        num_nodes: int,
        msg_dim: int = 0,
        *,
        compat: str = "clean",
        memory_dim: int = 72,
        value_dim: int = 4,
        sizes: Sequence[int] = (32, 16),
        position_dim: int = 16,
        pool_dim: int | None = None,
        time_dim: int | None = None,
        heads: int = 2,
        pool: str | None = None,
        time: str | None = None,
        dropout: float = 0.1,
        refresh_hop2: bool = True,
        replace_prob: float = 0.9,
        hash: str | None = None,
        seed: int = 0,
        semantics: str = "prebatch",
        key_dtype: str | torch.dtype = torch.int64,
        value_dtype: str | torch.dtype = torch.float32,
        node_feat: Tensor | None = None,
        time_dtype: torch.dtype = torch.int64,
    ) -> None:
        super().__init__()
        self.compat = _check.choice("compat", compat, tuple(DEFAULTS))
        self.features = None if node_feat is None else NodeFeatures(node_feat, num_nodes)
        default = dict(DEFAULTS[compat])
        if compat == "reference" and self.features is not None:
            default["pool_dim"] = self.features.x.size(1)
        given = {"pool": pool, "time": time, "hash": hash, "time_dim": time_dim, "pool_dim": pool_dim}
        chosen = default | {name: value for name, value in given.items() if value is not None}
        self.pool = _check.choice("pool", chosen["pool"], ("attn", "sum"))
        self.time = _check.choice("time", chosen["time"], ("delta", "absolute"))
        if compat == "reference" and self.pool != "sum":
            raise ArgumentError(f"pool: expected 'sum' with compat='reference', got {pool!r}")
        options: dict[str, Any] = {"replace_prob": replace_prob, "hash": chosen["hash"], "seed": seed}
        options |= {"semantics": semantics, "key_dtype": key_dtype, "value_dtype": value_dtype}
        self.cache = NeighborCache(num_nodes, sizes, value_dim, dtype=time_dtype, **options)
        self.register_state("state", (num_nodes, memory_dim))
        # The other end of a node's last event; number and time of that event are in the cache's own entry.
        self.register_state("other", (num_nodes,), dtype=torch.int64, fill=-1)
        self.register_state("gap", (num_nodes,), dtype=time_dtype)
        self.msg_dim, self.dropout, self.heads, self.refresh_hop2 = msg_dim, dropout, heads, refresh_hop2
        self._make_layers(memory_dim, position_dim, chosen["time_dim"], chosen["pool_dim"])
        self.reset_parameters()

    def _make_layers(self, memory_dim: int, position_dim: int, time_dim: int, pool_dim: int) -> None:
        for name, value in (("memory_dim", memory_dim), ("pool_dim", pool_dim), ("heads", self.heads)):
            _check.integer(name, value, 1)
        value_dim, heads = self.cache.value_dim, self.heads
        self.time_enc = TimeEncoder(time_dim, init="log")
        width = memory_dim + time_dim + self.msg_dim
        self.lin_state, self.lin_value = Linear(width, memory_dim, bias=False), Linear(width, value_dim, bias=False)
        self.state_cell, self.value_cell = GRUCell(memory_dim, memory_dim), GRUCell(value_dim, value_dim)
        self.position_emb = nn.Embedding(4 ** (len(self.cache.layout.sizes) + 1), position_dim)
        clocks = 2 if self.time == "delta" else 0
        features = 0 if self.features is None else self.features.x.size(1)
        self.lin_pool = Linear(features + value_dim + position_dim + clocks, heads * pool_dim)
        self.attn = nn.Parameter(torch.empty(heads, pool_dim)) if self.pool == "attn" else None
        pooled = pool_dim * (heads if self.pool == "attn" else 1)
        read = pooled + 2 * memory_dim + clocks
        self.predictor = PairMLP(read, read if self.compat == "reference" else memory_dim + pool_dim)

    def reset_parameters(self) -> None:
        """Draw all weights anew."""
        layers: list[Any] = [self.time_enc, self.lin_state, self.lin_value, self.state_cell, self.value_cell]
        for layer in (*layers, self.position_emb, self.lin_pool, self.predictor):
            layer.reset_parameters()
        if self.attn is not None:
            nn.init.xavier_uniform_(self.attn)
        if self.compat == "reference":
            nn.init.xavier_uniform_(self.lin_pool.weight)
            nn.init.zeros_(self.lin_pool.bias)
            for layer in (self.predictor.lin_hidden, self.predictor.lin_final):
                nn.init.xavier_normal_(layer.weight)

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
        """Logits [B, C] of candidates dst int64 [B, C] of sources int64 [B], at times [B].

        On the CPU by one operator: without gradient and dropout by :func:`graphmem.ops.nat_score`, which keeps what it
        needs of the weights for as long as none changes (what is written to ``weight.data`` is not noticed), and with
        gradient by :func:`graphmem.ops.nat_train`, whose nodes an :meth:`update` that follows need not read again.
        """
        scores = None
        if torch.is_grad_enabled():
            scores = self._train_at_once(src, dst, t)
        elif not (self.training and self.dropout):
            scores = self._score_at_once(src, dst, t)
        if scores is not None:
            return scores
        src, dst, t = self._checked(src, dst, t)
        nodes, place = distinct(torch.cat((src, dst.view(-1))))
        read = self._with_features(self._read(nodes))
        first, second = place[: src.numel()].repeat_interleave(dst.size(1)), place[src.numel() :]
        when = t.repeat_interleave(dst.size(1))
        if first.numel() <= PAIRS_AT_ONCE or torch.is_grad_enabled():
            return self._decode(read, first, second, when).view(dst.shape)
        parts = zip(*(x.split(PAIRS_AT_ONCE) for x in (first, second, when)), strict=True)
        return torch.cat([self._decode(read, *part) for part in parts]).view(dst.shape)

    def _read(self, nodes: Tensor) -> _Read:
        """Apply the events that were stored unapplied, for distinct nodes."""
        cache = self.cache
        event = cache.eid[nodes, 0]
        other = torch.where(event >= 0, self.other[nodes], -1)
        dt = self.gap[nodes] if self.time == "delta" else cache.time[nodes, 0]
        code = self.time_enc.lin.weight.view(-1), self.time_enc.lin.bias
        message, messages, row = self.state.new_empty(nodes.numel(), 0), None, None
        if self.msg_dim and int(self.position):  # before the first event there are none to look up
            messages, row = self._look_up(cache.eid[nodes])
            assert messages is not None
            message = messages[row[:, 0].clamp(min=0)]
        elif self.msg_dim:
            messages, row = self.state.new_zeros(1, self.msg_dim), torch.zeros_like(cache.eid[nodes])
            message = messages.new_zeros(nodes.numel(), self.msg_dim)
        # The layer before the cell has no bias: one product of weights instead of one for every row.
        cell, weights = self.state_cell, matmul(self.state_cell.weight_ih, self.lin_state.weight)
        of_cell = weights, cell.weight_hh, cell.bias_ih, cell.bias_hh
        state = memory_gru_unchecked(self.state, nodes, other, message, dt.double(), *code, *of_cell)
        if self.compat == "reference":
            state = torch.where((event >= 0).unsqueeze(1), state, unmet(self))
        cell = self.value_cell
        of_value = CellWeights(*code, self.lin_value.weight, cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh)
        value = cache.refresh(nodes, self.state, of_value, messages, row, delta=self.time == "delta")
        if not self.refresh_hop2:
            near = 1 + cache.layout.sizes[0]
            value = torch.cat((value[:, :near], cache.value[nodes, near:].to(value.dtype)), 1)
        return _Read(nodes, state, value)

    def _with_features(self, read: _Read) -> _Read:
        """What was read, with the features of each slot's key in front of its value."""
        if self.features is None:
            return read
        key = self.cache.key[read.nodes].long().clamp(min=0)
        key[:, 0] = read.nodes
        return read._replace(value=self.features.beside(key, read.value))

    def pooling(self) -> tuple[Tensor, Tensor]:
        """W [heads, pool_dim, features] and the biases [heads, pool_dim] of the pooling, by head."""
        return self.lin_pool.weight.unflatten(0, (self.heads, -1)), self.lin_pool.bias.view(self.heads, -1)

    def queries(self, weights: Tensor, biases: Tensor) -> tuple[Tensor, Tensor] | tuple[None, None]:
        """The scores of attention as functions of the features: queries [heads, features] and constants [heads]."""
        if self.attn is None:
            return None, None
        return (self.attn.unsqueeze(1) @ weights).squeeze(1), (self.attn * biases).sum(1)

    def _pooled(self, read: _Read, u: Tensor, v: Tensor, t: Tensor | None) -> Tensor:
        """Neighbourhoods of pairs of rows, mixed, then projected: a mean of W h + b is W (mean of h) + b."""
        cache = self.cache
        weights, biases = self.pooling()
        cells, position = (cache.key, cache.eid, cache.time), self.position_emb.weight
        mixed = ncache_pool_unchecked(
            *cells, read.nodes, read.value, *cache.layout.options, u, v, t, position, *self.queries(weights, biases)
        )
        if self.attn is None:
            return self.lin_pool(mixed[0]).unflatten(1, (self.heads, -1)).mean(1)  # type: ignore[no-any-return]
        return torch.cat([linear(*head) for head in zip(mixed, weights, biases, strict=True)], dim=1)

    def _decode(self, read: _Read, u: Tensor, v: Tensor, t: Tensor) -> Tensor:
        """Logits [P] of pairs of rows of what was read, at times [P]."""
        cache, tau = self.cache, []
        when = t if self.time == "delta" else None
        if self.compat == "reference" and self.training and self.dropout:
            pooled = pooled_key_by_key(self, read.nodes, read.value, u, v, when)
        else:
            pooled = self._pooled(read, u, v, when)
        if when is not None:
            ends, met = torch.stack((u, v)), cache.eid[read.nodes, 0] >= 0
            since = (when - cache.time[read.nodes, 0][ends]).clamp(min=0).double().log1p()
            tau = [torch.where(met[ends], since, 0).to(pooled.dtype).t()]
        pooled = dropout(pooled, self.dropout, self.training and self.compat == "clean")
        states = [gather_rows(read.state, x) for x in (u, v)]
        out: Tensor = self.predictor(torch.cat((pooled, *states, *tau), dim=1))
        return out

    @torch.no_grad()
    def update(self, events: EventStream) -> None:
        """Take in events that happened: caches, and the last event of each node, its state with the one before."""
        self._check_links(events)
        if len(events) == 0:
            return
        read, self._last_read = self._last_read, None
        if read is None or not self._enter_again(read, events):
            given = self._at_once()
            if given is None:
                self._enter(events)
            else:
                self._enter_at_once(given, events, None)
        self._advance(events)

    def step(self, events: EventStream, dst: Tensor) -> Tensor:
        """Score candidates dst int64 [E, C] of the events' sources, then take in the events; reads nodes once for both.

        Returns:
            [E, C].
        """
        given = None if self.training and self.dropout else self._at_once()
        if given is None or len(events) == 0:
            return super().step(events, dst)
        if self.messages is not None:  # which are written first
            dst = self._checked(events.src, dst, events.t)[1]
        try:
            scores = self._enter_at_once(given, events, dst)
        except (RuntimeError, TypeError):  # the checks say why, or make what does not fit contiguous
            scores = self._enter_at_once(given, events, self._checked(events.src, dst, events.t)[1])
        self._advance(events)
        return scores

    def _enter(self, events: EventStream) -> None:
        """Write states, other ends and times between events, then caches."""
        nodes, at = distinct(torch.cat((events.src, events.dst)))
        read = self._read(nodes)
        self._keep_messages(events)
        self._write(events, nodes, at, read.state, read.value)

    def grow(self, num_nodes: int) -> None:
        """Make room for nodes ``0 .. num_nodes - 1`` in the model's own state.

        Raises:
            ArgumentError: fewer than there are, or more than the cache can name.
        """
        self.cache.check_size(num_nodes)  # before anything grows: the cache comes last
        super().grow(num_nodes)

    def extra_repr(self) -> str:
        """Show what is not seen in the modules."""
        return f"{self.num_nodes}, pool={self.pool!r}, time={self.time!r}, compat={self.compat!r}"


__all__ = ["NAT"]
