from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from graphmem.data.stream import EventStream
from graphmem.engine import run_config
from graphmem.engine.build import _CLASSES
from graphmem.engine.metrics import check_metrics
from graphmem.engine.run_config import RunConfig
from graphmem.engine.signed_task import SIGNED_METRICS
from graphmem.engine.stream_build import make_model
from graphmem.engine.stream_config import StreamRunConfig, resolve_stream
from graphmem.errors import PresetError
from graphmem.models import NAT, SEMBA
from graphmem.models.ncn import NCNCOptions, NCNOptions
from graphmem.presets import MODELS, OPTION_TYPES, Preset, StreamTrainSettings, list_presets, load_preset

IN_CHANNELS = {"cora": 1433, "citeseer": 3703, "pubmed": 500, "ogbl-collab": 128, "ogbl-citation2": 128}

# Counted on the released code; ppa and ddi are also on OGB's leaderboard.
PARAMETERS = {
    "cora": 764_163,
    "citeseer": 1_411_587,
    "pubmed": 525_315,
    "ogbl-collab": 33_922,
    "ogbl-ppa": 33_538,
    "ogbl-ddi": 1_412_098,
    "ogbl-citation2": 33_794,
}
EVERY = list_presets()
PRESETS = [preset for preset in EVERY if preset.model in MODELS]
STREAMS = [preset for preset in EVERY if preset.model not in MODELS]


def make(preset: Preset, compat: str = "clean") -> int:
    options = dict(preset.options)
    widths = options.pop("hidden_channels"), options.pop("num_layers")
    in_channels = IN_CHANNELS.get(preset.data)
    if preset.start is not None and preset.start.take == "embeddings":
        in_channels = widths[0]
    model = _CLASSES[preset.model](in_channels, *widths, compat=compat, **options)
    return sum(p.numel() for p in model.parameters())


def test_every_model_has_a_preset_for_every_published_data_set() -> None:
    published = {(p.model, p.data) for p in PRESETS if not p.tuned}
    assert published == {(m, d) for m in MODELS for d in PARAMETERS}
    assert {(p.model, p.data) for p in PRESETS if p.tuned} <= published


@pytest.mark.parametrize("preset", PRESETS, ids=lambda p: p.name)
def test_every_preset_gives_a_model(preset: Preset) -> None:
    assert preset == load_preset(preset.model, preset.data, tuned=preset.tuned)
    check_metrics(preset.train.metrics)
    if preset.tuned:  # of another size than the published model, but with the same result beside it
        assert preset.published == load_preset(preset.model, preset.data).published
        assert make(preset) > 0
        return
    for compat in ("clean", "reference"):
        count = make(preset, compat)
        width = preset.options["hidden_channels"]
        if preset.model == "ncn":
            assert count == PARAMETERS[preset.data]
        elif preset.name == "ncnc-ogbl-citation2":
            assert count == 33_923
        elif preset.model == "ncnc":
            assert count == PARAMETERS[preset.data] + width**2 + 2 * width + 1


@pytest.mark.parametrize("preset", STREAMS, ids=lambda p: p.name)
@pytest.mark.parametrize("task", ["existence", "sign", "signed-existence", "weight"])
def test_every_preset_of_streams_gives_a_model_and_settings(preset: Preset, task: str) -> None:
    config = StreamRunConfig(model=preset.model, data=preset.data, task=task)
    settings = resolve_stream(config)
    assert settings.preset == preset.name
    assert isinstance(settings.train, StreamTrainSettings)
    assert settings.train.task == task
    assert set(settings.train.metrics) <= set(SIGNED_METRICS.get(task, ("ap", "auc")))
    ends, t = torch.tensor([0, 1]), torch.tensor([1.5, 2.5], dtype=torch.float64)
    model = make_model(settings, EventStream(ends, ends.flip(0), t, 2, weight=torch.tensor([1.0, -2.0])))
    assert model.num_outputs == (3 if task == "signed-existence" else 1)
    assert resolve_stream(StreamRunConfig(model=preset.model, data=preset.data)).train == preset.train.__class__(
        **{**vars(preset.train), "keep_ties": True, "final_metrics": ()}
    )


def test_the_released_wiring_is_the_reference_mode() -> None:
    ends, t = torch.tensor([0, 1]), torch.tensor([1.5, 2.5], dtype=torch.float64)
    stream = EventStream(ends, ends.flip(0), t, 2, weight=torch.tensor([1.0, -2.0]))
    for compat, wanted in (("clean", "clean"), ("reference", "released")):
        model = make_model(resolve_stream(StreamRunConfig(model="semba", data="bitcoin-otc", compat=compat)), stream)
        assert isinstance(model, SEMBA)
        assert model.memory is not None
        assert model.memory.compat == wanted


def test_the_reference_mode_of_nat_is_the_released_model_and_training() -> None:
    ends, t = torch.tensor([0, 1]), torch.tensor([1, 2])
    stream = EventStream(ends, ends.flip(0), t, 2)
    reference = resolve_stream(StreamRunConfig(model="nat", data="collegemsg", compat="reference", epochs=3))
    assert isinstance(reference.train, StreamTrainSettings)
    train = reference.train
    assert (train.batch_size, train.eval_batch_size, train.lr, train.epochs) == (100, 32, 1e-4, 3)
    assert (train.metrics[0], train.split, train.negatives) == ("ap_batch", "time", "random")
    model = make_model(reference, stream)
    assert isinstance(model, NAT)
    assert (model.compat, model.pool, model.time, model.cache.layout.hash) == (
        "reference", "sum", "absolute", "reference"
    )  # fmt: skip
    clean = resolve_stream(StreamRunConfig(model="nat", data="collegemsg"))
    tgn = resolve_stream(StreamRunConfig(model="tgn", data="collegemsg")).train
    assert isinstance(tgn, StreamTrainSettings)
    assert clean.train == replace(tgn, lr=1e-3)
    assert resolve_stream(StreamRunConfig(model="nat", data="collegemsg", lr=1e-4)).train == tgn
    assert make_model(clean, stream).compat == "clean"


