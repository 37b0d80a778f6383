"""Operators with a gradient: registered with torch, and called past the layers of Python that torch puts around them.

A formula of ``torch.library.register_autograd`` is what tracing, compilation and ``opcheck`` work with. In eager mode
the call of such an operator goes through Python several times, which costs as much as a product of a few hundred rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Backward = Callable[..., Any]
SetupContext = Callable[[Any, tuple[Any, ...], Any], None]


class Operator:
    """``torch.ops.graphmem.<name>``: the same arguments, results and gradients.

    Args:
        name: of the operator.
        backward: its formula, as for ``torch.library.register_autograd``; without, the operator has no gradient.
        setup_context: likewise.
    """

    def __init__(self, name: str, backward: Backward | None = None, setup_context: SetupContext | None = None) -> None:
        self._name = name
        self._overload: Any = None
        self._function: Any = None
        if backward is None or setup_context is None:
            return
        torch.library.register_autograd(f"graphmem::{name}", backward, setup_context=setup_context)

        def forward(ctx: Any, *arguments: Any) -> Any:
            output = self._below_autograd(arguments)
            setup_context(ctx, arguments, output)
            return output

        methods = {"forward": staticmethod(forward), "backward": staticmethod(backward)}
        self._function = type(name, (torch.autograd.Function,), methods)

    def __call__(self, *arguments: Any) -> Any:
        """Call the operator."""
        if self._overload is None:
            self._overload = getattr(torch.ops.graphmem, self._name).default
        if torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active():
            return self._overload(*arguments)
        if torch.is_grad_enabled() and any(isinstance(x, Tensor) and x.requires_grad for x in arguments):
            return self._overload(*arguments) if self._function is None else self._function.apply(*arguments)
        return self._below_autograd(arguments)

    def _below_autograd(self, arguments: tuple[Any, ...]) -> Any:
        with torch._C._AutoDispatchBelowAutograd():
            return self._overload(*arguments)
