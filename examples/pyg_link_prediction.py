"""NCNC in a plain PyG pipeline: RandomLinkSplit and a loop of your own. Cora, or a generated graph without it."""

import os
import sys

import torch
import torch.nn.functional as F
from torch_geometric.transforms import RandomLinkSplit
from torch_geometric.utils import negative_sampling

from graphmem.data import load_dataset
from graphmem.data.generators import dcsbm
from graphmem.engine.metrics import hits_at_k
from graphmem.models import NCNC

epochs = int(sys.argv[1]) if len(sys.argv) > 1 else 20
torch.manual_seed(0)
dataset = load_dataset("cora") if "GRAPHMEM_DATA" in os.environ else dcsbm(2000, num_features=500, seed=0)
data = dataset.to_pyg()
train, val, test = RandomLinkSplit(0.1, 0.2, is_undirected=True, add_negative_train_samples=False)(data)
positives = train.edge_label_index  # each link once
model = NCNC(data.num_features, 64, jk=True, input_dropout=0.5, dropout=0.1, pair_dropout=0.1, scale=4.0)
optimizer = torch.optim.Adam(model.parameters(), lr=0.005)
for epoch in range(1, epochs + 1):
    model.train()
    for batch in torch.randperm(positives.size(1)).split(512):
        negatives = negative_sampling(train.edge_index, data.num_nodes, batch.numel())
        pairs = torch.cat([positives[:, batch], negatives], dim=1)
        # In training mode the model takes these pairs out of the graph before it reads it.
        pos, neg = model(train.x, train.edge_index, pairs).split(batch.numel())
        optimizer.zero_grad()
        loss = F.softplus(-pos).mean() + F.softplus(neg).mean()
        loss.backward()
        optimizer.step()
    if epoch % 5 == 0 or epoch == epochs:
        model.eval()
        with torch.no_grad():
            scores = [(model(p.x, p.edge_index, p.edge_label_index), p.edge_label == 1) for p in (val, test)]
        hits = [f"{hits_at_k(score[label], score[~label], 100):.3f}" for score, label in scores]
        print(f"epoch {epoch:3}  loss {loss.item():.3f}  Hits@100 val, test: {', '.join(hits)}")
