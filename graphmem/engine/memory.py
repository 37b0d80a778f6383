"""How much memory training and evaluating GAE or NCN take, from sizes alone.

The model's operations are written down once more with sizes in place of tensors (:mod:`graphmem.engine.rehearsal`), in
the order and with the lifetimes of the model's own code: one line here for one operation there. ``docs/memory.md`` has
the resulting table. What the sizes do not say is estimated from a degree sequence (:func:`power_law_degrees`): how many
common neighbours a batch has, and of how many nodes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from graphmem.engine.memory_steps import FLOAT, LONG, Model, Overlap
from graphmem.engine.rehearsal import Block, Ledger, Memory, Tape
from graphmem.engine.workload import Workload

# Code, thread stacks and generator states that training touches first: what remains above the tensors of a graph of
# 2,000 nodes (20 to 22 MiB with torch 2.13 and two threads).
RUNTIME = 21 * 2**20

# Pairs of a chunk of evaluation, graphmem.nn.decoder.CHUNK_PAIRS.
_CHUNK = 2**14


def power_law_degrees(nodes: int, edges: int, max_degree: int) -> Any:
    r"""Degrees :math:`d_r = D (r + 1)^{-\gamma}`, r < N, float64 [N], with :math:`\gamma` so that they sum to 2E."""
    rank = np.log(np.arange(1, nodes + 1, dtype=np.float64))
    low, high = 0.0, 50.0
    for _ in range(60):
        gamma = (low + high) / 2
        low, high = (gamma, high) if max_degree * np.exp(-gamma * rank).sum() > 2 * edges else (low, gamma)
    return max_degree * np.exp(-high * rank)


# Common neighbours of a link beyond chance, as a share of the mean degree, where the workload does not say. It is an
# assumption: links close triangles in most real graphs, how many differs.
_CLOSURE = 0.1


class Estimates:
    r"""What depends on the graph and not on its sizes alone, from its degrees d.

    By chance (Chung, Lu 2002) a pair has :math:`d_i d_j \langle d^2 \rangle / (N \langle d \rangle^2)` common
    neighbours, most of them hubs: a node is one in proportion to :math:`d^2`. The ends of a link have the mean degree
    :math:`\langle d^2 \rangle / \langle d \rangle`. What links have beyond that comes from closed triangles, where a
    node is one in proportion to d.

    Args:
        w: the workload.
    """

    def __init__(self, w: Workload) -> None:
        degree = power_law_degrees(w.nodes, w.edges, w.max_degree)
        mean, square = 2 * w.edges / w.nodes, float((degree**2).mean())
        self._by_chance, self._by_closure = degree**2 / (square * w.nodes), degree / (mean * w.nodes)
        self.chance = min((square / mean) ** 2 * square / (w.nodes * mean**2), square / mean)
        self.negative = min(square / w.nodes, self.chance)
        given = w.common_neighbors
        self.closure = _CLOSURE * mean if given is None else max(0.0, given - self.chance)
        if given is not None:
            self.chance = min(self.chance, given)
        # Both edges to a common neighbour must be left when the links of a batch are taken out.
        self._left = (1 - w.batch / w.edges) ** 2 if w.remove_targets else 1.0

    @property
    def positive(self) -> float:
        """Mean number of common neighbours of a link."""
        return self.chance + self.closure

    def overlap(self, positives: int, negatives: int, step: bool) -> Overlap:
        """Common neighbours of so many links and non-links, in the graph of a training step or in all of it."""
        left = self._left if step else 1.0
        chance = left * (positives * self.chance + negatives * self.negative)
        closure = left * positives * self.closure
        nodes = float(-np.expm1(-chance * self._by_chance - closure * self._by_closure).sum())
        pairs = -positives * np.expm1(-left * self.positive) - negatives * np.expm1(-left * self.negative)
        return Overlap(chance + closure, nodes, float(pairs))


@dataclass(frozen=True)
class Phase:
    """The fullest moment of a phase.

    Args:
        peak: bytes above the level after import.
        held: what they are, by purpose.
    """

    peak: int
    held: dict[str, int]


@dataclass(frozen=True)
class MemoryPlan:
    """Prediction for a workload.

    Args:
        setup: building graph and task.
        training: an epoch's steps, with gradients and Adam's state.
        evaluation: scoring validation and test links between epochs.
        checkpoint: writing weights and optimizer.
    """

    setup: Phase
    training: Phase
    evaluation: Phase
    checkpoint: Phase

    @property
    def peak(self) -> int:
        """Bytes that a run takes at most above the level after import."""
        return max(self.setup.peak, self.training.peak, self.evaluation.peak, self.checkpoint.peak)


class _Run:
    """A run with blocks: each method a phase, in the order of :class:`~graphmem.engine.trainer.Trainer`."""

    def __init__(self, w: Workload) -> None:
        self.w, self.estimates = w, Estimates(w)
        self.ledger = Ledger()
        self.parameters: dict[str, Block] = {}
        self.kept = [self._memory("runtime", RUNTIME)]
        self.features = None if w.features == 0 else Block(self._memory("features", FLOAT * w.nodes * w.features))
        self.eval_pairs = 6 * w.edges // 7 if w.eval_pairs is None else w.eval_pairs

    def _memory(self, purpose: str, size: float) -> Memory:
        return Memory(self.ledger, purpose, size)

    def _phase(self) -> Phase:
        return Phase(*self.ledger.take_peak())

    def setup(self) -> Phase:
        """Links, and the graph: ``CSRGraph.from_edge_index`` sorts the links in both directions."""
        w = self.w
        self.kept += [self._memory("links", 2 * LONG * (w.edges + self.eval_pairs))]
        slots = 2 * w.edges
        ids = LONG if w.nodes >= 2**31 else 4
        # source, target, key, sorted key, its slot, count, row, column, and the column once more in 32 bits
        work = self._memory("set-up", 8 * LONG * slots + ids * slots + LONG * w.nodes)
        del work
        self.kept += [self._memory("graph", ids * slots + LONG * w.nodes + LONG * slots)]  # rowptr, col, row
        return self._phase()

    def train(self, first: bool) -> Phase:
        """An epoch: order and negatives, then steps."""
        w = self.w
        epoch = self._memory("epoch", LONG * w.edges + 2 * LONG * w.edges)
        if first:  # degree and transpose, made by the first step and kept
            self.kept += [self._memory("graph", 2 * LONG * w.nodes + (4 + LONG) * 2 * w.edges)]
        tape = Tape(self.ledger, self.parameters, training=True)
        tape.drop_gradients()
        pairs = tape.block(2 * LONG * 2 * w.batch, "batch")
        parts = tape.block(2 * LONG * 2 * w.batch, "batch")
        hidden = tape.block(2 * w.edges + 2 * LONG * w.nodes if w.remove_targets else 0, "batch")
        model = Model(w, tape, self.features)
        h = model.encode()
        loss = model.decode(h, pairs, 2 * w.batch, self.estimates.overlap(w.batch, w.batch, step=True))
        del h, pairs, hidden
        tape.backward(loss)
        if first:
            size = self._parameter_bytes()
            self.kept += [self._memory("optimizer", 2 * size)]
            self.kept += [self._memory("average", size if w.average else 0)]
        del epoch, loss, parts
        return self._phase()

    def evaluate(self) -> Phase:
        """Encode, then score the larger of the two sets; all its positives' common neighbours count."""
        w = self.w
        swapped = self._memory("average", self._parameter_bytes() if w.average else 0)
        tape = Tape(self.ledger, self.parameters, training=False)
        tape.purpose = "evaluation"
        largest = 2 * self.eval_pairs // 3
        scores = self._memory("evaluation", (2 * LONG + 2 * LONG + 2 * FLOAT) * largest)
        model = Model(w, tape, self.features)
        h = model.encode()
        chunk = min(_CHUNK, largest)
        model.score(
            h, chunk, self.estimates.overlap(min(chunk, largest // 2), max(0, chunk - largest // 2), step=False)
        )
        del h, scores, swapped
        return self._phase()

    def checkpoint(self, first: bool) -> Phase:
        """The best weights are copied and kept; a checkpoint copies weights, optimizer, average and best weights."""
        size = self._parameter_bytes()
        if first:
            self.kept += [self._memory("best weights", size)]
        copies = self._memory("checkpoint", (5 if self.w.average else 4) * size)
        del copies
        return self._phase()

    def _parameter_bytes(self) -> int:
        return sum(block.size for block in self.parameters.values())


def plan_memory(w: Workload) -> MemoryPlan:
    """Predict the peak memory of a run on the CPU, phase by phase.

    Not included: reading and splitting a data set (see ``docs/memory.md``), and what other threads' stacks and the
    allocator's gaps add.
    """
    run = _Run(w)
    setup = run.setup()
    run.train(first=True)  # what a first epoch leaves, an epoch finds
    run.evaluate()
    run.checkpoint(first=True)
    training, evaluation, checkpoint = run.train(first=False), run.evaluate(), run.checkpoint(first=False)
    return MemoryPlan(setup, training, evaluation, checkpoint)
