"""Names, cards, and every set of real data against its card and against PyG."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from graphmem.data import card as cards
from graphmem.data.cache import LocatedFiles
from graphmem.data.card import parse_card
from graphmem.data.generators import GeneratedGraph, dcsbm
from graphmem.data.registry import dataset_card, dataset_sha256, list_datasets, load_dataset, prepare_dataset, verify
from graphmem.data.splits import split_edges
from graphmem.errors import ArgumentError, DatasetError, DatasetIntegrityError, DatasetNotFoundError

NAMES = """cora citeseer pubmed photo computers cs physics cora_ml citeseer_full usair ns pb celegans power router ecoli
facebook arxiv ppi wikipedia_words ogbl-ddi ogbl-collab ogbl-ppa ogbl-citation2 github""".split()

LOCAL = [n for n in NAMES if n not in ("pubmed", "ogbl-collab", "ogbl-ppa", "ogbl-citation2")] + ["pubmed_structure"]

PYG = {
    "cora": ("Planetoid", "Cora", "planetoid"),
    "citeseer": ("Planetoid", "CiteSeer", "planetoid"),
    "photo": ("Amazon", "Photo", "amazon"),
    "computers": ("Amazon", "Computers", "amazon"),
    "cs": ("Coauthor", "CS", "coauthor"),
    "physics": ("Coauthor", "Physics", "coauthor"),
    "cora_ml": ("CitationFull", "Cora_ML", "citation_full"),
    "citeseer_full": ("CitationFull", "CiteSeer", "citation_full"),
}


def snapshot(folder: Path) -> list[tuple[str, int, int]]:
    stats = ((str(p), p.stat()) for p in sorted(folder.rglob("*")))
    return [(name, stat.st_mtime_ns, stat.st_size) for name, stat in stats]


def test_every_name_has_a_complete_card() -> None:
    found = {card.name: card for card in list_datasets()}
    assert set(NAMES) < set(found)
    for name in NAMES:
        card = found[name]
        assert card.title
        assert card.publisher
        assert card.citation
        assert card.licence
        assert card.homepage
        assert card.num_nodes
        assert card.files
        assert not Path(card.folder).is_absolute()
        assert all(spec.url or spec.optional or any(s.archive for s in card.files) for spec in card.files)
        assert all(spec.strict or card.array_sha256 for spec in card.files), "loose files need the arrays' sha256"
        assert all(len(spec.sha256) in (0, 64) for spec in card.files)
        if card.format == "planetoid":
            assert all(spec.sha256 and spec.strict for spec in card.files), "pickles are opened only when verified"


def test_names_and_aliases() -> None:
    aliases = {
        "Cora": "cora",
        "wikipedia": "wikipedia",
        "OGBL_DDI": "ogbl-ddi",
        "musae": "github",
        "ddi": "ogbl-ddi",
    }
    for alias, name in aliases.items():
        assert dataset_card(alias).name == name
    keys = [key for card in list_datasets() for key in {card.name, *card.aliases}]
    assert len(keys) == len(set(keys))
    with pytest.raises(DatasetError, match=r"unknown data set 'citeser'; did you mean 'citeseer'"):
        load_dataset("citeser")
    with pytest.raises(DatasetError, match=r"unknown data set 'zzzz'\. Known: arxiv"):
        dataset_card("zzzz")


def test_malformed_cards() -> None:
    with pytest.raises(DatasetError, match="x.toml: not a TOML file"):
        parse_card("name = ", "x.toml")
    with pytest.raises(DatasetError, match=r"unknown keys \['colour', 'num_cats'\]"):
        parse_card('name = "a"\ncolour = 1\n[statistics]\nnum_cats = 3')
    with pytest.raises(DatasetError, match="no `name`"):
        parse_card('title = "a"')
    with pytest.raises(DatasetError, match="malformed card"):
        parse_card('name = "a"\n[[files]]\nurl = "u"')


def test_cards_of_an_installed_wheel_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import graphmem

    installed = tmp_path / "site-packages" / "graphmem"
    (installed / "data" / "cards").mkdir(parents=True)
    (installed / "data" / "cards" / "only.toml").write_text('name = "only"')
    # Sources and an installed package: of the latter, the cards.
    monkeypatch.setattr(graphmem, "__path__", [str(Path(graphmem.__file__).parent), str(installed)])
    assert [card.name for card in list_datasets()] == ["only"]
    monkeypatch.setattr(cards, "card_folders", lambda: [tmp_path / "nothing"])
    with pytest.raises(DatasetError, match=r"no data-set cards found; looked for \*.toml in .*nothing"):
        list_datasets()


def test_a_card_is_read_again_when_its_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "only.toml"
    monkeypatch.setattr(cards, "card_folders", lambda: [tmp_path])
    path.write_text('name = "only"\ntitle = "one"')
    first = dataset_card("only")
    assert dataset_card("only") is first
    path.write_text('name = "only"\ntitle = "two"')
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))
    assert dataset_card("only").title == "two"


def test_missing_everything_is_a_typed_error(cache: Path) -> None:
    with pytest.raises(DatasetNotFoundError, match="no network in tests"):
        load_dataset("cora")
    with pytest.raises(DatasetNotFoundError, match="download=False"):
        prepare_dataset("ogbl-collab", download=False)
    with pytest.raises(DatasetError, match="generated and has no files"):
        prepare_dataset("generated:dcsbm")


def test_generated_names() -> None:
    graph = load_dataset("generated:dcsbm?num_nodes=300&mean_degree=6&num_blocks=3&seed=5")
    assert isinstance(graph, GeneratedGraph)
    assert torch.equal(graph.edge_index, dcsbm(300, 3, 6.0, seed=5).edge_index)
    assert graph.card.options["seed"] == 5
    assert load_dataset("generated:power-law?num_nodes=400&num_edges=900").num_edges == 900
    with pytest.raises(ArgumentError, match="has no setting 'nodes'"):
        load_dataset("generated:dcsbm?nodes=3")
    with pytest.raises(ArgumentError, match="setting 'num_nodes' .* must be int, found 'many'"):
        load_dataset("generated:dcsbm?num_nodes=many")
    with pytest.raises(DatasetError, match="did you mean 'generated:dcsbm'"):
        load_dataset("generated:dcsbn")


def test_split_sizes_are_compared_with_the_card() -> None:
    dataset = load_dataset("generated:dcsbm?num_nodes=200&num_blocks=2")
    split = split_edges(dataset, protocol="random")
    found = LocatedFiles({"raw": Path("raw")}, verified=True)
    good = replace(dataset.card, split_sizes={"train": split.num_train, "test_neg": split.num_test})
    verify(good, replace(dataset, split=split), found)
    bad = replace(good, split_sizes={**good.split_sizes, "test_neg": 3})
    with pytest.raises(DatasetIntegrityError, match=rf"'test_neg' has {split.num_test} pairs, the card says 3"):
        verify(bad, replace(dataset, split=split), found)


def test_path_is_an_edge_list(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("0,1\n1,2\n")
    assert load_dataset(tmp_path / "mine.csv").num_edges == 2
    with pytest.raises(DatasetNotFoundError, match="no file"):
        load_dataset(str(tmp_path / "missing.csv"))


@pytest.mark.realdata
@pytest.mark.parametrize("name", LOCAL)
def test_real_data_match_their_card(name: str, real_data: Path, cache: Path) -> None:
    before = snapshot(real_data)
    dataset = load_dataset(name, download=False)
    card = dataset.card
    counts = (dataset.num_nodes, dataset.num_edges, dataset.num_features, dataset.num_classes)
    assert counts == (card.num_nodes, card.num_edges, card.num_features, card.num_classes)
    assert prepare_dataset(name, download=False).is_relative_to(real_data)
    assert snapshot(real_data) == before
    assert not cache.exists(), "reading needs no cache"


@pytest.mark.realdata
@pytest.mark.parametrize("name", PYG)
def test_real_data_equal_pyg(name: str, real_data: Path, tmp_path: Path) -> None:
    import torch_geometric.datasets

    kind, pyg_name, folder = PYG[name]
    card = dataset_card(name)
    target = tmp_path / "pyg" / Path(card.folder).relative_to(folder)
    shutil.copytree(real_data / card.folder, target)
    expected: Any = getattr(torch_geometric.datasets, kind)(str(tmp_path / "pyg"), pyg_name)[0]
    dataset = load_dataset(name, download=False)
    assert dataset.x is not None
    assert dataset.y is not None
    assert dataset.x.layout == torch.sparse_csr
    row, col = expected.x.nonzero(as_tuple=True)  # not to_dense(): Physics would take another gigabyte
    crow = torch.cat([torch.zeros(1, dtype=torch.int64), torch.bincount(row, minlength=dataset.num_nodes).cumsum(0)])
    assert torch.equal(dataset.x.crow_indices(), crow)
    assert torch.equal(dataset.x.col_indices(), col)
    assert torch.equal(dataset.x.values(), expected.x[row, col])
    assert dataset.x.shape == expected.x.shape
    assert torch.equal(dataset.y, expected.y)
    edge = expected.edge_index
    edge = edge[:, torch.argsort(edge[0] * dataset.num_nodes + edge[1])]
    data = dataset.to_pyg()
    assert torch.equal(data.edge_index, edge)
    assert data.num_edges == expected.num_edges


@pytest.mark.realdata
def test_pubmed_without_its_features(real_data: Path) -> None:
    structure = load_dataset("pubmed_structure", download=False)
    with np.load(real_data / "planetoid/PubMed/pubmed_graph_labels.npz") as archive:
        assert np.array_equal(structure.edge_index.numpy().T, archive["edges"])
        assert structure.y is not None
        assert np.array_equal(structure.y.numpy(), archive["y"])
    if not (real_data / "planetoid/PubMed/raw/ind.pubmed.allx").exists():
        with pytest.raises(DatasetNotFoundError, match="ind.pubmed.allx"):
            load_dataset("pubmed", download=False)


@pytest.mark.realdata
def test_another_encoding_with_the_same_values_is_accepted(real_data: Path, tmp_path: Path) -> None:
    card = dataset_card("citeseer_full")
    with np.load(real_data / card.folder / "citeseer.npz") as archive:
        arrays = {key: archive[key] for key in archive.files}
    folder = tmp_path / "root" / card.folder
    folder.mkdir(parents=True)
    np.savez(folder / "citeseer.npz", class_names=np.array(["a"], dtype=object), **arrays)
    dataset = load_dataset("citeseer_full", tmp_path / "root")
    assert dataset_sha256(dataset) == card.array_sha256
    assert prepare_dataset("citeseer_full", tmp_path / "root") == folder
    arrays["labels"] = arrays["labels"][::-1]
    np.savez(folder / "citeseer.npz", **arrays)
    with pytest.raises(DatasetIntegrityError, match=r"neither the recorded file nor another encoding.*expected 183f"):
        load_dataset("citeseer_full", tmp_path / "root")
    with pytest.raises(DatasetIntegrityError, match="neither"):
        prepare_dataset("citeseer_full", tmp_path / "root")
    (folder / "citeseer.npz").write_bytes(b"PK not really")
    with pytest.raises(DatasetIntegrityError, match="citeseer.npz: cannot be read"):
        load_dataset("citeseer_full", tmp_path / "root")
    shutil.copy(real_data / "citation_full/cora_ml/raw/cora_ml.npz", folder / "citeseer.npz")
    with pytest.raises(DatasetIntegrityError, match="num_nodes is 2995, the card says 4230"):
        load_dataset("citeseer_full", tmp_path / "root")


@pytest.mark.realdata
def test_reading_pickles_needs_no_scipy_and_no_ogb(real_data: Path) -> None:
    code = (
        "import sys\n"
        "for name in ('scipy', 'ogb', 'pandas'): sys.modules[name] = None\n"
        "from graphmem.data.formats import planetoid, ogb\n"
        "from graphmem.data.registry import load_dataset\n"
        "assert load_dataset('cora', download=False).num_edges == 5278\n"
        "assert load_dataset('photo', download=False).num_edges == 119081\n"
        "assert load_dataset('ogbl-ddi', download=False).split.num_train == 1067911\n"
        "from graphmem.errors import MissingExtraError\n"
        "try: load_dataset('usair', download=False)\n"
        "except MissingExtraError as error: assert 'pip install graphmem[mat]' in str(error)\n"
        "else: raise SystemExit('no error')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=dict(os.environ), capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
