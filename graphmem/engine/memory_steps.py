"""Encoder and decoder of GAE and NCN as operations on blocks; each function stands for the module of its name."""

from __future__ import annotations

from typing import NamedTuple

from graphmem.engine.rehearsal import Block, Tape
from graphmem.engine.workload import LINEAR, PURE, Workload

FLOAT, LONG, INT, BOOL = 4, 8, 4, 1

# A panel of the matrix product's right-hand side is padded to 32 columns; its gradient of weights packs the left one.
_PANEL = 32


class Overlap(NamedTuple):
    """Common neighbours of a batch of pairs.

    Args:
        entries: their number over all pairs.
        nodes: distinct nodes among them.
        pairs: pairs that have one.
    """

    entries: float
    nodes: float
    pairs: float


class Model:
    """The model of a workload on a tape."""

    def __init__(self, w: Workload, tape: Tape, features: Block | None) -> None:
        self.w, self.tape, self.x = w, tape, features

    def _rows(self, rows: float, width: int | None = None) -> float:
        return FLOAT * rows * (self.w.hidden if width is None else width)

    def linear(self, name: str, x: Block, rows: float, fan_in: int, out: int | None = None, bias: bool = True) -> Block:
        """``graphmem.ops.linear``: packs the weight; its gradient packs the gradient of the result."""
        out = self.w.hidden if out is None else out
        weight = self.tape.parameter(f"{name}.weight", FLOAT * fan_in * out)
        inputs = [x, weight, *([self.tape.parameter(f"{name}.bias", FLOAT * out)] if bias else [])]
        packed = FLOAT * fan_in * -(-out // _PANEL) * _PANEL
        packed_input = FLOAT * rows * -(-fan_in // _PANEL) * _PANEL  # dW = grad^T x packs x
        return self.tape.apply(
            self._rows(rows, out), inputs, saved=(x, weight), scratch=packed, gradient_scratch=packed_input
        )

    def relu(self, x: Block) -> Block:
        """ReLU with or without dropout: the gradient reads the result."""
        return self.tape.apply(x.size, [x], save_result=True)

    def dropout(self, x: Block, p: float) -> Block:
        """Dropout alone: the mask is drawn again, nothing is saved."""
        return self.tape.apply(x.size, [x]) if self.tape.training and p > 0 else x

    def hidden_end(self, name: str, x: Block, rows: float) -> Block:
        """``NormDropoutReLU``: saves input, result, mean and rstd; its gradient adds up blocks of 64 rows."""
        if not self.w.norm:
            return self.relu(x)
        width = FLOAT * self.w.hidden
        affine = [self.tape.parameter(f"{name}.weight", width), self.tape.parameter(f"{name}.bias", width)]
        moments = self.tape.block(2 * FLOAT * rows)
        scratch = 2 * width * rows / 64
        return self.tape.apply(x.size, [x, *affine], saved=(x, moments), save_result=True, gradient_scratch=scratch)

    def drop_edges(self, p: float) -> tuple[Block, ...]:
        """``CSRGraph.drop_edges`` and the degrees of what is left."""
        if not self.tape.training or p == 0:
            return ()
        slots = 2 * self.w.edges
        draws = self.tape.block(FLOAT * slots)
        kept = self.tape.block(BOOL * slots)
        del draws
        return (kept,)

    def _degrees(self, edges_dropped: bool) -> None:
        """``present_degree``: a running count of the slots, twice because it is joined with a zero."""
        if edges_dropped:
            slots = 2 * self.w.edges
            count = self.tape.block(LONG * slots)
            joined = self.tape.block(LONG * slots)
            del count, joined

    def propagate(self, x: Block, kept: tuple[Block, ...]) -> Block:
        """Aggregation over neighbours; "gcn" scales before and after, and adds the node itself."""
        gcn, mean = self.w.conv in ("gcn", "puregcn"), self.w.conv in ("sage", "puremean")
        column = self.tape.block(FLOAT * self.w.nodes)
        if gcn or mean:
            self._degrees(bool(kept))
        scaled = self.tape.apply(x.size, [x], saved=[column]) if gcn else x
        out = self.tape.apply(x.size, [scaled], saved=kept)
        if kept:  # times 1 / (1 - p)
            out = self.tape.apply(x.size, [out])
        if not gcn:
            return self.tape.apply(x.size, [out], saved=[column]) if mean else out
        both = self.tape.apply(x.size, [out, scaled], passes=2)
        del out
        return self.tape.apply(x.size, [both], saved=[column])

    def _input(self) -> tuple[Block, int]:
        """Features or embeddings, the input layer where there is one, and the width."""
        w = self.w
        if self.x is None:
            ids = self.tape.block(LONG * w.nodes)
            table = self.tape.parameter("embedding", self._rows(w.nodes))
            h = self.tape.apply(self._rows(w.nodes), [table], saved=[ids])
            return self.dropout(h, w.dropout), w.hidden
        x = self.x
        if self.tape.training and w.input_dropout > 0:
            x = self.tape.block(self.x.size)
        if w.conv in LINEAR:
            return x, w.features
        h = self.linear("input", x, w.nodes, w.features)
        del x
        return self.dropout(h, w.dropout), w.hidden

    def encode(self) -> Block:
        """``GraphEncoder``."""
        w, outputs = self.w, []
        h, width = self._input()
        for layer in range(w.layers):
            kept = self.drop_edges(w.edge_dropout)
            out = self._conv(layer, h, width, kept)
            width = w.hidden
            if w.conv in PURE and layer == w.layers - 1:
                out = self.dropout(out, w.tail_dropout)
            h = self.tape.apply(out.size, [out, h], passes=2) if w.residual and out.size == h.size else out
            del out
            if w.jk:
                outputs.append(h)
        if w.jk:
            weights = self.tape.parameter("jk", FLOAT * w.layers)
            h = self._weighted(outputs[0], weights)
            for out in outputs[1:]:
                h = self.tape.apply(h.size, [h, self._weighted(out, weights)], passes=2)
        return h

    def _weighted(self, x: Block, weights: Block) -> Block:
        return self.tape.apply(x.size, [x, weights], saved=[x], gradient_scratch=x.size)

    def _conv(self, layer: int, h: Block, width: int, kept: tuple[Block, ...]) -> Block:
        w = self.w
        if w.conv in PURE:
            return self.propagate(h, kept)
        h = self.propagate(self.linear(f"conv{layer}", h, w.nodes, width, bias=False), kept)
        h = self.tape.apply(h.size, [h, self.tape.parameter(f"conv{layer}.bias", FLOAT * w.hidden)], passes=1)
        if layer > 0 and layer == w.layers - 1:
            return h
        return self.hidden_end(f"post{layer}", h, w.nodes)

    def pair_term(self, h: Block, pairs: Block, count: float) -> Block:
        """``xijlin(h_i * h_j)``."""
        w = self.w
        # The gradient transposes the 2 B ends: their numbers, rows and slots, and N offsets.
        scratch = LONG * (3 * 2 * count + w.nodes)
        product = self.tape.apply(self._rows(count), [h], saved=[h, pairs], gradient_scratch=scratch)
        out = self.hidden_end("xijlin.norm", self.linear("xijlin", product, count, w.hidden), count)
        return out if w.tail_act else self.linear("xijlin.tail", out, count, w.hidden)

    def logits(self, v: Block, count: float) -> Block:
        """``lin``."""
        for layer in range(2 if self.w.two_layer_lin else 1):
            v = self.hidden_end(f"lin{layer}.norm", self.linear(f"lin{layer}", v, count, self.w.hidden), count)
        return self.linear("lin.out", v, count, self.w.hidden, 1)

    def gather(self, x: Block, rows: float, entries: float) -> Block:
        """``segment_gather_sum`` over lists made for one step: the gradient transposes them."""
        lists = self.tape.block(LONG * (rows + entries))
        scratch = LONG * (x.size / self._rows(1) + 2 * entries)
        return self.tape.apply(self._rows(rows), [x], saved=[lists], gradient_scratch=scratch)

    def transform(self, h: Block, rows: float) -> Block:
        """``h + xlin(h)``."""
        w = self.w
        inner = self.relu(self.linear("xlin0", h, rows, w.hidden))
        inner = self.hidden_end("xlin.norm", self.linear("xlin1", inner, rows, w.hidden), rows)
        return self.tape.apply(h.size, [h, inner], passes=2)

    def neighbor_branch(self, table: Block, entries: float, filled: float, count: float) -> Block:
        """``xcnlin`` of the sums, for each pair."""
        w = self.w
        sums = self.gather(table, filled, entries)
        first = self.linear("xcnlin0", sums, filled, w.hidden)
        del sums
        rows = self.tape.apply(self._rows(filled + 1), [first], passes=1)
        del first
        if self.tape.training and w.pair_dropout > 0:
            rows, filled = self.gather(rows, count, count), count
        out = self.relu(rows)
        out = self.hidden_end("xcnlin.norm", self.linear("xcnlin1", out, filled, w.hidden), filled)
        if not w.tail_act:
            out = self.linear("xcnlin.tail", out, filled, w.hidden)
        return out if filled == count else self.gather(out, count, count)

    def transform_needed(self, h: Block, nodes: float, entries: float) -> tuple[Block, Block]:
        """Rows of ``transform(h)`` for the nodes of a batch's lists, and the lists in terms of them."""
        w, tape = self.w, self.tape
        if not w.use_xlin:
            return h, tape.block(0)
        place = tape.block(LONG * w.nodes)
        table = self.transform(self.gather(h, nodes, nodes), nodes)
        idx = tape.block(LONG * entries)
        del place
        return table, idx

    def decode(self, h: Block, pairs: Block, count: float, overlap: Overlap) -> Block:
        """``PairDecoder`` or ``CNDecoder`` in training: logits of all pairs of a batch."""
        w, tape = self.w, self.tape
        tape.purpose = "head"
        if w.model == "gae":
            return self.logits(self.pair_term(h, pairs, count), count)
        kept = self.drop_edges(w.pair_edge_dropout)
        part = tape.block((INT + 2 * LONG) * overlap.entries + LONG * count)
        table, idx = self.transform_needed(h, overlap.nodes, overlap.entries)
        branch = self.neighbor_branch(table, overlap.entries, overlap.pairs, count)
        term = self.pair_term(h, pairs, count)
        beta = tape.parameter("beta", FLOAT)
        v = tape.apply(term.size, [term, branch, beta], saved=[branch], passes=1, gradient_scratch=term.size)
        del term, branch
        out = self.logits(v, count)
        del kept, part, table, idx
        return out

    def score(self, h: Block, count: float, overlap: Overlap) -> None:
        """A chunk of pairs in evaluation: nodes are transformed once into a table; the dense head runs in cache."""
        w, tape = self.w, self.tape
        tape.purpose = "evaluation"
        if w.model == "gae":
            return
        part = tape.block((INT + 2 * LONG) * overlap.entries + LONG * count)
        table = tape.block(self._rows(w.nodes)) if w.use_xlin else h
        if w.use_xlin:
            self.transform(tape.block(self._rows(overlap.nodes)), overlap.nodes)
        sums = tape.block(self._rows(overlap.pairs))
        rows = self.relu(self.linear("xcnlin0", sums, overlap.pairs, w.hidden))
        rows = self.hidden_end("xcnlin.norm", self.linear("xcnlin1", rows, overlap.pairs, w.hidden), overlap.pairs)
        del part, table, sums, rows