def test_option_names_are_those_of_the_models() -> None:
    widths = {"hidden_channels", "num_layers"}
    assert set(OPTION_TYPES) == widths | NCNCOptions.__optional_keys__
    assert set(run_config.options_of("ncnc")) == widths | NCNCOptions.__optional_keys__
    assert set(run_config.options_of("ncn")) == widths | NCNOptions.__optional_keys__


def test_released_flags_that_are_easily_confused() -> None:
    assert load_preset("ncn", "ogbl-ppa").options["use_xlin"] is False
    assert load_preset("ncn", "ogbl-ddi").options["tail_act"] is False
    assert load_preset("ncn", "ogbl-ddi").options["two_layer_lin"] is True
    assert load_preset("ncn", "citeseer").options["two_layer_lin"] is True
    assert load_preset("ncn", "ogbl-collab").train.valid_edges_at_test
    citation = load_preset("ncn", "ogbl-citation2").train
    assert (citation.remove_targets, citation.negatives, citation.clip_norm) == (False, "target", 1.0)
    assert load_preset("ncnc", "ogbl-ddi").train.encoder_lr == 0
    assert load_preset("ncnc", "cora").published.mean == 89.65
    assert not load_preset("gae", "ogbl-ddi").published.verified


def test_presets_of_other_models_state_only_what_differs() -> None:
    gae, ncn = load_preset("gae", "cora"), load_preset("ncn", "cora")
    assert (gae.options, gae.train) == (ncn.options, ncn.train)
    assert gae.published != ncn.published
    assert load_preset("ncn2", "cora").published is None


BASE = """
model = "ncn"
data = "cora"
[options]
conv = "gcn"
[train]
batch_size = 10
epochs = 2
encoder_lr = 0.1
decoder_lr = 1
"""


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (BASE.replace("conv", "cnov"), "unknown key 'options.cnov'; did you mean 'conv'"),
        (BASE.replace('"gcn"', "3"), "'options.conv' must be a string, found 3"),
        (BASE.replace("epochs = 2", "epochs = 2.5"), "'train.epochs' must be a whole number"),
        (BASE.replace("epochs = 2", "epochs = true"), "'train.epochs' must be a whole number"),
        (BASE.replace("epochs = 2", "epochs = 0"), "'train.epochs' must be positive"),
        (BASE.replace("epochs = 2", ""), "'train.epochs' is missing"),
        (BASE.replace("batch_size = 10", 'split = "half"\nbatch_size = 10'), "'train.split' has the value 'half'"),
        (BASE.replace('model = "ncn"', 'model = "nnc"'), "'model' has the value 'nnc'; did you mean"),
        (BASE.replace('data = "cora"', ""), "key 'data' is missing"),
        (BASE + '[published]\nmetric = "mrr2"\nmean = 1.0\nsource = "x"', "'published.metric' has the value 'mrr2'"),
        (BASE + '[published]\nmetric = "mrr"\nmean = 1.0', "'published.source' is missing"),
        (BASE + "[extra]\na = 1", "unknown key 'extra'"),
        ('extends = "ncn-cora"', "goes in a circle: ncn-cora -> ncn-cora"),
        ('extends = "none"', "names 'none', which is not there"),
        ("model = ", "not a TOML file"),
    ],
)
def test_malformed_files_are_named_with_their_key(tmp_path: Path, text: str, named: str) -> None:
    (tmp_path / "ncn-cora.toml").write_text(text)
    with pytest.raises(PresetError) as caught:
        load_preset("ncn", "cora", tmp_path)
    assert str(tmp_path / "ncn-cora.toml") in str(caught.value)
    assert named in str(caught.value)


def test_a_missing_preset_names_close_ones() -> None:
    with pytest.raises(PresetError, match="similar presets: ncn-cora"):
        load_preset("ncn", "core")


def test_resolution_of_a_run() -> None:
    reference = run_config.resolve(RunConfig(model="ncn", data="Cora", compat="reference", epochs=3))
    assert (reference.data, reference.train.epochs, reference.train.batch_size) == ("cora", 3, 1152)
    assert (reference.train.joint, reference.train.multi_edges) == (False, "reference")
    clean = run_config.resolve(RunConfig(model="ncn", data="cora", options={"dropout": 0.5}))
    assert (clean.train.joint, clean.train.multi_edges, clean.options["dropout"]) == (True, "all", 0.5)
    borrowed = run_config.resolve(RunConfig(model="ncn", data="photo", preset="ddi"))
    assert borrowed.borrowed
    assert borrowed.published is None
    assert borrowed.train.split == "auto"
    assert "num_embeddings" not in borrowed.options
    free = run_config.resolve(
        RunConfig(model="gae", data="photo", batch_size=9, epochs=1, encoder_lr=0.1, decoder_lr=0.1)
    )
    assert free.preset is None
    with pytest.raises(PresetError, match=r"--preset cora, or give --epochs --encoder_lr --decoder_lr"):
        run_config.resolve(RunConfig(model="gae", data="photo", batch_size=9))
    with pytest.raises(PresetError, match="starts from a trained model"):
        run_config.resolve(RunConfig(model="ncnc", data="photo", preset="ddi"))
