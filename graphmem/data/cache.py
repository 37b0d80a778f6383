"""Where raw files are: search, download, verification.

Order: `root` given by the caller, `$GRAPHMEM_DATA`, the user's cache, then a download into the cache. The first two are
only read. Nothing here asks a question; what cannot be done raises.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import sys
import tempfile
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from graphmem.data.card import DatasetCard, FileSpec
from graphmem.errors import DatasetIntegrityError, DatasetNotFoundError

TIMEOUT_SECONDS = 60.0
_BLOCK = 1 << 20


@dataclass(frozen=True)
class LocatedFiles:
    """Raw files of one data set on this machine.

    Args:
        paths: path of each file by `FileSpec.path`; missing optional files are absent.
        verified: whether every file has the sha256 of the card.
    """

    paths: dict[str, Path]
    verified: bool


def cache_dir() -> Path:
    """`$GRAPHMEM_CACHE`, else the platform's folder for caches plus `graphmem`."""
    explicit = os.environ.get("GRAPHMEM_CACHE")
    if explicit:
        return Path(explicit).expanduser()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
        return base / "graphmem" / "Cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "graphmem"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "graphmem"


def read_only_roots(root: str | os.PathLike[str] | None) -> list[Path]:
    """Folders that are searched before the cache and never written."""
    shared = os.environ.get("GRAPHMEM_DATA")
    return [Path(p).expanduser() for p in (root, shared) if p]


