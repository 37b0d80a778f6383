"""Metrics of signs, classes and weights against scikit-learn, scipy and direct searches."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from graphmem.engine.signed_metrics import best_threshold, class_metrics, sign_metrics, weight_metrics


def macro(score: Tensor, positive: Tensor, threshold: float) -> float:
    from sklearn.metrics import f1_score

    called = score.double() > threshold
    return float(f1_score(positive.numpy(), called.numpy(), labels=[False, True], average="macro", zero_division=0))


@st.composite
def scored(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    """Few distinct scores, so that there are ties; at least one of each sign."""
    count = draw(st.integers(2, 25))
    values = draw(st.lists(st.integers(-4, 4), min_size=count, max_size=count))
    flags = draw(st.lists(st.booleans(), min_size=count, max_size=count))
    flags[:2] = [True, False]
    return torch.tensor(values) / 3, torch.tensor(flags)


@given(scored())
def test_sign_metrics(case: tuple[Tensor, Tensor]) -> None:
    from sklearn.metrics import average_precision_score, brier_score_loss, f1_score, roc_auc_score

    score, positive = case
    found = sign_metrics(score, positive, 0.1)
    y, s, called = positive.numpy(), score.double().numpy(), (score > 0.1).numpy()
    assert found["auc"] == pytest.approx(roc_auc_score(y, s))
    assert found["ap_neg"] == pytest.approx(average_precision_score(~y, -s))
    assert found["macro_f1"] == pytest.approx(macro(score, positive, 0.1))
    assert found["f1_neg"] == pytest.approx(f1_score(~y, ~called, zero_division=0))
    assert found["brier"] == pytest.approx(brier_score_loss(y, score.double().sigmoid().numpy()))
    assert found["negative_share"] == pytest.approx(1 - y.mean())


@given(scored())
def test_no_threshold_is_better(case: tuple[Tensor, Tensor]) -> None:
    score, positive = case
    distinct = score.double().unique().tolist()
    every = [distinct[0] - 1, *((a + b) / 2 for a, b in zip(distinct[:-1], distinct[1:], strict=True)), distinct[-1]]
    values = [macro(score, positive, threshold) for threshold in every]
    assert macro(score, positive, best_threshold(score, positive)) == pytest.approx(max(values))


@pytest.mark.parametrize("sign", [True, False])
def test_one_class_alone(sign: bool) -> None:
    score, positive = torch.tensor([0.5, -0.25]), torch.tensor([sign, sign])
    found = sign_metrics(score, positive, best_threshold(score, positive))
    assert math.isnan(found["auc"])
    assert math.isnan(found["ap_neg"])
    assert found["macro_f1"] == 0.5
    none = sign_metrics(score[:0], positive[:0], best_threshold(score[:0], positive[:0]))
    assert all(math.isnan(value) or value == 0 for value in none.values())


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=30))
def test_class_metrics(pairs: list[tuple[int, int]]) -> None:
    from sklearn.metrics import f1_score

    called, truth = torch.tensor(pairs).unbind(1)
    found = class_metrics(called, truth, ("a", "b", "c"))
    each = f1_score(truth.numpy(), called.numpy(), labels=[0, 1, 2], average=None, zero_division=0)
    assert [found[f"f1_{name}"] for name in "abc"] == pytest.approx(each.tolist())
    assert found["macro_f1"] == pytest.approx(each.mean())


@given(st.lists(st.tuples(st.integers(-10, 10), st.integers(-40, 40)), min_size=3, max_size=30))
def test_weight_metrics(pairs: list[tuple[int, int]]) -> None:
    from scipy.stats import entropy, spearmanr
    from sklearn.metrics import mean_squared_error, r2_score

    truth, predicted = (torch.tensor(column, dtype=torch.float32) for column in zip(*pairs, strict=True))
    predicted /= 4
    found = weight_metrics(predicted, truth, -10.0, 10.0)
    y, p = truth.double().numpy(), predicted.double().numpy()
    assert found["rmse"] == pytest.approx(math.sqrt(mean_squared_error(y, p)))
    if y.std() > 0:
        assert found["r2"] == pytest.approx(r2_score(y, p))
        if p.std() > 0:
            assert found["spearman"] == pytest.approx(spearmanr(y, p).statistic)
    bins = [torch.zeros(20) + 1e-3 for _ in range(2)]
    for values, histogram in zip((y, p), bins, strict=True):
        for value in values.tolist():
            histogram[min(math.floor(value + 10), 19)] += 1
    assert found["kl"] == pytest.approx(entropy(*(one.numpy() for one in bins)), abs=1e-5)


def test_weights_without_spread() -> None:
    found = weight_metrics(torch.tensor([1.0, 2.0]), torch.tensor([3.0, 3.0]), -10.0, 10.0)
    assert math.isnan(found["r2"])
    assert math.isnan(found["spearman"])
    assert found["rmse"] == pytest.approx(math.sqrt(2.5))
    assert math.isnan(weight_metrics(torch.tensor([1.0, 2.0]), torch.tensor([3.0, 3.0]), 3.0, 3.0)["kl"])
    assert all(math.isnan(value) for value in weight_metrics(torch.empty(0), torch.empty(0), -1.0, 1.0).values())
