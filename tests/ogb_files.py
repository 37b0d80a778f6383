"""Small data sets written as the Open Graph Benchmark lays out its own, for ogb's classes to read."""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

SPLITS = {"ogbl-collab": "time", "ogbl-ppa": "throughput", "ogbl-citation2": "time"}


def write_rows(path: Path, rows: Iterable[Sequence[Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wt") as stream:
        stream.writelines(",".join(map(str, row)) + "\n" for row in rows)


def write_ogb(
    root: Path,
    name: str,
    train: np.ndarray,
    held_out: Mapping[str, np.ndarray],
    negatives: np.ndarray,
    features: Sequence[Sequence[Any]],
) -> Path:
    """Write a set; returns its folder.

    Args:
        root: folder of all sets.
        name: ogbl-collab, ogbl-ppa or ogbl-citation2.
        train: [E, 2], training links, repeats allowed.
        held_out: links [P, 2] of "valid" and "test".
        negatives: of both, [M, 2]; for ogbl-citation2 [P, K, 2], whose sources are not written.
        features: a row a node.
    """
    folder, count = root / name.replace("-", "_"), len(train)
    years = [[2001 + row] for row in range(count)]
    for file, rows in {
        "edge": train.tolist(),
        "num-node-list": [[len(features)]],
        "num-edge-list": [[count]],
        "node-feat": features,
        "edge_weight": [[1 + row] for row in range(count)],
        "edge_year": years,
        "node_year": [[2000]] * len(features),
    }.items():
        write_rows(folder / "raw" / f"{file}.csv.gz", rows)
    (folder / "RELEASE_v1.txt").write_text("v1")
    target = folder / "split" / SPLITS[name]
    target.mkdir(parents=True)
    numbers = np.arange(1, count + 1)
    parts: dict[str, dict[str, Any]] = {"train": {"edge": train, "weight": numbers, "year": numbers}}
    for part, links in held_out.items():
        parts[part] = {"edge": links, "edge_neg": negatives}
    if name == "ogbl-citation2":
        for part, content in parts.items():
            links = content["edge"]
            parts[part] = {"source_node": links[:, 0], "target_node": links[:, 1]}
            if part != "train":
                parts[part]["target_node_neg"] = negatives[:, :, 1]
    for part, content in parts.items():
        torch.save(content, target / f"{part}.pt")
    return folder
