"""Simulations that hold the numbers of ``measure.*`` against truths that are known; each prints its grid.

They need counts of problems by several models, such as those of Large Language Monkeys (model, problem_index, n, c): a
Parquet file, or a folder with ``monkeys_math_counts.parquet``, given as ``--data``.
"""
