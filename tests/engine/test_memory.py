"""The memory model: its arithmetic, that it follows the code that it stands for, and one run that is measured."""

from __future__ import annotations

import dataclasses
import gc
import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from graphmem import ops
from graphmem.allocator import THRESHOLD
from graphmem.data.dataset import LinkSplit
from graphmem.data.generators import power_law
from graphmem.data.graph import CSRGraph
from graphmem.data.splits import split_edges
from graphmem.engine.link_task import LinkPredictionTask
from graphmem.engine.memory import RUNTIME, Estimates, plan_memory, power_law_degrees
from graphmem.engine.memory_steps import Model, Overlap
from graphmem.engine.rehearsal import Block, Ledger, Memory, Tape
from graphmem.engine.workload import Workload
from graphmem.errors import ArgumentError
from graphmem.models import GAE, NCN, LinkModel

MIB = 2**20
SMALL = Workload(nodes=2000, edges=8000, features=32, hidden=64, batch=1024, max_degree=100)
BIG = THRESHOLD  # such blocks are mapped one by one


def _tape(ledger: Ledger) -> Tape:
    return Tape(ledger, {}, training=True)


def test_a_block_counts_while_it_is_referred_to() -> None:
    ledger = Ledger()
    block = Block(Memory(ledger, "a", BIG))
    other = block
    del block
    assert ledger.now == BIG
    del other
    assert ledger.now == 0
    assert ledger.take_peak() == (BIG, {"a": BIG})
    assert ledger.take_peak() == (0, {})


def test_the_heap_keeps_its_largest_extent() -> None:
    ledger = Ledger()
    small = Memory(ledger, "a", BIG - 1)
    del small
    assert ledger.now == BIG - 1
    keep = Memory(ledger, "b", 10)
    ledger.take_peak()
    assert ledger.take_peak() == (BIG - 1, {"b": 10, "heap gaps": BIG - 11})
    del keep


def test_large_blocks_are_of_whole_pages() -> None:
    ledger = Ledger(threshold=100, page=64)
    large, small = Memory(ledger, "a", 130), Memory(ledger, "b", 70)
    assert ledger.now == 192 + 70
    del large, small
    assert ledger.take_peak() == (262, {"a": 130, "b": 70, "page ends": 62})
    assert ledger.now == 70  # the heap's extent


def test_saved_memory_lives_until_its_gradient_is_done() -> None:
    ledger = Ledger()
    tape = _tape(ledger)
    weight = tape.parameter("w", BIG)
    first = tape.apply(2 * BIG, [weight], saved=[tape.block(3 * BIG)])
    loss = tape.apply(BIG, [first], saved=[first])
    del first
    assert ledger.now == BIG + 3 * BIG + 2 * BIG + BIG
    ledger.take_peak()
    tape.backward(loss)
    # gradients of the loss and of its input; the saved block goes before the parameter's gradient comes
    assert ledger.take_peak()[0] == 7 * BIG + BIG + 2 * BIG
    del loss
    assert ledger.held["gradients"] == BIG
    assert ledger.now == 2 * BIG
    tape.drop_gradients()
    assert ledger.now == BIG


def test_a_gradient_that_passes_is_not_copied() -> None:
    ledger = Ledger()
    tape = _tape(ledger)
    a, b = tape.parameter("a", BIG), tape.parameter("b", BIG)
    tape.backward(tape.apply(BIG, [a, b], passes=2))
    assert ledger.held["gradients"] == BIG
    ledger = Ledger()
    tape = _tape(ledger)
    a, b = tape.parameter("a", BIG), tape.parameter("b", BIG)
    tape.backward(tape.apply(BIG, [a, b]))
    assert ledger.held["gradients"] == 2 * BIG


def test_nothing_is_saved_in_evaluation() -> None:
    ledger = Ledger()
    tape = Tape(ledger, {}, training=False)
    Model(SMALL, tape, Block(Memory(ledger, "features", 0))).encode()
    assert ledger.held["encoder"] == 0


