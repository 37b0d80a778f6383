"""What is installed: metadata, data files, the compiled library, and what happens without it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
import torch
from packaging.requirements import Requirement

import graphmem
from graphmem.ops import _loader

ROOT = Path(__file__).parents[1]
# Computes one common neighbour (node 2 of pair 0, 1) and prints the answer and what computed it.
COMPUTE = """
import torch
from graphmem import ops
from graphmem.data.graph import CSRGraph
graph = CSRGraph.from_edge_index(torch.tensor([[0, 1, 2], [2, 2, 3]]), 4, symmetric=True)
pairs = torch.tensor([[0], [1]])
count = torch.ops.graphmem.cn_count(graph.rowptr, graph.col, None, graph.rowptr, graph.col, None, pairs, False)
print(count.flatten().tolist(), ops.NATIVE)
"""


def python(code: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("GRAPHMEM_")}
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=cwd, env={**env, **environment}
    )


@pytest.fixture
def bare_package(tmp_path: Path) -> Path:
    """A folder with the package's Python sources and data cards, but no compiled library."""
    shutil.copytree(
        ROOT / "graphmem", tmp_path / "graphmem", ignore=shutil.ignore_patterns("lib", "__pycache__", "*.so")
    )
    shutil.copytree(ROOT / "datasets", tmp_path / "graphmem" / "data" / "cards")
    return tmp_path


def without_installed(code: str, folder: Path) -> str:
    """Prefix that makes the copy in `folder` the package, even where another one is installed."""
    skip = "import sys; sys.meta_path = [f for f in sys.meta_path if 'ScikitBuild' not in type(f).__name__]\n"
    return f"{skip}sys.path.insert(0, {str(folder)!r})\n{code}"


def test_one_version() -> None:
    version = re.search(r'__version__ = "(.+)"', (ROOT / "graphmem" / "__init__.py").read_text())
    assert version is not None
    assert graphmem.__version__ == version.group(1)
    assert f"## [{graphmem.__version__}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    try:
        installed = metadata.version("graphmem")
    except metadata.PackageNotFoundError:
        pytest.skip("graphmem is used from the sources, not installed")
    assert installed == graphmem.__version__


def test_requirements_have_no_ceiling() -> None:
    try:
        requires = metadata.requires("graphmem") or []
    except metadata.PackageNotFoundError:
        pytest.skip("graphmem is used from the sources, not installed")
    core = {r.name: r for r in map(Requirement, requires) if r.marker is None}
    assert set(core) == {"torch", "torch-geometric", "numpy", "numba", "tqdm"}
    assert not [r for r in core.values() if any(s.operator in ("<", "<=", "==", "~=") for s in r.specifier)]


def test_type_information_is_there() -> None:
    assert any((Path(root) / "py.typed").is_file() for root in graphmem.__path__)


def test_constraints_name_exact_versions_only() -> None:
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            assert re.fullmatch(r'[a-z0-9-]+==[0-9][0-9a-z.]*( ; python_version >= "3\.\d+")?', line), line


def test_library_needs_only_the_stable_abi() -> None:
    if shutil.which("nm") is None or _loader.CPU_LIBRARY is None:
        pytest.skip("needs nm and the compiled library")
    command = ["nm", "-D", "--undefined-only", "--demangle", _loader.CPU_LIBRARY]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    symbols = [line.split(maxsplit=1)[1] for line in lines]
    assert not [s for s in symbols if re.search(r"\b_?Py[A-Z_]", s)]
    torch_symbols = [s for s in symbols if re.search(r"torch|c10|\bat::|aoti", s)]
    assert torch_symbols
    # C names only; C++ ones have a namespace. The exception is what headeronly promises to keep.
    assert not [s for s in torch_symbols if not re.match(r"(aoti_torch|torch)_\w+$", s)]


def test_library_needs_no_path_of_the_build_machine() -> None:
    if shutil.which("readelf") is None or _loader.CPU_LIBRARY is None:
        pytest.skip("needs readelf and the compiled library")
    dynamic = subprocess.run(["readelf", "-d", _loader.CPU_LIBRARY], capture_output=True, text=True, check=True).stdout
    needed = set(re.findall(r"NEEDED.*\[(.+)\]", dynamic))
    assert not {name for name in needed if "python" in name or "cuda" in name}
    if "dist-packages" not in _loader.CPU_LIBRARY and "site-packages" not in _loader.CPU_LIBRARY:
        pytest.skip("the library is one of a build folder, not of an installation")
    assert re.findall(r"(?:RPATH|RUNPATH).*\[(.+)\]", dynamic) == ["$ORIGIN/../../torch/lib"]
    content = Path(_loader.CPU_LIBRARY).read_bytes()
    for folder in (ROOT / "csrc", Path(torch.__file__).parent):
        assert f"{folder}/".encode() not in content


