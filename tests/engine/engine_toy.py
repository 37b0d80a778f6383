"""A small task with everything that can go wrong on resumption: dropout, Adam, batch norm, state, task memory."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from graphmem.engine import FitResult, Task, Trainer, seed_everything
from graphmem.nn.state import StateModule

NUM_NODES, CHANNELS = 24, 4


class Memory(StateModule):
    def __init__(self, num_nodes: int, channels: int) -> None:
        super().__init__()
        self.register_state("rows", (num_nodes, channels))
        self.register_state("clock", (), dtype=torch.int64, per_node=False)


class ToyModel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.memory = Memory(NUM_NODES, CHANNELS)
        self.encode = nn.Sequential(
            nn.Linear(2 * CHANNELS, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 1)
        )

    def forward(self, ids: Tensor, x: Tensor) -> Tensor:
        return self.encode(torch.cat([x, self.memory.rows[ids]], dim=1)).squeeze(1)


class ToyTask(Task):
    """Regression of a linear function of features and of what a node showed last time."""

    name = "toy"

    def __init__(self, seed: int = 0, num_batches: int = 4, pause: float = 0.0) -> None:
        self.seed, self.count, self.pause = seed, num_batches, pause
        self.seen = 0  # what the task itself remembers
        self.weight = torch.arange(1.0, 2 * CHANNELS + 1) / (2 * CHANNELS)

    @property
    def protocol(self) -> dict[str, Any]:
        return {"data": "toy", "visibility": "batch"}

    def num_batches(self, split: str, epoch: int) -> int:
        return self.count

    def batches(self, split: str, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        for index in range(start, self.count):
            key = {"train": 0, "valid": 1, "test": 2}[split]
            generator = torch.Generator().manual_seed(self.seed * 10007 + epoch * 1009 + index * 31 + key)
            ids = torch.randperm(NUM_NODES, generator=generator)[:8]
            x = torch.randn(8, CHANNELS, generator=generator)
            yield ids, x, x @ self.weight[:CHANNELS]

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        ids, x, y = batch
        return nn.functional.mse_loss(model(ids, x), y)

    def update(self, model: nn.Module, batch: Any) -> None:
        ids, x, _ = batch
        rows = model.memory.rows.clone()
        rows[ids] = 0.5 * rows[ids] + x
        model.memory.rows = rows
        model.memory.clock = model.memory.clock + 1
        self.seen += 1
        if self.pause:
            time.sleep(self.pause)

    def num_items(self, batch: Any) -> int:
        return int(batch[0].numel())

    def evaluate(self, model: nn.Module, split: str) -> dict[str, float]:
        errors = []
        for ids, x, y in self.batches(split, 1):
            errors.append(nn.functional.mse_loss(model(ids, x), y))
            rows = model.memory.rows.clone()
            rows[ids] = x
            model.memory.rows = rows
        return {"mse": float(torch.stack(errors).mean()), "clock": float(model.memory.clock)}

    def state_dict(self) -> dict[str, Any]:
        return {"seen": self.seen}

    def load_state_dict(self, state: Any) -> None:
        self.seen = state["seen"]


def build(checkpoint_dir: Any = None, *, seed: int = 3, pause: float = 0.0, **options: Any) -> Trainer:
    seed_everything(seed)
    model, task = ToyModel(), ToyTask(seed, pause=pause)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.97)
    defaults: dict[str, Any] = {"epochs": 4, "monitor": ("valid", "mse"), "mode": "min", "progress": False}
    return Trainer(
        model, task, optimizer, scheduler=scheduler, checkpoint_dir=checkpoint_dir, seed=seed, **(defaults | options)
    )


class Recorder(Task):
    """Writes down the order of calls and what the state was at each."""

    name = "recorder"
    protocol = {"data": "none"}

    def __init__(self) -> None:
        self.calls = []

    def num_batches(self, split, epoch):
        return 2

    def batches(self, split, epoch, start=0):
        yield from range(start, 2)

    def _note(self, what, model, batch=None):
        self.calls.append((what, batch, float(model.weight.detach()), int(model.events), model.training))

    def reset(self, model):
        super().reset(model)
        self._note("reset", model)

    def loss(self, model, batch):
        self._note("loss", model, batch)
        return model.weight.sum()

    def update(self, model, batch):
        assert not torch.is_grad_enabled()
        self._note("update", model, batch)
        model.events = model.events + 1

    def evaluate(self, model, split):
        assert not torch.is_grad_enabled()
        self._note("evaluate", model, split)
        model.events = model.events + 10
        return {"score": float(model.events)}


class Counter(StateModule):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.register_state("events", (), dtype=torch.int64, per_node=False)


class Scripted(Recorder):
    """Gives the evaluation results of a list, one an epoch."""

    def __init__(self, values):
        super().__init__()
        self.values, self.epoch = values, 0

    def evaluate(self, model, split):
        self.epoch += split == "valid"
        value = self.values[self.epoch - 1]
        return {"a": value, "b": -value, "epoch": float(self.epoch)}


def scripted(values, **options):
    model = Counter()
    options = {"epochs": len(values), "monitor": ("valid", "a"), "progress": False} | options
    return Trainer(model, Scripted(values), torch.optim.SGD(model.parameters(), lr=1.0), **options)


def timeless(result: FitResult) -> list[dict[str, float]]:
    return [{k: v for k, v in record.items() if not k.endswith("seconds")} for record in result.history]


def outcome(trainer: Trainer, result: FitResult) -> dict[str, Any]:
    """Everything that must be the same after a resumption."""
    return {
        "model": trainer.model.state_dict(),
        "optimizer": trainer.optimizer.state_dict(),
        "best": trainer.best_state,
        "history": timeless(result),
        "chosen": [(b.monitor, b.epoch, b.value) for b in result.best.values()],
        "seen": trainer.task.seen,
        "next_random": torch.rand(4),
    }


def assert_same(a: Any, b: Any, where: str = "") -> None:
    """Equality of trees to the bit."""
    if isinstance(a, Tensor):
        assert a.dtype == b.dtype, where
        assert a.shape == b.shape, where
        assert torch.equal(a, b), where
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            assert_same(a[key], b[key], f"{where}/{key}")
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b), where
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_same(x, y, f"{where}/{i}")
    else:
        assert a == b, (where, a, b)


def run_worker(directory: str, every: int, pause: float) -> None:
    """Train, or go on training; leave the outcome in a file when it is finished."""
    torch.set_num_threads(1)
    trainer = build(directory, epochs=6, checkpoint_every_steps=every, pause=pause)
    result = trainer.fit(resume=True)
    if not result.interrupted:
        path = os.path.join(directory, "outcome.pt")
        torch.save(outcome(trainer, result), path + ".tmp")
        os.replace(path + ".tmp", path)


def serve() -> None:
    """For every line ``directory every pause``, fork a worker; answer its pid, then its status.

    A fork of a process that has imported torch and not yet used it starts in milliseconds instead of seconds. Its
    compiler is what optimizers bring in.
    """
    import torch._dynamo  # noqa: F401

    for line in sys.stdin:
        directory, every, pause = line.split()
        pid = os.fork()
        if pid == 0:
            run_worker(directory, int(every), float(pause))
            os._exit(0)
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        serve()
    else:
        run_worker(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
