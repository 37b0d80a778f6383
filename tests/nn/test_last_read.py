"""States that were read for a loss are stored by the update behind it, as long as they are what it would compute."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor, nn

from graphmem.nn import PRES, NodeMemory, SignedMemory
from graphmem.nn.last_read import LastRead

NODES = 12


def test_states_are_found_by_node() -> None:
    states = torch.arange(8.0).view(4, 2)
    last = LastRead(torch.tensor([7, 2, 9, 2]), states[[0, 1, 2, 1]])
    row, there = last.find(torch.tensor([9, 3, 2, 7, 11]))
    assert there.tolist() == [True, False, True, True, False]
    assert torch.equal(last.states[row[there]], states[[2, 1, 0]])
    assert last.find(torch.tensor([], dtype=torch.int64))[1].tolist() == []
    assert LastRead(torch.tensor([], dtype=torch.int64), states[:0]).find(torch.tensor([7]))[1].tolist() == [False]


def write_in_place(table: Tensor, weight: nn.Parameter) -> None:
    table[1] = 2.0


def write_without_gradient(table: Tensor, weight: nn.Parameter) -> None:
    with torch.no_grad():
        weight.mul_(1.5)


def write_data(table: Tensor, weight: nn.Parameter) -> None:
    weight.data -= 0.1


def step_of(options: dict[str, Any]) -> Callable[[Tensor, nn.Parameter], None]:
    def step(table: Tensor, weight: nn.Parameter) -> None:
        weight.grad = torch.ones_like(weight)
        torch.optim.Adam([weight], **options).step()

    return step


@pytest.mark.parametrize(
    "change",
    [write_in_place, write_without_gradient, write_data, *map(step_of, ({"fused": True}, {"foreach": True}, {}))],
)
def test_a_write_ends_it(change: Callable[[Tensor, nn.Parameter], None]) -> None:
    table, weight = torch.ones(4), nn.Parameter(torch.ones(5, 5))
    last = LastRead(torch.arange(4), table.clone(), (), [table], [weight])
    assert last.holds([table], [weight])
    assert not last.holds([table.clone()], [weight])
    change(table, weight)
    assert not last.holds([table], [weight])


def test_what_torch_does_not_count_is_never_right() -> None:
    with torch.inference_mode():
        table = torch.ones(4)
    assert not LastRead(torch.arange(4), table.clone(), (), [table]).holds([table], [])


def test_other_types_end_it() -> None:
    last = LastRead(torch.arange(4), torch.ones(4, 2))
    assert last.holds([], [])
    with torch.autocast("cpu", torch.bfloat16):
        assert not last.holds([], [])


def node_memory(**options: Any) -> NodeMemory:
    return NodeMemory(NODES, 2, 5, 3, **options)


KINDS: dict[str, Callable[[], NodeMemory | SignedMemory]] = {
    "gru": node_memory,
    "rnn": lambda: node_memory(updater="rnn"),
    "transformer": lambda: NodeMemory(NODES, 2, 6, 3, updater="transformer", mailbox=3),
    "mean": lambda: node_memory(aggregator_module="mean", mailbox=3),
    "sequence": lambda: node_memory(aggregator_module="sequence", mailbox=3),
    "t-batches": lambda: node_memory(t_batches=True),
    "events of nodes": lambda: node_memory(node_message_module="concat"),
    "reference": lambda: node_memory(compat="reference"),
    "in main memory": lambda: node_memory(state_device="cpu"),
    "signed": lambda: SignedMemory(NODES, 2, 5, 3),
    "signed, last": lambda: SignedMemory(NODES, 2, 5, 3, aggr="last", clock="node"),
    "signed, released": lambda: SignedMemory(NODES, 2, 5, 3, compat="released"),
}


def nothing(memory: NodeMemory | SignedMemory) -> None:
    pass


def move_weights(memory: NodeMemory | SignedMemory) -> None:
    for weight in memory.parameters():
        weight.data.mul_(0.9)


def fused_step(memory: NodeMemory | SignedMemory) -> None:
    torch.optim.Adam(memory.parameters(), lr=0.1, fused=True).step()


def forget(memory: NodeMemory | SignedMemory) -> None:
    memory.forget(nodes=torch.tensor([0, 3]))


def replay(memory: NodeMemory | SignedMemory) -> None:
    memory.restore({name: value.flip(0) if value.dim() else value for name, value in memory.snapshot().items()})


def stored(memory: NodeMemory | SignedMemory, between: Callable[..., None], parts: int) -> tuple[Tensor, int]:
    """Memory behind a stream, and how many states were used again. Of each batch one in ``parts`` nodes is read."""
    memory, used = copy.deepcopy(memory), 0
    generator = torch.Generator().manual_seed(1)
    find = LastRead.find

    def counted(last: LastRead, nodes: Tensor) -> tuple[Tensor, Tensor]:
        nonlocal used
        row, there = find(last, nodes)
        used += int(there.sum())
        return row, there

    for k in range(8):
        src, dst = torch.randint(NODES, (2, 9), generator=generator)
        t, msg = 10 * k + torch.arange(9), torch.randn(9, 2, generator=generator)
        read = torch.cat((src, dst)).unique()[::parts]
        memory.zero_grad()
        loss = memory(read)[0].square().sum()
        if loss.requires_grad:  # nothing waits before the first batch
            loss.backward()
        between(memory)
        with mock.patch.object(LastRead, "find", counted):
            if isinstance(memory, SignedMemory):
                memory.update_state(src, dst, t, msg, 2 * (torch.arange(9) % 3 > 0).long() - 1)
            else:
                memory.update_state(src, dst, t, msg)
    return memory.memory, used


@pytest.mark.parametrize("between", [nothing, move_weights, fused_step, forget, replay])
@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_the_memory_is_that_of_states_computed_anew(kind: str, parts: int, between: Callable[..., None]) -> None:
    torch.manual_seed(0)
    memory = KINDS[kind]()
    found, used = stored(memory, between, parts)
    with mock.patch.object(LastRead, "holds", return_value=False):
        wanted, _ = stored(memory, between, parts)
    assert bool(wanted.any())
    assert torch.equal(found, wanted)
    if between in (move_weights, fused_step, replay) or kind in ("events of nodes", "reference", "transformer"):
        assert used == 0
    elif between is nothing:
        assert used > 20 // parts


def observe(memory: NodeMemory | SignedMemory) -> None:
    assert memory.pres is not None
    rows = torch.ones(2, memory.width)
    memory.pres.observe(torch.tensor([0, 3]), 0 * rows, rows, torch.ones(2))


def move_gate(memory: NodeMemory | SignedMemory) -> None:
    assert memory.pres is not None
    assert memory.pres.logit is not None
    memory.pres.logit.data += 1


@pytest.mark.parametrize("between", [nothing, fused_step, replay, observe, move_gate])
@pytest.mark.parametrize("options", [{}, {"gate": "kalman", "max_shift": None}, {"observe": "corrected"}])
@pytest.mark.parametrize("kind", ["gru", "signed"])
def test_with_pres(kind: str, options: dict[str, Any], between: Callable[..., None]) -> None:
    torch.manual_seed(0)
    memory = KINDS[kind]()
    memory.correct_by(PRES(NODES, memory.width, rate="per_event", **options))
    found, used = stored(memory, between, 2)
    with mock.patch.object(LastRead, "holds", return_value=False):
        wanted, _ = stored(memory, between, 2)
    assert (used > 0) == (between is nothing)
    assert torch.equal(found, wanted)
