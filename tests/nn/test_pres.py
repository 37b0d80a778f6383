"""PRES by itself: memories that move in known ways, the gates, the coherence, and the life of its state."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from memory_cases import DIM, MSG, NODES, TIME, stream, update
from torch import Tensor

from graphmem.errors import ArgumentError, ArgumentTypeError
from graphmem.nn import PRES, NodeMemory
from graphmem.nn.state import grow_state, reset_state, restore_state, snapshot_state

ALL = torch.arange(NODES)


def pres(**options: Any) -> PRES:
    return PRES(NODES, DIM, **{"tau": 1.0, "max_shift": None, "eps": 1e-9, **options})


def corrected_memory(seed: int = 0, memory: dict[str, Any] | None = None, **options: Any) -> NodeMemory:
    torch.manual_seed(seed)
    out = NodeMemory(NODES, MSG, DIM, TIME, **(memory or {}))
    out.correct_by(PRES(NODES, DIM, **{"tau": 3.0, **options}))
    return out


def bits(module: torch.nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("gate", ["fixed", "scalar", "per_dim", "kalman"])
def test_steady_drift_is_predicted(gate: str) -> None:
    """s_i(t) = s_i(0) + v_i t at irregular times: the prediction is the measurement, whatever the gate says."""
    g = torch.Generator().manual_seed(0)
    module = pres(gate=gate, alpha=0.3, decay=0.9, min_count=1)
    start, speed = torch.randn(2, NODES, DIM, generator=g)
    t = torch.zeros(NODES)
    for k in range(6):
        later = t + torch.rand(NODES, generator=g) + 0.1
        prev, new = (start + speed * when.unsqueeze(1) for when in (t, later))
        if k >= 2:
            torch.testing.assert_close(module.correct(ALL, prev, new, later - t), new, rtol=1e-5, atol=1e-5)
        module.observe(ALL, prev, new, later - t)
        t = later
    torch.testing.assert_close(module.rates.mean.squeeze(1), speed, rtol=1e-4, atol=1e-5)
    if gate == "kalman":
        assert float(module.rates.m2.abs().max()) < 1e-6


def test_a_still_memory_is_predicted_to_stay() -> None:
    module, s = pres(gate="fixed", alpha=0), torch.randn(NODES, DIM)
    for _ in range(3):
        module.observe(ALL, s, s, torch.ones(NODES))
    assert not module.rates.mean.any()
    assert torch.equal(module.correct(ALL, s, s + 1, torch.full((NODES,), 9.0)), s)


def test_moves_by_events() -> None:
    """An update is one event's; a node with q events in the batch is predicted to have moved q times."""
    module = pres(gate="fixed", alpha=0, rate="per_event", tau="auto")
    prev, step = torch.zeros(NODES, DIM), torch.ones(NODES, DIM)
    for _ in range(3):
        module.observe(ALL, prev, prev + step, torch.rand(NODES))
    count = torch.arange(NODES)
    assert torch.equal(module.correct(ALL, prev, prev, torch.rand(NODES), count), step * count.unsqueeze(1))


def test_equal_times_and_large_steps_stay_finite() -> None:
    module = PRES(NODES, DIM, tau=1.0, max_shift=0.5, gate="fixed", alpha=0)
    prev, new = torch.zeros(NODES, DIM), torch.ones(NODES, DIM)
    for _ in range(3):
        module.observe(ALL, prev, new, torch.zeros(NODES))
    far = module.correct(ALL, prev, new, torch.full((NODES,), 1e12))
    assert far.isfinite().all()
    torch.testing.assert_close(far, torch.full_like(far, 0.5))  # of a root mean square of 1


