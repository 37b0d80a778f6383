"""The fused evaluation head against its layers written out."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from graphmem import ops
from graphmem.errors import ArgumentError
from graphmem.nn import CNDecoder, PairDecoder
from graphmem.nn.heads import stack_layers
from graphmem.ops import reference

OPTIONS: list[dict[str, Any]] = [
    {},
    {"norm": False},
    {"tail_act": False},
    {"two_layer_lin": True},
    {"tail_act": False, "two_layer_lin": True, "norm": False},
]


def setting(
    width: int, num_pairs: int, options: dict[str, Any], dtype: torch.dtype
) -> tuple[PairDecoder, list[Tensor]]:
    torch.manual_seed(width + num_pairs)
    decoder = PairDecoder(width, **options).to(dtype).eval()
    h = torch.randn(11, width, dtype=dtype)
    pairs = torch.randint(0, 11, (2, num_pairs))
    branch, place = torch.randn(4, width, dtype=dtype), torch.randint(0, 4, (num_pairs,))
    return decoder, [h, pairs, branch, place]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@given(width=st.integers(1, 40), num_pairs=st.sampled_from((0, 1, 5, 511, 512, 1300)), with_branch=st.booleans())
def test_is_the_layers_one_after_the_other(
    options: dict[str, Any], dtype: torch.dtype, width: int, num_pairs: int, with_branch: bool
) -> None:
    decoder, (h, pairs, branch, place) = setting(width, num_pairs, options, dtype)
    with torch.no_grad():
        pair_term = decoder.xijlin(h[pairs[0]] * h[pairs[1]])
        want = decoder.lin(pair_term + branch[place] if with_branch else pair_term).squeeze(1)
    head = stack_layers(decoder.xijlin, decoder.lin)
    added = (branch, place) if with_branch else (None, None)
    tolerance = {"rtol": 1e-4, "atol": 1e-4} if dtype == torch.float32 else {"rtol": 1e-9, "atol": 1e-9}
    torch.testing.assert_close(ops.pair_head(h, pairs, head, *added), want, **tolerance)
    torch.testing.assert_close(reference.pair_head(h, pairs, *added, *head), want, **tolerance)


def test_same_bits_for_every_number_of_threads() -> None:
    decoder, (h, pairs, branch, place) = setting(64, 3000, {}, torch.float32)
    head = stack_layers(decoder.xijlin, decoder.lin)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 4):
            torch.set_num_threads(threads)
            results.append(ops.pair_head(h, pairs, head, branch, place))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(results[0], other) for other in results[1:])


def test_weights_that_need_gradients_leave_no_graph() -> None:
    decoder, (h, pairs, branch, place) = setting(8, 600, {}, torch.float32)
    assert decoder.lin[0].weight.requires_grad
    out = ops.pair_head(h.requires_grad_(), pairs, stack_layers(decoder.xijlin, decoder.lin), branch, place)
    assert not out.requires_grad


def test_evaluation_uses_it_and_training_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    real = ops.pair_head
    monkeypatch.setattr(ops, "pair_head", lambda *a, **k: (calls.append(1), real(*a, **k))[1])
    from graphmem.data import CSRGraph

    graph = CSRGraph.from_edge_index(torch.tensor([[0, 1, 2], [1, 2, 3]]), 5, symmetric=True)
    h, pairs = torch.randn(5, 8), torch.tensor([[0, 1], [2, 3]])
    for decoder in (PairDecoder(8, dropout=0.5), CNDecoder(8, dropout=0.5)):
        calls.clear()
        slow = decoder.eval()(h, graph, pairs)
        assert not calls
        with torch.no_grad():
            fast = decoder(h, graph, pairs)
            assert len(calls) == 1
            torch.testing.assert_close(fast, slow)
            decoder.train()(h, graph, pairs)  # dropout is on
            assert len(calls) == 1


def test_opcheck() -> None:
    decoder, (h, pairs, branch, place) = setting(6, 9, {}, torch.float32)
    arguments = (h, pairs, branch, place, *stack_layers(decoder.xijlin, decoder.lin))
    torch.library.opcheck(torch.ops.graphmem.pair_head.default, arguments)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("h", {"h": torch.ones(11, 6, dtype=torch.float16)}),
        ("pairs", {"pairs": torch.full((2, 9), 11)}),
        ("head.weights_t", {"h": torch.ones(11, 7)}),
        ("branch", {"branch": torch.ones(4, 5)}),
        ("place", {"place": torch.full((9,), 4)}),
        ("branch and place", {"place": None}),
    ],
)
def test_bad_arguments_are_named(name: str, change: dict[str, Any]) -> None:
    decoder, (h, pairs, branch, place) = setting(6, 9, {}, torch.float32)
    head = stack_layers(decoder.xijlin, decoder.lin)
    arguments = {"h": h, "pairs": pairs, "head": head, "branch": branch, "place": place, **change}
    with pytest.raises(ArgumentError, match=f"^{name}"):
        ops.pair_head(**arguments)
