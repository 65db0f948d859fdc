"""Keys never reach a log, a manifest or an error: what leaves the process goes through ``redact`` or ``redacted``.

What is secret is known in three ways:

* *declared*: the values of ``secrets:``, of settings that end in ``_env``, of credentials that were read (``protect``);
  also their beginnings, their Base64 forms and as JSON and URLs write them, as servers like to repeat them;
* *undeclared*: values of environment variables whose name says so (``API_KEY``, ``DB_PASS``, ``GITHUB_PAT``), where the
  value looks like a key: 12 characters or more, and no path, URL, word or number;
* *by place*: the password of a URL, what stands in a query behind ``api_key=`` and its like, and what looks like a key
  in the place of a URL's user or behind ``Bearer``.

Free text (messages, logs) is redacted as text. Documents are redacted value by value *before* they are serialised, so
keys, numbers, states and kinds stay what they are and the document stays one. Data (prompts, completions) is never
touched: it doesn't come here.
"""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import quote, quote_plus

_NAMES = re.compile(
    r"(?:(?:^|_)(?:SECRETS?|TOKEN|PASSWORDS?|PASSWD|PASSPHRASE|PASS|PWD|PW|CREDENTIALS?|KEY|APIKEY|PAT|DSN|AUTH|JWT|COOKIES?"
    r"|CONNECTION_?STRING|WEBHOOK(?:_URL)?)"
    r"|(?:API|ACCESS|SECRET|PRIVATE)_?KEY(?:_ID)?|PASSW(?:OR)?D|AUTH_?TOKEN"
    r"|(?:DATABASE|POSTGRES(?:QL)?|MYSQL|REDIS|MONGO(?:DB)?|RABBITMQ|AMQP|BROKER)_UR[IL])"
    r"(?:_(?:\d+|PROD|PRODUCTION|STAGING|DEV|TEST|LIVE|READ|WRITE|RO|RW|OLD|NEW|BACKUP|PRIMARY|SECONDARY|ADMIN))?$",
    re.IGNORECASE,
)
_SETTINGS = re.compile(
    r"^(?:x-)?(?:api[-_]?key|apikey|authorization|access[-_]?token|auth[-_]?token|token|secret|password|passwd"
    r"|client[-_]?secret|private[-_]?key|subscription[-_]?key)$",
    re.IGNORECASE,
)
_QUERY = re.compile(
    r"(?P<name>[?&;#](?:(?:[a-z0-9_.-]*[_.-])?(?:api|access|auth|secret|private|client)?"
    r"(?:key|token|secret|password|passwd|signature|credential)|sig|auth|code)=)[^&#\s\"'<>]+",
    re.IGNORECASE,
)
_USERINFO = re.compile(
    r"(?P<before>\b[a-z][a-z0-9+.-]*://[^/\s:@\"'<>]*):"
    r"(?:[^/\s\"'<>]+|(?!\d+[/?#])[^\s\"'<>?#@]+)@",  # a slash in it should have been written as %2F
    re.IGNORECASE,
)
_BEARER = re.compile(r"(?P<before>://|\b(?:Bearer|Basic)\s+)(?P<key>[^/\s:@\"'<>,;]{12,})(?P<after>@?)", re.IGNORECASE)
"""What may be a key in the place of a URL's user, or of the credentials of a header."""
_WORDS = re.compile(r"[A-Za-z]+(?:[ _.,-][A-Za-z]+)*")
_NUMBER = re.compile(r"[+-]?[\d_.,]+(?:e[+-]?\d+)?%?", re.IGNORECASE)

_HEADER = re.compile(
    r"(?P<before>\b(?:api|subscription)-?key[\"']?\s*[:=]\s*[\"']?)(?P<key>[^\s\"'<>,;&#]{12,})(?P<after>)",
    re.IGNORECASE,
)
"""What may be a key behind the name of a header that carries one."""

HIDDEN = "***"
SHORTEST = 4
"""Characters of a declared secret at least; shorter ones would be found everywhere."""
LONG = 12
"""Characters from which an undeclared value counts as a key, and a part of a declared one is looked for."""
FIXED = frozenset({"state", "kind", "status", "operator", "event", "dataset", "pipeline", "run_id"})
"""Fields of documents that name something of ours: never redacted."""
OURS = frozenset({"name", "path", "view", "view_id", "stage", "account", "job"})
"""Fields that hold names that people give here: what is long enough to be a key is hidden in them, a short secret that
is a word like ``sample`` isn't."""

_declared: set[str] = set()


def protect(*values: str | None) -> None:
    """Declare values that nothing may show."""
    _declared.update(value for value in values if value and len(value) >= SHORTEST)


def is_secret_name(name: str) -> bool:
    """Whether an environment variable of this name holds a secret."""
    return _NAMES.search(name) is not None


def is_secret_setting(name: str) -> bool:
    """Whether a key of a request's body or headers of this name holds a secret."""
    return _SETTINGS.match(name) is not None


def protect_settings(value: Any) -> None:
    """Declare what stands under names like ``api_key``, or in variables that ``key_env`` and its like name."""
    if isinstance(value, Mapping):
        for name, below in value.items():  # pyright: ignore[reportUnknownVariableType]
            if isinstance(below, str) and is_secret_setting(str(name)):  # pyright: ignore[reportUnknownArgumentType]
                protect(below, below.removeprefix("Bearer ").strip())
            elif isinstance(below, str) and str(name).endswith("_env"):  # pyright: ignore[reportUnknownArgumentType]
                protect(os.environ.get(below, "").strip())
            else:
                protect_settings(below)
    elif isinstance(value, list | tuple):
        for below in value:  # pyright: ignore[reportUnknownVariableType]
            protect_settings(below)


