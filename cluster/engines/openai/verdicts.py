"""What an answer of a server means for its request, and for the run: served, busy, refused, or hopeless.

*Busy* is every way in which a server says that it can't now; the request is asked again and was no try. Where an answer
may have been begun (a gateway that waited too long), nobody knows what was done for it, and it counts as paid for.
*Refused* is a request that this server doesn't take. *Hopeless* is what no request can change: no money is left.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import Enum
from typing import Any

from schemas.errors import BadInput
from schemas.redaction import redact
from schemas.unicode import whole


class Meaning(Enum):
    """What an HTTP status says of a request."""

    SERVED = "served"
    BUSY = "busy"
    BUSY_BEGUN = "busy, and maybe served"
    REFUSED = "refused"
    HOPELESS = "hopeless"
    KEY = "the key isn't accepted"


BEGUN = frozenset({408, 499, 504, 520, 524, 598, 599})
"""Somebody gave up waiting for an answer that may have been begun."""
WAIT = frozenset({409, 425, 429})
NOT_MADE = frozenset({501, 505, 510, 511})
"""Of the server's errors, those that no time heals."""
NO_MONEY = frozenset(
    {
        "insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "insufficient_balance",
        "insufficient_user_quota", "insufficient_credits", "access_terminated", "account_deactivated",
        "exceeded_current_quota_error", "insufficient_funds", "payment_required", "arrearage",
    }
)  # fmt: skip
_NO_MONEY = re.compile(
    r"credit balance is too low|insufficient[ _](?:account )?(?:balance|credits?|funds)\b", re.IGNORECASE
)
"""How some say it in words alone."""
SAME = 8
"""So many equal refusals, and nothing served: it isn't the samples."""
ENOUGH_KEPT = 500
"""Characters of the server's own words."""
_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?")
_VARYING = re.compile(r"\b[0-9a-f]{8}[0-9a-f-]*\b|\w*-[\w-]{12,}|\d+")


def meaning(status: int, error: Mapping[str, Any] | None = None) -> Meaning:
    """Return what a status means, beside an error object that came with it."""
    if status == 402 or (error is not None and _no_money(error)):
        return Meaning.HOPELESS
    if status < 300:
        return Meaning.SERVED if error is None else meaning(_status_in(error), error)
    if status == 401:
        return Meaning.KEY
    if status in BEGUN:
        return Meaning.BUSY_BEGUN
    if status in WAIT or (status >= 500 and status not in NOT_MADE):
        return Meaning.BUSY
    return Meaning.REFUSED


def _no_money(error: Mapping[str, Any]) -> bool:
    names = {str(error.get(name)).lower() for name in ("code", "type", "status", "message")}
    return bool(names & NO_MONEY) or _NO_MONEY.search(str(error.get("message"))) is not None


def _status_in(error: Mapping[str, Any]) -> int:
    """Return the status that an error object in a good answer stands for; one that tells none is the server's fault."""
    for name in ("code", "status", "status_code"):
        found = error.get(name)
        if isinstance(found, int | str) and str(found).isdecimal() and 400 <= int(found) < 600:
            return int(found)
    said = " ".join(str(error.get(name, "")) for name in ("code", "type")).lower()
    if "rate" in said and "limit" in said:
        return 429
    return 400 if "invalid_request" in said or "content_filter" in said else 500


def error_in(document: Any) -> Mapping[str, Any] | None:
    """Return the error object of an answer; None where it has none, or has choices beside it.

    It stands under ``error`` (as a text, too, with its code beside it), in a list of one, or is the answer itself.
    """
    if isinstance(document, list) and len(document) == 1:  # pyright: ignore[reportUnknownArgumentType]
        document = document[0]
    if not isinstance(document, Mapping):
        return None
    answer: Mapping[str, Any] = document
    if answer.get("choices"):
        return None
    found = answer.get("error")
    if isinstance(found, Mapping):
        return found  # pyright: ignore[reportUnknownVariableType]
    if found:
        rest = {name: value for name, value in answer.items() if name != "error"}
        return {"type": str(found), **rest, "message": answer.get("message") or str(found)}
    is_one = answer.get("object") == "error" or (answer.get("code") and answer.get("message"))
    return answer if is_one else None


def words(document: Any, body: bytes = b"") -> str:
    """Return the server's own words, without keys, 500 characters at most."""
    said: Any = error_in(document) or document
    if isinstance(said, Mapping):
        found: Any = next((said[name] for name in ("message", "detail", "error", "msg") if said.get(name)), said)  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
        inner = said.get("metadata")  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
        if isinstance(inner, Mapping) and inner.get("raw"):  # pyright: ignore[reportUnknownMemberType]
            found = f"{found}: {inner['raw']}"  # what a gateway heard from its provider
        said = found  # pyright: ignore[reportUnknownVariableType]
    text = body.decode(errors="replace") if said is None else str(said)
    return redact(whole(text.strip()))[:ENOUGH_KEPT]


