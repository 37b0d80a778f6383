"""What every model of the family keeps: seeds, state, scores, gradients, parameter counts, errors."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from model_cases import CASES, DROPOUT, HIDDEN, NODES, ModelCase, both, by_name, edges, gradients, nodes_x, seeded
from strategies import same_bits
from torch import Tensor, nn
from torch_geometric.nn import GCN, GraphSAGE

from graphmem.data.convert import to_csr
from graphmem.data.graph import CSRGraph
from graphmem.errors import ArgumentError, ArgumentTypeError
from graphmem.models import GAE, NCN, NCN2, NCNC, LinkModel, NCNDiff
from graphmem.nn import CNDecoder, GraphEncoder, Memo, PyGEncoder
from graphmem.nn import decoder as decoder_module
from graphmem.nn.heads import CNBranch

X, LINKS = nodes_x(), edges()
GRAPH = CSRGraph.from_edge_index(LINKS, NODES, symmetric=True)
PAIRS = torch.cat((LINKS[:, :10], torch.randint(0, NODES, (2, 30), generator=torch.Generator().manual_seed(1))), dim=1)

every_model = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


@every_model
def test_logits(case: ModelCase) -> None:
    model = case.build()
    for mode in (True, False):
        logits = model.train(mode)(X, both(LINKS), PAIRS)
        assert logits.shape == (40,)
        assert logits.dtype == torch.float32
        assert bool(torch.isfinite(logits).all())
        assert logits.unique().numel() > 30  # they depend on the pair
        assert model(X, both(LINKS), PAIRS[:, :0]).shape == (0,)


@every_model
def test_forward_is_encode_then_decode(case: ModelCase) -> None:
    model = case.build(**DROPOUT).eval()
    expected = model(X, both(LINKS), PAIRS)
    assert torch.equal(model.decode(model.encode(X, GRAPH), GRAPH, PAIRS), expected)
    model.train()
    hidden = GRAPH.without_edges(PAIRS)
    assert torch.equal(
        seeded(lambda: model.decode(model.encode(X, hidden), hidden, PAIRS)),
        seeded(lambda: model(X, both(LINKS), PAIRS)),
    )


@every_model
def test_score_is_decode(case: ModelCase, monkeypatch: pytest.MonkeyPatch) -> None:
    model = case.build(**DROPOUT).eval()
    h = model.encode(X, GRAPH).detach()
    expected = model.decode(h, GRAPH, PAIRS).detach()
    scores = model.score(h, GRAPH, PAIRS)
    assert not scores.requires_grad
    torch.testing.assert_close(scores, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(model.decode(h, GRAPH, PAIRS, Memo()), expected, rtol=1e-5, atol=1e-5)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(model.score(h, GRAPH, PAIRS[:, order]), expected[order], rtol=1e-5, atol=1e-5)
    for work, most in ((1, 1), (60, 8)):
        monkeypatch.setattr(decoder_module, "CHUNK_WORK", work)
        monkeypatch.setattr(decoder_module, "CHUNK_PAIRS", most)
        torch.testing.assert_close(model.score(h, GRAPH, PAIRS), expected, rtol=1e-5, atol=1e-5)
    assert model.score(h, GRAPH, PAIRS[:, :0]).shape == (0,)


@every_model
def test_evaluation_is_deterministic(case: ModelCase) -> None:
    model = case.build(**DROPOUT, edge_dropout=0.3).eval()
    if case.cls is not GAE:
        model = case.build(**DROPOUT, edge_dropout=0.3, pair_edge_dropout=0.3).eval()
    state = torch.get_rng_state()
    first = model(X, both(LINKS), PAIRS)
    torch.manual_seed(99)
    assert torch.equal(model(X, both(LINKS), PAIRS), first)
    torch.set_rng_state(state)
    model.score(model.encode(X, GRAPH), GRAPH, PAIRS)
    assert torch.equal(torch.get_rng_state(), state)  # and leaves training's random numbers alone


@every_model
def test_swapping_the_ends_changes_nothing(case: ModelCase) -> None:
    model = case.build().eval()
    one, other = (model(X, both(LINKS), pairs) for pairs in (PAIRS, PAIRS.flip(0)))
    torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


@every_model
def test_numbering_of_the_nodes_changes_nothing(case: ModelCase) -> None:
    if case.name == "NCNC-sampled":
        pytest.skip("which neighbours are drawn depends on their numbers")
    model = case.build().eval()
    place = torch.randperm(NODES, generator=torch.Generator().manual_seed(0))
    moved = torch.empty_like(X)
    moved[place] = X
    torch.testing.assert_close(
        model(moved, both(place[LINKS]), place[PAIRS]), model(X, both(LINKS), PAIRS), rtol=1e-4, atol=1e-5
    )


# --- random numbers, threads, state


@every_model
def test_same_seed_same_bits(case: ModelCase) -> None:
    options = {**DROPOUT, "edge_dropout": 0.2, **({} if case.cls is GAE else {"pair_edge_dropout": 0.2})}
    outputs = []
    for _ in range(2):
        model = case.build(**options)
        logits = seeded(lambda model=model: model(X, both(LINKS), PAIRS))
        outputs.append((logits, gradients(model, logits.square().sum())))
    (one, one_grad), (other, other_grad) = outputs
    assert same_bits(one, other)
    assert one_grad.keys() == other_grad.keys()
    assert all(same_bits(one_grad[name], other_grad[name]) for name in one_grad)
    assert not torch.equal(seeded(lambda: model(X, both(LINKS), PAIRS), 6), one)


@pytest.mark.usefixtures("restore_threads")
@pytest.mark.parametrize("dropout", [True, False])
@every_model
def test_bits_do_not_depend_on_the_number_of_threads(case: ModelCase, dropout: bool) -> None:
    """Forward and gradients, at a size at which MKL does not split the sums of a matrix product."""
    num_nodes, width = 250, 32
    x, links = nodes_x(num_nodes), edges(num_nodes, 6.0)
    generator = torch.Generator().manual_seed(2)
    pairs = torch.cat((links[:, :150], torch.randint(0, num_nodes, (2, 150), generator=generator)), dim=1)
    model = case.build(hidden=width, **(DROPOUT if dropout else {})).train()
    results = []
    for threads in (1, 2, 4):
        torch.set_num_threads(threads)
        logits = seeded(lambda: model(x, both(links), pairs))
        results.append((logits.detach(), gradients(model, torch.nn.functional.softplus(-logits).mean())))
    (first, first_grad), *others = results
    for logits, gradient in others:
        assert same_bits(first, logits)
        for name, value in first_grad.items():
            assert same_bits(gradient[name], value), name


@pytest.mark.usefixtures("restore_threads")
def test_gradients_of_scalars_do_not_depend_on_the_number_of_threads() -> None:
    """Long sums that torch would cut by threads: the factor of a branch, the weight of a layer, a shared row."""
    rows, width = 4000, 64
    values, grad = nodes_x(rows, width, 1), nodes_x(rows, width, 2)
    branch = CNBranch(width, 0.0, False, True)
    decoder = CNDecoder(width)
    encoder = GraphEncoder(width, width, 2, conv="puresum", jk=True)
    loops = CSRGraph.from_edge_index(torch.arange(rows).repeat(2, 1), rows)
    results = []
    for threads in (1, 2, 4):
        torch.set_num_threads(threads)
        shared = torch.zeros(1, width, requires_grad=True)
        branch.rest = torch.nn.Identity()  # type: ignore[assignment]
        branch.first.bias = torch.nn.Parameter(shared[0])
        found = [
            torch.autograd.grad(decoder.add_branch(torch.zeros_like(values), values), decoder.beta, grad)[0],
            torch.autograd.grad(branch(torch.tensor([5]), values[:1], rows), branch.first.bias, grad)[0],
        ]
        encoder.input_lin = None
        found.append(torch.autograd.grad(encoder(values, loops), encoder.jk_weight, grad)[0])
        results.append(found)
    for others in results[1:]:
        assert all(same_bits(one, other) for one, other in zip(results[0], others, strict=True))


@pytest.mark.usefixtures("restore_threads")
@pytest.mark.parametrize("name", ["NCN", "NCNC-clean", "NCNC-pt"])
@pytest.mark.parametrize("dropout", [True, False])
def test_bits_are_the_same_every_time(name: str, dropout: bool) -> None:
    """With several threads, at a size where torch's own gradient of an index would add in any order."""
    torch.set_num_threads(4)
    x, links = nodes_x(2000), edges(2000, 6.0)
    pairs = torch.cat((links[:, :1500], torch.randint(0, 2000, (2, 1500))), dim=1)
    model = by_name[name].build(hidden=64, **(DROPOUT if dropout else {})).train()
    first: dict[str, Tensor] | None = None
    for _ in range(3):
        logits = seeded(lambda: model(x, both(links), pairs))
        gradient = gradients(model, torch.nn.functional.softplus(-logits).mean())
        first = gradient if first is None else first
        assert all(same_bits(gradient[name], value) for name, value in first.items())


