"""Benchmarks: ratios measured in one run against what a user would pick instead. Scripts, never timed tests."""
