"""Small graphs for tests: hypothesis strategies, and dense forms that serve as oracles."""

from __future__ import annotations

import dataclasses

import torch
from hypothesis import strategies as st
from torch import Tensor

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


@dataclasses.dataclass(frozen=True)
class Graph:
    """The attributes that operators read of a graph."""

    rowptr: Tensor
    col: Tensor
    keep: Tensor | None = None
    weight: Tensor | None = None

    @property
    def num_nodes(self) -> int:
        return self.rowptr.numel() - 1

    @property
    def row(self) -> Tensor:
        return torch.arange(self.num_nodes).repeat_interleave(self.rowptr.diff())

    def present(self) -> Tensor:
        """Bool [N, N]: which edges are there and kept."""
        out = torch.zeros(self.num_nodes, self.num_nodes, dtype=torch.bool)
        out[self.row, self.col.long()] = True if self.keep is None else self.keep
        return out

    def dense(self, weighted: bool = True) -> Tensor:
        """float64 [N, N]: weights of the edges that are there and kept, 0 elsewhere."""
        out = torch.zeros(self.num_nodes, self.num_nodes, dtype=torch.float64)
        values = torch.ones(self.col.numel()) if self.weight is None or not weighted else self.weight.detach()
        out[self.row, self.col.long()] = values.double()
        return out * self.present()

    def neighbours(self, node: int) -> set[int]:
        return set(self.present()[node].nonzero().squeeze(1).tolist())

    def structure(self) -> tuple[Tensor, Tensor, Tensor | None]:
        return self.rowptr, self.col, self.keep

    def weighted_structure(self) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        return self.rowptr, self.col, self.keep, self.weight


def from_dense(adjacency: Tensor, *, col_dtype: torch.dtype = torch.int64) -> Graph:
    """Unweighted graph of a square bool matrix."""
    counts = adjacency.sum(1)
    rowptr = torch.cat((counts.new_zeros(1), counts.cumsum(0)))
    return Graph(rowptr, adjacency.nonzero()[:, 1].to(col_dtype).contiguous())


def random_graph(
    num_nodes: int,
    density: float,
    seed: int,
    *,
    symmetric: bool = False,
    self_loops: bool = True,
    keep: bool = False,
    weight_dtype: torch.dtype | None = None,
    col_dtype: torch.dtype = torch.int64,
) -> Graph:
    """Random graph with the wanted extras, the same for the same arguments."""
    generator = torch.Generator().manual_seed(seed)
    adjacency = torch.rand(num_nodes, num_nodes, generator=generator) < density
    if symmetric:
        adjacency = adjacency.triu() | adjacency.triu().T
    if not self_loops:
        adjacency.fill_diagonal_(False)
    graph = from_dense(adjacency, col_dtype=col_dtype)
    size = graph.col.numel()
    mask = torch.rand(size, generator=generator) < 0.7 if keep else None
    weight = torch.randn(size, generator=generator).to(weight_dtype) if weight_dtype is not None else None
    return dataclasses.replace(graph, keep=mask, weight=weight)


def random_pairs(num_nodes: int, count: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, num_nodes, (2, count), generator=generator)


def features(num_rows: int, width: int, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(num_rows, width, generator=torch.Generator().manual_seed(seed)).to(dtype)


SEEDS = st.integers(0, 2**31 - 1)


@st.composite
def graphs(
    draw: st.DrawFn,
    *,
    num_nodes: int | None = None,
    col_dtype: torch.dtype | None = None,
    weight_dtype: torch.dtype | None = None,
    masked: bool = True,
) -> Graph:
    """Graphs of up to 40 nodes: empty, sparse (isolated nodes), dense, hub; loops, directions, masks, weights."""
    size = draw(st.integers(1, 40)) if num_nodes is None else num_nodes
    seed = draw(SEEDS)
    generator = torch.Generator().manual_seed(seed)
    density = draw(st.sampled_from((0.0, 0.05, 0.3, 0.9)))
    adjacency = torch.rand(size, size, generator=generator) < density
    if draw(st.booleans()):
        adjacency = adjacency | adjacency.T
    if draw(st.booleans()):  # rows that differ in length by more than the galloping ratio
        hub = draw(st.integers(0, size - 1))
        adjacency[hub] = True
    dtype = col_dtype if col_dtype is not None else draw(st.sampled_from((torch.int32, torch.int64)))
    graph = from_dense(adjacency, col_dtype=dtype)
    entries = graph.col.numel()
    mask = torch.rand(entries, generator=generator) < 0.7 if masked and draw(st.booleans()) else None
    weighted = weight_dtype is not None and draw(st.booleans())
    weight = torch.randn(entries, generator=generator).to(weight_dtype) if weighted else None
    return dataclasses.replace(graph, keep=mask, weight=weight)


@dataclasses.dataclass(frozen=True)
class PairCase:
    """Input of a pair operator."""

    a: Graph
    b: Graph
    pairs: Tensor
    exclude_endpoints: bool
    seed: int

    def count_args(self) -> tuple[object, ...]:
        return (*self.a.structure(), *self.b.structure(), self.pairs, self.exclude_endpoints)


@st.composite
def pair_cases(draw: st.DrawFn, *, weight_dtype: torch.dtype | None = None) -> PairCase:
    """One graph twice, or two graphs on the same nodes, and up to 30 pairs (i = j included)."""
    a = draw(graphs(weight_dtype=weight_dtype))
    b = a
    if draw(st.booleans()):
        b = draw(graphs(num_nodes=a.num_nodes, col_dtype=a.col.dtype, weight_dtype=weight_dtype))
    seed = draw(SEEDS)
    pairs = random_pairs(a.num_nodes, draw(st.integers(0, 30)), seed)
    return PairCase(a, b, pairs, draw(st.booleans()), seed)


@st.composite
def ragged(draw: st.DrawFn) -> tuple[Tensor, Tensor, int, int]:
    """Segments with repeated, unsorted entries: ``(ptr, idx, num_cols, seed)``."""
    lengths = draw(st.lists(st.integers(0, 9), min_size=0, max_size=12))
    num_cols = draw(st.integers(1, 15))
    seed = draw(SEEDS)
    ptr = torch.tensor([0, *lengths]).cumsum(0)
    idx = torch.randint(0, num_cols, (int(ptr[-1]),), generator=torch.Generator().manual_seed(seed))
    return ptr, idx.to(draw(st.sampled_from((torch.int32, torch.int64)))), num_cols, seed


_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def same_bits(one: Tensor, other: Tensor) -> bool:
    """Equal dtype, shape and bits: tells 0 from -0, and a nan equals itself."""
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    bits = _BITS[one.element_size()]
    return torch.equal(one.contiguous().view(bits), other.contiguous().view(bits))