@pytest.mark.usefixtures("restore_threads")
@pytest.mark.parametrize("name", ["NCN", "NCNC-clean"])
def test_gradients_of_edge_weights_are_the_same_every_time(name: str) -> None:
    torch.set_num_threads(4)
    num_nodes, width = 1500, 4
    x, links = nodes_x(num_nodes), edges(num_nodes, 30.0)
    generator = torch.Generator().manual_seed(2)
    pairs = torch.cat((links[:, :2000], torch.randint(0, num_nodes, (2, 2000), generator=generator)), dim=1)
    weight = torch.rand(2 * links.size(1), requires_grad=True)
    model = by_name[name].build(hidden=width).train()
    results = []
    for _ in range(3):
        logits = model(x, both(links), pairs, weight)
        results.append(torch.autograd.grad(logits.square().sum(), weight)[0])
    assert all(same_bits(results[0], other) for other in results[1:])


@every_model
def test_state_round_trip(case: ModelCase) -> None:
    model, other = case.build(seed=0).eval(), case.build(seed=1).eval()
    before = other(X, both(LINKS), PAIRS)
    assert not torch.allclose(model(X, both(LINKS), PAIRS), before)
    other.load_state_dict(model.state_dict())
    assert same_bits(model(X, both(LINKS), PAIRS), other(X, both(LINKS), PAIRS))