def test_noise_is_what_the_weights_make_of_it() -> None:
    """Var of the mixture is (1 - a)^2 P + a^2 R; the Kalman gate finds P / (P + R), the best a."""
    g, samples, p, r = torch.Generator().manual_seed(1), 40_000, 0.5, 0.2
    truth, dt = torch.full((samples, 1), 3.0), torch.ones(samples)
    nodes = torch.arange(samples)
    predicted, measured = (truth + s**0.5 * torch.randn(samples, 1, generator=g) for s in (p, r))
    for a in (0.0, 0.25, p / (p + r), 1.0):
        module = PRES(samples, 1, gate="fixed", alpha=a, tau=1.0, max_shift=None)
        for _ in range(2):
            module.observe(nodes, truth, truth, dt)
        mixed = module.correct(nodes, predicted, measured, dt)
        assert float(mixed.var()) == pytest.approx((1 - a) ** 2 * p + a**2 * r, rel=0.05)
    module = PRES(1, samples, gate="kalman", tau=1.0, max_shift=None)
    with torch.no_grad():
        module.logit.fill_(torch.tensor(r).log())
    one = torch.tensor([0])
    for _ in range(400):
        rate = p**0.5 * torch.randn(1, samples, generator=g)
        module.observe(one, torch.zeros(1, samples), rate, torch.ones(1))
    zero = torch.zeros(1, samples)
    alpha = module.correct(one, zero - module.rates.mean.squeeze(1), zero + 1, torch.ones(1))  # of 0 and 1
    assert float(alpha.detach().mean()) == pytest.approx(p / (p + r), rel=0.05)
    double = module.correct(one, zero - module.rates.mean.squeeze(1), zero + 1, torch.ones(1), torch.tensor([2]))
    assert float(double.detach().mean()) == pytest.approx(p / (p + 2 * r), rel=0.05)


@pytest.mark.parametrize("gate", ["scalar", "per_dim", "kalman"])
def test_gradients_reach_updater_and_gate(gate: str) -> None:
    memory = corrected_memory(gate=gate)
    *past, last = stream(1, 6)
    for batch in past:
        update(memory, batch)
    update(memory, last)
    versions = {name: b._version for name, b in memory.named_buffers()}
    memory.aux_loss().backward()
    assert {name: b._version for name, b in memory.named_buffers()} == versions
    for name, parameter in memory.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_the_coherence_is_over_the_affected_nodes_of_the_last_batch() -> None:
    memory = corrected_memory(beta=0.7)
    assert memory.aux_loss() is None
    for batch in stream(2, 4):
        update(memory, batch)
    assert memory.pres is not None
    nodes = memory.pres.waiting.recent
    nodes = nodes[memory.memory[nodes].any(1)]
    s = 1 - torch.cosine_similarity(memory(nodes)[0], memory.memory[nodes])
    torch.testing.assert_close(memory.aux_loss(), 0.7 * s.mean())
    parts = [memory.aux_loss(lambda rows, k=k: rows[k::2]) for k in range(2)]
    torch.testing.assert_close(sum(parts), 0.7 * s.mean())  # type: ignore[arg-type]
    memory.eval()
    for batch in stream(3, 2):
        update(memory, batch)
    assert memory.aux_loss() is None  # mail was read when it came


@given(seed=st.integers(0, 99), asked=st.lists(st.integers(0, NODES - 1), max_size=12))
def test_the_coherence_shares_what_was_read(seed: int, asked: list[int]) -> None:
    """Values and gradients are those of states read once more, whichever nodes the loss has read."""
    found = []
    for shared in (True, False):
        memory = corrected_memory(seed, beta=0.5, rate="per_event")
        for batch in stream(seed, 5):
            update(memory, batch)
        z = memory(torch.tensor(asked, dtype=torch.int64))[0]
        if not shared:
            memory._seen = None
        more = memory.aux_loss()
        loss = z.sin().sum() + (0 if more is None else more)
        grads = torch.autograd.grad(loss, list(memory.parameters()), allow_unused=True) if loss.requires_grad else ()
        found.append([z.detach(), loss.detach(), *(g for g in grads if g is not None)])
        assert memory._seen is None
    assert len(found[0]) == len(found[1])
    assert torch.equal(found[0][0], found[1][0])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("training", [True, False])
def test_what_is_read_is_what_is_stored(training: bool) -> None:
    memory = corrected_memory(gate="fixed", alpha=0.5, rate="per_event").train(training)
    plain = corrected_memory(gate="fixed", alpha=0.5, rate="per_event", persist=False).train(training)
    with torch.no_grad():
        for batch in stream(4, 5):
            update(memory, batch)
            update(plain, batch)
            read = memory(ALL)[0]
            before = memory.memory.clone()
            waits = memory.mail.count > 0
            assert torch.equal(read[~waits], before[~waits])
        memory.flush()
        assert torch.equal(memory.memory, read)
        assert not torch.equal(plain.memory, read)