def test_required_library_that_is_missing_is_an_error(bare_package: Path) -> None:
    done = python(without_installed("import graphmem.ops", bare_package), bare_package, GRAPHMEM_REQUIRE_NATIVE="1")
    assert done.returncode != 0
    assert "NativeLibraryError: GRAPHMEM_REQUIRE_NATIVE is set but no compiled operators found" in done.stderr
    assert "pip install" in done.stderr


def test_without_library_the_reference_computes_and_warns_once(bare_package: Path) -> None:
    code = "import warnings; warnings.simplefilter('always')\n" + COMPUTE + "import graphmem.models\n"
    done = python(without_installed(code, bare_package), bare_package)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[1, 0, 0] False"
    assert done.stderr.count("no compiled operators found") == 1
    # numba must not leave its cache beside the sources
    assert not list(bare_package.rglob("*.nbi"))


def test_reference_on_request_is_silent(tmp_path: Path) -> None:
    done = python(COMPUTE, tmp_path, GRAPHMEM_FORCE_REFERENCE="1", PYTHONPATH=os.environ.get("PYTHONPATH", ""))
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[1, 0, 0] False"
    assert "compiled operators" not in done.stderr


def test_damaged_library_is_a_typed_error(bare_package: Path) -> None:
    (bare_package / "graphmem" / "lib").mkdir()
    name = f"{_loader._PREFIX}graphmem{_loader._SUFFIX}"
    (bare_package / "graphmem" / "lib" / name).write_bytes(b"not a library")
    done = python(without_installed("import graphmem.ops", bare_package), bare_package)
    assert done.returncode != 0
    assert "NativeLibraryError" in done.stderr
    assert name in done.stderr


def test_source_archive_holds_the_package_only(tmp_path: Path) -> None:
    pytest.importorskip("scikit_build_core")
    code = f"from scikit_build_core.build import build_sdist; print(build_sdist({str(tmp_path)!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        names = {name.partition("/")[2] for name in tar.getnames()}
    assert {name.partition("/")[0] for name in names} == {
        "csrc", "datasets", "graphmem", "LICENSE", "README.md", "pyproject.toml", "PKG-INFO",
    }  # fmt: skip
    assert {"csrc/CMakeLists.txt", "csrc/library.cpp", "datasets/cora.toml", "graphmem/py.typed"} <= names
    assert not [name for name in names if name.endswith((".so", ".pyc"))]


def test_what_a_wheel_must_do(tmp_path: Path) -> None:
    """`make wheel-check` runs this in fresh environments; here in the one of the tests."""
    pytest.importorskip("jsonargparse")
    if _loader.CPU_LIBRARY is None or Path(sys.prefix) not in Path(_loader.CPU_LIBRARY).parents:
        pytest.skip("graphmem's library is not installed in this environment")
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "wheel" / "smoke.py")], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["torch"] == torch.__version__


def test_built_wheel() -> None:
    """`make wheel` sets GRAPHMEM_WHEEL to the file that it built."""
    if "GRAPHMEM_WHEEL" not in os.environ:
        pytest.skip("GRAPHMEM_WHEEL is not set; run `make wheel`")
    path = ROOT / os.environ["GRAPHMEM_WHEEL"]
    assert re.fullmatch(rf"graphmem-{re.escape(graphmem.__version__)}-py3-none-\w+\.whl", path.name)
    platform = path.stem.rpartition("-")[2]
    assert platform.startswith("manylinux_2_" if sys.platform == "linux" else ("macosx", "win"))
    with zipfile.ZipFile(path) as wheel:
        names = [name for name in wheel.namelist() if not name.endswith("/")]
    top = {name.partition("/")[0] for name in names}
    assert top == {"graphmem", f"graphmem-{graphmem.__version__}.dist-info"}
    libraries = [name for name in names if name.endswith((".so", ".dylib", ".dll"))]
    assert {Path(name).parent.as_posix() for name in libraries} == {"graphmem/lib"}
    stems = {Path(name).stem.removeprefix("lib") for name in libraries}
    assert stems == ({"graphmem", "graphmem_cuda"} if _loader.cuda_build() else {"graphmem"})
    described = {"graphmem/lib/graphmem_cuda.json"} if "graphmem_cuda" in stems else set()
    sources = {p.relative_to(ROOT).as_posix() for p in (ROOT / "graphmem").rglob("*.py")}
    presets = {p.relative_to(ROOT).as_posix() for p in (ROOT / "graphmem" / "presets").glob("*.toml")}
    cards = {f"graphmem/data/cards/{p.name}" for p in (ROOT / "datasets").glob("*.toml")}
    wanted = sources | presets | cards | {"graphmem/py.typed"}
    found = {name for name in names if name.startswith("graphmem/")} - set(libraries) - described
    assert found == wanted
