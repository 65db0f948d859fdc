"""The root: one folder or bucket prefix under which everything a set of runs produces is kept.

A ``Root`` is only its URL, so it travels to workers as a string; file systems are opened where they are used.
Files are written whole: a reader sees all of a file or nothing of it. A remote root that doesn't answer is waited for.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import shutil
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from cluster.storage import durable
from cluster.storage.patience import patiently
from cluster.storage.presence import LOST, forget, gone, lost, remember, was_there
from cluster.storage.s3 import s3_config
from schemas.errors import BadInput, GristmillError, RootLost
from schemas.redaction import redact

Result = TypeVar("Result")

SINGLE_WRITER = "GRISTMILL_SINGLE_WRITER"
"""Environment variable that vouches for it: no two runs ever write this root at the same time."""


@dataclass(frozen=True)
class Root:
    """A local folder or any URL that fsspec and delta-rs both know (``s3://bucket/prefix``)."""

    url: str

    @staticmethod
    def at(url: str | Path) -> Root:
        """Make a root from a path or URL; a local path becomes absolute.

        Raises:
            BadInput: the URL carries credentials, which would end up in manifests; or a file is in the way.
        """
        text = str(url)
        if text.startswith("file://"):
            text = text.removeprefix("file://")
        if "://" not in text:
            path = Path(text).expanduser().absolute()
            if (file := _in_the_way(path)) is not None:
                kind = "a link to what isn't there" if file.is_symlink() and not file.exists() else "a file"
                raise BadInput(
                    f"'{text}' can't be a folder: '{file}' is {kind}. Give the folder that is meant, or a new one"
                )
            text = str(path)
        elif "@" in urlsplit(text).netloc:
            raise BadInput(
                "the root's URL carries credentials; leave them out and set AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, in the environment"
            )
        return Root(text.rstrip("/"))

    @property
    def is_local(self) -> bool:
        return "://" not in self.url

    @cached_property
    def fs(self) -> Any:
        """The fsspec file system."""
        import fsspec  # takes as long as all of a command that needs no files

        options = s3_config().fsspec_options() if self.url.startswith("s3") else {}
        return fsspec.core.url_to_fs(self.url, **options)[0]

    def storage_options(self) -> dict[str, str] | None:
        """Return what delta-rs and Polars need to reach the root; None for a local one."""
        if not self.url.startswith("s3"):
            return None
        return s3_config().rust_options(single_writer=SINGLE_WRITER in os.environ)

    def patiently(self, action: Callable[[], Result], what: str) -> Result:
        """Return ``action()``; see ``cluster.storage.patience``.

        Raises:
            RootLost: a local root isn't there any more, or can't be written any more.
        """
        try:
            return patiently(action, what, remote=not self.is_local)
        except GristmillError:
            raise
        except Exception as error:
            if self.is_local and (why := lost(self.url, error)) is not None:
                raise RootLost(f"{what}: {why}. {LOST}") from error
            raise

    def check_there(self, folder: str = "") -> None:
        """See that a local root, and a folder that was made in it, are still there: nothing is begun in their place.

        Raises:
            RootLost: they aren't.
        """
        if self.is_local and (why := gone(self.url, folder)) is not None:
            raise RootLost(f"{why}. {LOST}")

    def make_folder(self, folder: Path) -> None:
        """Make a folder of a local root; the root itself only where nobody has seen it yet."""
        if was_there(self.url):
            self.check_there()
        durable.make_folder(folder)
        remember(self.url)

    def uri(self, *parts: str) -> str:
        """Return the address of something under the root, as delta-rs, Polars and fsspec take it."""
        return "/".join([self.url, *parts])

    def check_writable(self) -> None:
        """Refuse a root that can't be written safely, before anything is paid for.

        Writers of a store exclude each other by conditional writes; whether the server has them is tried.

        Raises:
            BadInput: with the system's own words, or because conditional writes are missing.
        """
        name = f".write-check-{uuid.uuid4().hex}"
        try:
            if self.is_local:
                forget(self.url)
                self.fs.makedirs(self.url, exist_ok=True)
            patiently(lambda: self._write(b"ok", self.uri(name)), "writing", remote=not self.is_local, seconds=15.0)
            conditional = self.is_local or self._writes_conditionally(name)
            self.remove(name)
        except GristmillError:
            raise
        except Exception as error:  # each file system has its own errors; all mean the same here
            raise BadInput(
                f"the root '{self.url}' can't be written: {redact(str(error))}. Choose another with --root or "
                "$GRISTMILL_ROOT, or check endpoint and credentials (AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, AWS_PROFILE)"
            ) from error
        if not conditional and SINGLE_WRITER not in os.environ:
            raise BadInput(
                f"the server of '{self.url}' has no conditional writes (If-None-Match), so two runs that write at the "
                f"same time could lose each other's work. If only one run ever writes this root, say so: "
                f"{SINGLE_WRITER}=1; or use a server that has them"
            )

    def _writes_conditionally(self, existing: str) -> bool:
        """Try to create an object that exists: a server with conditional writes refuses."""
        try:
            self.fs.pipe_file(self.uri(existing), b"overwritten", mode="create")
        except (OSError, NotImplementedError):
            return bytes(self.fs.cat_file(self.uri(existing))) == b"ok"
        return False

    def free_bytes(self) -> float:
        """Return how much space is left; object stores have no end."""
        return shutil.disk_usage(self.url).free if self.is_local else math.inf

    def exists(self, *parts: str) -> bool:
        there = os.path.exists if self.is_local else self.fs.exists
        return self.patiently(lambda: bool(there(self.uri(*parts))), f"looking for {'/'.join(parts)}")

    def list(self, *parts: str) -> list[str]:
        """Return the names directly under a folder, sorted; none where it doesn't exist."""
        folder = self.uri(*parts)

        def names() -> list[str]:
            try:
                found = os.listdir(folder) if self.is_local else self.fs.ls(folder, detail=False)
                return [str(path).rstrip("/").rsplit("/", 1)[-1] for path in found]
            except (FileNotFoundError, NotADirectoryError):
                return []

        return sorted(self.patiently(names, f"listing {'/'.join(parts)}"))

    def remove(self, *parts: str, recursive: bool = False) -> None:
        """Remove a file or, if told, a folder; one that isn't there is fine."""

        def remove() -> None:
            with contextlib.suppress(FileNotFoundError):
                self.fs.rm(self.uri(*parts), recursive=recursive)

        self.patiently(remove, f"removing {'/'.join(parts)}")

    def write_bytes(self, data: bytes, *parts: str) -> None:
        """Write a file whole: locally through a synced temporary name, on object stores in one put."""
        self.patiently(lambda: self._write(data, self.uri(*parts)), f"writing {'/'.join(parts)}")

    def _write(self, data: bytes, path: str) -> None:
        if not self.is_local:
            self.fs.pipe_file(path, data)
            return
        target = Path(path)
        self.make_folder(target.parent)
        temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
        try:
            with open(temporary, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)
            durable.sync_folder(target.parent)
        finally:
            temporary.unlink(missing_ok=True)

    def create(self, data: bytes, *parts: str) -> bool:
        """Write a file unless there is one of that name; return whether it was written. One of several writers wins."""
        path = self.uri(*parts)
        if not self.is_local:
            return self.patiently(lambda: self._create_remote(data, path), f"writing {'/'.join(parts)}")
        target = Path(path)
        temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
        try:
            self._write(data, str(temporary))
            os.link(temporary, target)  # whole or not at all, and never over another
            durable.sync_folder(target.parent)
        except FileExistsError:
            return False
        finally:
            temporary.unlink(missing_ok=True)
        return True

    def _create_remote(self, data: bytes, path: str) -> bool:
        try:
            self.fs.pipe_file(path, data, mode="create")
        except OSError as error:
            if not isinstance(error, FileExistsError) and error.errno != errno.EINVAL:
                raise
            try:  # a condition that didn't hold; perhaps it is our own object, whose answer was lost
                return bytes(self.fs.cat_file(path)) == data
            except FileNotFoundError:  # another's, which is gone already
                return False
        return True

    def read_bytes(self, *parts: str) -> bytes:
        path = self.uri(*parts)
        read = Path(path).read_bytes if self.is_local else lambda: bytes(self.fs.cat_file(path))
        return self.patiently(read, f"reading {'/'.join(parts)}")

    def read_json(self, *parts: str) -> Any:
        return json.loads(self.read_bytes(*parts))


def _in_the_way(path: Path) -> Path | None:
    """Return what stands where a folder should be: the path itself, or one above it; None where nothing does."""
    there = next((one for one in (path, *path.parents) if os.path.lexists(one)), None)
    return there if there is not None and not there.is_dir() else None
