"""Messages of past events, which a model that keeps the numbers of events looks up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from graphmem.data.stream import EventStream
from graphmem.errors import ArgumentError
from graphmem.models.temporal import TemporalLinkModel
from graphmem.nn.messages import EventMessages


class ReadsMessages(TemporalLinkModel):
    """A model that looks up messages of past events by their numbers: in the stream, or in what it has kept of one."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.messages: EventMessages | None = None
        self._messages: Tensor | None = None

    @property
    def _referred(self) -> Callable[[], Tensor] | None:
        """What lists the events that the model may still look up; ``None``: any."""
        return None

    def prepare(self, events: EventStream) -> None:
        """Keep the messages of a stream, to look up those of past events."""
        if events.first != 0:
            raise ArgumentError(f"events: expected a stream from its first event on, got one from {events.first} on")
        self.messages, self._messages = None, events.msg

    def follow(self) -> None:
        """Keep the messages of the events that may be looked up again."""
        if self.msg_dim == 0 or self.messages is not None:
            return
        messages = EventMessages(self.msg_dim).to(self.position.device)
        if int(self.position):
            known = self._known_messages()
            events = torch.arange(int(self.position), device=known.device)
            if self._referred is not None:
                events = self._referred()
            messages.append(events, known[events])
        self.messages, self._messages = messages, None

    def _look_up(self, eid: Tensor) -> tuple[Tensor | None, Tensor]:
        """Messages, and the rows of those of events int64 [*]; ``None`` for a model without. Any row for -1."""
        if self.messages is not None:
            return self.messages.msg, self.messages.find(eid)
        return (self._known_messages() if self.msg_dim else None), eid

    def _told(self) -> tuple[Tensor, Tensor | None]:
        """All messages that may be looked up; the ascending numbers of their events, or ``None``: those of the rows."""
        if self.messages is None:
            return self._known_messages(), None
        count = len(self.messages)
        return self.messages.msg[:count], self.messages.eid[:count]

    def _known_messages(self) -> Tensor:
        known, past = 0 if self._messages is None else self._messages.size(0), int(self.position)
        if past > known or self._messages is None:
            raise ArgumentError(
                f"prepare: expected a call with a stream of at least {past} events before the first "
                f"score, for their messages; {known} are known"
            )
        return self._messages

    def _keep_messages(self, events: EventStream) -> None:
        """Keep the messages of events that happened, where the model follows a stream.

        Raises:
            ArgumentError: the events have none. Call this before anything else is written.
        """
        if self.messages is not None:
            if events.msg is None:
                raise ArgumentError(f"events: expected messages of width {self.msg_dim}, got events without")
            self.messages.append(events.eid, events.msg, self._referred, self.num_nodes)
