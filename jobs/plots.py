"""Plots into files: one place that knows how each format is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from schemas.errors import BadInput

FORMATS = ("html", "png", "svg")


def save_chart(chart: Any, path: Path) -> None:
    """Write an Altair chart; the ending says how, and HTML needs nothing from the network.

    Raises:
        BadInput: an ending that isn't one of FORMATS.
    """
    kind = path.suffix.removeprefix(".").lower()
    if kind not in FORMATS:
        raise BadInput(f"'{path}': the plot's name must end in one of {', '.join(FORMATS)}")
    path.parent.mkdir(parents=True, exist_ok=True)
    chart.save(str(path), inline=True) if kind == "html" else chart.save(str(path), ppi=144)
