"""Where tensors are: models train and score on a device that is not the CPU, their state there or in main memory."""

from __future__ import annotations

import pytest
import torch
from device_cases import IN_MAIN_MEMORY, NAMES, assert_same_epoch, build, epoch
from second_device import SECOND, MixedDevicesError, There, second_device
from torch import Tensor, nn

from graphmem.errors import ArgumentError
from graphmem.nn import PRES, NodeMemory, RecentNeighbors
from graphmem.nn.state import state_modules

# Each operator is a call of Python here.
EVENTS, BATCHES = 96, 4
OPTIONS: tuple[dict[str, object], ...] = (
    {"aggregator_module": "mean", "mailbox": 3},
    {"aggregator_module": "sequence", "mailbox": 3},
    {"t_batches": True},
    {"commit": "eager"},
    {"compat": "reference"},
)


def test_the_second_device_is_one() -> None:
    with second_device() as device:
        x, here = torch.arange(3, device=device), torch.arange(3)
        assert isinstance(x, There)
        assert x.device == device
        assert isinstance(here.to(device), There)
        assert not isinstance(x.cpu(), There)
        assert (x + 1).tolist() == [1, 2, 3]
        for mixed in (lambda: x + here, lambda: x[here], lambda: here.index_select(0, x)):
            with pytest.raises(MixedDevicesError):
                mixed()
        x[1:] = 7
        assert x.tolist() == [0, 7, 7]
        assert (x * torch.tensor(2)).tolist() == [0, 14, 14]
        layer = nn.Linear(3, 1).to(device)
        layer(torch.ones(2, 3, device=device)).sum().backward()
        assert isinstance(layer.weight.grad, There)
        assert layer.weight.grad.tolist() == [[2, 2, 2]]


@pytest.mark.parametrize("name", NAMES)
def test_an_epoch_is_that_of_the_cpu(name: str) -> None:
    wanted = epoch(build(name), torch.device("cpu"), EVENTS)
    with second_device() as device:
        model = build(name)
        found = epoch(model, device, EVENTS)
        assert all(isinstance(value, There) for value in (*model.parameters(), *model.buffers()))
    assert_same_epoch(found, wanted, BATCHES)


@pytest.mark.parametrize(
    ("name", "options"),
    [*((name, {}) for name in IN_MAIN_MEMORY), *(("tgn", options) for options in OPTIONS)],
    ids=lambda value: value if isinstance(value, str) else "-".join(map(str, value.values())),
)
def test_state_in_main_memory(name: str, options: dict[str, object]) -> None:
    wanted = epoch(build(name, **options), torch.device("cpu"), EVENTS)
    with second_device() as device:
        model = build(name, state_device="cpu", **options)
        found = epoch(model, device, EVENTS)
        stays = {path for path, module in state_modules(model) if isinstance(module, NodeMemory | RecentNeighbors)}
        assert stays
        assert all(isinstance(weight, There) for weight in model.parameters())
        for path, value in model.named_buffers():
            owner = path.rpartition(".")[0].removesuffix(".mail").removesuffix(".mail_d")
            assert isinstance(value, There) == (owner not in stays), path
    assert_same_epoch(found, wanted, BATCHES)


def test_state_in_main_memory_alone_changes_no_bit() -> None:
    wanted, found = (epoch(build("tgn", state_device=kind), torch.device("cpu"), EVENTS) for kind in (None, "cpu"))
    assert torch.equal(found.losses, wanted.losses)
    assert torch.equal(found.scores, wanted.scores)
    assert all(torch.equal(found.state[key], value) for key, value in wanted.state.items())


def test_flush_and_casts_of_state_in_main_memory() -> None:
    src, t = torch.tensor([0, 1, 0]), torch.tensor([3, 5, 5])
    found: list[tuple[Tensor, Tensor]] = []
    for kind in (None, "cpu"):
        torch.manual_seed(0)
        memory = NodeMemory(4, 0, 3, 2, state_device=kind).double()
        assert memory.memory.dtype == torch.float64
        with second_device() as device:
            where = torch.device("cpu") if kind is None else device
            memory = memory.to(where)
            memory.update_state(src.to(where), (src + 2).to(where), t.to(where))
            memory.flush()
            assert not isinstance(memory.memory, There)
            assert memory.device == where
            state, when = memory(torch.arange(4, device=where))
            assert state.device == when.device == where
            found.append((state.detach().cpu(), when.cpu()))
    torch.testing.assert_close(found[0], found[1])
    assert bool(found[0][0].any())


def test_queries_of_neighbours_in_main_memory() -> None:
    src, dst, t = torch.tensor([0, 1, 0, 2]), torch.tensor([1, 2, 2, 0]), torch.tensor([1, 2, 4, 4])
    here, there = RecentNeighbors(3, 2), RecentNeighbors(3, 2, state_device="cpu")
    here.insert(src, dst, t)
    ids, before = torch.tensor([2, 0]), torch.tensor([5, 9])
    wanted = [*here.query(ids), *here.query(ids, 1, before=before), *here(ids)]
    with second_device() as device:
        there = there.to(device)
        there.insert(src.to(device), dst.to(device), t.to(device))
        asked = ids.to(device)
        found = [*there.query(asked), *there.query(asked, 1, before=before.to(device)), *there(asked)]
        assert all(isinstance(part, There) for part in found)
        assert [part.tolist() for part in found] == [part.tolist() for part in wanted]


def test_bad_options() -> None:
    with pytest.raises(ArgumentError, match="state_device: expected one of 'cpu', got 'cuda'"):
        NodeMemory(4, 0, 3, 2, state_device="cuda")
    with pytest.raises(ArgumentError, match="state_device"):
        RecentNeighbors(4, 2, state_device="gpu")
    with pytest.raises(ArgumentError, match="pres: expected a memory without state_device"):
        NodeMemory(4, 0, 3, 2, state_device="cpu").correct_by(PRES(4, 3))
    assert SECOND.type != "cpu"
