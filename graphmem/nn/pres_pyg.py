"""PRES around memories: ours, and PyG's ``TGNMemory``."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from graphmem.errors import ArgumentTypeError
from graphmem.nn.aggregate import is_pyg
from graphmem.nn.correction import Correctable
from graphmem.nn.pres import PRES

Memory = TypeVar("Memory", bound=nn.Module)


def wrap_memory(memory: Memory, pres: PRES) -> Memory | CorrectedTGNMemory:
    """Let PRES correct a memory.

    Args:
        memory: something with ``correct_by`` (:class:`~graphmem.nn.NodeMemory`, the temporal link models), which is
            changed in place and returned; or PyG's ``TGNMemory``, which :class:`CorrectedTGNMemory` takes over.
        pres: for the memory's nodes and width.

    Returns:
        A module to use in the memory's place, whose ``aux_loss()`` is to be added to the loss where it is not ``None``.

    Raises:
        ArgumentTypeError: ``memory`` is neither.
        ArgumentError: ``pres`` is for another number of nodes or width.
    """
    if hasattr(memory, "correct_by"):
        memory.correct_by(pres)  # type: ignore[operator]
        return memory
    if is_pyg(memory, "TGNMemory"):
        return CorrectedTGNMemory(memory, pres)
    raise ArgumentTypeError(
        f"memory: expected one with correct_by(pres), or PyG's TGNMemory, got {type(memory).__name__}"
    )


class CorrectedTGNMemory(Correctable):
    """PyG's ``TGNMemory`` with its updates corrected, with the same ``forward`` and ``update_state``.

    Nodes without waiting mail are left alone, though PyG's module runs its updater for them, too; so is mail that it
    reads a second time (it empties only one of a node's two stores).

    PyG's module does not save its mail: what waited is lost with ``state_dict()``. Behind ``load_state_dict`` no node
    waits therefore, and mail that the module still has from before is left alone, too.

    Args:
        memory: its method ``_get_updated_memory``, through which it reads and writes, is replaced.
        pres: for its nodes and width.

    Raises:
        ArgumentError: ``pres`` is for another number of nodes or width.
    """

    def __init__(self, memory: Any, pres: PRES) -> None:
        super().__init__()
        self.tgn: Any = memory
        self._update_of_tgn = memory._get_updated_memory
        self._writes = False
        memory._get_updated_memory = self._get_updated_memory
        self._write_of_tgn = memory._update_memory
        memory._update_memory = self._update_memory
        self.correct_by(pres)
        self.register_load_state_dict_post_hook(_nobody_waits)  # type: ignore[no-untyped-call]

    def _stored(self) -> Tensor:
        out: Tensor = self.tgn.memory
        return out.detach()

    def _since(self, nodes: Tensor) -> Tensor:
        out: Tensor = self.tgn.last_update.index_select(0, nodes)
        return out

    def _read(self, nodes: Tensor) -> Tensor:
        return self(nodes)[0]  # type: ignore[no-any-return]

    def forward(self, n_id: Tensor) -> tuple[Tensor, Tensor]:
        """States [n, d] and times [n] of the last events of distinct nodes int64 [n]."""
        out: tuple[Tensor, Tensor] = self.tgn(n_id)
        return out

    def update_state(self, src: Tensor, dst: Tensor, t: Tensor, raw_msg: Tensor, types: Tensor | None = None) -> None:
        """Take in the events of a batch, as ``TGNMemory`` does.

        Args:
            src: int64 [E].
            dst: int64 [E].
            t: int64 [E].
            raw_msg: [E, D].
            types: kinds of the events, int64 [E], where ``pres`` tells kinds apart.
        """
        self.check_kinds(types, src.numel())
        if not self.training:  # mail is read when it comes
            self.mark(src, dst, types)
        self.tgn.update_state(src, dst, t, raw_msg)
        if self.training:
            self.mark(src, dst, types)

    def _update_memory(self, n_id: Tensor) -> None:
        self._writes = True
        try:
            with torch.no_grad():
                self._write_of_tgn(n_id)
        finally:
            self._writes = False

    def _get_updated_memory(self, n_id: Tensor) -> tuple[Tensor, Tensor]:
        new, t = self._update_of_tgn(n_id)
        states = self.corrected(n_id, new, t)
        if self._writes:
            return self.committed(n_id, states, t, new), t
        self.remember(n_id, states)
        return states, t

    def reset_state(self) -> None:
        """Forget everything."""
        assert self.pres is not None
        self.tgn.reset_state()
        for module in (self.pres, self.pres.waiting, self.pres.rates):
            module.reset()

    def detach(self) -> None:
        """Cut the graph that leads into the memory."""
        self.tgn.detach()

    def train(self, mode: bool = True) -> CorrectedTGNMemory:
        """Set the mode. As with ``TGNMemory``, all mail is read when evaluation begins."""
        super().train(mode)
        return self


def _nobody_waits(module: nn.Module, _: Any) -> None:
    assert isinstance(module, CorrectedTGNMemory)
    assert module.pres is not None
    module.pres.waiting.reset()
    module._forget_read()


__all__ = ["CorrectedTGNMemory", "wrap_memory"]
