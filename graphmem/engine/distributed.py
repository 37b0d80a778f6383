"""Training one model by several processes, each on its share of every batch's pairs.

``torchrun --nproc-per-node N -m graphmem.cli train ...`` starts N processes (ranks). The global batch is that of one
process, and so is its result, to rounding, where nothing is dropped:

* Order and negatives are functions of (seed, epoch, event), so every rank makes the whole global batch by itself and
  scores every N-th pair of it. Nothing is sent.
* Every rank takes *all* links of the global batch out of the graph, not only those that it scores: the graph that a
  step reads is part of the function that is trained. A rank that removed its own links only would see the other ranks'
  targets, as neighbours and as messages, and its gradient would be that of another, leaking loss.
* Gradients are added up by one ``all_reduce`` of one vector, which carries the loss too.
* Dropout draws from a generator that is seeded by (seed, epoch, batch, rank), so a resumed run draws the same.
* Evaluation scores every N-th pair, gathers the scores, and every rank computes the same metrics from all of them.
* Memories of a stream: every rank shows its model all events of the global batch, and all have the same
  weights, so all have the same state without sending it.

Every rank encodes the whole graph: what is divided is the work on pairs. Only rank 0 reads checkpoints, writes files
and speaks. ``DistributedDataParallel`` is not used: it averages over ranks, which is wrong for shares of different
size, and a step calls ``encode`` and ``decode`` rather than ``forward``, which its hooks would miss.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from graphmem.data.negatives import combine
from graphmem.engine.interrupt import InterruptGuard
from graphmem.engine.stepping import step_optimizer
from graphmem.engine.trainer import NonFiniteLossError, Trainer
from graphmem.errors import DistributedError, GraphMemError

T = TypeVar("T")


class Group:
    """The processes of a run.

    Args:
        rank: number of this process.
        size: number of processes.
    """

    def __init__(self, rank: int, size: int) -> None:
        self.rank, self.size = rank, size

    @property
    def is_first(self) -> bool:
        """Whether this process writes and speaks."""
        return self.rank == 0

    def rows(self, items: Tensor) -> Tensor:
        """Share of this rank of [P, ...]: every ``size``-th."""
        return items[self.rank :: self.size].contiguous()

    def shard(self, pairs: Tensor) -> Tensor:
        """Share of this rank of the columns of [2, P]: every ``size``-th."""
        return pairs[:, self.rank :: self.size].contiguous()

    def gather(self, values: Tensor, total: int) -> Tensor:
        """Undo :meth:`rows` or :meth:`shard`: from the values of every rank's items [P / size, ...] to all [P, ...]."""
        longest = -(-total // self.size)
        mine = values.new_zeros(longest, *values.shape[1:])
        mine[: values.size(0)] = values
        parts = [torch.empty_like(mine) for _ in range(self.size)]
        _checked(lambda: dist.all_gather(parts, mine))
        return torch.stack(parts, dim=1).flatten(0, 1)[:total]

    def add_up(self, vector: Tensor) -> Tensor:
        """Sum of every rank's vector, in place."""
        _checked(lambda: dist.all_reduce(vector))
        return vector

    def first(self, function: Callable[[], T]) -> T:
        """Run on rank 0; every rank gets its result, or its error."""
        message: list[Any] = [None, None]
        if self.is_first:
            try:
                message[0] = function()
            except (GraphMemError, OSError) as error:
                message[1] = error
        _checked(lambda: dist.broadcast_object_list(message))
        if message[1] is not None:
            raise message[1]
        result: T = message[0]
        return result

    def first_alone(self, function: Callable[[], T]) -> T:
        """Run on every rank, rank 0 before the others: for what leaves a file behind that they then find."""
        mine: list[T] = []
        self.first(lambda: mine.append(function()))
        return mine[0] if mine else function()


def launched() -> bool:
    """Whether ``torchrun`` (or what sets the same variables) started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and "RANK" in os.environ


def num_processes() -> int:
    """Number of processes of this run."""
    return int(os.environ["WORLD_SIZE"]) if launched() else 1


def is_first() -> bool:
    """Whether this process is the only one or rank 0; known before anything is connected."""
    return not launched() or os.environ["RANK"] == "0"


def local_device(name: str) -> str:
    """A device of this rank's own where "cuda" or "auto" means several: the one of its number on this machine."""
    if launched() and name in ("cuda", "auto") and torch.cuda.is_available():
        return f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    return name


@contextmanager
def connected(device: str = "cpu") -> Iterator[Group | None]:
    """Connect the processes that ``torchrun`` started; None where there is only one.

    Args:
        device: NCCL carries what lies on "cuda" devices, gloo the rest.

    Raises:
        DistributedError: the processes do not find each other.
    """
    if not launched():
        yield None
        return
    cuda = device.startswith("cuda")
    if cuda:
        torch.cuda.set_device(device)
    _checked(lambda: dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo"))
    try:
        yield Group(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()


def _checked(collective: Callable[[], Any]) -> None:
    try:
        collective()
    except (RuntimeError, ValueError) as error:
        where = f"rank {os.environ.get('RANK', '?')} of {os.environ.get('WORLD_SIZE', '?')}"
        raise DistributedError(f"{where}: another process does not answer, it may have ended: {error}") from error


class DistributedTrainer(Trainer):
    """A :class:`Trainer` on every rank of a group, all of which take the same steps.

    Args:
        model: as for :class:`Trainer`; rank 0's weights are sent to the others.
        task: one whose loss and scores are shares of this group, such as
            ``LinkPredictionTask(..., group=group)``.
        optimizer: as for :class:`Trainer`.
        group: the processes.
        **options: as for :class:`Trainer`; callbacks and the progress bar are rank 0's.
    """

    interrupt_grace = 2.0

    def __init__(
        self, model: nn.Module, task: Any, optimizer: torch.optim.Optimizer, *, group: Group, **options: Any
    ) -> None:
        self.group = group
        if not group.is_first:
            options = {**options, "callbacks": (), "progress": False}
        super().__init__(model, task, optimizer, **options)

    def _begin(self) -> None:
        with torch.no_grad():
            parameters = list(self.model.parameters())
            vector = torch.cat([p.flatten() for p in parameters])
            _checked(lambda: dist.broadcast(vector, 0))
            _copy_back(vector, parameters)
        super()._begin()

    def train_step(self, batch: Any) -> float:
        """Learn from this rank's share of a batch; returns the loss of the whole batch."""
        torch.manual_seed(combine(self.seed or 0, self.epoch, self.batch_index, self.group.rank))
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.task.loss(self.model, batch)
        loss.backward()  # type: ignore[no-untyped-call]
        value = self._add_up_gradients(loss.detach())
        if not math.isfinite(value):
            raise NonFiniteLossError(
                f"the loss must be finite, got {value} in epoch {self.epoch}, batch {self.batch_index} (from 0)"
            )
        self._clip()
        self.advance(batch)
        step_optimizer(self.optimizer)
        return value

    def _add_up_gradients(self, loss: Tensor) -> float:
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        # A parameter that no rank used keeps no gradient, so that the optimizer leaves it alone as in one process.
        used = loss.new_tensor([float(p.grad is not None) for p in parameters])
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        vector = self.group.add_up(torch.cat([*(g.flatten() for g in gradients), used, loss.reshape(1)]))
        # Copied back, not taken as they are: fused optimizers read a gradient in the memory order of its parameter.
        _copy_back(vector, gradients)
        *ranks, value = vector[-1 - len(parameters) :].tolist()
        for parameter, gradient, count in zip(parameters, gradients, ranks, strict=True):
            parameter.grad = gradient if count > 0 else None
        return float(value)

    def save(self) -> None:
        """Write the checkpoint, on rank 0."""
        if self.group.is_first:
            super().save()

    def _find_checkpoint(self, resume: bool) -> dict[str, Any] | None:
        find = super()._find_checkpoint
        return self.group.first(lambda: find(resume))

    def _interrupted(self, guard: InterruptGuard) -> bool:
        # A callback of rank 0 may have asked for the end too.
        flags = next(self.model.parameters()).new_tensor([float(guard.requested), float(self._stop)])
        requested, stop = self.group.add_up(flags).tolist()
        self._stop = stop > 0
        return bool(requested > 0)


def _copy_back(vector: Tensor, tensors: Sequence[Tensor]) -> None:
    """Write a vector, which may be longer, into the tensors that it was made of."""
    start = 0
    for tensor in tensors:
        tensor.copy_(vector[start : start + tensor.numel()].view_as(tensor))
        start += tensor.numel()
