"""graphmem: learning on graphs that change, for PyTorch and PyTorch Geometric."""

__version__ = "0.1.0"
