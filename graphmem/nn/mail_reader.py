"""From mail to states: messages, their aggregate, and the cell."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from graphmem.nn.aggregate import ConcatMessage, place_rows
from graphmem.nn.cells import GRUCell
from graphmem.nn.correction import Correctable
from graphmem.nn.functional import gather_rows, gather_sum
from graphmem.nn.mail import Mail, MailStore
from graphmem.ops.memory_gru import memory_gru_unchecked


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

    def _updated(self, nodes: Tensor, mail: Mail) -> tuple[Tensor, Tensor]:
        """States after reading ``mail``, and times of the last events in it; without mail of a zero message, and 0."""
        if self.aggregator == "sequence":
            return self._in_turn(nodes, mail)
        last = mail.newest() if self.mail.size > 1 or self.mail_d is not None else mail
        if self._is_fused(last, nodes):
            return self._fused(last), last.t
        if self.aggregator == "last":
            aggregate = place_rows(self._messages(last), last.row, nodes.numel())
        elif self.aggregator == "mean":
            order = torch.arange(len(mail), device=nodes.device)
            ptr = torch.searchsorted(mail.row, torch.arange(nodes.numel() + 1, device=nodes.device))
            messages = self._messages(mail)
            aggregate = gather_sum(ptr, order, messages) / ptr.diff().clamp(min=1).unsqueeze(1)
        else:
            assert self.aggr_module is not None
            aggregate = self.aggr_module(self._messages(mail), mail.row, mail.t, nodes.numel())
        return self.updater(aggregate, self.memory[nodes]), place_rows(last.t, last.row, nodes.numel())

    def _in_turn(self, nodes: Tensor, mail: Mail) -> tuple[Tensor, Tensor]:
        state, since = self.memory[nodes], self.last_update[nodes]
        for part in mail.in_turn():
            own = state.index_select(0, part.row)
            messages = self._messages(part, own, since[part.row])
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

    def _fused(self, mail: Mail) -> Tensor:
        code, cell = self.time_enc.lin, self.updater
        dt = (mail.t - self.last_update.index_select(0, mail.node)).double()
        weights = (code.weight.view(-1), code.bias, cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh)
        return memory_gru_unchecked(self.memory, mail.node, mail.other, mail.msg, dt, *weights)

    def _messages(self, mail: Mail, own: Tensor | None = None, since: Tensor | None = None) -> Tensor:
        """Messages [M, C]; ``own`` and ``since`` take the place of the nodes' memories and the times of these."""
        if self.node_message is None or not bool((mail.other < 0).any()):
            return self._link_messages(mail, own, since)
        own = self.memory[mail.node] if own is None else own
        since = self.last_update[mail.node] if since is None else since
        link, lone = ((mail.other >= 0).nonzero().view(-1), (mail.other < 0).nonzero().view(-1))
        messages = [self._link_messages(mail.select(link), own[link], since[link])] if link.numel() else []
        code = self.time_enc(mail.t[lone] - since[lone])
        messages.append(self.node_message(own[lone], mail.msg[lone], code))
        return gather_rows(torch.cat(messages), torch.cat((link, lone)).argsort())

    def _link_messages(self, mail: Mail, own: Tensor | None, since: Tensor | None) -> Tensor:
        own = self.memory[mail.node] if own is None else own
        time_code = self.time_enc(mail.t - (self.last_update[mail.node] if since is None else since))
        other = self.memory[mail.other] if self._others is None else self._others(mail.other)
        parts = (own, other, mail.msg, time_code)
        if isinstance(self.msg_s_module, ConcatMessage):
            out: Tensor = self.msg_s_module(*parts)
            return out
        rows = [mail.is_source.nonzero().view(-1), (~mail.is_source).nonzero().view(-1)]
        modules = (self.msg_s_module, self.msg_d_module)
        by_role = [module(*(part[r] for part in parts)) for module, r in zip(modules, rows, strict=True)]
        return gather_rows(torch.cat(by_role), torch.cat(rows).argsort())


__all__ = ["MailReader"]
