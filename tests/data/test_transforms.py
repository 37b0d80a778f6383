"""AddPairScores against networkx, and its use in a PyG pipeline."""

from __future__ import annotations

import math

import networkx as nx
import pytest
import torch
from hypothesis import given
from strategies import SEEDS
from torch import Tensor
from torch_geometric.data import Data, HeteroData
from torch_geometric.transforms import BaseTransform, Compose, RandomLinkSplit

from graphmem.data.transforms import AddPairScores
from graphmem.errors import ArgumentError, ArgumentTypeError

METHODS = ("cn", "aa", "ra", "jaccard")


def networkx_scores(graph: nx.Graph, pairs: Tensor) -> Tensor:
    rows = []
    for i, j in pairs.t().tolist():
        common = set(graph[i]) & set(graph[j])
        union = set(graph[i]) | set(graph[j])
        rows.append(
            [
                len(common),
                sum(1 / math.log(graph.degree(u)) for u in common if graph.degree(u) > 1),
                sum(1 / graph.degree(u) for u in common),
                len(common) / len(union) if union else 0,
            ]
        )
    return torch.tensor(rows).view(-1, 4)


def example(seed: int) -> tuple[nx.Graph, Data]:
    graph = nx.gnp_random_graph(15, 0.3, seed=seed)
    edges = torch.tensor(list(graph.edges)).view(-1, 2).T
    data = Data(edge_index=torch.cat((edges, edges.flip(0)), 1), num_nodes=15)
    data.edge_label_index = torch.combinations(torch.arange(15)).T.contiguous()
    return graph, data


@given(SEEDS)
def test_scores_match_networkx(seed: int) -> None:
    graph, data = example(seed)
    pairs = data.edge_label_index
    data = AddPairScores(METHODS, remove_targets=False)(data)
    torch.testing.assert_close(data.pair_scores, networkx_scores(graph, pairs))
    # networkx's own functions say the same of pairs that are no edges.
    apart = [(i, j) for i, j in pairs.t().tolist() if not graph.has_edge(i, j)]
    if apart:
        where = torch.tensor([not graph.has_edge(i, j) for i, j in pairs.t().tolist()])
        for column, method in ((2, nx.resource_allocation_index), (3, nx.jaccard_coefficient)):
            expected = torch.tensor([score for _, _, score in method(graph, apart)])
            torch.testing.assert_close(data.pair_scores[where, column], expected.float())


@given(SEEDS)
def test_targets_see_the_graph_without_themselves(seed: int) -> None:
    graph, data = example(seed)
    data.edge_label_index = data.edge_index[:, ::3]
    without = graph.copy()
    without.remove_edges_from(data.edge_label_index.t().tolist())
    got = AddPairScores(METHODS)(data.clone()).pair_scores
    torch.testing.assert_close(got, networkx_scores(without, data.edge_label_index))
    # So the label cannot be read off: with the targets taken out beforehand nothing changes.
    edges = torch.tensor(list(without.edges)).view(-1, 2).T.long()
    clean = Data(edge_index=torch.cat((edges, edges.flip(0)), 1), num_nodes=15)
    clean.edge_label_index = data.edge_label_index
    assert torch.equal(AddPairScores(METHODS)(clean).pair_scores, got)


def test_order_names_and_defaults() -> None:
    _, data = example(1)
    data.my_pairs = data.edge_label_index[:, :7]
    every = AddPairScores(pairs="my_pairs", out="scores")(data.clone()).scores
    assert every.shape == (7, 4)
    assert every.dtype == torch.float32
    some = AddPairScores(("ra", "cn"), pairs="my_pairs", out="scores")(data.clone()).scores
    assert torch.equal(some, every[:, [2, 0]])


def test_in_a_pyg_pipeline() -> None:
    _, data = example(2)
    assert isinstance(AddPairScores(), BaseTransform)
    split = RandomLinkSplit(is_undirected=True, add_negative_train_samples=True)
    del data.edge_label_index
    torch.manual_seed(0)
    train, valid, test = split(data)
    for part in (train, valid, test):
        scored = Compose([AddPairScores(), AddPairScores(("cn",), out="cn")])(part)
        assert scored.pair_scores.shape == (scored.edge_label_index.size(1), 4)
        assert bool(torch.isfinite(scored.pair_scores).all())
        assert torch.equal(scored.cn[:, 0], scored.pair_scores[:, 0])
    before = list(data.keys())
    data.edge_label_index = data.edge_index
    AddPairScores()(data)  # PyG copies the object before a transform
    assert set(data.keys()) == {*before, "edge_label_index"}


def test_bad_input() -> None:
    with pytest.raises(ArgumentError, match=r"methods.*'katz'"):
        AddPairScores(("cn", "katz"))  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="edge_label_index"):
        AddPairScores()(Data(edge_index=torch.tensor([[0], [1]])))
    with pytest.raises(ArgumentTypeError, match="HeteroData"):
        AddPairScores()(HeteroData())
    _, data = example(0)
    data.edge_label_index = data.edge_label_index + 100
    with pytest.raises(ArgumentError, match=r"pairs.*\[0, 15\)"):
        AddPairScores()(data)
