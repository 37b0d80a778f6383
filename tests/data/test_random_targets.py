from __future__ import annotations

import torch

from graphmem.data.negatives import random_targets


def test_sources_stay_and_targets_follow_seed_and_epoch() -> None:
    links = torch.randint(50, (2, 4000), generator=torch.Generator().manual_seed(0))
    found = random_targets(links, 50, seed=1, epoch=2)
    assert found.dtype == torch.int64
    assert torch.equal(found[0], links[0])
    assert torch.equal(found, random_targets(links, 50, seed=1, epoch=2))
    # A draw belongs to its event: fewer links change nothing.
    assert torch.equal(found[:, :100], random_targets(links[:, :100], 50, seed=1, epoch=2))
    for other in (random_targets(links, 50, seed=2, epoch=2), random_targets(links, 50, seed=1, epoch=3)):
        assert (other[1] == found[1]).float().mean() < 0.05
    counts = torch.bincount(found[1], minlength=50)
    assert int(counts.min()) > 40
    assert int(counts.max()) < 130