@given(seed=st.integers(0, 999), size=st.sampled_from((1, 3, 8)), rate=st.sampled_from(("per_time", "per_event")))
def test_a_correction_by_hand(seed: int, size: int, rate: str) -> None:
    """Each node's stored row is the mixture of its prediction and of what the updater alone would have made."""
    memory = corrected_memory(seed, gate="fixed", alpha=0.25, rate=rate, max_shift=None, eps=0.1).eval()
    hand = corrected_memory(seed).eval()
    hand.pres = None
    mean, n, met = torch.zeros(NODES, DIM), torch.zeros(NODES), torch.zeros(NODES, dtype=torch.bool)
    with torch.no_grad():
        for batch in stream(seed, 10, size=size):
            hand.memory.copy_(memory.memory)
            prev, since = memory.memory.clone(), memory.last_update.clone()
            update(memory, batch)
            update(hand, batch)
            ends = list(zip(batch.src.tolist(), batch.dst.tolist(), strict=True))
            late = [any(set(ends[e]) & set(ends[f]) for f in range(e)) for e in range(len(ends))]
            for node in {v for pair in ends for v in pair}:
                span = max(float(memory.last_update[node] - since[node]) / 3.0, 0.1)  # in units of tau
                learned, predicted = (span, span) if rate == "per_time" else (1, sum(node in pair for pair in ends))
                raw = want = hand.memory[node]
                if n[node] >= 2 and any(hit and node in pair for pair, hit in zip(ends, late, strict=True)):
                    want = 0.75 * (prev[node] + predicted * mean[node]) + 0.25 * raw
                torch.testing.assert_close(memory.memory[node], want, rtol=1e-4, atol=1e-5)
                first, met[node] = not bool(met[node]), True
                if first and rate == "per_time":
                    continue  # there was no event from which it could span a time
                n[node] += 1
                mean[node] += ((raw - prev[node]) / learned - mean[node]) / n[node]


@pytest.mark.parametrize("rate", ["per_time", "per_event"])
@pytest.mark.parametrize("training", [True, False])
def test_a_first_update_spans_no_time(rate: str, training: bool) -> None:
    """It is neither observed nor corrected, by what all nodes did either; a rate by events has it."""
    options = {"gate": "fixed", "alpha": 0.0, "rate": rate, "min_count": 1}
    memory = corrected_memory(anchors=torch.tensor([0]), backoff="type_mean", **options).train(training)
    plain = corrected_memory().train(training)
    for _ in range(3):
        for batch in stream(5, 1, nodes=4):
            update(memory, batch)
            update(plain, batch)
    for each in (memory, plain):
        each.flush()
    assert memory.pres is not None
    before = memory.pres.rates.n.clone()
    assert bool((before > 0).all())
    plain.memory.copy_(memory.memory)
    plain.last_update.copy_(memory.last_update)
    plain.pres = None
    new = torch.tensor([NODES - 1, NODES - 2]), torch.tensor([NODES - 1, NODES - 2]).flip(0)
    for each in (memory, plain):
        each.update_state(*new, torch.tensor([10**9, 10**9]), torch.ones(2, MSG))
        each.flush()
    assert torch.equal(memory.memory, plain.memory) == (rate == "per_time")
    assert torch.equal(memory.pres.rates.n, before) == (rate == "per_time")
    memory.update_state(*new, torch.tensor([10**9 + 1, 10**9 + 1]), torch.ones(2, MSG))
    memory.flush()
    assert not torch.equal(memory.pres.rates.n, before)


def walked(memory: NodeMemory, seed: int = 12) -> NodeMemory:
    for batch in stream(seed, 6):
        update(memory, batch)
    return memory


def test_moments_stay_in_evaluation_where_that_is_asked_for() -> None:
    """The mail of the training is read and gone, the memory goes on, and what was learned still corrects it."""
    found = []
    for learns in (True, False):
        memory = walked(corrected_memory(gate="fixed", alpha=0.5, rate="per_event", eval_update=learns))
        pres = memory.pres
        assert pres is not None
        before = bits(pres.rates) | {"scale": pres.scale.clone()}
        walked(memory.eval(), 13)
        after = bits(pres.rates) | {"scale": pres.scale.clone()}
        assert same(before, after) != learns
        assert not pres.waiting.count.any()
        found.append(memory.memory.clone())
    assert not torch.equal(*found)


