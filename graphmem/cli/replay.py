"""Scores of events from a file or a pipe, each from the state before it."""

from __future__ import annotations

import csv
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy.typing as npt
import torch
from torch import Tensor

from graphmem.data._random import below, draws
from graphmem.data.formats.event_chunks import EventChunk, EventReader
from graphmem.engine.metrics import average_precision, ranks
from graphmem.engine.online import STATE_FILE, StreamPredictor
from graphmem.engine.options import check_count
from graphmem.errors import ArgumentError, LateEventError

HEADER = ("source", "destination", "time", "logit", "probability")


@dataclass(frozen=True, kw_only=True)
class ReplayOptions:
    """How events are read, scored and kept.

    Args:
        events: file of events, csv, tsv, txt (all with or without .gz), parquet or KONECT's out.NAME; or - for standard
            input.
        format: csv, tsv, space or parquet; by the file's ending by default, csv for standard input.
        columns: of source, destination and time, by place or by name.
        msg_from: place of the first of the features, which are all columns behind it.
        weight_column: of signed weights, by place or by name, for models of signs.
        header: whether text begins with a line of names; found out by default.
        batch_size: events that are predicted from the same state and enter it together.
        candidates: score so many random destinations beside each event, too, and report AP (against the first of them)
            and MRR (among all).
        seed: of the random destinations.
        after: what of a run's own stream the state has seen before the first event; nothing, train, valid or test, the
            default.
        lateness: events may be late by so much, in units of time.
        out: csv with the scores; stdout by default.
        save_state: folder for the state behind the last event, from which a later replay goes on.
        save_every: save it after every so many batches, too.
        resume: go on where the last saved state is, with the same events and the same out.
        device: cpu, cuda or auto; as in training by default.
    """

    events: str
    format: str | None = None
    columns: tuple[str, ...] | None = None
    msg_from: int | None = None
    weight_column: str | None = None
    header: bool | None = None
    batch_size: int = 200
    candidates: int | None = None
    seed: int = 42
    after: str | None = None
    lateness: float | None = None
    out: str | None = None
    save_state: str | None = None
    save_every: int | None = None
    resume: bool = False
    device: str | None = None

    def __post_init__(self) -> None:
        """Check what can be checked without data."""
        for name in ("batch_size", "candidates", "save_every"):
            if getattr(self, name) is not None:
                check_count(name, getattr(self, name))
        if self.resume and (self.save_state is None or self.out is None):
            raise ArgumentError("resume: expected save_state and out, which say where to go on")
        if self.save_every is not None and self.save_state is None:
            raise ArgumentError("save_every: expected save_state, which says where")


def replay(checkpoint: Path, options: ReplayOptions, quiet: bool = False) -> dict[str, Any]:
    """Score every event of a file from the state before its batch, then let it enter.

    The result has a line for each event, in the file's order: its ends, its time, the logit, its logistic function and,
    with ``candidates``, its rank among them. A batch that holds a malformed line or an event that is too late ends the
    replay; what was before it is written.

    Args:
        checkpoint: of a training run, or a folder that ``save_state`` named.
        options: everything else.
        quiet: no progress bar.

    Raises:
        DatasetIntegrityError: a line that is no event; the message names it.
        LateEventError: an event that is too late; the message names its line.
        ArgumentError: options that do not fit the model or the file.
        CheckpointError: nothing to go on from.
    """
    from tqdm import tqdm

    start = time.perf_counter()
    predictor = _predictor(checkpoint, options)
    reader, scorer = _reader(predictor, options), _Scorer(predictor, options)
    done = predictor.extra.get("replay", {"read": 0, "written": 0})
    read, nodes = done["read"], len(predictor.names)
    with _target(options.out, done["written"]) as file, tqdm(unit="event", disable=True if quiet else None) as bar:
        writer = csv.writer(file, lineterminator="\n")
        if not done["written"]:
            writer.writerow(HEADER if options.candidates is None else (*HEADER, "rank"))
        for number, chunk in enumerate(reader.chunks(options.batch_size, skip=read), 1):
            writer.writerows(scorer.rows(chunk, reader.origin))
            read += len(chunk.places)
            bar.update(len(chunk.places))
            if file is sys.stdout:
                file.flush()  # somebody may wait for it at the other end of a pipe
            if options.save_every is not None and number % options.save_every == 0:
                _save(scorer, read, file)
        if options.save_state is not None:
            _save(scorer, read, file)
    return {
        "events": read,
        "waiting": predictor.num_waiting,
        "nodes": len(predictor.names),
        "new_nodes": len(predictor.names) - nodes,
        "seconds": time.perf_counter() - start,
        "metrics": scorer.metrics(),
        "out": options.out,
        "state": options.save_state,
    }


def _predictor(checkpoint: Path, options: ReplayOptions) -> StreamPredictor:
    """The predictor; ``extra["replay"]`` says where in the file it stands if that is not the beginning."""
    saved = None if options.save_state is None else Path(options.save_state)
    if not options.resume or saved is None or not (saved / STATE_FILE).is_file():
        predictor = StreamPredictor.load(
            checkpoint, after=options.after, lateness=options.lateness, device=options.device
        )
        predictor.extra.pop("replay", None)
        return predictor
    predictor = StreamPredictor.load(saved, device=options.device)
    kept = predictor.extra["replay"]["options"]
    for name, value in _same(options).items():
        if kept[name] != value:
            raise ArgumentError(f"{name}: expected {kept[name]!r} as in the replay to go on with, got {value!r}")
    return predictor


