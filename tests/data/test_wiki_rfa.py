"""SNAP's file of votes: order, names, what is left out, and what is an error."""

from __future__ import annotations

import datetime
import gzip
from pathlib import Path

import pytest
import torch

from graphmem.data.formats.wiki_rfa import read_wiki_rfa
from graphmem.data.registry import load_stream
from graphmem.errors import DatasetIntegrityError

VOTES = (
    ("Zoë", "Bob", "1", "23:13, 19 April 2013", "'''Support''' as nom"),
    ("Ann", "Bob", "-1", "01:04, 20 Apr 2013", "Oppose\nSRC of a second line: no\n:VOT"),
    ("Cid", "Bob", "0", "01:05, 20 April 2013", "neutral"),
    ("", "Bob", "1", "01:06, 20 April 2013", "nobody"),
    ("Bob", "Ann", "1", "", "undated"),
    ("Bob", "Ann", "1", "25:61, 20 April 2013", "no such hour"),
    ("Bob", "Ann", "1", "09:00, 31 Juin 2004", "no such month"),
    ("Bob", "Ann", "-1", "07:30, 1 January 2005", ""),
    ("Cid", "Ann", "1", "07:30, 1 January 2005", "the file goes backwards, so this one came first"),
)


def write(path: Path, votes: tuple[tuple[str, ...], ...] = VOTES) -> Path:
    fields = "SRC:{}\nTGT:{}\nVOT:{}\nRES:1\nYEA:2013\nDAT:{}\nTXT:{}\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress("\n".join(fields.format(*vote) for vote in votes).encode()))
    return path


def test_votes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="graphmem"):
        stream = read_wiki_rfa(write(tmp_path / "a.txt.gz"))
    assert stream.node_names is not None
    names = list(stream.node_names)
    assert names == ["Ann", "Bob", "Cid", "Zoë"]
    votes = [(names[u], names[v]) for u, v in zip(stream.src.tolist(), stream.dst.tolist(), strict=True)]
    assert votes == [("Cid", "Ann"), ("Bob", "Ann"), ("Zoë", "Bob"), ("Ann", "Bob")]
    assert stream.sign is not None
    assert stream.sign.tolist() == [1, -1, 1, -1]
    assert stream.t.dtype == torch.int64
    moment = datetime.datetime(2013, 4, 20, 1, 4, tzinfo=datetime.timezone.utc)
    assert stream.t[-1].item() == moment.timestamp()
    for words in ("1 neutral votes", "1 votes without voter", "3 votes without a date"):
        assert f"left out {words}" in caplog.text


def test_by_name(tmp_path: Path) -> None:
    write(tmp_path / "signed/wiki-RfA/wiki-RfA.txt.gz")
    assert len(load_stream("wikirfa", root=tmp_path, download=False)) == 4


@pytest.mark.parametrize(
    ("votes", "named"),
    [((), "no votes"), ((("A", "B", "0", "07:30, 1 May 2005", ""),), "no votes"), ((("A", "B", "2", "", ""),), "'2'")],
)
def test_other_files(tmp_path: Path, votes: tuple[tuple[str, ...], ...], named: str) -> None:
    with pytest.raises(DatasetIntegrityError, match=named):
        read_wiki_rfa(write(tmp_path / "a.txt.gz", votes))
