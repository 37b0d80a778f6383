"""Frame of the temporal link models: score candidates from the state, then show the state what happened."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from graphmem.data.stream import EventStream
from graphmem.errors import ArgumentError
from graphmem.nn.correction import Correctable
from graphmem.nn.link_predictor import LinkPredictor
from graphmem.nn.memory import NodeMemory
from graphmem.nn.pres import PRES
from graphmem.nn.state import StateModule
from graphmem.nn.time import LogAge
from graphmem.ops import _check, distinct


class TemporalLinkModel(StateModule):
    """A model of links on a stream of events.

    The caller owns the order: predict, then update. ``position`` is the number of the event behind the last one that
    the model has been shown.
    """

    position: Tensor
    msg_dim = 0
    """Width of the messages that the model reads."""
    reads_signs = False
    """Whether :meth:`update` reads ``events.weight``."""
    reads_node_events = False
    """Whether :meth:`update` takes events of single nodes; models that do not raise."""

    def __init__(self) -> None:
        super().__init__()
        self.register_state("position", (), dtype=torch.int64, per_node=False)

    def prepare(self, events: EventStream) -> None:
        """Look at a whole stream before its first event, for data that later events refer back to by number.

        Nothing of an event may show in a score before :meth:`update` was called with it.
        """

    def fit_times(self, events: EventStream) -> None:
        """Fit the units of ages to training events, where they were not given: see :class:`~graphmem.nn.LogAge`."""
        for module in self.modules():
            if isinstance(module, LogAge):
                module.fit(events.src, events.dst, events.t)

    def follow(self) -> None:
        """Be ready for a stream without an end, in place of :meth:`prepare`: keep what later events refer back to."""

    @property
    def num_nodes(self) -> int:
        """N, rows of the state; 0 where it has no row for each node."""
        return 0

    @property
    def time_dtype(self) -> torch.dtype:
        """Of times, int64 or float64."""
        raise NotImplementedError

    def score(self, src: Tensor, dst: Tensor, t: Tensor) -> Tensor:
        """Logits of candidates. Reads the state, never writes it.

        Args:
            src: int64 [B].
            dst: int64 [B, C].
            t: [B], times of the questions.

        Returns:
            [B, C].
        """
        raise NotImplementedError

    @property
    def num_outputs(self) -> int:
        """K, numbers of a pair in :meth:`outputs`."""
        return 1

    def outputs(self, src: Tensor, dst: Tensor, t: Tensor) -> Tensor:
        """All numbers of candidates, [B, C, K], for tasks of other than one class; by default those of :meth:`score`.

        Arguments as there.
        """
        return self.score(src, dst, t).unsqueeze(2)

    def update(self, events: EventStream) -> None:
        """Take in events that happened, in order."""
        raise NotImplementedError

    def step(self, events: EventStream, dst: Tensor) -> Tensor:
        """Score candidates of the events' sources at their times, then take in the events: without gradient.

        Args:
            events: that happened, in order.
            dst: int64 [E, C].

        Returns:
            [E, C], what :meth:`score` returns before :meth:`update`.
        """
        with torch.no_grad():
            scores = self.score(events.src, dst, events.t)
            self.update(events)
        return scores

    @property
    def correctable(self) -> Correctable:
        """The memory that PRES may correct.

        Raises:
            ArgumentError: there is none of which each node has a row.
        """
        raise ArgumentError(f"pres: expected a model with a node memory, got {type(self).__name__}")

    def correct_by(self, pres: PRES) -> None:
        """Let PRES correct the memory; add :meth:`aux_loss` to the loss then.

        Raises:
            ArgumentError: the model has no memory of which each node has a row, or ``pres`` does not fit it.
        """
        self.correctable.correct_by(pres)

    def aux_loss(self, share: Callable[[Tensor], Tensor] | None = None) -> Tensor | None:
        """What is to be added to the loss of a batch, ``None`` for nothing: the coherence of PRES.

        Args:
            share: the part of some rows that this process works on; the parts of all add up to the whole.
        """
        return None

    def reveal(self, events: EventStream) -> None:
        """Let questions meet links of these events from behind their times on, before :meth:`update` shows the rest.

        Raises:
            ArgumentError: the model has no neighbours that it can ask about a time.
        """
        raise ArgumentError(
            f'visibility: "mixed" needs a model that reads neighbours at the time of a question (TGN with '
            f"TemporalNeighbors), got {type(self).__name__}"
        )

    def _checked(self, src: Tensor, dst: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What :meth:`score` is given, if it fits the model."""
        device = self.position.device
        src = _check.tensor("src", src, shape=(None,), dtypes=(torch.int64,), device=device)
        dst = _check.tensor("dst", dst, shape=(src.numel(), None), dtypes=(torch.int64,), device=device)
        t = _check.tensor("t", t, shape=(src.numel(),), dtypes=(self.time_dtype,), device=device)
        _check.in_range("src and dst", torch.cat((src, dst.view(-1))), self._num_ids)
        return src, dst, t

    @property
    def _num_ids(self) -> int:
        """Ids of nodes that :meth:`score` takes are below this."""
        return self.num_nodes

    def _check_times(self, events: EventStream) -> None:
        """Raise for times of another dtype than the model's, which are neither cast nor rounded."""
        if events.t.dtype != self.time_dtype:
            wanted = str(self.time_dtype).removeprefix("torch.")
            raise ArgumentError(
                f"t: expected {wanted}, the dtype of times that {type(self).__name__} was built for, got "
                f"{_check.describe(events.t)}"
            )

    def _check_links(self, events: EventStream) -> None:
        """Raise for times that do not fit and for events of single nodes. Call this before anything is written."""
        self._check_times(events)
        if events.node_events is not None:
            raise ArgumentError(
                f"events: {type(self).__name__} takes links only, and got events of single nodes; take "
                "events.with_node_events(None), or a model with a node memory (TGN, TNCN, JODIE, DyRep)"
            )

    def _advance(self, events: EventStream) -> None:
        # Past torch's look at every attribute that is set, which takes longer than the rest.
        own = self._buffers
        own["position"] = torch.full_like(own["position"], events.first + len(events))  # type: ignore[arg-type]


