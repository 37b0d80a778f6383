"""Weights of NAT as its operators read them: one row of numbers."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

PADDED = 32
"""Rows of matrices are padded to a multiple of this: no instruction set reads more numbers at once."""


class NATWidths(NamedTuple):
    """The numbers that weights of NAT consist of."""

    state: int
    value: int
    message: int
    time: int
    position: int
    heads: int
    """0: sums."""
    hidden: int
    hops: int
    aged: bool
    """Whether a mix ends with two ages, and the hidden layer reads two times."""

    @property
    def features(self) -> int:
        """Of a mix."""
        return self.value + self.position + 2 * self.aged

    @property
    def options(self) -> list[int]:
        """What the operators are told; the rest is seen in the state."""
        return [self.message, self.time, self.position, self.heads, self.hidden]

    def parts(self) -> dict[str, tuple[int, int]]:
        """Rows and columns of all parts, in order. Matrices are transposed: they multiply rows from the right."""
        d, f, times, hidden, features = self.state, self.value, self.time, self.hidden, self.features
        return {
            "cell_ih": (d + self.message + times, 3 * d),
            "cell_hh": (d, 3 * d),
            "bias_ih": (1, 3 * d),
            "bias_hh": (1, 3 * d),
            "time_weight": (1, times),
            "time_bias": (1, times),
            "value_state": (d, f),
            "value_message": (self.message, f),
            "value_time": (1, f * times),  # not transposed, as the four that follow
            "value_ih": (1, 3 * f * f),
            "value_hh": (1, 3 * f * f),
            "value_bias_ih": (1, 3 * f),
            "value_bias_hh": (1, 3 * f),
            "position": (1, 4 ** (self.hops + 1) * self.position),
            "query": (1, self.heads * features),
            "constant": (1, self.heads),
            "pool": (max(self.heads, 1) * features, hidden),
            "source": (d, hidden),
            "target": (d, hidden),
            "since": (2 * self.aged, hidden),
            "hidden_bias": (1, hidden),
            "out": (1, hidden),
            "out_bias": (1, 1),
        }

    @property
    def size(self) -> int:
        """How many numbers there are, with what pads them."""
        return sum(rows * _padded(columns) for rows, columns in self.parts().values())

    def views(self, weights: Tensor) -> dict[str, Tensor]:
        """The parts of weights [size], without what pads them."""
        out, at = {}, 0
        for name, (rows, columns) in self.parts().items():
            count = rows * _padded(columns)
            out[name] = weights[at : at + count].view(rows, _padded(columns))[:, :columns]
            at += count
        return out


def _padded(columns: int) -> int:
    return -(-columns // PADDED) * PADDED
