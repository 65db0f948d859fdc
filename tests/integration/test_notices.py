"""Telling how a night went: a real SMTP server, a webhook's receiver, a command, all on loopback."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from email import message_from_bytes
from email.message import Message
from email.policy import default
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword

from jobs.nightly.nightly import Nightly
from jobs.nightly.notify import notify
from schemas.errors import EngineFailed
from schemas.schedule import Command, Email, Webhook
from tests.integration.test_nightly import FakeClock, execute, job_file
from tests.support import write_problems

DOCUMENT: dict[str, Any] = {
    "job": "sums", "day": "2026-11-26", "state": "failed", "error": "the server is down", "again": None,
    "problems": 3, "run_id": None,
}  # fmt: skip


class Hook:
    """A webhook's receiver."""

    def __init__(self) -> None:
        self.received: list[dict[str, Any]] = []
        self.status = 200
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                hook.received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(hook.status)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hooks/very-secret-path"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def hook() -> Iterator[Hook]:
    made = Hook()
    yield made
    made.server.shutdown()


class Mailbox:
    """Takes mail from whoever logs in."""

    def __init__(self) -> None:
        self.mails: list[Message] = []
        self.logins: list[tuple[bytes, bytes]] = []

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self.mails.append(message_from_bytes(envelope.content, policy=default))
        return "250 taken"

    def authenticate(self, server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
        assert isinstance(data, LoginPassword)
        self.logins.append((data.login, data.password))
        return AuthResult(success=data.password == b"mail-secret")


@pytest.fixture
def mailbox() -> Iterator[tuple[Mailbox, int]]:
    made = Mailbox()
    controller = Controller(
        made, hostname="127.0.0.1", port=0, authenticator=made.authenticate, auth_required=True, auth_require_tls=False
    )
    controller.port = free_port()
    controller.start()
    yield made, controller.port
    controller.stop()


def free_port() -> int:
    import socket

    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def test_all_are_told(
    hook: Hook, mailbox: tuple[Mailbox, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    box, port = mailbox
    monkeypatch.setenv("HOOK", hook.url)
    monkeypatch.setenv("MAIL_PW", "mail-secret")
    said: list[str] = []
    mail = {"host": "127.0.0.1", "port": port, "sender": "mill@example.org", "to": ("me@example.org",)}
    notices = [
        Webhook(url_env="HOOK"),
        Command(command=("sh", "-c", f"cat > {tmp_path}/told")),
        Email.model_validate({**mail, "tls": "none", "user": "mill", "password_env": "MAIL_PW"}),
        Webhook(url=hook.url, events=("done",)),
    ]
    notify(notices, "failed", DOCUMENT, said.append)
    assert said == []
    [received] = hook.received
    assert received["event"] == "failed"
    assert received["text"] == "sums, night of 2026-11-26: failed: the server is down; it isn't tried again"
    assert json.loads((tmp_path / "told").read_text()) == received
    [letter] = box.mails
    assert (letter["From"], letter["To"]) == ("mill@example.org", "me@example.org")
    assert letter["Subject"].strip() == received["text"]
    assert received["text"] in str(letter.get_payload())
    assert box.logins == [(b"mill", b"mail-secret")]


def test_what_can_not_be_told_is_said_and_no_secret_with_it(hook: Hook, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK", hook.url)
    monkeypatch.delenv("NOT_THERE", raising=False)
    hook.status = 500
    said: list[str] = []
    notices = [
        Webhook(url_env="HOOK"),
        Webhook(url_env="NOT_THERE"),
        Command(command=("no-such-program",)),
        Command(command=("false",)),
        Email(host="127.0.0.1", port=1, sender="a@b", to=("c@d",), tls="none"),
    ]
    notify(notices, "failed", {**DOCUMENT, "error": f"it is at {hook.url}"}, said.append)
    assert len(said) == 5
    assert "answered 500" in said[0]
    assert "NOT_THERE isn't set" in said[1]
    assert "very-secret-path" not in " ".join(said)
    assert len(hook.received) == 1


def test_nights_tell(hook: Hook, tmp_path: Path) -> None:
    write_problems(tmp_path / "p.jsonl", 2)
    events = ["failed", "done", "missed", "budget"]
    file = job_file(tmp_path, notify=[{"kind": "webhook", "url": hook.url, "events": events}])
    clock = FakeClock(datetime(2026, 11, 20, 2, tzinfo=UTC))
    failures = [EngineFailed("the server is down")]

    def run(job: Any) -> Any:
        if failures:
            raise failures.pop()
        return execute(job)

    Nightly(lambda: file, "", run, clock, print).run()
    clock.time = datetime(2026, 11, 23, 2, tzinfo=UTC)
    Nightly(lambda: file, "", run, clock, print).run()
    assert [(one["event"], one["day"][-2:], one["state"]) for one in hook.received] == [
        ("failed", "20", "failed"),
        ("done", "20", "done"),
        ("missed", "21", "missed"),
        ("missed", "22", "missed"),
        ("done", "23", "nothing new"),
    ]
    assert hook.received[0]["again"].startswith("2026-11-20T02:30")
