"""The root: one folder or bucket prefix under which everything a set of runs produces is kept.

A ``Root`` is only its URL, so it travels to workers as a string; file systems are opened where they are used.
Files are written whole: a reader sees all of a file or nothing of it.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import fsspec

from schemas.errors import BadInput


@dataclass(frozen=True)
class Root:
    """A local folder or any URL that fsspec and delta-rs both know (``s3://bucket/prefix``)."""

    url: str

    @staticmethod
    def at(url: str | Path) -> Root:
        """Make a root from a path or URL; a local path becomes absolute."""
        text = str(url)
        if text.startswith("file://"):
            text = text.removeprefix("file://")
        if "://" not in text:
            text = str(Path(text).expanduser().absolute())
        return Root(text.rstrip("/"))

    @property
    def is_local(self) -> bool:
        return "://" not in self.url

    @cached_property
    def fs(self) -> Any:
        """The fsspec file system; listings are never cached, so another writer's work is seen."""
        options: dict[str, Any] = {} if self.is_local else {"use_listings_cache": False}
        return fsspec.core.url_to_fs(self.url, **options)[0]

    def uri(self, *parts: str) -> str:
        """Return the address of something under the root, as delta-rs, Polars and fsspec take it."""
        return "/".join([self.url, *parts])

    def check_writable(self) -> None:
        """Refuse a root that can't be written, before anything is paid for.

        Raises:
            BadInput: with the system's own words.
        """
        probe = self.uri(f".write-check-{uuid.uuid4().hex}")
        try:
            self.fs.makedirs(self.url, exist_ok=True)
            with self.fs.open(probe, "wb") as file:
                file.write(b"ok")
            self.fs.rm(probe)
        except Exception as error:  # each file system has its own errors; all mean the same here
            raise BadInput(
                f"the root '{self.url}' can't be written: {error}. Choose another with --root or $GRISTMILL_ROOT"
            ) from error

    def exists(self, *parts: str) -> bool:
        return bool(self.fs.exists(self.uri(*parts)))

    def list(self, *parts: str) -> list[str]:
        """Return the names directly under a folder, sorted; none where it doesn't exist."""
        folder = self.uri(*parts)
        if not self.fs.isdir(folder):
            return []
        return sorted(str(path).rstrip("/").rsplit("/", 1)[-1] for path in self.fs.ls(folder, detail=False))

    def write_bytes(self, data: bytes, *parts: str) -> None:
        """Write a file whole: locally through a synced temporary name, on object stores in one put."""
        path = self.uri(*parts)
        if not self.is_local:
            self.fs.pipe_file(path, data)
            return
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
        try:
            with open(temporary, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)

    def read_bytes(self, *parts: str) -> bytes:
        return bytes(self.fs.cat_file(self.uri(*parts)))

    def read_json(self, *parts: str) -> Any:
        return json.loads(self.read_bytes(*parts))

    def json_documents(self, folder: str, name: str) -> Iterator[tuple[str, Any]]:
        """Yield (folder name, document) for each ``{folder}/*/{name}``; a document still being made is left out."""
        for entry in self.list(folder):
            if self.exists(folder, entry, name):
                yield entry, self.read_json(folder, entry, name)

    def storage_options(self) -> dict[str, str]:
        """Return what delta-rs and Polars need beyond the environment (which holds the credentials)."""
        if self.is_local:
            return {}
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
        return {"allow_http": "true"} if endpoint.startswith("http://") else {}
