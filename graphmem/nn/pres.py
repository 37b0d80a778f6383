"""PRES: predict where memories would be without the events that a large batch loses, and correct them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from graphmem.errors import ArgumentError
from graphmem.nn.functional import node_gaps
from graphmem.nn.rates import RateTracker
from graphmem.nn.state import StateModule
from graphmem.nn.waiting import WaitingEvents
from graphmem.ops import _check
from graphmem.ops.pres import Clock, coherence, pres_correct

GATES = ("fixed", "scalar", "per_dim", "kalman")
_SCALE_RATE = 0.1


class PRES(StateModule):
    r"""Prediction and correction of the rows of a node memory.

    A batch of events updates every node once, from states before the batch: earlier events of the batch at either end
    are *pending* and lost. With s the memory of a node before the update, s' what the updater made of it, and x the
    rate at which the memory moved,

    .. math:: x = (s' - s) / \Delta, \qquad \hat s = s + \Delta\, \mathrm{E}[x], \qquad
        \bar s = (1 - \alpha)\, \hat s + \alpha\, s'

    :math:`\bar s` takes the place of s' in everything that reads or stores the memory, for the nodes whose update had
    pending events; with batches of one event there are none, and nothing changes. The moments of x are running ones of
    each node and kind of event (:class:`~graphmem.nn.rates.RateTracker`). A rate per time needs a time that the update
    spans: the first one of a node that had no event before spans none, is not observed, and is not corrected, so that
    no rate depends on where the clock's zero is. :meth:`aux_loss`, to be added to one's own,
    is :math:`\beta\, \overline{1 - \cos(\bar s, s)}` over those nodes: memory that does not jump across a batch.

    Source: J. Su, D. Zou, C. Wu, "PRES: Toward Scalable Memory-Based Dynamic Graph Neural Networks", ICLR 2024 (arXiv
    2402.04284). The released code differs (its coherence has no gradient, what it corrects is not stored); this is the
    written method, corrections for affected nodes only, and a weight :math:`\alpha` of the *measured* state: the
    code's fixed 0.9 on the prediction is ``gate="fixed", alpha=0.1``.

    Args:
        num_nodes: N.
        dim: d, width of the memory.
        num_types: C, kinds of events.
        gate: of :math:`\alpha`: "fixed"; "scalar" and "per_dim", a learnable logit, or one for each dimension; or
            "kalman", :math:`P / (P + R)` with the prediction's variance :math:`P = \Delta^2\,\mathrm{Var}[x]` and
            :math:`R = R_0 q`, q the node's events in the batch and :math:`R_0` learnable.
        alpha: its first value, in (0, 1), or in [0, 1] where it is fixed; "kalman" does not read it.
        beta: weight of the coherence; 0 for none.
        rate: "per_time": :math:`\Delta` is the time that the update spans, in units of ``tau``; or "per_event": an
            update applies one event (:math:`\Delta = 1` in x), and q have happened (:math:`\Delta = q` in the
            prediction): memory moves by events, idle nodes do not drift. The paper has the former.
        tau: unit of time, or "auto", the median gap between two events of a node, known after :meth:`fit`.
        eps: shortest time, in units of ``tau``, that an update is taken to span: equal times are no infinite rates.
        max_shift: bound of each entry of :math:`\Delta\,\mathrm{E}[x]`, in units of the running root mean square of the
            memory's entries; ``None`` for none.
        anchors: ``None``: all nodes have moments; int64 [A]: these; K: the K nodes of most events, known after
            :meth:`fit`.
        backoff: of other nodes: "none", they are not corrected; or "type_mean", moments over all nodes.
        decay: of the moments, for each observation; 1 keeps all.
        min_count: observations of a node before it is corrected.
        only_pending: correct affected nodes only. Without it the model changes with batches of one, too.
        observe: what x is taken from, the "raw" s' or the "corrected" :math:`\bar s`, which feeds predictions back.
        eval_update: go on observing in evaluation mode.
        persist: store :math:`\bar s`; else only those who read see it, and the memory is the uncorrected one.

    Raises:
        ArgumentError: options that are unknown or out of range.

    Example:
        >>> memory = NodeMemory(num_nodes, raw_msg_dim, 100, 100)
        >>> memory.correct_by(PRES(num_nodes, 100, rate="per_event"))
        >>> loss = my_loss + memory.aux_loss()
    """

    known: Tensor
    scale: Tensor
    tau: Tensor
    max_dt: Tensor

    def __init__(
        self,
        num_nodes: int,
        dim: int,
        num_types: int = 1,
        *,
        gate: str = "scalar",
        alpha: float = 0.9,
        beta: float = 0.1,
        rate: str = "per_time",
        tau: float | str = "auto",
        eps: float = 0.01,
        max_shift: float | None = 1.0,
        anchors: int | Tensor | None = None,
        backoff: str = "none",
        decay: float = 1.0,
        min_count: int = 2,
        only_pending: bool = True,
        observe: str = "raw",
        eval_update: bool = True,
        persist: bool = True,
    ) -> None:
        super().__init__()
        for name, value, low in (("num_nodes", num_nodes, 0), ("dim", dim, 0), ("num_types", num_types, 1)):
            _check.integer(name, value, low)
        self.gate = _check.choice("gate", gate, GATES)
        self.rate = _check.choice("rate", rate, ("per_time", "per_event"))
        self.observes_raw = _check.choice("observe", observe, ("raw", "corrected")) == "raw"
        share = _check.choice("backoff", backoff, ("none", "type_mean")) == "type_mean"
        _check.integer("min_count", min_count, 1)
        self.alpha, self.beta, self.eps = _check.real("alpha", alpha), _positive("beta", beta, True), eps
        _positive("eps", eps)
        self.max_shift = None if max_shift is None else _positive("max_shift", max_shift)
        if not (0 < alpha < 1 or (gate == "fixed" and alpha in (0, 1))):
            raise ArgumentError(f"alpha: expected a number in (0, 1), or one of 0 and 1 where it is fixed, got {alpha}")
        if tau != "auto":
            _positive("tau", tau)
        flags = {"only_pending": only_pending, "eval_update": eval_update, "persist": persist}
        for name, value in flags.items():
            if not isinstance(value, bool):
                raise ArgumentError(f"{name}: expected True or False, got {value!r}")
        self.min_count, self.only_pending = min_count, only_pending
        self.waiting = WaitingEvents(num_nodes, num_types, every=not only_pending)
        self.eval_update, self.persist = eval_update, persist
        self.rates = RateTracker(
            num_nodes, dim, num_types, variance=gate == "kalman", decay=decay, anchors=anchors, share=share
        )
        width = {"scalar": 1, "per_dim": dim, "kalman": 1}.get(gate)
        self.logit = None if width is None else nn.Parameter(torch.empty(1, width))
        self.register_state("scale", (), per_node=False, exact=True)
        if rate == "per_time":  # nodes whose stored state has the time of an event
            self.register_state("known", (num_nodes,), dtype=torch.bool)
        # Not state: facts about the data, which a new epoch does not forget. 0: not known yet.
        self.register_buffer("tau", torch.tensor(0.0 if tau == "auto" else float(tau), dtype=torch.float64))
        self.register_buffer("max_dt", torch.tensor(math.inf, dtype=torch.float64))
        self._state_exact |= {"tau", "max_dt"}
        self.reset_parameters()

    @property
    def num_types(self) -> int:
        """C."""
        return self.rates.num_types

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Set the gate to its first value. Draws nothing."""
        if self.logit is not None:
            # R0: a hundredth of the square of an entry of a memory that is bounded by 1.
            self.logit.fill_(math.log(0.01) if self.gate == "kalman" else math.log(self.alpha / (1 - self.alpha)))

    @torch.no_grad()
    def fit(self, src: Tensor, dst: Tensor, t: Tensor) -> None:
        """Learn the unit of time, the longest span and the anchors from training events, where they are left open.

        ``tau="auto"`` becomes the median of the positive gaps between two events in a row of a node, the longest span
        their 99th percentile.

        Args:
            src: int64 [E], in the order of time.
            dst: int64 [E].
            t: [E].

        Raises:
            ArgumentError: no node has events at two times.
        """
        gaps = node_gaps(src, dst, t)
        if gaps.numel() == 0:
            raise ArgumentError("t: expected a node with events at two times, from which to take the unit of time")
        if float(self.tau) == 0:
            self.tau.copy_(gaps.median())
        self.max_dt.copy_(gaps[(99 * (gaps.numel() - 1)) // 100])
        self.rates.choose(torch.bincount(torch.cat((src, dst)), minlength=self.waiting.count.numel()))

    def mark(self, src: Tensor, dst: Tensor, types: Tensor | None = None) -> None:
        """Note a batch that left mail at its ends; see :meth:`graphmem.nn.waiting.WaitingEvents.mark`."""
        self.waiting.mark(src, dst, types, self._known())

    def mark_mail(self, src: Tensor, dst: Tensor, owner: Tensor, event: Tensor, types: Tensor | None = None) -> None:
        """:meth:`mark` where others get mail, too; see :meth:`graphmem.nn.waiting.WaitingEvents.mark_mail`."""
        self.waiting.mark_mail(src, dst, owner, event, types, self._known())

    def learn_times(self, nodes: Tensor, there: Tensor | None = None) -> None:
        """Note that the states of distinct nodes int64 [n], or of those ``there`` (bool [n]), have an event's time."""
        if self.rate == "per_time":
            there = torch.ones_like(nodes, dtype=torch.bool) if there is None else there
            self.known.index_copy_(0, nodes, there | self.known.index_select(0, nodes))

    def _known(self) -> Tensor | None:
        return self.known if self.rate == "per_time" else None

    def forward(self, nodes: Tensor, new: Tensor, t: Tensor, memory: Tensor, since: Tensor) -> Tensor:
        """Correct what updates made of memories, for those of the nodes whose waiting mail had pending events.

        Args:
            nodes: int64 [M].
            new: [M, d], states behind the updates.
            t: [M], times of the last events in the updates.
            memory: [N, d], states before them.
            since: [M], times of the states of ``nodes``; not read for nodes without an earlier event.

        Returns:
            [M, d]; ``new`` itself where no node is affected.
        """
        out, hit = self._mix_waiting(nodes, memory, new, t - since)
        return out if bool(hit.any()) else new

    def _mix_waiting(self, nodes: Tensor, memory: Tensor, new: Tensor, dt: Tensor) -> tuple[Tensor, Tensor]:
        columns = {"count": self.waiting.count, "affected": self.waiting.affected}
        # The operator looks rows up in tables, unless it would take a copy of the whole memory.
        by_node = memory.dtype == self.rates.mean.dtype and memory.is_contiguous()
        if not by_node:
            memory = memory.index_select(0, nodes)
            columns = {name: column.index_select(0, nodes) for name, column in columns.items()}
        return self._mix(nodes, memory, new, dt, kinds=self.waiting.kinds_of(nodes), by_node=by_node, **columns)

    def correct(
        self,
        nodes: Tensor,
        prev: Tensor,
        new: Tensor,
        dt: Tensor,
        count: Tensor | None = None,
        kinds: Tensor | None = None,
    ) -> Tensor:
        r"""Mix predictions and measurements: :math:`\bar s`.

        Args:
            nodes: int64 [M]; those without ``min_count`` observations of a kind are predicted not to move.
            prev: s [M, d].
            new: s' [M, d].
            dt: [M].
            count: q, int64 [M]; 1 by default.
            kinds: weights of the kinds of events [M, C]; by default those of the node's past.
        """
        return self._mix(nodes, prev, new, dt, kinds, count=count)[0]

    def _mix(
        self, nodes: Tensor, prev: Tensor, new: Tensor, dt: Tensor, kinds: Tensor | None, **options: Any
    ) -> tuple[Tensor, Tensor]:
        dtype = self.rates.mean.dtype
        mixed, hit = pres_correct(
            self.rates.table(),
            nodes,
            prev.to(dtype),
            new.to(dtype),
            self._weight(),
            clock=self._clock(dt) if self.rate == "per_time" else None,
            bound=None if self.max_shift is None else (self.scale, self.max_shift),
            kinds=None if kinds is None else kinds.to(dtype),
            min_count=self.min_count,
            kalman=self.gate == "kalman",
            **options,
        )
        return mixed.to(new.dtype), hit

    def _weight(self) -> Tensor:
        """[1, 1] or [1, d]: alpha, or R0 of the Kalman gate."""
        if self.logit is None:
            return self.rates.mean.new_full((1, 1), self.alpha)
        return (self.logit.exp() if self.gate == "kalman" else self.logit.sigmoid()).to(self.rates.mean.dtype)

    def _clock(self, dt: Tensor) -> Clock:
        if float(self.tau) == 0:
            raise ArgumentError('tau: "auto" is known after fit(src, dst, t), which was not called')
        return Clock(dt.double(), self.tau, self.max_dt, self.eps)

    @torch.no_grad()
    def observe(self, nodes: Tensor, prev: Tensor, new: Tensor, dt: Tensor, kinds: Tensor | None = None) -> None:
        """Take in how far memories moved.

        Args:
            nodes: int64 [M], distinct.
            prev: [M, d], before.
            new: [M, d], behind.
            dt: [M].
            kinds: weights of the kinds of events [M, C].
        """
        if kinds is not None:
            kinds = kinds / kinds.sum(1, keepdim=True).clamp(min=1)
        self.rates.observe(
            nodes,
            new,
            kinds,
            prev=prev,
            clock=self._clock(dt) if self.rate == "per_time" else None,
            scale=self.scale,
            scale_rate=_SCALE_RATE,
        )

    @torch.no_grad()
    def commit(self, nodes: Tensor, corrected: Tensor, new: Tensor, t: Tensor, memory: Tensor, since: Tensor) -> Tensor:
        """Learn from updates that are about to be stored, whose mail does not wait any longer.

        Args:
            nodes: int64 [M], distinct; those without waiting mail are passed by.
            corrected: [M, d], what :meth:`forward` made of ``new``.
            new: see :meth:`forward`, as for what follows.
            t: [M].
            memory: [N, d].
            since: [M].

        Returns:
            What to store [M, d].
        """
        prev, dt = memory.index_select(0, nodes), t - since
        waits = self.waiting.count.index_select(0, nodes) > 0
        if self.training or self.eval_update:
            some, seen = nodes, new if self.observes_raw else corrected
            spans = waits if self.rate == "per_event" else waits & self.known.index_select(0, nodes)
            rows = spans.nonzero().view(-1)
            if rows.numel() < nodes.numel():
                some, prev, seen, dt = (x.index_select(0, rows) for x in (some, prev, seen, dt))
            self.observe(some, prev, seen, dt, self.waiting.kinds_of(some))
        self.learn_times(nodes, waits)
        self.waiting.clear(nodes)
        return corrected if self.persist else new

    def aux_loss(
        self,
        nodes: Tensor,
        memory: Tensor,
        read: Callable[[Tensor], tuple[Tensor, Tensor]],
        share: Callable[[Tensor], Tensor] | None = None,
    ) -> Tensor | None:
        """Coherence over nodes that the last batch left with pending events, to be added to a loss.

        Args:
            nodes: those that were :meth:`asked` for.
            memory: [N, d], as it is stored.
            read: of nodes int64 [n], a table of states [R, d] with their mail applied, with gradient, and the nodes'
                rows in it, int64 [n].
            share: the part of the nodes that this process works on; the parts of all processes add up to the whole.

        Returns:
            A scalar; ``None`` where there is no such node, or ``beta`` is 0.
        """
        if nodes.numel() == 0:
            return None
        prev, part = memory.index_select(0, nodes), 1.0
        if share is not None:
            there = prev.any(1).nonzero().view(-1)
            if there.numel() == 0:
                return None
            mine = share(there)
            nodes, prev, part = nodes[mine], prev[mine], mine.numel() / there.numel()
        states, row = read(nodes)
        dtype = self.rates.mean.dtype
        return coherence(states.to(dtype), row, prev.to(dtype)) * (self.beta * part)

    def sources(self) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Tables and weights that :meth:`forward` reads, besides the memory."""
        waiting = self.waiting.count, self.waiting.affected
        kinds = (self.waiting.kinds,) if self.num_types > 1 else ()
        rates = (table for table in self.rates.table() if table is not None)
        clock = self.tau, self.max_dt, self.scale
        return (*waiting, *kinds, *rates, *clock), (() if self.logit is None else (self.logit,))

    def asked(self) -> Tensor:
        """Nodes that the last batch left with pending events, whose mail waits: int64 [n], distinct; 0 without beta."""
        recent = self.waiting.recent
        if self.beta == 0 or recent.numel() == 0:
            return recent[:0]
        return recent[self.waiting.count.index_select(0, recent) > 0]

    def extra_repr(self) -> str:
        """Show the options that matter most."""
        return f"gate={self.gate!r}, rate={self.rate!r}, beta={self.beta}, only_pending={self.only_pending}"


def _positive(name: str, value: object, zero: bool = False) -> float:
    number = _check.real(name, value)
    if not (number > 0 or (zero and number == 0)):
        raise ArgumentError(f"{name}: expected a {'number of at least 0' if zero else 'positive number'}, got {number}")
    return number


__all__ = ["GATES", "PRES"]
