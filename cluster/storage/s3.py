"""S3: one configuration for s3fs, delta-rs and Polars, found as every AWS tool finds it.

Endpoint, region and credentials come from the environment (``AWS_ENDPOINT_URL``, ``AWS_REGION``, ``AWS_ACCESS_KEY_ID``,
``AWS_SECRET_ACCESS_KEY``, ``AWS_PROFILE``) or the profile's files, by botocore's own rules. Keys that don't expire are
handed to all three alike; roles, whose keys expire, are left to each library's own chain, which renews them. Nothing of
it is ever written or sent to workers: each machine finds its own.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from schemas.redaction import protect

LASTING = ("env", "shared-credentials-file", "config-file", "explicit")
"""Where botocore found keys that don't expire."""


@dataclass(frozen=True)
class S3Config:
    """Where the object store is and how to sign for it."""

    endpoint: str | None
    region: str
    key: str | None = None
    secret: str | None = field(default=None, repr=False)

    @property
    def plain_http(self) -> bool:
        return (self.endpoint or "").startswith("http://")

    def fsspec_options(self) -> dict[str, Any]:
        """Return what ``fsspec.filesystem("s3")`` needs; listings are never cached, so others' work is seen."""
        options: dict[str, Any] = {
            "use_listings_cache": False,
            "skip_instance_cache": False,
            "client_kwargs": {"region_name": self.region},
            # few tries of its own: waiting is our own business (patience), with a limit and a word to the user
            "config_kwargs": {"retries": {"max_attempts": 2}, "connect_timeout": 5, "read_timeout": 30},
        }
        if self.endpoint:
            options["endpoint_url"] = self.endpoint
        if self.key:
            options |= {"key": self.key, "secret": self.secret}
        return options

    def rust_options(self, single_writer: bool) -> dict[str, str]:
        """Return what delta-rs and Polars (object_store) need."""
        options = {"aws_region": self.region}
        if self.endpoint:
            options["aws_endpoint_url"] = self.endpoint
        if self.plain_http:
            options["aws_allow_http"] = "true"
        if self.key:
            options |= {"aws_access_key_id": self.key, "aws_secret_access_key": self.secret or ""}
        if single_writer:
            options["aws_s3_allow_unsafe_rename"] = "true"
        return options


def s3_config() -> S3Config:
    """Return the configuration of this process's environment, looked up once for each state of the environment."""
    relevant = tuple(sorted((name, value) for name, value in os.environ.items() if name.startswith("AWS_")))
    return _resolve(relevant)


@cache
def _resolve(environment: tuple[tuple[str, str], ...]) -> S3Config:
    from botocore.session import get_session  # half a second that only object stores pay for

    session: Any = get_session()
    profile: dict[str, Any] = session.get_scoped_config()
    named = dict(environment)
    endpoint = named.get("AWS_ENDPOINT_URL_S3") or named.get("AWS_ENDPOINT_URL") or profile.get("endpoint_url")
    region = named.get("AWS_REGION") or session.get_config_variable("region") or "us-east-1"
    credentials: Any = session.get_credentials()
    if credentials is None or credentials.token or credentials.method not in LASTING:
        return S3Config(endpoint, region)
    protect(credentials.access_key, credentials.secret_key)
    return S3Config(endpoint, region, credentials.access_key, credentials.secret_key)
