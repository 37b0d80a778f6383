from __future__ import annotations

import os
import pickle
import random

import numpy as np
import pytest
import torch
from torch import nn

from graphmem.engine import (
    load_checkpoint,
    preserve_rng,
    restore_rng_state,
    rng_state,
    save_checkpoint,
    seed_everything,
    seeding,
)
from graphmem.errors import ArgumentError, CheckpointError


def payload():
    return {
        "weights": {"a": torch.arange(50.0), "b": torch.tensor(3)},
        "position": {"epoch": 2},
        "list": [1, (2.5, None)],
    }


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "runs" / "one" / "last.pt"
    save_checkpoint(path, payload())
    return path


def test_round_trip(file):
    loaded = load_checkpoint(file)
    assert torch.equal(loaded["weights"]["a"], torch.arange(50.0))
    assert loaded["position"] == {"epoch": 2}
    assert loaded["list"] == [1, (2.5, None)]
    assert set(loaded["versions"]) == {"graphmem", "torch", "python"}
    assert os.listdir(file.parent) == ["last.pt"]


def test_missing(tmp_path):
    with pytest.raises(CheckpointError, match=r"nowhere\.pt does not exist"):
        load_checkpoint(tmp_path / "nowhere.pt")
    with pytest.raises(CheckpointError, match="does not exist"):
        load_checkpoint(tmp_path)


def test_every_truncation_is_noticed(file):
    raw = file.read_bytes()
    for length in [*range(0, len(raw), 97), len(raw) - 1]:
        file.write_bytes(raw[:length])
        with pytest.raises(CheckpointError, match=r"last\.pt"):
            load_checkpoint(file)


def test_a_flipped_bit_never_changes_a_value(file):
    raw = file.read_bytes()
    intact = load_checkpoint(file)
    noticed = 0
    for position in range(0, len(raw), 7):
        damaged = bytearray(raw)
        damaged[position] ^= 1 << (position % 8)
        file.write_bytes(damaged)
        try:
            loaded = load_checkpoint(file)
        except CheckpointError:
            noticed += 1
        else:  # padding, or a time stamp of the archive
            assert torch.equal(loaded["weights"]["a"], intact["weights"]["a"])
            assert {k: v for k, v in loaded.items() if k != "weights"} == {
                k: v for k, v in intact.items() if k != "weights"
            }
    assert noticed > 100


class Evil:
    def __reduce__(self):
        return os.system, ("touch evil",)


@pytest.mark.parametrize(
    "write",
    [
        lambda p: p.write_text("hello"),
        lambda p: p.write_bytes(b""),
        lambda p: torch.save({"weights": torch.ones(3)}, p),
        lambda p: torch.save([1, 2], p),
        lambda p: torch.save(nn.Linear(2, 2), p),
        lambda p: torch.save({"format": "graphmem-checkpoint", "x": Evil()}, p),
        lambda p: p.write_bytes(pickle.dumps(Evil())),
    ],
)
def test_foreign_files(tmp_path, monkeypatch, write):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "foreign.pt"
    write(path)
    with pytest.raises(CheckpointError, match=r"foreign\.pt"):
        load_checkpoint(path)
    assert os.listdir(tmp_path) == ["foreign.pt"], "loading ran code from the file"


def test_newer_format(tmp_path, monkeypatch):
    monkeypatch.setattr("graphmem.engine.checkpoint.FORMAT_VERSION", 2)
    save_checkpoint(tmp_path / "new.pt", payload())
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match=r"new\.pt has format version 2; this graphmem reads 1 to 1"):
        load_checkpoint(tmp_path / "new.pt")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"a": [np.float32(1)]}, r"payload\['x'\]\['a'\]\[0\] must be .* got numpy.float32"),
        (np.ones(2), "got numpy.ndarray"),
        ({1, 2}, "got builtins.set"),
        ({(1, 2): 3}, "keys must be plain"),
        (nn.Linear(1, 1), "got torch.nn.modules.linear.Linear"),
    ],
)
def test_only_tensors_and_plain_values(file, value, message):
    with pytest.raises(ArgumentError, match=message):
        save_checkpoint(file, {"x": value})
    assert load_checkpoint(file)["position"] == {"epoch": 2}, "the checkpoint before was lost"


@pytest.mark.parametrize("stage", ["save", "fsync", "replace"])
def test_failed_write_keeps_the_checkpoint_before(file, monkeypatch, stage):
    def fail(*args, **kwargs):
        raise OSError(28, "No space left on device")

    target = {"save": "torch.save", "fsync": "os.fsync", "replace": "os.replace"}[stage]
    monkeypatch.setattr(target, fail)
    with pytest.raises(CheckpointError, match=r"last\.pt could not be written: .*No space left"):
        save_checkpoint(file, {"position": {"epoch": 3}})
    monkeypatch.undo()
    assert load_checkpoint(file)["position"] == {"epoch": 2}
    assert os.listdir(file.parent) == ["last.pt"]


def test_a_half_written_temporary_file_is_in_nobodys_way(file):
    file.with_name("last.pt.tmp").write_bytes(b"half")
    assert load_checkpoint(file)["position"] == {"epoch": 2}
    save_checkpoint(file, {"position": {"epoch": 3}})
    assert load_checkpoint(file)["position"] == {"epoch": 3}
    assert os.listdir(file.parent) == ["last.pt"]


def test_views_are_stored_without_their_base(tmp_path):
    base = torch.zeros(1_000_000)
    save_checkpoint(tmp_path / "view.pt", {"row": base[:10]})
    assert (tmp_path / "view.pt").stat().st_size < 10_000


def test_module_versions_travel_with_its_state(tmp_path):
    state = nn.BatchNorm1d(3).state_dict()
    save_checkpoint(tmp_path / "bn.pt", {"model": state})
    assert load_checkpoint(tmp_path / "bn.pt")["model"]._metadata == state._metadata


def draw():
    return [
        random.random(),
        random.gauss(0, 1),
        np.random.rand(),
        np.random.randn(),
        float(torch.rand(())),
        float(torch.randn(())),
    ]


def test_generators_come_back_from_a_file(tmp_path):
    seed_everything(5)
    draw()
    save_checkpoint(tmp_path / "rng.pt", {"rng": rng_state()})
    expected = [draw() for _ in range(3)]
    seed_everything(6)
    restore_rng_state(load_checkpoint(tmp_path / "rng.pt")["rng"])
    assert [draw() for _ in range(3)] == expected


def test_preserve_rng():
    seed_everything(5)
    expected = draw()
    seed_everything(5)
    with preserve_rng():
        draw()
    assert draw() == expected


@pytest.mark.parametrize("seed", [-1, 2**32, 1.0, True, "1"])
def test_bad_seed(seed):
    with pytest.raises(ArgumentError, match="seed must be an integer in"):
        seed_everything(seed)


def test_deterministic_restores_the_settings(monkeypatch):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    assert not torch.are_deterministic_algorithms_enabled()
    with seeding.deterministic():
        assert torch.are_deterministic_algorithms_enabled()
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    assert not torch.are_deterministic_algorithms_enabled()
    assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ
