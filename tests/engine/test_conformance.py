from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from engine_toy import ToyModel, ToyTask, assert_same
from torch_geometric.data import Data

from graphmem.engine import TaskContractError, check_task, rng_state


def test_a_good_task_passes_and_nothing_is_left(tmp_path):
    model = ToyModel()
    task = ToyTask()
    task.update(model, next(task.batches("train", 1)))
    before, state = {k: v.clone() for k, v in model.state_dict().items() if "memory" in k}, rng_state()
    check_task(task, model)
    assert_same({k: v for k, v in model.state_dict().items() if "memory" in k}, before)
    assert_same(rng_state(), state)


class Global(ToyTask):
    def batches(self, split, epoch, start=0):
        torch.randperm(4)
        yield from super().batches(split, epoch, start)


class Unstable(ToyTask):
    calls = 0

    def batches(self, split, epoch, start=0):
        self.calls += 1
        for ids, x, y in super().batches(split, epoch, start):
            yield ids, x + self.calls, y


class NoSkip(ToyTask):
    def batches(self, split, epoch, start=0):
        yield from super().batches(split, epoch)


class Count(ToyTask):
    def num_batches(self, split, epoch):
        return 5


class Empty(ToyTask):
    def batches(self, split, epoch, start=0):
        yield from ()


class Leaky(ToyTask):
    def loss(self, model, batch):
        self.update(model, batch)
        return super().loss(model, batch)


class Vector(ToyTask):
    def loss(self, model, batch):
        return super().loss(model, batch)[None]


class Flat(ToyTask):
    def loss(self, model, batch):
        return super().loss(model, batch).detach()


class Random(ToyTask):
    def evaluate(self, model, split):
        return {"mse": float(torch.rand(()))}


class Counting(ToyTask):
    calls = 0

    def evaluate(self, model, split):
        self.calls += 1
        return {"mse": float(self.calls)}


class Unstorable(ToyTask):
    def state_dict(self):
        return {"seen": np.int64(3)}


class BadProtocol(ToyTask):
    protocol = {"negatives": np.zeros(2)}


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (Global, "batches must not draw from the global"),
        (Unstable, r"batches\('train', 1, start=0\) must give batches 0 to 3"),
        (NoSkip, r"start=1\) must give batches 1 to 3"),
        (Count, r"num_batches\('train', 1\) must be the 4 batches given, got 5"),
        (Empty, "at least one batch"),
        (Leaky, r"loss must read the state and not advance it \(batch 0\)"),
        (Vector, r"scalar tensor with gradient, got shape \[1\], requires_grad=True"),
        (Flat, r"got shape \[\], requires_grad=False"),
        (Random, r"evaluate\('valid'\) must not draw"),
        (Counting, "evaluate must give the same numbers"),
        (Unstorable, r"state_dict\(\)\['seen'\] must be .* got numpy.int64"),
        (BadProtocol, r"protocol\['negatives'\] must be"),
    ],
)
def test_broken_tasks(task, message):
    with pytest.raises(TaskContractError, match=rf"{task.__name__}: .*{message}|{message}"):
        check_task(task(), ToyModel())


@dataclass
class Pair:
    a: torch.Tensor
    data: Data


def test_batches_of_any_structure():
    class Structured(ToyTask):
        shift = 0.0

        def batches(self, split, epoch, start=0):
            for ids, x, y in super().batches(split, epoch, start):
                yield Pair(ids, Data(x=x + self.shift * start, y={"y": y}))

        def loss(self, model, batch):
            return super().loss(model, (batch.a, batch.data.x, batch.data.y["y"]))

        def update(self, model, batch):
            super().update(model, (batch.a, batch.data.x, None))

        def evaluate(self, model, split):
            return {"x": float("nan")}

    check_task(Structured(), ToyModel())
    Structured.shift = 1e-3
    with pytest.raises(TaskContractError, match="start=1"):
        check_task(Structured(), ToyModel())
