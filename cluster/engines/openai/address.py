"""The way to a server: where its endpoints are, its key, its headers, the proxy in between."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib import request as _request

from yarl import URL

from schemas.engine import OpenAISpec
from schemas.errors import BadInput
from schemas.redaction import protect, redact

_urllib: Any = _request  # what reads the proxies' variables has no types
COMMAND_SECONDS = 60.0
"""How long ``engine.key_command`` may take."""


def check_url(spec: OpenAISpec) -> None:
    """See that nothing secret stands in ``engine.url``.

    Raises:
        BadInput: it carries credentials.
    """
    if "@" in spec.url.partition("://")[2].partition("/")[0]:
        raise BadInput(f"engine.url carries credentials; put the key in ${spec.key_env} instead")


def endpoint(spec: OpenAISpec, place: str) -> URL:
    """Return the URL of an endpoint under ``engine.url``, whose query stays (Azure's ``?api-version=...``)."""
    base = URL(spec.url)
    path = base.raw_path.rstrip("/")
    path = path if path.endswith(f"/{place}") else f"{path}/{place}"
    return URL(f"{base.origin()}{path}{f'?{base.raw_query_string}' if base.raw_query_string else ''}", encoded=True)


def beside(spec: OpenAISpec, place: str) -> URL:
    """Return the URL of an endpoint beside ``/v1``."""
    base = URL(spec.url)
    path = base.raw_path.rstrip("/").removesuffix("/v1")
    return URL(f"{base.origin()}{path}/{place}", encoded=True)


def moved(url: URL, location: str) -> URL:
    """Return where a server says that an endpoint is now.

    Raises:
        BadInput: it is another host, or no longer encrypted: the key isn't carried there.
    """
    target = url.join(URL(location))
    if target.host != url.host or (url.scheme, target.scheme) == ("https", "http"):
        raise BadInput(
            f"{url.origin()} sends requests on to {redact(str(target.origin()))}, where the key isn't carried: set "
            "engine.url to the server's own address"
        )
    return target


def proxy_for(url: URL) -> str | None:
    """Return the proxy that the environment names for a URL (``HTTP_PROXY``, ``HTTPS_PROXY``, ``ALL_PROXY``, less what
    ``NO_PROXY`` excepts); this machine itself is never asked through one.
    """
    known: dict[str, str] = _urllib.getproxies_environment()
    found = known.get(url.scheme) or known.get("all")
    if not found or url.host is None or _is_here(url.host) or _urllib.proxy_bypass_environment(url.host, known):
        return None
    return found if "://" in found else f"http://{found}"


def _is_here(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


class Credentials:
    """The headers that carry keys. A key that expires is read again when the server refuses it.

    Raises:
        BadInput: a variable, file or command holds no key that a header can carry.
    """

    def __init__(self, spec: OpenAISpec) -> None:
        self._spec = spec
        self._more = {name: _variable(variable) for name, variable in spec.headers.items()}
        self._lock: asyncio.Lock | None = None
        self.headers = self._read()

    @property
    def source(self) -> str:
        """Where the key comes from, for people."""
        return (
            f"what '{self._spec.key_command}' writes" if self._spec.key_command
            else self._spec.key_file or f"${self._spec.key_env}"
        )  # fmt: skip

    def _read(self) -> dict[str, str]:
        key = self._key()
        protect(key)
        if not (key.isascii() and key.isprintable()):
            raise BadInput(
                f"{self.source} doesn't hold a key: it has line breaks or characters that no HTTP header can carry"
            )
        return {**(self._carrying(key) if key else {}), **self._more}

    def _carrying(self, key: str) -> dict[str, str]:
        """Return the header for a key: Azure's URLs take plain keys in another one, and tokens in the usual one."""
        azure = "api-version" in URL(self._spec.url).query and key.count(".") != 2
        return {"api-key": key} if azure else {"Authorization": f"Bearer {key}"}

    def _key(self) -> str:
        spec = self._spec
        if spec.key_command:
            try:
                done = subprocess.run(
                    ["/bin/sh", "-c", spec.key_command], capture_output=True, timeout=COMMAND_SECONDS, check=True
                )
            except (OSError, subprocess.SubprocessError) as error:
                raise BadInput(
                    f"engine.key_command '{redact(spec.key_command)}' failed: {redact(str(error))}"
                ) from None
            return done.stdout.decode(errors="replace").strip()
        if spec.key_file:
            try:
                return Path(spec.key_file).expanduser().read_text().strip()
            except OSError as error:
                raise BadInput(f"engine.key_file '{spec.key_file}' can't be read: {error.strerror}") from None
        return os.environ.get(spec.key_env, "").strip()

    async def renew(self, refused: Mapping[str, str]) -> bool:
        """Read the key again; return whether there is another one than what the server refused."""
        self._lock = self._lock or asyncio.Lock()
        async with self._lock:
            if self.headers == refused:
                self.headers = await asyncio.to_thread(self._read)
        return self.headers != refused


def _variable(name: str) -> str:
    value = os.environ.get(name, "").strip()
    if not value or not (value.isascii() and value.isprintable()):
        raise BadInput(f"engine.headers: ${name} isn't set, or holds what no HTTP header can carry")
    protect(value)
    return value
