"""A graph as sorted CSR rows, with edges that can be switched off without rebuilding anything."""

from __future__ import annotations

import math
import warnings
from typing import Any, Literal

import torch
from torch import Tensor

from graphmem import ops
from graphmem.errors import ArgumentError
from graphmem.ops import _check
from graphmem.ops.segment import segment_gather_sum_operator

Policy = Literal["all", "reference"]
_MAX_INT32 = 2**31 - 1
# Edges are sorted by target * N + source, which has to fit 63 bits.
MAX_NODES = 3_037_000_499


class CSRGraph:
    r"""Adjacency in CSR form: row i lists the neighbours N(i) that node i receives messages from.

    Columns ascend and are unique inside a row. A *view* (:meth:`without_edges`, :meth:`drop_edges`) shares ``rowptr``,
    ``col`` and cached structure with its origin and differs in ``keep``: removing the B edges of a batch costs
    :math:`O(B \log d + nnz)` bytes of mask, and neither sorts nor copies edges. Operators and encoders read the same
    mask, so both see the same graph with the right degrees.

    Graphs are values: no method changes one in place.

    Args:
        rowptr: int64 [N + 1].
        col: int32 or int64 [nnz]; ascending and unique inside each row.
        weight: floating point [nnz], or ``None`` for weight 1.
        keep: bool [nnz], or ``None`` where every slot is present.
        multiplicity: int64 [nnz], how many input edges each slot stands for; ``None`` means one.
        scale: factor on every present value (inverted dropout).

    Raises:
        ArgumentError: arrays that do not fit each other, unsorted or repeated columns, or ids out of range.
    """

    rows_are_checked = True  # once, where the graph is made; operators need not look again

    def __init__(
        self,
        rowptr: Tensor,
        col: Tensor,
        *,
        weight: Tensor | None = None,
        keep: Tensor | None = None,
        multiplicity: Tensor | None = None,
        scale: float = 1.0,
    ) -> None:
        self.rowptr = _check.valued("rowptr", _check.tensor("rowptr", rowptr, shape=(None,), dtypes=(torch.int64,)))
        slots = (None,) if not isinstance(col, Tensor) else (col.numel(),)
        device = rowptr.device
        self.col = _check.tensor("col", col, shape=(None,), dtypes=_check.INDEX_DTYPES, device=device)
        self.weight = (
            None
            if weight is None
            else _check.tensor("weight", weight, shape=slots, dtypes=_check.FLOAT_DTYPES, device=device)
        )
        self.keep = (
            None if keep is None else _check.tensor("keep", keep, shape=slots, dtypes=(torch.bool,), device=device)
        )
        self.multiplicity = (
            None
            if multiplicity is None
            else _check.tensor("multiplicity", multiplicity, shape=slots, dtypes=(torch.int64,), device=device)
        )
        self.scale = scale
        self._degree: Tensor | None = None
        self._symmetric: bool | None = None
        # Shared by all views of one structure: what depends on rowptr and col only.
        self._structure: dict[str, Any] = {}
        _check.rows("", self.rowptr, self.col)

    @classmethod
    def from_edge_index(
        cls,
        edge_index: Tensor,
        num_nodes: int | None = None,
        edge_weight: Tensor | None = None,
        *,
        symmetric: bool = False,
    ) -> CSRGraph:
        """Build from PyG's ``edge_index``: an edge (j, i) makes j a neighbour of i. Repeated edges share a slot.

        Args:
            edge_index: int64 [2, E], sources above targets.
            num_nodes: number of nodes; one more than the largest id by default.
            edge_weight: floating point [E]; weights of repeated edges are summed.
            symmetric: also add every edge in the other direction (self-loops once).

        Raises:
            ArgumentError: wrong shape or dtype, or an id out of range.
        """
        edge_index = _check.valued("edge_index", _edge_index("edge_index", edge_index))
        if num_nodes is None:
            num_nodes = int(edge_index.max()) + 1 if edge_index.numel() else 0
        _check.integer("num_nodes", num_nodes, 0, MAX_NODES)
        _check.in_range("edge_index", edge_index, num_nodes)
        if edge_weight is not None:
            edge_weight = _check.tensor(
                "edge_weight", edge_weight, shape=(edge_index.size(1),), dtypes=_check.FLOAT_DTYPES
            )
        source, target = edge_index
        if symmetric:
            back = source != target
            source, target = torch.cat((source, target[back])), torch.cat((target, source[back]))
            edge_weight = None if edge_weight is None else torch.cat((edge_weight, edge_weight[back]))
        key = target * num_nodes + source
        slot_key, slot, count = torch.unique(key, return_inverse=True, return_counts=True)
        rows = torch.div(slot_key, max(num_nodes, 1), rounding_mode="floor")
        col = slot_key - rows * num_nodes
        rowptr = torch.cat((col.new_zeros(1), torch.bincount(rows, minlength=num_nodes).cumsum(0)))
        weight = None
        if edge_weight is not None:
            # Sorted by slot, then summed: index_add would depend on the order of threads on some devices.
            order = torch.argsort(slot, stable=True)
            ends = torch.cat((count.new_zeros(1), count.cumsum(0)))
            weight = ops.segment_gather_sum(ends, order, edge_weight.unsqueeze(1)).squeeze(1)
        return cls(
            rowptr,
            col.to(torch.int32) if num_nodes <= _MAX_INT32 else col,
            weight=weight,
            multiplicity=None if bool((count == 1).all()) else count,
        )

    def _view(self, keep: Tensor | None, scale: float) -> CSRGraph:
        view = object.__new__(CSRGraph)
        view.__dict__.update(self.__dict__)
        view.keep, view.scale, view._degree, view._symmetric = keep, scale, None, None
        return view

    @property
    def num_nodes(self) -> int:
        """Number of nodes N."""
        return self.rowptr.numel() - 1

    @property
    def num_slots(self) -> int:
        """Number of directed slots, present or not."""
        return self.col.numel()

    @property
    def num_edges(self) -> int:
        """Number of present directed edges."""
        return self.num_slots if self.keep is None else int(self.keep.sum())

    @property
    def device(self) -> torch.device:
        """Where the arrays lie."""
        return self.rowptr.device

    @property
    def row(self) -> Tensor:
        """int64 [nnz]: row of each slot; cached with the structure."""
        if "row" not in self._structure:
            nodes = torch.arange(self.num_nodes, device=self.device)
            self._structure["row"] = nodes.repeat_interleave(self.rowptr.diff(), output_size=self.num_slots)
        row: Tensor = self._structure["row"]
        return row

    @property
    def transposed(self) -> ops.Transposed:
        """The structure's transpose (columns as rows, with slots); made once for all views."""
        if "transposed" not in self._structure:
            self._structure["transposed"] = ops.csr_transpose(self.rowptr, self.col, self.num_nodes)
        transposed: ops.Transposed = self._structure["transposed"]
        return transposed

    def degree(self) -> Tensor:
        """Number of present neighbours of each node, int64 [N]."""
        if self._degree is None:
            self._degree = ops.present_degree(self)
        return self._degree

    def weighted_degree(self) -> Tensor:
        r"""Sum of present values of each row, :math:`\sum_j a_{ij}`, floating point [N]."""
        if self.weight is None:
            return self.degree() * self.scale
        ones = self.weight.new_ones(self.num_nodes, 1)
        return self.spmm(ones).squeeze(1)

    def neighbors(self, nodes: Tensor) -> Tensor:
        """Present neighbours of some nodes, in the order of slots: of each distinct node's list every entry once."""
        chosen = torch.zeros(self.num_nodes, dtype=torch.bool, device=self.device)
        chosen[nodes] = True
        slots = chosen[self.row]
        return self.col[slots if self.keep is None else slots & self.keep]

    def without_edges(self, pairs: Tensor, policy: Policy = "all") -> CSRGraph:
        """A view without the edges between the given pairs, in both directions. Pairs that are no edges are ignored.

        Args:
            pairs: int64 [2, B].
            policy: "all" removes a slot if any of its copies is in ``pairs``, so that a target edge never reaches its
                own prediction. "reference" removes it only if all copies are (what removing list entries by index does
                on a multigraph, a leak; kept to reproduce published numbers).

        Raises:
            ArgumentError: wrong shape or dtype, or an id out of range.
        """
        _check.choice("policy", policy, ("all", "reference"))
        pairs = _check.tensor("pairs", pairs, shape=(2, None), dtypes=(torch.int64,), device=self.device)
        if self.device.type == "cuda" and (policy == "all" or self.multiplicity is None):
            return self._without_edges_in_step(pairs)
        loop = pairs[0] == pairs[1]
        # A self-loop is one slot, so looking it up in both directions would count its copies twice.
        slots = torch.cat((ops.find_edges(self, pairs), ops.find_edges(self, pairs.flip(0)[:, ~loop])))
        slots, copies = slots[slots >= 0].unique(return_counts=True)
        if policy == "reference" and self.multiplicity is not None:
            slots = slots[copies >= self.multiplicity[slots]]
        if self.keep is None:
            keep = torch.ones(self.num_slots, dtype=torch.bool, device=self.device)
        else:
            slots, keep = slots[self.keep[slots]], self.keep.clone()
        keep[slots] = False
        view = self._view(keep, self.scale)
        lost = torch.bincount(self.row[slots], minlength=self.num_nodes)
        view._degree = self.degree() - lost
        if policy == "all" or self.multiplicity is None:
            view._symmetric = self._symmetric  # both directions went
        return view

    def _without_edges_in_step(self, pairs: Tensor) -> CSRGraph:
        """:meth:`without_edges` where every copy goes, without waiting for the device."""
        slots = torch.cat((ops.find_edges(self, pairs), ops.find_edges(self, pairs.flip(0))))
        # One slot more than there are, for the pairs that are no edges.
        keep = torch.ones(self.num_slots + 1, dtype=torch.bool, device=self.device)
        if self.keep is not None:
            keep[:-1] = self.keep
        keep.index_fill_(0, torch.where(slots < 0, self.num_slots, slots), False)
        view = self._view(keep[:-1], self.scale)
        view._symmetric = self._symmetric  # both directions went
        return view

    def drop_edges(self, p: float, *, rescale: bool = True, generator: torch.Generator | None = None) -> CSRGraph:
        """A view in which each present directed slot is dropped with probability ``p``; the view is not symmetric.

        Args:
            p: probability in [0, 1).
            rescale: multiply the values of kept slots by 1 / (1 - p).
            generator: source of randomness; torch's default one otherwise.

        Raises:
            ArgumentError: p outside [0, 1).
        """
        p = _check.probability("p", p)
        if p == 0:
            return self
        kept = torch.rand(self.num_slots, device=self.device, generator=generator) >= p
        if self.keep is not None:
            kept &= self.keep
        return self._view(kept, self.scale / (1 - p) if rescale else self.scale)

    def spmm(self, x: Tensor, reduce: Literal["sum", "mean", "max"] = "sum") -> Tensor:
        r"""Aggregate over neighbours: :math:`y_i = \mathrm{reduce}_{j \in N(i)} \; a_{ij} x_j`; 0 for an empty row.

        Args:
            x: floating point [N, F].
            reduce: "sum", "mean" (over present neighbours) or "max".

        Returns:
            [N, F].
        """
        _check.choice("reduce", reduce, ("sum", "mean", "max"))
        x = _check.tensor("x", x, shape=(self.num_nodes, None), dtypes=_check.FLOAT_DTYPES, device=self.device)
        if reduce == "max":
            return self._spmm_max(x)
        weight = None if self.weight is None else self.weight.to(_check.accumulate_dtype(x.dtype))
        transposed = self.transposed if torch.is_grad_enabled() and x.requires_grad else (None, None, None)
        out: Tensor = segment_gather_sum_operator(self.rowptr, self.col, None, weight, self.keep, x, *transposed)
        if self.scale != 1:
            out = out * self.scale
        return out / self.degree().clamp(min=1).unsqueeze(1) if reduce == "mean" else out

    def _spmm_max(self, x: Tensor) -> Tensor:
        row, col = self.row, self.col
        values = None if self.weight is None else self.weight
        if self.keep is not None:
            row, col = row[self.keep], col[self.keep]
            values = None if values is None else values[self.keep]
        messages = x[col]
        if values is not None:
            messages = messages * values.to(x.dtype).unsqueeze(1)
        lengths = self.degree()
        out = torch.segment_reduce(messages * self.scale, "max", lengths=lengths, axis=0, unsafe=True)
        return torch.where((lengths > 0).unsqueeze(1), out, 0)

    def two_hop(self) -> CSRGraph:
        r"""The support of :math:`A \cdot A`: ends of all walks of two present edges (so it includes i itself)."""
        values = self.to_torch_csr()
        # Ones in float32: sums of weights may cancel, and half precision has no product of sparse matrices.
        ones = torch.ones(values.col_indices().numel(), device=self.device)
        adjacency = torch.sparse_csr_tensor(
            values.crow_indices(), values.col_indices(), ones, values.shape, check_invariants=False
        )
        with torch.autocast(self.device.type, enabled=False):
            square = torch.sparse.mm(adjacency, adjacency)
        if square.layout != torch.sparse_csr:
            square = square.to_sparse_csr()
        crow, col = square.crow_indices(), square.col_indices()
        # Products come unsorted from some backends.
        rows = torch.arange(self.num_nodes, device=self.device).repeat_interleave(crow.diff(), output_size=col.numel())
        return CSRGraph.from_edge_index(torch.stack((col, rows)), self.num_nodes)

    def edge_index(self) -> Tensor:
        """PyG's ``edge_index`` of the present edges, int64 [2, E]: neighbours (sources) above rows (targets)."""
        both = torch.stack((self.col.to(torch.int64), self.row))
        return both if self.keep is None else both[:, self.keep]

    def edge_weight(self) -> Tensor | None:
        """Values of the present edges in the order of :meth:`edge_index`; ``None`` where all are 1."""
        if self.weight is None and self.scale == 1:
            return None
        values = torch.ones(self.num_slots, device=self.device) if self.weight is None else self.weight
        return (values if self.keep is None else values[self.keep]) * self.scale

    def to_torch_csr(self) -> Tensor:
        """Present edges as a torch sparse CSR matrix [N, N] of ones (or values)."""
        rowptr = torch.cat((self.rowptr.new_zeros(1), self.degree().cumsum(0)))
        col = self.col.to(torch.int64) if self.keep is None else self.col[self.keep].to(torch.int64)
        values = self.edge_weight()
        if values is None:
            values = torch.ones(col.numel(), device=self.device)
        size = (self.num_nodes, self.num_nodes)
        with warnings.catch_warnings():  # torch calls its CSR layout a beta
            warnings.filterwarnings("ignore", message=".*Sparse CSR tensor support is in beta.*")
            return torch.sparse_csr_tensor(rowptr, col, values, size, check_invariants=False)

    def is_symmetric(self) -> bool:
        """Whether every present edge is present in the other direction too (values are not compared); cached."""
        if self._symmetric is None:
            back = ops.find_edges(self, self.edge_index())
            self._symmetric = bool((back >= 0).all()) and (self.keep is None or bool(self.keep[back].all()))
        return self._symmetric

    def to(self, device: torch.device | str) -> CSRGraph:
        """The same graph on another device; a view becomes an origin of its own."""
        if self.rowptr.to(device) is self.rowptr:  # "cuda" and "cuda:0" may be the same
            return self
        moved = object.__new__(CSRGraph)
        moved.__dict__.update({k: v.to(device) if isinstance(v, Tensor) else v for k, v in self.__dict__.items()})
        moved._structure = {}
        return moved

    def __repr__(self) -> str:
        parts = [f"num_nodes={self.num_nodes}", f"num_edges={self.num_edges}"]
        if self.keep is not None:
            parts.append(f"masked={self.num_slots - self.num_edges}")
        if self.weight is not None:
            parts.append("weighted")
        if not math.isclose(self.scale, 1):
            parts.append(f"scale={self.scale:.4g}")
        return f"CSRGraph({', '.join(parts)})"


def _edge_index(name: str, value: object) -> Tensor:
    if hasattr(value, "as_tensor"):
        value = value.as_tensor()
    if isinstance(value, Tensor) and value.dim() == 2 and value.size(1) == 2 and value.size(0) != 2:
        raise ArgumentError(f"{name}: expected shape [2, E], got {list(value.shape)}; transpose it (`.t()`)")
    return _check.tensor(name, value, shape=(2, None), dtypes=(torch.int64,))