@pytest.mark.parametrize(
    ("nodes", "edges", "largest"), [(1000, 4000, 200), (50, 49 * 25, 49), (100_000, 400_000, 1405)]
)
def test_degrees_have_the_sum_and_the_largest_that_were_asked_for(nodes: int, edges: int, largest: int) -> None:
    degree = power_law_degrees(nodes, edges, largest)
    assert degree.sum() == pytest.approx(2 * edges, rel=1e-6)
    assert degree.max() == pytest.approx(largest)
    assert (np.diff(degree) <= 0).all()


def test_estimates_follow_a_real_graph() -> None:
    split = split_edges(power_law(20_000, 100_000), protocol="random")
    graph = CSRGraph.from_edge_index(split.train, split.num_nodes, symmetric=True)
    common = float(ops.cn_count(graph, split.train).double().mean())
    workload = Workload(
        nodes=20_000,
        edges=split.num_train,
        features=1,
        hidden=1,
        batch=16_384,
        max_degree=int(graph.degree().max()),
        common_neighbors=common,
    )
    links = split.train[:, torch.randperm(split.num_train, generator=torch.Generator().manual_seed(0))[:16_384]]
    part = ops.cn_index(graph.without_edges(links), links, parts=("cn",))["cn"]
    found = Estimates(workload).overlap(16_384, 0, step=True)
    assert found.entries == pytest.approx(part.idx.numel(), rel=0.1)
    assert found.nodes == pytest.approx(part.idx.unique().numel(), rel=0.15)
    assert found.pairs == pytest.approx(int((part.ptr.diff() > 0).sum()), rel=0.1)


@pytest.fixture(scope="module")
def split() -> LinkSplit:
    return split_edges(power_law(4000, 20_000), protocol="random")


def _tensor_peak(model: LinkModel, task: LinkPredictionTask) -> int:
    """Most bytes of tensors that a training step takes above what is there before."""
    batch = next(iter(task.batches("train", 1)))
    task.loss(model, batch).backward()  # type: ignore[no-untyped-call]
    model.zero_grad(set_to_none=True)
    gc.collect()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        task.loss(model, batch).backward()  # type: ignore[no-untyped-call]
    events = [event for event in record.profiler.kineto_results.events() if event.name() == "[memory]"]  # type: ignore[union-attr]
    now = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return peak


OPTIONS = [
    {"layers": 1},
    {"layers": 3, "jk": True, "input_dropout": 0.5, "dropout": 0.1, "pair_dropout": 0.3, "pair_edge_dropout": 0.2},
    {"layers": 3, "conv": "gcn", "residual": True, "edge_dropout": 0.2, "tail_act": False, "two_layer_lin": True},
    {"layers": 1, "conv": "puresum", "use_xlin": False, "norm": False},
]


@pytest.mark.parametrize("options", OPTIONS, ids=["default", "dropouts", "gcn", "sum"])
@pytest.mark.parametrize("name", ["gae", "ncn"])
def test_the_rehearsal_follows_the_tensors_of_a_step(name: str, options: dict[str, Any], split: LinkSplit) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4000, 48, generator=generator)
    task = LinkPredictionTask(split, x, batch_size=2048, metrics=("hits@20",))
    width = 96
    chosen = {key: value for key, value in options.items() if key != "layers"}
    model: LinkModel = {"gae": GAE, "ncn": NCN}[name](48, width, options["layers"], **chosen)
    batch = next(iter(task.batches("train", 1)))
    part = ops.cn_index(task.graph.without_edges(batch.pos), torch.cat(batch, dim=1), parts=("cn",))["cn"]
    overlap = Overlap(part.idx.numel(), part.idx.unique().numel(), int((part.ptr.diff() > 0).sum()))
    workload = Workload(
        nodes=4000,
        edges=split.num_train,
        features=48,
        hidden=width,
        batch=2048,
        max_degree=int(task.graph.degree().max()),
        model=name,
        **options,
    )
    ledger = Ledger()
    tape = _tape(ledger)
    rehearsed = Model(workload, tape, Block(Memory(ledger, "features", 4 * 4000 * 48)))
    rehearsed.decode(rehearsed.encode(), tape.block(0), 4096, overlap)  # makes the parameters
    parameters = sum(block.size for block in tape.parameters.values())
    assert parameters == 4 * sum(p.numel() for p in model.parameters())
    assert _rehearsed_peak(workload, overlap) == pytest.approx(_tensor_peak(model, task), rel=0.05)


