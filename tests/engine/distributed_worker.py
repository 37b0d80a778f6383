"""One rank of `test_distributed.py`: trains small models in float64 and writes what became of them."""

from __future__ import annotations

import sys
from typing import Any

import torch

from graphmem.data.generators import dcsbm
from graphmem.data.splits import split_edges
from graphmem.engine import Trainer
from graphmem.engine.distributed import DistributedTrainer, Group, connected
from graphmem.engine.link_task import LinkPredictionTask
from graphmem.engine.seeding import seed_everything
from graphmem.models import GAE, NCN, NCNC

# name: model, options of the model, options of the task. 560 training links: the last batch of 43 has one.
CASES: dict[str, tuple[Any, dict[str, Any], dict[str, Any]]] = {
    "ncn": (NCN, {"conv": "gcn", "jk": True}, {"batch_size": 43, "drop_last": False}),
    "ncn, two calls": (NCN, {}, {"batch_size": 101, "joint": False}),
    "ncnc": (NCNC, {"scale": 2.0, "offset": 0.0}, {"batch_size": 101}),
    "gae": (GAE, {"residual": True}, {"batch_size": 101, "negatives": "target"}),
}


def train(name: str, group: Group | None) -> dict[str, Any]:
    """Weights and history after three epochs."""
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
    arguments: dict[str, Any] = {
        "epochs": 3,
        "monitor": ("valid", "mrr"),
        "seed": 3,
        "progress": False,
        "clip_norm": 2.0,
    }
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, fused=True)
    make = Trainer if group is None else DistributedTrainer
    trainer = make(model, task, optimizer, **arguments, **({} if group is None else {"group": group}))
    trainer.fit()
    keys = ("loss", "valid/hits@20", "valid/mrr", "valid/auc", "test/mrr")
    return {"weights": model.state_dict(), "history": [[record[key] for key in keys] for record in trainer.history]}


def main() -> None:
    """Run every case on this rank."""
    with connected() as group:
        assert group is not None
        outcomes = {name: train(name, group) for name in CASES}
        # every rank has the same weights and numbers
        torch.save(outcomes, f"{sys.argv[1]}/outcome_{group.rank}.pt")


if __name__ == "__main__":
    main()
