"""Node memory of SEMBA: two states a node, one for what is friendly and one for what is hostile."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from graphmem.errors import ArgumentError
from graphmem.nn.cells import GRUCell
from graphmem.nn.correction import Correctable
from graphmem.nn.functional import gather_rows
from graphmem.nn.last_read import LastRead
from graphmem.nn.mail import half_events
from graphmem.nn.signed_halves import Halves, Pool
from graphmem.nn.state import StateModule, reset_state
from graphmem.nn.time import TimeEncoder
from graphmem.ops import _check, distinct
from graphmem.ops._joint import last_of

Aggregation = Literal["mean", "last"]
Clock = Literal["sign", "node"]
Compat = Literal["clean", "released"]

_PENDING = ("src", "dst", "t", "msg", "negative")


class SignedMemory(Correctable, StateModule):
    r"""Two state vectors a node, moved by positive and negative events as balance theory has it.

    Node i has :math:`s_i^+, s_i^-` and a clock for each sign. An event (i, j, t, :math:`\sigma`, e) of sign
    :math:`\sigma` leaves at i, and likewise at j, the two messages

    .. math::
        m_i^{\pm} = [s_i^{\pm},\; s_j^{\pm\sigma},\; e,\; \phi(\Delta)], \qquad
        \Delta = \ln(1 + t - t_i^{\sigma}), \qquad
        s_i^{\pm} \leftarrow \mathrm{GRU}^{\pm}(\mathrm{agg}(m_i^{\pm}), s_i^{\pm})

    A positive event keeps the polarity of what is read of the other end (a friend's friend is a friend), a negative one
    swaps it (an enemy's enemy is a friend). :math:`\phi(\Delta)` is 0 where the node had no such event before.

    The events of the last batch wait, raw, until the next one comes: reading a node meanwhile applies them with
    gradients into cells and time code, and then their effect is written once, without gradient. Only nodes with a
    message change. A batch costs what it holds, however many nodes there are.

    Switching: with ``tie_params=True`` and ``clock="node"``, flipping the sign of every event between a set of nodes
    and the rest, and swapping the two states of the nodes of the set, leaves all states the same up to that swap. With
    a clock for each sign it does not hold, for which clock an event reads follows its sign.

    :meth:`correct_by` lets a :class:`~graphmem.nn.PRES` of width 2 d correct both states of a node at once.

    Source: K. Sharma et al., "Representation Learning in Continuous-Time Dynamic Signed Networks", CIKM 2023; defaults
    are those of the released checkpoints.

    Args:
        num_nodes: N.
        raw_msg_dim: D, width of e.
        memory_dim: d, width of each of the two states.
        time_dim: T.
        aggr: "mean" of a node's messages in a batch, or the "last" one.
        clock: which earlier event :math:`\Delta` counts from: the node's last one of the same "sign" (the released
            code), or of either ("node").
        time_scale: divides differences of times in place of the logarithm, which has no unit.
        tie_params: one cell for both states.
        compat: "clean" as above, or "released" for the wiring of the released code, for audits: the negative state
            reads negative events only, of each of them both states of the other end.
        time_dtype: of all times, int64 or float64.

    Raises:
        ArgumentError: options that are unknown or do not fit each other.

    Example:
        >>> memory = SignedMemory(3, 0, memory_dim=2, time_dim=2)
        >>> ends = torch.tensor([0]), torch.tensor([1])
        >>> memory.update_state(*ends, torch.tensor([5]), sign=torch.tensor([-1]))
        >>> memory(torch.tensor([0, 2]))[1].tolist()
        [[0, 5], [0, 0]]
    """

    memory: Tensor
    last_update: Tensor
    _last: LastRead | None = None
    src: Tensor
    dst: Tensor
    t: Tensor
    msg: Tensor
    negative: Tensor

    def __init__(
        self,
        num_nodes: int,
        raw_msg_dim: int = 0,
        memory_dim: int = 64,
        time_dim: int = 32,
        *,
        aggr: Aggregation = "mean",
        clock: Clock = "sign",
        time_scale: float | None = None,
        tie_params: bool = False,
        compat: Compat = "clean",
        time_dtype: torch.dtype = torch.int64,
    ) -> None:
        super().__init__()
        for name, value, low in (("num_nodes", num_nodes, 0), ("raw_msg_dim", raw_msg_dim, 0)):
            _check.integer(name, value, low)
        _check.integer("memory_dim", memory_dim, 1)
        if time_dtype not in (torch.int64, torch.float64):
            raise ArgumentError(f"time_dtype: expected torch.int64 or torch.float64, got {time_dtype}")
        if time_scale is not None and not _check.real("time_scale", time_scale) > 0:
            raise ArgumentError(f"time_scale: expected a positive length of time or None, got {time_scale!r}")
        self.aggr = _check.choice("aggr", aggr, ("mean", "last"))
        self.clock = _check.choice("clock", clock, ("sign", "node"))
        self.compat = _check.choice("compat", compat, ("clean", "released"))
        if compat == "released" and aggr == "last":
            raise ArgumentError('aggr: expected "mean" with compat="released", whose events leave two messages')
        self.raw_msg_dim, self.memory_dim, self.time_scale = raw_msg_dim, memory_dim, time_scale
        self.time_enc = TimeEncoder(time_dim)
        width = 2 * memory_dim + raw_msg_dim + time_dim
        self.cell_pos = GRUCell(width, memory_dim)
        self.cell_neg = self.cell_pos if tie_params else GRUCell(width, memory_dim)
        self.register_state("memory", (num_nodes, 2, memory_dim))
        self.never = _least(time_dtype)
        self.register_state("last_update", (num_nodes, 2), dtype=time_dtype, fill=self.never)
        for name, shape, dtype in (
            ("src", (0,), torch.int64),
            ("dst", (0,), torch.int64),
            ("t", (0,), time_dtype),
            ("msg", (0, raw_msg_dim), torch.float32),
            ("negative", (0,), torch.bool),
        ):
            self.register_state(name, shape, dtype=dtype, per_node=False)
        self.reset_parameters()

    @property
    def num_nodes(self) -> int:
        """N."""
        return self.memory.size(0)

    def reset_parameters(self) -> None:
        """Draw all weights anew and forget everything."""
        for module in (self.time_enc, self.cell_pos, self.cell_neg):
            module.reset_parameters()
        self.reset_state()

    def reset_state(self) -> None:
        """Forget everything (PyG's name)."""
        reset_state(self)

    def reset(self) -> None:
        """Forget everything: states, clocks, and the events that wait."""
        super().reset()
        self._keep_pending(torch.zeros_like(self.negative))

    def forward(self, n_id: Tensor) -> tuple[Tensor, Tensor]:
        """Read nodes, the events that wait for them included. Nothing is written.

        Args:
            n_id: int64 [n].

        Returns:
            States [n, 2 d], the positive one first; times of their last positive and negative event [n, 2], 0 where
            there was none.

        Raises:
            ArgumentError: wrong shape, dtype, device or range.
        """
        memory, clock = self.read(n_id)
        return memory, torch.where(clock == self.never, 0, clock)

    def read(self, n_id: Tensor) -> tuple[Tensor, Tensor]:
        """:meth:`forward`, with clocks that say :attr:`never` where there was no event: times may be negative."""
        n_id = _check.tensor("n_id", n_id, shape=(None,), dtypes=(torch.int64,), device=self.memory.device)
        _check.in_range("n_id", n_id, self.num_nodes)
        memory, clock = self.memory.index_select(0, n_id).flatten(1), self.last_update.index_select(0, n_id)
        # In training all that waits, which the update behind asks for, too: rows more cost little in the same products.
        halves = self._halves(None if self.training and torch.is_grad_enabled() else n_id)
        if halves.nodes.numel():
            state, t, *_ = found = self._after(halves)
            kept, *columns = (column.detach() for column in found)
            self._last = LastRead(halves.nodes, kept, columns, *self._sources())
            self.remember(halves.nodes, state)
            at, waits = self._last.find(n_id)
            rows = waits.nonzero().view(-1)
            at = at.index_select(0, rows)
            memory, clock = memory.index_copy(0, rows, gather_rows(state, at)), clock.index_copy(0, rows, t[at])
        return memory, clock

    @torch.no_grad()
    def update_state(
        self,
        src: Tensor,
        dst: Tensor,
        t: Tensor,
        msg: Tensor | None = None,
        sign: Tensor | None = None,
        types: Tensor | None = None,
    ) -> None:
        """Write the effect of the events that wait, and let those of a batch wait in their place.

        Args:
            src: int64 [E].
            dst: int64 [E].
            t: [E] of ``time_dtype``.
            msg: [E, D]; may be left out where D is 0.
            sign: [E], of which those above 0 are positive: -1 and 1, 0 and 1, or truth values.
            types: their kinds, int64 [E], for a :class:`~graphmem.nn.PRES` that tells kinds apart.

        Raises:
            ArgumentError: wrong shape, dtype, device or range, or signs that are neither.
        """
        device = self.memory.device
        src, dst = _check.ends(src, dst, self.num_nodes, device)
        count = src.numel()
        t = _check.tensor("t", t, shape=(count,), dtypes=(self.last_update.dtype,), device=device)
        if msg is None and self.raw_msg_dim == 0:
            msg = self.memory.new_empty(count, 0)
        msg = _check.tensor("msg", msg, shape=(count, self.raw_msg_dim), dtypes=(self.memory.dtype,), device=device)
        negative = is_negative("sign", sign, count)
        self.check_kinds(types, count)
        self.flush()
        self.mark(src, dst, types)
        self.src, self.dst, self.t = src.clone(), dst.clone(), t.clone()
        self.msg, self.negative = msg.detach().clone(), negative.to(device)

    @torch.no_grad()
    def flush(self) -> None:
        """Write the effect of the events that wait into the memory; none waits afterwards."""
        if self.src.numel():
            nodes, state, t, *raw = self._waiting()
            state = self.committed(nodes, state, t.amax(1), *raw)
            self.memory[nodes] = state.view(-1, 2, self.memory_dim)
            self.last_update[nodes] = t
        self._keep_pending(torch.zeros_like(self.negative))

    def _waiting(self) -> tuple[Tensor, ...]:
        """Nodes int64 [U] that events wait for, and what :meth:`_after` says of them."""
        last, self._last = self._last, None
        if last is None or not last.holds(*self._sources()):
            halves = self._halves(None)
            return halves.nodes, *self._after(halves)
        nodes = distinct(torch.stack((self.src, self.dst), 1).view(-1))[0]
        # The halves of some of these nodes come in the nodes' order.
        return nodes, *last.complete(nodes, lambda rest: self._after(self._halves(rest)))

    def _sources(self) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """What states are computed from: tables and weights."""
        code = self.time_enc.lin
        weights = [code.weight, code.bias]
        for cell in (self.cell_pos, self.cell_neg):
            weights += [cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh]
        events = self.src, self.dst, self.t, self.msg, self.negative
        tables, gate = self.sources_of_corrections()
        return (self.memory, self.last_update, *events, *tables), (*weights, *gate)

    def forget(self, nodes: Tensor | None = None, events: Tensor | None = None) -> None:
        """Empty the rows of ``nodes`` and drop the waiting events that they take part in.

        What earlier events of these nodes did to the states of others stays.

        Args:
            nodes: int64 [n].
            events: not supported: raises.

        Raises:
            ArgumentError: ``events`` is given, or ``nodes`` is not a vector of valid ids.
        """
        super().forget(nodes, events)
        if nodes is not None:
            gone = nodes.to(self.src.device)
            self._keep_pending(~(torch.isin(self.src, gone) | torch.isin(self.dst, gone)))

    def _keep_pending(self, keep: Tensor) -> None:
        for name in _PENDING:
            setattr(self, name, self.get_buffer(name)[keep])

    def _stored(self) -> Tensor:
        return self.memory.flatten(1)

    def _since(self, nodes: Tensor) -> Tensor:
        since = self.last_update.index_select(0, nodes).amax(1)
        return torch.where(since == self.never, 0, since)

    def _read(self, nodes: Tensor) -> Tensor:
        return self.read(nodes)[0]

    def _halves(self, asked: Tensor | None) -> Halves:
        """What waits for the nodes that are asked for; for all of them where ``asked`` is ``None``."""
        # Signs in the place of the events' numbers, which are not kept.
        columns = half_events(self.src, self.dst, self.t, self.msg, self.negative)
        owner = columns["owner"]
        if asked is not None:
            wanted = torch.isin(owner, asked).nonzero().view(-1)
            columns = {name: column.index_select(0, wanted) for name, column in columns.items()}
        nodes, row = distinct(columns["owner"])
        return Halves(nodes, row, columns["other"], columns["t"], columns["msg"], columns["event"])

    def _after(self, halves: Halves) -> tuple[Tensor, ...]:
        """:meth:`_updated`, and with PRES the states before correction."""
        state, t = self._updated(halves)
        return (state, t) if self.pres is None else (self.corrected(halves.nodes, state, t.amax(1)), t, state)

    def _updated(self, halves: Halves) -> tuple[Tensor, Tensor]:
        """States [U, 2 d] and clocks [U, 2] of the nodes behind their half events."""
        sign, each = halves.negative.long(), torch.arange(halves.row.numel(), device=halves.row.device)
        own, clock = self.memory[halves.nodes], self.last_update[halves.nodes]
        table, first = self.memory.view(-1, self.memory_dim), 2 * halves.other
        code, pool = self._time_code(halves, clock), self._pool(halves, None)
        msg, age = pool(each, halves.msg), pool(each, code)
        states = []
        for side, cell in enumerate((self.cell_pos, self.cell_neg)):
            before, read = own[:, side], [first + (sign ^ side)]
            if side == 1 and self.compat == "released":  # negative events alone, of each both states
                pool, read = self._pool(halves, sign), [first, first + 1]
                msg, age = pool(each, halves.msg), pool(each, code)
            other = torch.stack([pool(rows, table) for rows in read]).mean(0)
            after = cell.forward_parts(torch.cat((before, other, msg), 1), age, before)
            states.append(torch.where(pool.any.unsqueeze(1), after, before))
        clock = clock.flatten().scatter_reduce(0, 2 * halves.row + sign, halves.t, "amax").view_as(clock)
        return torch.cat(states, 1), clock

    def _time_code(self, halves: Halves, clock: Tensor) -> Tensor:
        """[H, T]; 0 where there was no earlier event to count from."""
        at = halves.row
        since = clock[at, halves.negative.long()] if self.clock == "sign" else clock.amax(1)[at]
        known = since != self.never
        delta = torch.where(known, halves.t - since, 0)
        code: Tensor = self.time_enc(scaled(delta, self.time_scale)) * known.unsqueeze(1)
        return code

    def _pool(self, halves: Halves, weight: Tensor | None) -> Pool:
        """How the half events of a node become one: all of them, or those of weight 1, int64 [H]."""
        row, count = halves.row, halves.nodes.numel()
        each = torch.arange(count + 1, device=row.device)
        if self.aggr == "last":
            return Pool(each, last_of(row, count), None, torch.ones_like(each[1:], dtype=torch.bool))
        order = row.argsort(stable=True)
        ptr = torch.cat((each[:1], torch.bincount(row, minlength=count).cumsum(0)))
        total = ptr.diff() if weight is None else torch.zeros_like(ptr[1:]).index_add(0, row, weight)
        share = (total.clamp(min=1).to(self.memory.dtype).reciprocal())[row[order]]
        return Pool(ptr, order, share if weight is None else share * weight[order], total > 0)

    def extra_repr(self) -> str:
        """Show sizes and options."""
        return f"{self.num_nodes}, {self.memory_dim}, aggr={self.aggr!r}, clock={self.clock!r}, compat={self.compat!r}"


def scaled(delta: Tensor, scale: float | None) -> Tensor:
    """Differences of times as a time code reads them: by a scale, or as ln(1 + delta)."""
    delta = delta.double()
    return delta.clamp(min=0).log1p() if scale is None else delta / scale


def is_negative(name: str, sign: Tensor | None, count: int) -> Tensor:
    """Which signs are negative, bool [count].

    Raises:
        ArgumentError: signs that are neither -1 and 1, 0 and 1 nor truth values.
    """
    if sign is None:
        raise ArgumentError(f"{name}: expected the signs of {count} events, got None")
    if sign.dtype == torch.bool:
        return ~_check.tensor(name, sign, shape=(count,), dtypes=(torch.bool,))
    kinds = (torch.int64, torch.int32, torch.int8, torch.float32, torch.float64)
    sign = _check.tensor(name, sign, shape=(count,), dtypes=kinds)
    found = set(sign.unique().tolist())
    if not (found <= {-1, 1} or found <= {0, 1}):
        raise ArgumentError(f"{name}: expected -1 and 1, 0 and 1, or truth values, got {sorted(found)[:5]}")
    return sign <= 0


def _least(dtype: torch.dtype) -> float:
    return torch.iinfo(dtype).min if dtype == torch.int64 else -torch.inf
