"""``gristmill simulate``: any sampling policy replayed on recorded counts or samples."""

from jobs.simulate.simulation import simulate

__all__ = ["simulate"]
