"""Facts about this installation and machine; ``python -m graphmem.info`` shows them, as ``graphmem doctor`` does."""

from __future__ import annotations

import os
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import graphmem

# Distribution, and the extra that brings it ("" for what is always installed).
_PACKAGES = {
    "torch": "",
    "torch-geometric": "",
    "numpy": "",
    "numba": "",
    "tqdm": "",
    "jsonargparse": "cli",
    "ogb": "ogb",
    "torch-scatter": "scatter",
    "scipy": "mat",
    "pandas": "parquet",
    "pyarrow": "parquet",
    "matplotlib": "plot",
    "tensorboard": "track",
}


def version_of(distribution: str) -> str | None:
    """Version of an installed distribution; None if it is not installed."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def versions() -> dict[str, str | None]:
    """Versions that a result depends on."""
    core = {name: version_of(name) for name in ("torch", "torch-geometric", "numpy")}
    return {"graphmem": graphmem.__version__, "python": platform.python_version(), **core}


def machine() -> dict[str, Any]:
    """CPU model, cores, threads, accelerator and system of this machine."""
    import torch

    facts: dict[str, Any] = {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "system": f"{platform.system()} {platform.machine()}",
    }
    if torch.cuda.is_available():
        major, minor = torch.cuda.get_device_capability()
        facts["gpu"] = f"{torch.cuda.get_device_name()} (sm_{major}{minor})"
    return facts


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:  # not Linux
        pass
    return platform.processor() or platform.machine()


def library() -> dict[str, Any]:
    """Which operators were loaded and from where.

    Returns:
        ``kind`` ("native", "reference" or "none"), ``cpu`` and ``cuda`` (paths or None), ``problem`` (text or None),
        ``cuda_build`` (toolkit and architectures of the CUDA operators, or None), ``cuda_absence`` (why they are not
        loaded, or None).
    """
    try:
        from graphmem import ops
        from graphmem.ops import _loader
    except Exception as error:  # whatever it is, a doctor has to report it
        return {"kind": "none", "cpu": None, "cuda": None, "problem": f"{type(error).__name__}: {error}"}
    return {
        "kind": "native" if ops.NATIVE else "reference",
        "cpu": ops.CPU_LIBRARY,
        "cuda": ops.CUDA_LIBRARY,
        "problem": None,
        "cuda_build": _loader.cuda_build(),
        "cuda_absence": _loader.cuda_absence(),
    }


def data_roots() -> dict[str, Any]:
    """Folders that data sets are looked up in."""
    try:
        from graphmem.data.cache import cache_dir
    except Exception as error:
        return {"problem": f"{type(error).__name__}: {error}"}
    return {"GRAPHMEM_DATA": os.environ.get("GRAPHMEM_DATA"), "cache": str(cache_dir())}


def collect() -> dict[str, Any]:
    """Everything that a doctor wants to know, as plain values."""
    facts: dict[str, Any] = {
        "versions": {"graphmem": graphmem.__version__, "python": platform.python_version()},
        "packages": {name: version_of(name) for name in _PACKAGES},
        "graphmem_path": list(graphmem.__path__),
    }
    try:
        import torch
    except Exception as error:
        return {**facts, "torch": {"problem": f"{type(error).__name__}: {error}"}}
    facts["torch"] = {"cuda_build": torch.version.cuda, "cuda_available": torch.cuda.is_available()}
    switches = {name: value for name, value in sorted(os.environ.items()) if name.startswith("GRAPHMEM_")}
    return {**facts, "library": library(), "machine": machine(), "data": data_roots(), "environment": switches}


def healthy(facts: dict[str, Any]) -> bool:
    """Whether graphmem can work here: torch and the operators load."""
    return "problem" not in facts["torch"] and facts["library"]["problem"] is None


def report(facts: dict[str, Any]) -> str:
    """The facts as lines of text; one begins with ``library:``."""
    lines = [f"{name + ':':<26}{version}" for name, version in facts["versions"].items()]
    lines.append(f"{'installed at:':<26}{', '.join(facts['graphmem_path'])}")
    if "problem" in facts["torch"]:
        lines.append(f"{'torch:':<26}cannot be imported: {facts['torch']['problem']}")
        return "\n".join(lines)
    lines.append(f"{'library:':<26}{_library_line(facts['library'])}")
    lines.append(f"{'CUDA operators:':<26}{_cuda_line(facts['library'])}")
    build, usable = facts["torch"]["cuda_build"], facts["torch"]["cuda_available"]
    lines.append(f"{'CUDA:':<26}{'torch has none' if build is None else f'torch has {build}, usable: {usable}'}")
    lines += [f"{key + ':':<26}{value}" for key, value in facts["machine"].items()]
    lines += [f"{key + ':':<26}{value or 'not set'}" for key, value in facts["data"].items()]
    lines += [f"{key + ':':<26}{value}" for key, value in facts["environment"].items() if key != "GRAPHMEM_DATA"]
    for name, version in facts["packages"].items():
        extra = _PACKAGES[name]
        missing = f'not installed; pip install "graphmem[{extra}]"' if extra else "MISSING"
        lines.append(f"{name + ':':<26}{version or missing}")
    return "\n".join(lines)


def _library_line(facts: dict[str, Any]) -> str:
    if facts["problem"]:
        return f"none, {facts['problem']}"
    if facts["kind"] == "reference":
        return "numba reference (slower); no compiled operators were loaded"
    return f"compiled operators, {facts['cpu']}"


def _cuda_line(facts: dict[str, Any]) -> str:
    build = facts.get("cuda_build")
    built = f" (CUDA {build['toolkit']}; {', '.join(build['code'])})" if build else ""
    if facts["cuda"]:
        return f"{facts['cuda']}{built}"
    return f"not loaded{built}: {facts.get('cuda_absence') or facts['problem']}"


if __name__ == "__main__":
    found = collect()
    sys.stdout.write(report(found) + "\n")
    sys.exit(0 if healthy(found) else 1)
