"""Online use of a temporal model: predict, update, save, go on."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from graphmem.data.names import NodeNames, as_names, names_of
from graphmem.data.stream import EventStream
from graphmem.engine.checkpoint import load_checkpoint, save_checkpoint
from graphmem.engine.lateness import Events, LatenessBuffer
from graphmem.engine.online_build import AFTER, empty_model, follow_run
from graphmem.errors import ArgumentError, ArgumentTypeError, CheckpointError
from graphmem.models.temporal import TemporalLinkModel
from graphmem.nn.state import grow_state
from graphmem.ops import _check

STATE_FILE = "predictor.pt"
# Least number of rows that the state grows by.
_SPARE_ROWS = 64

Names = npt.NDArray[Any]
Times = npt.NDArray[Any]

_TIMES = {torch.int64: np.int64, torch.float64: np.float64}


class StreamPredictor:
    """A trained model beside a stream without an end.

    Nodes go by their names. A name that no event has had yet is scored as a node about which nothing is known, and
    becomes a node with its first event, for which the state grows. Events are given as an :class:`EventStream` or as
    ``(src, dst, t)``, ``(src, dst, t, msg)`` or ``(src, dst, t, msg, weight)``: names, names, times, rows [E, D] and
    signed weights, or single values for one event; a model without messages or signs does not read these. Names are
    text or whole numbers, in lists, arrays or columns of frames. A call that
    raises an error has changed nothing.

    Events have to come in the order of time, or late by no more than ``lateness``: then they wait until the latest time
    minus ``lateness`` has reached theirs, and enter the state in the order of time. Predictions see what has entered.
    Whatever enters in one call does so as one batch, which memories see; the cut is the caller's.

    Args:
        model: in the state from which to go on. It belongs to the predictor from now on: in evaluation mode, with
            spare rows for new nodes.
        names: of its nodes; by default they go by their numbers. Rows behind those with a name have to be empty.
        latest: time of the last event in its state; ``None``: any may come.
        lateness: in units of time.

    Raises:
        ArgumentError: more names than the model has nodes, none for a model that does not know how many it has, or a
            lateness that does not fit its times.

    Attributes:
        extra: tensors and plain values of the caller, kept in what :meth:`save` writes.

    Example:
        >>> from graphmem.models import Recency
        >>> predictor = StreamPredictor(Recency(3))
        >>> predictor.step(([0, 1], [2, 2], [10, 11])).tolist()
        [-4.611686018427388e+18, -4.611686018427388e+18]
        >>> predictor.predict(0, [1, 2], 12).tolist()
        [-4.611686018427388e+18, 0.3333333333333333]
    """

    def __init__(
        self,
        model: TemporalLinkModel,
        *,
        names: NodeNames | None = None,
        latest: float | None = None,
        lateness: float = 0,
    ) -> None:
        if names is None and not model.num_nodes and int(model.position):
            raise ArgumentError(f"names: expected those of the events that {type(model).__name__} has seen, got None")
        self.names = NodeNames(model.num_nodes) if names is None else names
        if 0 < model.num_nodes < len(self.names):
            raise ArgumentError(f"names: expected at most those of {model.num_nodes} nodes, got {len(self.names)}")
        self.model = model.eval()
        self.model.follow()
        self._device = model.position.device
        self._buffer = LatenessBuffer(lateness, latest, model.time_dtype)
        self._config: dict[str, Any] | None = None
        self.extra: dict[str, Any] = {}
        self._rows = model.num_nodes
        self._reserve()

    @property
    def lateness(self) -> float:
        """In units of time."""
        return self._buffer.lateness

    @property
    def latest(self) -> float | None:
        """Latest time that was seen."""
        return self._buffer.latest

    @property
    def num_waiting(self) -> int:
        """Number of events that wait for those before them."""
        return len(self._buffer)

    @property
    def num_events(self) -> int:
        """Number of events that have entered the state."""
        return int(self.model.position)

    def predict(self, src: Any, candidates: Any, t: Any) -> Tensor:
        """Logits of candidates, from the state as it is. Writes nothing.

        Args:
            src: names [B], or one.
            candidates: names of destinations [B, C]; [C] for one source.
            t: times [B] of the questions, or one.

        Returns:
            [B, C]; [C] for one source.

        Raises:
            ArgumentError: shapes, names or times that do not fit.
        """
        src, candidates = as_names(src), as_names(candidates)
        source, dst, time = self.names.find(src), self.names.find(candidates, dst=True), self._times(t)
        single = source.ndim == 0
        if single:
            source, dst, time = source[None], dst[None], time[None]
        if source.ndim != 1 or dst.ndim != 2 or dst.shape[0] != source.size or time.shape != source.shape:
            raise ArgumentError(
                f"src, candidates, t: expected shapes [B], [B, C], [B] or (), [C], (), got {list(src.shape)}, "
                f"{list(candidates.shape)}, {list(np.shape(t))}"
            )
        scores = self._score(source, dst, time, lambda: candidates.reshape(dst.shape) == src.reshape(-1, 1))
        return scores[0] if single else scores

    def update(self, events: EventStream | Sequence[Any]) -> None:
        """Take in events that happened.

        Raises:
            LateEventError: an event is too late.
            ArgumentError: columns that do not fit each other or the model.
        """
        self._take_in(*self._read(events))

    def step(self, events: EventStream | Sequence[Any], candidates: Any = None) -> Tensor:
        """Predict events from the state before them, then take them in.

        Args:
            events: as for :meth:`update`.
            candidates: names of other destinations [E, C] to score beside each event's own.

        Returns:
            Logits of the events [E]; with candidates [E, 1 + C], the events' own first.

        Raises:
            LateEventError: an event is too late.
            ArgumentError: columns that do not fit each other or the model.
        """
        src, dst, t, msg, weight = self._read(events)
        asked = self.names.find(dst, dst=True)[:, None]
        if candidates is not None:
            candidates = as_names(candidates)
            others = self.names.find(candidates, dst=True)
            if others.ndim != 2 or others.shape[0] != t.size:
                raise ArgumentError(f"candidates: expected [{t.size}, C], got {list(others.shape)}")
            asked = np.concatenate((asked, others), 1)

        def same() -> npt.NDArray[np.bool_]:
            own = (src == dst)[:, None]
            beside = () if candidates is None else (candidates == src[:, None],)
            return np.concatenate((own, *beside), 1)

        source = self.names.find(src)
        if len(self._buffer) or self.lateness or (source < 0).any() or (asked < 0).any():
            scores = self._score(source, asked, t, same)
            self._take_in(src, dst, t, msg, weight)
        else:  # what is scored enters now and needs no new rows: models may read their nodes once for both
            scores = self._pass_on(source, asked, t, msg, weight)
        return scores[:, 0] if candidates is None else scores

    @torch.no_grad()
    def flush(self) -> None:
        """Let all events that wait enter; later ones may not be older than these."""
        released = self._buffer.flush()
        if released is not None:
            self._enter(released)

    def _score(self, src: Names, dst: Names, t: Times, same: Callable[[], npt.NDArray[np.bool_]]) -> Tensor:
        # A name that is not known reads a spare row, which is empty: the first, or the second for a destination that
        # is not the ``same`` as the source, since two nodes that nobody knows are not one. Names are compared only
        # where some are not known: that takes longer than to look them up.
        unknown = len(self.names)
        source = self._tensor(np.where(src < 0, unknown, src))
        if (dst < 0).any():
            one = same() & (not self.names.bipartite)
            dst = np.where(dst < 0, np.where(one, unknown, unknown + 1), dst)
        destination = self._tensor(dst)
        # Operators are then called without a look at their gradients, which would take longer than some of them do.
        with torch.inference_mode():
            scores = self.model.score(source, destination, self._tensor(t))
        return scores.clone()

    def _tensor(self, column: npt.NDArray[Any]) -> Tensor:
        return torch.from_numpy(column).to(self._device)

    @torch.no_grad()
    def _take_in(self, src: Names, dst: Names, t: Times, msg: Tensor | None, weight: Tensor | None) -> None:
        nodes = self.names.add(src, dst)
        self._reserve()
        events = Events(self._tensor(nodes[0]), self._tensor(nodes[1]), self._tensor(t), msg, weight)
        self._enter(self._buffer.push(events))

    def _pass_on(self, src: Names, asked: Names, t: Times, msg: Tensor | None, weight: Tensor | None) -> Tensor:
        """Score events between known nodes, beside their candidates, and let them enter."""
        dst = self._tensor(asked)
        events = Events(self._tensor(src), dst[:, 0].contiguous(), self._tensor(t), msg, weight)
        return self.model.step(self._stream(self._buffer.push(events)), dst)

    def _enter(self, events: Events) -> None:
        if len(events):
            self.model.update(self._stream(events))

    def _stream(self, events: Events) -> EventStream:
        columns: dict[str, Any] = {"msg": events.msg, "weight": events.weight}
        return EventStream.trusted(*events[:3], self._rows, **columns, first=int(self.model.position))

    def _reserve(self) -> None:
        """Keep at least two rows empty behind those of the nodes."""
        if len(self.names) + 2 > self._rows:
            self._rows = len(self.names) + max(len(self.names) // 4, _SPARE_ROWS, 2)
            grow_state(self.model, self._rows)

    def _read(self, events: EventStream | Sequence[Any]) -> tuple[Names, Names, Times, Tensor | None, Tensor | None]:
        """Columns of events that may enter."""
        if isinstance(events, EventStream):
            if events.node_events is not None:
                raise ArgumentError("node_events: a StreamPredictor takes links only; use with_node_events(None)")
            ends = [names_of(events, end.cpu().numpy()) for end in (events.src, events.dst)]
            events = (*ends, events.t.cpu(), events.msg, events.weight)
        if not isinstance(events, Sequence) or not 3 <= len(events) <= 5:
            raise ArgumentTypeError("events: expected an EventStream, or (src, dst, t), and perhaps msg and weight")
        src, dst, t = np.atleast_1d(as_names(events[0]), as_names(events[1]), self._times(events[2]))
        if src.ndim != 1 or src.shape != dst.shape or src.shape != t.shape:
            shapes = ", ".join(str(list(column.shape)) for column in (src, dst, t))
            raise ArgumentError(f"events: expected columns [E] of one length, got {shapes}")
        msg = self._messages(events[3] if len(events) > 3 else None, t.size)
        weight = self._weights(events[4] if len(events) > 4 else None, t.size)
        self._buffer.check(t)
        return src, dst, t, msg, weight

    def _times(self, t: Any) -> Times:
        given = np.asarray(t)
        if given.dtype.kind not in "iu" and given.dtype != np.float64:
            raise ArgumentError(f"t: expected whole or float64 times, got {given.dtype}")
        with np.errstate(invalid="ignore"):
            times = given.astype(_TIMES[self._buffer.dtype])
        if not (times == given).all() or not np.isfinite(times).all():
            kind = "whole" if self._buffer.dtype == torch.int64 else "finite"
            raise ArgumentError(f"t: expected {kind} times as in the stream of the model, got {given}")
        return times

    def _messages(self, msg: Any, count: int) -> Tensor | None:
        width = self.model.msg_dim
        if width == 0:
            return None
        if msg is None:
            raise ArgumentError(f"msg: expected messages [{count}, {width}], got none")
        rows = torch.as_tensor(msg, dtype=torch.float32, device=self._device)
        rows = _check.tensor(
            "msg", rows.reshape(1, -1) if rows.dim() == 1 else rows, shape=(count, width), dtypes=(torch.float32,)
        )
        if not bool(rows.isfinite().all()):
            raise ArgumentError("msg: expected finite numbers")
        return rows

    def _weights(self, weight: Any, count: int) -> Tensor | None:
        if not self.model.reads_signs:
            return None
        if weight is None:
            raise ArgumentError(f"weight: expected signed weights [{count}], got none")
        column = torch.as_tensor(weight, dtype=torch.float32, device=self._device).reshape(-1)
        column = _check.tensor("weight", column, shape=(count,), dtypes=(torch.float32,))
        if not bool((column.isfinite() & (column != 0)).all()):
            raise ArgumentError("weight: expected finite numbers other than 0, whose signs are those of the events")
        return column

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write weights, state, names, waiting events and :attr:`extra` to a file in ``folder``, whole at any moment.

        Raises:
            CheckpointError: the file cannot be written.
            ArgumentError: ``extra`` holds something else than tensors and plain values.
        """
        content = {
            "config": self._config,
            "msg_dim": self.model.msg_dim,
            "whole_times": self._buffer.dtype == torch.int64,
            "model": self.model.state_dict(),
            "names": self.names.to_plain(),
            "order": self._buffer.to_plain(),
            "extra": self.extra,
        }
        save_checkpoint(Path(folder) / STATE_FILE, {"predictor": content})

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        model: TemporalLinkModel | None = None,
        after: str | None = None,
        lateness: float | None = None,
        device: str | None = None,
    ) -> StreamPredictor:
        """Go on from what :meth:`save` wrote, with the same bits, or from a training run.

        Args:
            path: folder of a saved predictor, or of a seed of a run; or a file in one.
            model: a new model of the same kind, for a predictor that did not come from a run.
            after: of a run: what of its stream the state has seen when this returns: "nothing"; the events up to the
                end of "train", as training left it, or "valid"; or all, "test", which is the default.
            lateness: as saved, or 0, by default.
            device: "cpu", "cuda" or "auto"; that of the run by default.

        Raises:
            CheckpointError: missing, damaged, of a graph model, or of another kind than ``model``.
            ArgumentError: ``after`` of a saved predictor, whose state is what it is; or an unknown period.
        """
        file = Path(path)
        if (file / STATE_FILE).is_file():
            file /= STATE_FILE
        saved = None if file.is_dir() else load_checkpoint(file).get("predictor")
        if saved is None:
            run = follow_run(file, after or "test", device)
            predictor = cls(run.model, names=run.names, latest=run.latest, lateness=lateness or 0)
            predictor._config = run.config
            return predictor
        if after is not None:
            raise ArgumentError(f"after: expected None for the saved state in {file}, got {after!r}")
        if model is None:
            if saved["config"] is None:
                raise CheckpointError(f"{file}: expected `model`, for the predictor did not come from a run")
            model = empty_model(saved["config"], saved["msg_dim"], saved["whole_times"], device)
        model.follow()
        try:
            model.load_state_dict(saved["model"])
        except RuntimeError as error:
            raise CheckpointError(f"{file} does not fit the model: {error}") from error
        order = saved["order"] if lateness is None else {**saved["order"], "lateness": lateness}
        predictor = cls(model, names=NodeNames.from_plain(saved["names"]), lateness=order["lateness"])
        predictor._buffer.restore(order, predictor._device)
        predictor._config, predictor.extra = saved["config"], saved["extra"]
        return predictor


__all__ = ["AFTER", "StreamPredictor"]
