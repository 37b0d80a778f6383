r"""Metrics of signed predictions, counted as integers and averaged in float64.

With scores s and truths y of events:

* F1 of a class: :math:`2\,TP / (2\,TP + FP + FN)`, 0 where that is 0 / 0; macro-F1: the mean over classes.
* The threshold of a two-class decision is the one of largest macro-F1, half way between two scores; the smallest of
  equals.
* :math:`R^2 = 1 - \sum (y - s)^2 / \sum (y - \bar y)^2`; Spearman's rank correlation with mean ranks of ties.
* KL divergence of the histogram of predictions from that of truths, on equal bins with 1e-3 added to every count.
"""

from __future__ import annotations

import torch
from torch import Tensor

from graphmem.engine.metrics import auc, average_precision

NAN = float("nan")
_SMOOTHING = 1e-3


def sign_metrics(score: Tensor, positive: Tensor, threshold: float) -> dict[str, float]:
    """Metrics of scores of being positive, [E] each; NaN where a class that a metric needs is empty.

    Args:
        score: logits.
        positive: bool, the truth.
        threshold: scores above it are called positive.
    """
    called, pos, neg = score.double() > threshold, score[positive], score[~positive]
    f1_pos, f1_neg = f1(called, positive), f1(~called, ~positive)
    both = bool(pos.numel() and neg.numel())
    error = score.double().sigmoid() - positive.double()
    return {
        "auc": auc(pos, neg) if both else NAN,
        "ap_neg": average_precision(-neg, -pos) if both else NAN,
        "macro_f1": (f1_pos + f1_neg) / 2,
        "f1_neg": f1_neg,
        "brier": float(error.square().mean()) if error.numel() else NAN,
        "negative_share": float((~positive).double().mean()) if error.numel() else NAN,
    }


def class_metrics(called: Tensor, truth: Tensor, names: tuple[str, ...]) -> dict[str, float]:
    """F1 of each class and their mean, of classes int64 [E]."""
    each = [f1(called == place, truth == place) for place in range(len(names))]
    return {"macro_f1": sum(each) / len(each), **{f"f1_{name}": one for name, one in zip(names, each, strict=True)}}


def weight_metrics(predicted: Tensor, truth: Tensor, low: float, high: float, bins: int = 20) -> dict[str, float]:
    """Metrics of real predictions [E]; NaN without events, R2 and Spearman also where the truth is constant.

    KL is NaN where the histogram has no width.

    Args:
        predicted: what was predicted.
        truth: what happened.
        low: left end of the histogram; what lies outside counts in the outermost bins.
        high: right end.
        bins: of the histogram.
    """
    if truth.numel() == 0:
        return dict.fromkeys(("r2", "spearman", "rmse", "kl"), NAN)
    y, p = truth.double(), predicted.double()
    error, spread = (y - p).square(), (y - y.mean()).square().sum()
    return {
        "r2": float(1 - error.sum() / spread) if spread > 0 else NAN,
        "spearman": _correlation(_mean_ranks(p), _mean_ranks(y)),
        "rmse": float(error.mean().sqrt()),
        "kl": _divergence(_histogram(y, low, high, bins), _histogram(p, low, high, bins)) if low < high else NAN,
    }


def f1(called: Tensor, truth: Tensor) -> float:
    """F1 of a class from who is called it and who is it, bool [E] each."""
    hits, either = int((called & truth).sum()), int(called.sum()) + int(truth.sum())
    return 2 * hits / either if either else 0.0


def best_threshold(score: Tensor, positive: Tensor) -> float:
    """The threshold of largest macro-F1 for scores [E] and truths bool [E]; 0 without events."""
    if score.numel() == 0:
        return 0.0
    # Cut i calls the i smallest scores negative; a cut between equal scores is none.
    order = score.argsort(stable=True)
    s, y = score[order].double(), positive[order].long()
    called_neg = torch.arange(s.numel() + 1, device=s.device)
    false_neg = torch.cat((y.new_zeros(1), y.cumsum(0)))  # positives among those called negative
    true_neg, num_pos = called_neg - false_neg, int(y.sum())
    true_pos, num_neg = num_pos - false_neg, y.numel() - num_pos
    each = [
        2 * hits / (calls + num).clamp(min=1)
        for hits, calls, num in ((true_pos, s.numel() - called_neg, num_pos), (true_neg, called_neg, num_neg))
    ]
    macro = sum(each[1:], start=each[0])
    macro[1:-1][s[1:] == s[:-1]] = -1
    cut = int(macro.argmax())
    if cut == 0:
        return float(s[0]) - 1
    return float(s[-1]) if cut == s.numel() else float((s[cut - 1] + s[cut]) / 2)


def _mean_ranks(x: Tensor) -> Tensor:
    """Ranks, equal values sharing the mean of theirs."""
    _, place, count = x.unique(return_inverse=True, return_counts=True)
    end = count.cumsum(0).double()
    rank: Tensor = (end - (count - 1) / 2)[place]
    return rank


def _correlation(a: Tensor, b: Tensor) -> float:
    a, b = a - a.mean(), b - b.mean()
    norm = (a.square().sum() * b.square().sum()).sqrt()
    return float((a * b).sum() / norm) if norm > 0 else NAN


def _histogram(x: Tensor, low: float, high: float, bins: int) -> Tensor:
    place = ((x - low) / (high - low) * bins).floor().long().clamp(0, bins - 1)
    return torch.bincount(place, minlength=bins).double() + _SMOOTHING


def _divergence(p: Tensor, q: Tensor) -> float:
    p, q = p / p.sum(), q / q.sum()
    return float((p * (p / q).log()).sum())


__all__ = ["best_threshold", "class_metrics", "f1", "sign_metrics", "weight_metrics"]
