"""Data-set cards: who published a set, under which terms, where its files are, and what they must contain.

A card is a TOML file of the top-level folder `datasets/`; the build copies these files into `graphmem/data/cards/`.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from graphmem.errors import DatasetError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@dataclass(frozen=True)
class FileSpec:
    """One raw file of a data set.

    Args:
        path: file name inside the card's folder.
        url: where the publisher serves it; empty when it is not served.
        sha256: digest of the file, empty when it is not known.
        strict: the file must have `sha256`. When False, another encoding of the same data is accepted: the decoded
            arrays are then compared with the card's `array_sha256`.
        optional: the file may be missing.
        archive: the file is a zip archive, fetched once and unpacked into the card's folder.
    """

    path: str
    url: str = ""
    sha256: str = ""
    strict: bool = True
    optional: bool = False
    archive: bool = False


@dataclass(frozen=True)
class DatasetCard:
    """What is known about a data set before it is loaded.

    Args:
        name: canonical name, as `load_dataset` takes it.
        title: name in prose.
        format: reader family: `planetoid`, `npz_graph`, `seal_mat`, `musae`, `ogb`, `edge_list` or `generated`; for
            streams `events`, `tgb` or `wiki_rfa`.
        folder: where the files lie, relative to `$GRAPHMEM_DATA` and to the cache.
        aliases: other names `load_dataset` accepts.
        publisher: who published the data.
        citation: what to cite.
        homepage: the publisher's page.
        licence: the terms, or the plain statement that none are given.
        metric: metric and protocol of published link-prediction results.
        notes: what a user should know.
        num_nodes: number of nodes, None where the card does not state it; likewise the next four.
        num_edges: number of entries of `GraphDataset.edge_index` (each undirected edge once).
        num_events: number of events of a stream; None for a graph.
        num_features: width of `x`; 0 means no features.
        num_classes: number of distinct labels; 0 means no labels.
        split_sizes: edges of the fixed split: `train`, `valid`, `valid_neg`, `test`, `test_neg`.
        array_sha256: digest of the canonical arrays (`graphmem.data.cache.array_sha256`), empty when not known.
        files: the raw files.
        options: settings of the reader or of the generator.
    """

    name: str
    title: str = ""
    format: str = "edge_list"
    folder: str = ""
    aliases: tuple[str, ...] = ()
    publisher: str = ""
    citation: str = ""
    homepage: str = ""
    licence: str = ""
    metric: str = ""
    notes: str = ""
    num_nodes: int | None = None
    num_edges: int | None = None
    num_events: int | None = None
    num_features: int | None = None
    num_classes: int | None = None
    split_sizes: Mapping[str, int] = field(default_factory=dict)
    array_sha256: str = ""
    files: tuple[FileSpec, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_stream(self) -> bool:
        """Whether it is a stream of events, not a graph."""
        return self.format in ("events", "tgb", "wiki_rfa")


_TEXT = (
    "name title format folder publisher citation homepage licence metric notes array_sha256"  # all optional but name
).split()
_STATISTICS = ("num_nodes", "num_edges", "num_events", "num_features", "num_classes")
_TABLES = ("aliases", "statistics", "split_sizes", "files", "options")


def parse_card(text: str, origin: str = "<string>") -> DatasetCard:
    """Read a card from TOML text.

    Args:
        text: the TOML document.
        origin: file name for error messages.

    Raises:
        DatasetError: the text is not TOML, or has a key that a card does not have.
    """
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise DatasetError(f"{origin}: not a TOML file: {error}") from error
    statistics = raw.get("statistics", {})
    unknown = [*(set(raw) - {*_TEXT, *_TABLES}), *(set(statistics) - set(_STATISTICS))]
    if unknown or "name" not in raw:
        raise DatasetError(f"{origin}: unknown keys {sorted(unknown)}" if unknown else f"{origin}: no `name`")
    try:
        return DatasetCard(
            **{key: raw[key] for key in _TEXT if key in raw},
            **statistics,
            aliases=tuple(raw.get("aliases", ())),
            split_sizes=raw.get("split_sizes", {}),
            files=tuple(FileSpec(**entry) for entry in raw.get("files", ())),
            options=raw.get("options", {}),
        )
    except TypeError as error:
        raise DatasetError(f"{origin}: malformed card: {error}") from error


def card_folders() -> list[Path]:
    """Folders that may hold cards, in order of preference.

    `data/cards` along `graphmem.__path__` (an installed wheel; in an editable install the built files lie elsewhere
    than the sources), then `datasets` next to the package sources.
    """
    import graphmem

    roots = [Path(entry) for entry in graphmem.__path__]
    return [root / "data" / "cards" for root in roots] + [root.parent / "datasets" for root in roots]


def read_cards() -> dict[str, DatasetCard]:
    """All cards by name, from the first folder of `card_folders` that holds any.

    Raises:
        DatasetError: no folder holds cards, or a card is malformed.
    """
    for folder in card_folders():
        paths = sorted(folder.glob("*.toml"))
        if paths:
            return {card.name: card for card in map(_read_card, paths, (path.stat().st_mtime_ns for path in paths))}
    looked = ", ".join(str(folder) for folder in card_folders())
    raise DatasetError(f"no data-set cards found; looked for *.toml in {looked}. Reinstall graphmem.")


@functools.cache
def _read_card(path: Path, modified: int) -> DatasetCard:
    """The card of a file that was modified then: one that does not change is parsed once a process."""
    return parse_card(path.read_text(encoding="utf-8"), str(path))
