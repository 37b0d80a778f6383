"""The optimizer's step on one thread."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from graphmem.engine import step_optimizer


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(threads)


class Recorder(torch.optim.SGD):
    """Keeps the number of threads that it was called with."""

    def step(self, closure: None = None) -> None:
        self.threads = torch.get_num_threads()
        if self.param_groups[0]["lr"] < 0.01:
            raise RuntimeError("no step")


def test_small_weights_are_updated_on_one_thread_and_large_ones_on_all() -> None:
    small = Recorder([torch.zeros(10), torch.zeros(200, 200)], lr=1.0)
    step_optimizer(small)
    assert small.threads == 1
    assert torch.get_num_threads() == 2
    large = Recorder([torch.zeros(10), torch.zeros(400, 400)], lr=1.0)
    step_optimizer(large)
    assert large.threads == 2


def test_threads_come_back_where_a_step_fails() -> None:
    with pytest.raises(RuntimeError, match="no step"):
        step_optimizer(Recorder([torch.zeros(10)], lr=0.001))
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize("fused", [True, False])
def test_bits_are_those_of_the_optimizer(fused: bool) -> None:
    runs = []
    for step in (step_optimizer, torch.optim.Adam.step):
        torch.manual_seed(0)
        weights = [torch.randn(300, 200, requires_grad=True), torch.randn(7, requires_grad=True)]
        optimizer = torch.optim.Adam(weights, lr=0.01, fused=fused)
        for _ in range(3):
            for weight in weights:
                weight.grad = torch.randn_like(weight)
            step(optimizer)
        runs.append(torch.cat([weight.detach().flatten() for weight in weights]))
    assert torch.equal(*runs)
