"""What root may do that others may not: given up, so that permissions hold for tests that root runs, too (Linux)."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from threading import Thread

VERSION = 0x20080522
"""``_LINUX_CAPABILITY_VERSION_3`` of capset(2): two words of each set."""


def give_up() -> None:
    """Give up all capabilities of this thread, and of what it starts; of a process with one thread, the process's."""
    libc = ctypes.CDLL(None, use_errno=True)
    header, nothing = (ctypes.c_uint32 * 2)(VERSION, 0), (ctypes.c_uint32 * 6)()
    if libc.capset(header, nothing) != 0:
        raise OSError(ctypes.get_errno(), "capset")


def as_anybody(action: Callable[[], object]) -> BaseException | None:
    """Do something in a thread without privileges; return what it raised."""
    raised: list[BaseException] = []

    def act() -> None:
        try:
            give_up()
            action()
        except BaseException as error:
            raised.append(error)

    thread = Thread(target=act)
    thread.start()
    thread.join()
    return raised[0] if raised else None


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Make a folder, and all that is in it, read-only for whoever has no privileges; others may be writing to it."""
    modes: dict[Path, int] = {}
    for path in chain([folder], folder.rglob("*")):  # a folder is closed before its entries are listed
        with contextlib.suppress(FileNotFoundError):
            modes[path] = path.stat().st_mode
            path.chmod(modes[path] & ~0o222)
    try:
        yield
    finally:
        for path, mode in modes.items():
            with contextlib.suppress(FileNotFoundError):
                path.chmod(mode)
