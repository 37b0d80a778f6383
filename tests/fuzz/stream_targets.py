"""What is fuzzed of streams: fields, splits, batches, negatives, readers, memories and models."""

from __future__ import annotations

import gzip
import pickle
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from graphmem.data import EventNegatives, EventStream, batch_bounds, read_dgb, read_events, split_stream
from graphmem.data.formats.event_chunks import EventReader
from graphmem.data.formats.tgb import read_negatives
from graphmem.models import TNCN
from graphmem.nn import NodeMemory, RecentNeighbors, TemporalNeighbors

NODES = 12
Arguments = dict[str, Any]


def _columns(rng: random.Random, count: int | None = None) -> Arguments:
    count = rng.randint(1, 30) if count is None else count
    ends = torch.tensor([[rng.randrange(NODES) for _ in range(count)] for _ in range(2)], dtype=torch.int64)
    t = torch.tensor([rng.randint(0, 3) for _ in range(count)], dtype=torch.int64).cumsum(0)
    return {"src": ends[0].clone(), "dst": ends[1].clone(), "t": t.double() if rng.random() < 0.3 else t}


def stream_arguments(rng: random.Random) -> Arguments:
    found = _columns(rng)
    count = found["src"].numel()
    optional = {
        "msg": torch.rand(count, 2),
        "weight": torch.randn(count),
        "edge_type": torch.zeros(count, dtype=torch.int64),
        "y": torch.zeros(count),
    }
    return {**found, "num_nodes": NODES, "first": 0, "dst_range": None, **optional}


def call_stream(**fields: Any) -> Tensor:
    stream = EventStream(**fields)
    return stream[1:].src + len(stream)


def _stream(rng: random.Random) -> EventStream:
    return EventStream(**_columns(rng, 40), num_nodes=NODES)


def split_arguments(rng: random.Random) -> Arguments:
    protocol = rng.choice(("time", "tgb", "masked", "dyglib"))
    return {"own_stream": _stream(rng), "protocol": protocol, "val_ratio": 0.2, "test_ratio": 0.2, "seed": 1}


def call_split(own_stream: EventStream, **options: Any) -> Tensor:
    return split_stream(own_stream, **options).new_nodes


def bounds_arguments(rng: random.Random) -> Arguments:
    by_size = rng.random() < 0.5
    cut = {"size": rng.randint(1, 9) if by_size else None, "window": None if by_size else rng.uniform(0.5, 9)}
    return {"own_stream": _stream(rng), **cut, "keep_ties": by_size and rng.random() < 0.5}


def call_bounds(own_stream: EventStream, **options: Any) -> Tensor:
    return batch_bounds(own_stream, **options)


def negatives_arguments(rng: random.Random) -> Arguments:
    kind = rng.choice(("random", "historical", "inductive", "hist_rnd"))
    return {"own_stream": _stream(rng), "kind_": kind, "seed": 3, "k": rng.randint(1, 2), "epoch": 1}


def call_negatives(own_stream: EventStream, kind_: Any, epoch: Any, **options: Any) -> Tensor:
    split = split_stream(own_stream)
    return EventNegatives(split, kind_, **options).draw(split.valid, epoch)[1]


def text_arguments(rng: random.Random) -> Arguments:
    """A file of events as bytes."""
    columns = _columns(rng)
    named = rng.random() < 0.5
    rows = []
    for u, v, when in zip(*(columns[name].tolist() for name in ("src", "dst", "t")), strict=True):
        ends = (f"user{u}", f'"a, {v}"') if named else (u, v)
        rows.append((*ends, f"2024-05-01 00:00:{int(when) % 60:02}" if rng.random() < 0.02 else when, rng.random()))
    kind = rng.choice((".csv", ".tsv", ".txt", ".csv.gz"))
    delimiter = {".tsv": "\t", ".txt": " "}.get(kind, ",")
    head = [delimiter.join("uvtw")] if rng.random() < 0.3 else []
    content = "\n".join([*head, *(delimiter.join(map(str, row)) for row in rows)]).encode()
    options = {"bipartite": rng.random() < 0.3, "sort": rng.random() < 0.3, "drop_self_loops": rng.random() < 0.3}
    return {"content": gzip.compress(content) if kind.endswith("gz") else content, "kind": kind, **options}


def call_text(content: Any, kind: str, **options: Any) -> Tensor:
    path = Path("events" + kind)
    path.write_bytes(content)
    return read_events(path, **options).src


def call_chunks(content: Any, kind: str, **_: Any) -> int:
    path = Path("chunks" + kind)
    path.write_bytes(content)
    return sum(len(chunk.t) for chunk in EventReader(path).chunks(4))


