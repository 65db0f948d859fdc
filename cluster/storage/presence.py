"""Whether a local root is still there: one that was removed, unmounted or made read-only under a run isn't begun anew.

A process remembers each root that it has written, by the identity of its folder. A folder of the same name that comes
later is another: what is written there would be half of a root.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path

LOST = "Nothing that was committed is lost where the data still is; once it is back, the same command goes on"
"""What to do about it."""
_READ_ONLY = re.compile(r"read-only file ?system|os error (?:30|116|107|5)\b|stale file handle", re.IGNORECASE)
_UNWRITABLE = (errno.EROFS, errno.ESTALE, errno.ENOTCONN, errno.EIO)
_seen: dict[str, tuple[int, int]] = {}
"""Root -> device and inode of its folder."""


def remember(url: str) -> None:
    """Note that a root is there."""
    found = os.stat(url)
    _seen.setdefault(url, (found.st_dev, found.st_ino))


def forget(url: str) -> None:
    """Begin anew with a root, whatever was there before."""
    _seen.pop(url, None)


def was_there(url: str) -> bool:
    """Whether this process has written the root."""
    return url in _seen


def gone(url: str, folder: str = "") -> str | None:
    """Return what is missing of a root, in words; None where it is there.

    Args:
        folder: of the root, that must be there too.
    """
    try:
        found = os.stat(url)
    except OSError:
        return f"the root '{url}' isn't there any more"
    if url in _seen and _seen[url] != (found.st_dev, found.st_ino):
        return f"the root '{url}' is another folder than before"
    if folder and not Path(url, folder).is_dir():
        return f"'{folder}' isn't there any more in the root '{url}'"
    return None


def lost(url: str, error: BaseException) -> str | None:
    """Return how a root was lost, in words, if that is what an error comes from."""
    if was_there(url) and (why := gone(url)) is not None:
        return why
    for one in _chain(error):
        number = one.errno if isinstance(one, OSError) else None
        if number in _UNWRITABLE or _READ_ONLY.search(str(one)):
            return f"the root '{url}' can't be written any more ({one})"
        refused = number in (errno.EACCES, errno.EPERM) or "Permission denied" in str(one)
        if refused and not os.access(url, os.W_OK):
            return f"the root '{url}' can't be written any more ({one})"
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
