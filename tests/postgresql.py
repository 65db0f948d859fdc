"""A real PostgreSQL server of one's own, on loopback, in a scratch folder."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

USER = "postgres"
PASSWORD = "only-for-tests"


def programs() -> Path:
    """Return the folder of the server's programs; Debian doesn't put it on the PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    direct = shutil.which("initdb")
    if not found and direct is None:
        raise RuntimeError("PostgreSQL isn't installed: infra/debian.sh does it")
    return found[-1].parent if found else Path(str(direct)).parent


@contextmanager
def postgresql(folder: Path) -> Iterator[str]:
    """Run a server meanwhile; gives the SQLAlchemy URL of its database. It refuses to run as root."""
    tools = programs()
    owner = pwd.getpwnam(USER) if os.getuid() == 0 else None
    become = {} if owner is None else {"user": owner.pw_uid, "group": owner.pw_gid}
    data, secret = folder / "data", folder / "password"
    folder.mkdir(parents=True, exist_ok=True)
    secret.write_text(PASSWORD)
    if owner is not None:
        for path in (folder, secret):
            os.chown(path, owner.pw_uid, owner.pw_gid)
        for path in folder.parents:
            if path.stat().st_uid == 0 and path != Path("/"):
                path.chmod(path.stat().st_mode | 0o111)  # the server must be able to walk here

    def call(name: str, *arguments: str) -> None:
        with (folder / f"{name}.log").open("ab") as log:
            done = subprocess.run(
                [str(tools / name), *arguments],
                cwd=folder,
                stdout=log,
                stderr=log,
                timeout=900,
                **become,  # pyright: ignore
            )
        if done.returncode:
            raise RuntimeError(f"{name} failed: {(folder / f'{name}.log').read_text()[-2000:]}")

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    call("initdb", "-D", str(data), "-U", USER, "--auth=scram-sha-256", f"--pwfile={secret}", "-N")
    options = f"-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories={folder} -c fsync=off"
    call("pg_ctl", "-D", str(data), "-o", options, "-l", str(folder / "server.log"), "-w", "start")
    try:
        yield f"postgresql+psycopg://{USER}:{PASSWORD}@127.0.0.1:{port}/postgres"
    finally:
        call("pg_ctl", "-D", str(data), "-m", "fast", "-w", "stop")
