"""SEMBA as released, with all its habits: for audits and for comparisons of speed, not for predictions."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from graphmem.data.stream import EventStream
from graphmem.errors import ArgumentError
from graphmem.models.signs import signed_weights
from graphmem.nn.cells import GRUCell
from graphmem.nn.functional import Linear, gather_rows, gather_sum
from graphmem.nn.state import StateModule
from graphmem.nn.temporal_attention import TemporalAttention
from graphmem.nn.time import TimeEncoder
from graphmem.ops import _check, distinct

_COLUMNS = ("owner", "other", "time", "weight", "incoming")


class _Waiting(NamedTuple):
    """Half events that wait for n nodes, H in all, those of the first node first."""

    ptr: Tensor
    """int64 [n + 1], where those of each node begin."""
    row: Tensor
    """int64 [H], which node has the half."""
    at: Tensor
    """int64 [H], its place in the log."""
    negative: Tensor
    """bool [H]."""


class ReleasedSEMBA(StateModule):
    r"""Logits of the signs of a batch of events, as the released code computes them: after it has seen the batch.

    Its memory differs from :class:`~graphmem.nn.SignedMemory`, and the model from :class:`SEMBA`, in that

    - a batch's own events, with their weights, are in the graph over which it is predicted (68 % of the negative and
      2 % of the positive ratings of Bitcoin OTC have weight 10); this is why :meth:`forward` takes whole batches;
    - all past events into a node are attended to, and none out of it;
    - the negative state reads negative events only, of each both states of the other end;
    - a node keeps the events of the last batch in which it was a source, and of that in which it was a destination, of
      either sign by itself; all of them are applied, with their mean, at every read until each is replaced;
    - the cells run on nodes without a message, too, on zeros;
    - of a node that has positive events in a batch, and no negative ones, or the other way round, only those of that
      kind are applied when its state is written;
    - the clock of the positive state counts negative events, and a clock is 0 again where none of its events waits;
    - messages have no gradient, time codes read differences of times as they are;
    - in evaluation states are read as they were written, and a batch is written at once; :meth:`eval` writes what
      waits for all nodes.

    Only the nodes are read that the batch's ends or an event into one of them name: others do not show in its logits.
    The checkpoints' node features are zeros, which is to have none.

    Source: claws-lab/semba at ae75932, model "semba", task "sign_class". Defaults are those of its train.py.

    Args:
        num_nodes: N. The released loader makes a node of every user as a source and one as a destination.
        memory_dim: d, width of each of the two states.
        time_dim: of the time code.
        embedding_dim: width of the attention's output.
        heads: of the attention.
        dropout: of the attention's coefficients.
        time_dtype: of times, int64 or float64.

    Raises:
        ArgumentError: a number out of range.
    """

    memory: Tensor
    last_update: Tensor
    first: Tensor
    count: Tensor
    owner: Tensor
    other: Tensor
    time: Tensor
    weight: Tensor
    incoming: Tensor

    def __init__(
        self,
        num_nodes: int,
        *,
        memory_dim: int = 64,
        time_dim: int = 32,
        embedding_dim: int = 64,
        heads: int = 8,
        dropout: float = 0.5,
        time_dtype: torch.dtype = torch.int64,
    ) -> None:
        super().__init__()
        _check.integer("num_nodes", num_nodes)
        _check.integer("memory_dim", memory_dim, 1)
        self.memory_dim = memory_dim
        self.time_enc = TimeEncoder(time_dim)
        self.cell_pos, self.cell_neg = (GRUCell(2 * memory_dim + 1 + time_dim, memory_dim) for _ in range(2))
        self.attention = TemporalAttention(
            2 * memory_dim, embedding_dim, 1, self.time_enc, heads=heads, dropout=dropout
        )
        self.lin = Linear(2 * embedding_dim, 1)
        self.register_state("memory", (num_nodes, 2, memory_dim))
        self.register_state("last_update", (num_nodes, 2), dtype=time_dtype)
        # Where the halves that wait begin in the log, and how many they are: by sign, then by role.
        self.register_state("first", (num_nodes, 4), dtype=torch.int64)
        self.register_state("count", (num_nodes, 4), dtype=torch.int64)
        kinds = (torch.int64, torch.int64, time_dtype, torch.float32, torch.bool)
        for name, dtype in zip(_COLUMNS, kinds, strict=True):
            self.register_state(name, (0,), dtype=dtype, per_node=False)

    @property
    def num_nodes(self) -> int:
        """N."""
        return self.memory.size(0)

    def reset(self) -> None:
        """Forget everything."""
        super().reset()
        for name in _COLUMNS:
            setattr(self, name, self.get_buffer(name)[:0])

    def forget(self, nodes: Tensor | None = None, events: Tensor | None = None) -> None:
        """Not supported: raises."""
        raise ArgumentError("forget: ReleasedSEMBA is for audits and forgets all or nothing; see reset")

    def train(self, mode: bool = True) -> ReleasedSEMBA:
        """Set the mode; when training ends, what waits is written for all nodes."""
        if self.training and not mode and self.num_nodes:
            everyone = torch.arange(self.num_nodes, device=self.memory.device)
            self._write(everyone, self._both(everyone))
            self.count = torch.zeros_like(self.count)
        super().train(mode)
        return self

    def forward(self, events: EventStream) -> Tensor:
        """Logits [E] that events are positive; the events are taken in.

        Args:
            events: that follow those so far, with weights, whose signs are theirs.

        Raises:
            ArgumentError: no weights, weights of 0, ids that are out of range, or times of another dtype.
        """
        src, dst = _check.ends(events.src, events.dst, self.num_nodes, self.memory.device)
        weight, sign = signed_weights(events)
        dtypes = (self.last_update.dtype,)
        t = _check.tensor("events.t", events.t, shape=(src.numel(),), dtypes=dtypes, device=self.memory.device)
        negative = sign < 0
        ends, place = distinct(torch.cat((src, dst)))
        heads = self._append(src, dst, t, weight.abs().float(), negative)
        edges = self._into(ends)
        nodes, at = distinct(torch.cat((ends, self.other[edges])))
        state, clock = self.read(nodes)
        self._take_in(ends, place, negative, heads, state, clock)
        z = self._attend(state, clock, ends, edges, at[ends.numel() :])
        pairs = torch.cat([gather_rows(z, rows) for rows in place.chunk(2)], 1)
        logits: Tensor = self.lin(pairs)
        return logits.view(-1)

    def read(self, nodes: Tensor) -> tuple[Tensor, Tensor]:
        """States [n, 2 d] and clocks [n, 2] of distinct nodes int64 [n]: in training with what waits for them."""
        if not self.training:
            return self.memory[nodes].flatten(1), self.last_update[nodes]
        return self._updated(nodes, *self._both(nodes))

    @staticmethod
    def _both(nodes: Tensor) -> Tensor:
        return torch.ones(2, nodes.numel(), dtype=torch.bool, device=nodes.device)

    def _append(self, src: Tensor, dst: Tensor, t: Tensor, weight: Tensor, negative: Tensor) -> tuple[Tensor, ...]:
        """Write halves into the log; returns 4 owner + kind of those that have any, and where and how many they are."""
        incoming = torch.arange(2, device=src.device).repeat_interleave(src.numel())
        key = 4 * torch.cat((src, dst)) + 2 * negative.repeat(2).long() + incoming
        order = key.argsort(stable=True)
        columns = (torch.cat((src, dst)), torch.cat((dst, src)), t.repeat(2), weight.repeat(2), incoming.bool())
        before = self.owner.numel()
        for name, column in zip(_COLUMNS, columns, strict=True):
            setattr(self, name, torch.cat((self.get_buffer(name), column[order])))
        key, count = key[order].unique_consecutive(return_counts=True)
        return key, before + count.cumsum(0) - count, count

    @torch.no_grad()
    def _take_in(
        self,
        ends: Tensor,
        place: Tensor,
        negative: Tensor,
        heads: tuple[Tensor, ...],
        state: Tensor,
        clock: Tensor,
    ) -> None:
        """Write the states of a batch's ends, before its own events wait for them; in evaluation behind.

        The states and clocks that were read, the ends' first, are those to write where no event waits of a kind that
        the batch lacks; a negative one is of both kinds, see :meth:`_updated`.
        """
        met = torch.zeros(2, ends.numel(), dtype=torch.bool, device=ends.device)
        met[negative.repeat(2).long(), place] = True
        if self.training:
            friendly, hostile = self.count[ends].view(-1, 2, 2).any(2).unbind(1)
            rows = ((friendly & ~met[0]) | (hostile & ~met.all(0))).nonzero().view(-1)
            state, clock = state[: ends.numel()].clone(), clock[: ends.numel()].clone()
            state[rows], clock[rows] = self._updated(ends[rows], *met[:, rows])
            self._store(ends, met, state, clock)
        key, first, count = heads
        self.first = self.first.view(-1).index_copy(0, key, first).view(-1, 4)
        self.count = self.count.view(-1).index_copy(0, key, count).view(-1, 4)
        if not self.training:
            self._write(ends, met)

    @torch.no_grad()
    def _write(self, nodes: Tensor, asked: Tensor) -> None:
        self._store(nodes, asked, *self._updated(nodes, *asked))

    def _store(self, nodes: Tensor, asked: Tensor, state: Tensor, clock: Tensor) -> None:
        self.memory = self.memory.index_copy(0, nodes, state.view(-1, 2, self.memory_dim))
        clock = torch.where(asked.t(), clock, self.last_update[nodes])
        self.last_update = self.last_update.index_copy(0, nodes, clock)

    def _updated(self, nodes: Tensor, positive: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
        """States and clocks behind what waits for nodes: of a kind where it is asked for, bool [n] each."""
        own = self.memory[nodes]
        with torch.no_grad():
            halves = self._waiting(nodes)
            hostile, friendly = negative[halves.row], positive[halves.row]
            own_kind = torch.where(halves.negative, hostile, friendly), halves.negative.long()
            # The second message of a negative event is made where a node is asked for positive ones.
            twice = [
                (halves.negative & kept, torch.full_like(halves.at, side))
                for kept, side in ((hostile, 1), (friendly, 0))
            ]
            since = self.last_update[nodes][halves.row]
            pairs = [
                self._message(halves, own[:, side], since, terms) for side, terms in enumerate(([own_kind], twice))
            ]
        cells = zip((self.cell_pos, self.cell_neg), pairs, strict=True)
        states = [
            cell.forward_rows(message, rows, own[:, side]) for side, (cell, (message, rows, _)) in enumerate(cells)
        ]
        return torch.cat(states, 1), torch.stack([clock for *_, clock in pairs], 1)

    def _waiting(self, nodes: Tensor) -> _Waiting:
        count = self.count[nodes].view(-1)
        begin = count.cumsum(0) - count
        kind = torch.arange(count.numel(), device=nodes.device).repeat_interleave(count)
        here = torch.arange(kind.numel(), device=nodes.device)
        ptr = torch.cat((begin[::4], begin.new_full((1,), kind.numel())))
        return _Waiting(ptr, kind // 4, (self.first[nodes].view(-1) - begin)[kind] + here, kind % 4 >= 2)

    def _message(
        self, halves: _Waiting, own: Tensor, since: Tensor, terms: list[tuple[Tensor, Tensor]]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Means [m, 2 d + 1 + T] of messages, of which nodes they are, int64 [m], and the latest times [n] or 0.

        Args:
            halves: those that wait.
            own: [n, d], the state that is written.
            since: [H, 2], the owners' clocks.
            terms: whether a half has a message, bool [H], and which of the other end's states and of the own clocks it
                reads, int64 [H].
        """
        states, t, weight = self.memory.view(-1, self.memory_dim), self.time[halves.at], self.weight[halves.at]
        here, sums, latest = torch.arange(t.numel(), device=t.device), [], []
        for kept, slot in terms:
            code = self.time_enc(t - since.gather(1, slot.unsqueeze(1)).squeeze(1))
            rest = torch.cat((weight.unsqueeze(1), code, torch.ones_like(code[:, :1])), 1)
            read = (2 * self.other[halves.at] + slot, states), (here, rest)
            sums.append(torch.cat([gather_sum(halves.ptr, rows, x, kept) for rows, x in read], 1))
            zeros = t.new_zeros(own.size(0))
            latest.append(zeros.scatter_reduce(0, halves.row[kept], t[kept], "amax", include_self=False))
        total = torch.stack(sums).sum(0)
        rows = total[:, -1].nonzero().view(-1)
        total = total[rows]
        return torch.cat((own[rows], total[:, :-1] / total[:, -1:]), 1), rows, torch.stack(latest).amax(0)

    def _into(self, nodes: Tensor) -> Tensor:
        """Places in the log of all events into nodes."""
        asked = torch.zeros(self.num_nodes, dtype=torch.bool, device=nodes.device)
        asked[nodes] = True
        return (self.incoming & asked[self.owner]).nonzero().view(-1)

    def _attend(self, state: Tensor, clock: Tensor, nodes: Tensor, edges: Tensor, tail: Tensor) -> Tensor:
        """Embeddings of nodes, whose states come first, over all events into them.

        Args:
            state: [m, 2 d].
            clock: [m, 2].
            nodes: int64 [n].
            edges: int64 [M], places in the log.
            tail: int64 [M], rows of the states of the events' sources.
        """
        row = torch.zeros(self.num_nodes, dtype=torch.int64, device=nodes.device)
        row[nodes] = torch.arange(nodes.numel(), device=nodes.device)
        row, order = row[self.owner[edges]].sort(stable=True)
        edges, tail = edges[order], tail[order]
        age, weight = clock.amax(1)[tail] - self.time[edges], self.weight[edges].unsqueeze(1)
        return self.attention.over_lists(state, torch.bincount(row, minlength=nodes.numel()), tail, age, weight)


__all__ = ["ReleasedSEMBA"]
