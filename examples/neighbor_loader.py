"""NCN on sampled subgraphs: batches of PyG's LinkNeighborLoader (which needs pyg-lib or torch-sparse)."""

import sys

import torch
import torch.nn.functional as F
from torch_geometric.loader import LinkNeighborLoader
from torch_geometric.transforms import RandomLinkSplit

from graphmem.data.generators import dcsbm
from graphmem.engine.metrics import auc
from graphmem.models import NCN

epochs = int(sys.argv[1]) if len(sys.argv) > 1 else 3
torch.manual_seed(0)
data = dcsbm(5000, mean_degree=12, num_features=500, seed=0).to_pyg()
data.x = data.x.to_dense()  # the loader cuts rows out of it
train, _, test = RandomLinkSplit(0.05, 0.1, is_undirected=True, add_negative_train_samples=False)(data)


def batches(part, shuffle):
    labels = {"edge_label_index": part.edge_label_index}
    if shuffle:
        labels["neg_sampling"] = "binary"
    else:
        labels["edge_label"] = part.edge_label
    return LinkNeighborLoader(part, num_neighbors=[15, 10], batch_size=512, shuffle=shuffle, **labels)


model = NCN(data.num_features, 64, 2, conv="gcn", residual=True, dropout=0.1, pair_dropout=0.1)
optimizer = torch.optim.Adam(model.parameters(), lr=0.005)
for epoch in range(1, epochs + 1):
    model.train()
    for batch in batches(train, shuffle=True):
        optimizer.zero_grad()
        # edge_label_index counts the nodes of the batch; links of the batch are taken out of its graph.
        logits = model(batch.x, batch.edge_index, batch.edge_label_index)
        F.binary_cross_entropy_with_logits(logits, batch.edge_label).backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        out = [(model(b.x, b.edge_index, b.edge_label_index), b.edge_label) for b in batches(test, shuffle=False)]
    scores, labels = (torch.cat(part) for part in zip(*out, strict=True))
    print(f"epoch {epoch} test AUC {auc(scores[labels == 1], scores[labels == 0]):.3f}")