@pytest.mark.parametrize("training", [True, False])
def test_rates_are_of_what_is_observed(training: bool) -> None:
    """Of states before or behind the correction, for the same memory: corrections alone differ."""
    for observe in ("raw", "corrected"):
        options: dict[str, Any] = {"gate": "fixed", "alpha": 0.25, "rate": "per_event", "max_shift": None}
        memory = walked(corrected_memory(observe=observe, **options).train(training))
        memory.flush()
        pres = memory.pres
        assert pres is not None
        prev, (batch,) = memory.memory.clone(), stream(14, 1)
        n, mean = pres.rates.n.clone(), pres.rates.mean.squeeze(1).clone()
        plain = corrected_memory().train(training)
        plain.load_state_dict(memory.state_dict(), strict=False)
        plain.pres = None
        for each in (memory, plain):
            update(each, batch)
            each.flush()
        seen = memory.memory if observe == "corrected" else plain.memory
        wanted = mean + (seen - prev - mean) / (n + 1)
        ends = torch.cat((batch.src, batch.dst)).unique()
        torch.testing.assert_close(pres.rates.mean.squeeze(1)[ends], wanted[ends], rtol=1e-4, atol=1e-6)
        assert not torch.equal(memory.memory, plain.memory)


def test_nodes_that_nothing_happens_to_are_left_alone() -> None:
    memory = corrected_memory(rate="per_time", gate="fixed", alpha=0)
    for batch in stream(6, 6, nodes=NODES - 3):
        update(memory, batch)
    memory.flush()
    assert not memory.memory[NODES - 3 :].any()
    assert not memory.pres.rates.n[NODES - 3 :].any()


def test_other_nodes_than_anchors_are_not_corrected() -> None:
    def walk(**options: Any) -> NodeMemory:
        memory = corrected_memory(gate="fixed", alpha=0.2, rate="per_event", beta=0, **options).eval()
        with torch.no_grad():
            for batch in stream(7, 6):
                update(memory, batch)
        return memory

    plain = walk(min_count=10_000)
    assert torch.equal(walk(anchors=torch.tensor([NODES - 1]), min_count=10_000).memory, plain.memory)
    assert torch.equal(walk(anchors=ALL).memory, walk().memory)
    assert not torch.equal(walk().memory, plain.memory)
    assert not torch.equal(walk(anchors=torch.tensor([0]), backoff="type_mean").memory, plain.memory)


def test_units_of_time_come_from_the_events() -> None:
    src, dst = torch.tensor([0, 0, 1, 0, 2]), torch.tensor([1, 1, 2, 3, 2])
    t = torch.tensor([0, 0, 10, 14, 50])
    module = PRES(NODES, DIM, anchors=2)
    with pytest.raises(ArgumentError, match="^tau"):
        PRES(NODES, DIM).correct(ALL[:1], *torch.zeros(2, 1, DIM), torch.ones(1))
    with pytest.raises(ArgumentError, match="^anchors"):
        module.correct(ALL[:1], *torch.zeros(2, 1, DIM), torch.ones(1))
    module.fit(src, dst, t)  # gaps: 0: 14; 1: 10; 2: 40
    assert (float(module.tau), float(module.max_dt)) == (14, 14)
    assert module.rates.slots(torch.arange(4)).tolist() == [0, 1, -1, -1]
    other = PRES(NODES, DIM, tau=7)
    other.fit(src, dst, t)
    assert float(other.tau) == 7
    with pytest.raises(ArgumentError, match="^t:"):
        module.fit(src[:1], dst[:1], t[:1])


