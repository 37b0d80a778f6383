"""Wrong arguments raise ArgumentError that names the argument, before any compiled code runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from strategies import features, random_graph, random_pairs

from graphmem import ops
from graphmem.errors import ArgumentError, ArgumentTypeError, GraphMemError

GRAPH = random_graph(8, 0.4, 0, weight_dtype=torch.float32)
NNZ = GRAPH.col.numel()
PAIRS = random_pairs(8, 5, 0)
X = features(8, 3, 0)
META = torch.device("meta")


def changed(**fields: Any) -> Any:
    return dataclasses.replace(GRAPH, **fields)


BAD_PAIRS = {
    "dtype": PAIRS.int(),
    "shape": PAIRS.T.contiguous(),
    "rank": PAIRS.flatten(),
    "device": PAIRS.to(META),
    "negative": PAIRS - 10,
    "too large": PAIRS + 8,
    "second row": torch.stack((PAIRS[0], PAIRS[1] + 8)),
    "sparse": PAIRS.to_sparse(),
}
PAIR_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "cn_count": lambda graph, pairs: ops.cn_count(graph, pairs),
    "cn_count weighted": lambda graph, pairs: ops.cn_count(graph, pairs, node_weight=torch.ones(8)),
    "cn_sizes": lambda graph, pairs: ops.cn_sizes(graph, pairs),
    "cn_index": lambda graph, pairs: ops.cn_index(graph, pairs),
    "cn_gather_sum": lambda graph, pairs: ops.cn_gather_sum(graph, X, pairs),
    "cn_gather_sum compact": lambda graph, pairs: ops.cn_gather_sum(graph, X, pairs, compact=True),
    "cn_diff_gather_sum": lambda graph, pairs: ops.cn_diff_gather_sum(graph, X, pairs, mode="index"),
    "scores": lambda graph, pairs: ops.common_neighbor_scores(graph, pairs, "aa"),
    "find_edges": lambda graph, pairs: ops.find_edges(graph, pairs),
}
BAD_GRAPHS = {
    "rowptr dtype": ("rowptr", changed(rowptr=GRAPH.rowptr.int())),
    "rowptr rank": ("rowptr", changed(rowptr=GRAPH.rowptr.view(3, 3))),
    "col dtype": ("col", changed(col=GRAPH.col.short())),
    "col rank": ("col", changed(col=GRAPH.col[None])),
    "col device": ("col", changed(col=GRAPH.col.to(META))),
    "keep dtype": ("keep", changed(keep=torch.ones(NNZ, dtype=torch.uint8))),
    "keep shape": ("keep", changed(keep=torch.ones(NNZ + 1, dtype=torch.bool))),
    "keep device": ("keep", changed(keep=torch.ones(NNZ, dtype=torch.bool, device=META))),
    "weight dtype": ("weight", changed(weight=torch.ones(NNZ, dtype=torch.int64))),
    "weight shape": ("weight", changed(weight=torch.ones(NNZ - 1))),
    "rowptr strides": ("rowptr", changed(rowptr=GRAPH.rowptr.repeat_interleave(2)[::2])),
    "keep strides": ("keep", changed(keep=torch.ones(2 * NNZ, dtype=torch.bool)[::2])),
    "weight strides": ("weight", changed(weight=torch.ones(2 * NNZ)[::2])),
    "weight device": ("weight", changed(weight=torch.ones(NNZ, device=META))),
}


@pytest.mark.parametrize("operator", PAIR_OPERATORS.values(), ids=PAIR_OPERATORS.keys())
@pytest.mark.parametrize("pairs", BAD_PAIRS.values(), ids=BAD_PAIRS.keys())
def test_pairs(operator: Callable[[Any, Any], Any], pairs: Any) -> None:
    with pytest.raises(ArgumentError, match="pairs"):
        operator(GRAPH, pairs)


@pytest.mark.parametrize("operator", PAIR_OPERATORS.values(), ids=PAIR_OPERATORS.keys())
@pytest.mark.parametrize(("field", "graph"), BAD_GRAPHS.values(), ids=BAD_GRAPHS.keys())
def test_graph(operator: Callable[[Any, Any], Any], field: str, graph: Any) -> None:
    with pytest.raises(ArgumentError, match=rf"graph\.{field}"):
        operator(graph, PAIRS)


@pytest.mark.parametrize("operator", PAIR_OPERATORS.values(), ids=PAIR_OPERATORS.keys())
def test_wrong_types(operator: Callable[[Any, Any], Any]) -> None:
    with pytest.raises(ArgumentTypeError, match="pairs"):
        operator(GRAPH, PAIRS.tolist())
    with pytest.raises(ArgumentTypeError, match="graph"):
        operator(torch.eye(8), PAIRS)


def test_message_says_what_was_found_and_what_is_expected() -> None:
    with pytest.raises(ArgumentError, match=r"pairs: expected int64 of shape \[2, \*\], got int32 \[2, 5\] on cpu"):
        ops.cn_count(GRAPH, PAIRS.int())
    with pytest.raises(ArgumentError, match=r"pairs\[1\]: expected ids in \[0, 8\), found 11"):
        ops.cn_count(GRAPH, torch.tensor([[1], [11]]))
    assert issubclass(ArgumentError, (GraphMemError, ValueError))


ONE = torch.ones(1, dtype=torch.int64)
PTR, IDX = GRAPH.rowptr, GRAPH.col
W, K = torch.ones(NNZ), torch.ones(NNZ, dtype=torch.bool)
CALLS: list[tuple[str, Callable[[], Any]]] = [
    ("g2.col", lambda: ops.cn_count(GRAPH, PAIRS, g2=changed(col=GRAPH.col.int()))),
    ("g2.rowptr", lambda: ops.cn_index(GRAPH, PAIRS, g2=changed(rowptr=GRAPH.rowptr.int()))),
    (
        "g2",
        lambda: ops.cn_gather_sum(
            GRAPH, X, PAIRS, g2=changed(**{f: getattr(GRAPH, f).to(META) for f in ("rowptr", "col", "weight")})
        ),
    ),
    ("parts", lambda: ops.cn_index(GRAPH, PAIRS, parts=("cn", "middle"))),
    ("parts", lambda: ops.cn_index(GRAPH, PAIRS, parts=())),
    ("method", lambda: ops.common_neighbor_scores(GRAPH, PAIRS, "katz")),
    ("mode", lambda: ops.cn_gather_sum(GRAPH, X, PAIRS, mode="fast")),
    ("mode", lambda: ops.cn_gather_sum(changed(weight=W.clone().requires_grad_()), X, PAIRS, mode="recompute")),
    ("use_edge_weight", lambda: ops.cn_gather_sum(changed(weight=None), X, PAIRS, use_edge_weight=True)),
    ("use_edge_weight", lambda: ops.cn_count(changed(weight=None), PAIRS, use_edge_weight=True)),
    ("node_weight", lambda: ops.cn_count(GRAPH, PAIRS, node_weight=torch.ones(7))),
    ("node_weight", lambda: ops.cn_count(GRAPH, PAIRS, node_weight=torch.ones(8, dtype=torch.int64))),
    ("node_weight", lambda: ops.cn_count(GRAPH, PAIRS, node_weight=torch.ones(8, 1))),
    ("node_weight", lambda: ops.cn_count(GRAPH, PAIRS, node_weight=torch.ones(8, device=META))),
    ("x", lambda: ops.cn_gather_sum(GRAPH, X.int(), PAIRS)),
    ("x", lambda: ops.cn_gather_sum(GRAPH, X[0], PAIRS)),
    ("x", lambda: ops.cn_gather_sum(GRAPH, X[:7], PAIRS)),
    ("x", lambda: ops.cn_diff_gather_sum(GRAPH, X.to(META), PAIRS)),
    ("x", lambda: ops.segment_gather_sum(PTR, IDX, X.int())),
    ("x", lambda: ops.segment_gather_sum(PTR, IDX, X[0])),
    ("idx", lambda: ops.segment_gather_sum(PTR, IDX, X[:4])),
    ("idx", lambda: ops.segment_gather_sum(PTR, IDX - 1, X)),
    ("idx", lambda: ops.segment_gather_sum(PTR, IDX.float(), X)),
    ("ptr", lambda: ops.segment_gather_sum(PTR.int(), IDX, X)),
    ("ptr", lambda: ops.segment_gather_sum(PTR[:-1], IDX, X)),
    ("ptr", lambda: ops.segment_gather_sum(PTR[1:], IDX, X)),
    ("ptr", lambda: ops.segment_gather_sum(PTR[:0], IDX, X)),
    ("ptr", lambda: ops.segment_gather_sum(torch.tensor([0, 5, 2, NNZ]), IDX, X)),
    ("ptr", lambda: ops.segment_gather_sum(PTR.to(META), IDX, X)),
    ("weight", lambda: ops.segment_gather_sum(PTR, IDX, X, W[1:])),
    ("weight", lambda: ops.segment_gather_sum(PTR, IDX, X, W.int())),
    ("weight", lambda: ops.segment_gather_sum(PTR, IDX, X, W.to(META))),
    ("keep", lambda: ops.segment_gather_sum(PTR, IDX, X, keep=W)),
    ("keep", lambda: ops.segment_gather_sum(PTR, IDX, X, keep=K[1:])),
    ("transposed", lambda: ops.segment_gather_sum(PTR, IDX, X, transposed=ops.csr_transpose(PTR, IDX, 9))),
    ("x", lambda: ops.segment_gather_sum(PTR, IDX, X.to(META))),
    ("idx", lambda: ops.csr_transpose(PTR, IDX, 4)),
    ("num_cols", lambda: ops.csr_transpose(torch.zeros_like(PTR), IDX[:0], -1)),
    ("ptr", lambda: ops.csr_transpose(PTR + 1, IDX, 8)),
    ("k", lambda: ops.sample_rows(PTR, IDX, 0, 1)),
    ("row_key", lambda: ops.sample_rows(PTR, IDX, 2, 1, row_key=ONE)),
    ("row_key", lambda: ops.sample_rows(PTR, IDX, 2, 1, row_key=torch.ones(8))),
    ("idx", lambda: ops.sample_rows(PTR, IDX.float(), 2, 1)),
    ("ptr", lambda: ops.sample_rows(PTR[:3], IDX, 2, 1)),
    ("seed", lambda: ops.sample_rows(PTR, IDX, 2, 2**64)),
    ("seed", lambda: ops.sample_non_edges(GRAPH, 2, seed=2**64)),
    ("seed", lambda: ops.dropout(X, 0.5, seed=2**64)),
    ("p", lambda: ops.dropout(X, 1.0, seed=0)),
    ("p", lambda: ops.dropout(X, -0.1, seed=0)),
    ("p", lambda: ops.dropout(X, float("nan"), seed=0)),
    ("x", lambda: ops.dropout(X.int(), 0.5, seed=0)),
    ("x", lambda: ops.pair_product(X.int(), PAIRS)),
    ("x", lambda: ops.pair_product(X[0], PAIRS)),
    ("pairs", lambda: ops.pair_product(X, PAIRS + 8)),
    ("pairs", lambda: ops.pair_product(X, PAIRS.int())),
    ("pairs", lambda: ops.pair_product(X, PAIRS.T)),
    ("pairs", lambda: ops.pair_product(X, PAIRS.to(META))),
    ("count", lambda: ops.sample_non_edges(GRAPH, -1, seed=0)),
    ("start", lambda: ops.sample_non_edges(GRAPH, 1, seed=0, start=-1)),
    ("graph", lambda: ops.sample_non_edges(random_graph(1, 0.0, 0), 1, seed=0)),
    ("src", lambda: ops.grouped_pairs(PTR.float(), PTR, PTR)),
    ("ptr", lambda: ops.grouped_pairs(ONE, ONE, ONE)),
    ("ptr", lambda: ops.grouped_pairs(ONE, torch.tensor([0, 2]), ONE)),
    ("ptr", lambda: ops.grouped_pairs(torch.tensor([1, 2]), torch.tensor([0, 3, 1]), ONE)),
    ("dst", lambda: ops.grouped_pairs(ONE, torch.tensor([0, 1]), ONE[None])),
]


@pytest.mark.parametrize(("name", "call"), CALLS, ids=[f"{n}-{name}" for n, (name, _) in enumerate(CALLS)])
def test_argument_is_named(name: str, call: Callable[[], Any]) -> None:
    with pytest.raises(ArgumentError, match=rf"\b{name}\b"):
        call()
