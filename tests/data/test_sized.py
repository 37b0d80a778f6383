"""Generated graphs of the sizes of OGB's sets: definitions, what the cards state, frozen digests, bad settings."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from graphmem import ops
from graphmem.data import CSRGraph, GraphDataset, load_dataset
from graphmem.data.registry import dataset_card, dataset_sha256
from graphmem.data.sized import citations, groups
from graphmem.errors import ArgumentError, DatasetIntegrityError

SIBLINGS = {
    "collab-size": "scale=0.01",
    "ppa-size": "scale=0.01&num_blocks=4",  # 58 blocks of a hundredth could not hold their links
    "citation2-size": "scale=0.01",
}


def keys(edges: torch.Tensor, num_nodes: int) -> set[int]:
    low, high = edges.min(dim=0).values, edges.max(dim=0).values
    return set((low * num_nodes + high).tolist())


def common(dataset: GraphDataset) -> tuple[CSRGraph, torch.Tensor]:
    graph = CSRGraph.from_edge_index(dataset.edge_index, dataset.num_nodes, symmetric=True)
    return graph, ops.cn_count(graph, dataset.edge_index).double()


@pytest.mark.parametrize("split", ["time", "random"])
def test_groups_have_the_stated_sets(split: str) -> None:
    graph = groups(1000, 3000, 200, 150, 400, split=split, num_features=8, seed=3)
    assert graph.split is not None
    assert graph.split.sizes == {"train": 3000, "valid": 200, "valid_neg": 400, "test": 150, "test_neg": 400}
    sets = [keys(getattr(graph.split, n), 1000) for n in ("train", "valid", "test", "valid_neg", "test_neg")]
    # distinct inside each set, and no set shares a pair with another
    assert [len(s) for s in sets] == [3000, 200, 150, 400, 400]
    assert len(set().union(*sets)) == 3000 + 200 + 150 + 800
    assert keys(graph.edge_index, 1000) == sets[0]
    assert graph.x is not None
    assert graph.x.dtype == torch.float32
    assert -1 <= float(graph.x.min()) < -0.99
    assert 0.99 < float(graph.x.max()) < 1


def test_without_held_out_links_there_is_no_split() -> None:
    graph = groups(500, 900)
    assert graph.split is None
    assert graph.x is None
    assert graph.num_edges == 900


def test_dense_groups_are_cliques() -> None:
    """Groups of exactly three new nodes are disjoint triangles; of two, disjoint edges."""
    triangles = groups(300, 200, size_exponent=0.0, max_size=3, newcomers=1.0, seed=1)
    _, shared = common(triangles)
    degree = torch.bincount(triangles.edge_index.reshape(-1), minlength=300)
    pairs = int((shared == 0).sum())
    assert set(shared.tolist()) == {0.0, 1.0}
    assert (200 - pairs) % 3 == 0
    assert set(degree.tolist()) <= {0, 1, 2}


def test_time_holds_out_later_links() -> None:
    """A prefix of the growth is the graph of fewer links; the links held out continue it."""
    whole = groups(2000, 6000, seed=5)
    begun = groups(2000, 5000, 600, 400, 100, seed=5)
    assert begun.split is not None
    train, valid, test = (keys(getattr(begun.split, n), 2000) for n in ("train", "valid", "test"))
    assert train | valid | test == keys(whole.edge_index, 2000)
    assert train == keys(groups(2000, 5000, seed=5).edge_index, 2000)
    assert train | valid == keys(groups(2000, 5600, seed=5).edge_index, 2000)


def test_blocks_are_never_crossed() -> None:
    graph = groups(1200, 4000, 100, 100, 50, num_blocks=6, split="random", seed=2)
    assert graph.x is not None
    assert graph.x.dtype == torch.int64
    assert torch.bincount(graph.x).tolist() == [200] * 6
    assert torch.equal(graph.x[graph.edge_index[0]], graph.x[graph.edge_index[1]])
    counts = torch.bincount(graph.x[graph.edge_index[0]], minlength=6)
    assert int(counts.max()) < 1.2 * int(counts.min())


def test_citations_point_back_in_time_and_hold_out_one_reference_each() -> None:
    graph = citations(2000, 9000, 50, 30, num_features=4, seed=4)
    split = graph.split
    assert split is not None
    assert split.sizes == {"train": 9000, "valid": 50, "valid_neg": 1500, "test": 50, "test_neg": 1500}
    assert torch.equal(split.valid[0], split.test[0])
    assert split.valid[0].unique().numel() == 50
    cited = torch.cat((split.train, split.valid, split.test), dim=1)
    assert len(set(map(tuple, cited.t().tolist()))) == 9100
    for name in ("valid", "test"):
        negative = getattr(split, f"{name}_neg")
        assert torch.equal(negative[:, :, 0], getattr(split, name)[0].unsqueeze(1).expand(50, 30))
        assert not set(map(tuple, negative.flatten(0, 1).tolist())) & set(map(tuple, cited.t().tolist()))
        assert bool((negative[:, :, 0] != negative[:, :, 1]).all())
    # Sorted by any order that puts a citing paper after the cited one: the graph has no directed cycle.
    year = split.attributes["train.year"]
    assert bool((year.diff() >= 0).all())  # links come in the order of time
    when = {int(s): k for k, s in enumerate(split.train[0].tolist())}
    assert all(when[t] < k for k, (_, t) in enumerate(split.train.t().tolist()) if t in when)
    assert set(split.valid[0].tolist()) & set(split.train[0, -200:].tolist())
    assert int(year.max()) == 2019
    assert keys(graph.edge_index, 2000) == keys(split.train, 2000)


def test_copying_closes_triangles_and_preference_makes_hubs() -> None:
    def of(copy: float, preferential: float) -> tuple[float, int]:
        dataset = citations(4000, 30_000, 0, copy=copy, preferential=preferential, recent=1.0)
        graph, shared = common(dataset)
        return float(shared.mean()), int(graph.degree().max())

    plain, copied, preferred = of(0.0, 0.0), of(0.6, 0.0), of(0.0, 0.9)
    assert copied[0] > 3 * plain[0]
    assert preferred[1] > 5 * plain[1]


@pytest.mark.parametrize("name", SIBLINGS)
def test_smaller_siblings_of_the_cards(name: str) -> None:
    """The same settings at a hundredth: counts, a heavy tail, and the digest, which must never change."""
    card = dataset_card(f"generated:{name}")
    graph = load_dataset(f"generated:{name}?{SIBLINGS[name]}")
    assert graph.split is not None
    assert card.num_nodes is not None
    assert graph.num_nodes == round(0.01 * card.num_nodes)
    assert graph.num_edges == round(0.01 * card.split_sizes["train"])
    csr, shared = common(graph)
    degree = csr.degree().double()
    least, most, hub = STATISTICS[name]
    assert least < float(shared.mean()) < most
    assert float(degree.max()) > hub * float(degree.mean())
    assert dataset_sha256(graph) == FROZEN[name]


@pytest.mark.slow
def test_collab_size_has_five_common_neighbours() -> None:
    graph = load_dataset("generated:collab-size")
    csr, shared = common(graph)
    assert float(shared.mean()) >= 5
    assert f"largest degree {int(csr.degree().max())}," in graph.card.notes
    assert graph.num_features == 128


def test_counts_of_a_generated_card_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    from graphmem.data import registry

    card = replace(
        dataset_card("generated:power-law"), options={"generator": "power-law", "num_nodes": 50, "num_edges": 60}
    )
    monkeypatch.setattr(registry, "dataset_card", lambda _: replace(card, num_edges=61))
    with pytest.raises(DatasetIntegrityError, match="num_edges is 60, the card says 61"):
        load_dataset("generated:power-law")
    assert load_dataset("generated:power-law?num_edges=61").num_edges == 61


STATISTICS = {"collab-size": (4.0, 12.0, 6), "ppa-size": (10.0, 80.0, 2), "citation2-size": (1.5, 8.0, 4)}
FROZEN = {
    "collab-size": "749ed0be54efabadfe84f26fe049338990dc0db96d4a401c7e5f2681f9b541fa",
    "ppa-size": "e2034e5d5ff7e537acde2152eb528ac39d505856c56bae44c635a84db90d941a",
    "citation2-size": "b8b38655a2cc8bac9a6695c31ec9d44c1a3d631e8c74a242214f68dc6fa1a72f",
}


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: groups(100, 200, newcomers=1.5), "newcomers: expected"),
        (lambda: groups(100, 200, density=-0.1), "density: expected"),
        (lambda: groups(100, 200, split="year"), "split: expected"),
        (lambda: groups(100, 200, num_blocks=4), "split: expected 'random', or 'time' with one block"),
        (lambda: groups(100, 200, num_blocks=80, split="random"), "num_blocks: expected"),
        (lambda: groups(100, 200, max_size=1), "max_size, max_out: expected"),
        (lambda: groups(20, 180), "num_edges: 20 nodes of a block are too few"),
        (lambda: groups(100, 60, newcomers=1.0, max_size=2, size_exponent=0.0, repeat=1.0, density=0.0), "too few for"),
        (lambda: groups(100, 200, scale=0.0), "scale: expected"),
        (lambda: groups(2, 1), "num_nodes and the other counts"),
        (lambda: groups(100, 200, num_features=6), "num_features: expected"),
        (lambda: citations(100, 5000), "num_edges: 5600 links"),
        (lambda: citations(100, 50, 90), "num_held_out: found"),
        (lambda: citations(100, 50, 5, 0), "num_negatives: expected"),
        (lambda: citations(100, 50, 5, copy=2.0), "copy: expected"),
    ],
)
def test_bad_settings(build: object, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        build()  # type: ignore[operator]


def test_seeds_differ_and_repeat() -> None:
    first, again, other = groups(300, 700), groups(300, 700), groups(300, 700, seed=-1)
    assert torch.equal(first.edge_index, again.edge_index)
    assert not torch.equal(first.edge_index, other.edge_index)
    order = np.corrcoef(np.arange(300), np.bincount(first.edge_index.reshape(-1), minlength=300))[0, 1]
    assert abs(order) < 0.2  # numbers do not reveal degrees
