"""The report of a run: one self-contained HTML page."""

from jobs.report.build import render

__all__ = ["render"]