# -- when to come back ---------------------------------------------------------------------------------------------


def told(headers: Mapping[str, str]) -> float:
    """Return after how many seconds the server wants to be asked again; 0 where it doesn't say."""
    if (milliseconds := _number(headers.get("retry-after-ms"))) is not None:
        return max(0.0, milliseconds / 1000)
    if (after := headers.get("Retry-After")) and (seconds := _seconds(after)) is not None:
        return seconds
    return _until_reset(headers)


def _until_reset(headers: Mapping[str, str]) -> float:
    """Return when what is used up comes back: of several limits those of which nothing is left, or all of them."""
    resets: dict[str, float] = {}
    spent: list[float] = []
    for kind in ("-requests", "-tokens", ""):
        for name in (f"x-ratelimit-reset{kind}", f"anthropic-ratelimit{kind}-reset", f"ratelimit-reset{kind}"):
            if (value := headers.get(name)) and (seconds := _seconds(value)) is not None:
                resets[kind] = seconds
                left = _number(headers.get(name.replace("reset", "remaining")))
                spent += [seconds] if left is not None and left <= 0 else []
    return max(spent or resets.values(), default=0.0)


def _seconds(value: str) -> float | None:
    """Return the seconds that a duration ("20", "6m0s", "120ms"), or a time, is away."""
    value, now = value.strip(), datetime.now(UTC)
    if (number := _number(value)) is not None:
        if number > 1e11:
            number /= 1000  # milliseconds since 1970
        return max(0.0, number - now.timestamp() if number > 1e9 else number)
    if (found := _DURATION.fullmatch(value)) and value:
        hours, minutes, seconds, milliseconds = (float(part or 0) for part in found.groups())
        return 3600 * hours + 60 * minutes + seconds + milliseconds / 1000
    for parse in (parsedate_to_datetime, datetime.fromisoformat):
        try:
            at = parse(value)
            return max(0.0, (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() - now.timestamp())
        except (ValueError, TypeError):
            continue
    return None


def _number(value: str | None) -> float | None:
    try:
        number = float(value or "")
    except ValueError:
        return None
    return number if 0 <= number < float("inf") else None


# -- refusals ------------------------------------------------------------------------------------------------------


@dataclass
class _Refusal:
    status: int
    kind: str
    said: str
    count: int = 0


class Refusals:
    """Tells refusals of single requests from one of the whole run: the first answers are all the same refusal.

    A request that is out and asks what nobody refused yet may still be served, so it is waited for.
    """

    def __init__(self) -> None:
        self.served = False
        self._first: _Refusal | None = None
        self._differ = False
        self._out: dict[int, int] = {}
        """What requests ask that are out, and how many ask it, until something was served."""
        self._refused: set[int] = set()

    @property
    def only(self) -> str:
        """The one refusal that is all that came so far; empty where something was served, or refusals differ."""
        return "" if self.served or self._differ or self._first is None else self._first.said

    def on_sent(self, asked: int) -> None:
        """Note that a request goes out, by a hash of what it asks."""
        if not self.served:
            self._out[asked] = self._out.get(asked, 0) + 1

    def on_back(self, asked: int) -> None:
        """Note that it came back, however."""
        if self.served:
            return
        if self._out.get(asked, 0) > 1:
            self._out[asked] -= 1
        else:
            self._out.pop(asked, None)

    def on_served(self) -> None:
        """Note that the server does serve: from now on a refusal is about its request."""
        if not self.served:
            self.served = True
            self._out, self._refused = {}, set()

    def on_refused(self, status: int, said: str, asked: int) -> bool:
        """Note a refusal, of a request that is still out; return whether no request can succeed."""
        if self.served:
            return False
        if status == 405:
            return True
        self._refused.add(asked)
        found = _Refusal(status, _VARYING.sub("#", said), said)
        first = self._first = self._first or found
        self._differ = self._differ or (first.status, first.kind) != (found.status, found.kind)
        first.count += 1
        if self._differ or not self._refused.issuperset(self._out):
            return False
        alone = sum(self._out.values()) <= 1
        return first.count >= SAME or (status == 404 and alone)


def hopeless(said: str, model: str, key: str) -> BadInput:
    """Return the error that ends a run whose requests can't succeed."""
    return BadInput(f"{said.rstrip('.')}. Check engine.url, engine.model ('{model}') and {key}")
