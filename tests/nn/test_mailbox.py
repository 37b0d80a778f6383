from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from graphmem.errors import ArgumentError
from graphmem.nn import MailAttention, Mailbox

NODES, SIZE, WIDTH = 6, 3, 4


@given(seed=st.integers(0, 999), rounds=st.integers(1, 6))
def test_keeps_the_latest_means(seed: int, rounds: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    box = Mailbox(NODES, SIZE, WIDTH)
    slow: list[list[tuple[torch.Tensor, int]]] = [[] for _ in range(NODES)]
    for k in range(rounds):
        letters = torch.randn(5, WIDTH, generator=generator)
        t = 10 * k + torch.randint(4, (5,), generator=generator).cumsum(0)
        owner, letter = torch.randint(NODES, (9,), generator=generator), torch.randint(5, (9,), generator=generator)
        box.deliver(owner, letter, letters, t)
        for node in set(owner.tolist()):
            mine = letter[owner == node]
            slow[node] = [*slow[node], (letters[mine].mean(0), int(t[mine].max()))][-SIZE:]
    mail, t, there = box.read(torch.arange(NODES))
    for node in range(NODES):
        order = t[node][there[node]].argsort(stable=True)
        want = sorted(slow[node], key=lambda entry: entry[1])
        assert t[node][there[node]][order].tolist() == [time for _, time in want]
        found = mail[node][there[node]]
        for row, _ in want:
            assert (found - row).abs().amax(1).min() < 1e-6


def build() -> MailAttention:
    torch.manual_seed(0)
    return MailAttention(8, WIDTH, 4).eval()


def test_absent_mail_and_order_do_not_matter() -> None:
    module = build()
    z, mail, dt = torch.randn(5, 8), torch.randn(5, SIZE, WIDTH), torch.randint(9, (5, SIZE))
    there = torch.tensor([[True] * 3, [True, True, False], [False, True, True], [False] * 3, [True, False, False]])
    out = module(z, mail, dt, there)
    spoiled = mail.masked_fill(~there.unsqueeze(-1), 1e6)
    assert torch.equal(out, module(z, spoiled, dt, there))
    torch.testing.assert_close(out, module(z, mail.flip(1), dt.flip(1), there.flip(1)))
    torch.testing.assert_close(out[3], module.out(module.hidden(module.norm(z[3])).relu()))


def test_is_torchs_attention() -> None:
    module = build()
    z, mail, dt = torch.randn(5, 8), torch.randn(5, SIZE, WIDTH), torch.randint(9, (5, SIZE))
    letters = torch.cat((mail, module.time_enc(dt)), -1)
    twin = torch.nn.MultiheadAttention(8, 2, batch_first=True, kdim=8, vdim=8)
    with torch.no_grad():
        twin.q_proj_weight, twin.k_proj_weight, twin.v_proj_weight = (
            torch.nn.Parameter(lin.weight.clone()) for lin in (module.lin_query, module.lin_key, module.lin_value)
        )
        twin._qkv_same_embed_dim = False
        twin.in_proj_bias.copy_(torch.cat((module.lin_query.bias, torch.zeros(8), module.lin_value.bias)))
        twin.out_proj.weight.copy_(torch.eye(8))
    mixed = twin(z.unsqueeze(1), letters, letters, need_weights=False)[0].squeeze(1)
    want = module.out(module.hidden(module.norm(z + mixed)).relu())
    found = module(z, mail, dt, torch.ones(5, SIZE, dtype=torch.bool))
    torch.testing.assert_close(found, want)
    twins = (
        twin.q_proj_weight,
        twin.k_proj_weight,
        twin.v_proj_weight,
        twin.in_proj_bias,
        *module.time_enc.parameters(),
    )
    want.square().sum().backward()
    grads = [parameter.grad.clone() for parameter in twins]
    module.zero_grad()
    found.square().sum().backward()
    query, value = module.lin_query, module.lin_value
    for own, other in zip((query.weight, module.lin_key.weight, value.weight), grads[:3], strict=True):
        torch.testing.assert_close(own.grad, other)
    torch.testing.assert_close(query.bias.grad, grads[3][:8])
    torch.testing.assert_close(value.bias.grad, grads[3][16:])
    for parameter, other in zip(module.time_enc.parameters(), grads[4:], strict=True):
        torch.testing.assert_close(parameter.grad, other)


def test_bad_sizes_are_named() -> None:
    with pytest.raises(ArgumentError, match="channels: expected a multiple of heads = 3, got 8"):
        MailAttention(8, WIDTH, 4, heads=3)
    with pytest.raises(ArgumentError, match="size"):
        Mailbox(NODES, 0, WIDTH)
    mail, dt = torch.randn(5, SIZE, WIDTH, requires_grad=True), torch.zeros(5, SIZE)
    with pytest.raises(ArgumentError, match="mail: expected a tensor that requires no gradient"):
        build()(torch.randn(5, 8), mail, dt, dt == 0)
