"""``_autograd.Operator``: what ``torch.ops.graphmem.<name>`` does, whoever calls."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from strategies import features, same_bits
from test_torch_integration import compiled, operators
from torch import Tensor

import graphmem.ops
from graphmem import ops
from graphmem.errors import ArgumentError
from graphmem.ops import CellWeights, Layout
from graphmem.ops._autograd import Operator


def found() -> dict[str, Operator]:
    modules = [importlib.import_module(f"graphmem.ops.{m.name}") for m in pkgutil.iter_modules(graphmem.ops.__path__)]
    return {each._name: each for module in modules for each in vars(module).values() if isinstance(each, Operator)}


OPERATORS = found()
ARGUMENTS = operators()
CALLS = [
    pytest.param(name, number, id=f"{name}-{number}")
    for name in sorted(OPERATORS)
    for number in range(len(ARGUMENTS[name]))
]
every_call = pytest.mark.parametrize(("name", "number"), CALLS)
DIFFERENTIABLE = {name for name, operator in OPERATORS.items() if operator._function is not None}


def direct(name: str) -> Any:
    return getattr(torch.ops.graphmem, name).default


# Without saved gates, and with weights by slot.
WITHOUT = {("gru_step", 1), ("memory_gru", 1), ("segment_gather_sum", 2)}


def floats_of(name: str, number: int) -> list[int]:
    """Places that a call may want a gradient of: all floating-point tensors whose gradient the formula gives."""
    arguments = ARGUMENTS[name][number]
    leaves = [k for k, x in enumerate(arguments) if isinstance(x, Tensor) and x.is_floating_point()]
    if name not in DIFFERENTIABLE or (name, number) in WITHOUT:
        return []
    out = first_of(direct(name)(*copies(name, number, leaves)))
    grads = torch.autograd.grad(out.float().sum(), [x for x in LAST if x.requires_grad], allow_unused=True)
    return [k for k, grad in zip(leaves, grads, strict=True) if grad is not None]


LAST: list[Any] = []


def copies(name: str, number: int, leaves: list[int]) -> list[Any]:
    """Arguments of a call, the tensors in ``leaves`` with a gradient; also kept in ``LAST``."""
    arguments: list[Any] = []
    for k, x in enumerate(ARGUMENTS[name][number]):
        arguments.append(x.detach().clone().requires_grad_(k in leaves) if isinstance(x, Tensor) else x)
    LAST[:] = [x for x in arguments if isinstance(x, Tensor)]
    return arguments


def first_of(out: Any) -> Tensor:
    return out if isinstance(out, Tensor) else out[0]


def tensors(out: Any) -> tuple[Tensor, ...]:
    """What a call returned; of one that returns nothing the arguments that it wrote."""
    if out is None:
        return tuple(LAST)
    return (out,) if isinstance(out, Tensor) else tuple(out)


def outcome(call: Callable[..., Any], name: str, number: int, leaves: list[int]) -> list[Tensor | None]:
    """Results and gradients."""
    arguments = copies(name, number, leaves)
    out = tensors(call(*arguments))
    assert [part.requires_grad for part in out][:1] == [bool(leaves) and torch.is_grad_enabled()]
    results: list[Tensor | None] = [part.detach() for part in out]
    if out[0].requires_grad:
        slopes = features(1, out[0].numel(), 3, torch.float64).view(out[0].shape).to(out[0].dtype)
        results += torch.autograd.grad(out[0], [arguments[k] for k in leaves], slopes)
        results += [part.new_tensor(part.requires_grad) for part in out]
    return results


def same(one: list[Tensor | None], other: list[Tensor | None]) -> bool:
    return len(one) == len(other) and all(
        a is b or (a is not None and b is not None and same_bits(a, b)) for a, b in zip(one, other, strict=True)
    )


def test_operators_are_found() -> None:
    assert set(OPERATORS) <= set(ARGUMENTS)
    assert DIFFERENTIABLE >= {"memory_gru", "matmul", "ncache_pool", "ncache_refresh", "cn_gather_sum", "dropout"}


@every_call
def test_results_and_gradients(name: str, number: int) -> None:
    leaves = floats_of(name, number)
    assert bool(leaves) == (name in DIFFERENTIABLE and (name, number) not in WITHOUT)
    assert same(outcome(OPERATORS[name], name, number, leaves), outcome(direct(name), name, number, leaves))
    for leaf in leaves:  # of one tensor alone
        assert same(outcome(OPERATORS[name], name, number, [leaf]), outcome(direct(name), name, number, [leaf]))


@every_call
@pytest.mark.parametrize(
    "around",
    [
        torch.no_grad,
        torch.inference_mode,
        lambda: torch.autocast("cpu", torch.bfloat16),
        lambda: torch.autograd.graph.save_on_cpu(),
    ],
    ids=["no_grad", "inference_mode", "autocast", "saved_tensors_hooks"],
)
def test_modes(name: str, number: int, around: Callable[[], Any]) -> None:
    leaves = floats_of(name, number)
    results = []
    for call in (OPERATORS[name], direct(name)):
        with around():
            results.append(outcome(call, name, number, leaves))
    assert same(*results)


@pytest.mark.parametrize("name", sorted(DIFFERENTIABLE))
def test_differentiable_once(name: str) -> None:
    """A second derivative is an error, or (of products, by products) the right one; never a silent zero."""
    number = max(n for n in range(len(ARGUMENTS[name])) if floats_of(name, n))
    leaves = floats_of(name, number)
    arguments = copies(name, number, leaves)
    out = first_of(OPERATORS[name](*arguments))
    grads = torch.autograd.grad(out.square().sum(), [arguments[k] for k in leaves], create_graph=True)
    if name in ("matmul", "head_matmul"):
        assert torch.autograd.grad(sum(g.sum() for g in grads), [arguments[k] for k in leaves[:2]])[0].abs().sum() > 0
        return
    for grad in grads[:2] if name == "pair_relu_dot" else grads:  # the bias has a sum of slopes, by torch
        with pytest.raises((RuntimeError, ArgumentError), match="once|through `slot`"):
            torch.autograd.grad(grad.sum(), [arguments[k] for k in leaves], allow_unused=True, retain_graph=True)


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize("name", sorted(DIFFERENTIABLE))
@pytest.mark.parametrize("transform", ["vmap", "grad", "vjp"])
def test_functorch(name: str, transform: str) -> None:
    """Works, or raises, as the operator called directly does."""
    number = 0
    place = floats_of(name, number)[0]
    arguments = copies(name, number, [])

    def run(call: Any) -> Any:
        def of(x: Tensor) -> Tensor:
            return first_of(call(*arguments[:place], x, *arguments[place + 1 :])).float()

        x = arguments[place]
        try:
            if transform == "vmap":
                return torch.func.vmap(of)(torch.stack((x, x * 2)))
            if transform == "vjp":
                return torch.func.vjp(of, x)[0]
            return torch.func.grad(lambda y: of(y).sum())(x)
        except (RuntimeError, ValueError) as error:
            return type(error), str(error)[:60]

    got, want = run(OPERATORS[name]), run(direct(name))
    assert same_bits(got, want) if isinstance(want, Tensor) else got == want


@pytest.mark.parametrize("name", sorted(OPERATORS))
def test_make_fx_sees_the_operator(name: str) -> None:
    from torch.fx.experimental.proxy_tensor import make_fx

    arguments = copies(name, 0, [])
    places = [k for k, x in enumerate(arguments) if isinstance(x, Tensor)]

    def run(*given: Tensor) -> Any:
        mixed = list(arguments)
        for k, x in zip(places, given, strict=True):
            mixed[k] = x
        return OPERATORS[name](*mixed)

    traced = make_fx(run)(*(arguments[k] for k in places))
    assert direct(name) in [node.target for node in traced.graph.nodes]


def _gru() -> tuple[Callable[..., Tensor], list[Any]]:
    *arguments, _ = ARGUMENTS["memory_gru"][0]
    return ops.memory_gru, arguments


def _refresh() -> tuple[Callable[..., Tensor], list[Any]]:
    def run(key: Tensor, eid: Tensor, time: Tensor, value: Tensor, *rest: Any) -> Tensor:
        nodes, state, messages, row, delta, *weights = rest
        return ops.ncache_refresh(
            key, eid, time, value, nodes, state, CellWeights(*weights), messages, row, delta=delta
        )

    return run, list(ARGUMENTS["ncache_refresh"][1])


def _pool() -> tuple[Callable[..., Tensor], list[Any]]:
    def run(key: Tensor, eid: Tensor, time: Tensor, nodes: Tensor, now: Tensor, *rest: Any) -> Tensor:
        _, _, _, first, second, t, position, query, constant = rest
        cells, layout = (key, eid, time, nodes, now), Layout((1, 1), "mix", 3)
        return ops.ncache_pool(*cells, layout, first, second, position, t=t, query=query, constant=constant)

    return run, list(ARGUMENTS["ncache_pool"][1])


def _attention() -> tuple[Callable[..., Tensor], list[Any]]:
    *arguments, p, seed = ARGUMENTS["temporal_attention"][1]
    return partial(ops.temporal_attention, p=p, seed=seed), arguments


FACES = {"memory_gru": _gru, "ncache_refresh": _refresh, "ncache_pool": _pool, "temporal_attention": _attention}


@pytest.mark.parametrize("build", FACES.values(), ids=FACES.keys())
def test_compile_of_faces(build: Callable[[], tuple[Callable[..., Tensor], list[Any]]]) -> None:
    """Checks that look at values leave the graph whole."""
    function, arguments = build()
    results = []
    for run in (compiled(function), function):
        leaves = [x for x in arguments if isinstance(x, Tensor) and x.requires_grad]
        out = run(*arguments)
        results.append([out.detach(), *torch.autograd.grad(out.square().sum(), leaves)])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other)


def test_compile_of_commit() -> None:
    *state, src, dst, t, event, nodes, at, now, _, _, _, _, _ = ARGUMENTS["ncache_commit"][0]

    def run(key: Tensor, eid: Tensor, time: Tensor, value: Tensor) -> Tensor:
        cells, entered = (key, eid, time, value), (src, dst, t, event, nodes, at, now)
        ops.ncache_commit(*cells, *entered, Layout((1, 1), "mix", 3), replace_prob=0.5)
        return value * 2

    results = []
    for function in (compiled(run), run):
        cells = [x.clone() for x in state]
        results.append([function(*cells), *cells])
    assert all(same_bits(*pair) for pair in zip(*results, strict=True))
    assert not torch.equal(results[0][1], state[0])


@every_call
def test_autocast_changes_nothing(name: str, number: int) -> None:
    """Operators compute in the dtypes of their arguments, also where they are composed of torch's operations."""
    plain = tensors(OPERATORS[name](*copies(name, number, [])))
    with torch.autocast("cpu", torch.bfloat16):
        cast = tensors(OPERATORS[name](*copies(name, number, [])))
    assert all(one.dtype == other.dtype and same_bits(one, other) for one, other in zip(plain, cast, strict=True))