def arrays_arguments(rng: random.Random) -> Arguments:
    columns = _columns(rng)
    options = {name: rng.random() < 0.3 for name in ("sort", "bipartite", "drop_self_loops")}
    return {**columns, "weight": None, "y": None, "msg": torch.rand(len(columns["src"]), 2), **options}


def call_arrays(sort: Any, bipartite: Any, drop_self_loops: Any, **columns: Any) -> Tensor:
    tensors = {name: x for name, x in columns.items() if isinstance(x, Tensor)}
    strange = {name for name, x in tensors.items() if x.is_meta or x.layout != torch.strided or x.requires_grad}
    given = {name: x for name, x in columns.items() if x is not None and name not in strange}
    np.savez("arrays.npz", **{name: np.asarray(value) for name, value in given.items()})
    options = {"sort": sort, "bipartite": bipartite, "drop_self_loops": drop_self_loops}
    return read_events("arrays.npz", **options).src


def dgb_arguments(rng: random.Random) -> Arguments:
    columns = _columns(rng)
    rows = zip(*(columns[name].tolist() for name in ("src", "dst", "t")), strict=True)
    lines = [",u,i,ts,label,idx", *(f"{n},{1 + u},{1 + v},{t},0.0,{n + 1}" for n, (u, v, t) in enumerate(rows))]
    np.save("valid.npy", np.ones((len(lines), 3)))
    return {"content": "\n".join(lines).encode(), "features": Path("valid.npy").read_bytes(), "sort": False}


def call_dgb(content: Any, features: Any, sort: Any) -> Tensor:
    Path("ml_x.csv").write_bytes(content)
    Path("ml_x.npy").write_bytes(features)
    return read_dgb("ml_x.csv", sort=sort).src


def pickle_arguments(rng: random.Random) -> Arguments:
    found = {(np.int64(rng.randint(0, 9)), 2, 3): np.arange(rng.randint(0, 4)) for _ in range(3)}
    return {"content": pickle.dumps(found)}


def call_pickle(content: Any) -> int:
    Path("ns.pkl").write_bytes(content)
    return len(read_negatives(Path("ns.pkl")))


def memory_arguments(rng: random.Random) -> Arguments:
    found = _columns(rng)
    return {**found, "t": found["t"].long(), "raw_msg": torch.rand(found["src"].numel(), 2)}


def call_memory(**events: Any) -> Tensor:
    torch.manual_seed(0)
    memory = NodeMemory(NODES, 2, 4, 3)
    memory.update_state(**events)
    return memory(torch.arange(NODES))[0].detach()


def neighbors_arguments(rng: random.Random) -> Arguments:
    found = _columns(rng)
    asked = torch.tensor([rng.randrange(NODES) for _ in range(5)], dtype=torch.int64)
    options = {"k": rng.randint(1, 3), "strategy": rng.choice(("recent", "uniform", "decayed")), "decay": 0.1}
    return {**found, "t": found["t"].long(), "eid": None, "ids": asked, "at": asked + 9, "window": None, **options}


def call_neighbors(
    src: Any, dst: Any, t: Any, eid: Any, ids: Any, at: Any, k: Any, **options: Any
) -> tuple[Tensor, ...]:
    every, latest = TemporalNeighbors(NODES), RecentNeighbors(NODES, 3)
    every.insert(src, dst, t, eid)
    latest.insert(src, dst, t, eid)
    return (*every.query(ids, at, k, **options), *latest.query(ids, k))


def score_arguments(rng: random.Random) -> Arguments:
    asked = torch.tensor([[rng.randrange(NODES) for _ in range(3)] for _ in range(4)], dtype=torch.int64)
    return {"own_stream": _stream(rng), "src": asked[:, 0].clone(), "dst": asked[:, 1:].clone(), "t": asked[:, 0] + 99}


def call_score(own_stream: EventStream, **question: Any) -> Tensor:
    torch.manual_seed(0)
    model = TNCN(NODES, memory_dim=4, time_dim=3, embedding_dim=4, num_neighbors=3, time_dtype=own_stream.t.dtype)
    model.eval().update(own_stream)
    return model.score(**question).detach()


STREAM_TARGETS = {
    "EventStream": (stream_arguments, call_stream),
    "split_stream": (split_arguments, call_split),
    "batch_bounds": (bounds_arguments, call_bounds),
    "EventNegatives": (negatives_arguments, call_negatives),
    "read_events": (text_arguments, call_text),
    "read_events npz": (arrays_arguments, call_arrays),
    "EventReader": (text_arguments, call_chunks),
    "read_dgb": (dgb_arguments, call_dgb),
    "read_negatives": (pickle_arguments, call_pickle),
    "NodeMemory": (memory_arguments, call_memory),
    "neighbors": (neighbors_arguments, call_neighbors),
    "TNCN": (score_arguments, call_score),
}
