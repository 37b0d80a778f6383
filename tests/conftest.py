"""Shared by all tests: hypothesis profiles, markers that depend on the machine, and an honest list of data tests."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings

# No deadline: the first example of a test compiles a reference loop. Derandomised, so that a failure on one machine is
# one on every machine; "explore" looks further, with other examples each time.
_common = {"deadline": None, "database": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("default", max_examples=30, derandomize=True, **_common)
settings.register_profile("quick", max_examples=6, derandomize=True, **_common)
settings.register_profile("explore", max_examples=1000, **_common)
settings.load_profile(os.environ.get("GRAPHMEM_HYPOTHESIS_PROFILE", "default"))

# All processes of a run share the reference's compiled loops: most of its time is numba's. By content of the sources,
# for numba looks at the file of a loop only, not at those of what it calls.
_ROOT = Path(__file__).parent.parent
_sources = b"".join(path.read_bytes() for path in sorted((_ROOT / "graphmem" / "ops").glob("_reference*.py")))
os.environ.setdefault("NUMBA_CACHE_DIR", str(_ROOT / "build" / "numba" / hashlib.sha256(_sources).hexdigest()[:16]))

_realdata: dict[str, list[str]] = {"passed": [], "failed": [], "skipped": []}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # A dry run of the tests' own code, where there is no GPU: GRAPHMEM_GPU_TESTS_ON=cpu.
    dry = os.environ.get("GRAPHMEM_GPU_TESTS_ON") == "cpu"
    no_gpu = pytest.mark.skip(reason="needs a CUDA device")
    no_data = pytest.mark.skip(reason="GRAPHMEM_DATA is not set")
    for item in items:
        if item.get_closest_marker("gpu") and not (dry or torch.cuda.is_available()):
            item.add_marker(no_gpu)
        if item.get_closest_marker("realdata") and not os.environ.get("GRAPHMEM_DATA"):
            item.add_marker(no_data)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if "realdata" not in report.keywords:
        return
    # A test that is skipped or breaks in its set-up has no call phase.
    if report.when == "call" or report.outcome != "passed":
        _realdata[report.outcome].append(report.nodeid)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not any(_realdata.values()):
        return
    terminalreporter.section("tests on real data")
    for outcome, names in _realdata.items():
        for name in names:
            terminalreporter.write_line(f"{outcome.upper():8}{name}")
    counts = ", ".join(f"{len(names)} {outcome}" for outcome, names in _realdata.items())
    terminalreporter.write_line(counts)


@pytest.fixture
def restore_threads() -> Iterator[None]:
    """Put the number of threads back after a test that changes it."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
