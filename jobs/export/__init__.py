"""``gristmill export``: a run's training data as Parquet shards and a dataset card."""

from jobs.export.exporting import export
from jobs.export.formats import FORMATS, Format

__all__ = ["FORMATS", "Format", "export"]
