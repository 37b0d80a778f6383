"""No model may read the label that it is to predict: per model, in three different ways."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from model_cases import CASES, DROPOUT, NODES, ModelCase, both, edges, gradients, nodes_x, seeded
from strategies import same_bits
from torch import Tensor

from graphmem.data.dataset import LinkSplit
from graphmem.data.graph import CSRGraph
from graphmem.engine.link_task import LinkBatch, LinkPredictionTask

X, LINKS = nodes_x(), edges()
TARGETS, OTHERS = LINKS[:, ::4], LINKS[:, [b for b in range(LINKS.size(1)) if b % 4]]
PAIRS = torch.cat((TARGETS, torch.tensor([[0, 3, 9], [11, 17, 20]])), dim=1)

every_model = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def with_targets() -> dict[str, Tensor]:
    """Edge lists that hold the targets in every way in which a pipeline may leave them there."""
    rest = both(OTHERS)
    return {
        "absent": rest,
        "forward": torch.cat((rest, TARGETS), dim=1),
        "backward": torch.cat((TARGETS.flip(0), rest), dim=1),
        "both": torch.cat((TARGETS, rest, TARGETS.flip(0)), dim=1),
        "repeated": torch.cat((both(TARGETS), rest, both(TARGETS), TARGETS), dim=1),
    }


@every_model
def test_targets_in_the_graph_change_no_bit(case: ModelCase) -> None:
    model = case.build(**DROPOUT).train()
    results = {}
    for name, edge_index in with_targets().items():
        logits = seeded(lambda edge_index=edge_index: model(X, edge_index, PAIRS))
        results[name] = (logits.detach(), gradients(model, logits.square().sum()))
    expected, expected_grad = results.pop("absent")
    for name, (logits, gradient) in results.items():
        assert same_bits(logits, expected), name
        assert all(same_bits(gradient[key], value) for key, value in expected_grad.items()), name


@every_model
def test_targets_are_seen_where_asked_and_in_evaluation(case: ModelCase) -> None:
    """So that the test above cannot pass for a model that reads no edges."""
    model = case.build()
    lists = with_targets()
    for mode in (True, False):
        model.train(mode)
        seen = seeded(lambda: model(X, lists["both"], PAIRS, remove_targets=False))
        hidden = seeded(lambda: model(X, lists["absent"], PAIRS, remove_targets=False))
        assert not torch.allclose(seen, hidden), mode
    # In evaluation the graph is taken as it is given.
    assert same_bits(model(X, lists["both"], PAIRS), model(X, lists["both"], PAIRS, remove_targets=False))


@every_model
def test_no_gradient_from_a_target_edge(case: ModelCase) -> None:
    """The weight of an edge is its presence, smoothly: a target's must not move any logit."""
    model = case.build().train()
    edge_index = with_targets()["both"]
    weight = torch.ones(edge_index.size(1), requires_grad=True)
    target = torch.zeros(edge_index.size(1), dtype=torch.bool)
    target[: TARGETS.size(1)] = target[-TARGETS.size(1) :] = True
    logits = seeded(lambda: model(X, edge_index, PAIRS, weight))
    (gradient,) = torch.autograd.grad(logits.square().sum(), weight)
    assert not bool(gradient[target].any())
    assert bool(gradient[~target].any())
    logits = seeded(lambda: model(X, edge_index, PAIRS, weight, remove_targets=False))
    (gradient,) = torch.autograd.grad(logits.square().sum(), weight)
    assert bool(gradient[target].any())


@every_model
def test_each_target_alone(case: ModelCase) -> None:
    """Whether one pair is an edge or not does not move its own logit, however it is batched."""
    model = case.build().train()
    everything = both(LINKS)
    for target in TARGETS.t()[:4]:
        i, j = target.tolist()
        own = ((everything[0] == i) & (everything[1] == j)) | ((everything[0] == j) & (everything[1] == i))
        pair = target.unsqueeze(1)
        with_edge = seeded(lambda pair=pair: model(X, everything, pair))
        without = seeded(lambda pair=pair, own=own: model(X, everything[:, ~own], pair))
        assert same_bits(with_edge, without)


# --- the task


def split(num_nodes: int = NODES, test: Tensor | None = None) -> LinkSplit:
    """Training links, and held-out links; with ``test``, other test links."""
    held_out = edges(num_nodes, 2.0, seed=9)
    half = held_out.size(1) // 2
    negatives = torch.tensor([[0, 1, 2, 3], [4, 5, 6, 7]])
    return LinkSplit(
        train=LINKS,
        valid=held_out[:, :half],
        valid_neg=negatives,
        test=held_out[:, half:] if test is None else test,
        test_neg=negatives.flip(1),
        num_nodes=num_nodes,
        protocol="test",
    )


def task(**options: Any) -> LinkPredictionTask:
    return LinkPredictionTask(**{"split": split(), "x": X, "batch_size": 12, "metrics": ("hits@1",), **options})


@every_model
@pytest.mark.parametrize("joint", [True, False])
def test_loss_of_the_task_does_not_see_the_batch(case: ModelCase, joint: bool) -> None:
    model = case.build(**DROPOUT).train()
    batch = LinkBatch(TARGETS, torch.tensor([[0, 3, 9], [11, 17, 20]]))
    full = task(joint=joint)
    held = task(joint=joint)
    held.graph = CSRGraph.from_edge_index(OTHERS, NODES, symmetric=True)
    assert same_bits(seeded(lambda: full.loss(model, batch)), seeded(lambda: held.loss(model, batch)))
    full.remove_targets = held.remove_targets = False
    assert not same_bits(seeded(lambda: full.loss(model, batch)), seeded(lambda: held.loss(model, batch)))


@pytest.mark.parametrize("policy", ["all", "reference"])
def test_multigraphs_leak_under_the_reference_policy_only(policy: str) -> None:
    case = CASES[1]
    repeated = LinkSplit(**{**vars(split()), "train": torch.cat((LINKS, TARGETS[:, :3]), dim=1)})
    full = task(split=repeated, multi_edges=policy)
    held = task(split=repeated, multi_edges=policy)
    held.graph = CSRGraph.from_edge_index(OTHERS, NODES, symmetric=True)
    batch = LinkBatch(TARGETS, torch.tensor([[0, 3], [11, 17]]))
    model = case.build().train()
    assert same_bits(full.loss(model, batch), held.loss(model, batch)) == (policy == "all")


@every_model
def test_training_reads_no_held_out_link(case: ModelCase) -> None:
    """Other test and validation links, other labels: the same training, bit for bit."""
    results = []
    for seed in (1, 2):
        held_out = edges(NODES, 2.0, seed=seed)[:, :12]
        changed = LinkSplit(**{**vars(split()), "test": held_out[:, :6], "valid": held_out[:, 6:]})
        one = task(split=changed, valid_edges_at_test=True)
        model = case.build(**DROPOUT).train()
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        torch.manual_seed(0)
        for epoch in (1, 2):
            for batch in one.batches("train", epoch):
                optimizer.zero_grad()
                one.loss(model, batch).backward()
                optimizer.step()
        results.append(model.state_dict())
    assert all(same_bits(results[0][name], results[1][name]) for name in results[0])
