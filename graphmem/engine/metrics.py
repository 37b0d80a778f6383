r"""Ranking metrics for link prediction, computed where the scores are.

With positive scores :math:`p_i` and negative scores :math:`n_j` (shared by all positives, ``[M]``, or a row of its own
for every positive, ``[P, K]``):

* Hits@K, shared: share of :math:`p_i > n_{(K)}`, the K-th largest negative. The comparison is strict, a tie misses, and
  with fewer than K negatives the value is 1. Per positive: share of :math:`r_i \le K`.
* MRR: mean of :math:`1 / r_i`, :math:`r_i = 1 + (\#\{n > p_i\} + \#\{n \ge p_i\}) / 2`: the mean of the optimistic
  and the pessimistic rank.
* AUC: :math:`(\#\{p_i > n_j\} + \#\{p_i = n_j\} / 2) / (P M)`.
* Average precision: :math:`\sum_t (R_t - R_{t-1})\, \mathrm{Prec}_t` over distinct thresholds, without interpolation.

The first two follow the evaluator of OGB 1.3.6 (Hu et al. 2020), the last two scikit-learn. Counts are integers and
means are taken in float64, so that ties and large sets are exact.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from graphmem.errors import ArgumentError, ArgumentTypeError

# A block of rows of per-positive comparisons is materialised as booleans: at most this many at a time (64 MiB).
_BLOCK = 1 << 26

_HITS = re.compile(r"hits@([1-9][0-9]*)")


def hits_at_k(pos: Tensor, neg: Tensor, k: int) -> float:
    """Share of positives that rank within the first ``k``.

    Args:
        pos: Scores of positives, ``[P]``.
        neg: Scores of negatives, ``[M]`` (shared) or ``[P, K]`` (row ``i`` belongs to positive ``i``).
        k: The rank.

    Raises:
        ArgumentError: On a wrong shape, no positives, NaN scores, or ``k < 1``.
    """
    return _Ranking(pos, neg).hits(k)


def mrr(pos: Tensor, neg: Tensor) -> float:
    """Mean reciprocal rank of the positives. Arguments and errors: see :func:`hits_at_k`."""
    return _Ranking(pos, neg).mrr()


def ranks(pos: Tensor, neg: Tensor) -> Tensor:
    """Rank of every positive among its negatives, float64 ``[P]``; a tie counts half.

    Arguments and errors: see :func:`hits_at_k`.
    """
    return _Ranking(pos, neg).ranks


def auc(pos: Tensor, neg: Tensor) -> float:
    """Area under the ROC curve, all negatives pooled. Arguments and errors: see :func:`hits_at_k`.

    Raises:
        ArgumentError: Also if there are no negatives.
    """
    return _Ranking(pos, neg).auc()


def average_precision(pos: Tensor, neg: Tensor) -> float:
    """Average precision, all negatives pooled. Arguments and errors: see :func:`hits_at_k`."""
    return _Ranking(pos, neg).average_precision()


def check_metrics(names: Sequence[str]) -> tuple[str, ...]:
    """Check names of metrics before anything is computed.

    Args:
        names: Any of ``"hits@K"`` (K a positive integer), ``"mrr"``, ``"auc"``, ``"ap"``.

    Returns:
        The names as a tuple.

    Raises:
        ArgumentTypeError: If ``names`` is a string instead of a sequence of strings.
        ArgumentError: If a name is not known, or there is none.
    """
    if isinstance(names, str):
        raise ArgumentTypeError(f"metrics must be a sequence of names, got the string {names!r}; write ({names!r},)")
    if not names:
        raise ArgumentError("metrics must name at least one metric, got none")
    for name in names:
        if not isinstance(name, str) or not (name in ("mrr", "auc", "ap") or _HITS.fullmatch(name)):
            raise ArgumentError(f"metrics must be 'hits@K' (K = 1, 2, ...), 'mrr', 'auc' or 'ap', got {name!r}")
    return tuple(names)


def evaluate_scores(
    pos: Tensor, neg: Tensor, metrics: Sequence[str] = ("hits@100", "mrr", "auc", "ap")
) -> dict[str, float]:
    """Compute several metrics at once, sorting the negatives once.

    Args:
        pos: Scores of positives, ``[P]``.
        neg: Scores of negatives, ``[M]`` (shared) or ``[P, K]``.
        metrics: Names; see :func:`check_metrics`.

    Returns:
        ``{name: value}`` in the order of ``metrics``.

    Raises:
        ArgumentError: On unknown names and as in :func:`hits_at_k`.

    Example:
        >>> evaluate_scores(torch.tensor([2.0, 0.0]), torch.tensor([1.0, -1.0]), ("hits@1", "mrr", "auc"))
        {'hits@1': 0.5, 'mrr': 0.75, 'auc': 0.75}
    """
    names = check_metrics(metrics)
    ranking = _Ranking(pos, neg)
    return {name: _compute(ranking, name) for name in names}


def _compute(ranking: _Ranking, name: str) -> float:
    if name == "mrr":
        return ranking.mrr()
    if name == "auc":
        return ranking.auc()
    if name == "ap":
        return ranking.average_precision()
    return ranking.hits(int(name.removeprefix("hits@")))


class _Ranking:
    """Checked scores and what several metrics share."""

    def __init__(self, pos: Tensor, neg: Tensor) -> None:
        for name, scores in (("pos", pos), ("neg", neg)):
            if not isinstance(scores, Tensor):
                raise ArgumentTypeError(f"{name} must be a torch.Tensor, got {type(scores).__name__}")
            if scores.dtype == torch.bool or scores.is_complex():
                raise ArgumentError(f"{name} must hold real scores, got {scores.dtype}")
        if pos.dim() != 1 or pos.numel() == 0:
            raise ArgumentError(f"pos must be [P] with P >= 1, got {list(pos.shape)}")
        if neg.dim() not in (1, 2) or (neg.dim() == 2 and neg.size(0) != pos.numel()):
            raise ArgumentError(f"neg must be [M] or [{pos.numel()}, K] (one row a positive), got {list(neg.shape)}")
        if pos.device != neg.device:
            raise ArgumentError(f"pos and neg must be on one device, got {pos.device} and {neg.device}")
        dtype = torch.promote_types(pos.dtype, neg.dtype)
        if dtype in (torch.float16, torch.bfloat16):
            dtype = torch.float32  # exact, and every backend can sort it
        self.pos, self.neg = pos.detach().to(dtype), neg.detach().to(dtype)
        for name, scores in (("pos", self.pos), ("neg", self.neg)):
            count = int(torch.isnan(scores).sum()) if scores.is_floating_point() else 0
            if count:
                raise ArgumentError(f"{name} must not hold NaN, got {count} of {scores.numel()} scores")

    @cached_property
    def sorted_neg(self) -> Tensor:
        """All negatives, ascending, [M]."""
        return self.neg.flatten().sort().values

    @cached_property
    def ranks(self) -> Tensor:
        """``1 + (#{n > p} + #{n >= p}) / 2`` for every positive, float64 [P]."""
        if self.neg.dim() == 1:
            num = self.neg.numel()
            greater = num - torch.searchsorted(self.sorted_neg, self.pos, right=True)
            not_less = num - torch.searchsorted(self.sorted_neg, self.pos, right=False)
            return (greater + not_less).double() / 2 + 1
        twice = torch.empty(self.pos.numel(), dtype=torch.int64, device=self.pos.device)
        step = max(1, _BLOCK // max(1, self.neg.size(1)))
        for start in range(0, self.pos.numel(), step):
            rows = slice(start, start + step)
            block, ref = self.neg[rows], self.pos[rows, None]
            twice[rows] = (block > ref).sum(dim=1) + (block >= ref).sum(dim=1)
        return twice.double() / 2 + 1

    def hits(self, k: int) -> float:
        if not isinstance(k, int) or isinstance(k, bool) or k < 1:
            raise ArgumentError(f"k must be a positive integer, got {k!r}")
        if self.neg.dim() == 2:
            hit = self.ranks <= k
        elif self.neg.numel() < k:
            return 1.0
        elif "sorted_neg" in self.__dict__:
            hit = self.pos > self.sorted_neg[-k]
        else:
            hit = self.pos > self.neg.topk(k, sorted=False).values.min()
        return int(hit.sum()) / self.pos.numel()

    def mrr(self) -> float:
        return float(self.ranks.reciprocal().mean())

    def auc(self) -> float:
        num = self.neg.numel()
        if num == 0:
            raise ArgumentError("neg must hold at least one score for the AUC, got none")
        less = torch.searchsorted(self.sorted_neg, self.pos, right=False)
        not_greater = torch.searchsorted(self.sorted_neg, self.pos, right=True)
        return int((less + not_greater).sum()) / (2 * self.pos.numel() * num)

    def average_precision(self) -> float:
        # Only thresholds at which recall changes count, and these are the distinct positive scores.
        threshold, count = torch.unique(self.pos, return_counts=True)  # ascending
        true_pos = count.flip(0).cumsum(0).flip(0)
        false_pos = self.neg.numel() - torch.searchsorted(self.sorted_neg, threshold, right=False)
        precision = true_pos.double() / (true_pos + false_pos)
        return float((count * precision).sum()) / self.pos.numel()
