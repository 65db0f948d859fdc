"""``gristmill bench-engine``: how fast an engine is on this hardware."""

from jobs.bench.benchmark import bench

__all__ = ["bench"]
