from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from graphmem.errors import ArgumentError
from graphmem.nn.state import (
    StateModule,
    detach_state,
    grow_state,
    reset_state,
    restore_state,
    snapshot_state,
    state_modules,
)


class Memory(StateModule):
    def __init__(self, num_nodes=4):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2))
        self.register_state("rows", (num_nodes, 2))
        self.register_state("last", (num_nodes,), dtype=torch.int64, fill=-1)
        self.register_state("queue", (0, 3), dtype=torch.float64, per_node=False)
        self.register_state("clock", (), dtype=torch.int64, per_node=False)


class Outer(StateModule):
    def __init__(self):
        super().__init__()
        self.inner = Memory()
        self.layers = nn.ModuleList([nn.Linear(2, 2), Memory(3)])
        self.same = self.inner
        self.register_state("count", (2,))


def fill(memory):
    memory.rows = torch.arange(8.0).view(4, 2)
    memory.last = torch.arange(4)
    memory.queue = torch.ones(5, 3, dtype=torch.float64)
    memory.clock = torch.tensor(7)
    return memory


def values(memory):
    return {name: value.tolist() for name, value in memory.named_buffers()}


EMPTY = {"rows": [[0.0, 0.0]] * 4, "last": [-1] * 4, "clock": 0}


def test_reset_and_weights():
    memory = fill(Memory())
    memory.reset()
    found = values(memory)
    assert {k: found[k] for k in EMPTY} == EMPTY
    assert memory.weight.tolist() == [1, 1]
    assert memory.last.dtype == torch.int64


def test_snapshot_is_a_copy_both_ways():
    memory = fill(Memory())
    before = values(memory)
    snapshot = memory.snapshot()
    memory.rows[0] = 99  # in place
    memory.reset()
    memory.restore(snapshot)
    assert values(memory) == before
    memory.rows[0] = 99
    memory.restore(snapshot)  # and once more
    assert values(memory) == before
    with pytest.raises(ArgumentError, match=r"snapshot of Memory must hold \['clock'.*got \['rows'\]"):
        memory.restore({"rows": torch.zeros(4, 2)})


def test_reset_keeps_an_autograd_graph_usable():
    memory = fill(Memory())
    loss = (memory.weight * memory.rows).pow(2).sum()
    memory.reset()
    loss.backward()
    assert memory.weight.grad is not None


def test_detach():
    memory = Memory()
    memory.rows = memory.rows + memory.weight
    assert memory.rows.requires_grad
    assert not memory.snapshot()["rows"].requires_grad
    memory.detach()
    assert not memory.rows.requires_grad
    assert memory.rows.tolist() == [[1, 1]] * 4


def test_grow():
    memory = fill(Memory())
    memory.grow(6)
    assert memory.rows.tolist()[3:] == [[6, 7], [0, 0], [0, 0]]
    assert memory.last.tolist() == [0, 1, 2, 3, -1, -1]
    assert memory.clock == 7
    memory.grow(6)
    with pytest.raises(ArgumentError, match=r"num_nodes must be at least 6 \(rows of Memory.last\), got 5"):
        memory.grow(5)


def test_forget():
    memory = fill(Memory())
    memory.forget(nodes=torch.tensor([2, 0]))
    assert memory.rows.tolist() == [[0, 0], [2, 3], [0, 0], [6, 7]]
    assert memory.last.tolist() == [-1, 1, -1, 3]
    assert memory.clock == 7
    memory.forget()
    memory.forget(nodes=torch.empty(0, dtype=torch.int64))
    assert memory.last.tolist() == [-1, 1, -1, 3]
    with pytest.raises(ArgumentError, match=r"nodes must lie in \[0, 4\), got \[-1, 4\]"):
        memory.forget(nodes=torch.tensor([-1, 4]))
    with pytest.raises(ArgumentError, match=r"nodes must be int64 \[n\], got torch.float32 \[1\]"):
        memory.forget(nodes=torch.ones(1))
    with pytest.raises(ArgumentError, match="Memory does not record which event"):
        memory.forget(events=torch.tensor([0]))


def test_state_dict_of_another_size():
    source = fill(Memory())
    source.grow(9)
    target = Memory()
    target.load_state_dict(source.state_dict())
    assert values(target) == values(source)
    assert target.queue.shape == (5, 3)
    bad = source.state_dict() | {"rows": torch.zeros(9, 5)}
    with pytest.raises(RuntimeError, match="size mismatch for rows"):
        Memory().load_state_dict(bad)
    with pytest.raises(RuntimeError, match="Missing key"):
        Memory().load_state_dict({k: v for k, v in source.state_dict().items() if k != "clock"})


def test_loading_over_a_live_graph():
    memory = Memory()
    memory.rows = memory.rows + memory.weight
    loss = memory.rows.pow(2).sum()
    memory.load_state_dict(Memory().state_dict())
    assert not memory.rows.requires_grad
    loss.backward()
    assert memory.weight.grad.tolist() == [8, 8]


def test_whole_model():
    model = Outer()
    assert [path for path, _ in state_modules(model)] == ["", "inner", "layers.1"]
    fill(model.inner)
    model.count = torch.ones(2)
    snapshot = snapshot_state(model)
    reset_state(model)
    assert model.inner.clock == 0
    assert model.count.tolist() == [0, 0]
    restore_state(model, snapshot)
    assert model.inner.clock == 7
    assert model.count.tolist() == [1, 1]
    grow_state(model, 5)
    assert [m.rows.size(0) for _, m in state_modules(model) if hasattr(m, "rows")] == [5, 5]
    restore_state(model, snapshot)  # a snapshot brings its size
    assert model.inner.rows.size(0) == 4
    detach_state(model)
    with pytest.raises(ArgumentError, match=r"snapshot must hold the states \['', 'inner', 'layers.1'\], got \[\]"):
        restore_state(model, {})
    assert list(state_modules(nn.Linear(1, 1))) == []


def test_copy_and_dtype_moves():
    memory = fill(Memory())
    twin = copy.deepcopy(memory)
    memory.reset()
    assert twin.clock == 7
    half = twin.half()
    half.reset()
    assert half.rows.dtype == torch.float16
    assert half.last.dtype == torch.int64


def test_per_node_needs_a_node_dimension():
    with pytest.raises(ArgumentError, match="per-node state 'x' must be"):
        StateModule().register_state("x", ())


@pytest.mark.parametrize("cast", ["half", "float", "bfloat16", "double"])
def test_times_keep_their_type(cast):
    """Float32 resolves 128 s at today's Unix time."""
    memory = fill(Memory())
    memory.queue[0, 0] = 1_700_000_000.125
    assert getattr(memory, cast)() is memory
    kept = {"last": torch.int64, "queue": torch.float64, "clock": torch.int64}
    assert {name: memory.get_buffer(name).dtype for name in kept} == kept
    assert memory.queue[0, 0] == 1_700_000_000.125
    assert memory.rows.dtype == memory.weight.dtype == getattr(torch.ones(1), cast)().dtype
