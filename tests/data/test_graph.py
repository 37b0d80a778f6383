"""CSRGraph against dense matrices: building, masks, products, conversions, errors."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import SEEDS, features
from torch import Tensor
from torch_geometric import EdgeIndex
from torch_geometric.data import Data, HeteroData

from graphmem.data.convert import to_csr
from graphmem.data.graph import CSRGraph
from graphmem.errors import ArgumentError, ArgumentTypeError


@dataclasses.dataclass(frozen=True)
class EdgeList:
    """A list of edges with repeats, loops and weights, and how many nodes it is about."""

    edge_index: Tensor
    num_nodes: int
    weight: Tensor | None
    symmetric: bool
    seed: int

    def build(self) -> CSRGraph:
        return CSRGraph.from_edge_index(self.edge_index, self.num_nodes, self.weight, symmetric=self.symmetric)

    def counts(self) -> Tensor:
        """float64 [N, N]: number of copies of each edge; row = target."""
        return self._accumulate(torch.ones(self.edge_index.size(1), dtype=torch.float64))

    def values(self) -> Tensor:
        """float64 [N, N]: summed weights, or 1 where there is an edge."""
        return (self.counts() > 0).double() if self.weight is None else self._accumulate(self.weight.double())

    def _accumulate(self, value: Tensor) -> Tensor:
        out = torch.zeros(self.num_nodes, self.num_nodes, dtype=torch.float64)
        for (source, target), one in zip(self.edge_index.t().tolist(), value.tolist(), strict=True):
            out[target, source] += one
            if self.symmetric and source != target:
                out[source, target] += one
        return out


@st.composite
def edge_lists(draw: st.DrawFn, *, weights: bool = True) -> EdgeList:
    size = draw(st.integers(1, 12))
    count = draw(st.sampled_from((0, 1, 5, 30, 90)))
    seed = draw(SEEDS)
    generator = torch.Generator().manual_seed(seed)
    edges = torch.randint(0, size, (2, count), generator=generator)
    weight = None
    if weights and draw(st.booleans()):
        weight = torch.randn(count, generator=generator, dtype=draw(st.sampled_from((torch.float32, torch.float64))))
    return EdgeList(edges, size, weight, draw(st.booleans()), seed)


def dense(graph: CSRGraph) -> Tensor:
    """float64 [N, N]: present values, read slot by slot."""
    out = torch.zeros(graph.num_nodes, graph.num_nodes, dtype=torch.float64)
    for row in range(graph.num_nodes):
        for slot in range(int(graph.rowptr[row]), int(graph.rowptr[row + 1])):
            if graph.keep is None or bool(graph.keep[slot]):
                value = 1.0 if graph.weight is None else float(graph.weight[slot])
                out[row, int(graph.col[slot])] = value * graph.scale
    return out


def present(graph: CSRGraph) -> Tensor:
    """Bool [N, N]: which edges are there; a weight may be 0."""
    out = torch.zeros(graph.num_nodes, graph.num_nodes, dtype=torch.bool)
    out[graph.row, graph.col.long()] = True if graph.keep is None else graph.keep
    return out


def masked(graph: CSRGraph, seed: int) -> CSRGraph:
    return graph.drop_edges(0.4, generator=torch.Generator().manual_seed(seed))


# --- building


@given(edge_lists())
def test_from_edge_index_matches_dense(case: EdgeList) -> None:
    graph = case.build()
    torch.testing.assert_close(dense(graph), case.values(), rtol=1e-5, atol=1e-5)
    assert torch.equal(present(graph), case.counts() > 0)
    assert graph.num_edges == graph.num_slots == int((case.counts() > 0).sum())
    copies = torch.zeros_like(case.counts())
    copies[graph.row, graph.col.long()] = (
        torch.ones(graph.num_slots, dtype=torch.float64) if graph.multiplicity is None else graph.multiplicity.double()
    )
    assert torch.equal(copies, case.counts())
    for row in range(graph.num_nodes):  # canonical: ascending and unique
        cols = graph.col[graph.rowptr[row] : graph.rowptr[row + 1]]
        assert torch.equal(cols, cols.unique())


@given(edge_lists())
def test_order_of_edges_does_not_matter(case: EdgeList) -> None:
    order = torch.randperm(case.edge_index.size(1), generator=torch.Generator().manual_seed(case.seed))
    weight = None if case.weight is None else case.weight[order]
    one = case.build()
    other = dataclasses.replace(case, edge_index=case.edge_index[:, order], weight=weight).build()
    assert torch.equal(one.rowptr, other.rowptr)
    assert torch.equal(one.col, other.col)
    if weight is not None:
        torch.testing.assert_close(one.weight, other.weight)


def test_direction_is_source_to_target() -> None:
    graph = CSRGraph.from_edge_index(torch.tensor([[0, 1], [2, 2]]))
    assert graph.num_nodes == 3  # one more than the largest id
    assert graph.degree().tolist() == [0, 0, 2]
    assert graph.col.tolist() == [0, 1]
    assert graph.edge_index().tolist() == [[0, 1], [2, 2]]
    assert not graph.is_symmetric()


def test_empty_graphs() -> None:
    none = torch.empty(2, 0, dtype=torch.int64)
    assert CSRGraph.from_edge_index(none).num_nodes == 0
    graph = CSRGraph.from_edge_index(none, 4, symmetric=True)
    assert graph.degree().tolist() == [0] * 4
    assert graph.is_symmetric()
    assert torch.equal(graph.spmm(torch.ones(4, 2)), torch.zeros(4, 2))
    assert torch.equal(graph.spmm(torch.ones(4, 2), "max"), torch.zeros(4, 2))
    assert graph.without_edges(torch.tensor([[0], [1]])).num_edges == 0
    assert graph.two_hop().num_edges == 0


def test_summed_weights_have_gradients() -> None:
    edges = torch.tensor([[0, 0, 1], [1, 1, 1]])
    weight = torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64, requires_grad=True)
    graph = CSRGraph.from_edge_index(edges, 2, weight)
    assert graph.weight is not None
    assert graph.weight.tolist() == [3.0, 4.0]
    (gradient,) = torch.autograd.grad((graph.weight * torch.tensor([10.0, 100.0])).sum(), weight)
    assert gradient.tolist() == [10.0, 10.0, 100.0]


# --- reading


@given(edge_lists(), st.booleans(), SEEDS)
def test_degrees_and_products_match_dense(case: EdgeList, mask: bool, seed: int) -> None:
    graph = masked(case.build(), seed) if mask else case.build()
    adjacency, there = dense(graph), present(graph)
    assert torch.equal(graph.degree(), there.sum(1))
    torch.testing.assert_close(graph.weighted_degree().double(), adjacency.sum(1), rtol=1e-5, atol=1e-5)
    x = features(graph.num_nodes, 3, seed, torch.float64)
    torch.testing.assert_close(graph.spmm(x), adjacency @ x, rtol=1e-5, atol=1e-5)
    count = there.sum(1, keepdim=True).clamp(min=1)
    torch.testing.assert_close(graph.spmm(x, "mean"), adjacency @ x / count, rtol=1e-5, atol=1e-5)
    messages = (adjacency.unsqueeze(2) * x).masked_fill(~there.unsqueeze(2), -torch.inf)
    expected = messages.amax(1).masked_fill(~there.any(1, keepdim=True), 0)
    torch.testing.assert_close(graph.spmm(x, "max"), expected, rtol=1e-5, atol=1e-5)


@given(edge_lists(), st.booleans(), SEEDS)
def test_neighbors_of_some_nodes(case: EdgeList, mask: bool, seed: int) -> None:
    graph = masked(case.build(), seed) if mask else case.build()
    there = present(graph)
    generator = torch.Generator().manual_seed(seed)
    nodes = torch.randint(0, graph.num_nodes, (2, 3), generator=generator)  # of any shape, with repeats
    expected = [u for i in sorted(set(nodes.flatten().tolist())) for u in there[i].nonzero().flatten().tolist()]
    assert graph.neighbors(nodes).tolist() == expected
    assert graph.neighbors(nodes[:, :0]).tolist() == []


@given(edge_lists(), SEEDS)
def test_edge_index_round_trip(case: EdgeList, seed: int) -> None:
    graph = masked(case.build(), seed)
    again = CSRGraph.from_edge_index(graph.edge_index(), graph.num_nodes, graph.edge_weight())
    torch.testing.assert_close(dense(again), dense(graph), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(graph.to_torch_csr().to_dense().double(), dense(graph), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("reduce", ["sum", "mean", "max"])
def test_spmm_gradients(reduce: str) -> None:
    edges = torch.randint(0, 6, (2, 14), generator=torch.Generator().manual_seed(0))
    weight = features(14, 1, 1, torch.float64).squeeze(1).requires_grad_()
    x = features(6, 3, 2, torch.float64).requires_grad_()
    targets = edges[:, :3]

    def product(x: Tensor, weight: Tensor) -> Tensor:
        return CSRGraph.from_edge_index(edges, 6, weight).without_edges(targets).spmm(x, reduce)

    assert torch.autograd.gradcheck(product, (x, weight))


@given(edge_lists())
def test_is_symmetric(case: EdgeList) -> None:
    graph = case.build()
    there = present(graph)
    assert graph.is_symmetric() == torch.equal(there, there.T)
    half = masked(graph, case.seed)
    assert half.is_symmetric() == torch.equal(present(half), present(half).T)
    assert graph.is_symmetric() == torch.equal(there, there.T)  # a view's answer is its own


@given(edge_lists(), st.booleans())
def test_two_hop_matches_dense(case: EdgeList, mask: bool) -> None:
    graph = masked(case.build(), case.seed) if mask else case.build()
    there = present(graph).double()
    square = graph.two_hop()
    assert torch.equal(present(square), there @ there > 0)
    assert square.weight is None


def test_two_hop_counts_walks_whose_values_cancel() -> None:
    edges = torch.tensor([[1, 2, 3, 3], [0, 0, 1, 2]])
    graph = CSRGraph.from_edge_index(edges, 4, torch.tensor([1.0, -1.0, 1.0, 1.0], requires_grad=True))
    assert bool(present(graph.two_hop())[0, 3])


# --- removing edges


@given(edge_lists(), st.sampled_from(("all", "reference")), st.booleans())
def test_without_edges_matches_dense(case: EdgeList, policy: str, mask: bool) -> None:
    graph = masked(case.build(), case.seed) if mask else case.build()
    generator = torch.Generator().manual_seed(case.seed + 1)
    # Edges (some of them repeatedly, in either direction), loops and pairs that are no edges.
    count = case.edge_index.size(1)
    chosen = torch.randint(0, max(count, 1), (min(count, 6),), generator=generator)
    pairs = torch.cat(
        (
            case.edge_index[:, chosen],
            case.edge_index[:, chosen[:2]].flip(0),
            torch.randint(0, case.num_nodes, (2, 3), generator=generator),
        ),
        dim=1,
    )
    removed = torch.zeros(case.num_nodes, case.num_nodes)
    for i, j in pairs.t().tolist():
        removed[j, i] += 1
        removed[i, j] += i != j  # a loop is one slot
    gone = removed > 0 if policy == "all" else (removed > 0) & (removed >= case.counts())
    view = graph.without_edges(pairs, policy)  # type: ignore[arg-type]
    assert torch.equal(present(view), present(graph) & ~gone)
    torch.testing.assert_close(dense(view), dense(graph) * ~gone)
    assert torch.equal(view.degree(), present(view).sum(1))
    assert view.num_edges == int(present(view).sum())
    assert view.is_symmetric() == torch.equal(present(view), present(view).T)
    if policy == "all":  # what a GPU does instead
        other = graph._without_edges_in_step(pairs)
        assert torch.equal(present(other), present(view))
        assert torch.equal(other.degree(), view.degree())
        assert other.is_symmetric() == view.is_symmetric()


def test_reference_policy_keeps_the_other_copies() -> None:
    edges = torch.tensor([[0, 0, 1], [1, 1, 2]])
    graph = CSRGraph.from_edge_index(edges, 3, symmetric=True)
    target = torch.tensor([[1], [0]])
    assert not bool(present(graph.without_edges(target))[0, 1])
    kept = graph.without_edges(target, "reference")  # one of two copies is in the batch
    assert bool(present(kept)[0, 1])
    assert bool(present(kept)[1, 0])
    assert not bool(present(graph.without_edges(target.repeat(1, 2), "reference"))[0, 1])


def test_reference_policy_can_leave_one_direction() -> None:
    # 0 -> 1 twice, 1 -> 0 once: removing one copy of each leaves an asymmetric graph, whatever was cached before.
    graph = CSRGraph.from_edge_index(torch.tensor([[0, 0, 1], [1, 1, 0]]), 2)
    assert graph.is_symmetric()
    view = graph.without_edges(torch.tensor([[0], [1]]), "reference")
    assert present(view).tolist() == [[False, False], [True, False]]
    assert not view.is_symmetric()


@given(edge_lists())
def test_views_share_and_change_nothing(case: EdgeList) -> None:
    graph = case.build()
    graph.degree(), graph.row, graph.transposed, graph.is_symmetric()
    before = {name: value.clone() for name, value in vars(graph).items() if isinstance(value, Tensor)}
    first = graph.without_edges(case.edge_index[:, :2])
    mask = None if first.keep is None else first.keep.clone()
    second = first.without_edges(case.edge_index[:, 2:4]).drop_edges(0.5)
    for view in (first, second):
        assert view.rowptr is graph.rowptr
        assert view.col is graph.col
        assert view.weight is graph.weight
        assert view.row is graph.row
        assert view.transposed is graph.transposed
    assert mask is None or torch.equal(mask, first.keep)
    assert graph.keep is None
    for name, value in before.items():
        assert torch.equal(getattr(graph, name), value), name
    assert not bool((present(second) & ~present(first)).any())


def test_views_have_gradients_of_their_own_mask() -> None:
    graph = CSRGraph.from_edge_index(torch.tensor([[0, 1], [1, 2]]), 3, symmetric=True)
    graph.transposed  # noqa: B018 - the cached transpose must not bring removed edges back
    x = features(3, 2, 0).requires_grad_()
    view = graph.without_edges(torch.tensor([[0], [1]]))
    (gradient,) = torch.autograd.grad(view.spmm(x).sum(), x)
    assert gradient.tolist() == [[0, 0], [1, 1], [1, 1]]


def test_drop_edges_statistics() -> None:
    count = 40_000
    ring = torch.arange(count)
    graph = CSRGraph.from_edge_index(torch.stack((ring, (ring + 1) % count)), count)
    dropped = graph.drop_edges(0.3, generator=torch.Generator().manual_seed(0))
    # Binomial: standard deviation 0.0023 of the share.
    assert dropped.num_edges / count == pytest.approx(0.7, abs=0.01)
    assert dropped.scale == pytest.approx(1 / 0.7)
    assert float(dropped.spmm(torch.ones(count, 1)).mean()) == pytest.approx(1, abs=0.015)
    assert graph.drop_edges(0.3, rescale=False).scale == 1
    twice = dropped.drop_edges(0.5, generator=torch.Generator().manual_seed(1))
    assert twice.num_edges / count == pytest.approx(0.35, abs=0.01)
    assert twice.scale == pytest.approx(1 / 0.35)
    assert graph.drop_edges(0) is graph
    same = graph.drop_edges(0.3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(same.keep, dropped.keep)


def test_two_directions_drop_independently() -> None:
    graph = CSRGraph.from_edge_index(torch.combinations(torch.arange(60)).T.contiguous(), 60, symmetric=True)
    dropped = present(graph.drop_edges(0.5, generator=torch.Generator().manual_seed(0)))
    one_way = float((dropped ^ dropped.T).sum()) / graph.num_edges
    assert one_way == pytest.approx(0.5, abs=0.05)


# --- conversions


def forms(case: EdgeList) -> dict[str, object]:
    """The same (simple) graph in every form that :func:`to_csr` reads."""
    graph = case.build()
    edges, weight, size = graph.edge_index(), graph.weight, case.num_nodes
    values = torch.ones(edges.size(1)) if weight is None else weight
    coo = torch.sparse_coo_tensor(edges.flip(0), values, (size, size))
    return {
        "edge_index": (edges, size, weight),
        "edge_list": (case.edge_index, size, case.weight) if not case.symmetric else (edges, size, weight),
        "EdgeIndex": (EdgeIndex(edges, sparse_size=(size, size)), None, weight),
        "coo": (coo, None, None),
        "csr": (coo.to_sparse_csr(), None, None),
        "Data": (Data(edge_index=edges, edge_weight=weight, num_nodes=size), None, None),
        "adj_t": (Data(adj_t=coo.to_sparse_csr(), num_nodes=size), None, None),
        "CSRGraph": (graph, None, None),
    }


@given(edge_lists())
def test_every_form_gives_the_same_graph(case: EdgeList) -> None:
    expected = case.build()
    for name, (form, size, weight) in forms(case).items():
        got = to_csr(form, size, weight)
        assert torch.equal(got.rowptr, expected.rowptr), name
        assert torch.equal(got.col, expected.col), name
        torch.testing.assert_close(dense(got), dense(expected), rtol=1e-5, atol=1e-5, msg=name)


def test_sparse_tensor() -> None:
    torch_sparse = pytest.importorskip("torch_sparse")
    edges = torch.tensor([[0, 0, 3], [1, 2, 0]])
    weight = torch.tensor([1.0, 2.0, 3.0])
    plain = torch_sparse.SparseTensor(row=edges[1], col=edges[0], sparse_sizes=(5, 5))
    assert torch.equal(dense(to_csr(plain)), dense(CSRGraph.from_edge_index(edges, 5)))
    valued = torch_sparse.SparseTensor(row=edges[1], col=edges[0], value=weight, sparse_sizes=(5, 5))
    assert torch.equal(dense(to_csr(valued)), dense(CSRGraph.from_edge_index(edges, 5, weight)))
    assert torch.equal(dense(to_csr(Data(adj_t=valued))), dense(CSRGraph.from_edge_index(edges, 5, weight)))


def test_unweighted_forms_have_no_weights() -> None:
    edges = torch.tensor([[0, 1], [1, 2]])
    ones = torch.sparse_coo_tensor(edges, torch.ones(2), (3, 3))
    assert to_csr(edges).weight is None
    assert to_csr(ones).weight is None  # PyG writes ones where there are no weights
    boolean = torch.sparse_coo_tensor(edges, torch.ones(2, dtype=torch.bool), (3, 3))
    assert to_csr(boolean).weight is None


def test_edge_index_names_the_number_of_nodes() -> None:
    edges = torch.tensor([[0, 1], [1, 2]])
    assert to_csr(edges).num_nodes == 3
    assert to_csr(edges, 7).num_nodes == 7
    assert to_csr(EdgeIndex(edges, sparse_size=(6, 6))).num_nodes == 6
    assert to_csr(EdgeIndex(edges, sparse_size=(6, 6)), 7).num_nodes == 7
    assert to_csr(Data(edge_index=edges, num_nodes=9)).num_nodes == 9


def test_to_keeps_values() -> None:
    graph = CSRGraph.from_edge_index(torch.tensor([[0, 1], [1, 2]]), symmetric=True)
    view = graph.without_edges(torch.tensor([[0], [1]]))
    assert view.to("cpu") is view
    assert view.to("meta").rowptr.device.type == "meta"
    assert view.rowptr.device.type == "cpu"


def test_repr_says_what_is_there() -> None:
    graph = CSRGraph.from_edge_index(torch.tensor([[0, 1], [1, 2]]), 4, torch.ones(2))
    assert repr(graph) == "CSRGraph(num_nodes=4, num_edges=2, weighted)"
    view = graph.without_edges(torch.tensor([[0], [1]])).drop_edges(0.5)
    assert "masked=" in repr(view)
    assert "scale=2" in repr(view)


# --- errors

PTR, COL = torch.tensor([0, 1, 2]), torch.tensor([1, 0])


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"rowptr": PTR.int()}, "rowptr"),
        ({"rowptr": torch.empty(0, dtype=torch.int64)}, "rowptr"),
        ({"rowptr": torch.tensor([0, 2, 1])}, "rowptr"),
        ({"rowptr": torch.tensor([1, 1, 2])}, "rowptr"),
        ({"rowptr": torch.tensor([0, 1, 3])}, "rowptr"),
        ({"rowptr": [0, 1, 2]}, "rowptr"),
        ({"col": COL.float()}, "col"),
        ({"col": torch.tensor([1, 2])}, "col"),
        ({"col": torch.tensor([-1, 0])}, "col"),
        ({"rowptr": torch.tensor([0, 2, 2])}, "col"),  # descending
        ({"rowptr": torch.tensor([0, 2, 2]), "col": torch.tensor([1, 1])}, "col"),  # repeated
        ({"weight": torch.ones(3)}, "weight"),
        ({"weight": torch.ones(2, dtype=torch.int64)}, "weight"),
        ({"keep": torch.ones(2)}, "keep"),
        ({"keep": torch.ones(1, dtype=torch.bool)}, "keep"),
        ({"multiplicity": torch.ones(2)}, "multiplicity"),
    ],
)
def test_bad_arrays(arguments: dict[str, object], name: str) -> None:
    with pytest.raises((ArgumentError, ArgumentTypeError), match=f"^{name}:"):
        CSRGraph(**{"rowptr": PTR, "col": COL, **arguments})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("edges", "size", "weight", "match"),
    [
        (torch.zeros(3, 2, dtype=torch.int64), None, None, r"edge_index.*\.t\(\)"),
        (torch.zeros(3, dtype=torch.int64), None, None, "edge_index"),
        (torch.zeros(2, 3), None, None, "edge_index"),
        (torch.zeros(2, 3, dtype=torch.int32), None, None, "edge_index.*int64"),
        (torch.tensor([[0], [5]]), 5, None, r"edge_index.*\[0, 5\).*5"),
        (torch.tensor([[0], [-1]]), 5, None, "edge_index.*-1"),
        (torch.tensor([[0], [1]]), 5, torch.ones(2), "edge_weight"),
        (torch.tensor([[0], [1]]), 5, torch.ones(1, dtype=torch.int64), "edge_weight"),
        (torch.tensor([[0], [1]]), 5, torch.ones(1, 1), "edge_weight"),
        ([[0], [1]], 5, None, "edge_index|graph"),
    ],
)
def test_bad_edge_index(edges: object, size: int | None, weight: Tensor | None, match: str) -> None:
    for build in (CSRGraph.from_edge_index, to_csr):
        with pytest.raises((ArgumentError, ArgumentTypeError), match=match):
            build(edges, size, weight)  # type: ignore[operator]


def test_bad_calls() -> None:
    graph = CSRGraph.from_edge_index(torch.tensor([[0, 1], [1, 2]]))
    pair = torch.tensor([[0], [1]])
    for call, match in (
        (lambda: graph.without_edges(pair, "some"), "policy"),
        (lambda: graph.without_edges(pair.t()), "pairs"),
        (lambda: graph.without_edges(pair + 5), "pairs"),
        (lambda: graph.without_edges(pair.int()), "pairs"),
        (lambda: graph.without_edges([[0], [1]]), "pairs"),
        (lambda: graph.drop_edges(1.0), "p:"),
        (lambda: graph.drop_edges(-0.1), "p:"),
        (lambda: graph.drop_edges(float("nan")), "p:"),
        (lambda: graph.spmm(torch.ones(2, 1)), "x:"),
        (lambda: graph.spmm(torch.ones(3)), "x:"),
        (lambda: graph.spmm(torch.ones(3, 1, dtype=torch.int64)), "x:"),
        (lambda: graph.spmm(torch.ones(3, 1), "median"), "reduce"),
        (lambda: to_csr(graph, edge_weight=torch.ones(2)), "edge_weight"),
    ):
        with pytest.raises((ArgumentError, ArgumentTypeError), match=match):
            call()


def test_forms_that_are_refused() -> None:
    hetero = HeteroData()
    hetero["user"].x = torch.ones(2, 1)
    hetero["user", "likes", "user"].edge_index = torch.tensor([[0], [1]])
    for graph in (hetero, hetero.edge_index_dict, "cora", None, 3, object()):
        with pytest.raises(ArgumentTypeError, match="^graph:"):
            to_csr(graph)
    with pytest.raises(ArgumentTypeError, match="to_homogeneous"):
        to_csr(hetero)
    with pytest.raises(ArgumentError, match="square"):
        to_csr(torch.ones(2, 3).to_sparse_csr())


def test_a_matrix_brings_its_own_weights() -> None:
    # A weight vector beside it has no edge order to refer to; dropping it in silence would train on another graph.
    matrix = torch.eye(3).to_sparse_csr()
    for form in (matrix, matrix.to_sparse_coo()):
        with pytest.raises(ArgumentError, match="edge_weight"):
            to_csr(form, edge_weight=torch.rand(3))


def test_data_without_edges_is_refused() -> None:
    with pytest.raises(ArgumentError, match="edge_index"):
        to_csr(Data(x=torch.ones(3, 1)))
