"""Node memory of the TGN family."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from graphmem.data.node_events import NodeEvents
from graphmem.errors import ArgumentError
from graphmem.nn.aggregate import ConcatMessage, NodeMessage, aggregator_name, is_pyg
from graphmem.nn.cells import GRUCell, RNNCell, TransformerCell
from graphmem.nn.mail import MailStore, group, half_events, with_lone
from graphmem.nn.mail_reader import MailReader
from graphmem.nn.pres import PRES
from graphmem.nn.state import StateModule, reset_state
from graphmem.nn.time import TimeEncoder
from graphmem.ops import _check
from graphmem.ops.pending import t_batches

Updater = Literal["gru", "rnn", "transformer"]
Commit = Literal["lazy", "eager"]

_UPDATERS = {"gru": GRUCell, "rnn": RNNCell, "transformer": TransformerCell}
# Nodes that `flush` updates at a time: their messages are some hundred megabytes.
_FLUSH_NODES = 1 << 17


class NodeMemory(MailReader, StateModule):
    r"""One state vector a node, moved by the events it takes part in. In place of PyG's ``TGNMemory``.

    An event (i, j, t, e) leaves mail at both ends; reading it moves node i from :math:`s_i` to

    .. math:: s_i' = \mathrm{upd}(\mathrm{agg}(m), s_i), \quad
        m = \mathrm{msg}(s_i, s_j, e, \phi(t - t_i)), \quad t_i = \text{time of i's last event that was read}

    An event of one node (i, t, v) leaves mail there: :math:`m = \mathrm{msg}_n(s_i, v, \phi(t - t_i))`, the paper's
    node-wise event.

    The mail holds the raw event, so that messages are computed anew, with gradients into message, time code and
    updater, at every read until the node's next event. Then their effect is written into the memory, without gradient.

    Every write goes into rows of detached state, every read hands out copies: it costs what a batch touches, however
    many nodes there are.

    Source: E. Rossi et al., "Temporal Graph Networks for Deep Learning on Dynamic Graphs", 2020, section 3; storing raw
    events until the next batch is its section 3.2. In evaluation mode weights do not change, and mail is read at once,
    as in PyG's module.

    Args:
        num_nodes: N.
        raw_msg_dim: D.
        memory_dim: d.
        time_dim: T.
        message_module: ``module(own [M, d], other [M, d], raw_msg [M, D], time_code [M, T])`` with ``out_channels``,
            copied for the destinations' halves; default, and what PyG's ``IdentityMessage`` stands for:
            :class:`ConcatMessage`.
        aggregator_module: "last" (default) or "mean" of a node's mail; PyG's two classes are recognised, any other
            module is called as ``module(messages [M, C], index [M], t [M], dim_size)``. "sequence": no aggregate, but
            an update for each half event in the mailbox, in order, each from the node's state behind the one before;
            the other ends' states stay those before the batch.
        updater: "gru", "rnn" or "transformer", which attends to all mail of the node in the place of an aggregate
            (:class:`TransformerCell`; in clean mode, with ``aggregator_module`` left as it is).
        commit: "lazy" as above, or "eager": mail is read at once in training too, which leaves the updater without
            gradient.
        mailbox: S: of a batch's events of one node so many are kept, the last ones in event order.
        time_init: of the time code, see :class:`TimeEncoder`.
        time_dtype: of all times, int64 or float64.
        compat: "clean", or "reference" for what PyG's module computes: one store for sources and one for destinations,
            of which only the one that is written to is emptied; the updater also runs, on a zero message, for nodes
            without mail; the last message is the one of the largest time; ``eval()`` reads all mail of all nodes.
        t_batches: take a batch in as parts in which no two events share an end, one behind the other
            (:func:`graphmem.ops.t_batches`). Where mail is read at once the memory is then that of batches of one
            event; lazily, but for what the other ends do between an event and the reading of its mail.
        node_message_module: for events of single nodes, which are refused without: "concat" (:class:`NodeMessage`) or
            ``module(own [M, d], raw_msg [M, D], time_code [M, T])`` to as many columns as the other messages have.
        flush_on_eval: read all mail when evaluation mode begins; default: with ``compat="reference"`` only.
        state_device: "cpu": memories and mail stay in main memory where the module moves to a GPU, for graphs whose
            state does not fit there; a batch's rows are copied to the weights and back. Not with PRES.

    Raises:
        ArgumentError: options that are unknown or do not fit each other.
    """

    memory: Tensor
    last_update: Tensor

    def __init__(
        self,
        num_nodes: int,
        raw_msg_dim: int,
        memory_dim: int,
        time_dim: int,
        message_module: nn.Module | None = None,
        aggregator_module: nn.Module | str = "last",
        *,
        updater: Updater = "gru",
        commit: Commit = "lazy",
        mailbox: int = 1,
        time_init: str = "linear",
        time_dtype: torch.dtype = torch.int64,
        compat: Literal["clean", "reference"] = "clean",
        t_batches: bool = False,
        node_message_module: nn.Module | str | None = None,
        flush_on_eval: bool | None = None,
        state_device: str | None = None,
    ) -> None:
        super().__init__()
        for name, value, low in (("num_nodes", num_nodes, 0), ("raw_msg_dim", raw_msg_dim, 0), ("mailbox", mailbox, 1)):
            _check.integer(name, value, low)
        _check.choice("updater", updater, _UPDATERS)
        if time_dtype not in (torch.int64, torch.float64):
            raise ArgumentError(f"time_dtype: expected torch.int64 or torch.float64, got {time_dtype}")
        self.commit = _check.choice("commit", commit, ("lazy", "eager"))
        self.compat = _check.choice("compat", compat, ("clean", "reference"))
        _check_together(commit, compat, updater, aggregator_module)
        self.t_batches = t_batches
        self.raw_msg_dim, self.memory_dim, self.time_dim = raw_msg_dim, memory_dim, time_dim
        self.flush_on_eval = compat == "reference" if flush_on_eval is None else flush_on_eval
        if message_module is None or is_pyg(message_module, "IdentityMessage"):
            message_module = ConcatMessage(raw_msg_dim, memory_dim, time_dim)
        self.msg_s_module = message_module
        self.msg_d_module = copy.deepcopy(message_module)
        if isinstance(node_message_module, str):
            _check.choice("node_message_module", node_message_module, ("concat",))
            node_message_module = NodeMessage(raw_msg_dim, memory_dim, time_dim)
        if node_message_module is not None and (t_batches or compat == "reference"):
            raise ArgumentError('node_message_module: expected None with t_batches or compat="reference"')
        self.node_message = node_message_module
        self._others: Callable[[Tensor], Tensor] | None = None
        self.aggregator = aggregator_name(aggregator_module)
        self.aggr_module = aggregator_module if isinstance(aggregator_module, nn.Module) else None
        self.time_enc = TimeEncoder(time_dim, time_init)
        self.updater: nn.Module = _UPDATERS[updater](int(message_module.out_channels), memory_dim)  # type: ignore[arg-type]
        self.register_state("memory", (num_nodes, memory_dim))
        self.register_state("last_update", (num_nodes,), dtype=time_dtype)
        self.mail = MailStore(num_nodes, mailbox, raw_msg_dim, time_dtype)
        self.mail_d: MailStore | None = None
        if compat == "reference":  # `mail` is for sources then, and this for destinations
            self.mail_d = MailStore(num_nodes, mailbox, raw_msg_dim, time_dtype)
        for part in (self, self.mail, self.mail_d):
            if part is not None:
                part.keep_state(state_device)
        self.reset_parameters()

    @property
    def num_nodes(self) -> int:
        """N."""
        return self.memory.size(0)

    def reset_parameters(self) -> None:
        """Draw all weights anew and forget everything, as PyG's module does."""
        for module in self.children():
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()  # type: ignore[operator]
        self.reset_state()

    def reset_state(self) -> None:
        """Forget everything: memory and mail."""
        reset_state(self)

    def forward(self, n_id: Tensor) -> tuple[Tensor, Tensor]:
        """Read nodes, their mail included. Nothing is written.

        Args:
            n_id: int64 [n]; with ``compat="reference"`` distinct.

        Returns:
            Their states [n, d] and the times of their last events [n] (0 for a node without any).
        """
        n_id = _check.tensor("n_id", n_id, shape=(None,), dtypes=(torch.int64,), device=self.device)
        _check.in_range("n_id", n_id, self.num_nodes)
        n_id = n_id.to(self.memory.device)
        if self.compat == "reference" and self.training:
            return self._behind(n_id)[:2]  # type: ignore[return-value]
        # index_select where speed counts: it is three times as fast as the same with brackets.
        memory, last_update = self.stored(n_id)
        waiting = self.mail.count.index_select(0, n_id).nonzero().view(-1)
        if self.compat == "reference" or waiting.numel() == 0:
            return memory, last_update
        nodes = n_id.index_select(0, waiting)
        count, nodes = nodes.numel(), torch.cat((nodes, self.also(nodes)))
        new, t = self._behind(nodes)[:2]
        self.remember(nodes, new)
        if nodes.numel() > count:
            new, t = new[:count], t[:count]
        waiting = waiting.to(new.device)
        return memory.index_copy(0, waiting, new), last_update.index_copy(0, waiting, t)

    @torch.inference_mode()  # nothing of this has a gradient, and operators need not look for one
    def update_state(
        self,
        src: Tensor,
        dst: Tensor,
        t: Tensor,
        raw_msg: Tensor | None = None,
        event: Tensor | None = None,
        types: Tensor | None = None,
        node_events: NodeEvents | None = None,
    ) -> None:
        """Take in the events of a batch, in order. Their ends' earlier mail is written into the memory first.

        Args:
            src: int64 [E].
            dst: int64 [E].
            t: [E] of ``time_dtype``.
            raw_msg: [E, D]; may be left out where D is 0.
            event: numbers of the events, int64 [E], for ``forget(events=...)``.
            types: their kinds, int64 [E], for a :class:`~graphmem.nn.PRES` that tells kinds apart.
            node_events: those of single nodes among them. They enter in the order of time, in which ``t`` has to ascend
                then; of equal times they are the first.

        Raises:
            ArgumentError: wrong shape, dtype, device or range, or events of single nodes where
                ``node_message_module`` is None or PRES corrects the memory.
        """
        if node_events is not None:
            self.check_node_events(node_events)
            _check.ascending("t", t, t[:1])
        checked = self.check_events(src, dst, t, raw_msg, event)
        self.check_kinds(types, src.numel())
        if not self.t_batches:
            self._take(*checked, types=types, lone=node_events)
            return
        for part in t_batches(src, dst):
            some = [column[part] for column in checked]
            self._take(*some, types=None if types is None else types[part])

    def _take(
        self,
        src: Tensor,
        dst: Tensor,
        t: Tensor,
        raw_msg: Tensor,
        event: Tensor,
        *,
        types: Tensor | None,
        lone: NodeEvents | None = None,
    ) -> None:
        columns = half_events(src, dst, t, raw_msg, event)
        if lone is not None and len(lone):
            msg = raw_msg.new_zeros(len(lone), self.raw_msg_dim) if lone.msg is None else lone.msg
            columns = with_lone(columns, lone.node, lone.t, msg)
        if self._state_stays:
            columns = {name: column.to(self.memory.device) for name, column in columns.items()}
        half = torch.arange(columns["owner"].numel(), device=self.memory.device)
        at_once = not self.training or self.commit == "eager"
        if self.mail_d is None:
            nodes, mail = group(columns, half, self.mail.size)
            self._read_into_memory(nodes)
            self.mark(src, dst, types)
            if at_once:
                self._write(nodes, *self._after(nodes, mail))
            else:
                self.mail.put(nodes, mail)
            return
        nodes = columns["owner"].unique()
        if not at_once:  # in evaluation PyG's mail was read when it came, and is kept
            self._read_into_memory(nodes)
        self.mark(src, dst, types)
        self.mail.put(*group(columns, half[::2], self.mail.size))
        self.mail_d.put(*group(columns, half[1::2], self.mail.size))
        if at_once:
            self._read_into_memory(nodes)

    @torch.no_grad()
    def flush(self) -> None:
        """Write the effect of all mail into the memory and empty the stores."""
        self._read_into_memory(torch.arange(self.num_nodes, device=self.memory.device))
        self.mail.reset()
        if self.mail_d is not None:
            self.mail_d.reset()

    def train(self, mode: bool = True) -> NodeMemory:
        """Set the mode; entering evaluation flushes where ``flush_on_eval`` says so."""
        if self.flush_on_eval and self.training and not mode:
            self.flush()
        super().train(mode)
        return self

    def forget(self, nodes: Tensor | None = None, events: Tensor | None = None) -> None:
        """Empty the rows of ``nodes``, their mail, and the mail that others have from them.

        What earlier messages of these nodes did to the memories of others stays. Single events can be taken out of the
        mail only (``memory.mail.forget(events=...)``), not out of the memory.

        Args:
            nodes: int64 [n].
            events: not supported: raises.

        Raises:
            ArgumentError: ``events`` is given, or ``nodes`` is not a vector of valid ids.
        """
        super().forget(nodes, events)

    def correct_by(self, pres: PRES) -> None:
        """Let ``pres`` correct the memory from now on; it becomes a part of this module, with its state and weights.

        Raises:
            ArgumentError: ``pres`` is for another number of nodes or width, or ``state_device`` is given.
        """
        if self._state_stays:
            raise ArgumentError("pres: expected a memory without state_device, whose state moves with its weights")
        super().correct_by(pres)

    def represent_others(self, function: Callable[[Tensor], Tensor]) -> None:
        """Let messages have ``function(nodes int64 [M]) -> [M, d]`` in place of the other ends' memories.

        It is called when mail is read, and may look at :attr:`memory`, not call the module.
        """
        self._others = function

    def check_events(
        self,
        src: Tensor,
        dst: Tensor,
        t: Tensor,
        raw_msg: Tensor | None,
        event: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Arguments of :meth:`update_state`, of which ``raw_msg`` and ``event`` are there.

        Raises:
            ArgumentError: wrong shape, dtype, device or range.
        """
        src, dst = _check.ends(src, dst, self.num_nodes, self.device)
        count = src.numel()
        t = _check.tensor("t", t, shape=(count,), dtypes=(self.last_update.dtype,), device=self.device)
        if raw_msg is None and self.raw_msg_dim == 0:
            raw_msg = t.new_empty(count, 0, dtype=self.memory.dtype)
        raw_msg = _check.tensor(
            "raw_msg", raw_msg, shape=(count, self.raw_msg_dim), dtypes=(self.memory.dtype,), device=self.device
        )
        if event is None:
            return src, dst, t, raw_msg, src.new_full((), -1).expand(count)
        return src, dst, t, raw_msg, _check.tensor("event", event, shape=(count,), dtypes=(torch.int64,))

    def check_node_events(self, events: NodeEvents) -> None:
        """See whether :meth:`update_state` takes these events of single nodes.

        Raises:
            ArgumentError: it does not, or their nodes, times or features do not fit the memory.
        """
        if self.node_message is None:
            raise ArgumentError('node_events: expected None without node_message_module ("concat" is the usual one)')
        if self.pres is not None:
            raise ArgumentError("node_events: expected None with PRES, which is defined for links")
        _check.in_range("node_events.node", events.node, self.num_nodes)
        count, device = len(events), self.device
        _check.tensor("node_events.t", events.t, shape=(count,), dtypes=(self.last_update.dtype,), device=device)
        if events.msg is not None:
            shape, dtypes = (count, self.raw_msg_dim), (self.memory.dtype,)
            _check.tensor("node_events.msg", events.msg, shape=shape, dtypes=dtypes, device=device)

    def _read_into_memory(self, nodes: Tensor) -> None:
        """Write the effect of the mail of distinct nodes; in clean mode the mail is gone then."""
        if self.compat == "clean":
            nodes = nodes.index_select(0, self.mail.count.index_select(0, nodes).nonzero().view(-1))
        if nodes.numel() == 0:
            return
        # All messages are computed before the first write: they read the memories of others.
        found = [self._behind_again(some) for some in nodes.split(_FLUSH_NODES)]
        self._last = None
        self._write(nodes, *(torch.cat(part) for part in zip(*found, strict=True)))
        if self.compat == "clean":
            self.mail.clear(nodes)

    def _write(self, nodes: Tensor, states: Tensor, t: Tensor, raw: Tensor | None = None) -> None:
        self.memory[nodes] = self.committed(nodes, states, t, raw).to(self.memory.device)
        self.last_update[nodes] = t.to(self.memory.device)

    def _stored(self) -> Tensor:
        return self.memory

    def _since(self, nodes: Tensor) -> Tensor:
        return self.last_update.index_select(0, nodes)

    def _read(self, nodes: Tensor) -> Tensor:
        return self(nodes)[0]  # type: ignore[no-any-return]

    def extra_repr(self) -> str:
        """Show sizes and options."""
        return (
            f"{self.num_nodes}, {self.raw_msg_dim}, {self.memory_dim}, {self.time_dim}, "
            f"aggregator={self.aggregator!r}, commit={self.commit!r}, compat={self.compat!r}"
        )


def _check_together(commit: str, compat: str, updater: str, aggregator: nn.Module | str) -> None:
    if compat == "reference" and commit == "eager":
        raise ArgumentError('commit: expected "lazy" with compat="reference", which is what PyG does, got "eager"')
    if updater == "transformer" and (compat == "reference" or aggregator != "last"):
        raise ArgumentError(
            'updater: expected "gru" or "rnn" with compat="reference" or an aggregator, got "transformer", which '
            "reads all mail itself"
        )
