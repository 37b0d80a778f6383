"""Link prediction sets of the Open Graph Benchmark (Hu et al., NeurIPS 2020): ogbl-ddi, -collab, -ppa, -citation2.

ogbl-ddi is read without the `ogb` package. The others go through ogb's classes, which are called only when every file
they would ask a question about is in place: they never prompt and never download.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from graphmem.data.cache import LocatedFiles, cache_dir, writable_copy
from graphmem.data.card import DatasetCard
from graphmem.data.dataset import GraphDataset, LinkSplit
from graphmem.data.formats._common import decoding
from graphmem.errors import DatasetIntegrityError, DatasetNotFoundError, MissingExtraError


@contextlib.contextmanager
def ogb_globals() -> Iterator[None]:
    """Let `torch.load(weights_only=True)` read OGB's files: numpy arrays written by numpy 1, and PyG storages.

    Outside this block the allow-list is what it was before.
    """
    from torch_geometric.data.data import DataEdgeAttr, DataTensorAttr
    from torch_geometric.data.storage import GlobalStorage

    reconstruct = np.empty(0).__reduce__()[0]
    codes = ("i8", "i4", "i2", "f4", "f8", "?")
    allowed: list[Any] = [
        (reconstruct, "numpy.core.multiarray._reconstruct"),
        (reconstruct, "numpy._core.multiarray._reconstruct"),
        np.ndarray,
        np.dtype,
        *{type(np.dtype(code)) for code in codes},
        DataEdgeAttr,
        DataTensorAttr,
        GlobalStorage,
    ]
    with torch.serialization.safe_globals(allowed):
        yield


def canonical_multigraph(edge: Tensor, multi: bool) -> Tensor:
    """Undirected edges with `i < j`, sorted; self-loops left out; repeats kept when `multi`, in the given order.

    Args:
        edge: int64 [2, E], each link in one direction.
        multi: keep repeated links.
    """
    low, high = edge.min(dim=0).values, edge.max(dim=0).values
    keys = (low * (int(edge.max()) + 1) + high)[low != high]
    keys = torch.sort(keys, stable=True).values if multi else torch.unique(keys)
    width = int(edge.max()) + 1
    return torch.stack([keys // width, keys % width])


def load(card: DatasetCard, files: LocatedFiles) -> GraphDataset:
    """Build the data set. `edge_index` holds the training links; `split` the publisher's sets and negatives.

    ogbl-ppa's one-hot species become node types int64 [N]; ogbl-ddi has no features.

    Raises:
        MissingExtraError: ogb is not installed (not needed for ogbl-ddi).
        DatasetIntegrityError: a file is not what it should be.
    """
    if card.options.get("reader") == "plain":
        return _load_plain(card, files)
    return load_with_ogb(card, files)


def _load_plain(card: DatasetCard, files: LocatedFiles) -> GraphDataset:
    edge_path = files.paths["raw/edge.csv.gz"]
    with decoding(edge_path):
        train = torch.from_numpy(np.loadtxt(edge_path, delimiter=",", dtype=np.int64).T.copy())
        num_nodes = int(np.loadtxt(files.paths["raw/num-node-list.csv.gz"], dtype=np.int64))
    split_edge: dict[str, dict[str, Any]] = {"train": {"edge": train.t()}}
    packed = files.paths.get("split_npz/target.npz")
    for name in ("valid", "test"):
        stored = files.paths.get(f"split/target/{name}.pt")
        if packed is not None:
            with decoding(packed), np.load(packed, allow_pickle=False) as archive:
                split_edge[name] = {"edge": archive[f"{name}_edge"], "edge_neg": archive[f"{name}_edge_neg"]}
        elif stored is not None:
            with decoding(stored), ogb_globals():
                split_edge[name] = torch.load(stored, weights_only=True)
        else:
            raise DatasetNotFoundError(
                f"data set {card.name!r}: neither split_npz/target.npz nor split/target/{name}.pt was found beside "
                f"{edge_path}; copy the publisher's `split` folder there"
            )
    return _assemble(card, split_edge, num_nodes, None)


def _assemble(card: DatasetCard, split_edge: Any, num_nodes: int, x: Tensor | None) -> GraphDataset:
    split = LinkSplit.from_ogb(split_edge, num_nodes, protocol=card.name)
    edge_index = canonical_multigraph(split.train, multi=bool(card.options.get("multi_edges", False)))
    return GraphDataset(card.name, edge_index, num_nodes, x, None, split, card)


def prepare_folder(card: DatasetCard, files: LocatedFiles) -> Path:
    """A writable folder that ogb's classes accept without a question; returns the `root` to pass to them.

    ogb asks on the terminal when the release note is missing, downloads when raw files are missing, and writes
    `processed/` beside them. So a copy in the cache is completed first. A missing `train.pt` of ogbl-ddi is made from
    `raw/edge.csv.gz`, which holds exactly the training links.

    Raises:
        DatasetNotFoundError: the release note is missing, so ogb would ask.
    """
    note = files.paths["RELEASE_v1.txt"]
    folder = note.parent  # downloaded into the cache, which is ours to write
    if cache_dir() not in note.parents:
        folder = writable_copy(note.parent, cache_dir() / "ogb" / card.folder)
    if not (folder / "RELEASE_v1.txt").is_file():
        raise DatasetNotFoundError(f"data set {card.name!r}: {folder} has no RELEASE_v1.txt; delete the folder, reload")
    split_folder = folder / "split" / str(card.options["split"])
    train_path = split_folder / "train.pt"
    if not train_path.is_file() and card.options.get("train_from_raw", False):
        edge = np.loadtxt(folder / "raw" / "edge.csv.gz", delimiter=",", dtype=np.int64)
        part = split_folder / "train.pt.partial"
        torch.save({"edge": edge}, part)
        part.replace(train_path)
    for name in ("train", "valid", "test"):
        if not (split_folder / f"{name}.pt").is_file():
            raise DatasetNotFoundError(f"data set {card.name!r}: {split_folder / name}.pt is missing; ogb needs it")
    return folder.parent


def load_with_ogb(card: DatasetCard, files: LocatedFiles) -> GraphDataset:
    """Read a set through `ogb.linkproppred.PygLinkPropPredDataset`.

    Raises:
        MissingExtraError: ogb is not installed.
        DatasetNotFoundError: a file that ogb would ask for is missing.
        DatasetIntegrityError: ogb cannot read the files.
    """
    base = prepare_folder(card, files)
    try:
        from ogb.linkproppred import PygLinkPropPredDataset
    except ImportError as error:
        raise MissingExtraError(f"data set {card.name!r} needs ogb: pip install graphmem[ogb]") from error
    folder = base / card.folder
    # ogb prints its progress; a library call should not.
    with decoding(folder), ogb_globals(), contextlib.redirect_stdout(io.StringIO()):
        dataset = PygLinkPropPredDataset(card.name, root=str(base))
        data = dataset[0]
        split_edge = dataset.get_edge_split()
    x = data.x if "x" in data else None
    if x is not None and card.options.get("node_types", False):
        if x.dim() != 2 or not bool((x.sum(dim=1) == 1).all()):
            raise DatasetIntegrityError(f"{folder}: expected one-hot node features, found {list(x.shape)} {x.dtype}")
        x = x.argmax(dim=1)
    return _assemble(card, split_edge, int(data.num_nodes), x if x is None or x.dim() == 1 else x.float())
