"""Without the compiled library: the same schemas, the same tests, served by the numba reference."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from strategies import features, random_graph, random_pairs

from graphmem import ops
from graphmem.ops import _fallback, reference

HERE = Path(__file__).parent
ROOT = HERE.parent.parent


def run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    # A source tree on sys.path of this process is one for the child, too; native is then neither wanted nor required.
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p), **environment}
    env.pop("GRAPHMEM_REQUIRE_NATIVE", None)
    return subprocess.run([sys.executable, *command], cwd=ROOT, env=env, capture_output=True, text=True, check=False)


def test_schemas_are_those_of_the_library() -> None:
    source = (ROOT / "csrc" / "library.cpp").read_text()
    declared = ["".join(re.findall(r'"([^"]*)"', block)) for block in re.findall(r"m\.def\((.*?)\);", source, re.S)]
    assert sorted(declared) == sorted(_fallback.SCHEMAS)
    for schema in _fallback.SCHEMAS:
        loaded = getattr(torch.ops.graphmem, schema.split("(")[0]).default._schema
        assert str(loaded) == str(torch._C.parse_schema(f"graphmem::{schema}"))


@pytest.mark.skipif(not ops.NATIVE, reason="this is the run without the library")
def test_all_operator_tests_pass_on_the_reference() -> None:
    """Everything in this folder again, with fewer examples, in a process that leaves the library out."""
    done = run(
        *("-m", "pytest", str(HERE), "-q", "-p", "no:cacheprovider", "--ignore", __file__),
        GRAPHMEM_FORCE_REFERENCE="1",
        GRAPHMEM_HYPOTHESIS_PROFILE="quick",
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


def test_reference_on_request_needs_no_library_and_does_not_warn() -> None:
    done = run("-W", "error", "-c", "from graphmem import ops; assert not ops.NATIVE", GRAPHMEM_FORCE_REFERENCE="1")
    assert done.returncode == 0, done.stderr


def test_libraries_come_from_the_folder_that_is_named(tmp_path: Path) -> None:
    code = "from graphmem import ops; print(ops.CPU_LIBRARY)"
    done = run("-W", "ignore", "-c", code, GRAPHMEM_LIBRARY_DIR=str(tmp_path))
    assert (done.returncode, done.stdout.strip()) == (0, "None"), done.stderr
    if ops.CPU_LIBRARY is not None:
        copy = shutil.copy(ops.CPU_LIBRARY, tmp_path)
        assert run("-c", code, GRAPHMEM_LIBRARY_DIR=str(tmp_path)).stdout.strip() == str(copy)


@pytest.mark.parametrize("force", ["0", "1"])
def test_import_leaves_numba_alone(force: str) -> None:
    code = "import sys, graphmem.ops; assert 'numba' not in sys.modules"
    done = run("-W", "ignore", "-c", code, GRAPHMEM_FORCE_REFERENCE=force)
    assert done.returncode == 0, done.stderr


def test_reference_writes_a_cache_only_where_it_is_told(tmp_path: Path) -> None:
    code = """
import os, sys
if sys.argv[1:]:
    os.environ["NUMBA_CACHE_DIR"] = sys.argv[1]
else:
    os.environ.pop("NUMBA_CACHE_DIR", None)
import torch
from graphmem.ops import reference
edges = torch.tensor([0, 1, 2]), torch.tensor([1, 0])
print(reference.find_edges(*edges, torch.tensor([[0], [1]])).tolist())
"""
    folder = Path(reference.__file__).parent
    for words in ((), (str(tmp_path),)):
        assert run("-c", code, *words).stdout == "[0]\n"
        assert not [path for path in folder.rglob("*") if path.suffix in {".nbi", ".nbc"}]
    assert [path for path in tmp_path.rglob("*.nbi")]


def test_detour_through_the_cpu_warns_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The detour itself is the same code for every device; CPU tensors stand in for CUDA ones."""
    monkeypatch.setattr(_fallback, "_warned", False)
    graph, pairs, x = random_graph(9, 0.5, 0), random_pairs(9, 4, 0), features(9, 3, 0)
    args = (*graph.weighted_structure(), *graph.weighted_structure(), pairs, x, False, 1)
    with pytest.warns(RuntimeWarning, match="cn_gather_sum got CUDA tensors"):
        got = _fallback._through_cpu("cn_gather_sum")(*args)
    assert torch.equal(got, torch.ops.graphmem.cn_gather_sum(*args))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        transposed = _fallback._through_cpu("csr_transpose")(graph.rowptr, graph.col, 9)
    want = torch.ops.graphmem.csr_transpose(graph.rowptr, graph.col, 9)
    assert all(torch.equal(one, other) for one, other in zip(transposed, want, strict=True))


@pytest.mark.gpu
def test_cuda_tensors_give_the_bits_of_the_cpu() -> None:
    graph, pairs, x = random_graph(50, 0.3, 0, keep=True), random_pairs(50, 40, 0), features(50, 16, 0)
    args = (*graph.weighted_structure(), *graph.weighted_structure(), pairs, x)
    moved = [arg.cuda() if isinstance(arg, torch.Tensor) else arg for arg in args]
    got = torch.ops.graphmem.cn_gather_sum(*moved, False, 7)
    assert got.is_cuda
    assert torch.equal(got.cpu(), torch.ops.graphmem.cn_gather_sum(*args, False, 7))
