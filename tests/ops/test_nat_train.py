"""NAT's operators for training: the reference in torch's operations, its gradients, dropout, threads, bad arguments."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import SEEDS, features, same_bits
from test_nat_ops import CELLS, HASHES, WIDTHS, stored
from test_ncache import FEW, NODES, SIZES, layout_of
from test_temporal_ops import agree, integers
from torch import Tensor

from graphmem import ops
from graphmem.errors import ArgumentError
from graphmem.ops import Layout, NATLayers, NATState, NATWidths, reference


def layers_of(widths: NATWidths, pool_dim: int, pooling_heads: int, seed: int, dtype: torch.dtype) -> NATLayers:
    """With ``widths.heads`` of 0: sums over ``pooling_heads``."""
    d, f, times = widths.state, widths.value, widths.time
    inputs, heads = d + widths.message + times, widths.heads or pooling_heads
    read = pool_dim * max(widths.heads, 1) + 2 * d + 2 * widths.aged
    shapes: list[tuple[int, ...]] = [(times, 1), (times,), (d, inputs), (f, inputs)]
    shapes += [shape for units in (d, f) for shape in (*[(3 * units, units)] * 2, *[(3 * units,)] * 2)]
    shapes += [(4 ** (widths.hops + 1), widths.position), (heads * pool_dim, widths.features), (heads * pool_dim,)]
    shapes += [(widths.hidden, read), (widths.hidden,), (1, widths.hidden), (1,)]
    shapes += [(heads, pool_dim)] if widths.heads else []
    made = [0.5 * features(1, torch.Size(s).numel(), seed + k, dtype).view(s) for k, s in enumerate(shapes)]
    return NATLayers(*made, *([] if widths.heads else [None]))


def asked(state: NATState, seed: int, count: int, candidates: int) -> tuple[Tensor, Tensor, Tensor]:
    """Distinct nodes, places and times; a pair of a node with itself, and times before some events."""
    nodes = state.key.size(0)
    ids = integers(seed, 0, nodes, count * (1 + candidates))
    if count and candidates:
        ids[count] = ids[0]
    return *ops.distinct(ids), integers(seed + 2, 15, 60, count).to(state.time.dtype)


def called(state: NATState, layers: NATLayers, heads: int, layout: Layout, question: Any, delta: bool, p: float) -> Any:
    return ops.nat_train(state, layers, heads, layout, *question, delta=delta, p=p, seed=5)


def slopes(layers: NATLayers, run: Any, grad: Tensor) -> list[Tensor]:
    """Gradients of the layers: of the scores that ``run`` returns first."""
    leaves = [None if layer is None else layer.clone().requires_grad_() for layer in layers]
    scores = run(NATLayers(*leaves))[0]  # type: ignore[arg-type]
    scores.backward(grad)
    return [leaf.grad if leaf.grad is not None else torch.zeros_like(leaf) for leaf in leaves if leaf is not None]


DROPPED = st.sampled_from((0.0, 0.4))


@settings(deadline=None, max_examples=3 if FEW else 60)
@given(WIDTHS, CELLS, SIZES, HASHES, SEEDS, st.booleans(), st.integers(0, 5), st.integers(0, 4), DROPPED)
def test_scores_and_gradients(
    widths: NATWidths,
    dtypes: Any,
    sizes: Any,
    hash: str,
    seed: int,
    known: bool,
    count: int,
    candidates: int,
    p: float,
) -> None:
    """Those of the reference, whose gradient torch computes."""
    widths, layout = widths._replace(hops=len(sizes)), layout_of(sizes, seed, hash)
    state, heads = stored(layout, widths, seed, known, **dtypes), widths.heads or 2
    kind, delta = state.state.dtype, widths.aged
    layers, question = layers_of(widths, 4, heads, seed, kind), asked(state, seed, count, candidates)
    how = *layout.checked(), delta, *question

    def by_reference(leaves: NATLayers) -> Any:
        return reference.nat_train(*state, *how, leaves.listed(), heads, p, 5)

    def found(leaves: NATLayers) -> Any:
        return called(state, leaves, heads, layout, question, delta, p)

    for one, two in zip(found(layers), by_reference(layers), strict=False):
        agree(one, two, kind)
    grad = features(1, count * candidates, seed + 99, kind)[0]
    for one, two in zip(slopes(layers, found, grad), slopes(layers, by_reference, grad), strict=True):
        rough = 1e-9 if kind == torch.float64 else 2e-3
        torch.testing.assert_close(one, two, rtol=rough, atol=rough * (1 + float(two.norm())))


@pytest.mark.parametrize("heads", [0, 2])
@pytest.mark.parametrize("aged", [False, True])
def test_gradcheck(heads: int, aged: bool) -> None:
    layout, widths = Layout((2, 1)), NATWidths(3, 2, 2, 2, 2, heads, 4, 2, aged)
    state = stored(layout, widths, 0, value=torch.float64)
    state = state._replace(time=state.time % 5, gap=state.gap % 3)  # phases that differences resolve
    layers, question = layers_of(widths, 3, 2, 0, torch.float64), asked(state, 0, 4, 2)
    leaves = [layer.requires_grad_() for layer in layers.listed()]

    def scores(*given: Tensor) -> Tensor:
        of_model = NATLayers(*given, *([] if heads else [None]))  # type: ignore[arg-type]
        return called(state, of_model, 2, layout, question, aged, 0.3)[0]  # type: ignore[no-any-return]

    assert torch.autograd.gradcheck(scores, leaves, fast_mode=False)
    (grad,) = torch.autograd.grad(scores(*leaves).square().sum(), leaves[:1], create_graph=True)
    with pytest.raises(RuntimeError, match="once|twice|double|second"):
        grad.sum().backward()


@pytest.mark.skipif(not ops.NATIVE, reason="a promise of the compiled operators")
@pytest.mark.parametrize("heads", [0, 2])
@pytest.mark.usefixtures("restore_threads")
def test_same_bits_for_every_number_of_threads(heads: int) -> None:
    layout, widths = Layout((8, 4)), NATWidths(20, 8, 2, 6, 3, heads, 40, 2, heads > 0)
    state = stored(layout, widths, 1, tiles=200)
    # enough for every part to wake threads
    layers, question = layers_of(widths, 9, 2, 2, torch.float32), asked(state, 6, 1500, 2)
    results = []
    for threads in (1, 2, 4):
        torch.set_num_threads(threads)
        out: list[Tensor] = []

        def run(leaves: NATLayers, out: list[Tensor] = out) -> Any:
            found = called(state, leaves, 2, layout, question, widths.aged, 0.2)
            out += [x.detach() for x in found]
            return found

        results.append(out + slopes(layers, run, features(1, 3000, 4)[0]))
        results[-1] = [x.clone() for x in results[-1]]
    for other in results[1:]:
        assert all(same_bits(one, two) for one, two in zip(results[0], other, strict=True))


@pytest.mark.skipif(not ops.NATIVE or FEW, reason="a promise of the compiled operators; CUDA's add in another order")
def test_nodes_are_read_as_without_gradient() -> None:
    """Bit for bit: what enters the state does not depend on which operator has read it."""
    layout, widths = Layout((8, 4)), NATWidths(20, 4, 2, 6, 3, 2, 40, 2, True)
    state = stored(layout, widths, 3, tiles=9)
    layers = layers_of(widths, 9, 2, 2, torch.float32)
    nodes, place = ops.distinct(integers(3, 0, state.key.size(0), 60))
    _, own, now = called(state, layers, 2, layout, (nodes, place, integers(4, 40, 60, 20)), True, 0.1)
    met = torch.where(state.eid[nodes, 0] >= 0, state.other[nodes], -1)
    assert state.messages is not None
    message = state.messages[state.eid[nodes, 0].clamp(min=0)]
    code = layers.time_weight.view(-1), layers.time_bias
    cell = ops.matmul(layers.state_ih, layers.lin_state), layers.state_hh, layers.state_bias_ih, layers.state_bias_hh
    given = state.state, nodes, met, message, state.gap[nodes].double()
    assert same_bits(own, ops.memory_gru(*given, *code, *cell))
    weights = ops.CellWeights(*code, layers.lin_value, *layers[8:12])  # type: ignore[arg-type]
    cells = state.key, state.eid, state.time, state.value, nodes, state.state
    assert same_bits(now, ops.ncache_refresh(*cells, weights, state.messages, state.eid[nodes]))


BAD = [
    ("nodes", torch.tensor([0, NODES]), r"^nodes: expected ids in \[0, 11\)"),
    ("place", torch.tensor([0, 2, 1, 1]), r"^place: expected ids in \[0, 2\)"),
    ("place", torch.tensor([0, 1, 1]), r"^place: expected B \(1 \+ C\) places for 2 sources, got 3"),
    ("t", torch.tensor([1.0, 2.0]), "^t: expected int64"),
    ("lin_state", torch.zeros(3, 4), "^lin_state: expected at least 8 columns, got 4"),
    ("lin_state", torch.zeros(3, 11), "^messages: expected float32 of shape"),
    ("lin_value", torch.zeros(2, 11), "^lin_value: expected float32 of shape"),
    ("state_ih", torch.zeros(9, 4), "^state_ih: expected float32 of shape"),
    ("pool", torch.zeros(7, 7), "^pool: expected float32 of shape"),
    ("hidden", torch.zeros(6, 14), "^hidden: expected float32 of shape"),
    ("out", torch.zeros(1, 6, dtype=torch.float64), "^out: expected float32"),
    ("attn", torch.zeros(1, 4), "^attn: expected float32 of shape"),
    ("hidden", torch.zeros(16, 6).t(), "^hidden: expected a contiguous tensor"),
    ("heads", 0, "^heads: expected at least 1"),
    ("p", 1.0, "^p: expected"),
]


@pytest.mark.parametrize(("name", "value", "message"), BAD)
def test_bad_arguments(name: str, value: Any, message: str) -> None:
    layout, widths = Layout((2, 1)), NATWidths(3, 2, 4, 5, 3, 2, 6, 2, True)
    state, layers = stored(layout, widths, 3), layers_of(widths, 4, 2, 3, torch.float32)
    rest = {"nodes": torch.tensor([0, 1]), "place": torch.tensor([0, 1, 1, 0]), "t": torch.tensor([50, 51])}
    rest |= {"heads": 2, "p": 0.1}
    if name in rest:
        rest[name] = value
    else:
        layers = layers._replace(**{name: value})
    heads, p = rest.pop("heads"), rest.pop("p")
    with pytest.raises(ArgumentError, match=message):
        ops.nat_train(state, layers, heads, layout, **rest, p=p)  # type: ignore[arg-type]


@pytest.mark.skipif(not ops.NATIVE, reason="needs the compiled library")
@pytest.mark.parametrize("number", range(20))
def test_layers_that_do_not_fit_are_named(number: int) -> None:
    """Also by the kernel itself."""
    layout, widths = Layout((2, 1)), NATWidths(3, 2, 4, 5, 3, 2, 6, 2, True)
    state, layers = stored(layout, widths, 3), layers_of(widths, 4, 2, 3, torch.float32).listed()
    question = torch.tensor([0, 1]), torch.tensor([0, 1, 1, 0]), torch.tensor([50, 51])
    for bad in (layers[number].double(), layers[number][None], layers[number].new_zeros(1, 1, 1)):
        given = [*layers[:number], bad, *layers[number + 1 :]]
        with pytest.raises(RuntimeError, match=rf"nat_train: expected {NATLayers._fields[number]} of "):
            torch.ops.graphmem.nat_train(*state, *layout.checked(), True, *question, given, 2, 0.0, 0)
