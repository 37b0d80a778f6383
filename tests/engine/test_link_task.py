"""LinkPredictionTask: its batches, loss and evaluation, each against a direct computation."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphmem.data.dataset import LinkSplit
from graphmem.data.graph import CSRGraph
from graphmem.engine.conformance import check_task
from graphmem.engine.link_task import LinkBatch, LinkPredictionTask
from graphmem.engine.metrics import evaluate_scores
from graphmem.errors import ArgumentError, ArgumentTypeError
from graphmem.models import GAE, NCN, NCN2, NCNC, LinkModel, NCNDiff

NODES, IN = 40, 6
X = torch.randn(NODES, IN, generator=torch.Generator().manual_seed(0))


def links(count: int, seed: int) -> Tensor:
    every = torch.combinations(torch.arange(NODES)).T
    return every[:, torch.randperm(every.size(1), generator=torch.Generator().manual_seed(seed))[:count]].contiguous()


def make_split(**changes: Any) -> LinkSplit:
    drawn = links(210, 1)
    train, valid, test, valid_neg, test_neg = drawn.split([100, 20, 30, 30, 30], dim=1)
    fields = {"train": train, "valid": valid, "valid_neg": valid_neg, "test": test, "test_neg": test_neg}
    return LinkSplit(**{**fields, "num_nodes": NODES, "protocol": "made up", "seed": 3, **changes})


SPLIT = make_split()


def make_task(**options: Any) -> LinkPredictionTask:
    metrics = ("hits@1", "hits@5", "mrr", "auc", "ap")
    return LinkPredictionTask(**{"split": SPLIT, "x": X, "batch_size": 32, "metrics": metrics, **options})


def make_model(cls: type[LinkModel] = NCN, **options: Any) -> LinkModel:
    torch.manual_seed(0)
    return cls(IN, 16, **options)


def as_set(pairs: Tensor) -> set[tuple[int, int]]:
    return set(map(tuple, pairs.t().tolist()))


def same(one: LinkBatch, other: LinkBatch) -> bool:
    return torch.equal(one.pos, other.pos) and torch.equal(one.neg, other.neg)


# --- batches


def test_an_epoch_holds_every_link_once() -> None:
    task = make_task(drop_last=False)
    batches = list(task.batches("train", 1))
    assert [task.num_items(batch) for batch in batches] == [32, 32, 32, 4]
    assert task.num_batches("train", 1) == 4
    together = torch.cat([batch.pos for batch in batches], dim=1)
    assert as_set(together) == as_set(SPLIT.train)
    assert together.size(1) == SPLIT.num_train
    assert not torch.equal(together, SPLIT.train)
    assert all(batch.neg.shape == batch.pos.shape for batch in batches)


def test_drop_last() -> None:
    task = make_task()
    assert [task.num_items(batch) for batch in task.batches("train", 1)] == [32, 32, 32]
    assert task.num_batches("train", 1) == 3
    assert make_task(batch_size=100).num_batches("train", 1) == make_task(batch_size=100, drop_last=False).num_batches(
        "train", 1
    )


def test_batches_are_a_function_of_seed_and_epoch() -> None:
    first = list(make_task(seed=7).batches("train", 2))
    torch.manual_seed(123)
    state = torch.get_rng_state()
    again = list(make_task(seed=7).batches("train", 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(same(one, other) for one, other in zip(first, again, strict=True))
    for other in (make_task(seed=8).batches("train", 2), make_task(seed=7).batches("train", 3)):
        batch = next(other)
        assert not torch.equal(batch.pos, first[0].pos)
        assert not torch.equal(batch.neg, first[0].neg)


def test_start_skips() -> None:
    task = make_task(drop_last=False)
    whole = list(task.batches("train", 5))
    for start in range(5):
        rest = list(task.batches("train", 5, start=start))
        assert len(rest) == 4 - start
        assert all(same(one, other) for one, other in zip(whole[start:], rest, strict=True))


def test_negatives_belong_to_events_not_to_batches() -> None:
    small, large = (torch.cat([b.neg for b in make_task(batch_size=size).batches("train", 1)], 1) for size in (25, 50))
    assert torch.equal(small, large)


def test_negatives_are_no_training_edges() -> None:
    task = make_task(drop_last=False)
    edges = as_set(SPLIT.train) | as_set(SPLIT.train.flip(0))
    for epoch in range(1, 20):
        for batch in task.batches("train", epoch):
            assert not (as_set(batch.neg) & edges)
            assert not bool((batch.neg[0] == batch.neg[1]).any())
    # Held-out links may be drawn: training does not know them.
    drawn = set().union(*(as_set(b.neg) for e in range(1, 40) for b in task.batches("train", e)))
    held_out = as_set(SPLIT.test) | as_set(SPLIT.test.flip(0))
    assert drawn & held_out


def test_only_training_links_are_trained_on() -> None:
    for call in (lambda: make_task().num_batches("valid", 1), lambda: next(make_task().batches("test", 1))):
        with pytest.raises(ArgumentError, match="split"):
            call()


# --- loss


@pytest.mark.parametrize("remove_targets", [True, False])
def test_loss_by_hand(remove_targets: bool) -> None:
    task, model = make_task(remove_targets=remove_targets), make_model().train()
    batch = next(task.batches("train", 1))
    gone = as_set(batch.pos) if remove_targets else set()
    left = torch.tensor([pair for pair in SPLIT.train.t().tolist() if tuple(pair) not in gone]).T
    edge_index = torch.cat((left, left.flip(0)), dim=1)
    pos, neg = (model(X, edge_index, pairs, remove_targets=False) for pairs in batch)
    expected = -F.logsigmoid(pos).mean() - F.logsigmoid(-neg).mean()
    torch.testing.assert_close(task.loss(model, batch), expected)


@pytest.mark.parametrize("cls", [GAE, NCN, NCNDiff, NCN2, NCNC])
def test_joint_and_separate_decoding_agree_without_dropout(cls: type[LinkModel]) -> None:
    model = make_model(cls).train()
    batch = next(make_task().batches("train", 1))
    joint, separate = (make_task(joint=joint).loss(model, batch) for joint in (True, False))
    torch.testing.assert_close(joint, separate)
    dropped = make_model(cls, pair_dropout=0.5).train()
    values = []
    for joint in (True, False):
        torch.manual_seed(0)
        values.append(make_task(joint=joint).loss(dropped, batch))
    assert not torch.equal(*values)  # two calls draw two masks


@pytest.mark.parametrize("cls", [GAE, NCN, NCNDiff, NCN2, NCNC])
def test_thirty_steps_overfit(cls: type[LinkModel]) -> None:
    split = make_split(train=SPLIT.train[:, :24])
    task, model = make_task(split=split, batch_size=24, remove_targets=False), make_model(cls).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    batch = next(task.batches("train", 1))
    values = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = task.loss(model, batch)
        loss.backward()
        optimizer.step()
        values.append(float(loss.detach()))
    assert values[-1] < 0.35 * values[0], values


def test_more_than_a_link_model_is_refused() -> None:
    task = make_task()
    with pytest.raises(ArgumentTypeError, match="model.*LinkModel.*Linear"):
        task.loss(nn.Linear(1, 1), next(task.batches("train", 1)))
    with pytest.raises(ArgumentTypeError, match="model"):
        task.evaluate(nn.Linear(1, 1), "valid")


# --- evaluation


@pytest.mark.parametrize("split", ["valid", "test"])
@pytest.mark.parametrize("valid_edges_at_test", [False, True])
def test_metrics_by_hand(split: str, valid_edges_at_test: bool) -> None:
    task, model = make_task(valid_edges_at_test=valid_edges_at_test), make_model(NCNC).eval()
    train = SPLIT.train
    if split == "test" and valid_edges_at_test:
        train = torch.cat((train, SPLIT.valid), dim=1)
    edge_index = torch.cat((train, train.flip(0)), dim=1)
    pos, neg = (model(X, edge_index, getattr(SPLIT, name)).detach() for name in (split, f"{split}_neg"))
    with torch.no_grad():
        got = task.evaluate(model, split)
    assert list(got) == ["hits@1", "hits@5", "mrr", "auc", "ap"]
    assert got == pytest.approx(evaluate_scores(pos, neg, tuple(got)), abs=1e-6)
    fifth = neg.sort(descending=True).values[4]
    assert got["hits@5"] == pytest.approx(float((pos > fifth).float().mean()))
    greater = (pos[:, None] > neg[None, :]).float() + 0.5 * (pos[:, None] == neg[None, :]).float()
    assert got["auc"] == pytest.approx(float(greater.mean()), abs=1e-6)


def test_validation_edges_matter_to_the_test_graph_only() -> None:
    with_edges, without = make_task(valid_edges_at_test=True), make_task()
    model = make_model().eval()
    assert with_edges.test_graph.num_edges == 2 * (SPLIT.num_train + SPLIT.num_valid)
    assert without.test_graph is without.graph
    assert with_edges.graph.num_edges == without.graph.num_edges == 2 * SPLIT.num_train
    assert with_edges.evaluate(model, "valid") == without.evaluate(model, "valid")
    assert with_edges.evaluate(model, "test") != without.evaluate(model, "test")
    one, other = (next(task.batches("train", 1)) for task in (with_edges, without))
    assert same(one, other)
    assert torch.equal(with_edges.loss(model, one), without.loss(model, one))


def test_negatives_of_each_positive() -> None:
    generator = torch.Generator().manual_seed(5)
    negatives = {
        f"{name}_neg": torch.randint(0, NODES, (getattr(SPLIT, name).size(1), 7, 2), generator=generator)
        for name in ("valid", "test")
    }
    task = make_task(split=make_split(**negatives), metrics=("hits@1", "hits@3", "mrr"))
    model = make_model().eval()
    edge_index = torch.cat((SPLIT.train, SPLIT.train.flip(0)), dim=1)
    ranks = []
    with torch.no_grad():
        for pair, others in zip(SPLIT.valid.t(), negatives["valid_neg"], strict=True):
            scores = model(X, edge_index, torch.cat((pair.unsqueeze(1), others.T), dim=1))
            own, rest = scores[0], scores[1:]
            ranks.append(1 + (float((rest > own).sum()) + float((rest >= own).sum())) / 2)
        got = task.evaluate(model, "valid")
    assert got["mrr"] == pytest.approx(sum(1 / rank for rank in ranks) / len(ranks), abs=1e-6)
    for k in (1, 3):
        assert got[f"hits@{k}"] == pytest.approx(sum(rank <= k for rank in ranks) / len(ranks))
    assert task.protocol["negatives"] == "per positive"


def test_labels_of_held_out_links_decide_the_metric_only() -> None:
    """Exchanging links and negatives exchanges the scores and nothing else."""
    model = make_model().eval()
    swapped = make_split(valid=SPLIT.valid_neg, valid_neg=SPLIT.valid)
    one, other = make_task(metrics=("auc",)), make_task(split=swapped, metrics=("auc",))
    assert one.evaluate(model, "valid")["auc"] == pytest.approx(1 - other.evaluate(model, "valid")["auc"])


def test_one_encoding_serves_a_round_of_evaluation() -> None:
    model = make_model().eval()
    calls: list[int] = []
    hook = model.encoder.register_forward_hook(lambda *_: calls.append(1))
    task = make_task()
    expected = {split: task.evaluate(model, split) for split in ("valid", "test")}
    assert len(calls) == 2
    with task.evaluation(model):
        assert {split: task.evaluate(model, split) for split in ("valid", "test")} == expected
    assert len(calls) == 3
    with make_task(valid_edges_at_test=True).evaluation(model):
        pass
    # What was encoded does not outlive the round: the weights may change.
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    with task.evaluation(model):
        assert task.evaluate(model, "valid") != expected["valid"]
    hook.remove()


def test_a_round_with_two_graphs_encodes_both() -> None:
    model, task = make_model().eval(), make_task(valid_edges_at_test=True)
    expected = {split: task.evaluate(model, split) for split in ("valid", "test")}
    with task.evaluation(model):
        assert {split: task.evaluate(model, split) for split in ("test", "valid")} == expected


def test_conforms_to_the_engine() -> None:
    check_task(make_task(), make_model(NCNC, dropout=0.3, pair_dropout=0.2))


# --- settings


def test_protocol_says_how_the_numbers_came_about() -> None:
    task = make_task(valid_edges_at_test=True, remove_targets=False, name="collab")
    assert task.protocol == {
        **task.protocol,
        "data": "collab",
        "split": "made up",
        "split_seed": 3,
        "negatives": "shared",
        "test_graph": "train and validation links",
        "target_link_removal": False,
    }
    assert make_task().protocol["test_graph"] == "train links"
    assert all(isinstance(value, str | int | float | bool) for value in task.protocol.values())


@pytest.mark.parametrize("form", ["dense", "csr", "coo", "none"])
def test_features_in_any_form(form: str) -> None:
    x = {"dense": X, "csr": X.to_sparse_csr(), "coo": X.to_sparse_coo(), "none": None}[form]
    options: dict[str, Any] = {"num_embeddings": NODES} if form == "none" else {}
    torch.manual_seed(0)
    model = NCN(None if form == "none" else IN, 16, **options)
    task = make_task(x=x)
    task.loss(model, next(task.batches("train", 1))).backward()
    assert 0 <= task.evaluate(model.eval(), "valid")["auc"] <= 1
    if form in ("csr", "coo"):
        assert task.evaluate(model, "valid") == pytest.approx(make_task().evaluate(model, "valid"), abs=1e-6)


def test_to_keeps_graphs_shared() -> None:
    task = make_task().to("cpu")
    assert task.test_graph is task.graph
    other = make_task(valid_edges_at_test=True).to("cpu")
    assert other.test_graph.num_edges > other.graph.num_edges


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"split": make_split(valid_neg=None)}, "split"),
        ({"split": make_split(test_neg=None)}, "split"),
        ({"batch_size": 0}, "batch_size.*1 to 100.*0"),
        ({"batch_size": 101}, "batch_size.*1 to 100.*101"),
        ({"metrics": ("hits@0",)}, "hits@0"),
        ({"metrics": ()}, "metric"),
        ({"multi_edges": "some"}, "multi_edges"),
    ],
)
def test_bad_settings(options: dict[str, Any], match: str) -> None:
    with pytest.raises(ArgumentError, match=match):
        make_task(**options)


def test_bad_split_name() -> None:
    with pytest.raises(ArgumentError, match="split.*'train'"):
        make_task().evaluate(make_model().eval(), "train")


def test_graph_is_symmetric() -> None:
    task = make_task()
    assert isinstance(task.graph, CSRGraph)
    assert task.graph.is_symmetric()
    assert task.graph.without_edges(SPLIT.train[:, :5])._symmetric  # known without looking again
