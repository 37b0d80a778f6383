"""State of a model outside its weights: node memories, neighbour caches, message stores, counters.

Everything a model remembers about the past lives in a :class:`StateModule`, so that training, evaluation, checkpoints,
continual learning and unlearning all treat it through the same six methods. The functions at the end of this file apply
them to every :class:`StateModule` inside a model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from graphmem.errors import ArgumentError
from graphmem.ops import _check

Snapshot = dict[str, Tensor]


class StateModule(nn.Module):
    """A module that remembers something besides its weights.

    State is registered with :meth:`register_state`, which makes a persistent buffer (it is part of ``state_dict`` and
    follows ``.to(device)``) together with the value that means "nothing is known" (``fill``). The default methods
    follow from these two facts; a subclass whose empty state is not a constant overrides them.

    Every method concerns the module's *own* state, not that of the modules inside it: use :func:`reset_state`,
    :func:`snapshot_state` and so on for a whole model. Counters belong in 0-dimensional int64 state, not in Python
    attributes, which no checkpoint would see.

    A snapshot is a copy, and the methods here replace tensors rather than writing into them, so that an autograd graph
    that holds the old tensor stays valid. A subclass whose batches touch few of many rows may write those rows in
    place, for copying all of them would cost time by the number of nodes. It then keeps state without autograd history
    and hands out copies of rows (``state[ids]``), never the tensor or a view of it. ``state_dict()`` refers to the
    tensors themselves, as for weights: copy what has to stay as it is.

    Example:
        >>> class Seen(StateModule):
        ...     def __init__(self, num_nodes: int) -> None:
        ...         super().__init__()
        ...         self.register_state("count", (num_nodes,), dtype=torch.int64)
        >>> module = Seen(3)
        >>> module.count += 1
        >>> module.reset()
        >>> module.count.tolist()
        [0, 0, 0]
    """

    def __init__(self) -> None:
        super().__init__()
        self._state_fill: dict[str, float] = {}
        self._state_per_node: set[str] = set()
        self._state_exact: set[str] = set()
        self._state_stays = False

    def register_state(
        self,
        name: str,
        shape: Sequence[int],
        *,
        dtype: torch.dtype = torch.float32,
        fill: float = 0,
        per_node: bool = True,
        exact: bool = False,
        device: torch.device | str | None = None,
    ) -> None:
        """Register the buffer ``name`` as state.

        Args:
            name: Attribute name of the buffer.
            shape: Its shape; ``[num_nodes, ...]`` if ``per_node``.
            dtype: Its type. Times are int64 or float64, never float32; float64 state stays so under ``.float()`` or
                ``.half()``, which cast the rest of the module.
            fill: The value of an empty entry, used by ``reset``, ``grow`` and ``forget``.
            per_node: Whether row ``v`` belongs to node ``v``.
            exact: Whether float32 state, too, stays as wide as it is.
            device: Where to put it.

        Raises:
            ArgumentError: If ``per_node`` is set for a shape without dimensions.
        """
        if per_node and len(shape) == 0:
            raise ArgumentError(
                f"register_state: shape of the per-node state {name!r} must be [num_nodes, ...], got ()"
            )
        self.register_buffer(name, torch.full(tuple(shape), fill, dtype=dtype, device=device))
        self._state_fill[name] = fill
        if per_node:
            self._state_per_node.add(name)
        if exact or dtype == torch.float64:
            self._state_exact.add(name)

    def keep_state(self, state_device: str | None) -> None:
        """Let the state stay in main memory from now on, wherever the module goes with ``.to(device)``.

        For a subclass that brings rows across by :func:`fetch`; casts to other types still apply.

        Args:
            state_device: "cpu", or ``None``: it goes with the module.

        Raises:
            ArgumentError: something else.
        """
        if state_device is not None:
            _check.choice("state_device", state_device, ("cpu",))
            self._state_stays = True

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> StateModule:
        exact = {name: self.get_buffer(name) for name in self._state_exact}
        stays = {name: self.get_buffer(name) for name in self._state_fill} if self._state_stays else {}
        for name, buffer in stays.items():
            self._buffers[name] = buffer.new_empty(0)  # shows the type
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, buffer in stays.items():
            self._buffers[name] = buffer.to(self.get_buffer(name).dtype)
        for name, before in exact.items():
            if self.get_buffer(name).dtype.itemsize < before.dtype.itemsize:
                setattr(self, name, before.to(self.get_buffer(name).device))
        return self

    def reset(self) -> None:
        """Forget everything: every state buffer gets its ``fill`` value."""
        for name, fill in self._state_fill.items():
            setattr(self, name, torch.full_like(self.get_buffer(name), fill, requires_grad=False))

    def detach(self) -> None:
        """Cut the autograd graph that leads into the state, keeping the values (truncated backpropagation)."""
        for name in self._state_fill:
            buffer = self.get_buffer(name)
            if buffer.requires_grad:
                setattr(self, name, buffer.detach())

    def snapshot(self) -> Snapshot:
        """Return a copy of the state, on the same device and without autograd history."""
        return {name: self.get_buffer(name).detach().clone() for name in self._state_fill}

    def restore(self, snapshot: Mapping[str, Tensor]) -> None:
        """Set the state to a copy of ``snapshot``; the snapshot can be restored again.

        Raises:
            ArgumentError: If the snapshot's names are not this module's.
        """
        if snapshot.keys() != self._state_fill.keys():
            raise ArgumentError(
                f"restore: snapshot of {type(self).__name__} must hold {sorted(self._state_fill)}, "
                f"got {sorted(snapshot)}"
            )
        for name, value in snapshot.items():
            setattr(self, name, value.detach().to(self.get_buffer(name).device, copy=True))

    def grow(self, num_nodes: int) -> None:
        """Make room for nodes ``0 .. num_nodes - 1``; new rows are empty.

        Raises:
            ArgumentError: If ``num_nodes`` is smaller than the present size.
        """
        for name in sorted(self._state_per_node):
            buffer = self.get_buffer(name)
            if num_nodes < buffer.size(0):
                raise ArgumentError(
                    f"grow: num_nodes must be at least {buffer.size(0)} (rows of {type(self).__name__}.{name}), "
                    f"got {num_nodes}; state never shrinks, use forget(nodes=...)"
                )
            if num_nodes > buffer.size(0):
                shape = (num_nodes - buffer.size(0), *buffer.shape[1:])
                rows = torch.full(shape, self._state_fill[name], dtype=buffer.dtype, device=buffer.device)
                setattr(self, name, torch.cat([buffer, rows]))

    def forget(self, nodes: Tensor | None = None, events: Tensor | None = None) -> None:
        """Remove what is remembered about ``nodes`` (their rows become empty) or what came from ``events``.

        The default knows rows of nodes only: state of *other* nodes that was computed from them stays, and so does
        whatever came from single events. A subclass that mixes information between nodes says in its own ``forget``
        how far it goes.

        Args:
            nodes: Node ids, int64 ``[n]``.
            events: Event ids, int64 ``[m]``.

        Raises:
            ArgumentError: If ``nodes`` is not a vector of valid ids, or ``events`` is given to a module that does not
                record which event left what.
        """
        if events is not None:
            raise ArgumentError(
                f"forget: {type(self).__name__} does not record which event left what, so events cannot be removed; "
                "reset it and replay the stream without them"
            )
        if nodes is None:
            return
        if nodes.dim() != 1 or nodes.dtype != torch.int64:
            raise ArgumentError(f"forget: nodes must be int64 [n], got {nodes.dtype} {list(nodes.shape)}")
        for name in sorted(self._state_per_node):
            buffer = self.get_buffer(name).detach().clone()
            if nodes.numel() and not (0 <= int(nodes.min()) and int(nodes.max()) < buffer.size(0)):
                raise ArgumentError(
                    f"forget: nodes must lie in [0, {buffer.size(0)}), got [{int(nodes.min())}, {int(nodes.max())}]"
                )
            buffer[nodes.to(buffer.device)] = self._state_fill[name]
            setattr(self, name, buffer)

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        # A checkpoint may know more nodes, or hold more pending messages, than the fresh module: the first dimension of
        # state is taken from the checkpoint. The others are architecture, and torch reports a mismatch there.
        for name in self._state_fill:
            value, buffer = state_dict.get(prefix + name), self.get_buffer(name)
            if (
                isinstance(value, Tensor)
                and value.dim() == buffer.dim() > 0
                and value.shape[1:] == buffer.shape[1:]
                and value.size(0) != buffer.size(0)
            ):
                setattr(self, name, buffer.new_empty(value.shape))
            elif buffer.requires_grad:
                setattr(self, name, buffer.detach().clone())  # never load into a tensor of a live autograd graph
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def fetch(table: Tensor, ids: Tensor, device: torch.device) -> Tensor:
    """Rows of a table [N, *] as a copy on a device, which may be another than the table's.

    Args:
        table: state.
        ids: int64 [n], on the table's device.
        device: where the rows are needed.
    """
    if device.type != "cuda" or table.is_cuda:
        return table.index_select(0, ids).to(device)
    # Into page-locked memory, from which the copy runs beside what the host does next.
    rows = torch.empty((ids.numel(), *table.shape[1:]), dtype=table.dtype, pin_memory=True)
    return torch.index_select(table, 0, ids, out=rows).to(device, non_blocking=True)


def entries_of(nodes: Tensor | None, of_node: Tensor, events: Tensor | None, of_event: Tensor) -> Tensor:
    """Which entries are to be forgotten: those of nodes int64 [n] and of events int64 [m].

    Args:
        nodes: ``None`` for none.
        of_node: int64 [*], the node of each entry.
        events: ``None`` for none.
        of_event: int64 [*], the event of each entry.

    Returns:
        bool [*].

    Raises:
        ArgumentError: wrong shape or dtype of what is to be forgotten.
    """
    gone = torch.zeros_like(of_node, dtype=torch.bool)
    for name, listed, entries in (("nodes", nodes, of_node), ("events", events, of_event)):
        if listed is not None:
            listed = _check.tensor(name, listed, shape=(None,), dtypes=(torch.int64,))
            gone |= torch.isin(entries, listed.to(entries.device))
    return gone


def state_modules(model: nn.Module) -> Iterator[tuple[str, StateModule]]:
    """Yield ``(path, module)`` for every :class:`StateModule` in ``model``, itself included, each once."""
    for path, module in model.named_modules():
        if isinstance(module, StateModule):
            yield path, module


def reset_state(model: nn.Module) -> None:
    """Call :meth:`StateModule.reset` on every state of ``model``."""
    for _, module in state_modules(model):
        module.reset()


def detach_state(model: nn.Module) -> None:
    """Call :meth:`StateModule.detach` on every state of ``model``."""
    for _, module in state_modules(model):
        module.detach()


def grow_state(model: nn.Module, num_nodes: int) -> None:
    """Call :meth:`StateModule.grow` on every state of ``model``."""
    for _, module in state_modules(model):
        module.grow(num_nodes)


def snapshot_state(model: nn.Module) -> dict[str, Snapshot]:
    """Return ``{path: snapshot}`` of every state of ``model``."""
    return {path: module.snapshot() for path, module in state_modules(model)}


def restore_state(model: nn.Module, snapshot: Mapping[str, Mapping[str, Tensor]]) -> None:
    """Restore what :func:`snapshot_state` returned.

    Raises:
        ArgumentError: If the snapshot comes from a model with other states.
    """
    modules = dict(state_modules(model))
    if modules.keys() != snapshot.keys():
        raise ArgumentError(f"restore_state: snapshot must hold the states {sorted(modules)}, got {sorted(snapshot)}")
    for path, module in modules.items():
        module.restore(snapshot[path])
