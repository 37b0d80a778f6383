"""The scripts that train one row after another: what their defaults ask for are runs, each with its own command."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from graphmem.engine.experiment import RunBase


@pytest.mark.parametrize(
    ("name", "rows"),
    [("ablation_nat", 13), ("dyglib", 7), ("streams", 90), ("overlap", 81)],
)
def test_every_row_is_a_run(monkeypatch: pytest.MonkeyPatch, name: str, rows: int) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    monkeypatch.setattr(sys, "argv", [f"benchmarks/{name}.py"])
    script = importlib.import_module(name)
    asked: dict[str, Path] = {}

    def collect(_: str, configs: Iterable[RunBase], folder: Path, *rest: object) -> None:
        asked.update({config.command(): folder / f"{config.model}-{config.data}" for config in configs})

    monkeypatch.setattr(script, "sweep", collect)
    script.main()
    assert len(asked) == len(set(asked.values())) == rows
