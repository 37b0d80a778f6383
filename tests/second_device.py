"""A second device for tests on machines without one: tensors that lie "elsewhere", computed on the CPU.

A tensor on it says that its device is ``SECOND``, and an operator that is given tensors of both devices fails, as it
would on a GPU. What this shows is where tensors are, not how a GPU computes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

# A kind of device for which torch neither has kernels nor threads of its own.
SECOND = torch.device("lazy", 0)
_aten = torch.ops.aten
_COPIES = (_aten._to_copy.default, _aten.copy_.default)


class MixedDevicesError(AssertionError):
    """An operator was given tensors of both devices."""


class There(Tensor):
    """A tensor on the second device."""

    here: Tensor

    @staticmethod
    def __new__(cls, here: Tensor) -> There:
        layout = {"strides": here.stride(), "storage_offset": here.storage_offset(), "dtype": here.dtype}
        made: There = Tensor._make_wrapper_subclass(cls, here.shape, device=SECOND, **layout)
        made.here = here
        return made

    def __init__(self, here: Tensor) -> None:
        pass

    def __repr__(self) -> str:  # type: ignore[override]
        return f"There({self.here!r})"

    def tolist(self) -> Any:
        """The numbers, as Python's."""
        return self.here.tolist()

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return _run(func, args, dict(kwargs or {}))


def _is_second(device: object) -> bool:
    return isinstance(device, torch.device | str) and torch.device(device).type == SECOND.type


def _run(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run an operator on the CPU, and put what it makes on the device of its arguments or the one it was told."""
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    there = [x for x in tensors if isinstance(x, There)]
    # Tensors without dimensions may lie on the CPU, as for a GPU.
    if there and func not in _COPIES and any(not isinstance(x, There) and x.dim() for x in tensors):
        raise MixedDevicesError(f"{func}: expected tensors on one device, got {[(x.device, x.shape) for x in tensors]}")
    to_second = bool(there) if kwargs.get("device") is None else _is_second(kwargs["device"])

    def bring(value: Any) -> Any:
        if isinstance(value, There):
            return value.here
        return torch.device("cpu") if isinstance(value, torch.device) and _is_second(value) else value

    out = func(*tree_map(bring, args), **tree_map(bring, kwargs))
    if func is _aten.copy_.default:
        return args[0]
    if func is _aten._local_scalar_dense.default or not to_second:
        return out
    known = {id(x.here): x for x in there}  # what was written in place
    return tree_map(lambda x: known[id(x)] if id(x) in known else There(x) if isinstance(x, Tensor) else x, out)


class _Operators(TorchDispatchMode):
    """Catches operators without tensor arguments."""

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return _run(func, args, dict(kwargs or {}))


class _Constructors(TorchFunctionMode):
    """Catches ``torch.tensor``, which is no operator."""

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.tensor and _is_second(kwargs.get("device")):
            return func(*args, **{**kwargs, "device": "cpu"}).to(SECOND)
        return func(*args, **kwargs)


@contextmanager
def second_device() -> Iterator[torch.device]:
    """Have a second device, on which our element-wise operators run, too."""

    # In place of inference mode, whose tensors a subclass cannot be.
    def enter(self: Any) -> None:
        self.grad_before = torch.is_grad_enabled()
        torch.set_grad_enabled(self.grad_before and not self.mode)

    def leave(self: Any, *_: object) -> None:
        torch.set_grad_enabled(self.grad_before)

    with (
        mock.patch("graphmem.nn.functional._has_kernel", return_value=True),
        mock.patch.object(torch.inference_mode, "__enter__", enter),
        mock.patch.object(torch.inference_mode, "__exit__", leave),
        _Constructors(),
        _Operators(),
    ):
        yield SECOND
