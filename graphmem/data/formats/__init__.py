"""Readers of raw files, one module a family. Each takes a card and its located files and returns a `GraphDataset`."""
