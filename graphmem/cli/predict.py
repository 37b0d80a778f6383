"""Scores of node pairs from a file."""

from __future__ import annotations

import csv
import io
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from graphmem import ops
from graphmem.data.dataset import GraphDataset
from graphmem.data.graph import CSRGraph
from graphmem.engine.build import Experiment, load_run
from graphmem.engine.evaluation import evaluating
from graphmem.errors import ArgumentError

GRAPHS = ("train", "test", "all")

# Pairs between two movements of the progress bar; the model cuts them further by itself.
_BLOCK = 1 << 18


def predict(
    checkpoint: Path,
    source: Path,
    target: Path | None,
    *,
    graph: str = "test",
    device: str | None = None,
    quiet: bool = False,
    rows: bool = False,
) -> dict[str, Any]:
    """Score the pairs of a file.

    The result has a line for each pair, in the file's order: both nodes, the logit, its logistic function, and whether
    the pair is a link of the graph that the model looked at (its score then says little).

    Args:
        checkpoint: of a training run.
        source: csv with two columns (a header is recognised), or npz with ``pairs`` int64 [2, P].
        target: csv file to write; None writes to stdout, unless ``rows``.
        graph: links that the model may look at: "train", "test" (those that the test links were scored on) or "all".
        device: "cpu", "cuda" or "auto"; that of the run by default.
        quiet: no progress bar.
        rows: return the scores instead of printing them, where there is no ``target``.

    Raises:
        ArgumentError: a malformed file, or nodes that the graph does not have.
    """
    if graph not in GRAPHS:
        raise ArgumentError(f"graph: expected one of {', '.join(GRAPHS)}; got {graph!r}")
    experiment, _ = load_run(checkpoint, device)
    names, pairs = read_pairs(source, experiment.dataset)
    adjacency = _graph(experiment, graph)
    scores = _score(experiment, adjacency, pairs.to(adjacency.device), quiet).cpu()
    known = (ops.find_edges(adjacency, pairs.to(adjacency.device)) >= 0).cpu()
    lines = list(
        zip(*names, scores.tolist(), torch.sigmoid(scores.double()).tolist(), known.int().tolist(), strict=True)
    )
    document: dict[str, Any] = {"pairs": len(lines), "graph": graph, "out": None if target is None else str(target)}
    header = ("source", "target", "logit", "probability", "known")
    if target is None and rows:
        document["scores"] = [dict(zip(header, line, strict=True)) for line in lines]
        return document
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows((*line[:2], f"{line[2]:.7g}", f"{line[3]:.7g}", line[4]) for line in lines)
    if target is None:
        sys.stdout.write(text.getvalue())
    else:
        _write(target, text.getvalue())
    return document


def _write(target: Path, text: str) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(target.name + ".tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, target)


def _graph(experiment: Experiment, name: str) -> CSRGraph:
    task = experiment.task
    if name == "train":
        return task.graph
    if name == "test":
        return task.test_graph
    links = torch.cat((task.split.train, task.split.valid, task.split.test), dim=1)
    return CSRGraph.from_edge_index(links, task.split.num_nodes, symmetric=True)


def _score(experiment: Experiment, graph: CSRGraph, pairs: Tensor, quiet: bool) -> Tensor:
    from tqdm import tqdm

    with evaluating(experiment.model):
        h = experiment.model.encode(experiment.task.x, graph)
        blocks = tqdm(pairs.split(_BLOCK, dim=1), unit="block", disable=True if quiet else None)
        scores = [experiment.model.score(h, graph, block) for block in blocks]
    return torch.cat(scores).float() if scores else h.new_empty(0)


def read_pairs(path: Path, dataset: GraphDataset) -> tuple[tuple[list[Any], list[Any]], Tensor]:
    """Both ends of each pair as the file calls them, and as node numbers int64 [2, P].

    Raises:
        ArgumentError: naming the file and the line.
    """
    if not path.is_file():
        raise ArgumentError(f"pairs: no file {path}")
    if path.suffix == ".npz":
        pairs = _read_npz(path)
        names: tuple[list[Any], list[Any]] = (pairs[0].tolist(), pairs[1].tolist())
        places = [f"pair {i}" for i in range(pairs.size(1))]
    else:
        names, places, pairs = _read_csv(path, dataset.node_names)
    outside = ((pairs < 0) | (pairs >= dataset.num_nodes)).any(dim=0).nonzero()
    if outside.numel():
        first = int(outside[0])
        raise ArgumentError(
            f"pairs: {path}, {places[first]}: nodes of {dataset.name!r} are 0 to {dataset.num_nodes - 1}, "
            f"found {pairs[0, first]}, {pairs[1, first]}"
        )
    return names, pairs


def _read_npz(path: Path) -> Tensor:
    try:
        with np.load(path, allow_pickle=False) as archive:
            key = next((name for name in ("pairs", "edge_label_index") if name in archive.files), None)
            found, value = archive.files, None if key is None else archive[key]
    except (OSError, ValueError) as error:
        raise ArgumentError(f"pairs: {path} is not a readable npz file: {error}") from error
    if value is None:
        raise ArgumentError(f"pairs: {path} has no array 'pairs', only {found}")
    if value.ndim != 2 or value.shape[0] != 2 or value.dtype.kind not in "iu":
        raise ArgumentError(f"pairs: {path}: expected integers [2, P], found {value.dtype} {list(value.shape)}")
    return torch.from_numpy(value.astype(np.int64))


def _read_csv(path: Path, node_names: tuple[str, ...] | None) -> tuple[tuple[list[Any], list[Any]], list[str], Tensor]:
    number = None if node_names is None else {name: i for i, name in enumerate(node_names)}
    names: tuple[list[Any], list[Any]] = ([], [])
    ids: tuple[list[int], list[int]] = ([], [])
    places: list[str] = []
    with path.open(encoding="utf-8-sig", newline="") as stream:
        for row in (reader := csv.reader(stream)):
            cells = [cell.strip() for cell in row[:2]]
            if not any(cells) or cells[0].startswith("#"):
                continue
            try:
                if len(cells) < 2:
                    raise ValueError
                found = [int(cell) if number is None else number[cell] for cell in cells]
            except (ValueError, KeyError):
                if not places and reader.line_num == 1 and len(cells) == 2:
                    continue  # a header
                kind = "node numbers" if number is None else "node names of the data set"
                raise ArgumentError(
                    f"pairs: {path}, line {reader.line_num}: expected two {kind}, found {','.join(row)!r}"
                ) from None
            places.append(f"line {reader.line_num}")
            for side in (0, 1):
                ids[side].append(found[side])
                names[side].append(cells[side])
    return names, places, torch.tensor(ids, dtype=torch.int64).reshape(2, -1)
