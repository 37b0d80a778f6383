"""Prediction of signs and weights on a stream as a Task: predict the next events, then let the model see them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphmem.data.event_negatives import EventNegatives
from graphmem.data.stream import EventStream
from graphmem.data.stream_splits import StreamSplit
from graphmem.engine.signed_metrics import best_threshold, class_metrics, sign_metrics, weight_metrics
from graphmem.engine.stream_task import StreamTask, event_groups, temporal_model
from graphmem.errors import ArgumentError
from graphmem.models.signs import signed_weights
from graphmem.models.temporal import TemporalLinkModel
from graphmem.ops import _check

SIGNED_METRICS = {
    "sign": ("auc", "ap_neg", "macro_f1", "f1_neg"),
    "signed-existence": ("macro_f1", "f1_pos", "f1_neg", "f1_none"),
    "weight": ("spearman", "r2"),
}
"""What may choose an epoch, larger being better, of each task; more is reported."""

# NaN where all labels are equal.
_TWO_VALUES = ("auc", "ap_neg", "spearman", "r2")

CLASSES = ("pos", "neg", "none")
REDUCTIONS = ("class_mean", "mean")


class SignedBatch(NamedTuple):
    """Events, and for "signed-existence" random destinations int64 [B], each in a pair that is called no link."""

    events: EventStream
    dst: Tensor | None


class SignedTask(StreamTask):
    r"""Signs or weights of the next events of a stream, given that they happen; or which of three classes a pair is in.

    - "sign": whether an event is positive, from one logit; logistic loss.
    - "signed-existence": positive, negative or no link, from three logits, with one pair that is called no link
      for each event; cross-entropy. It is the event's source with a random destination, as drawn: the source may have
      met it before (52 of 5,339 in Bitcoin OTC's test period, by events before the period), and it may be the event's.
    - "weight": the signed weight, from one real number; squared error.

    With reduction "class_mean" a loss is the mean over classes of each class's own mean, 0 for a class that a batch
    does not have. Neither sign nor weight of a batch is seen before the batch has been predicted.

    The threshold of the decisions of "sign" is that of the largest macro-F1 of the validation period, found in the same
    round of evaluation. Names of metrics: ``[<group>.]<metric>``.

    Source: the tasks of SEMBA (Sharma et al., CIKM 2023); the losses are those of the released code, up to a factor
    of 2 in "sign".

    Args:
        split: a stream with weights, and its three periods.
        kind: of the three.
        batch_size: events that are predicted from the same state; a batch goes on until the time changes.
        eval_batch_size: the same for evaluations; ``batch_size`` by default.
        seed: of the pairs that are no links in training.
        eval_seed: of those of evaluations.
        negatives: their kind, "random" or "hist_rnd", see :class:`~graphmem.data.event_negatives.EventNegatives`.
        reduction: "class_mean" or "mean".
        visibility: see :class:`StreamTask`.
        groups: of events reported apart, see :func:`~graphmem.engine.stream_task.event_groups`.
        metrics: that choose an epoch.
        name: of the stream, for the records.

    Raises:
        ArgumentError: an unknown name, an empty period, or a stream without weights or with weights of 0.
    """

    def __init__(
        self,
        split: StreamSplit,
        kind: str = "sign",
        *,
        batch_size: int = 200,
        eval_batch_size: int | None = None,
        seed: int = 0,
        eval_seed: int = 42,
        negatives: str = "random",
        reduction: str = "class_mean",
        visibility: str = "batch",
        groups: Sequence[str] = ("transductive", "new"),
        metrics: Sequence[str] | None = None,
        name: str | None = None,
    ) -> None:
        sizes = {"batch_size": batch_size, "eval_batch_size": eval_batch_size}
        super().__init__(split, **sizes, keep_ties=True, visibility=visibility, name=name)  # type: ignore[arg-type]
        self.kind = _check.choice("kind", kind, SIGNED_METRICS)
        self.reduction = _check.choice("reduction", reduction, REDUCTIONS)
        _check.choice("negatives", negatives, ("random", "hist_rnd"))
        self.metrics = SIGNED_METRICS[kind][:1] if metrics is None else tuple(metrics)
        for metric in self.metrics:
            _check.choice("metrics", metric, SIGNED_METRICS[kind])
        self.groups = tuple(groups)
        event_groups(split, split.valid[:0], self.groups)
        weight = signed_weights(split.stream, "split")[0]
        self._range = (float(weight.min()), float(weight.max()))
        self._seeds = {"train": seed, "valid": eval_seed, "test": eval_seed}
        self._nulls: dict[int, EventNegatives] = {}
        if kind == "signed-existence":
            self._nulls = {one: EventNegatives(split, negatives, seed=one) for one in (seed, eval_seed)}
        self._negatives, self._eval_seed = negatives, eval_seed
        self._threshold: float | None = None

    @property
    def num_outputs(self) -> int:
        """Outputs of a pair that a model has to have."""
        return len(CLASSES) if self.kind == "signed-existence" else 1

    def check_selection(self) -> None:
        """See whether the first metric can choose an epoch: the labels of the validation period have to define it.

        Raises:
            ArgumentError: it is NaN whatever a model predicts.
        """
        weight = self.split.valid.weight
        assert weight is not None
        values = {"sign": weight.sign(), "weight": weight}.get(self.kind)
        usable = [name for name in SIGNED_METRICS[self.kind] if name not in _TWO_VALUES]
        if values is not None and self.metrics[0] in _TWO_VALUES and values.unique().numel() < 2:
            what = "signs" if self.kind == "sign" else "weights"
            other = f"choose by {' or '.join(usable)}, or take" if usable else "take"
            raise ArgumentError(
                f"metrics: expected two different {what} in the validation period, by which {self.metrics[0]!r} "
                f"chooses an epoch, got {values.unique().tolist()} only; {other} another split"
            )

    @property
    def protocol(self) -> Mapping[str, str | int | float | bool]:
        """What travels with every number."""
        out: dict[str, str | int | float | bool] = {**super().protocol, "task": self.kind}
        if self.kind != "weight":
            out["loss"] = self.reduction
        if self.kind == "sign":
            out["threshold"] = "largest macro-F1 on validation"
        if self._nulls:
            out.update(negatives=self._negatives, negatives_seed=self._eval_seed)
        return out

    def batches(self, split: str, epoch: int, start: int = 0) -> Iterator[SignedBatch]:
        """Yield the training events in the order of time."""
        for events in self._batches(self._train(split), start):
            yield SignedBatch(events, self._null(events, split, epoch))

    def _null(self, events: EventStream, split: str, epoch: int) -> Tensor | None:
        """A destination for each event that makes it no link."""
        sampler = self._nulls.get(self._seeds[split])
        return None if sampler is None else sampler.draw(events, epoch)[1].squeeze(1)

    def loss(self, model: nn.Module, batch: SignedBatch) -> Tensor:
        """Loss of a batch, and what the model adds to it."""
        model = self._fitting(model)
        loss, more = self._loss(model, batch), model.aux_loss()
        return loss if more is None else loss + more

    def _loss(self, model: TemporalLinkModel, batch: SignedBatch) -> Tensor:
        out, truth = self._predicted(model, batch), self._truth(batch)
        if self.kind == "weight":
            return F.mse_loss(out[:, 0], truth)
        if self.kind == "sign":
            each = F.binary_cross_entropy_with_logits(out[:, 0], truth.to(out.dtype), reduction="none")
        else:
            each = F.cross_entropy(out, truth, reduction="none")
        return (
            class_mean(each, truth, 2 if self.kind == "sign" else 3) if self.reduction == "class_mean" else each.mean()
        )

    def evaluate(self, model: nn.Module, split: str) -> dict[str, float]:
        """Metrics of the validation or test period.

        The model goes on from the state that it has; events between that state and the period are shown to it first.

        Raises:
            ArgumentError: the test period of "sign", by a model that is behind the validation period, where that was
                not evaluated in the same round: the threshold is not known.
        """
        model, events = self._fitting(model), self._period(split)
        if self.kind == "sign" and split == "test" and self._threshold is None:
            self._find_threshold(model)
        out, truth = self._pass(model, split)
        if self.kind == "sign" and split == "valid":
            self._threshold = best_threshold(out[:, 0], truth.bool())
        masks = event_groups(self.split, events, self.groups)
        found: dict[str, float] = {}
        for group, mask in masks.items():
            # Pairs that are no links follow the events, and belong to their groups.
            rows = mask.repeat(out.size(0) // mask.numel())
            values = self._measured(out[rows], truth[rows])
            found.update({f"{group}.{name}" if group else name: value for name, value in values.items()})
        return found

    @contextmanager
    def evaluation(self, model: nn.Module) -> Iterator[None]:
        """One round: the threshold that validation gives is that of the test period, and is forgotten at the end."""
        self._threshold = None
        try:
            yield
        finally:
            self._threshold = None

    def scored(self, model: TemporalLinkModel, split: str) -> Iterator[tuple[SignedBatch, Tensor]]:
        """Batches of a period and their outputs [B, K], then, for each pair that is no link, [2 B, K]."""
        events = self._period(split)
        model.prepare(self.split.stream)
        self.catch_up(model, events.first)
        for part in self._windows(events):
            batch = SignedBatch(part, self._null(part, split, 0))
            yield batch, self._predicted(model, batch)
            model.update(part)

    def _pass(self, model: TemporalLinkModel, split: str) -> tuple[Tensor, Tensor]:
        """Outputs and truths of a period: of all events, then of the pairs that are no links."""
        parts = [(out, self._truth(batch), len(batch.events)) for batch, out in self.scored(model, split)]
        columns = []
        for values in zip(*((out, truth) for out, truth, _ in parts), strict=True):
            pieces = [value.split(count) for value, (_, _, count) in zip(values, parts, strict=True)]
            columns.append(torch.cat([torch.cat(block) for block in zip(*pieces, strict=True)]))
        return columns[0], columns[1]

    def _find_threshold(self, model: TemporalLinkModel) -> None:
        if int(model.position) > self.split.valid.first:
            raise ArgumentError(
                "split: the threshold for 'test' comes from 'valid', which this model is behind already; evaluate both "
                "in one round"
            )
        out, truth = self._pass(model, "valid")
        self._threshold = best_threshold(out[:, 0], truth.bool())

    def _fitting(self, model: nn.Module) -> TemporalLinkModel:
        model = temporal_model(model)
        if model.num_outputs != self.num_outputs:
            raise ArgumentError(
                f"model: expected {self.num_outputs} outputs for the task {self.kind!r}, got {model.num_outputs}"
            )
        return model

    def _predicted(self, model: TemporalLinkModel, batch: SignedBatch) -> Tensor:
        model.prepare(self.split.stream)  # an epoch that is resumed in its middle begins without a reset
        events = batch.events
        dst = events.dst.unsqueeze(1)
        if batch.dst is not None:
            dst = torch.cat((dst, batch.dst.unsqueeze(1)), 1)
        return model.outputs(events.src, dst, events.t).transpose(0, 1).flatten(0, 1)

    def _truth(self, batch: SignedBatch) -> Tensor:
        """[B], or [2 B] with the pairs that are no links behind the events."""
        weight = batch.events.weight
        assert weight is not None
        if self.kind == "weight":
            return weight
        if self.kind == "sign":
            return (weight > 0).long()
        kind = (weight < 0).long()
        return torch.cat((kind, torch.full_like(kind, CLASSES.index("none"))))

    def _measured(self, out: Tensor, truth: Tensor) -> dict[str, float]:
        if self.kind == "weight":
            return weight_metrics(out[:, 0], truth, *self._range)
        if self.kind == "sign":
            assert self._threshold is not None
            return sign_metrics(out[:, 0], truth.bool(), self._threshold)
        return class_metrics(out.argmax(1), truth, CLASSES)


def class_mean(each: Tensor, truth: Tensor, num_classes: int) -> Tensor:
    r"""Mean over classes of the mean loss of each, 0 for an empty one.

    Args:
        each: [B], losses.
        truth: int64 [B], classes.
        num_classes: of them.
    """
    masks = [(truth == place).to(each.dtype) for place in range(num_classes)]
    means = [(each * mask).sum() / mask.sum().clamp(min=1) for mask in masks]
    return sum(means[1:], start=means[0]) / num_classes


__all__ = ["SIGNED_METRICS", "SignedBatch", "SignedTask", "class_mean"]
