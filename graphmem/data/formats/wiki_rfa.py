"""Votes on requests for adminship, as SNAP publishes them: a record of lines ``KEY:value`` for each vote.

Source: R. West, H. Paskov, J. Leskovec, C. Potts, TACL 2014; ``wiki-RfA.txt.gz``. The file begins with the newest
votes; the stream ascends.
"""

from __future__ import annotations

import calendar
import datetime
import gzip
import logging
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from graphmem.data.cache import LocatedFiles
from graphmem.data.card import DatasetCard
from graphmem.data.formats._common import decoding
from graphmem.data.stream import EventStream
from graphmem.errors import DatasetIntegrityError

logger = logging.getLogger(__name__)

_KEYS = ("SRC", "TGT", "VOT", "DAT")
_MONTHS = {name[:3].lower(): number for number, name in enumerate(calendar.month_name) if name}
_DATE = re.compile(r"(\d{1,2}):(\d{2}), (\d{1,2}) ([A-Za-z]{3})[a-z]* (\d{4})")


def read_wiki_rfa(path: Path, name: str = "wiki-rfa") -> EventStream:
    """Read the votes.

    Voters and candidates are one set of nodes, in the order of the alphabet. Times are seconds since 1970, equal ones
    in the order of the file read backwards. Left out, with their number in the log: neutral votes, and votes without
    voter or without a date that can be read.

    Args:
        path: of the text, packed by gzip or not.
        name: of the stream.

    Raises:
        DatasetIntegrityError: a file without such votes, or a vote that is none of -1, 0 and 1.
    """
    votes: list[tuple[int, str, str, int]] = []
    dropped: Counter[str] = Counter()
    with decoding(path):
        for record in _records(path):
            vote, t = record.get("VOT", ""), _seconds(record.get("DAT", ""))
            if vote not in ("-1", "0", "1"):
                raise DatasetIntegrityError(f"{path}: expected votes -1, 0 or 1, found {vote!r}")
            if vote == "0":
                dropped["neutral votes"] += 1
            elif not (record.get("SRC") and record.get("TGT")):
                dropped["votes without voter or candidate"] += 1
            elif t is None:
                dropped["votes without a date"] += 1
            else:
                votes.append((t, record["SRC"], record["TGT"], int(vote)))
    for what, count in dropped.items():
        logger.info("%s: left out %d %s", path, count, what)
    if not votes:
        raise DatasetIntegrityError(f"{path}: the file has no votes for or against")
    votes.reverse()
    votes.sort(key=lambda vote: vote[0])
    when, src, dst, weight = zip(*votes, strict=True)
    names = sorted({*src, *dst})
    number = {one: node for node, one in enumerate(names)}
    return EventStream(
        torch.tensor([number[one] for one in src]),
        torch.tensor([number[one] for one in dst]),
        torch.tensor(when),
        len(names),
        weight=torch.tensor(weight, dtype=torch.float32),
        node_names=np.array(names, dtype=object),
        name=name,
    )


def load(card: DatasetCard, files: LocatedFiles) -> EventStream:
    """Read the stream of a card."""
    (path,) = files.paths.values()
    return read_wiki_rfa(path, card.name)


def _records(path: Path) -> Iterator[dict[str, str]]:
    """Fields of each vote; comments may go over several lines and are not kept."""
    opened: Any = gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8")
    record: dict[str, str] = {}
    with opened as lines:
        for line in lines:
            key, _, value = line.partition(":")
            if key == "SRC" and record:
                yield record
                record = {}
            if key in _KEYS:
                record.setdefault(key, value.strip())
    if record:
        yield record


def _seconds(text: str) -> int | None:
    """Seconds since 1970 of "23:13, 19 April 2013", in UTC; ``None`` for what is no such date."""
    found = _DATE.fullmatch(text)
    if found is None:
        return None
    hour, minute, day, month, year = found.groups()
    try:
        when = datetime.datetime(int(year), _MONTHS[month.lower()], int(day), int(hour), int(minute))
    except (KeyError, ValueError):
        return None
    return calendar.timegm(when.timetuple())


__all__ = ["load", "read_wiki_rfa"]