def _rehearsed_peak(workload: Workload, overlap: Overlap) -> int:
    ledger = Ledger(threshold=0, page=1)  # tensors, not what the allocator makes of them
    parameters: dict[str, Block] = {}
    features = Block(Memory(ledger, "features", 4 * workload.nodes * workload.features))
    for _ in range(2):  # the second time parameters are there
        tape = Tape(ledger, parameters, training=True)
        tape.drop_gradients()
        before = ledger.now
        ledger.take_peak()
        pairs = tape.block(16 * 2 * workload.batch)
        hidden = tape.block(2 * workload.edges + 16 * workload.nodes)
        model = Model(workload, tape, features)
        tape.backward(model.decode(model.encode(), pairs, 2 * workload.batch, overlap))
        del pairs, hidden, model
    return ledger.take_peak()[0] - before


def test_phases_and_their_sums() -> None:
    plan = plan_memory(SMALL)
    for phase in (plan.setup, plan.training, plan.evaluation, plan.checkpoint):
        assert phase.peak == sum(phase.held.values())
        assert phase.held["runtime"] == RUNTIME
        assert phase.held["features"] == 4 * 2000 * 32
    assert plan.peak == max(p.peak for p in (plan.setup, plan.training, plan.evaluation, plan.checkpoint))
    parameters = 4 * sum(p.numel() for p in NCN(32, 64).parameters())
    assert plan.training.held["parameters"] == parameters
    assert plan.training.held["optimizer"] == 2 * parameters
    assert plan.checkpoint.held["checkpoint"] == 4 * parameters
    averaged = plan_memory(dataclasses.replace(SMALL, average=True))
    assert averaged.evaluation.held["average"] == 2 * parameters
    assert averaged.checkpoint.held["checkpoint"] == 5 * parameters


@pytest.mark.parametrize("field", ["features", "hidden", "batch", "edges", "layers"])
def test_more_of_anything_takes_more(field: str) -> None:
    base = dataclasses.replace(SMALL, nodes=100_000, edges=400_000, hidden=128, batch=32_768, max_degree=1000)
    grown = dataclasses.replace(base, **{field: 2 * getattr(base, field)})
    assert plan_memory(grown).peak > plan_memory(base).peak


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"nodes": 0}, "nodes: expected at least 1"),
        ({"features": -1}, "features: expected a number that is not negative"),
        ({"model": "ncnc"}, "model: expected gae or ncn"),
        ({"conv": "max"}, "conv: expected one of"),
        ({"batch": 8001}, "batch: expected at most the 8000 training links"),
        ({"max_degree": 2000}, "max_degree: expected a number from the mean degree 8.0 to 1999"),
        ({"max_degree": 7}, "max_degree: expected a number from the mean degree 8.0 to 1999"),
        ({"dropout": 1.0}, r"dropout: expected a probability in \[0, 1\)"),
    ],
)
def test_bad_workloads(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        dataclasses.replace(SMALL, **change)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux' resident set counters")
def test_prediction_beside_a_measured_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(__file__).parents[2] / "benchmarks"
    monkeypatch.syspath_prepend(str(folder))
    script = importlib.import_module("plan")
    facts = script.prepare(script.CASES["small-ncn"], tmp_path / "split.pt")
    words = [sys.executable, str(folder / "plan.py"), "--measure", "small-ncn", str(tmp_path / "split.pt")]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    measured = json.loads(done.stdout.splitlines()[-1])["training"]
    assert measured > 150 * MIB
    # The benchmark's own claim is 10 %; here the machine may be another one.
    assert plan_memory(Workload(**facts["told"])).peak == pytest.approx(measured, rel=0.25)