class EmbeddingLinkModel(TemporalLinkModel):
    """An embedding of nodes and a decoder of pairs.

    Each distinct node of a call (with ``embeds_time``: each distinct pair of node and time) is embedded once.

    Args:
        embedding_dim: width of :meth:`embed`.
    """

    embeds_time = False

    def __init__(self, embedding_dim: int) -> None:
        super().__init__()
        self.predictor: Any = LinkPredictor(embedding_dim)

    def embed(self, nodes: Tensor, t: Tensor | None) -> Tensor:
        """Embed nodes.

        Args:
            nodes: int64 [n]; distinct unless ``embeds_time``.
            t: [n], times of the questions; ``None`` unless ``embeds_time``.

        Returns:
            [n, embedding_dim].
        """
        raise NotImplementedError

    def score(self, src: Tensor, dst: Tensor, t: Tensor) -> Tensor:
        """Logits [B, C] of candidates dst int64 [B, C] of sources int64 [B], at times [B]."""
        src, dst, t = self._checked(src, dst, t)
        nodes, place = distinct(torch.cat((src, dst.view(-1))))
        when = None
        if self.embeds_time:
            times, rank = t.unique(return_inverse=True)
            rank = torch.cat((rank, rank.repeat_interleave(dst.size(1))))
            items, place = distinct(place * times.numel() + rank)
            nodes, when = nodes[items // times.numel()], times[items % times.numel()]
        source, destination = place.split([src.numel(), dst.numel()])
        return self.decode(nodes, when, source, destination.view(dst.shape))

    def decode(self, nodes: Tensor, t: Tensor | None, source: Tensor, destination: Tensor) -> Tensor:
        """Logits [B, C] of candidates [B, C] of sources [B]: places among nodes [n] at times [n], see :meth:`embed`."""
        out: Tensor = self.predictor(self.embed(nodes, t), source, destination)
        return out


class MemoryLinkModel(EmbeddingLinkModel):
    """A model whose embedding reads a node memory.

    Args:
        memory: the node memory.
        embedding_dim: width of :meth:`embed`.
    """

    def __init__(self, memory: NodeMemory, embedding_dim: int) -> None:
        super().__init__(embedding_dim)
        self.memory, self.msg_dim = memory, memory.raw_msg_dim

    @property
    def num_nodes(self) -> int:
        """N."""
        return self.memory.num_nodes

    @property
    def time_dtype(self) -> torch.dtype:
        """Of times, int64 or float64."""
        return self.memory.last_update.dtype

    @property
    def reads_node_events(self) -> bool:  # type: ignore[override]
        """Whether the memory takes events of single nodes, by its ``node_message_module``."""
        return self.memory.node_message is not None

    @property
    def correctable(self) -> Correctable:
        """The node memory."""
        return self.memory

    def aux_loss(self, share: Callable[[Tensor], Tensor] | None = None) -> Tensor | None:
        """The coherence of PRES, where it corrects the memory; see :meth:`TemporalLinkModel.aux_loss`."""
        return self.memory.aux_loss(share)

    def update(self, events: EventStream) -> None:
        """Give the events to the memory."""
        self._check_times(events)
        kinds = event_kinds(events, self.memory.pres)
        state = self.memory.update_state
        state(events.src, events.dst, events.t, events.msg, events.eid, kinds, events.node_events)
        self._advance(events)


def event_kinds(events: EventStream, pres: PRES | None) -> Tensor | None:
    """Kinds of events, int64 [E], for a PRES that tells kinds apart: their types, or 1 for negative weights, else 0.

    Call this before anything is written.

    Raises:
        ArgumentError: the events have neither types nor weights, or types that PRES has no moments for.
    """
    if pres is None or pres.num_types == 1:
        return None
    if events.edge_type is not None:
        kinds = events.edge_type
    elif events.weight is not None:
        kinds = (events.weight < 0).long()
    else:
        raise ArgumentError(f"num_types: expected events with types or weights for {pres.num_types} kinds, got neither")
    pres.waiting.check_kinds(kinds, len(events))
    return kinds
