"""What nobody expected: one line for people, the traceback in a file that can be sent."""

from __future__ import annotations

import os
import platform
import sys
import tempfile
import traceback
from datetime import UTC, datetime
from pathlib import Path

from schemas import __version__
from schemas.redaction import redact


def defect(error: BaseException) -> str:
    """Write down an error that Gristmill should have told in words, and return what to say of it.

    The file is for its owner alone, and known secrets are hidden in it.
    """
    said = redact(" ".join(f"{type(error).__name__}: {error}".split()))[:300]
    text = "\n".join(
        [
            f"gristmill {__version__}, Python {platform.python_version()}, {platform.platform()}",
            f"command: {' '.join(sys.argv)}",
            "",
            "".join(traceback.format_exception(error)),
        ]
    )
    told = f"Gristmill didn't expect this: {said}. It is a defect; please report it"
    try:
        return f"{told}, with the file {_write(redact(text))}"
    except OSError:
        return f"{told}, with what follows:\n{redact(text)}"


def _write(text: str) -> Path:
    name = f"gristmill-{datetime.now(UTC):%Y%m%d-%H%M%S}-{os.getpid()}.txt"
    for folder in (Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "gristmill", None):
        path = (folder or Path(tempfile.gettempdir())) / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
                file.write(text)
            return path
        except OSError:
            if folder is None:
                raise
    raise OSError("there is no folder for it")