def file_sha256(path: Path) -> str:
    """Hex digest of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def array_sha256(**arrays: Tensor | npt.NDArray[np.generic] | None) -> str:
    """Hex digest of named arrays, independent of the machine.

    For each name in alphabetical order: the text `name|dtype|shape` in UTF-8 (`dtype` as numpy spells it in
    little-endian form, e.g. `<i8`, `<f4`; `shape` as comma-separated numbers) and a newline, then the values in C
    order, little-endian. A sparse CSR tensor enters as `name.crow`, `name.col` (int64) and `name.values`. None is left
    out.

    Args:
        **arrays: tensors or numpy arrays by name.
    """
    flat: dict[str, npt.NDArray[np.generic]] = {}
    for name, value in arrays.items():
        if isinstance(value, Tensor) and value.layout == torch.sparse_csr:
            flat[f"{name}.crow"] = value.crow_indices().to(torch.int64).numpy()
            flat[f"{name}.col"] = value.col_indices().to(torch.int64).numpy()
            flat[f"{name}.values"] = value.values().numpy()
        elif value is not None:
            flat[name] = np.asarray(value.detach().cpu().numpy() if isinstance(value, Tensor) else value)
    digest = hashlib.sha256()
    for name in sorted(flat):
        array = np.ascontiguousarray(flat[name]).astype(flat[name].dtype.newbyteorder("<"), copy=False)
        digest.update(f"{name}|{array.dtype.str}|{','.join(map(str, array.shape))}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def locate(card: DatasetCard, root: str | os.PathLike[str] | None = None, download: bool = True) -> LocatedFiles:
    """Find the files of a card, downloading what is missing.

    Args:
        card: the data set.
        root: folder searched first, laid out like `$GRAPHMEM_DATA`.
        download: fetch missing files from the publisher into the cache.

    Raises:
        DatasetNotFoundError: a file is missing and cannot be downloaded.
        DatasetIntegrityError: a file that must have the card's sha256 has another one.
    """
    paths: dict[str, Path] = {}
    verified = True
    for spec in card.files:
        if spec.archive:
            continue
        path = _find(card, spec, root)
        if path is None and spec.optional:
            continue
        if path is None:
            path = _fetch(card, spec, root, download)
        verified &= _matches(card, spec, path)
        paths[spec.path] = path
    return LocatedFiles(paths, verified)


def _find(card: DatasetCard, spec: FileSpec, root: str | os.PathLike[str] | None) -> Path | None:
    for base in [*read_only_roots(root), cache_dir()]:
        path = base / card.folder / spec.path
        if path.is_file():
            return path
    return None


def _matches(card: DatasetCard, spec: FileSpec, path: Path) -> bool:
    """Compare a file with the card; True if its sha256 is the recorded one."""
    if not spec.sha256:
        return False
    found = file_sha256(path)
    if found != spec.sha256 and spec.strict:
        raise DatasetIntegrityError(
            f"data set {card.name!r}: {path} is damaged or is another file: sha256 {found}, expected {spec.sha256} "
            f"({path.stat().st_size} bytes). {_remedy(path, spec)}"
        )
    return found == spec.sha256


def _remedy(path: Path, spec: FileSpec) -> str:
    if cache_dir() in path.parents:
        return "Delete it and load the data set again."
    return "Replace it" + (f" with the file from {spec.url}." if spec.url else " with the publisher's file.")


def _missing(card: DatasetCard, spec: FileSpec, root: str | os.PathLike[str] | None, why: str) -> DatasetNotFoundError:
    places = ", ".join(str(base / card.folder) for base in [*read_only_roots(root), cache_dir()])
    source = f"Get it from {spec.url} and put it" if spec.url else "The publisher serves no such file; put a copy"
    return DatasetNotFoundError(
        f"data set {card.name!r}: file {spec.path!r} is missing ({why}). Looked in: {places}. {source} into one of "
        "these folders, or set GRAPHMEM_DATA to a folder with this layout."
    )


def _fetch(card: DatasetCard, spec: FileSpec, root: str | os.PathLike[str] | None, download: bool) -> Path:
    archive = next((entry for entry in card.files if entry.archive), None)
    source = spec if spec.url or archive is None else archive
    if not source.url:
        raise _missing(card, spec, root, "no address to download it from is known")
    if not download:
        raise _missing(card, FileSpec(spec.path, source.url), root, "download=False")
    folder = cache_dir() / card.folder
    try:
        if source is archive:
            download_archive(archive.url, folder, archive.sha256, inner=archive.path)
        else:
            fetch = download_gzip if spec.url.endswith(".gz") and not spec.path.endswith(".gz") else download_file
            fetch(spec.url, folder / spec.path, spec.sha256 if spec.strict else "")
    except (OSError, HTTPException) as error:  # urllib's errors, timeouts, a full disk, a broken answer
        raise _missing(card, FileSpec(spec.path, source.url), root, f"download failed: {error}") from error
    if not (folder / spec.path).is_file():
        raise _missing(card, spec, root, f"the archive {source.url} does not hold it")
    return folder / spec.path


@contextmanager
def _temporary_beside(target: Path) -> Iterator[Path]:
    """A new folder beside `target`, removed at the end whatever happens; a rename out of it is atomic."""
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=".partial-", dir=target.parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def download_file(url: str, target: Path, sha256: str = "") -> Path:
    """Download one file; `target` appears only when it is complete and verified.

    Args:
        url: address.
        target: where the file goes.
        sha256: expected digest; empty: not compared.

    Raises:
        OSError: network or disk trouble (`urllib.error.URLError` is one), or an incomplete answer.
        DatasetIntegrityError: what arrived has another digest.
    """
    from tqdm import tqdm

    with _temporary_beside(target) as folder:
        part = folder / target.name
        with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as answer, part.open("wb") as stream:
            length = answer.headers.get("Content-Length")
            total = int(length) if length else None
            with tqdm(total=total, unit="B", unit_scale=True, desc=target.name, disable=None) as bar:
                while block := answer.read(_BLOCK):
                    stream.write(block)
                    bar.update(len(block))
        size = part.stat().st_size
        if total is not None and size != total:
            raise OSError(f"{url} sent {size} of {total} bytes")
        if sha256 and (found := file_sha256(part)) != sha256:
            raise DatasetIntegrityError(
                f"download of {url}: sha256 {found} ({size} bytes), expected {sha256}. The publisher's file changed or "
                "something between you and it answered instead; nothing was stored."
            )
        part.replace(target)
    return target


def download_gzip(url: str, target: Path, sha256: str = "") -> Path:
    """Download a gzip file and unpack it to ``target``; ``sha256`` is that of what it holds. See `download_file`."""
    with _temporary_beside(target) as folder:
        packed, part = download_file(url, folder / "packed.gz"), folder / target.name
        try:
            with gzip.open(packed) as source, part.open("wb") as stream:
                shutil.copyfileobj(source, stream)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise DatasetIntegrityError(f"{url}: not a gzip file ({error}); nothing was stored") from error
        if sha256 and (found := file_sha256(part)) != sha256:
            raise DatasetIntegrityError(f"{url}: holds sha256 {found}, expected {sha256}; nothing was stored")
        part.replace(target)
    return target


def download_archive(url: str, folder: Path, sha256: str = "", inner: str = "") -> Path:
    """Download a zip archive and unpack it into `folder`, which appears complete or not at all.

    Args:
        url: address.
        folder: target; an existing one is replaced.
        sha256: expected digest of the archive; empty: not compared.
        inner: top folder inside the archive whose contents become `folder`; empty: the archive's root.

    Raises:
        OSError: network or disk trouble.
        DatasetIntegrityError: wrong digest, not a zip archive, or a member that points outside the archive.
    """
    with _temporary_beside(folder) as work:
        archive = download_file(url, work / "archive.zip", sha256)
        unpacked = work / "unpacked"
        try:
            with zipfile.ZipFile(archive) as bundle:
                for member in bundle.namelist():
                    if not (unpacked / member).resolve().is_relative_to(unpacked.resolve()):
                        raise DatasetIntegrityError(f"{url}: member {member!r} points outside the archive")
                bundle.extractall(unpacked)
        except zipfile.BadZipFile as error:
            raise DatasetIntegrityError(f"{url}: not a zip archive ({error}); nothing was stored") from error
        source = unpacked / inner if inner else unpacked
        if not source.is_dir():
            raise DatasetIntegrityError(f"{url}: the archive has no folder {inner!r}; nothing was stored")
        if folder.exists():
            folder.replace(work / "replaced")
        source.replace(folder)
    return folder


def writable_copy(source: Path, target: Path) -> Path:
    """Copy a folder of a read-only root to `target`, for libraries that write beside their input.

    An existing `target` is kept. The copy is writable even where the source is not.
    """
    if target.is_dir():
        return target
    with _temporary_beside(target) as work:
        copy = work / "copy"
        for path in sorted(source.rglob("*")):
            if path.is_file():
                place = copy / path.relative_to(source)
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, place)  # contents only: the read-only mode stays behind
        copy.replace(target)
    return target
