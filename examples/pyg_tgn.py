"""PyG's own TGN example on `NodeMemory` and `RecentNeighbors`, in place of `TGNMemory` and `LastNeighborLoader`.

python examples/pyg_tgn.py [epochs]     # Wikipedia, downloaded or from $GRAPHMEM_DATA
"""

from __future__ import annotations

import sys
import time

import torch
from torch import Tensor
from torch.nn import Linear
from torch_geometric.loader import TemporalDataLoader
from torch_geometric.nn import TransformerConv

from graphmem.data import load_stream
from graphmem.engine import average_precision
from graphmem.nn import NodeMemory, RecentNeighbors

torch.manual_seed(0)
data = load_stream(sys.argv[2] if len(sys.argv) > 2 else "wikipedia").to_temporal_data()
train_loader, val_loader = (
    TemporalDataLoader(part, batch_size=200, neg_sampling_ratio=1.0)
    for part in data.train_val_test_split(0.15, 0.15)[:2]
)
num_nodes, dim = data.num_nodes, 100
memory = NodeMemory(num_nodes, data.msg.size(1), dim, dim)
neighbors = RecentNeighbors(num_nodes, size=10)
conv = TransformerConv(dim, dim // 2, heads=2, dropout=0.1, edge_dim=data.msg.size(1) + dim)
lin_src, lin_dst, lin_final = Linear(dim, dim), Linear(dim, dim), Linear(dim, 1)
model = torch.nn.ModuleList([memory, conv, lin_src, lin_dst, lin_final])
optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
assoc = torch.empty(num_nodes, dtype=torch.long)


def scores(batch) -> tuple[Tensor, Tensor]:
    n_id, edge_index, e_id = neighbors(batch.n_id)
    assoc[n_id] = torch.arange(n_id.size(0))
    z, last_update = memory(n_id)
    code = memory.time_enc(last_update[edge_index[0]] - data.t[e_id])
    z = conv(z, edge_index, torch.cat([code, data.msg[e_id]], dim=-1))
    source = lin_src(z[assoc[batch.src]])
    pos, neg = (lin_final((source + lin_dst(z[assoc[ends]])).relu()) for ends in (batch.dst, batch.neg_dst))
    memory.update_state(batch.src, batch.dst, batch.t, batch.msg)
    neighbors.insert(batch.src, batch.dst)
    return pos.squeeze(1), neg.squeeze(1)


for epoch in range(1, 1 + (int(sys.argv[1]) if len(sys.argv) > 1 else 3)):
    start = time.perf_counter()
    model.train()
    memory.reset_state()
    neighbors.reset_state()
    for batch in train_loader:
        optimizer.zero_grad()
        pos, neg = scores(batch)
        loss = torch.nn.functional.softplus(-pos).mean() + torch.nn.functional.softplus(neg).mean()
        loss.backward()
        optimizer.step()
        memory.detach()
    seconds = time.perf_counter() - start
    model.eval()
    with torch.no_grad():
        pos, neg = (torch.cat(part) for part in zip(*(scores(batch) for batch in val_loader), strict=True))
    print(f"epoch {epoch}: validation AP {average_precision(pos, neg):.4f}, {seconds:.1f} s of training")
