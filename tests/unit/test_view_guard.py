"""Who may ask the view's server, and that nobody gets anything else out of it."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

import pytest

from cluster.storage.root import Root
from jobs.view.app import build_app
from jobs.view.guard import ACTS, HEADERS, Guard
from jobs.view.serve import names_of
from jobs.view.shown import Shown
from schemas.manifest import RunManifest

TOKEN = "a-token-of-a-test"
HOSTS = names_of("127.0.0.1", 4711)
CONTROL = "what-only-the-page-is-told"
SECRET = "what lies outside the root"


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


async def ask(
    app: Guard, method: str, path: str, headers: dict[str, str], query: bytes = b"", body: bytes = b""
) -> Answer:
    """Ask an application as a server would, with any bytes."""
    sent: list[dict] = []

    async def send(message: dict) -> None:
        sent.append(message)

    async def receive() -> dict:
        return {"type": "http.request", "body": body, "more_body": False}

    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": quote(path).encode(),
        "query_string": query,
        "headers": [(name.encode("latin-1"), value.encode("latin-1", "replace")) for name, value in headers.items()],
        "scheme": "http",
        "server": ("127.0.0.1", 4711),
        "client": ("127.0.0.1", 9),
        "http_version": "1.1",
        "root_path": "",
    }
    await app(scope, receive, send)  # pyright: ignore[reportArgumentType]
    found = {name.decode(): value.decode("latin-1") for name, value in sent[0]["headers"]}
    return Answer(sent[0]["status"], found, b"".join(one.get("body", b"") for one in sent[1:]))


def get(app: Guard, path: str, headers: dict[str, str], query: bytes = b"", method: str = "GET") -> Answer:
    return asyncio.run(ask(app, method, path, headers, query))


def post(app: Guard, path: str, headers: dict[str, str], body: object) -> Answer:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return asyncio.run(ask(app, "POST", path, {"content-type": "application/json", **headers}, b"", data))


@contextmanager
def guarded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, control: str | None) -> Iterator[Guard]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "root" / "runs").mkdir(parents=True)
    (tmp_path / "secret.txt").write_text(SECRET)
    (tmp_path / "root" / "manifest.json").write_text(SECRET)
    shown = Shown(Root.at(tmp_path / "root"))
    yield Guard(build_app(shown, control), TOKEN, HOSTS, control)
    shown.close()


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Guard]:
    with guarded(tmp_path, monkeypatch, None) as found:
        yield found


@pytest.fixture
def acting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Guard, Path]]:
    """A view with --control, and its root, in which a run is said to go on."""
    with guarded(tmp_path, monkeypatch, CONTROL) as found:
        root = tmp_path / "root"
        manifest = RunManifest(run_id="r-1", pipeline="r", state="running", started=datetime.now(UTC))
        (root / "runs" / "r-1").mkdir()
        (root / "runs" / "r-1" / "manifest.json").write_text(manifest.model_dump_json())
        yield found, root


OWN = {"host": "127.0.0.1:4711"}


def known(app: Guard) -> dict[str, str]:
    return {**OWN, "cookie": f"{app.cookie}={TOKEN}"}


def test_the_token_becomes_a_cookie_that_only_this_page_sends(app: Guard) -> None:
    welcome = get(app, "/", OWN, f"token={TOKEN}&kept=1".encode())
    assert welcome.status == 200 and b"<script src=" in welcome.body
    cookie = welcome.headers["set-cookie"].lower()
    assert cookie.startswith(f"{app.cookie}={TOKEN}".lower())
    assert "httponly" in cookie and "samesite=strict" in cookie
    assert "set-cookie" not in get(app, "/", known(app)).headers
    assert get(app, "/", known(app)).status == 200
    assert get(app, "/api/about", known(app)).status == 200


@pytest.mark.parametrize(
    "query", [b"", b"token=", b"token=wrong", b"token=a-token&token=a-token-of-a-test", b"token=\xff"]
)
def test_without_the_token_nothing_is_answered(app: Guard, query: bytes) -> None:
    assert get(app, "/", OWN, query).status == 401
    for cookie in ("", f"{app.cookie}=wrong", f"other={TOKEN}", "\x00;=;", f"{app.cookie}={TOKEN}x"):
        for path in ("/", "/api/about", "/api/runs", "/static/main.js", "/nowhere"):
            assert get(app, path, {**OWN, "cookie": cookie}, query).status == 401


@pytest.mark.parametrize(
    "host", ["", "evil.example", "evil.example:4711", "127.0.0.1", "127.0.0.1:80", "127.0.0.1:4711.evil.example"]
)
def test_another_name_is_refused_though_the_cookie_is_right(app: Guard, host: str) -> None:
    assert get(app, "/api/about", {**known(app), "host": host}).status == 421


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "https://127.0.0.1:4711x", "http://127.0.0.1:80", ""]
)
def test_another_origin_is_refused(app: Guard, origin: str) -> None:
    for method in ("GET", "POST"):
        assert get(app, "/api/about", {**known(app), "origin": origin}, method=method).status == 403


def test_two_origins_are_none_of_ours(app: Guard) -> None:
    for other in (b"http://evil.example", b"http://127.0.0.1:4711"):
        headers = [(b"host", b"127.0.0.1:4711"), (b"origin", b"http://127.0.0.1:4711"), (b"origin", other)]
        judged, _ = app._judged({"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": headers})
        assert judged is not None and judged.status_code == 403


def test_it_only_reads(app: Guard) -> None:
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS", "CONNECT", "ODD"):
        assert get(app, "/api/about", {**known(app), "origin": "http://127.0.0.1:4711"}, method=method).status == 405


def own_page(app: Guard) -> dict[str, str]:
    return {**known(app), "origin": "http://127.0.0.1:4711", ACTS: CONTROL}


ROUTES = ("/api/run/r-1/order", "/api/run/r-1/annotate")
PAUSE = {"action": "pause"}


def test_without_control_there_is_nothing_to_do(app: Guard) -> None:
    for path in ROUTES:
        assert post(app, path, own_page(app), PAUSE).status == 405
        assert get(app, path, known(app)).status == 404
    for path in ("/api/run/r-1/annotation", "/api/run/r-1/next"):
        assert get(app, path, known(app)).status == 404
    assert json.loads(get(app, "/api/about", known(app)).body)["control"] is None


def files_of(root: Path) -> set[str]:
    return {str(path) for path in root.rglob("*")}


def test_only_the_page_itself_may_do_something(acting: tuple[Guard, Path]) -> None:
    app, root = acting
    there, page = files_of(root), own_page(app)
    assert json.loads(get(app, "/api/about", known(app)).body)["control"] == CONTROL
    for path in ROUTES:
        for name, other, status in (
            ("origin", "http://evil.example", 403), ("origin", "null", 403), ("origin", None, 403),
            (ACTS, "wrong", 403), (ACTS, None, 403), (ACTS, "", 403),
            ("cookie", "", 401), ("cookie", f"{app.cookie}=wrong", 401),
            ("host", "evil.example:4711", 421), ("content-type", "text/plain", 415),
            ("content-type", "application/x-www-form-urlencoded", 415),
        ):  # fmt: skip
            headers = {key: value for key, value in {**page, name: other}.items() if value is not None}
            assert post(app, path, headers, PAUSE).status == status, (path, name, other)
        for method in ("PUT", "DELETE", "PATCH", "OPTIONS", "GET"):
            assert asyncio.run(ask(app, method, path, page)).status == 405
    for odd in (
        *(b"", b"{", b"[]", b"null", b"\xff", b"[" * 30_000, {}, {"action": "explode"}),
        *({"action": "pause", "by": "root"}, {"action": "pause", "reason": "x" * 1_001}),
        {"action": "set", "values": {"x": {"y": 1}}},
    ):
        assert post(app, ROUTES[0], page, odd).status in (400, 422), odd
        assert post(app, ROUTES[1], page, odd).status in (400, 422), odd
    assert post(app, ROUTES[0], page, b" " * 70_000).status == 413
    refused = post(app, ROUTES[0], page, PAUSE)  # nobody is at work on it
    assert refused.status == 409 and b"nobody is at work" in refused.body
    said = {"problem_key": "k", "sample_index": 0, "is_correct": True}
    assert post(app, ROUTES[1], page, said).status == 409
    assert post(app, "/api/run/..%2F..%2Fr-1/order", page, PAUSE).status == 404
    assert post(app, "/api/run/r-2/order", page, PAUSE).status == 404
    assert files_of(root) == there


def test_odd_posts_do_nothing(acting: tuple[Guard, Path]) -> None:
    """Random bodies, paths and headers at what can be done: refused, and nothing is written anywhere."""
    app, root = acting
    there, page, draw = files_of(root.parent), own_page(app), random.Random(1)
    odd_values = ["../secret.txt", "", None, True, -1, 1e308, "x" * 200, [], {}, ["pause"], "\x00", "\ud800", 2**70]
    names = ["action", "values", "problem", "reason", "problem_key", "sample_index", "is_correct", "note", "id", "by"]

    async def many() -> None:
        for _ in range(10_000):
            body: object = {
                draw.choice(names): draw.choice([*odd_values, "pause", "set"]) for _ in range(draw.randrange(5))
            }
            data = json.dumps(body).encode()
            if draw.random() < 0.3:
                data = bytes(draw.randrange(256) for _ in range(draw.randrange(60)))
            run = draw.choice(["r-1", "r-2", *TRAVERSALS])
            path = (
                f"/api/run/{quote(run)}/{draw.choice(['order', 'annotate', 'next', 'annotation', 'live', 'order/x'])}"
            )
            headers = {"content-type": "application/json", **(page if draw.random() < 0.7 else known(app))}
            if draw.random() < 0.2:
                headers[draw.choice(["origin", ACTS, "cookie", "host", "content-type"])] = draw.choice(
                    ["", "null", "x"]
                )
            answer = await ask(app, "POST", path, headers, b"", data)
            assert 400 <= answer.status < 500, (path, data, answer.status, answer.body)
            assert SECRET.encode() not in answer.body

    asyncio.run(many())
    assert files_of(root.parent) == there


def test_every_answer_has_the_policy(app: Guard) -> None:
    for path, headers in (("/", known(app)), ("/api/about", known(app)), ("/", OWN), ("/x", {}), ("/x", known(app))):
        answer = get(app, path, headers)
        assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS
    policy = HEADERS["content-security-policy"]
    assert "unsafe" not in policy and "default-src 'none'" in policy and "http" not in policy


TRAVERSALS = (
    *("../secret.txt", "..%2fsecret.txt", "%2e%2e/secret.txt", "....//secret.txt", "/etc/passwd", "..\\secret.txt"),
    *("\x00", ".", "..", "runs/../manifest.json", "a" * 4000, "static/../../../secret.txt", "%00", "é\u2028"),
)


def test_ten_thousand_odd_requests_get_nothing(app: Guard) -> None:
    """Random paths, queries and headers, most of them with the right cookie: none fails or reads what isn't shown."""
    draw = random.Random(0)
    heads = ("/static/", "/api/run/", "/api/run/{}/", "/api/", "/", "//", "/static/../", "/api/compare/")
    tails = ("", "/samples", "/problems", "/live", "/sample/1", "/sample/99999999999999999999", "/search", "/names")
    letters = "abcXYZ019-_.~%/\\\x00\x7f\xe9\u2603'\"<>&=?#;: "

    def odd() -> str:
        kind = draw.random()
        if kind < 0.4:
            return draw.choice(TRAVERSALS)
        return "".join(draw.choice(letters) for _ in range(draw.randrange(24)))

    async def many() -> None:
        statuses: dict[int, int] = {}
        for _ in range(10_000):
            path = draw.choice(heads).replace("{}", quote(odd())) + odd() + draw.choice(tails)
            path = path if path.startswith("/") else f"/{path}"
            headers = known(app) if draw.random() < 0.8 else {"host": draw.choice(["", odd(), "127.0.0.1:4711"])}
            if draw.random() < 0.1:
                headers = {**headers, "origin": odd(), "cookie": odd() + headers.get("cookie", "")}
            query = "&".join(
                f"{draw.choice(['runs', 'key', 'limit', 'token', 'sort', odd()])}={odd()}" for _ in range(2)
            )
            answer = await ask(
                app, draw.choice(["GET"] * 9 + ["POST"]), path, headers, query.encode("utf-8", "replace")
            )
            statuses[answer.status] = statuses.get(answer.status, 0) + 1
            assert answer.status in (200, 307, 400, 401, 403, 404, 405, 421), (path, query, answer.status)
            assert SECRET.encode() not in answer.body, path
            if answer.status == 200:
                assert path in ("/", "/api/about", "/api/runs"), path
        assert statuses[404] > 1_000 and statuses[401] > 100

    asyncio.run(many())
