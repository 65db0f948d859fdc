"""A call that never returns, in a module that worker processes can import."""

from __future__ import annotations

import os
import time
from pathlib import Path


def hang(folder: str, number: int) -> None:
    """Leave a mark with this process's id, then hang."""
    (Path(folder) / f"{os.getpid()}.pid").touch()
    time.sleep(600 + number)
