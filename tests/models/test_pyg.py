"""Models inside PyG pipelines: splits, loaders, adjacency forms, mixed precision, torch.compile, the examples."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from model_cases import CASES, DROPOUT, HIDDEN, IN, NODES, ModelCase, both, by_name, edges, nodes_x, seeded
from torch import Tensor
from torch_geometric import EdgeIndex
from torch_geometric.data import Data, HeteroData
from torch_geometric.loader import LinkNeighborLoader
from torch_geometric.transforms import RandomLinkSplit, ToSparseTensor
from torch_geometric.utils import subgraph

from graphmem.data.graph import CSRGraph
from graphmem.errors import ArgumentTypeError
from graphmem.models import NCN, NCNC
from graphmem.nn import SparseFeatures

ROOT = Path(__file__).resolve().parents[2]
X, LINKS = nodes_x(), edges()
PAIRS = torch.randint(0, NODES, (2, 30), generator=torch.Generator().manual_seed(1))

every_model = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def split(num_nodes: int = 60) -> tuple[Data, ...]:
    data = Data(x=nodes_x(num_nodes), edge_index=both(edges(num_nodes, 6.0)))
    torch.manual_seed(0)
    return RandomLinkSplit(0.1, 0.2, is_undirected=True, add_negative_train_samples=True)(data)


@every_model
def test_random_link_split(case: ModelCase) -> None:
    train, valid, test = split()
    model = case.build(**DROPOUT)
    logits = seeded(lambda: model.train()(train.x, train.edge_index, train.edge_label_index))
    # PyG leaves the training links in the training graph; they must not be seen.
    positive = train.edge_label_index[:, train.edge_label == 1]
    graph = CSRGraph.from_edge_index(train.edge_index, 60).without_edges(positive)
    assert graph.num_edges == 0  # here every message-passing edge is a target
    alone = seeded(lambda: model(train.x, torch.empty(2, 0, dtype=torch.int64), train.edge_label_index))
    assert torch.equal(logits, alone)
    for part in (valid, test):
        scores = model.eval()(part.x, part.edge_index, part.edge_label_index)
        assert scores.shape == part.edge_label.shape


def test_disjoint_training_links_are_seen_and_not_the_targets() -> None:
    data = Data(x=nodes_x(60), edge_index=both(edges(60, 6.0)))
    torch.manual_seed(0)
    train, _, _ = RandomLinkSplit(0.1, 0.2, is_undirected=True, disjoint_train_ratio=0.3)(data)
    model = by_name["NCNC-clean"].build().train()
    arguments = (train.x, train.edge_index, train.edge_label_index)
    assert torch.equal(model(*arguments), model(*arguments, remove_targets=False))  # there is nothing to remove
    assert not torch.allclose(model(*arguments), model(train.x, train.edge_index[:, :0], train.edge_label_index))


@every_model
def test_every_adjacency_form(case: ModelCase) -> None:
    model = case.build(**DROPOUT)
    edge_index = both(LINKS)
    coo = torch.sparse_coo_tensor(edge_index, torch.ones(edge_index.size(1)), (NODES, NODES))
    data = Data(x=X, edge_index=edge_index)
    forms: dict[str, Any] = {
        "EdgeIndex": EdgeIndex(edge_index, sparse_size=(NODES, NODES)),
        "coo": coo,
        "csr": coo.to_sparse_csr(),
        "Data": data,
        "adj_t": ToSparseTensor(layout=torch.sparse_csr)(data).adj_t,
        "CSRGraph": CSRGraph.from_edge_index(edge_index, NODES),
    }
    for mode in (True, False):
        model.train(mode)
        expected = seeded(lambda: model(X, edge_index, PAIRS))
        for name, form in forms.items():
            assert torch.equal(seeded(lambda form=form: model(X, form, PAIRS)), expected), name


def test_sparse_tensor() -> None:
    torch_sparse = pytest.importorskip("torch_sparse")
    adjacency = torch_sparse.SparseTensor.from_edge_index(both(LINKS), sparse_sizes=(NODES, NODES))
    model = by_name["NCNC-clean"].build()
    assert torch.equal(model(X, adjacency, PAIRS), model(X, both(LINKS), PAIRS))


@every_model
def test_a_batch_with_all_neighbours_is_the_whole_graph(case: ModelCase) -> None:
    """What LinkNeighborLoader yields: some nodes, renumbered, and the pairs in their numbers."""
    if case.name == "NCNC-sampled":
        pytest.skip("which neighbours are drawn depends on the numbers of nodes")
    links = edges(80, 3.0, 3)
    x = nodes_x(80)
    adjacency = torch.zeros(80, 80)
    adjacency[tuple(both(links))] = 1
    pairs = torch.cat((links[:, :3], torch.tensor([[1, 5], [7, 20]])), dim=1)
    inside = torch.zeros(80, dtype=torch.bool)
    inside[pairs.flatten()] = True
    for _ in range(5):
        inside |= adjacency[inside].any(0)
    number = torch.full((80,), -1)
    number[inside] = torch.arange(int(inside.sum()))
    local, _ = subgraph(inside, both(links), relabel_nodes=True, num_nodes=80)
    model = case.build()
    for mode in (True, False):
        model.train(mode)
        torch.testing.assert_close(
            model(x[inside], local, number[pairs]), model(x, both(links), pairs), rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize("name", ["NCN", "NCNC-clean", "NCNC-pt"])
def test_link_neighbor_loader(name: str) -> None:
    try:
        import torch_sparse  # noqa: F401
    except ImportError:
        pytest.importorskip("pyg_lib", reason="LinkNeighborLoader needs pyg-lib or torch-sparse")
    links = edges(200, 8.0, 3)
    data = Data(edge_index=both(links), num_nodes=200)
    loader = LinkNeighborLoader(
        data, num_neighbors=[5, 5], edge_label_index=links, neg_sampling="binary", batch_size=64, shuffle=True
    )
    model = by_name[name].build(in_channels=None, num_embeddings=200, **DROPOUT).train()
    torch.manual_seed(0)
    batches = list(loader)
    assert len(batches) > 3
    for batch in batches:
        # A graph without features: the ids say which row of the embedding a node of the batch has.
        logits = model(batch.n_id, batch.edge_index, batch.edge_label_index)
        assert logits.shape == batch.edge_label.shape
        torch.nn.functional.binary_cross_entropy_with_logits(logits, batch.edge_label).backward()
    model.eval()
    batch = batches[0]
    full = LinkNeighborLoader(data, num_neighbors=[-1] * 6, edge_label_index=links[:, :10], batch_size=10)
    batch = next(iter(full))
    assert torch.equal(batch.n_id[batch.edge_label_index], links[:, :10])
    with torch.no_grad():
        torch.testing.assert_close(
            model(batch.n_id, batch.edge_index, batch.edge_label_index),
            model(None, both(links), links[:, :10]),
            rtol=1e-4,
            atol=1e-5,
        )


@every_model
def test_graphs_without_features(case: ModelCase) -> None:
    model = case.build(in_channels=None, num_embeddings=NODES + 3, **DROPOUT)
    for mode in (True, False):
        model.train(mode)
        ids = torch.arange(NODES + 3)
        assert torch.equal(
            seeded(lambda: model(None, both(LINKS), PAIRS)), seeded(lambda ids=ids: model(ids, both(LINKS), PAIRS))
        )
        # Fewer nodes than embeddings, said by the graph itself.
        graph = CSRGraph.from_edge_index(both(LINKS), NODES)
        assert model(None, graph, PAIRS).shape == (30,)
    torch.testing.assert_close(model(None, graph, PAIRS), model(None, both(LINKS), PAIRS))


@every_model
def test_edge_weights(case: ModelCase) -> None:
    model = case.build().eval()
    edge_index = both(LINKS)
    ones, weight = torch.ones(edge_index.size(1)), torch.rand(LINKS.size(1)).repeat(2) + 0.5
    plain = model(X, edge_index, PAIRS)
    torch.testing.assert_close(model(X, edge_index, PAIRS, ones), plain)
    weighted = model(X, edge_index, PAIRS, weight)
    assert not torch.allclose(weighted, plain)
    torch.testing.assert_close(model(X, Data(edge_index=edge_index, edge_weight=weight), PAIRS), weighted)
    # Two edges of weight w are one of 2 w.
    twice = (edge_index.repeat(1, 2), PAIRS, weight.repeat(2) / 2)
    torch.testing.assert_close(model(X, *twice), weighted)
    torch.testing.assert_close(
        model.score(*(lambda g: (model.encode(X, g), g))(CSRGraph.from_edge_index(edge_index, NODES, weight)), PAIRS),
        weighted,
        rtol=1e-4,
        atol=1e-5,
    )


def test_sparse_features_are_accepted() -> None:
    x = X * (X > 0)
    for name in ("NCN", "NCN-gcn"):
        model = by_name[name].build()
        expected = model(x, both(LINKS), PAIRS)
        for form in (x.to_sparse_csr(), x.to_sparse_coo(), SparseFeatures.from_tensor(x)):
            torch.testing.assert_close(model(form, both(LINKS), PAIRS), expected, rtol=1e-4, atol=1e-5)


def test_heterogeneous_data_is_refused() -> None:
    data = HeteroData()
    data["user"].x = X
    data["user", "likes", "user"].edge_index = LINKS
    model = NCN(IN, HIDDEN)
    with pytest.raises(ArgumentTypeError, match="to_homogeneous"):
        model(X, data, PAIRS)
    with pytest.raises(ArgumentTypeError, match="dict"):
        model(data.x_dict, LINKS, PAIRS)
    one_type = model.eval()(X, data["user", "likes", "user"].edge_index, PAIRS)
    assert torch.equal(one_type, model(X, LINKS, PAIRS))


@every_model
@pytest.mark.parametrize("dropout", [True, False])
def test_autocast(case: ModelCase, dropout: bool) -> None:
    model = case.build(hidden=16, **(DROPOUT if dropout else {})).train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = seeded(lambda: model(X, both(LINKS), PAIRS))
    logits.float().square().mean().backward()
    assert all(p.grad is None or bool(torch.isfinite(p.grad).all()) for p in model.parameters())
    assert all(p.grad is None or p.grad.dtype == torch.float32 for p in model.parameters())
    if not dropout:
        expected = model(X, both(LINKS), PAIRS)
        torch.testing.assert_close(logits.float(), expected, rtol=0.2, atol=0.1)
        model.eval()
        graph = CSRGraph.from_edge_index(both(LINKS), NODES)
        with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
            scores = model.score(model.encode(X, graph), graph, PAIRS)
        torch.testing.assert_close(scores.float(), model(X, both(LINKS), PAIRS), rtol=0.2, atol=0.1)


@pytest.mark.parametrize("name", ["GAE", "NCN", "NCNDiff", pytest.param("NCNC-clean", marks=pytest.mark.slow)])
def test_compiled_decoder(name: str) -> None:
    """Sizes depend on the data, so the graph breaks; the numbers stay."""
    model = by_name[name].build().eval()
    graph = CSRGraph.from_edge_index(both(LINKS), NODES)
    h = model.encode(X, graph).detach()
    torch._dynamo.reset()
    compiled = torch.compile(model.decode, backend="eager")  # what is tested is the tracing; it takes seconds as it is
    with torch.no_grad():
        torch.testing.assert_close(compiled(h, graph, PAIRS), model.decode(h, graph, PAIRS))
    torch._dynamo.reset()


def run_example(name: str, *arguments: str) -> str:
    environment = {key: value for key, value in os.environ.items() if key != "GRAPHMEM_DATA"}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), environment.get("PYTHONPATH", ""))))
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / name), *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_hand_written_loop_learns() -> None:
    source = (ROOT / "examples" / "pyg_link_prediction.py").read_text()
    assert len(source.splitlines()) <= 40
    line = run_example("pyg_link_prediction.py", "2").splitlines()[-1]
    # 100 of 1,000 negatives above the threshold would be chance: 0.05 to 0.2 here.
    assert float(line.rpartition(" ")[2]) > 0.5


def test_the_loader_example_runs() -> None:
    try:
        import torch_sparse  # noqa: F401
    except ImportError:
        pytest.importorskip("pyg_lib", reason="LinkNeighborLoader needs pyg-lib or torch-sparse")
    assert float(run_example("neighbor_loader.py", "1").rpartition(" ")[2]) > 0.85


def test_logits_of_one_pair() -> None:
    model: NCNC = by_name["NCNC-2"].build()  # type: ignore[assignment]
    pair: Tensor = PAIRS[:, :1]
    assert model(X, both(LINKS), pair).shape == (1,)
