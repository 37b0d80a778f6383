"""Static link prediction as a Task."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphmem.data.dataset import LinkSplit
from graphmem.data.graph import CSRGraph, Policy
from graphmem.data.negatives import permutation, random_targets, uniform_negatives
from graphmem.engine.distributed import Group
from graphmem.engine.metrics import check_metrics, evaluate_scores
from graphmem.engine.task import Task
from graphmem.errors import ArgumentError, ArgumentTypeError
from graphmem.models.base import LinkModel
from graphmem.nn.decoder import Memo
from graphmem.nn.features import as_features
from graphmem.ops import _check

_NEGATIVES = {
    "uniform": "uniform non-edges of the training graph",
    "target": "the link's source and a uniform target",
}


class LinkBatch(NamedTuple):
    """Training links and as many negatives, both int64 [2, B]."""

    pos: Tensor
    neg: Tensor


class LinkPredictionTask(Task):
    r"""Link prediction on a fixed graph, by the protocol of the NCN paper unless told otherwise.

    Training: batches of the training links in random order, as many uniform non-edges of the training graph, loss
    :math:`\overline{\mathrm{softplus}(-s^+)} + \overline{\mathrm{softplus}(s^-)}`. Every step sees the training graph
    without the links of its batch. Evaluation: one pass of the encoder over the evaluation graph, then all pairs.

    Args:
        split: links and negatives.
        x: node features, ids or ``None``.
        batch_size: links in a batch; it decides how much of the graph each step hides, so keep the paper's.
        seed: of order and negatives.
        metrics: names, see :func:`graphmem.engine.check_metrics`.
        remove_targets: take the links of a batch out of the graph of its step.
        multi_edges: see :meth:`CSRGraph.without_edges`.
        joint: decode links and negatives of a batch in one call. ``False`` in two, with dropout masks of edges and
            nodes of their own, as the released code.
        valid_edges_at_test: add the validation links to the graph that scores the test links (ogbl-collab's rules
            allow it); a field of :attr:`protocol`.
        drop_last: leave out the last, smaller batch of an epoch, as the released code.
        negatives: "uniform" non-edges of the training graph; "target" keeps the source of each link and draws any node
            as its target (the released code on ogbl-citation2).
        name: data set, for the records.
        group: the processes that share the pairs of each batch and evaluation; see
            :mod:`graphmem.engine.distributed`. :meth:`loss` is then this rank's part of the sum.

    Raises:
        ArgumentError: a split without negatives, a batch larger than the training set, unknown metrics.
    """

    def __init__(
        self,
        split: LinkSplit,
        x: Any = None,
        *,
        batch_size: int,
        seed: int = 0,
        metrics: Sequence[str] = ("hits@100", "mrr"),
        remove_targets: bool = True,
        multi_edges: Policy = "all",
        joint: bool = True,
        valid_edges_at_test: bool = False,
        drop_last: bool = True,
        negatives: str = "uniform",
        name: str = "links",
        group: Group | None = None,
    ) -> None:
        if split.valid_neg is None or split.test_neg is None:
            raise ArgumentError("split: expected negatives for validation and test, got a split without")
        if batch_size < 1 or (drop_last and batch_size > split.num_train):
            raise ArgumentError(
                f"batch_size: expected 1 to {split.num_train} (the training links) with drop_last, got {batch_size}"
            )
        self.split, self.x = split, as_features(x)
        self.batch_size, self.seed, self.drop_last = batch_size, seed, drop_last
        self.metrics = check_metrics(metrics)
        self.remove_targets, self.joint = remove_targets, joint
        self.multi_edges: Policy = _check.choice("multi_edges", multi_edges, ("all", "reference"))  # type: ignore[assignment]
        self.valid_edges_at_test = valid_edges_at_test
        self.negatives = _check.choice("negatives", negatives, ("uniform", "target"))
        self.name, self.group = name, group
        self.graph = CSRGraph.from_edge_index(split.train, split.num_nodes, symmetric=True)
        self.graph.is_symmetric()  # cached for all views
        self.test_graph = self.graph
        if valid_edges_at_test:
            both = torch.cat((split.train, split.valid), dim=1)
            self.test_graph = CSRGraph.from_edge_index(both, split.num_nodes, symmetric=True)
        self._encoded: dict[int, tuple[Tensor, Memo]] | None = None

    @property
    def protocol(self) -> Mapping[str, str | int | float | bool]:
        """What travels with every number."""
        negatives = "per positive" if self.split.test_neg is not None and self.split.test_neg.dim() == 3 else "shared"
        return {
            "data": self.name,
            "split": self.split.protocol,
            "split_seed": -1 if self.split.seed is None else self.split.seed,
            "negatives": negatives,
            "training_negatives": _NEGATIVES[self.negatives],
            "test_graph": "train and validation links" if self.valid_edges_at_test else "train links",
            "target_link_removal": self.remove_targets,
        }

    def to(self, device: torch.device | str) -> LinkPredictionTask:
        """Move the data to a device, in place."""
        same = self.test_graph is self.graph
        self.split, self.graph = self.split.to(device), self.graph.to(device)
        self.test_graph = self.graph if same else self.test_graph.to(device)
        self.x = None if self.x is None else self.x.to(device)
        return self

    def num_batches(self, split: str, epoch: int) -> int:
        """Number of batches of an epoch."""
        full, rest = divmod(self._train_links(split).size(1), self.batch_size)
        return full + int(rest > 0 and not self.drop_last)

    def _train_links(self, split: str) -> Tensor:
        if split != "train":
            raise ArgumentError(f"split: this task trains on 'train', got {split!r}")
        return self.split.train

    def batches(self, split: str, epoch: int, start: int = 0) -> Iterator[LinkBatch]:
        """Yield an epoch's batches: a function of (seed, epoch)."""
        links = self._train_links(split)
        order = permutation(links.size(1), seed=self.seed, epoch=epoch).to(links.device)
        if self.negatives == "target":
            negatives = random_targets(links, self.split.num_nodes, seed=self.seed, epoch=epoch)
        else:
            negatives = uniform_negatives(self.graph, links.size(1), seed=self.seed, epoch=epoch)
        for batch in range(start, self.num_batches(split, epoch)):
            chosen = order[batch * self.batch_size : (batch + 1) * self.batch_size]
            yield LinkBatch(links[:, chosen], negatives[:, chosen])

    def num_items(self, batch: LinkBatch) -> int:
        """Links of a batch."""
        return batch.pos.size(1)

    def loss(self, model: nn.Module, batch: LinkBatch) -> Tensor:
        """Logistic loss of a batch."""
        model = _link_model(model)
        graph = self.graph.without_edges(batch.pos, self.multi_edges) if self.remove_targets else self.graph
        h = model.encode(self.x, graph)
        total = batch.pos.size(1)
        if self.group is not None:  # after the removal: every rank hides the links of all
            batch = LinkBatch(*(self.group.shard(pairs) for pairs in batch))
        if self.joint:
            pos, neg = model.decode(h, graph, torch.cat(batch, dim=1)).split([b.size(1) for b in batch])
        else:
            pos, neg = (model.decode(h, graph, pairs) for pairs in batch)
        if self.group is not None:
            return (F.softplus(-pos).sum() + F.softplus(neg).sum()) / total
        return F.softplus(-pos).mean() + F.softplus(neg).mean()

    @contextmanager
    def evaluation(self, model: nn.Module) -> Iterator[None]:
        """Encode each graph once for all splits evaluated inside."""
        self._encoded = {}
        try:
            yield
        finally:
            self._encoded = None

    def evaluate(self, model: nn.Module, split: str) -> dict[str, float]:
        """Metrics of the validation or test links."""
        return evaluate_scores(*self.scores(model, split), self.metrics)

    def scores(self, model: nn.Module, split: str) -> tuple[Tensor, Tensor]:
        """Scores of the positives [P] and negatives ([M], or [P, K] where they are per positive), float32."""
        _check.choice("split", split, ("valid", "test"))
        model = _link_model(model)
        graph = self.test_graph if split == "test" else self.graph
        pos, neg = getattr(self.split, split), getattr(self.split, f"{split}_neg")
        flat = neg if neg.dim() == 2 else neg.flatten(0, 1).t()
        h, memo = self._encode(model, graph)
        pairs = torch.cat((pos, flat), dim=1)
        if self.group is None:
            scores = model.score(h, graph, pairs, memo).float()
        else:
            scores = self.group.gather(model.score(h, graph, self.group.shard(pairs), memo).float(), pairs.size(1))
        pos_score, neg_score = scores.split([pos.size(1), flat.size(1)])
        return pos_score, neg_score.view(neg.shape[:2]) if neg.dim() == 3 else neg_score

    def _encode(self, model: LinkModel, graph: CSRGraph) -> tuple[Tensor, Memo]:
        """Node representations, and what the scoring of several splits shares."""
        if self._encoded is None:
            return model.encode(self.x, graph), Memo()
        if id(graph) not in self._encoded:
            self._encoded[id(graph)] = (model.encode(self.x, graph), Memo())
        return self._encoded[id(graph)]


def _link_model(model: nn.Module) -> LinkModel:
    if not isinstance(model, LinkModel):
        raise ArgumentTypeError(f"model: expected a LinkModel (encode, decode, score), got {type(model).__name__}")
    return model


__all__ = ["LinkBatch", "LinkPredictionTask"]
