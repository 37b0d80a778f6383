"""Floors of the house: who imports whom, what an import brings in, how long a file may get."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "graphmem").rglob("*.py"))
MAX_FILE, MAX_FUNCTION = 400, 60


def run_python(code: str, **environment: str) -> str:
    """Standard output of a fresh interpreter that runs `code` outside the repository."""
    env = {**os.environ, **environment}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, cwd=ROOT.parent)
    assert done.returncode == 0, done.stderr
    return done.stdout


def modules_after(statement: str, **environment: str) -> set[str]:
    code = f"import json, sys\n{statement}\nprint(json.dumps(sorted(sys.modules)))"
    return set(json.loads(run_python(code, **environment).splitlines()[-1]))


def test_contracts_of_import_linter_hold() -> None:
    pytest.importorskip("importlinter")
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()", "--no-cache"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "imports run one way KEPT" in done.stdout


def test_models_do_not_bring_in_the_engine_or_extras() -> None:
    loaded = modules_after("import graphmem.models")
    assert not {name for name in loaded if name.startswith(("graphmem.engine", "graphmem.cli", "graphmem.presets"))}
    extras = {"ogb", "matplotlib", "tensorboard", "jsonargparse", "pandas", "pyarrow", "sklearn"}
    # Without graphmem, the peers may bring some of them in; that is not ours to judge.
    peers = modules_after("import torch, torch_geometric")
    assert not (extras | {"scipy", "numba"}) & (loaded - peers)


@pytest.mark.parametrize("module", ["graphmem.models", "graphmem.data", "graphmem.cli.commands"])
def test_pyg_waits_until_it_is_asked_for(module: str) -> None:
    """It takes longer to import than torch."""
    assert "torch_geometric" not in modules_after(f"import {module}")


def test_numba_waits_until_the_reference_is_called() -> None:
    assert "numba" not in modules_after("import graphmem.ops")


@pytest.mark.parametrize("module", ["graphmem", "graphmem.models", "graphmem.engine"])
def test_import_leaves_the_process_as_it_was(module: str) -> None:
    code = f"""
import torch, torch_geometric
import json, logging, os, random, warnings
def state():
    return [dict(os.environ), os.getcwd(), torch.get_num_threads(), torch.get_default_dtype().__str__(),
            torch.initial_seed(), hash(random.getstate()), len(warnings.filters),
            len(logging.getLogger().handlers), torch.are_deterministic_algorithms_enabled()]
before = state()
import {module}
print(json.dumps([before, state()]))
"""
    before, after = json.loads(run_python(code).splitlines()[-1])
    assert before == after


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_stay_short(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    lines = len(text.splitlines())
    assert lines <= MAX_FILE, f"{path.name} has {lines} lines; split it (limit {MAX_FILE})"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = code_lines(node)
            assert length <= MAX_FUNCTION, f"{node.name} has {length} lines (limit {MAX_FUNCTION})"


def code_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines from `def` to the end, without the docstring."""
    assert node.end_lineno is not None
    lines = node.end_lineno - node.lineno + 1
    first = node.body[0]
    if ast.get_docstring(node) is not None and first.end_lineno is not None:
        lines -= first.end_lineno - first.lineno + 1
    return lines


def test_library_does_not_print_or_ask() -> None:
    """Output belongs to the command line; nothing prompts."""
    found = []
    for path in SOURCES:
        if "cli" in path.relative_to(ROOT / "graphmem").parts[0]:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("print", "input"):
                found.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert not found
