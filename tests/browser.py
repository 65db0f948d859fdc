"""Headless Chromium, driven over a pipe: pages opened, scripts evaluated, keys pressed, and all that they say heard."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

SECONDS = 60.0
"""How long anything may take on a machine under load."""
OPTIONS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--remote-debugging-pipe", "--mute-audio"),
    *("--hide-scrollbars", "--force-color-profile=srgb"),
]


class Browser:
    """A browser; its pages share it. Use as a context manager."""

    def __init__(self, folder: Path) -> None:
        chromium = shutil.which("chromium")
        assert chromium, "this test needs Debian's chromium: run infra/debian.sh"
        to_read, self._to = os.pipe()
        self._from, to_write = os.pipe()
        program = f'exec "$0" "$@" 3<&{to_read} 4>&{to_write}'
        self._process = subprocess.Popen(
            ["bash", "-c", program, chromium, *OPTIONS, f"--user-data-dir={folder / 'profile'}", "about:blank"],
            pass_fds=(to_read, to_write),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(to_read)
        os.close(to_write)
        self._rest = b""
        self._number = 0
        self.pages: dict[str, Page] = {}

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        os.close(self._to)
        os.close(self._from)

    def send(self, method: str, parameters: dict[str, Any] | None = None, session: str | None = None) -> dict[str, Any]:
        """Send a command and return its result; events that come before are heard."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters or {}}
        os.write(self._to, json.dumps({**message, **({"sessionId": session} if session else {})}).encode() + b"\0")
        until = time.monotonic() + SECONDS
        while True:
            answer = self._next(until)
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]

    def _next(self, until: float) -> dict[str, Any]:
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._from], [], [], max(0.0, until - time.monotonic()))
            assert ready, "the browser didn't answer in time"
            data = os.read(self._from, 1 << 20)
            assert data, "the browser is gone"
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\0")
        message = json.loads(line)
        page = self.pages.get(message.get("sessionId", ""))
        if page is not None and "method" in message:
            page.hear(message["method"], message["params"])
        return message

    def open(self, url: str, width: int = 1280, height: int = 900, dark: bool = False) -> Page:
        """Open a page of its own."""
        target = self.send("Target.createTarget", {"url": "about:blank"})["targetId"]
        session = self.send("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
        page = self.pages[session] = Page(self, session, target)
        for domain in ("Page", "Runtime", "Network", "Log"):
            page.send(f"{domain}.enable")
        page.look(width, height, dark)
        page.go(url)
        return page


DRAWN = "new Promise((done) => setTimeout(done, 150))"
"""As long as nobody presses two keys in; a page behind another one draws no frames that could be waited for."""


class Page:
    """A page.

    Attributes:
        said: what it wrote on its console, errors above all.
        asked: addresses of everything that it asked for.
    """

    def __init__(self, browser: Browser, session: str, target: str) -> None:
        self.browser, self.session, self.target = browser, session, target
        self.said: list[str] = []
        self.asked: list[str] = []

    def hear(self, method: str, told: dict[str, Any]) -> None:
        """Note an event."""
        if method == "Runtime.consoleAPICalled":
            self.said.append(f"{told['type']}: {[one.get('value') for one in told['args']]}")
        elif method == "Runtime.exceptionThrown":
            self.said.append(json.dumps(told["exceptionDetails"].get("exception", told["exceptionDetails"]))[:600])
        elif method == "Log.entryAdded" and told["entry"]["level"] in ("error", "warning"):
            self.said.append(f"{told['entry']['text']} {told['entry'].get('url', '')}")
        elif method == "Network.requestWillBeSent":
            self.asked.append(told["request"]["url"])

    def send(self, method: str, parameters: dict[str, Any] | None = None) -> dict[str, Any]:
        return self.browser.send(method, parameters, self.session)

    def go(self, url: str) -> None:
        """Go to an address; one of the same page has been drawn when this returns."""
        self.send("Page.navigate", {"url": url})
        self._drawn()

    def _drawn(self) -> None:
        """Wait until the page has drawn what came of what was done last: keys follow one another no faster."""
        with contextlib.suppress(AssertionError):  # the page was left
            self.evaluate(DRAWN)

    def look(self, width: int, height: int, dark: bool = False) -> None:
        """Change the window's size and its colours."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.send("Emulation.setDeviceMetricsOverride", size)
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.send("Emulation.setEmulatedMedia", {"features": scheme})

    def evaluate(self, script: str) -> Any:
        """Return what an expression comes to; of a promise, what it keeps."""
        asked = {"expression": script, "awaitPromise": True, "returnByValue": True, "userGesture": True}
        found = self.send("Runtime.evaluate", asked)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait(self, condition: str) -> Any:
        """Wait until an expression is true, also over a change of the page; return what it comes to."""
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            looks = f"""new Promise((done) => {{
                const began = Date.now();
                const look = () => {{
                    let found = null;
                    try {{ found = ({condition}); }} catch (error) {{ found = null; }}
                    if (!found && Date.now() - began < 2000) setTimeout(look, 25);
                    else done(found instanceof Node || found);
                }};
                look();
            }})"""
            try:
                found = self.evaluate(looks)
            except AssertionError:  # the page was left while it was asked
                continue
            if found:
                return found
        shown = self.evaluate("document.body.innerText.slice(0, 1500)")
        raise AssertionError(f"never so: {condition}\nsaid: {self.said}\nshown: {shown}")

    def click(self, selector: str) -> None:
        self.wait(f"document.querySelector({json.dumps(selector)})")
        self.evaluate(f"document.querySelector({json.dumps(selector)}).click()")

    def key(self, key: str) -> None:
        """Press a key."""
        text = {"text": key} if len(key) == 1 else {"text": "\r"} if key == "Enter" else {}
        self._drawn()  # what hears keys does so once its part of the page is drawn
        self.send("Input.dispatchKeyEvent", {"type": "keyDown", "key": key, **text})
        self.send("Input.dispatchKeyEvent", {"type": "keyUp", "key": key})
        self._drawn()

    def type(self, text: str) -> None:
        """Write into what has the focus."""
        self.send("Input.insertText", {"text": text})

    def text(self) -> str:
        return self.evaluate("document.body.innerText")

    def screenshot(self, path: Path) -> None:
        form = {"format": "webp", "quality": 80} if path.suffix == ".webp" else {"format": "png"}
        path.write_bytes(base64.b64decode(self.send("Page.captureScreenshot", form)["data"]))
