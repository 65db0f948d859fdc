"""Texts that say the same: near-duplicates among training rows, and benchmarks' questions in them."""
