"""A training step rehearsed with sizes instead of tensors: which memory is held when.

A :class:`Block` stands for a tensor. Its memory counts as long as Python refers to it, as a tensor's does, so code that
is written like the model's own takes and releases the same memory at the same moments. A :class:`Tape` adds what
autograd holds: what an operation saves for its gradient lives until that gradient is done, and a gradient until it is
used. Nothing is computed and nothing is allocated.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from graphmem.allocator import PAGE, THRESHOLD


class Ledger:
    """Bytes held now, by purpose, and what was held when they were most.

    Blocks below :data:`~graphmem.allocator.THRESHOLD` come from the heap, which does not shrink: what was its largest
    extent stays resident, and counts as gaps once its blocks are free. The others are of whole pages.

    Args:
        threshold: smallest block that does not come from the heap.
        page: bytes of a page of the blocks that do not.
    """

    def __init__(self, threshold: int = THRESHOLD, page: int = PAGE) -> None:
        self._threshold, self._page = threshold, page
        self.held: Counter[str] = Counter()
        self._mapped = self._page_ends = self._heap = self._extent = 0
        self._peak: tuple[int, dict[str, int]] = (0, {})
        self._peak_in_use = 0

    @property
    def now(self) -> int:
        """Resident bytes."""
        return self._mapped + self._extent

    def add(self, purpose: str, size: int) -> None:
        """Take (or, negative, give back) a block."""
        self.held[purpose] += size
        if abs(size) >= self._threshold:
            ends = -size % self._page if size > 0 else -(size % self._page)
            self._page_ends += ends
            self._mapped += size + ends
        else:
            self._heap += size
            self._extent = max(self._extent, self._heap)
        # Of moments with the same resident size, the one with the most in use.
        if (self.now, self._mapped + self._heap) > (self._peak[0], self._peak_in_use):
            self._note()

    def _note(self) -> None:
        held = {**self.held, "heap gaps": self._extent - self._heap, "page ends": self._page_ends}
        self._peak_in_use = self._mapped + self._heap
        self._peak = self.now, {name: size for name, size in held.items() if size}

    def take_peak(self) -> tuple[int, dict[str, int]]:
        """The most that was resident since the last call, and what it was."""
        peak = self._peak
        self._note()
        return peak


class Memory:
    """Bytes on a ledger as long as this object lives."""

    __slots__ = ("ledger", "purpose", "size")

    def __init__(self, ledger: Ledger, purpose: str, size: float) -> None:
        self.ledger, self.purpose, self.size = ledger, purpose, int(size)
        ledger.add(purpose, self.size)

    def __del__(self) -> None:
        self.ledger.add(self.purpose, -self.size)


@dataclass(frozen=True, eq=False)
class Block:
    """A tensor: its memory and, where a gradient flows back, the operation that made it."""

    memory: Memory
    node: Node | None = None

    @property
    def size(self) -> int:
        """Bytes."""
        return self.memory.size


class Node:
    """An operation on the tape or, with the number -1, a parameter.

    Args:
        number: position on the tape; gradients run from the last to the first.
        size: bytes of the result, and so of its gradient.
        inputs: the operations that the gradient goes on to.
        saved: what computing the gradient reads.
        passes: to so many of the first inputs the gradient goes on as it is, without a copy.
        scratch: bytes that computing the gradient takes besides its results.
    """

    def __init__(
        self,
        number: int,
        size: int,
        inputs: Sequence[Node] = (),
        saved: Sequence[Memory] = (),
        passes: int = 0,
        scratch: float = 0,
    ) -> None:
        self.number, self.size, self.passes, self.scratch = number, size, passes, scratch
        self.inputs, self.saved = list(inputs), list(saved)
        self.gradient: Memory | None = None


class Tape:
    """Operations on blocks.

    Args:
        ledger: where memory counts; results under :attr:`purpose`.
        parameters: the model's, made when they are first asked for; kept by the caller.
        training: whether gradients are wanted.
    """

    def __init__(self, ledger: Ledger, parameters: dict[str, Block], training: bool) -> None:
        self.ledger, self.parameters, self.training = ledger, parameters, training
        self.purpose = "encoder"
        self._count = 0

    def block(self, size: float, purpose: str | None = None) -> Block:
        """A tensor that no gradient flows through."""
        return Block(Memory(self.ledger, purpose or self.purpose, size))

    def parameter(self, name: str, size: float) -> Block:
        """A parameter of the model."""
        if name not in self.parameters:
            memory = Memory(self.ledger, "parameters", size)
            self.parameters[name] = Block(memory, Node(-1, memory.size))
        return self.parameters[name]

    def apply(
        self,
        size: float,
        inputs: Sequence[Block],
        *,
        saved: Sequence[Block] = (),
        save_result: bool = False,
        passes: int = 0,
        scratch: float = 0,
        gradient_scratch: float = 0,
    ) -> Block:
        """An operation.

        Args:
            size: bytes of the result.
            inputs: what it reads; their gradients are as large as they are.
            saved: what its gradient reads again.
            save_result: whether its gradient reads the result too.
            passes: to so many of the first inputs the gradient goes on as it is (a sum's), without a copy.
            scratch: bytes that it takes while it runs.
            gradient_scratch: bytes that computing its gradient takes besides the results.
        """
        work = Memory(self.ledger, self.purpose, scratch)
        memory = Memory(self.ledger, self.purpose, size)
        del work
        sources = [block.node for block in inputs if block.node is not None]
        if not self.training or not sources:
            return Block(memory)
        self._count += 1
        kept = [*(block.memory for block in saved), *([memory] if save_result else [])]
        return Block(memory, Node(self._count, memory.size, sources, kept, passes, gradient_scratch))

    def backward(self, loss: Block) -> None:
        """Run the gradients, the last operation first; what an operation saved goes when its gradient is done."""
        assert loss.node is not None
        loss.node.gradient = Memory(self.ledger, "gradients", loss.size)
        ready = [(-loss.node.number, loss.node)]
        while ready:
            for source in self._step(heapq.heappop(ready)[1]):
                heapq.heappush(ready, (-source.number, source))

    def _step(self, node: Node) -> list[Node]:
        """Gradients of one operation's inputs; returns the operations among them that got their first."""
        gradient, node.gradient = node.gradient, None
        assert gradient is not None
        work = Memory(self.ledger, "gradients", node.scratch)
        parts = [
            gradient if k < node.passes else Memory(self.ledger, "gradients", source.size)
            for k, source in enumerate(node.inputs)
        ]
        del work
        first = []
        for source, part in zip(node.inputs, parts, strict=True):
            if source.gradient is None:
                source.gradient = part
                if source.number >= 0:
                    first.append(source)
            elif part is gradient:  # two owners, so that the sum cannot be written in place
                source.gradient = Memory(self.ledger, "gradients", source.size)
        node.saved.clear()
        node.inputs.clear()
        return first

    def drop_gradients(self) -> None:
        """Release the parameters' gradients, as ``zero_grad`` does."""
        for block in self.parameters.values():
            assert block.node is not None
            block.node.gradient = None
