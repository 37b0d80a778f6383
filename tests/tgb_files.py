"""Small sets in the layout in which py-tgb leaves its link sets on disk."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np

VERSIONS = {"tgbl-wiki": "_v2", "tgbl-review": "_v2", "tgbl-coin": "_v2", "tgbl-comment": "", "tgbl-flight": "_v2"}
HEADERS = {
    "tgbl-wiki": "user_id,item_id,timestamp,state_label,f0,f1",
    "tgbl-review": "ts,src,dst,weight",
    "tgbl-coin": "time,src,dst,weight",
    "tgbl-comment": "ts,src,dst,num_words,score",
    "tgbl-flight": "day,src,dst,callsign,typecode",
}


def rows_of(name: str, count: int, seed: int = 0) -> list[list[str]]:
    """Lines of a list of edges, cell by cell."""
    random = np.random.default_rng(seed)
    src, dst = (random.random((2, count)) ** 1.5 * 9).astype(int)
    t = 1_700_000_000 + random.integers(0, 3, count).cumsum()
    rows = []
    for u, v, when in zip(src, dst, t, strict=True):
        if name == "tgbl-wiki":
            rows.append([str(u), str(v), f"{when}.0", "0", f"{random.normal():.3f}", "1.5"])
        else:
            rest = {"tgbl-comment": [str(int(random.integers(1, 99))), str(int(random.integers(-5, 9)))]}
            rest["tgbl-flight"] = [["AB12", "", "ABCDEFGH"][u % 3], ["B738", "", "LONGER-THAN-8"][v % 3]]
            rows.append([str(when), f"s{u}", f"{'s' if u % 2 else 'd'}{v}", *rest.get(name, [f"{abs(u - 4)}.5"])])
    return rows


def write_tgb(root: Path, name: str, count: int = 160, negatives: int = 6) -> Path:
    """Write a set under a data root; negatives of some events are fewer, as TGB's may be."""
    folder = root / "tgb" / name.replace("-", "_")
    folder.mkdir(parents=True)
    rows = rows_of(name, count)
    lines = [HEADERS[name], *(",".join(row) for row in rows)]
    (folder / f"{name}_edgelist{VERSIONS[name]}.csv").write_text("\n".join(lines) + "\n")
    src, dst, t = events_of(name, rows)
    random = np.random.default_rng(1)
    low, high = np.quantile(t, [0.7, 0.85])
    for split, mask in (("val", (t > low) & (t <= high)), ("test", t > high)):
        found = {}
        for u, v, when in zip(src[mask], dst[mask], t[mask], strict=True):
            others = np.setdiff1d(np.arange(dst.min(), dst.max() + 1), [v])
            found[(u, v, when)] = random.permutation(others)[: negatives - int(when) % 2]
        with (folder / f"{name}_{split}_ns{VERSIONS[name]}.pkl").open("wb") as file:
            pickle.dump(found, file, protocol=pickle.HIGHEST_PROTOCOL)
    return folder


def events_of(name: str, rows: list[list[str]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Dense ids and times, by a loop as in py-tgb."""
    if name == "tgbl-wiki":
        src, dst = (np.array([int(row[place]) for row in rows]) for place in (0, 1))
        return src, dst + src.max() + 1, np.array([int(float(row[2])) for row in rows])
    number: dict[str, int] = {}
    for row in rows:
        for end in row[1:3]:
            number.setdefault(end, len(number))
    src, dst = (np.array([number[row[place]] for row in rows]) for place in (1, 2))
    return src, dst, np.array([int(row[0]) for row in rows])
