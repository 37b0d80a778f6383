"""A few steps of a link model on a device, and an evaluation."""

from __future__ import annotations

import torch
from model_cases import DROPOUT, by_name, edges, nodes_x

from graphmem.data import LinkSplit
from graphmem.engine.link_task import LinkPredictionTask


def make_task(device: torch.device) -> LinkPredictionTask:
    links = edges(200, 12.0)
    links = links[:, torch.randperm(links.size(1), generator=torch.Generator().manual_seed(1))]
    others = torch.randint(0, 200, (2, 2, 100), generator=torch.Generator().manual_seed(2))
    split = LinkSplit(
        train=links[:, 200:].contiguous(),
        valid=links[:, :100].contiguous(),
        test=links[:, 100:200].contiguous(),
        valid_neg=others[0],
        test_neg=others[1],
        num_nodes=200,
        protocol="random",
    )
    return LinkPredictionTask(split, nodes_x(200), batch_size=128, metrics=("hits@10", "mrr", "auc")).to(device)


def run(name: str, device: torch.device) -> tuple[list[float], dict[str, float], torch.Tensor]:
    model = by_name[name].build(hidden=32, **DROPOUT).to(device)
    task = make_task(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    torch.manual_seed(3)  # of the dropout masks, which are functions of it on every device
    losses = []
    for epoch in (1, 2):
        for batch in task.batches("train", epoch):
            optimizer.zero_grad()
            loss = task.loss(model, batch)
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
    model.eval()
    with torch.no_grad():
        return losses, task.evaluate(model, "valid"), torch.cat(task.scores(model, "test")).cpu()
