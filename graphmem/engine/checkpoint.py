"""Checkpoints: one file, written atomically, loaded without running any code from it."""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import platform
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import graphmem
from graphmem.errors import ArgumentError, CheckpointError

FORMAT = "graphmem-checkpoint"
FORMAT_VERSION = 1
PREVIOUS_NAME = "previous.pt"

logger = logging.getLogger("graphmem.engine")

_PLAIN = (int, float, str, bool, type(None))


def save_checkpoint(path: str | os.PathLike[str], payload: Mapping[str, Any]) -> None:
    """Write ``payload`` to ``path`` so that the file is at any moment either the old one or the new one, whole.

    The bytes go to ``<path>.tmp`` beside it, are synced to the disk and then take the name; the directory is synced
    last. A process that is killed, or a machine that stops, leaves the previous checkpoint in place (and perhaps a
    ``.tmp`` file, which the next write replaces). Tensors are stored on the CPU, so the file loads on any machine.

    Args:
        path: The file; its directory is created.
        payload: Names to tensors, plain values (int, float, str, bool, None) and dicts, lists and tuples of those.

    Raises:
        ArgumentError: If the payload holds anything else; ``weights_only`` loading would refuse it later.
        CheckpointError: If the file cannot be written.
    """
    target = Path(path)
    document = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "versions": {
            "graphmem": str(graphmem.__version__),
            "torch": str(torch.__version__),
            "python": platform.python_version(),
        },
        **{key: plain_copy(value, f"payload[{key!r}]") for key, value in payload.items()},
    }
    temporary = target.with_name(target.name + ".tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            torch.save(document, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
        _sync_directory(target.parent)
    except (OSError, RuntimeError) as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise CheckpointError(f"checkpoint {target} could not be written: {error}") from error


def load_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Load a checkpoint, tensors on the CPU, with ``weights_only=True``: no code in the file is run.

    Raises:
        CheckpointError: Naming the file, if it is missing, truncated, damaged, not a graphmem checkpoint, or of a newer
            format.
    """
    target = Path(path)
    if not target.is_file():
        raise CheckpointError(f"checkpoint {target} does not exist")
    try:
        _check_bytes(target)
        document = torch.load(target, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"checkpoint {target} is damaged or not a graphmem checkpoint: expected tensors and plain values, {error}"
        ) from error
    # A damaged file shows as almost anything: BadZipFile, zlib.error, RuntimeError, EOFError, KeyError, ...
    except Exception as error:
        raise CheckpointError(f"checkpoint {target} is damaged or truncated: {error}") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise CheckpointError(f"checkpoint {target} is not a graphmem checkpoint: it has no format {FORMAT!r}")
    version = document.get("format_version")
    if not isinstance(version, int) or not 1 <= version <= FORMAT_VERSION:
        raise CheckpointError(
            f"checkpoint {target} has format version {version!r}; this graphmem reads 1 to {FORMAT_VERSION}, upgrade it"
        )
    return document


def make_room(path: Path) -> None:
    """Find out before the first epoch whether the directory can be written, and keep an earlier run's checkpoint."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            previous = path.with_name(PREVIOUS_NAME)
            os.replace(path, previous)
            logger.warning("%s belongs to an earlier run and is now %s; resume=True would continue it", path, previous)
    except OSError as error:
        raise CheckpointError(f"checkpoint directory {path.parent} cannot be used: {error}") from error


def plain_copy(value: Any, where: str = "value") -> Any:
    """Copy a tree of tensors and plain values, tensors to the CPU; refuse everything else.

    Tensors that share memory do so afterwards only if they did as one object; a view is stored without the rest of its
    base. Types are compared exactly: a numpy scalar is a ``float`` to Python and foreign to ``weights_only`` loading.

    Args:
        value: The tree.
        where: How to call it in an error.

    Raises:
        ArgumentError: Naming the place of what cannot be stored.
    """
    return _copy(value, where, {})


def _copy(value: Any, where: str, seen: dict[int, Tensor]) -> Any:
    if isinstance(value, Tensor):
        if id(value) not in seen:
            seen[id(value)] = value.detach().to("cpu", copy=True)
        return seen[id(value)]
    if type(value) in _PLAIN:
        return value
    if isinstance(value, Mapping):
        for key in value:
            if type(key) not in _PLAIN:
                raise ArgumentError(
                    f"{where} has the key {key!r} of type {type(key).__name__}; keys must be plain values"
                )
        items = {key: _copy(item, f"{where}[{key!r}]", seen) for key, item in value.items()}
        if not isinstance(value, OrderedDict):
            return items
        ordered: OrderedDict[Any, Any] = OrderedDict(items)
        if hasattr(value, "_metadata"):  # a module's state_dict: versions of its modules, read when it is loaded
            ordered._metadata = _copy(value._metadata, f"{where}._metadata", seen)  # type: ignore[attr-defined]
        return ordered
    if type(value) in (list, tuple):
        return type(value)(_copy(item, f"{where}[{i}]", seen) for i, item in enumerate(value))
    raise ArgumentError(
        f"{where} must be a tensor, int, float, str, bool, None or a dict, list or tuple of those, "
        f"got {type(value).__module__}.{type(value).__qualname__}"
    )


def _check_bytes(path: Path) -> None:
    # torch.save writes a zip file with checksums, which torch.load does not look at: a flipped bit in a weight would
    # pass unnoticed.
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise zipfile.BadZipFile(f"wrong checksum of {damaged}")


def _sync_directory(directory: Path) -> None:
    if os.name != "posix":  # other systems cannot open a directory
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