def test_state_goes_through_state_dict_and_snapshots() -> None:
    batches = stream(8, 8)
    memory = corrected_memory(gate="kalman", num_types=1)
    for batch in batches[:4]:
        update(memory, batch)
    saved, snapshot = bits(memory), snapshot_state(memory)
    resumed = corrected_memory(seed=9, gate="kalman")
    resumed.load_state_dict(saved)
    for batch in batches[4:]:
        update(memory, batch)
        update(resumed, batch)
    end = bits(memory)
    assert same(bits(resumed), end)
    restore_state(memory, snapshot)
    assert same(bits(memory), saved)
    grow_state(memory, NODES + 3)
    for batch in batches[4:]:
        update(memory, batch)
    grown = memory.pres.rates.snapshot()
    assert all(torch.equal(value[:NODES], end[f"pres.rates.{name}"]) for name, value in grown.items())
    reset_state(memory)
    assert not memory.pres.rates.n.any()
    assert memory.pres.waiting.recent.numel() == 0
    assert not memory.pres.known.any()
    assert memory.pres.known.numel() == NODES + 3
    assert float(memory.pres.tau) == 3


def test_forgetting() -> None:
    memory = corrected_memory()
    for batch in stream(9, 4):
        update(memory, batch)
    nodes = torch.tensor([0, 2])
    for part in (memory.pres, memory.pres.waiting, memory.pres.rates):
        part.forget(nodes=nodes)
    assert not memory.pres.rates.n[nodes].any()
    assert not memory.pres.waiting.count[nodes].any()
    assert not memory.pres.known[nodes].any()
    assert memory.pres.known.any()
    assert not torch.isin(nodes, memory.pres.waiting.recent).any()


def test_kinds_of_events() -> None:
    memory = corrected_memory(num_types=3, gate="kalman")
    for k, batch in enumerate(stream(10, 6)):
        types = torch.arange(batch.src.numel()) % 3
        memory.update_state(batch.src, batch.dst, batch.t, batch.msg, types=types)
        waiting = memory.pres.waiting
        here = torch.cat((batch.src, batch.dst)).unique()
        assert torch.equal(waiting.kinds[here].sum(1), waiting.count[here])
        if k == 0:
            loop = int((batch.src == batch.dst).sum())
            assert int(waiting.count.sum()) == 2 * batch.src.numel() - loop
    memory.aux_loss().backward()
    with pytest.raises(ArgumentError, match="^types"):
        memory.update_state(batch.src, batch.dst, batch.t, batch.msg, types=types + 3)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_dtypes(dtype: torch.dtype) -> None:
    module = pres().to(dtype)
    prev, new = torch.randn(2, NODES, DIM).to(dtype)
    for _ in range(2):
        module.observe(ALL, prev, new, torch.ones(NODES))
    assert module.rates.mean.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert module.tau.dtype == torch.float64
    assert module.correct(ALL, prev, new, torch.ones(NODES)).dtype == dtype


def test_empty_batches_change_nothing() -> None:
    memory = corrected_memory()
    for batch in stream(11, 3):
        update(memory, batch)
    none = torch.empty(0, dtype=torch.int64)
    before = memory.memory.clone()
    memory.update_state(none, none, none, torch.empty(0, MSG))
    assert torch.equal(memory.memory, before)
    assert memory.aux_loss() is None
    assert memory(none)[0].shape == (0, DIM)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("gate", {"gate": "half"}),
        ("rate", {"rate": "per_second"}),
        ("alpha", {"alpha": 1.0}),
        ("alpha", {"gate": "fixed", "alpha": 1.5}),
        ("beta", {"beta": -1.0}),
        ("tau", {"tau": 0.0}),
        ("eps", {"eps": 0.0}),
        ("max_shift", {"max_shift": 0.0}),
        ("min_count", {"min_count": 0}),
        ("num_nodes", {"num_nodes": 8.0}),
        ("dim", {"dim": 6.5}),
        ("num_types", {"num_types": 0}),
        ("backoff", {"backoff": "mean"}),
        ("observe", {"observe": "both"}),
        ("persist", {"persist": "maybe"}),
    ],
)
def test_bad_options_are_named(name: str, options: dict[str, Any]) -> None:
    with pytest.raises((ArgumentError, ArgumentTypeError), match=f"^{name}"):
        PRES(**{"num_nodes": NODES, "dim": DIM, **options})


def test_a_memory_of_another_size_is_refused() -> None:
    with pytest.raises(ArgumentError, match="^pres"):
        NodeMemory(NODES, MSG, DIM, TIME).correct_by(PRES(NODES, DIM + 1))
