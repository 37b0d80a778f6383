"""Search, download and verification of files, without a network."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import sys
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from graphmem.data import cache as files
from graphmem.data.card import DatasetCard, FileSpec
from graphmem.errors import DatasetIntegrityError, DatasetNotFoundError

CONTENT = b"edges and more edges"
DIGEST = hashlib.sha256(CONTENT).hexdigest()
URL = "https://publisher.example/edges.bin"


def card(**spec: object) -> DatasetCard:
    fields: dict[str, object] = {"path": "edges.bin", "url": URL, "sha256": DIGEST}
    return DatasetCard("toy", folder="toy/raw", files=(FileSpec(**{**fields, **spec}),))  # type: ignore[arg-type]


class Answer(io.BytesIO):
    def __init__(self, content: bytes, length: int | None = None) -> None:
        super().__init__(content)
        self.headers = {"Content-Length": str(len(content) if length is None else length)}


def serve(monkeypatch: pytest.MonkeyPatch, content: bytes, length: int | None = None) -> list[str]:
    asked: list[str] = []

    def answer(url: str, timeout: float) -> Answer:
        asked.append(url)
        return Answer(content, length)

    monkeypatch.setattr(urllib.request, "urlopen", answer)
    return asked


def listing(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def place(root: Path, content: bytes = CONTENT) -> Path:
    path = root / "toy/raw/edges.bin"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    return path


def test_order_of_the_places(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = serve(monkeypatch, CONTENT)
    fetched = files.locate(card())
    assert fetched.paths["edges.bin"] == cache / "toy/raw/edges.bin"
    assert asked == [URL]
    shared, root = tmp_path / "shared", tmp_path / "root"
    place(shared)
    monkeypatch.setenv("GRAPHMEM_DATA", str(shared))
    assert files.locate(card()).paths["edges.bin"].is_relative_to(shared)
    place(root)
    assert files.locate(card(), root).paths["edges.bin"].is_relative_to(root)
    assert files.locate(card(), root).verified
    assert asked == [URL]


def test_download_is_verified_and_atomic(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    serve(monkeypatch, b"an error page")
    with pytest.raises(DatasetIntegrityError, match=f"sha256 [0-9a-f]{{64}} .*expected {DIGEST}.*nothing was stored"):
        files.locate(card())
    serve(monkeypatch, CONTENT[:5], length=len(CONTENT))
    with pytest.raises(DatasetNotFoundError, match="sent 5 of 20 bytes"):
        files.locate(card())
    assert listing(cache) == []


def test_a_packed_file_is_unpacked_and_verified(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = card(url=f"{URL}.gz")
    for damaged in (b"an error page", gzip.compress(CONTENT)[:-9], gzip.compress(b"another file")):
        serve(monkeypatch, damaged)
        with pytest.raises(DatasetIntegrityError, match="nothing was stored"):
            files.locate(one)
        assert listing(cache) == []
    serve(monkeypatch, gzip.compress(CONTENT))
    found = files.locate(one)
    assert found.verified
    assert found.paths["edges.bin"].read_bytes() == CONTENT


@pytest.mark.parametrize("failure", [KeyboardInterrupt(), OSError("cable cut"), TimeoutError("slow")])
def test_interrupted_download_leaves_nothing(
    failure: BaseException, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(Answer):
        def read(self, size: int | None = -1) -> bytes:
            if self.tell():
                raise failure
            return super().read(4)

    monkeypatch.setattr(urllib.request, "urlopen", lambda url, timeout: Broken(CONTENT))
    with pytest.raises(KeyboardInterrupt if isinstance(failure, KeyboardInterrupt) else DatasetNotFoundError):
        files.locate(card())
    assert listing(cache) == []
    assert [path for path in cache.rglob(".partial-*")] == []


def test_no_network_says_what_to_do(cache: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetNotFoundError) as caught:
        files.locate(card(), tmp_path / "root")
    text = str(caught.value)
    for part in ("'toy'", "edges.bin", "no network in tests", URL, str(tmp_path / "root"), str(cache), "GRAPHMEM_DATA"):
        assert part in text
    with pytest.raises(DatasetNotFoundError, match=r"download=False.*Get it from https://publisher"):
        files.locate(card(), download=False)
    with pytest.raises(DatasetNotFoundError, match="no address"):
        files.locate(card(url=""))


def test_url_errors_become_typed(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(url: str, timeout: float) -> object:
        raise urllib.error.HTTPError(url, 404, "Not Found", None, None)  # type: ignore[arg-type]

    monkeypatch.setattr(urllib.request, "urlopen", gone)
    with pytest.raises(DatasetNotFoundError, match="404"):
        files.locate(card())


def test_damaged_file_is_refused(cache: Path, tmp_path: Path) -> None:
    path = place(tmp_path / "root", CONTENT[:-1] + b"!")
    with pytest.raises(DatasetIntegrityError) as caught:
        files.locate(card(), tmp_path / "root")
    for part in (str(path), DIGEST, "20 bytes", f"Replace it with the file from {URL}"):
        assert part in str(caught.value)
    place(cache, b"")
    with pytest.raises(DatasetIntegrityError, match="Delete it and load"):
        files.locate(card())


def test_another_encoding_is_reported_as_unverified(cache: Path, tmp_path: Path) -> None:
    place(tmp_path / "root", b"the same values, packed otherwise")
    assert not files.locate(card(strict=False), tmp_path / "root").verified
    assert not files.locate(card(sha256=""), tmp_path / "root").verified


def test_one_unverified_file_makes_the_set_unverified(cache: Path, tmp_path: Path) -> None:
    specs = (FileSpec("loose.bin", sha256="0" * 64, strict=False), FileSpec("edges.bin", sha256=DIGEST))
    place(tmp_path / "root").with_name("loose.bin").write_bytes(b"packed otherwise")
    for order in (specs, specs[::-1]):
        assert not files.locate(DatasetCard("toy", folder="toy/raw", files=order), tmp_path / "root").verified


def test_optional_files_may_be_missing(cache: Path) -> None:
    assert files.locate(card(optional=True)).paths == {}


def zip_bytes(**members: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as bundle:
        for name, content in members.items():
            bundle.writestr(name.replace("__", "/"), content)
    return stream.getvalue()


def archive_card() -> DatasetCard:
    specs = (FileSpec("inner", "https://publisher.example/all.zip", archive=True), FileSpec("raw/edges.bin"))
    return DatasetCard("zipped", folder="zipped", files=specs)


def test_archive_is_unpacked_whole(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = serve(monkeypatch, zip_bytes(inner__raw__edges__bin=b"", **{"inner__raw__edges.bin": CONTENT}))
    found = files.locate(archive_card())
    assert found.paths["raw/edges.bin"].read_bytes() == CONTENT
    files.locate(archive_card())
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"not a zip", "not a zip archive"),
        (zip_bytes(other__edges=b"1"), "no folder 'inner'"),
        (zip_bytes(**{"..__..__evil": b"1"}), "points outside"),
    ],
)
def test_bad_archives(content: bytes, message: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    serve(monkeypatch, content)
    with pytest.raises(DatasetIntegrityError, match=message):
        files.locate(archive_card())
    assert listing(cache) == []


def test_archive_without_the_file(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    serve(monkeypatch, zip_bytes(inner__readme=b"1"))
    with pytest.raises(DatasetNotFoundError, match="does not hold it"):
        files.locate(archive_card())


def test_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GRAPHMEM_CACHE", str(tmp_path / "mine"))
    assert files.cache_dir() == tmp_path / "mine"
    monkeypatch.delenv("GRAPHMEM_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(sys, "platform", "linux")
    assert files.cache_dir() == tmp_path / "graphmem"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert files.cache_dir() == Path.home() / "Library/Caches/graphmem"
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path))
    assert files.cache_dir() == tmp_path / "graphmem/Cache"


def test_writable_copy(tmp_path: Path) -> None:
    path = place(tmp_path / "shared")
    os.chmod(path, 0o444)
    os.chmod(path.parent, 0o555)
    copy = files.writable_copy(tmp_path / "shared", tmp_path / "work")
    assert (copy / "toy/raw/edges.bin").read_bytes() == CONTENT
    (copy / "toy/raw/edges.bin").write_bytes(b"mine")
    assert files.writable_copy(tmp_path / "shared", tmp_path / "work") == copy
    assert (copy / "toy/raw/edges.bin").read_bytes() == b"mine"
    os.chmod(path.parent, 0o755)


def test_array_sha256_is_the_documented_one() -> None:
    b, a = np.array([[1, 2]], dtype=">i4"), torch.tensor([0.5])
    expected = hashlib.sha256(
        b"a|<f4|1\n" + np.array([0.5], "<f4").tobytes() + b"b|<i4|1,2\n" + np.array([1, 2], "<i4").tobytes()
    ).hexdigest()
    assert files.array_sha256(b=b, a=a, c=None) == expected
    assert files.array_sha256(b=b.T.copy().T, a=a) == expected
    assert files.array_sha256(b=b.T, a=a) != expected
    dense = torch.tensor([[0.0, 2.0], [1.0, 0.0]])
    parts = {"x.crow": torch.tensor([0, 1, 2]), "x.col": torch.tensor([1, 0]), "x.values": torch.tensor([2.0, 1.0])}
    assert files.array_sha256(x=dense.to_sparse_csr()) == files.array_sha256(**parts)
