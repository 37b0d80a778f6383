"""Recurrent cells against torch's."""

from __future__ import annotations

import pytest
import torch

from graphmem.errors import ArgumentError
from graphmem.nn.cells import GRUCell, RNNCell, TransformerCell


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize(("ours", "theirs"), [(GRUCell, torch.nn.GRUCell), (RNNCell, torch.nn.RNNCell)])
def test_is_torchs_cell(ours: type[torch.nn.Module], theirs: type[torch.nn.Module], dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    cell, other = ours(7, 5).to(dtype), theirs(7, 5).to(dtype)
    other.load_state_dict(cell.state_dict())
    for state in (torch.randn(9, 5, dtype=dtype), None):
        x, leaves = torch.randn(9, 7, dtype=dtype), [*cell.parameters()]
        outs = cell(x, state), other(x, state)
        close = {"rtol": 0.1, "atol": 0.05} if dtype == torch.bfloat16 else {"rtol": 1e-5, "atol": 1e-5}
        torch.testing.assert_close(*outs, **close)
        for got, want in zip(
            torch.autograd.grad(outs[0].sum(), leaves),
            torch.autograd.grad(outs[1].sum(), [*other.parameters()]),
            strict=True,
        ):
            torch.testing.assert_close(got, want, **close)


def test_an_input_in_two_parts() -> None:
    torch.manual_seed(0)
    cell = GRUCell(7, 5).double()
    x, h = torch.randn(9, 7, dtype=torch.float64), torch.randn(9, 5, dtype=torch.float64)
    rest = x[:, 4:].clone().requires_grad_()
    out, whole = cell.forward_parts(x[:, :4], rest, h), cell(torch.cat((x[:, :4], rest), 1), h)
    torch.testing.assert_close(out, whole)
    leaves = [*cell.parameters(), rest]
    for got, want in zip(*(torch.autograd.grad(y.square().sum(), leaves) for y in (out, whole)), strict=True):
        torch.testing.assert_close(got, want)


def test_under_autocast() -> None:
    """Where our operators do not apply, torch's operations serve."""
    torch.manual_seed(0)
    cell, x, h = GRUCell(7, 5), torch.randn(9, 7), torch.randn(9, 5)
    with torch.autocast("cpu", torch.bfloat16):
        assert (cell(x, h).float() - torch.nn.GRUCell.forward(cell, x, h).float()).abs().max() < 0.05


def test_inputs_of_some_rows() -> None:
    torch.manual_seed(0)
    cell, rows = GRUCell(7, 5).double(), torch.tensor([6, 0, 3])
    x, h = (torch.randn(n, m, dtype=torch.float64, requires_grad=True) for n, m in ((3, 7), (9, 5)))
    out = cell.forward_rows(x, rows, h)
    whole = cell(torch.zeros(9, 7, dtype=torch.float64).index_copy(0, rows, x), h)
    assert torch.equal(out, whole)
    leaves = [*cell.parameters(), x, h]
    for got, want in zip(*(torch.autograd.grad(y.square().sum(), leaves) for y in (out, whole)), strict=True):
        torch.testing.assert_close(got, want)
    assert torch.equal(cell.forward_rows(x[:0], rows[:0], h), cell(torch.zeros(9, 7, dtype=torch.float64), h))


def test_transformer_is_torchs_attention_node_by_node() -> None:
    torch.manual_seed(0)
    cell = TransformerCell(7, 6).double()
    count = torch.tensor([1, 4, 2, 9])
    row = torch.repeat_interleave(count)
    x, h = (torch.randn(n, m, dtype=torch.float64, requires_grad=True) for n, m in ((16, 7), (4, 6)))
    heads = [part.view(-1, 2, 3).transpose(0, 1) for part in (cell.lin_query(h), cell.lin_key(x), cell.lin_value(x))]
    mixed = [
        torch.nn.functional.scaled_dot_product_attention(
            heads[0][:, n : n + 1], *(part[:, row == n] for part in heads[1:])
        )
        for n in range(4)
    ]
    state = cell.norm(h + torch.cat(mixed, 1).transpose(0, 1).flatten(1))
    whole = cell.out(cell.hidden(state).relu())
    out = cell(x, row, h)
    torch.testing.assert_close(out, whole)
    leaves = [*cell.parameters(), x, h]
    for got, want in zip(*(torch.autograd.grad(y.square().sum(), leaves) for y in (out, whole)), strict=True):
        torch.testing.assert_close(got, want)


def test_transformer_reads_messages_of_any_size_and_none() -> None:
    torch.manual_seed(0)
    cell, h = TransformerCell(7, 6), torch.randn(3, 6)
    row = torch.tensor([0, 0, 2])
    x = torch.randn(3, 7)
    assert torch.isfinite(cell(1e4 * x, row, h)).all()
    assert torch.equal(cell(x, row, h)[1], cell(x[:0], row[:0], h)[1])
    with pytest.raises(ArgumentError, match=r"hidden_size: expected a multiple of heads = 2, got 5"):
        TransformerCell(7, 5)
