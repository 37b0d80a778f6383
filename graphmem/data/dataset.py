"""`GraphDataset` and `LinkSplit`: what a loader returns and what a task takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from graphmem.data.card import DatasetCard, FileSpec
from graphmem.errors import ArgumentError, ArgumentTypeError
from graphmem.ops import _check

__all__ = ["DatasetCard", "FileSpec", "GraphDataset", "LinkSplit"]

_SETS = ("train", "valid", "valid_neg", "test", "test_neg")


def check_edge_index(name: str, edge_index: Tensor, num_nodes: int) -> None:
    """Raise unless `edge_index` is int64 [2, E] with ids in `[0, num_nodes)`.

    Raises:
        ArgumentTypeError: not a tensor, or a number of nodes that is not whole.
        ArgumentError: wrong dtype, shape or ids.
    """
    _check.integer("num_nodes", num_nodes)
    if not isinstance(edge_index, Tensor):
        raise ArgumentTypeError(f"{name}: expected a Tensor, found {type(edge_index).__name__}")
    if edge_index.layout != torch.strided:
        raise ArgumentError(f"{name}: expected a dense tensor, found layout {edge_index.layout}")
    if edge_index.dtype != torch.int64:
        raise ArgumentError(f"{name}: expected dtype int64, found {edge_index.dtype}")
    if edge_index.dim() != 2 or edge_index.size(0) != 2:
        raise ArgumentError(f"{name}: expected shape [2, E], found {list(edge_index.shape)}")
    _check_ids(name, edge_index, num_nodes)


def _check_ids(name: str, ids: Tensor, num_nodes: int) -> None:
    if ids.is_meta:
        raise ArgumentError(f"{name}: expected a tensor with values, found one on the device meta")
    if ids.layout != torch.strided:
        raise ArgumentError(f"{name}: expected a dense tensor, found layout {ids.layout}")
    if ids.numel() == 0:
        return
    low, high = (int(v) for v in torch.aminmax(ids))
    if low < 0 or high >= num_nodes:
        raise ArgumentError(f"{name}: node ids must be in [0, {num_nodes}), found {low}..{high}")


@dataclass(frozen=True, eq=False)
class LinkSplit:
    r"""Training, validation and test links, with the negatives that evaluation uses.

    Args:
        train: int64 [2, E], the observed links; message passing uses these only unless a protocol says otherwise.
        valid: int64 [2, P], validation links.
        valid_neg: int64 [2, M], negatives shared by all validation links; or [P, K, 2], K negatives for each of them;
            or None.
        test: int64 [2, Q].
        test_neg: like `valid_neg`, for `test`.
        num_nodes: number of nodes N; all ids are in [0, N).
        protocol: how the split was made; travels with every result.
        seed: seed of a random split, None for a fixed one.
        attributes: further tensors of the split under `"<set>.<name>"`, e.g. `"train.weight"` [E] in ogbl-collab.

    Raises:
        ArgumentTypeError: a set is not a tensor.
        ArgumentError: wrong shape, dtype, device or ids.
    """

    train: Tensor
    valid: Tensor
    valid_neg: Tensor | None
    test: Tensor
    test_neg: Tensor | None
    num_nodes: int
    protocol: str
    seed: int | None = None
    attributes: Mapping[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check shapes, dtypes, devices and ids."""
        for name in ("train", "valid", "test"):
            check_edge_index(name, getattr(self, name), self.num_nodes)
        for positive in ("valid", "test"):
            self._check_negatives(f"{positive}_neg", getattr(self, positive).size(1))
        for name in _SETS:
            value = getattr(self, name)
            if value is not None and value.device != self.train.device:
                raise ArgumentError(f"{name}: on {value.device}, but train is on {self.train.device}")
        for key in self.attributes:
            if key.partition(".")[0] not in ("train", "valid", "test"):
                raise ArgumentError(f"attributes: keys are '<train|valid|test>.<name>', found {key!r}")

    def _check_negatives(self, name: str, num_positives: int) -> None:
        value = getattr(self, name)
        if value is None:
            return
        if not isinstance(value, Tensor) or value.dim() != 3:
            check_edge_index(name, value, self.num_nodes)
            return
        if value.dtype != torch.int64:
            raise ArgumentError(f"{name}: expected dtype int64, found {value.dtype}")
        if value.size(0) != num_positives or value.size(2) != 2:
            raise ArgumentError(f"{name}: expected [2, M] or [{num_positives}, K, 2], found {list(value.shape)}")
        _check_ids(name, value, self.num_nodes)

    @property
    def num_train(self) -> int:
        """Number of training links."""
        return self.train.size(1)

    @property
    def num_valid(self) -> int:
        """Number of validation links."""
        return self.valid.size(1)

    @property
    def num_test(self) -> int:
        """Number of test links."""
        return self.test.size(1)

    @property
    def sizes(self) -> dict[str, int]:
        """Number of pairs in each set; K per-positive negatives of P links count P * K."""
        tensors = {name: getattr(self, name) for name in _SETS}
        return {name: 0 if value is None else value.numel() // 2 for name, value in tensors.items()}

    @property
    def device(self) -> torch.device:
        """Device of all sets."""
        return self.train.device

    def to(self, device: torch.device | str) -> LinkSplit:
        """The same split on another device."""
        moved: dict[str, Any] = {n: None if (v := getattr(self, n)) is None else v.to(device) for n in _SETS}
        return replace(self, **moved, attributes={k: v.to(device) for k, v in self.attributes.items()})

    def to_ogb(self) -> dict[str, dict[str, Tensor]]:
        """The dictionary that `get_edge_split()` of OGB returns: `{'train': {'edge': [E, 2]}, ...}`.

        Negatives of shape [P, K, 2] that keep the source of their link come in ogbl-citation2's form:
        `source_node` [P], `target_node` [P], `target_node_neg` [P, K]. Attributes return under their own names.

        Raises:
            ArgumentError: per-link negatives that do not keep the source; OGB has no form for them.
        """
        out: dict[str, dict[str, Tensor]] = {}
        by_source = any(v is not None and v.dim() == 3 for v in (self.valid_neg, self.test_neg))
        for name in ("train", "valid", "test"):
            edge, negative = getattr(self, name), getattr(self, f"{name}_neg", None)
            if by_source:
                out[name] = {"source_node": edge[0], "target_node": edge[1]}
            else:
                out[name] = {"edge": edge.t().contiguous()}
            if negative is not None and by_source:
                if negative.dim() != 3 or not bool((negative[:, :, 0] == edge[0].unsqueeze(1)).all()):
                    raise ArgumentError(f"{name}_neg: OGB's form needs [P, K, 2] negatives that keep the source node")
                out[name]["target_node_neg"] = negative[:, :, 1].contiguous()
            elif negative is not None:
                out[name]["edge_neg"] = negative.t().contiguous()
        for key, value in self.attributes.items():
            name, _, attribute = key.partition(".")
            out[name][attribute] = value
        return out

    @classmethod
    def from_ogb(cls, split_edge: Mapping[str, Mapping[str, Any]], num_nodes: int, protocol: str = "ogb") -> LinkSplit:
        """Read the dictionary of OGB's `get_edge_split()`.

        Both forms are understood: `edge` [E, 2] with shared `edge_neg` [M, 2], and ogbl-citation2's `source_node`,
        `target_node`, `target_node_neg` [P, K]. The latter becomes negatives [P, K, 2], which takes 16 P K bytes
        (1.4 GB for each of the two sets of citation2). Other entries (`weight`, `year`) become `attributes`.

        Args:
            split_edge: `train`, `valid`, `test` dictionaries of tensors or numpy arrays.
            num_nodes: number of nodes.
            protocol: name to carry.

        Raises:
            ArgumentError: a set or a key is missing.
        """
        sets: dict[str, Tensor | None] = {"valid_neg": None, "test_neg": None}
        attributes: dict[str, Tensor] = {}
        for name in ("train", "valid", "test"):
            if name not in split_edge:
                raise ArgumentError(f"split_edge: expected the keys train, valid, test; found {sorted(split_edge)}")
            part = {key: torch.as_tensor(value) for key, value in split_edge[name].items()}
            if "edge" in part:
                sets[name] = part.pop("edge").long().t().contiguous()
                negative = part.pop("edge_neg", None)
                if negative is not None:
                    sets[f"{name}_neg"] = negative.long().t().contiguous()
            elif "source_node" in part and "target_node" in part:
                source = part.pop("source_node").long()
                sets[name] = torch.stack([source, part.pop("target_node").long()])
                target = part.pop("target_node_neg", None)
                if target is not None:
                    sets[f"{name}_neg"] = torch.stack([source.unsqueeze(1).expand_as(target), target.long()], dim=-1)
            else:
                raise ArgumentError(
                    f"split_edge[{name!r}]: expected 'edge', or 'source_node' and 'target_node'; found {sorted(part)}"
                )
            attributes.update({f"{name}.{key}": value for key, value in part.items()})
        if "train_neg" in sets:
            raise ArgumentError("split_edge['train']: fixed training negatives are not supported; drop 'edge_neg'")
        return cls(**sets, num_nodes=num_nodes, protocol=protocol, attributes=attributes)  # type: ignore[arg-type]

    def __repr__(self) -> str:
        sizes = ", ".join(f"{name}={size}" for name, size in self.sizes.items())
        return f"LinkSplit({self.protocol!r}, num_nodes={self.num_nodes}, {sizes}, seed={self.seed})"


@dataclass(frozen=True, eq=False)
class GraphDataset:
    r"""An undirected graph with optional features, labels and a fixed split.

    Args:
        name: canonical name.
        edge_index: int64 [2, E], each undirected edge once with `i < j`, in lexicographic order, without self-loops.
            Repeated edges (the years of ogbl-collab) stay, in the publisher's order. For a set with a fixed split
            these are the training edges.
        num_nodes: number of nodes N.
        x: features: dense float32 [N, F], sparse CSR float32 [N, F] where the publisher's features are sparse, node
            types int64 [N], or None.
        y: labels [N] or multi-label [N, C], or None.
        split: fixed split of the publisher, or None.
        card: the data set's card.
        edge_weight: float32 [E], or None.
        node_names: the publisher's ids, where nodes were renumbered; entry k names node k.

    Raises:
        ArgumentTypeError: a field has the wrong type.
        ArgumentError: `edge_index` is not in the canonical form, or sizes disagree.
    """

    name: str
    edge_index: Tensor
    num_nodes: int
    x: Tensor | None
    y: Tensor | None
    split: LinkSplit | None
    card: DatasetCard
    edge_weight: Tensor | None = None
    node_names: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        """Check the canonical form and the sizes."""
        check_edge_index("edge_index", self.edge_index, self.num_nodes)
        src, dst = self.edge_index
        if not bool((src < dst).all()):
            raise ArgumentError("edge_index: expected i < j in every column (each undirected edge once, no self-loop)")
        if src.numel() > 1:
            later = (src[1:] > src[:-1]) | ((src[1:] == src[:-1]) & (dst[1:] >= dst[:-1]))
            if not bool(later.all()):
                raise ArgumentError("edge_index: expected columns in lexicographic order")
        rows = {"x": self.x, "y": self.y}
        for name, value in rows.items():
            if value is not None and value.size(0) != self.num_nodes:
                raise ArgumentError(f"{name}: expected {self.num_nodes} rows, found {value.size(0)}")
        if self.edge_weight is not None and self.edge_weight.size(0) != self.num_edges:
            raise ArgumentError(f"edge_weight: expected {self.num_edges} entries, found {self.edge_weight.size(0)}")
        if self.node_names is not None and len(self.node_names) != self.num_nodes:
            raise ArgumentError(f"node_names: expected {self.num_nodes} names, found {len(self.node_names)}")

    @property
    def num_edges(self) -> int:
        """Number of columns of `edge_index`: undirected edges, each counted once."""
        return self.edge_index.size(1)

    @property
    def num_features(self) -> int:
        """Width of `x`; 0 without features, 1 for node types."""
        if self.x is None:
            return 0
        return 1 if self.x.dim() == 1 else self.x.size(1)

    @property
    def num_classes(self) -> int:
        """Number of label columns of a multi-label `y`, else number of distinct labels; 0 without labels."""
        if self.y is None:
            return 0
        return self.y.size(1) if self.y.dim() == 2 else int(torch.unique(self.y).numel())

    def to_pyg(self) -> Any:
        """`torch_geometric.data.Data` with both directions of every edge, sorted by source, then target.

        `x` keeps its layout (sparse CSR stays sparse); call `x.to_dense()` where a layer needs dense features.
        """
        from torch_geometric.data import Data

        src, dst = self.edge_index
        both = torch.stack([torch.cat([src, dst]), torch.cat([dst, src])])
        order = torch.argsort(both[0] * self.num_nodes + both[1], stable=True)
        data = Data(x=self.x, edge_index=both[:, order].contiguous(), y=self.y, num_nodes=self.num_nodes)
        if self.edge_weight is not None:
            data.edge_weight = self.edge_weight.repeat(2)[order]
        return data

    def __repr__(self) -> str:
        parts = [f"{self.name!r}", f"num_nodes={self.num_nodes}", f"num_edges={self.num_edges}"]
        if self.x is not None:
            layout = "sparse" if self.x.layout == torch.sparse_csr else str(self.x.dtype).removeprefix("torch.")
            parts.append(f"x={layout}{list(self.x.shape)}")
        if self.y is not None:
            parts.append(f"num_classes={self.num_classes}")
        if self.split is not None:
            parts.append(f"split={self.split.protocol!r}")
        return f"{type(self).__name__}({', '.join(parts)})"