def redact(text: str, shortest: int = SHORTEST) -> str:
    """Return free text with every known secret replaced by asterisks.

    Args:
        shortest: characters of the declared secrets that are looked for, at least.
    """
    named = frozenset(v for name, v in os.environ.items() if is_secret_name(name) and _looks_like_a_key(v))
    pattern = _pattern(frozenset(secret for secret in _declared if len(secret) >= shortest), named)
    if pattern is not None:
        text = pattern.sub(HIDDEN, text)
    if "://" in text:
        text = _USERINFO.sub(rf"\g<before>:{HIDDEN}@", text)
    if "://" in text or "earer" in text or "asic" in text:
        text = _BEARER.sub(_without_key, text)
    if "ey" in text or "EY" in text:
        text = _HEADER.sub(_without_key, text)
    if "=" in text:
        text = _QUERY.sub(rf"\g<name>{HIDDEN}", text)
    return text


def redacted(document: Any) -> Any:
    """Return a JSON-like document with the secrets in its texts replaced.

    Keys, numbers and the fields that name something of ours (``FIXED``) stay. What stands under a name like ``api_key``
    is replaced whatever it is.
    """
    if isinstance(document, str):
        return redact(document)
    if isinstance(document, Mapping):
        return {key: _field(str(key), value) for key, value in document.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    if isinstance(document, list | tuple):
        return [redacted(value) for value in document]  # pyright: ignore[reportUnknownVariableType]
    return document


def secrets_in(document: Any, path: str = "") -> list[str]:
    """Return where in a JSON-like document ``redacted`` would hide something, as paths with dots."""
    if isinstance(document, Mapping):
        found: list[str] = []
        for key, value in document.items():  # pyright: ignore[reportUnknownVariableType]
            below = f"{path}.{key}" if path else str(key)  # pyright: ignore[reportUnknownArgumentType]
            if isinstance(value, str):
                found += [below] if _field(str(key), value) != value else []  # pyright: ignore[reportUnknownArgumentType]
            else:
                found += secrets_in(value, below)
        return found
    if isinstance(document, list | tuple):
        return [place for at, value in enumerate(document) for place in secrets_in(value, f"{path}.{at}")]  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    return [path] if isinstance(document, str) and redact(document) != document else []


def _field(name: str, value: Any) -> Any:
    if isinstance(value, str):
        if name in FIXED:
            return value
        if value and is_secret_setting(name):
            return HIDDEN
        if name in OURS:
            return redact(value, LONG)
    if isinstance(value, list | tuple) and is_secret_setting(name):
        return [_field(name, one) for one in value]  # pyright: ignore[reportUnknownVariableType]
    return redacted(value)


def _without_key(match: re.Match[str]) -> str:
    """Return what stands before a URL's host, or behind a header's scheme, without a key."""
    before, key, after = match["before"], match["key"], match["after"]
    is_user = before == "://"
    return f"{before}{HIDDEN}{after}" if is_user == bool(after) and _looks_like_a_key(key) else match[0]


def _looks_like_a_key(value: str) -> bool:
    """Whether the value of a variable is long and odd enough to be a key, and not a path, a URL, words or a number."""
    if len(value) < LONG or value.startswith(("/", "./", "../", "~")) or (os.sep in value and os.path.exists(value)):
        return False
    if "://" in value:
        return False  # what is secret in a URL is found by its place
    return _WORDS.fullmatch(value) is None and _NUMBER.fullmatch(value) is None


@lru_cache(maxsize=8)
def _pattern(declared: frozenset[str], named: frozenset[str]) -> re.Pattern[str] | None:
    """Return what finds the secrets, the longest first; short declared ones only where they stand as a whole."""
    found: dict[str, str] = {}
    for secret in declared:
        if len(secret) < LONG:
            found[secret] = rf"(?<![\w-]){re.escape(secret)}(?![\w-])"
        else:
            found[secret] = re.escape(secret) if "://" in secret else _beginnings(secret)  # all URLs begin alike
            found |= {encoded: re.escape(encoded) for encoded in _encoded(secret)}
        found |= {written: re.escape(written) for written in _written(secret)}
    for secret in named - declared:
        found |= {written: re.escape(written) for written in (secret, *_written(secret))}
    if not found:
        return None
    return re.compile("|".join(found[secret] for secret in sorted(found, key=len, reverse=True)))


def _beginnings(secret: str) -> str:
    """Return a pattern of a secret and of each of its beginnings of at least ``LONG`` characters."""
    rest = ""
    for letter in reversed(secret[LONG : LONG + 60]):
        rest = f"(?:{re.escape(letter)}{rest})?"
    return f"(?:{re.escape(secret)}|{re.escape(secret[:LONG])}{rest})"


def _written(secret: str) -> Iterable[str]:
    """Yield a secret as JSON and URLs write it, where that is another text."""
    for written in (
        json.dumps(secret)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1],
        quote(secret, ""),
        quote_plus(secret),
    ):
        if written != secret and len(written) >= LONG:
            yield written


def _encoded(secret: str) -> Iterable[str]:
    """Yield a secret's Base64 forms, as far as they don't depend on what stands before or behind it."""
    data = secret.encode()
    for shift in range(3):
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            text = encode(b"\0" * shift + data).decode()
            text = text[-(-8 * shift // 6) :]
            text = text.rstrip("=")[: len(text.rstrip("=")) - (1 if (shift + len(data)) % 3 else 0)]
            if len(text) >= LONG:
                yield text
