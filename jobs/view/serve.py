"""Opening the port, the browser, and in the end closing both."""

from __future__ import annotations

import contextlib
import html
import socket
import tempfile
import threading
import webbrowser
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import uvicorn

from cluster.storage.root import Root
from jobs.view.app import build_app
from jobs.view.guard import Guard, new_token
from jobs.view.index import cache_folder
from jobs.view.shown import Shown
from schemas.errors import BadInput

LOOPBACK = ("127.0.0.1", "localhost")
EVERY = ("", "0.0.0.0", "::", "*")  # noqa: S104 : refused


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens; ``port`` 0 takes any.

    Raises:
        BadInput: the port is taken, or the address isn't this machine's, or isn't one.
    """
    if host in EVERY:
        raise BadInput(f"'{host}' is no name that a browser can ask for: give --host the name by which it is reached")
    try:
        made = socket.create_server((host, port), backlog=64)
        # asyncio does so for sockets that say they are of TCP. These say 0, and each answer would wait 40 ms until the
        # other side acknowledged its headers.
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return made
    except (OSError, OverflowError) as error:
        raise BadInput(f"the view can't listen on {host}, port {port}: {error}. Choose another with --port") from error


def names_of(host: str, port: int) -> frozenset[str]:
    """Return what a Host header may say."""
    names = LOOPBACK if host in LOOPBACK else (host,)
    return frozenset(f"{name.lower()}:{port}" for name in names)


class _Uvicorn(uvicorn.Server):
    """Tells of a signal at once, so that streams of news end by themselves and needn't be cut off, which is logged."""

    on_exit: Callable[[], None]

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        self.on_exit()


class Server:
    """A view's server: its address carries the token.

    Args:
        control: whether the page may tell runs something, and annotate.
    """

    def __init__(
        self, shown: Shown, host: str = "127.0.0.1", port: int = 0, token: str | None = None, control: bool = False
    ) -> None:
        self.shown = shown
        self.socket = listen(host, port)
        port = self.socket.getsockname()[1]
        secret = token or new_token()
        self.address = f"http://{host}:{port}/?token={secret}"
        acts = new_token() if control else None
        app = Guard(build_app(shown, acts), secret, names_of(host, port), acts)
        config = uvicorn.Config(
            app, log_config=None, access_log=False, lifespan="off", ws="none", server_header=False,
            timeout_graceful_shutdown=2, timeout_keep_alive=30, proxy_headers=False,
        )  # fmt: skip
        self._server = _Uvicorn(config)
        self._server.on_exit = self.stop

    def run(self) -> None:
        """Serve until the process is told to end."""
        try:
            self._server.run([self.socket])
        finally:
            self.close()

    def close(self) -> None:
        self.shown.close()
        self.socket.close()

    def stop(self) -> None:
        """Tell it to end; called from any thread."""
        self.shown.closed = True
        self._server.should_exit = True


@contextlib.contextmanager
def beside(root: Root, say: Callable[[str], None]) -> Iterator[Server]:
    """Serve in a thread of this process as long as the context lasts."""
    server = Server(Shown(root))
    thread = threading.Thread(target=server.run, name="view server", daemon=True)
    thread.start()
    say(f"view: {server.address}")
    try:
        yield server
    finally:
        server.stop()
        thread.join(timeout=10)


def serve(shown: Shown, host: str, port: int, browser: bool, say: Callable[[str], None], control: bool = False) -> None:
    """Serve a root's runs, or a table, until interrupted."""
    server = Server(shown, host, port, control=control)
    say(f"view: {server.address}")
    with contextlib.ExitStack() as stack:
        if browser:
            doorway = stack.enter_context(_doorway(server.address))
            threading.Thread(target=webbrowser.open, args=[doorway.as_uri()], daemon=True).start()
        stack.enter_context(contextlib.suppress(KeyboardInterrupt))
        server.run()


@contextlib.contextmanager
def _doorway(address: str) -> Iterator[Path]:
    """Write a file that leads to an address, for this user alone: a browser's arguments are there for all to see."""
    with tempfile.NamedTemporaryFile("w", dir=cache_folder(), prefix="open-", suffix=".html") as file:
        file.write(f'<!doctype html><meta http-equiv="refresh" content="0; url={html.escape(address)}">')
        file.flush()
        yield Path(file.name)
