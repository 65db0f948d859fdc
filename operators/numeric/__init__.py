"""Numerics of pruning: mixtures fitted to many problems at once."""
