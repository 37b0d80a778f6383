"""One rank of `test_distributed.py`: trains small models in float64 and writes what became of them."""

from __future__ import annotations

import copy
import sys
from typing import Any

import torch
from torch import nn

from graphmem.data.generators import dcsbm
from graphmem.data.splits import split_edges
from graphmem.data.stream import EventStream
from graphmem.data.stream_splits import split_stream
from graphmem.engine import Trainer
from graphmem.engine.distributed import DistributedTrainer, Group, connected
from graphmem.engine.event_task import TemporalLinkTask
from graphmem.engine.link_task import LinkPredictionTask
from graphmem.engine.seeding import seed_everything
from graphmem.engine.task import Task
from graphmem.models import APAN, GAE, JODIE, NAT, NCN, NCNC, TGN, TNCN, DyRep
from graphmem.nn import PRES, TemporalNeighbors

# name: model, options of the model, options of the task. 560 training links: the last batch of 43 has one.
CASES: dict[str, tuple[Any, dict[str, Any], dict[str, Any]]] = {
    "ncn": (NCN, {"conv": "gcn", "jk": True}, {"batch_size": 43, "drop_last": False}),
    "ncn, two calls": (NCN, {}, {"batch_size": 101, "joint": False}),
    "ncnc": (NCNC, {"scale": 2.0, "offset": 0.0}, {"batch_size": 101}),
    "gae": (GAE, {"residual": True}, {"batch_size": 101, "negatives": "target"}),
}


# 131 training events: the last batch of 43 has two, of 26 and 65 one, so that a rank has none.
STREAM_CASES: dict[str, tuple[Any, dict[str, Any], dict[str, Any]]] = {
    "tgn": (TGN, {"memory_dim": 8, "embedding_dim": 8, "dropout": 0.0}, {"batch_size": 43, "visibility": "event"}),
    "tgn, mixed": (
        TGN,
        {"memory_dim": 8, "embedding_dim": 8, "dropout": 0.0, "delta": "query", "neighbors": TemporalNeighbors(24)},
        {"batch_size": 26, "visibility": "mixed", "num_negatives": 3, "negatives": "historical"},
    ),
    "jodie": (JODIE, {"memory_dim": 8, "time_scale": 10.0}, {"batch_size": 65, "negatives": "inductive"}),
    "apan": (APAN, {"embedding_dim": 8, "dropout": 0.0}, {"batch_size": 26}),
    "tncn": (TNCN, {"memory_dim": 8, "embedding_dim": 8, "dropout": 0.0}, {"batch_size": 43}),
    "dyrep": (DyRep, {"memory_dim": 8, "dropout": 0.0}, {"batch_size": 26}),
    "nat": (NAT, {"memory_dim": 8, "sizes": (4, 2), "dropout": 0.0}, {"batch_size": 43}),
    "tgn, pres": (
        TGN,
        {"memory_dim": 8, "embedding_dim": 8, "dropout": 0.0, "pres": {"gate": "kalman", "tau": 2.0, "beta": 0.5}},
        {"batch_size": 43},
    ),
    "jodie, pres": (
        JODIE,
        {"memory_dim": 8, "time_scale": 10.0, "pres": {"rate": "per_event", "alpha": 0.6}},
        {"batch_size": 26},
    ),
}


def train_stream(name: str, group: Group | None) -> dict[str, Any]:
    """Weights, state and history after three epochs."""
    model_class, options, settings = STREAM_CASES[name]
    g = torch.Generator().manual_seed(0)
    src, dst = (12 * torch.rand(2, 187, generator=g) ** 1.5).long()
    t = torch.randint(1, 3, (187,), generator=g).cumsum(0)
    stream = EventStream(src, 12 + dst, t, 24, dst_range=(12, 24))
    metrics = {"eval_negatives": ("random", "historical"), "ranking_negatives": "random", "num_ranking_negatives": 5}
    split = split_stream(stream)
    task = TemporalLinkTask(split, metrics=("ap", "mrr", "ap_batch"), group=group, **metrics, **settings)
    seed_everything(3 if group is None or group.is_first else 4)
    options = copy.deepcopy(options)
    pres = options.pop("pres", None)
    model = model_class(24, **options)
    if pres is not None:
        model.correct_by(PRES(24, 8, **pres))
    model = model.double()
    keys = ("loss", "valid/ap", "valid/historical.ap", "valid/mrr", "test/ap_batch", "test/mrr")
    return fit(model, task, ("valid", "ap"), keys, group)


def train(name: str, group: Group | None) -> dict[str, Any]:
    """Weights and history after three epochs."""
    if name in STREAM_CASES:
        return train_stream(name, group)
    model_class, options, settings = CASES[name]
    data = dcsbm(200, 4, 8.0, num_features=24, triadic_closure=0.4)
    task = LinkPredictionTask(
        split_edges(data, protocol="random", seed=1),
        data.x.to_dense().double(),
        metrics=("hits@20", "mrr", "auc"),
        group=group,
        **settings,
    )
    seed_everything(3 if group is None or group.is_first else 4)  # rank 0's weights are sent
    model = model_class(24, 16, 2, **options).double()
    keys = ("loss", "valid/hits@20", "valid/mrr", "valid/auc", "test/mrr")
    return fit(model, task, ("valid", "mrr"), keys, group)


def fit(
    model: nn.Module, task: Task, monitor: tuple[str, str], keys: tuple[str, ...], group: Group | None
) -> dict[str, Any]:
    """Train for three epochs."""
    arguments: dict[str, Any] = {
        "epochs": 3,
        "monitor": monitor,
        "seed": 3,
        "progress": False,
        "clip_norm": 2.0,
    }
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, fused=True)
    make = Trainer if group is None else DistributedTrainer
    trainer = make(model, task, optimizer, **arguments, **({} if group is None else {"group": group}))
    trainer.fit()
    return {"weights": model.state_dict(), "history": [[record[key] for key in keys] for record in trainer.history]}


def main() -> None:
    """Run every case on this rank."""
    with connected() as group:
        assert group is not None
        outcomes = {name: train(name, group) for name in (*CASES, *STREAM_CASES)}
        # every rank has the same weights and numbers
        torch.save(outcomes, f"{sys.argv[1]}/outcome_{group.rank}.pt")


if __name__ == "__main__":
    main()
