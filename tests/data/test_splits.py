"""Splits: equality with the authors' steps, leak-freeness, and typed errors."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.utils import coalesce, to_undirected

from graphmem.data.dataset import DatasetCard, GraphDataset, LinkSplit
from graphmem.data.generators import dcsbm
from graphmem.data.registry import load_dataset
from graphmem.data.splits import non_edge_pairs, randperm_prefix, split_edges
from graphmem.errors import ArgumentError, ArgumentTypeError


def dense_oracle(data: Data, seed: int) -> dict[str, Tensor]:
    """The authors' steps with PyG's own helper (N x N masks), from the global random state."""
    from torch_geometric.utils import train_test_split_edges

    def clean(edge: Tensor) -> Tensor:
        edge = to_undirected(edge)
        return edge[:, edge[0] < edge[1]]

    state = torch.get_rng_state()
    torch.manual_seed(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = train_test_split_edges(data.clone(), 0.2, 0.2)
    valid = data.val_pos_edge_index
    valid = valid[:, torch.randperm(valid.size(1))]
    torch.set_rng_state(state)
    kept = int(valid.size(1) * 0.1 / 0.2)
    return {
        "train": clean(torch.cat([data.train_pos_edge_index, valid[:, :-kept]], dim=1)),
        "valid": clean(valid[:, -kept:]),
        "valid_neg": clean(data.val_neg_edge_index),
        "test": clean(data.test_pos_edge_index),
        "test_neg": clean(data.test_neg_edge_index),
    }


def pyg_graph(edge_index: Tensor, num_nodes: int, by_row: bool) -> Data:
    edge = coalesce(to_undirected(edge_index, num_nodes=num_nodes), num_nodes=num_nodes, sort_by_row=by_row)
    return Data(edge_index=edge, num_nodes=num_nodes)


def random_edges(num_nodes: int, num_edges: int, seed: int) -> Tensor:
    pairs = torch.triu_indices(num_nodes, num_nodes, offset=1)
    order = torch.randperm(pairs.size(1), generator=torch.Generator().manual_seed(seed))
    return pairs[:, order[:num_edges]]


def assert_same(split: LinkSplit, expected: dict[str, Tensor]) -> None:
    for name, tensor in expected.items():
        assert torch.equal(getattr(split, name), tensor), name


@pytest.mark.parametrize("order", ["row", "column"])
@pytest.mark.parametrize(("num_nodes", "num_edges"), [(8, 10), (9, 17), (40, 200), (61, 333), (30, 250)])
@pytest.mark.parametrize("seed", [0, 3])
def test_ncn_split_equals_the_authors_steps(num_nodes: int, num_edges: int, seed: int, order: str) -> None:
    edges = random_edges(num_nodes, num_edges, seed)
    expected = dense_oracle(pyg_graph(edges, num_nodes, order == "row"), seed)
    assert_same(split_edges(edges, num_nodes=num_nodes, seed=seed, edge_order=order), expected)


@settings(max_examples=40, deadline=None)
@given(st.integers(8, 30), st.integers(0, 2**31), st.data())
def test_ncn_split_equals_the_authors_steps_on_any_graph(num_nodes: int, seed: int, data: st.DataObject) -> None:
    pairs = num_nodes * (num_nodes - 1) // 2
    num_edges = data.draw(st.integers(10, pairs * 5 // 7))
    edges = random_edges(num_nodes, num_edges, seed)
    split = split_edges(edges, num_nodes=num_nodes, seed=seed)
    assert_same(split, dense_oracle(pyg_graph(edges, num_nodes, True), seed))


@pytest.mark.realdata
@pytest.mark.parametrize("name", ["cora", "citeseer"])
def test_ncn_split_of_real_data(name: str, real_data: Path) -> None:
    dataset = load_dataset(name, download=False)
    sizes = {"cora": (3696, 527, 1055, 1055), "citeseer": (3187, 455, 910, 910)}[name]
    previous = None
    for seed in (0, 7):
        split = split_edges(dataset, seed=seed)
        assert (split.num_train, split.num_valid, split.num_test) == sizes[:3]
        assert split.sizes["valid_neg"] == split.sizes["test_neg"] == sizes[3]
        assert_same(split, dense_oracle(pyg_graph(dataset.edge_index, dataset.num_nodes, True), seed))
        assert previous is None or not torch.equal(previous, split.test)
        previous = split.test
    column = split_edges(dataset, seed=7, edge_order="column")
    assert_same(column, dense_oracle(pyg_graph(dataset.edge_index, dataset.num_nodes, False), 7))


@pytest.mark.realdata
def test_ncn_split_of_pubmed_needs_no_dense_mask(real_data: Path) -> None:
    split = split_edges(load_dataset("pubmed_structure", download=False), seed=0)
    assert (split.num_train, split.num_valid, split.num_test) == (31028, 4432, 8864)
    assert split.sizes["valid_neg"] == split.sizes["test_neg"] == 8864


@pytest.mark.parametrize("seed", [0, 11])
@pytest.mark.parametrize("n", [1, 2, 3, 10, 1001, 300_000])
def test_randperm_prefix_is_torch_randperm(n: int, seed: int) -> None:
    for k in sorted({0, 1, 2, n // 2, n - 1, n} & set(range(min(n, 1001) + 1))):
        ours, theirs = torch.Generator().manual_seed(seed), torch.Generator().manual_seed(seed)
        expected = torch.randperm(n, generator=theirs)[:k]
        assert randperm_prefix(n, k, ours).tolist() == expected.tolist()
        assert torch.equal(torch.randperm(9, generator=ours), torch.randperm(9, generator=theirs))


@given(st.integers(2, 12), st.data())
def test_non_edge_pairs_lists_every_non_edge_once(num_nodes: int, data: st.DataObject) -> None:
    pairs = [(i, j) for i in range(num_nodes) for j in range(i + 1, num_nodes)]
    chosen = data.draw(st.sets(st.sampled_from(pairs)))
    edges = np.array(sorted(chosen), dtype=np.int64).reshape(-1, 2).T
    rest = [pair for pair in pairs if pair not in chosen]
    found = non_edge_pairs(edges, num_nodes, np.arange(len(rest)))
    assert list(map(tuple, found.T.tolist())) == rest


@pytest.mark.parametrize("protocol", ["ncn", "random"])
def test_global_random_state_is_untouched(protocol: str) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = split_edges(random_edges(40, 200, 0), num_nodes=40, protocol=protocol, seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(77)
    again = split_edges(random_edges(40, 200, 0), num_nodes=40, protocol=protocol, seed=1)
    assert all(torch.equal(getattr(first, n), getattr(again, n)) for n in ("train", "valid", "test_neg"))


@settings(max_examples=40, deadline=None)
@given(st.integers(8, 40), st.integers(-5, 2**63), st.booleans(), st.data())
def test_random_split_is_a_leak_free_partition(num_nodes: int, seed: int, dense: bool, data: st.DataObject) -> None:
    pairs = num_nodes * (num_nodes - 1) // 2
    edges = random_edges(num_nodes, data.draw(st.integers(10, pairs * (7 if dense else 4) // 10)), seed % 1000)
    both = torch.cat([edges, edges.flip(0), edges[:, :3]], dim=1)  # both directions and repeats are one link
    split = split_edges(both, num_nodes=num_nodes, protocol="random", seed=seed)
    sets = {n: set(map(tuple, getattr(split, n).t().tolist())) for n in ("train", "valid", "test")}
    negative = [set(map(tuple, v.t().tolist())) for v in (split.valid_neg, split.test_neg) if v is not None]
    graph = set(map(tuple, edges.t().tolist()))
    assert set.union(*sets.values()) == graph
    assert sum(map(len, sets.values())) == len(graph)
    assert not (negative[0] | negative[1]) & graph
    assert not negative[0] & negative[1]
    assert [len(n) for n in negative] == [split.num_valid, split.num_test]
    assert all(i < j for pairs_ in (*sets.values(), *negative) for i, j in pairs_)
    assert split.num_test == len(graph) * 2 // 10


def test_random_split_numbers_are_frozen() -> None:
    """The split is the same on every machine: these values must never change."""
    split = split_edges(_ring(60), num_nodes=60, protocol="random", seed=3)
    assert split.valid.tolist() == FROZEN["valid"]
    assert split.valid_neg is not None
    assert split.valid_neg.tolist() == FROZEN["valid_neg"]


def _ring(n: int) -> Tensor:
    node = torch.arange(n)
    return torch.stack([node, (node + 1) % n])


FROZEN: dict[str, list[list[int]]] = {
    "valid": [[5, 9, 19, 34, 41, 57], [6, 10, 20, 35, 42, 58]],
    "valid_neg": [[1, 3, 12, 23, 25, 43], [23, 8, 17, 40, 53, 47]],
}


def test_random_negatives_are_uniform() -> None:
    edges = random_edges(12, 20, 0)
    count = torch.zeros(12, 12)
    for seed in range(400):
        split = split_edges(edges, num_nodes=12, protocol="random", seed=seed, num_valid_neg=3, num_test_neg=3)
        for negative in (split.valid_neg, split.test_neg):
            assert negative is not None
            count[negative[0], negative[1]] += 1
    free = torch.ones(12, 12).triu(1)
    free[edges[0], edges[1]] = 0
    expected = 400 * 6 / float(free.sum())
    chi2 = float((((count - expected) ** 2) / expected)[free.bool()].sum())
    assert count[~free.bool()].sum() == 0
    assert chi2 < 90  # 45 degrees of freedom; the 0.9999 quantile is 88.9


def test_seed_changes_the_split() -> None:
    edges = random_edges(40, 200, 0)
    one, two = (split_edges(edges, num_nodes=40, protocol="random", seed=s) for s in (0, 1))
    assert not torch.equal(one.test, two.test)
    assert (one.protocol, one.seed) == ("random", 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"protocol": "ogb"}, "protocol: expected one of"),
        ({"protocol": "random", "val_ratio": 0.0}, "val_ratio: expected"),
        ({"protocol": "random", "test_ratio": 1.5}, "test_ratio: expected"),
        ({"protocol": "random", "val_ratio": 0.5, "test_ratio": 0.5}, "must be below 1"),
        ({"protocol": "random", "val_ratio": 1e-6}, "leave an empty set"),
        ({"protocol": "random", "num_valid_neg": 10_000}, "too dense"),
        ({"protocol": "random", "num_test_neg": -1}, "num_test_neg: expected at least 0"),
        ({"protocol": "random", "edge_order": "column"}, "edge_order"),
        ({"protocol": "ncn", "val_ratio": 0.3}, "fixes the ratios"),
        ({"protocol": "ncn", "edge_order": "diagonal"}, "edge_order: expected"),
        ({"num_nodes": None}, "num_nodes: needed"),
        ({"num_nodes": 12}, "node ids must be in"),
    ],
)
def test_bad_arguments(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        split_edges(random_edges(30, 100, 0), **{"num_nodes": 30, **arguments})  # type: ignore[arg-type]


def test_bad_graphs() -> None:
    with pytest.raises(ArgumentTypeError, match="graph: expected"):
        split_edges([[0], [1]], num_nodes=2)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="1 self-loops"):
        split_edges(torch.tensor([[0, 1], [1, 1]]), num_nodes=2)
    with pytest.raises(ArgumentError, match="at least 10 edges"):
        split_edges(random_edges(8, 9, 0), num_nodes=8)
    with pytest.raises(ArgumentError, match="too dense"):
        split_edges(random_edges(8, 28, 0), num_nodes=8)
    with pytest.raises(ArgumentError, match="int64"):
        split_edges(torch.zeros(2, 3), num_nodes=8)
    with pytest.raises(ArgumentError, match="has 100 nodes"):
        split_edges(dcsbm(100, 2, 4.0), num_nodes=5)


def make_split(**changes: object) -> LinkSplit:
    fields: dict[str, object] = {
        "train": torch.tensor([[0, 1, 2], [1, 2, 3]]),
        "valid": torch.tensor([[0, 3], [3, 1]]),
        "valid_neg": torch.tensor([[0], [2]]),
        "test": torch.tensor([[2], [0]]),
        "test_neg": torch.tensor([[1, 0], [3, 2]]),
        "num_nodes": 4,
        "protocol": "hand",
    }
    return LinkSplit(**{**fields, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": torch.zeros(2, 3)}, "train: expected dtype int64"),
        ({"valid": torch.tensor([0, 1])}, r"valid: expected shape \[2, E\]"),
        ({"test": torch.tensor([[4], [0]])}, r"test: node ids must be in \[0, 4\), found 0..4"),
        ({"test_neg": torch.tensor([[-1], [0]])}, "test_neg: node ids"),
        ({"valid_neg": torch.zeros(3, 5, 2, dtype=torch.int64)}, r"valid_neg: expected \[2, M\] or \[2, K, 2\]"),
        ({"valid_neg": torch.full((2, 5, 2), 9)}, "valid_neg: node ids"),
        ({"attributes": {"weight": torch.ones(3)}}, "attributes: keys"),
    ],
)
def test_link_split_is_validated(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        make_split(**changes)


def test_link_split_wants_tensors() -> None:
    with pytest.raises(ArgumentTypeError, match="train: expected a Tensor, found list"):
        make_split(train=[[0], [1]])


def test_ogb_round_trip_with_shared_negatives() -> None:
    split = make_split(attributes={"train.weight": torch.tensor([1.0, 2.0, 3.0])})
    form = split.to_ogb()
    assert form["train"]["edge"].tolist() == [[0, 1], [1, 2], [2, 3]]
    assert form["train"]["weight"].tolist() == [1.0, 2.0, 3.0]
    back = LinkSplit.from_ogb(form, 4, "hand")
    assert all(torch.equal(getattr(split, n), getattr(back, n)) for n in ("train", "valid", "valid_neg", "test_neg"))
    assert back.attributes["train.weight"].tolist() == [1.0, 2.0, 3.0]
    assert back.sizes == {"train": 3, "valid": 2, "valid_neg": 1, "test": 1, "test_neg": 2}
    assert "valid=2" in repr(back)
    assert back.to("cpu").device == torch.device("cpu")


def test_ogb_round_trip_in_the_form_of_citation2() -> None:
    form = {
        "train": {"source_node": np.array([3, 1]), "target_node": np.array([0, 2])},
        "valid": {"source_node": [2], "target_node": [1], "target_node_neg": [[0, 3, 1]]},
        "test": {"source_node": [0], "target_node": [1], "target_node_neg": [[2, 3, 3]]},
    }
    split = LinkSplit.from_ogb(form, 4, "ogbl-citation2")
    assert split.train.tolist() == [[3, 1], [0, 2]]
    assert split.valid_neg is not None
    assert split.valid_neg.tolist() == [[[2, 0], [2, 3], [2, 1]]]
    assert split.sizes["valid_neg"] == 3
    back = split.to_ogb()
    for name, part in form.items():
        for key, value in part.items():
            assert back[name][key].tolist() == np.asarray(value).tolist()


def test_ogb_form_is_checked() -> None:
    good = make_split().to_ogb()
    with pytest.raises(ArgumentError, match="expected the keys train, valid, test"):
        LinkSplit.from_ogb({"train": good["train"]}, 4)
    with pytest.raises(ArgumentError, match=r"split_edge\['valid'\]: expected 'edge'"):
        LinkSplit.from_ogb({**good, "valid": {"edges": good["valid"]["edge"]}}, 4)
    with pytest.raises(ArgumentError, match="fixed training negatives"):
        LinkSplit.from_ogb({**good, "train": good["valid"]}, 4)
    with pytest.raises(ArgumentError, match="keep the source"):
        make_split(valid_neg=torch.ones(2, 2, 2, dtype=torch.int64)).to_ogb()


def make_dataset(**changes: object) -> GraphDataset:
    fields: dict[str, object] = {
        "name": "hand",
        "edge_index": torch.tensor([[0, 0, 1], [1, 2, 2]]),
        "num_nodes": 4,
        "x": torch.eye(4),
        "y": torch.tensor([0, 1, 1, 0]),
        "split": None,
        "card": DatasetCard("hand"),
    }
    return GraphDataset(**{**fields, **changes})  # type: ignore[arg-type]


def test_graph_dataset_to_pyg() -> None:
    dataset = make_dataset(edge_weight=torch.tensor([1.0, 2.0, 3.0]))
    data = dataset.to_pyg()
    assert data.edge_index.tolist() == [[0, 0, 1, 1, 2, 2], [1, 2, 0, 2, 0, 1]]
    assert data.edge_weight.tolist() == [1.0, 2.0, 1.0, 3.0, 2.0, 3.0]
    assert data.is_undirected()
    assert (data.num_nodes, dataset.num_features, dataset.num_classes) == (4, 4, 2)
    assert repr(dataset) == "GraphDataset('hand', num_nodes=4, num_edges=3, x=float32[4, 4], num_classes=2)"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"edge_index": torch.tensor([[1], [0]])}, "i < j"),
        ({"edge_index": torch.tensor([[1], [1]])}, "i < j"),
        ({"edge_index": torch.tensor([[1, 0], [2, 1]])}, "lexicographic"),
        ({"edge_index": torch.tensor([[0], [4]])}, "node ids"),
        ({"x": torch.eye(3)}, "x: expected 4 rows, found 3"),
        ({"y": torch.zeros(5)}, "y: expected 4 rows"),
        ({"edge_weight": torch.ones(2)}, "edge_weight: expected 3"),
        ({"node_names": ("a",)}, "node_names: expected 4"),
    ],
)
def test_graph_dataset_is_validated(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        make_dataset(**changes)
