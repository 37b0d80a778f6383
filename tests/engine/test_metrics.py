from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from graphmem.engine import metrics
from graphmem.errors import ArgumentError, ArgumentTypeError

# Few distinct values, so that ties are everywhere; some that float32 barely tells apart; infinities.
SCORES = st.sampled_from(
    [-float("inf"), -2.0, -0.0, 0.0, 0.5, 1.0, float(np.nextafter(np.float32(1), np.float32(2))), 3.0]
)
VECTOR = st.lists(SCORES, min_size=1, max_size=40).map(lambda v: torch.tensor(v, dtype=torch.float32))
PAIRS = st.integers(1, 12).flatmap(
    lambda p: st.integers(1, 15).flatmap(
        lambda k: st.tuples(
            st.lists(SCORES, min_size=p, max_size=p).map(torch.tensor),
            st.lists(st.lists(SCORES, min_size=k, max_size=k), min_size=p, max_size=p).map(torch.tensor),
        )
    )
)


@pytest.fixture(scope="module")
def ogb():
    return functools.cache(pytest.importorskip("ogb.linkproppred").Evaluator)


@pytest.mark.filterwarnings("ignore")
@settings(deadline=None, max_examples=100)
@given(pos=VECTOR, neg=VECTOR, k=st.integers(1, 45))
def test_hits_shared_equals_ogb(ogb, pos, neg, k):
    evaluator = ogb("ogbl-ppa")
    evaluator.K = k
    expected = evaluator.eval({"y_pred_pos": pos, "y_pred_neg": neg})[f"hits@{k}"]
    assert metrics.hits_at_k(pos, neg, k) == expected
    # the same number from the path where the negatives are already sorted
    assert metrics.evaluate_scores(pos, neg, ("auc", f"hits@{k}"))[f"hits@{k}"] == expected


@settings(deadline=None, max_examples=100)
@given(scores=PAIRS)
def test_per_positive_equals_ogb(ogb, scores):
    pos, neg = scores
    expected = ogb("ogbl-citation2").eval({"y_pred_pos": pos, "y_pred_neg": neg})
    assert metrics.mrr(pos, neg) == pytest.approx(float(expected["mrr_list"].double().mean()), rel=1e-6)
    for k in (1, 3, 10):
        assert metrics.hits_at_k(pos, neg, k) == pytest.approx(
            float(expected[f"hits@{k}_list"].double().mean()), abs=1e-12
        )


@settings(deadline=None)
@given(pos=VECTOR, neg=VECTOR)
def test_shared_mrr_equals_the_same_negatives_for_each(pos, neg):
    shared = metrics.ranks(pos, neg)
    assert torch.equal(shared, metrics.ranks(pos, neg.expand(pos.numel(), -1)))
    assert metrics.mrr(pos, neg) == float((1 / shared).mean())


@settings(deadline=None, max_examples=100)
@given(pos=VECTOR, neg=VECTOR)
def test_auc_and_ap_equal_sklearn(pos, neg):
    sk = pytest.importorskip("sklearn.metrics")
    label = np.r_[np.ones(pos.numel()), np.zeros(neg.numel())]
    # sklearn refuses infinities; the next lower value of this alphabet keeps the order
    score = torch.cat([pos, neg]).clamp(min=-9).double().numpy()
    assert metrics.auc(pos, neg) == pytest.approx(sk.roc_auc_score(label, score), abs=1e-12)
    assert metrics.average_precision(pos, neg) == pytest.approx(sk.average_precision_score(label, score), abs=1e-12)


def test_float32_large_set_is_exact():
    # 2^24 + 1 is where float32 stops counting: the count of ties here would be off by thousands.
    pos = torch.zeros(5000)
    neg = torch.zeros(20_000)
    neg[0] = 1
    assert metrics.auc(pos, neg) == (20_000 - 1) * 0.5 / 20_000
    assert metrics.mrr(pos, neg) == pytest.approx(1 / (1 + (1 + 20_000) / 2), rel=1e-15)


