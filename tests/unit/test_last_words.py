"""What a dying process said last: found among the noise, and still passed on to where it was meant to go."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from cluster.engines.vllm.last_words import LastWords

NOISE = """
import sys
print("(EngineCore pid=42) INFO 11-25 06:10:45 [core.py:1] starting", file=sys.stderr)
print("(EngineCore pid=42) ERROR 11-25 06:10:46 [core.py:906] Traceback (most recent call last):", file=sys.stderr)
print("(EngineCore pid=42) ERROR 11-25 06:10:46 [core.py:906]     run()", file=sys.stderr)
print("(EngineCore pid=42) ERROR 11-25 06:10:46 [core.py:906] torch.OutOfMemoryError: CUDA out of memory. Tried to "
      "allocate 2.00 GiB", file=sys.stderr)
print("[rank0]: a warning of no weight", file=sys.stderr)
"""


def test_the_reason_is_found_among_the_noise(capfd: pytest.CaptureFixture[str]) -> None:
    words = LastWords()
    with words.heard():
        child = subprocess.Popen([sys.executable, "-c", NOISE])
    print("mine", file=sys.stderr, flush=True)  # the pipe was for the child alone
    child.wait()
    until, passed_on = time.monotonic() + 120, ""
    while not (words.reason() and "of no weight" in passed_on) and time.monotonic() < until:
        passed_on += capfd.readouterr().err
        time.sleep(0.01)
    assert words.reason() == "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB"
    assert "starting" in passed_on
    assert "mine" in passed_on


def test_silence_gives_no_reason() -> None:
    assert LastWords().reason() == ""
