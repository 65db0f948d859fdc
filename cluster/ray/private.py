"""Ray on this machine is this user's alone: it listens on the loopback interface; its token and folders are private.

By itself Ray 2.60 binds its servers to all interfaces, keeps the token that guards them in a file that everybody may
read, and its logs and sockets in folders that everybody may write. A cluster of several nodes has to listen on the
network; docs/trouble.md says how to close that off.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ray._private import ray_constants

LONGEST = 40
"""Bytes of a folder's name at most: Ray puts sockets some 62 bytes below it, and 107 are allowed."""
_CLUSTERS = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""Ray's switch for being found by other machines; where it is off, all of Ray's servers bind to 127.0.0.1."""


@contextmanager
def on_loopback() -> Iterator[None]:
    """Make a Ray that is started meanwhile listen on this machine only."""
    switch, before = ray_constants.ENABLE_RAY_CLUSTER, os.environ.get(_CLUSTERS)
    ray_constants.ENABLE_RAY_CLUSTER = False  # pyright: ignore[reportConstantRedefinition]  (read once, at the import)
    os.environ[_CLUSTERS] = "0"
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = switch  # pyright: ignore[reportConstantRedefinition]
        if before is None:
            del os.environ[_CLUSTERS]
        else:
            os.environ[_CLUSTERS] = before


def private_folder() -> str:
    """Return a folder for Ray's sessions, in one that only this user may enter and that is made if it isn't there."""
    place = tempfile.gettempdir()
    if len(os.fsencode(place)) > LONGEST - len("/gristmill-4294967295/ray"):
        place = "/tmp"  # noqa: S108 (the folder in it is made for this user alone)
    path = Path(place, f"gristmill-{os.getuid()}")
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o700)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():  # somebody else was there first
        path = Path(tempfile.mkdtemp(prefix="gm-", dir=place))
    path.chmod(0o700)
    return str(path / "ray")  # which Ray opens to everybody


def keep_token_private() -> None:
    """See that the token of this user's Ray is there and readable by nobody else, before Ray makes one that isn't."""
    if os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_MODE", "token").lower() != "token":
        return
    given = os.environ.get("RAY_AUTH_TOKEN_PATH")
    path = Path(given) if given else Path.home() / ".ray" / "auth_token"
    try:
        if not path.exists() and not given:
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(secrets.token_hex(32))
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            path.chmod(0o600)
    except FileExistsError:
        return  # another run made it just now
    except OSError:  # a home that can't be written: the token is in the environment, which is as private
        if not given and not path.exists():
            os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
