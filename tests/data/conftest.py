"""Fixtures of the data tests: a private cache, no network, and the real data where they are."""

from __future__ import annotations

import os
import urllib.request
from pathlib import Path

import pytest

_AT_START = os.environ.get("GRAPHMEM_DATA")  # before any test changes it


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of this test; no shared data unless `real_data` is used; no network."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("GRAPHMEM_CACHE", str(folder))
    monkeypatch.delenv("GRAPHMEM_DATA", raising=False)

    def refuse(url: object, *args: object, **kwargs: object) -> object:
        raise OSError("no network in tests")

    def ask(prompt: str = "") -> str:
        raise AssertionError(f"something asked a question: {prompt}")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    monkeypatch.setattr("builtins.input", ask)
    return folder


@pytest.fixture
def real_data(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of real data; the test is skipped where there is none."""
    if not _AT_START or not Path(_AT_START).is_dir():
        pytest.skip("set GRAPHMEM_DATA to a folder with the real data")
    monkeypatch.setenv("GRAPHMEM_DATA", _AT_START)
    return Path(_AT_START)
