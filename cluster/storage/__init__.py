"""What is kept: the root, stores of facts (Delta tables) and snapshots of results (Parquet parts and a manifest)."""