def _same(options: ReplayOptions) -> dict[str, Any]:
    """What may not change when a replay goes on."""
    return {name: getattr(options, name) for name in ("events", "batch_size", "candidates", "seed")}


@contextmanager
def _target(path: str | None, written: int) -> Iterator[TextIO]:
    """Where the result goes, behind its first ``written`` bytes."""
    if path is None:
        yield sys.stdout
        return
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    if written and not (target.is_file() and target.stat().st_size >= written):
        raise ArgumentError(f"out: expected the {written} bytes of {target} that the saved state knows of, found fewer")
    with target.open("r+" if written else "w", encoding="utf-8", newline="") as file:
        file.truncate(written)
        file.seek(0, os.SEEK_END)
        yield file


def _save(scorer: _Scorer, read: int, file: TextIO) -> None:
    """Save the state, after what it knows to be written."""
    options, written = scorer.options, 0
    assert options.save_state is not None
    if file is not sys.stdout:
        file.flush()
        os.fsync(file.fileno())
        written = os.fstat(file.fileno()).st_size
    scorer.predictor.extra["replay"] = {
        "options": _same(options),
        "read": read,
        "written": written,
        "scores": scorer.kept(),
    }
    scorer.predictor.save(options.save_state)


def _reader(predictor: StreamPredictor, options: ReplayOptions) -> EventReader:
    width = predictor.model.msg_dim
    if width and options.msg_from is None:
        raise ArgumentError(f"msg_from: expected the first of {width} columns, which the model reads as messages")
    if predictor.model.reads_signs and options.weight_column is None:
        raise ArgumentError("weight_column: expected that of signed weights, which the model reads")
    columns = None if options.columns is None else tuple(map(_column, options.columns))
    return EventReader(
        options.events,
        format=options.format,
        columns=columns,
        msg_from=options.msg_from if width else None,
        weight_column=_column(options.weight_column or "") if predictor.model.reads_signs else None,
        numbers=predictor.names.are_numbers is True,
        whole_times=predictor.model.time_dtype == torch.int64,
        header=options.header,
    )


def _column(given: str) -> int | str:
    """A place where it is a number."""
    return int(given) if given.isdigit() else given


class _Scorer:
    """Scores chunks of events, and keeps what the metrics are made of."""

    def __init__(self, predictor: StreamPredictor, options: ReplayOptions) -> None:
        self.predictor, self.options = predictor, options
        # Of the events, of the first candidate of each, and ranks.
        self._parts: tuple[list[Tensor], list[Tensor], list[Tensor]] = ([], [], [])
        for parts, kept in zip(self._parts, predictor.extra.get("replay", {}).get("scores", ()), strict=False):
            parts.append(kept)
        self._destinations = predictor.names.destinations()

    def kept(self) -> list[Tensor]:
        """All scores so far."""
        return [torch.cat(parts) for parts in self._parts if parts]

    def metrics(self) -> dict[str, float]:
        """AP and MRR of all events; empty without candidates."""
        if not self._parts[0]:
            return {}
        pos, neg, rank = self.kept()
        return {"ap": average_precision(pos, neg), "mrr": float(rank.reciprocal().mean())}

    def rows(self, chunk: EventChunk, origin: str) -> Iterator[tuple[Any, ...]]:
        """Lines of the result."""
        candidates = None if self.options.candidates is None else self._candidates(len(chunk.places))
        events = chunk.src, chunk.dst, chunk.t, chunk.msg, chunk.weight
        try:
            scores = self.predictor.step(events, candidates=candidates).cpu()
        except LateEventError as error:
            raise LateEventError(f"{origin}, {chunk.places[error.event]}: {error}", error.event) from None
        columns: list[list[Any]] = [column.tolist() for column in (chunk.src, chunk.dst, chunk.t)]
        own = scores
        if candidates is not None:
            own, others = scores[:, 0], scores[:, 1:]
            for parts, found in zip(self._parts, (own, others[:, 0], ranks(own, others)), strict=True):
                parts.append(found)
        columns += [[f"{x:.9g}" for x in values.tolist()] for values in (own, torch.sigmoid(own.double()))]
        if candidates is not None:
            columns.append([f"{x:g}" for x in self._parts[2][-1].tolist()])
        return zip(*columns, strict=True)

    def _candidates(self, count: int) -> npt.NDArray[Any]:
        """Random destinations of the next events: those of an evaluation with the same seed, while none is new."""
        k = self.options.candidates
        assert k is not None
        names, number = self.predictor.names, self.predictor.num_events + self.predictor.num_waiting
        if len(names.destinations()) != self._destinations.size:
            self._destinations = names.destinations()
        drawn = below(draws(self.options.seed, 0, count * k, start=number * k), self._destinations.size)
        return names[self._destinations[drawn].reshape(count, k)]