def test_blocks_of_rows_do_not_change_the_ranks(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    pos, neg = torch.randn(50, generator=generator), torch.randn(50, 7, generator=generator)
    whole = metrics.ranks(pos, neg)
    monkeypatch.setattr(metrics, "_BLOCK", 16)
    assert torch.equal(metrics.ranks(pos, neg), whole)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.int64])
def test_other_types_of_scores(dtype):
    pos, neg = torch.tensor([3, 1, 2], dtype=dtype), torch.tensor([0, 2, 5, 1], dtype=dtype)
    expected = metrics.evaluate_scores(pos.float(), neg.float(), ("hits@2", "mrr", "auc", "ap"))
    assert metrics.evaluate_scores(pos, neg, ("hits@2", "mrr", "auc", "ap")) == expected


def test_fewer_negatives_than_k_and_none():
    pos = torch.tensor([1.0, 2.0])
    assert metrics.hits_at_k(pos, torch.empty(0), 1) == 1.0
    assert metrics.hits_at_k(pos, torch.tensor([9.0]), 2) == 1.0
    assert metrics.mrr(pos, torch.empty(0)) == 1.0
    assert metrics.mrr(pos, torch.empty(2, 0)) == 1.0
    with pytest.raises(ArgumentError, match="neg must hold at least one"):
        metrics.auc(pos, torch.empty(0))


def test_gradients_are_not_followed():
    pos = torch.tensor([1.0, 2.0], requires_grad=True)
    assert metrics.mrr(pos, torch.tensor([1.5])) == 0.75


@pytest.mark.parametrize(
    ("pos", "neg", "message"),
    [
        (torch.tensor([1.0, float("nan")]), torch.ones(3), "pos must not hold NaN, got 1 of 2"),
        (torch.ones(2), torch.full((2, 3), float("nan")), "neg must not hold NaN, got 6 of 6"),
        (torch.empty(0), torch.ones(3), r"pos must be \[P\] with P >= 1, got \[0\]"),
        (torch.ones(2, 1), torch.ones(3), r"pos must be \[P\]"),
        (torch.ones(2), torch.ones(3, 4), r"neg must be \[M\] or \[2, K\].*got \[3, 4\]"),
        (torch.ones(2), torch.ones(2, 1, 1), "neg must be"),
        (torch.ones(2, dtype=torch.bool), torch.ones(2), "pos must hold real scores"),
    ],
)
def test_bad_scores(pos, neg, message):
    with pytest.raises(ArgumentError, match=message):
        metrics.evaluate_scores(pos, neg)


def test_not_tensors():
    with pytest.raises(ArgumentTypeError, match="neg must be a torch.Tensor, got list"):
        metrics.mrr(torch.ones(2), [1.0])


@pytest.mark.parametrize("name", ["hits", "hits@", "hits@0", "hits@-1", "hits@1.5", "Hits@10", "mrr ", "rocauc", 3])
def test_unknown_metrics(name):
    with pytest.raises(ArgumentError, match="metrics must be 'hits@K'"):
        metrics.evaluate_scores(torch.ones(1), torch.ones(1), (name,))


def test_metric_names_in_order():
    with pytest.raises(ArgumentTypeError, match="write"):
        metrics.check_metrics("mrr")
    with pytest.raises(ArgumentError, match="at least one"):
        metrics.check_metrics(())
    result = metrics.evaluate_scores(torch.ones(3), torch.zeros(3), ("ap", "hits@1", "mrr"))
    assert list(result) == ["ap", "hits@1", "mrr"]
    assert set(result.values()) == {1.0}


@pytest.mark.parametrize("k", [0, -1, 1.0, True, "3"])
def test_bad_k(k):
    with pytest.raises(ArgumentError, match="k must be a positive integer"):
        metrics.hits_at_k(torch.ones(1), torch.ones(1), k)
