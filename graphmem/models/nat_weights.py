"""Weights of a NAT as its operators read them."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from operator import attrgetter, is_
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from graphmem.nn.cells import GRUCell
from graphmem.nn.functional import Linear
from graphmem.nn.link_predictor import PairMLP
from graphmem.nn.time import TimeEncoder
from graphmem.ops import NATLayers, NATWidths, _check, matmul, nat_weights

_steps = [0]
"""Of all optimizers of torch so far: the fused ones write weights without giving them another version."""


def _count_step(*_: Any) -> None:
    _steps[0] += 1


register_optimizer_step_post_hook(_count_step)
_version: Callable[[Tensor], int] = attrgetter("_version")
_KINDS: dict[str, type] = {
    "time_enc": TimeEncoder,
    "lin_state": Linear,
    "lin_value": Linear,
    "state_cell": GRUCell,
    "value_cell": GRUCell,
    "position_emb": nn.Embedding,
    "lin_pool": Linear,
    "predictor": PairMLP,
}


class LayersOfNAT:
    """Layers of a NAT as its operators take them, and what tells whether the model still has the same ones.

    Args:
        model: the NAT.
    """

    def __init__(self, model: Any) -> None:
        modules = list(model.modules())
        self._dicts = [d for module in modules for d in (module._parameters, module._modules) if d]
        self._found = self._identities()
        self.parameters: list[Tensor] = [x for module in modules for x in module._parameters.values() if x is not None]
        self._kind, layers = model.state.dtype, model._modules
        self.usable = all(type(layers.get(name)) is kind for name, kind in _KINDS.items()) and self._fits(model)
        self.listed = _layers(model).listed() if self.usable else []

    def are_of(self, model: Any) -> bool:
        """Whether they are still the model's; the numbers in them may have changed."""
        return self._kind is model._buffers["state"].dtype and self._found == self._identities()

    def traces(self) -> list[int]:
        """What changes with the numbers that they hold."""
        return [_steps[0], *map(_version, self.parameters), *map(Tensor.data_ptr, self.parameters)]

    def _identities(self) -> list[int]:
        return [*map(id, chain.from_iterable(map(dict.values, self._dicts)))]  # type: ignore[arg-type]

    def _fits(self, model: Any) -> bool:
        kind, device = self._kind, model.state.device
        if model.compat == "reference" or model.features is not None or not model.refresh_hop2:
            return False
        fits = kind in (torch.float32, torch.float64) and _check.accumulate_dtype(model.cache.value.dtype) == kind
        return fits and all(x.dtype == kind and x.device == device for x in self.parameters)

    def __reduce__(self) -> tuple[Any, ...]:
        return _nothing, ()  # a copy of a model has layers of its own


class PreparedNAT:
    """Weights of a NAT, stacked and multiplied with each other, and what tells whether they are still the model's.

    A weight that was written in place has another version or saw a step of an optimizer, one that was replaced another
    identity or place in memory. Only what is written to ``weight.data`` in place is not seen.

    Args:
        model: the NAT.
        layers: its layers.
    """

    def __init__(self, model: Any, layers: LayersOfNAT) -> None:
        self._layers, self._seen = layers, layers.traces()
        self._cache, self._layout = model.cache, model.cache.layout
        with torch.no_grad():
            self.widths = _widths(model)
            self.options = self.widths.options, *self._layout.options, self.widths.aged
            self.weights = nat_weights(self.widths, {**_parts_of_cells(model), **_parts_of_decoder(model)})

    def holds(self, layers: LayersOfNAT) -> bool:
        """Whether the model, which has these layers, still has the weights, and its cache the hash, that they had."""
        return layers is self._layers and self._cache.layout is self._layout and self._seen == layers.traces()

    def __reduce__(self) -> tuple[Any, ...]:
        return _nothing, ()  # a copy of a model prepares its own


class ReadNAT:
    """What the last scores with gradient have read of nodes, for the events that follow; see :meth:`NAT.update`.

    Args:
        model: the NAT.
        layers: its layers.
        nodes: int64 [n], distinct.
        own: [n, D], their states.
        now: [n, L, F], values of their slots.
    """

    def __init__(self, model: Any, layers: LayersOfNAT, nodes: Tensor, own: Tensor, now: Tensor) -> None:
        self._layers, self._weights, self._state = layers, layers.traces(), _state_of(model)
        self._versions = [*map(_version, self._state)]
        self.nodes, self.own, self.now = nodes, own, now

    def holds(self, model: Any, layers: LayersOfNAT) -> bool:
        """Whether state and layers of the model are as they were."""
        same = layers is self._layers and self._versions == [*map(_version, self._state)]
        return same and all(map(is_, self._state, _state_of(model))) and self._weights == layers.traces()

    def __reduce__(self) -> tuple[Any, ...]:
        return _nothing, ()


