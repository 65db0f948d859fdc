"""Saying how a night went: to a webhook, to a command's standard input, by e-mail. No telling stops a night."""

from __future__ import annotations

import json
import os
import smtplib
import ssl
import subprocess
from collections.abc import Callable, Sequence
from email.message import EmailMessage
from typing import Any

import httpx

from schemas.errors import BadInput
from schemas.redaction import protect, redact, redacted
from schemas.schedule import AnyNotice, Command, Email, Event, Webhook

SECONDS = 20.0


def notify(notices: Sequence[AnyNotice], event: Event, document: dict[str, Any], say: Callable[[str], None]) -> None:
    """Tell all who want to hear of an event; what can't be told is said, and the others are told.

    Args:
        document: JSON-able; it gets ``event``, and ``text`` for people.
    """
    text = redact(_sentence(event, document))
    payload = redacted(json.loads(json.dumps({"event": event, "text": text, **document}, default=str)))
    for notice in notices:
        if event not in notice.events:
            continue
        try:
            if isinstance(notice, Webhook):
                _post(notice, payload)
            elif isinstance(notice, Command):
                _run(notice, payload)
            else:
                _mail(notice, text, payload)
        except Exception as error:  # whatever is wrong with it, the night isn't
            say(redact(f"the {notice.kind} couldn't be told that the night is '{event}': {error or repr(error)}"))


def _sentence(event: Event, document: dict[str, Any]) -> str:
    night = f"{document['job']}, night of {document['day']}"
    if event == "done":
        return f"{night}: {document['state']}, {document['problems']:,} problems ({document['run_id']})"
    if event == "missed":
        return f"{night}: missed, and by its rule not caught up"
    if event == "budget":
        return f"{night}: not run: {document['error']}"
    again = f"; it is tried again at {document['again']}" if document.get("again") else "; it isn't tried again"
    return f"{night}: {document['state']}: {document['error']}{again}"


def _secret(name: str, where: str) -> str:
    value = os.environ.get(name)
    if not value:
        raise BadInput(f"{where}: the environment variable {name} isn't set")
    protect(value)
    return value


def _post(notice: Webhook, payload: dict[str, Any]) -> None:
    url = notice.url or _secret(notice.url_env or "", "notify.url_env")
    answer = httpx.post(url, json=payload, timeout=SECONDS)
    if answer.is_error:
        raise OSError(f"it answered {answer.status_code}")


def _run(notice: Command, payload: dict[str, Any]) -> None:
    text = json.dumps(payload)
    done = subprocess.run(notice.command, input=text, text=True, capture_output=True, timeout=SECONDS)
    if done.returncode:
        raise OSError(f"'{notice.command[0]}' ended with {done.returncode}: {done.stderr.strip()[:200]}")


def _mail(notice: Email, text: str, payload: dict[str, Any]) -> None:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = notice.sender, ", ".join(notice.to), text.splitlines()[0][:200]
    message.set_content(f"{text}\n\n{json.dumps(payload, indent=2)}\n")
    secure = ssl.create_default_context()
    if notice.tls == "tls":
        server: smtplib.SMTP = smtplib.SMTP_SSL(notice.host, notice.port, timeout=SECONDS, context=secure)
    else:
        server = smtplib.SMTP(notice.host, notice.port, timeout=SECONDS)
    with server:
        if notice.tls == "starttls":
            server.starttls(context=secure)
        if notice.user is not None:
            server.login(notice.user, _secret(notice.password_env or "", "notify.password_env"))
        server.send_message(message)
