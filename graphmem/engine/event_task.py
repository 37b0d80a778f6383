"""Temporal link prediction as a Task: predict the next events of a stream, then let the model see them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphmem.data.event_negatives import KINDS, EventNegatives
from graphmem.data.fixed_negatives import FixedNegatives
from graphmem.data.stream import EventStream
from graphmem.data.stream_splits import StreamSplit
from graphmem.engine.distributed import Group
from graphmem.engine.event_scores import EventMetrics
from graphmem.engine.stream_task import StreamTask, temporal_model
from graphmem.errors import ArgumentError, NoNegativesError
from graphmem.models.temporal import TemporalLinkModel
from graphmem.ops import _check

# Ranking negatives of an event, where it can have so many.
_USUAL = 100

CANDIDATES_AT_ONCE = 2**18
"""Pairs that are scored in one call: bounds the memory of one-against-many evaluations."""


class EventBatch(NamedTuple):
    """Events and their negatives: sources [B, k] (``None``: the events' own) and destinations [B, k]."""

    events: EventStream
    src: Tensor | None
    dst: Tensor


class TemporalLinkTask(StreamTask):
    r"""Link prediction on a stream of events: the links that happen next against links that do not.

    One epoch passes over the training events in the order of time, in batches of ``batch_size``. A batch is predicted
    from the state before it, loss :math:`\overline{\mathrm{softplus}(-s^+)} + \overline{\mathrm{softplus}(s^-)}`, and
    only then shown to the model. Evaluation does the same without learning, goes on from the state that it finds, and
    scores all kinds of negatives in one pass, so that every number of a period comes from the same history.

    Args:
        split: the stream and its three periods.
        batch_size: events that are predicted from the same state.
        eval_batch_size: the same for evaluations; ``batch_size`` by default.
        keep_ties: a batch goes on until the time changes, so that equal times stay together.
        seed: of the training negatives.
        eval_seed: of those of evaluations, which are the same for every seed of a run.
        negatives: kind of the training negatives, see :class:`~graphmem.data.event_negatives.EventNegatives`.
        num_negatives: of them for each event.
        eval_negatives: kinds of the negatives of AP and AUC, one for each event; the first gives the plain names.
        ranking_negatives: kind of those of MRR and Hits@K, or the publisher's; ``None`` leaves these metrics out,
            and without such a metric there are none.
        num_ranking_negatives: how many of them; the publisher's are as many as there are. ``None``: 100, or as many as
            every event can have where those of "hist_rnd", which are distinct, are fewer.
        visibility: what a prediction of the evaluation sees. "batch": every event before its batch, of
            ``eval_batch_size``; "event": every event before its own time; "mixed": memories as with "batch", neighbours
            as with "event", in training too (DyGLib's way, for models that read
            :class:`~graphmem.nn.TemporalNeighbors`).
        groups: of events that are also reported apart: "transductive" (both ends in a training event), "new" (at least
            one end that is in none, the inductive setting), "new_old" and "new_new".
        metrics: of "ap", "auc", "ap_batch" (mean of the batches' own, as several releases report it), "mrr", "hits@K".
        name: of the stream, for the records.
        group: the processes that share the events of each batch, see :mod:`graphmem.engine.distributed`. :meth:`loss`
            is then this rank's part of the sum. Every rank shows its model all events: all have the same state.

    Raises:
        ArgumentError: an unknown name, or an empty period.
    """

    VISIBILITY = (*StreamTask.VISIBILITY, "mixed")

    def __init__(
        self,
        split: StreamSplit,
        *,
        batch_size: int = 200,
        eval_batch_size: int | None = None,
        keep_ties: bool = False,
        seed: int = 0,
        eval_seed: int = 42,
        negatives: str = "random",
        num_negatives: int = 1,
        eval_negatives: Sequence[str] = ("random",),
        ranking_negatives: str | FixedNegatives | None = None,
        num_ranking_negatives: int | None = None,
        visibility: str = "batch",
        groups: Sequence[str] = (),
        metrics: Sequence[str] = ("ap", "auc"),
        name: str | None = None,
        group: Group | None = None,
    ) -> None:
        super().__init__(
            split,
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            keep_ties=keep_ties,
            visibility=visibility,
            name=name,
        )
        self.eval_seed, self.group = eval_seed, group
        if keep_ties and self.visibility == "mixed":
            raise ArgumentError(
                'keep_ties: expected false with visibility="mixed", which reveals batches by their size'
            )
        self.negatives = EventNegatives(split, negatives, seed=seed, k=num_negatives)
        self.eval_negatives = {kind: EventNegatives(split, kind, seed=eval_seed, k=1) for kind in eval_negatives}
        kind = ranking_negatives.kind if isinstance(ranking_negatives, FixedNegatives) else ranking_negatives
        if isinstance(ranking_negatives, str):
            _check.choice("ranking_negatives", ranking_negatives, KINDS)
        self._metrics = EventMetrics(metrics, tuple(eval_negatives), kind, tuple(groups))
        self.ranking_negatives: EventNegatives | FixedNegatives | None = None
        if self._metrics.ranked:  # many times the work of the others
            self.ranking_negatives = (
                _ranking_negatives(split, ranking_negatives, eval_seed, num_ranking_negatives)
                if isinstance(ranking_negatives, str)
                else ranking_negatives
            )

    @property
    def protocol(self) -> Mapping[str, str | int | float | bool]:
        """What travels with every number."""
        ranking = self.ranking_negatives
        return {
            **super().protocol,
            "training_negatives": self.negatives.kind,
            "negatives": ", ".join(self.eval_negatives),
            "ranking_negatives": "none" if ranking is None else f"{ranking.k} {ranking.kind}",
            "negatives_seed": self.eval_seed,
        }

    def batches(self, split: str, epoch: int, start: int = 0) -> Iterator[EventBatch]:
        """Yield the training events in the order of time, with the negatives of this epoch."""
        for batch in self._batches(self._train(split), start):
            yield EventBatch(batch, *self.negatives.draw(batch, epoch))

    def reset(self, model: nn.Module) -> None:
        """Forget everything, and begin with the first event."""
        super().reset(model)
        self._reveal_batch(model, 0)

    def _reveal_batch(self, model: nn.Module, first: int) -> None:
        """With "mixed": let the questions of the training batch that begins with event ``first`` see its own links."""
        batch = self.split.train[first : first + self.batch_size]
        if self.visibility == "mixed" and len(batch):
            temporal_model(model).reveal(batch)

    def loss(self, model: nn.Module, batch: EventBatch) -> Tensor:
        """Logistic loss of a batch, and what the model adds to it."""
        model = temporal_model(model)
        model.prepare(self.split.stream)  # an epoch that is resumed in its middle begins without a reset
        pos, (neg,) = self._logits(model, batch.events, [(batch.src, batch.dst)])
        if self.group is not None:
            loss = (F.softplus(-pos).sum() + F.softplus(neg).sum() / neg.size(1)) / len(batch.events)
        else:
            loss = F.softplus(-pos).mean() + F.softplus(neg).mean()
        more = model.aux_loss(None if self.group is None else self.group.rows)
        return loss if more is None else loss + more

    def update(self, model: nn.Module, batch: EventBatch) -> None:
        """Show the model the events that it has predicted."""
        super().update(model, batch)
        self._reveal_batch(model, batch.events.first + len(batch.events))

    def evaluate(self, model: nn.Module, split: str) -> dict[str, float]:
        """Metrics of the validation or test period.

        The model goes on from the state that it has; events between that state and the period are shown to it first.
        """
        scores = self._metrics.start(self.split, self._period(split))
        for _, pos, neg, ranking in self.scored(model, split):
            scores.add(pos, neg, ranking)
        return scores.metrics()

    def scored(
        self, model: nn.Module, split: str
    ) -> Iterator[tuple[EventStream, Tensor, dict[str, Tensor], Tensor | None]]:
        """The scores behind :meth:`evaluate`, window by window, each shown to the model when it has been scored.

        Yields:
            Events, their scores [B], those of a negative of each kind [B, 1], and of the ranking negatives [B, K], with
            minus infinity where an event has fewer.
        """
        model, events = temporal_model(model), self._period(split)
        model.prepare(self.split.stream)
        self.catch_up(model, events.first)
        samplers: list[EventNegatives | FixedNegatives] = [*self.eval_negatives.values()]
        if self.ranking_negatives is not None:
            samplers.append(self.ranking_negatives)
        for batch in self._windows(events):
            if self.visibility == "mixed":
                model.reveal(batch)
            pos, neg = self._logits(model, batch, [sampler.draw(batch, epoch=0) for sampler in samplers])
            if self.group is not None:
                together = self.group.gather(torch.cat((pos.unsqueeze(1), *neg), dim=1), len(batch))
                pos, *neg = together.split([1, *(part.size(1) for part in neg)], dim=1)
                pos = pos.squeeze(1)
            ranking = None if self.ranking_negatives is None else neg.pop()
            if ranking is not None and isinstance(self.ranking_negatives, FixedNegatives):
                absent = self.ranking_negatives.absent(batch)
                ranking = ranking if absent is None else ranking.masked_fill(absent, -torch.inf)
            yield batch, pos, dict(zip(self.eval_negatives, neg, strict=True)), ranking
            model.update(batch)

    def _logits(
        self, model: TemporalLinkModel, events: EventStream, negatives: Sequence[tuple[Tensor | None, Tensor]]
    ) -> tuple[Tensor, list[Tensor]]:
        """Logits of events [B] and of their negatives [B, k] each, of this rank's share of the events.

        Negatives that keep the source of their event share one call.
        """
        src, dst, t = events.src, events.dst, events.t
        if self.group is not None:
            share = self.group.rows
            src, dst, t = share(src), share(dst), share(t)
            negatives = [(None if ends is None else share(ends), share(others)) for ends, others in negatives]
        kept = [others for ends, others in negatives if ends is None]
        candidates = torch.cat([dst.unsqueeze(1), *kept], dim=1)
        tiles = candidates.split(max(1, CANDIDATES_AT_ONCE // max(1, src.numel())), dim=1)
        scores = torch.cat([model.score(src, tile, t) for tile in tiles], dim=1)
        pos, *scored = scores.split([1, *(others.size(1) for others in kept)], dim=1)
        shared = iter(scored)
        out = []
        for ends, others in negatives:
            if ends is None:
                out.append(next(shared))
            else:
                when = t.repeat_interleave(others.size(1))
                out.append(model.score(ends.flatten(), others.reshape(-1, 1), when).view(others.shape))
        return pos.squeeze(1), out


def _ranking_negatives(split: StreamSplit, kind: str, seed: int, count: int | None) -> EventNegatives:
    found = EventNegatives(split, kind, seed=seed, k=_USUAL if count is None else count)
    if kind != "hist_rnd":
        return found
    most = min(found.most(split.valid), found.most(split.test))
    if most < 1:
        raise NoNegativesError("ranking_negatives: an event's source has met all destinations; expected one to be left")
    if count is None:
        found.k = min(_USUAL, most)
    elif count > most:
        raise ArgumentError(f"num_ranking_negatives: expected at most {most}, which every event can have, got {count}")
    return found


__all__ = ["EventBatch", "TemporalLinkTask"]