def _state_of(model: Any) -> tuple[Tensor, ...]:
    cells, own = model.cache._buffers, model._buffers
    return cells["key"], cells["eid"], cells["time"], cells["value"], own["state"], own["other"], own["gap"]


def _nothing() -> None:
    return None


def _layers(model: Any) -> NATLayers:
    state, value, hidden, last = (
        model.state_cell,
        model.value_cell,
        model.predictor.lin_hidden,
        model.predictor.lin_final,
    )
    return NATLayers(
        *(model.time_enc.lin.weight, model.time_enc.lin.bias, model.lin_state.weight, model.lin_value.weight),
        *(state.weight_ih, state.weight_hh, state.bias_ih, state.bias_hh),
        *(value.weight_ih, value.weight_hh, value.bias_ih, value.bias_hh),
        *(model.position_emb.weight, model.lin_pool.weight, model.lin_pool.bias),
        *(hidden.weight, hidden.bias, last.weight, last.bias, model.attn),
    )


def _widths(model: Any) -> NATWidths:
    heads = 0 if model.attn is None else model.heads
    dims = model.state.size(1), model.cache.value_dim, model.msg_dim, model.time_enc.out_channels
    hidden, hops = model.predictor.lin_hidden.out_features, len(model.cache.layout.sizes)
    return NATWidths(*dims, model.position_emb.embedding_dim, heads, hidden, hops, model.time == "delta")


def _row(x: Tensor) -> Tensor:
    return x.reshape(1, -1)


def _parts_of_cells(model: Any) -> dict[str, Tensor]:
    cell, unit, value = model.state_cell, model.value_cell, model.lin_value.weight
    d, raw = model.state.size(1), model.msg_dim
    return {
        "cell_ih": matmul(cell.weight_ih, model.lin_state.weight).t(),
        "cell_hh": cell.weight_hh.t(),
        "bias_ih": _row(cell.bias_ih),
        "bias_hh": _row(cell.bias_hh),
        "time_weight": _row(model.time_enc.lin.weight),
        "time_bias": _row(model.time_enc.lin.bias),
        "value_state": value[:, :d].t(),
        "value_message": value[:, d : d + raw].t(),
        "value_time": _row(value[:, d + raw :]),
        "value_ih": _row(unit.weight_ih),
        "value_hh": _row(unit.weight_hh),
        "value_bias_ih": _row(unit.bias_ih),
        "value_bias_hh": _row(unit.bias_hh),
    }


def _parts_of_decoder(model: Any) -> dict[str, Tensor]:
    """The layer behind the pooling is multiplied with the first of the decoder."""
    weights, biases = model.pooling()
    hidden, last, d = model.predictor.lin_hidden, model.predictor.lin_final, model.state.size(1)
    if model.attn is None:
        query = constant = weights.new_zeros(1, 0)
        weights, biases = weights.mean(0, keepdim=True), biases.mean(0, keepdim=True)
    else:
        query, constant = map(_row, model.queries(weights, biases))
    pooled = hidden.in_features - 2 * d - (2 if model.time == "delta" else 0)
    of_pool = hidden.weight[:, :pooled].unflatten(1, (weights.size(0), -1)).transpose(0, 1)  # [mixes, hidden, pooled]
    projected = zip(of_pool, weights, biases.unsqueeze(2), strict=True)
    folded = [(matmul(rows, weight), matmul(rows, bias)) for rows, weight, bias in projected]
    _, source, target, since = hidden.weight.split([pooled, d, d, hidden.in_features - pooled - 2 * d], 1)
    return {
        "position": _row(model.position_emb.weight),
        "query": query,
        "constant": constant,
        "pool": torch.cat([weight.t() for weight, _ in folded]),
        "source": source.t(),
        "target": target.t(),
        "since": since.t(),
        "hidden_bias": _row(hidden.bias + sum(bias.view(-1) for _, bias in folded)),
        "out": last.weight,
        "out_bias": _row(last.bias),
    }
