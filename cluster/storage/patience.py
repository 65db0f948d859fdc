"""Patience: storage that doesn't answer for a while is waited for, with growing pauses; anything else is an error now.

Only faults of the way to the storage are waited for (connections, time-outs, 5xx, throttling). A full disk is never
retried: nothing gets better by trying.
"""

from __future__ import annotations

import errno
import random
import re
import threading
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from schemas.errors import BadInput, GristmillError, StorageFull, StorageUnavailable
from schemas.redaction import redact

Result = TypeVar("Result")

PATIENCE = 120.0
"""Seconds for which a storage that doesn't answer is waited for."""
LITTLE = 5.0
"""Seconds it gets once it has stayed away for so long, until it has answered again: a run can end in finite time."""
FULL = (errno.ENOSPC, errno.EDQUOT)
KEYLESS = frozenset({"NoCredentialsError", "PartialCredentialsError", "ProfileNotFound"})
"""Faults of botocore, by name: it is imported where such a storage is used."""
_gave_up = threading.Event()
_AWAY = re.compile(
    r"error sending request|connect(ion)? ?error|could not connect|connection (refused|reset|closed|aborted)"
    r"|timed? ?out|broken pipe|slow ?down|service ?unavailable|internal ?(server)? ?error|bad gateway|gateway timeout"
    r"|too many requests|reduce your request rate|server disconnected|incomplete ?(message|body|read)|\b50[0234]\b"
    r"|request ?timeout|after \d+ retries|error decoding response body|try again",
    re.IGNORECASE,
)
_FULL = re.compile(r"no space left|disk quota exceeded|storage ?full", re.IGNORECASE)


def patiently(action: Callable[[], Result], what: str, *, remote: bool, seconds: float = PATIENCE) -> Result:
    """Return ``action()``, waiting up to ``seconds`` for a remote storage that doesn't answer.

    Args:
        action: does one thing that may be done again.
        what: names it in errors: ``reading samples/...``.

    Raises:
        StorageUnavailable: the storage stayed away.
        StorageFull: no space is left.
        BadInput: there are no credentials.
    """
    began, pause = time.monotonic(), 0.25
    while True:
        try:
            result = action()
            _gave_up.clear()
            return result
        except GristmillError:
            raise
        except Exception as error:
            if is_full(error):
                raise StorageFull(
                    f"{what}: no space is left ({redact(str(error))}). Make room and give the same command again; "
                    "nothing that was committed is lost"
                ) from error
            if remote and any(type(one).__name__ in KEYLESS for one in _chain(error)):
                raise BadInput(
                    f"{what}: there are no credentials for this storage. Set AWS_ACCESS_KEY_ID and "
                    "AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
                ) from error
            if not (remote and is_away(error)):
                raise
            waited = time.monotonic() - began
            if waited + pause > (min(LITTLE, seconds) if _gave_up.is_set() else seconds):
                _gave_up.set()
                raise StorageUnavailable(
                    f"{what}: the storage didn't answer for {waited:.0f} s: {redact(str(error))}. Nothing that was "
                    "committed is lost; the same command goes on"
                ) from error
        time.sleep(pause * (0.5 + random.random()))
        pause = min(5.0, 2 * pause)


def is_full(error: BaseException) -> bool:
    """Whether the error says that no space is left."""
    return any(getattr(e, "errno", None) in FULL or _FULL.search(str(e)) is not None for e in _chain(error))


def is_away(error: BaseException) -> bool:
    """Whether the error says that the storage can't be reached or is overloaded: the same request may succeed later."""
    return any(isinstance(e, ConnectionError | TimeoutError) or _AWAY.search(str(e)) is not None for e in _chain(error))


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        yield error
        seen.append(error)
        error = error.__cause__ or error.__context__
