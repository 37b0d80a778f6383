"""`graphmem plan`."""

from __future__ import annotations

import json

import pytest

from graphmem.cli import main

WORDS = "plan --nodes 2000 --edges 8000 --features 32 --hidden 64 --batch 1024 --max-degree 100 --model".split()


def test_text_and_json_say_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*WORDS, "ncn"]) == 0
    text = capsys.readouterr().out
    assert main([*WORDS, "ncn", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["workload"]["max_degree"] == 100
    peaks = [document[phase]["peak"] for phase in ("setup", "training", "evaluation", "checkpoint")]
    assert document["peak_bytes"] == max(peaks) > 16 * 2**20
    assert f"peak above the level after import: {max(peaks) / 2**20:.1f} MiB" in text
    assert [f"{peak / 2**20:.1f}" for peak in peaks] == text.splitlines()[-3].split()[1:]


def test_gae_takes_less(capsys: pytest.CaptureFixture[str]) -> None:
    peaks = []
    for model in ("gae", "ncn"):
        assert main([*WORDS, model, "--json", "--hidden=512"]) == 0
        peaks.append(json.loads(capsys.readouterr().out)["peak_bytes"])
    assert peaks[0] < 0.9 * peaks[1]


def test_bad_numbers_end_with_a_message(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*WORDS, "ncn", "--max_degree", "2"]) == 2
    assert "max_degree: expected a number from the mean degree 8.0 to 1999, got 2" in capsys.readouterr().err