@every_model
def test_reset_is_a_function_of_the_seed(case: ModelCase) -> None:
    for extra in ({"in_channels": 7}, {"in_channels": None, "num_embeddings": NODES}):
        model = case.build(**extra)
        original = {name: value.clone() for name, value in model.state_dict().items()}
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(1)
        states = []
        for seed in (3, 3, 4):
            seeded(model.reset_parameters, seed)
            states.append({name: value.clone() for name, value in model.state_dict().items()})
        assert all(torch.equal(states[0][name], states[1][name]) for name in original)
        assert any(not torch.equal(states[0][name], states[2][name]) for name in original)
        # Every weight is drawn anew: none keeps the value that was put there.
        assert all(not torch.equal(states[0][n], original[n] + 1) for n, _ in model.named_parameters())
        if case.cls is not GAE:
            assert float(states[0]["decoder.beta"]) == 1


# --- gradients


@every_model
def test_gradcheck_of_the_whole_model(case: ModelCase, monkeypatch: pytest.MonkeyPatch) -> None:
    """In float64, weights of nodes' features, edges and every parameter; completion's inner pass is a constant."""
    torch.manual_seed(0)
    model = case.cls(3, 4, **{**case.options, "conv": "gcn"}).double().train()
    links = edges(8, 3.5, 2)
    pairs = torch.cat((links[:, :2], torch.tensor([[0, 1], [5, 1]])), dim=1)
    x = nodes_x(8, 3).double().requires_grad_()
    weight = (torch.rand(both(links).size(1), dtype=torch.float64) + 0.5).requires_grad_()
    if case.cls is NCNC:
        decoder: Any = model.decoder
        torch.manual_seed(0)
        inner, constant = decoder._inner, []
        monkeypatch.setattr(decoder, "_inner", lambda *args: constant.append(inner(*args)) or constant[-1])
        seeded(lambda: model(x, both(links), pairs, weight))
        monkeypatch.setattr(decoder, "_inner", lambda *args: constant[-1])
    names, values = zip(*model.named_parameters(), strict=True)

    def logits(x: Tensor, weight: Tensor, *parameters: Tensor) -> Tensor:
        torch.manual_seed(5)  # the same neighbours are sampled each time
        state = dict(zip(names, parameters, strict=True))
        return torch.func.functional_call(model, state, (x, both(links), pairs, weight))

    assert torch.autograd.gradcheck(logits, (x, weight, *values), fast_mode=True)


@every_model
def test_every_parameter_learns(case: ModelCase) -> None:
    model = case.build(**DROPOUT).train()
    learned = gradients(model, seeded(lambda: model(X, both(LINKS), PAIRS)).square().sum())
    for name, _ in model.named_parameters():
        idle = name.startswith("decoder.ptlin") and not case.options.get("learn_pt")
        # A zero gradient of a linear layer's bias before a norm is possible in principle, not of a weight.
        assert (name in learned and bool(learned[name].any())) != idle, name


# --- sizes

CORA: dict[str, Any] = {"conv": "puregcn", "jk": True}
CITESEER = {**CORA, "two_layer_lin": True}
GCN64: dict[str, Any] = {"conv": "gcn", "residual": True}
DDI: dict[str, Any] = {
    "conv": "puresum",
    "residual": True,
    "two_layer_lin": True,
    "tail_act": False,
    "num_embeddings": 4268,
}


@pytest.mark.parametrize(
    ("name", "in_channels", "width", "num_layers", "options", "count"),
    [
        ("Cora", 1433, 256, 1, CORA, 764_163),
        ("Citeseer", 3703, 256, 1, CITESEER, 1_411_587),
        ("Pubmed", 500, 256, 1, CORA, 525_315),
        ("collab", 128, 64, 1, GCN64, 33_922),
        ("ppa", None, 64, 3, {**GCN64, "use_xlin": False, "num_embeddings": 58}, 33_538),
        ("citation2", 128, 64, 3, {"conv": "puregcn", "residual": True}, 33_794),
        ("ddi", None, 224, 1, DDI, 1_412_098),
    ],
)
def test_parameter_counts(
    name: str, in_channels: int | None, width: int, num_layers: int, options: dict[str, Any], count: int
) -> None:
    """The authors' leaderboard entries state two of these; the others were counted in their modules."""
    model = NCN(in_channels, width, num_layers, **options)
    assert sum(p.numel() for p in model.parameters()) == count
    for compat in ("clean", "reference"):
        completed = NCNC(in_channels, width, num_layers, compat=compat, **options)  # type: ignore[arg-type]
        assert sum(p.numel() for p in completed.parameters()) == count + width**2 + 2 * width + 1
    del name


def test_parameter_count_with_precomputed_nodes() -> None:
    model = NCNC(64, 64, 0, conv="none", residual=True)
    assert sum(p.numel() for p in model.parameters()) == 33_923


