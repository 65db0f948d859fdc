"""What an engine's processes said last. A dead engine core leaves its reason on standard error, and nowhere else."""

from __future__ import annotations

import contextlib
import os
import re
import threading
from collections import deque
from collections.abc import Iterator

REASON = re.compile(
    r"((?:[\w.]+\.)?\w*(?:Error|Exception|Interrupt)\b: .*|.*(?:out of memory|Segmentation fault|Killed).*)"
)
DECORATION = re.compile(r"\x1b\[[0-9;]*m|^\(\w+(?: pid=\d+)?\)\s*|^(?:ERROR|WARNING|INFO) [\d-]+ [\d:]+ \[[^\]]*\]\s?")


class LastWords:
    """Keeps the last lines of what processes started inside ``with words.heard():`` write to standard error.

    They inherit a pipe in its place; a thread passes everything on to the real one.
    """

    def __init__(self, lines: int = 400) -> None:
        self._lines: deque[str] = deque(maxlen=lines)

    @contextlib.contextmanager
    def heard(self) -> Iterator[None]:
        reading, writing = os.pipe()
        real = os.dup(2)
        threading.Thread(target=self._listen, args=(reading, os.dup(real)), daemon=True).start()
        os.dup2(writing, 2)
        os.close(writing)
        try:
            yield
        finally:
            os.dup2(real, 2)
            os.close(real)

    def _listen(self, reading: int, real: int) -> None:
        with open(reading, "rb", buffering=0) as pipe:
            rest = b""
            while chunk := pipe.read(65536):
                with contextlib.suppress(OSError):
                    os.write(real, chunk)
                *lines, rest = (rest + chunk).split(b"\n")
                self._lines.extend(line.decode(errors="replace") for line in lines)
        os.close(real)

    def reason(self) -> str:
        """Return the last lines that say why something ended, the first cause first; empty where none does."""
        said = [re.sub(DECORATION, "", re.sub(DECORATION, "", line)).strip() for line in self._lines]
        found = [match.group(1) for line in said if (match := REASON.search(line))]
        return " | ".join(dict.fromkeys(found[-3:]))[:1000]
