from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from graphmem.errors import ArgumentError
from graphmem.nn import LogAge, MailAttention, Mailbox, TimeEncoder

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
    mail, t = box.read(torch.arange(NODES))
    there = torch.arange(SIZE) < box.count.unsqueeze(1)
    assert not mail[~there].any()
    assert not t[~there].any()
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


def test_order_does_not_matter_and_number_does() -> None:
    module = build()
    z, mail, dt = torch.randn(5, 8), torch.randn(5, SIZE, WIDTH), torch.randint(9, (5, SIZE))
    torch.testing.assert_close(module(z, mail, dt), module(z, mail.flip(1), dt.flip(1)))
    box = Mailbox(2, SIZE, WIDTH)
    box.deliver(torch.tensor([0, 1]), torch.zeros(2, dtype=torch.int64), mail[0, :1], torch.tensor([7]))
    box.deliver(torch.tensor([1]), torch.zeros(1, dtype=torch.int64), mail[0, :1], torch.tensor([7]))
    read, t = box.read(torch.tensor([0, 1]))
    one, two = module(z[:1].expand(2, -1), read, 9 - t)
    assert (one - two).abs().max() > 1e-3


def test_ages_are_logarithms_in_units_that_events_fit() -> None:
    age = LogAge()
    dt = torch.tensor([-3, 0, 1, 10**12])
    torch.testing.assert_close(age(dt), (dt.clamp(min=0).double() / 86_400).log1p())
    age.fit(torch.tensor([0, 0, 0, 2]), torch.tensor([1, 1, 2, 2]), torch.tensor([0, 5, 12, 15]))
    assert age.time_scale == 5  # gaps of 5 (both ends), 7 (node 0) and 3 (node 2)
    age.fit(torch.tensor([0]), torch.tensor([1]), torch.tensor([0]))
    assert age.half().time_scale == 5
    assert age.time_scale.dtype == torch.float64
    with pytest.raises(ArgumentError, match="time_scale: expected a positive number or None, got 0"):
        LogAge(0)


def test_the_oldest_ages_have_like_codes() -> None:
    """Of an age ten times that of all others the code is less than a twentieth of the circle further."""
    torch.manual_seed(0)
    age, code = LogAge(60.0), TimeEncoder(200, "slow")
    old, older = code(age(torch.tensor([10**6, 10**7])))
    assert (old - older).abs().max() < 0.1 * math.log(10.0) < 2 * math.pi / 20
    assert (code(age(torch.tensor([0, 10**6]))).diff(dim=0)).abs().max() > 0.5


def test_is_torchs_attention() -> None:
    module = build()
    z, mail, dt = torch.randn(5, 8), torch.randn(5, SIZE, WIDTH), torch.randint(9, (5, SIZE))
    letters = torch.cat((mail, module.time_enc(module.age(dt))), -1)
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
    found = module(z, mail, dt)
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
        build()(torch.randn(5, 8), mail, dt)