def test_reference_heads_of_the_ablations() -> None:
    """The released code builds these three with other heads than it means to."""

    def layers(model: LinkModel, cls: type) -> int:
        return sum(isinstance(m, cls) for m in model.decoder.modules())

    options: dict[str, Any] = {"tail_act": True, "two_layer_lin": True}
    assert layers(GAE(7, 8, **options), nn.Linear) == 1 + 3
    assert layers(GAE(7, 8, compat="reference", **options), nn.Linear) == 2 + 2
    for cls in (NCNDiff, NCN2):
        assert layers(cls(7, 8, **options), nn.Linear) == 1 + 3 + 2 + 2 + 2
        reference = cls(7, 8, compat="reference", **options)
        assert layers(reference, nn.Linear) == 1 + 2 + 2 + 2  # no xlin, one hidden layer before the logit
        assert layers(reference, nn.LayerNorm) == 0
        with_edges = cls(7, 8, compat="reference", pair_edge_dropout=0.1, norm=False)
        assert layers(with_edges, nn.LayerNorm) == 4
        assert layers(with_edges, nn.Linear) == 2 + 2 + 3 + 3  # `norm` arrived as `tail_act`


# --- any encoder


@pytest.mark.parametrize("name", ["GAE", "NCN", "NCNC-clean"])
@pytest.mark.parametrize("make", [GCN, GraphSAGE])
def test_pyg_encoders(name: str, make: Any) -> None:
    torch.manual_seed(0)
    model = by_name[name].cls(None, encoder=make(7, 10, 2, out_channels=6))
    assert isinstance(model.encoder, PyGEncoder)
    assert model.decoder.channels == 6
    logits = model.train()(X, both(LINKS), PAIRS)
    learned = gradients(model, logits.square().sum())
    assert any(name.startswith("encoder") for name in learned)
    # Targets are hidden from a PyG encoder too.
    assert torch.equal(model(X, both(LINKS), PAIRS), model(X, GRAPH.without_edges(PAIRS).edge_index(), PAIRS))


# --- errors


def test_unknown_options() -> None:
    with pytest.raises(TypeError, match="pair_dropuot"):
        NCN(7, 8, pair_dropuot=0.1)  # type: ignore[call-arg]
    with pytest.raises(ArgumentError, match="compat"):
        NCNC(7, 8, compat="paper")  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="depth"):
        NCNC(7, 8, depth=0)
    with pytest.raises(ArgumentError, match="inner_input"):
        NCNC(7, 8, inner_input="h")
    with pytest.raises(ArgumentError, match="inner_input.*reference"):
        NCNC(7, 8, inner_input="encoded", compat="reference")
    with pytest.raises(ArgumentError, match="in_channels"):
        NCN(None, 8)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"x": X[:5]}, "edge_index"),  # ids beyond the rows of x
        ({"x": X[:, :3]}, "x:"),
        ({"x": None}, "x:"),
        ({"x": {"user": X}}, "x:.*dict"),
        ({"edge_index": both(LINKS).t()}, r"edge_index.*\.t\(\)"),
        ({"edge_index": {("a", "to", "b"): LINKS}}, "homogeneous"),
        ({"edge_index": both(LINKS).int()}, "edge_index.*int64"),
        ({"edge_index": None}, "graph"),
        ({"edge_label_index": PAIRS.t()}, "pairs|edge_label_index"),
        ({"edge_label_index": PAIRS + NODES}, "pairs|edge_label_index"),
        ({"edge_label_index": PAIRS.int()}, "pairs|edge_label_index"),
        ({"edge_label_index": PAIRS.tolist()}, "pairs|edge_label_index"),
        ({"edge_weight": torch.ones(3)}, "edge_weight"),
    ],
)
@pytest.mark.parametrize("training", [True, False])
def test_bad_calls(arguments: dict[str, Any], match: str, training: bool) -> None:
    model = NCN(7, 8).train(training)
    good = {"x": X, "edge_index": both(LINKS), "edge_label_index": PAIRS}
    with pytest.raises((ArgumentError, ArgumentTypeError), match=match):
        model(**{**good, **arguments})


def test_decode_checks_pairs() -> None:
    model = NCNC(7, HIDDEN)
    h, graph = model.encode(X, GRAPH), to_csr(both(LINKS), NODES)
    for call in (model.decode, model.score):
        with pytest.raises(ArgumentError, match="pairs"):
            call(h, graph, torch.tensor([[0], [NODES]]))
