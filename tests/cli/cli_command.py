from __future__ import annotations

import json
from typing import Any

import pytest

from graphmem.cli import main

DATA = "generated:dcsbm?num_nodes=300&mean_degree=8&num_features=40"
TRAIN = ("--data", DATA, "--preset", "cora", "--batch_size", "0.25", "--options.hidden_channels", "16")


class Command:
    """Runs commands in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys
        self.err = ""

    def __call__(self, *words: object, code: int = 0) -> str:
        self.capsys.readouterr()
        found = main([str(word) for word in words])
        captured = self.capsys.readouterr()
        self.err = captured.err
        assert found == code, captured.err
        return captured.out

    def json(self, *words: object, code: int = 0) -> Any:
        return json.loads(self(*words, "--json", code=code))

    def error(self, *words: object) -> str:
        out = self(*words, code=2)
        assert out == ""
        last = self.err.splitlines()[-1]
        assert last.startswith("graphmem: error: ")
        assert "Traceback" not in self.err
        return last
