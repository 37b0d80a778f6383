"""From mail to states: messages, their aggregate, and the cell."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from graphmem.nn.aggregate import ConcatMessage, place_rows
from graphmem.nn.cells import GRUCell, RNNCell, TransformerCell
from graphmem.nn.correction import Correctable
from graphmem.nn.functional import gather_rows, gather_sum
from graphmem.nn.last_read import LastRead
from graphmem.nn.mail import Mail, MailStore, by_time
from graphmem.nn.state import fetch
from graphmem.ops import distinct
from graphmem.ops.memory_gru import memory_gru_unchecked


class _Table(NamedTuple):
    """What messages look up: the whole state, or copies of some rows where the weights are."""

    memory: Tensor
    """[N, d]."""
    since: Tensor
    """[N]."""
    ids: Tensor | None = None
    """int64 [N], nodes of the rows; ``None``: row v is that of node v."""


class MailReader(Correctable):
    """The part of :class:`~graphmem.nn.NodeMemory` that computes states from mail. It writes nothing."""

    memory: Tensor
    last_update: Tensor
    mail: MailStore
    mail_d: MailStore | None
    aggregator: str
    aggr_module: nn.Module | None
    node_message: nn.Module | None
    time_enc: Any
    updater: Any
    msg_s_module: nn.Module
    msg_d_module: nn.Module
    _others: Callable[[Tensor], Tensor] | None
    _state_stays: bool
    _last: LastRead | None = None

    @property
    def device(self) -> torch.device:
        """Where events, questions and answers are: that of the weights."""
        device: torch.device = self.time_enc.lin.weight.device if self._state_stays else self.memory.device
        return device

    def stored(self, nodes: Tensor) -> tuple[Tensor, Tensor]:
        """Memories [n, d] and times [n] of nodes int64 [n] as they were written, without the mail that waits."""
        device, nodes = self.device, nodes.to(self.memory.device)
        return fetch(self.memory, nodes, device), fetch(self.last_update, nodes, device)

    def _read_mail(self, nodes: Tensor) -> Mail:
        mail = self.mail.read(nodes)
        return mail if self.mail_d is None else by_time(mail, self.mail_d.read(nodes))

    def _behind(self, nodes: Tensor) -> tuple[Tensor, ...]:
        """States behind the mail that waits, as :meth:`_after` has them: with gradient."""
        found = self._after(nodes, self._read_mail(nodes))
        states, *columns = (column.detach() for column in found)
        self._last = LastRead(nodes, states, columns, *self._sources()) if self._repeats() else None
        return found

    def _behind_again(self, nodes: Tensor) -> tuple[Tensor, ...]:
        """The same without gradient; states that were read last are not computed anew, as long as they are right."""
        if self._last is None or not self._last.holds(*self._sources()):
            return self._after(nodes, self._read_mail(nodes))
        return self._last.complete(nodes, lambda rest: self._after(rest, self._read_mail(rest)))

    def _after(self, nodes: Tensor, mail: Mail) -> tuple[Tensor, ...]:
        """States after reading ``mail``, times of the last events in it, and with PRES the states before correction."""
        new, t = self._updated(nodes, mail)
        return (new, t) if self.pres is None else (self.corrected(nodes, new, t), t, new)

    def _repeats(self) -> bool:
        """Whether mail that is read twice gives the same: modules of ours, that draw nothing and ask nobody."""
        plain = isinstance(self.msg_s_module, ConcatMessage) and isinstance(self.updater, GRUCell | RNNCell)
        alone = self._others is None and self.aggr_module is None and self.node_message is None and self.mail_d is None
        return plain and alone

    def _sources(self) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """What states are computed from: tables and, where :meth:`_repeats` says yes, weights."""
        tables, gate = self.sources_of_corrections()
        return (self.memory, self.last_update, self.mail.count, *tables), (*self._weights(), *gate)

    def _weights(self) -> tuple[Tensor, ...]:
        """Those of the time code, then those of a cell of ours."""
        code, cell = self.time_enc.lin, self.updater
        return code.weight, code.bias, cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh

    def _updated(self, nodes: Tensor, mail: Mail) -> tuple[Tensor, Tensor]:
        """States after reading ``mail``, and times of the last events in it; without mail of a zero message, and 0.

        Nodes and mail are where the state is, what comes out is where the weights are.
        """
        table = _Table(self.memory, self.last_update)
        if self._state_stays:
            table, nodes, mail = self._brought(nodes, mail)
        if self.aggregator == "sequence":
            return self._in_turn(nodes, mail, table)
        last = mail.newest() if self.mail.size > 1 or self.mail_d is not None else mail
        if isinstance(self.updater, TransformerCell):
            state = self.updater(self._messages(mail, table), mail.row, table.memory[nodes])
            return state, place_rows(last.t, last.row, nodes.numel())
        if self._is_fused(last, nodes):
            return self._fused(last, table), last.t
        if self.aggregator == "last":
            aggregate = place_rows(self._messages(last, table), last.row, nodes.numel())
        elif self.aggregator == "mean":
            order = torch.arange(len(mail), device=nodes.device)
            ptr = torch.searchsorted(mail.row, torch.arange(nodes.numel() + 1, device=nodes.device))
            messages = self._messages(mail, table)
            aggregate = gather_sum(ptr, order, messages) / ptr.diff().clamp(min=1).unsqueeze(1)
        else:
            assert self.aggr_module is not None
            aggregate = self.aggr_module(self._messages(mail, table), mail.row, mail.t, nodes.numel())
        return self.updater(aggregate, table.memory[nodes]), place_rows(last.t, last.row, nodes.numel())

    def _brought(self, nodes: Tensor, mail: Mail) -> tuple[_Table, Tensor, Mail]:
        """Copies where the weights are of what reading mail looks at; nodes and mail then name rows of the copies."""
        device = self.device
        ids, row = distinct(torch.cat((nodes, mail.node, mail.other.clamp(min=0))))
        table = _Table(*self.stored(ids), ids.to(device))
        asked, owner, other = row.to(device).split([nodes.numel(), len(mail), len(mail)])
        columns = mail.copy_to(device)
        columns["other"] = torch.where(columns["other"] < 0, -1, other)
        return table, asked, Mail(mail.row.to(device), owner, columns, torch.arange(len(mail), device=device))

    def _in_turn(self, nodes: Tensor, mail: Mail, table: _Table) -> tuple[Tensor, Tensor]:
        state, since = table.memory[nodes], table.since[nodes]
        for part in mail.in_turn():
            own = state.index_select(0, part.row)
            messages = self._messages(part, table, own, since[part.row])
            state = state.index_copy(0, part.row, self.updater(messages, own))
            since = since.index_copy(0, part.row, part.t)
        return state, since

    def _is_fused(self, last: Mail, nodes: Tensor) -> bool:
        """Whether one operator does all: the usual message and cell, one message a node."""
        usual = isinstance(self.msg_s_module, ConcatMessage) and isinstance(self.updater, GRUCell)
        every = self.aggregator == "last" and len(last) == nodes.numel() and self._others is None
        if self.node_message is not None and bool((last.other < 0).any()):
            return False
        return usual and every and self.memory.dtype in (torch.float32, torch.float64)

    def _fused(self, mail: Mail, table: _Table) -> Tensor:
        dt = (mail.t - table.since.index_select(0, mail.node)).double()
        frequencies, *weights = self._weights()
        return memory_gru_unchecked(table.memory, mail.node, mail.other, mail.msg, dt, frequencies.view(-1), *weights)

    def _messages(self, mail: Mail, table: _Table, own: Tensor | None = None, since: Tensor | None = None) -> Tensor:
        """Messages [M, C]; ``own`` and ``since`` take the place of the nodes' memories and the times of these."""
        if self.node_message is None or not bool((mail.other < 0).any()):
            return self._link_messages(mail, table, own, since)
        own = table.memory[mail.node] if own is None else own
        since = table.since[mail.node] if since is None else since
        link, lone = ((mail.other >= 0).nonzero().view(-1), (mail.other < 0).nonzero().view(-1))
        messages = [self._link_messages(mail.select(link), table, own[link], since[link])] if link.numel() else []
        code = self.time_enc(mail.t[lone] - since[lone])
        messages.append(self.node_message(own[lone], mail.msg[lone], code))
        return gather_rows(torch.cat(messages), torch.cat((link, lone)).argsort())

    def _link_messages(self, mail: Mail, table: _Table, own: Tensor | None, since: Tensor | None) -> Tensor:
        own = table.memory[mail.node] if own is None else own
        time_code = self.time_enc(mail.t - (table.since[mail.node] if since is None else since))
        if self._others is None:
            other = table.memory[mail.other]
        else:
            other = self._others(mail.other if table.ids is None else table.ids[mail.other])
        parts = (own, other, mail.msg, time_code)
        if isinstance(self.msg_s_module, ConcatMessage):
            out: Tensor = self.msg_s_module(*parts)
            return out
        rows = [mail.is_source.nonzero().view(-1), (~mail.is_source).nonzero().view(-1)]
        modules = (self.msg_s_module, self.msg_d_module)
        by_role = [module(*(part[r] for part in parts)) for module, r in zip(modules, rows, strict=True)]
        return gather_rows(torch.cat(by_role), torch.cat(rows).argsort())


__all__ = ["MailReader"]
