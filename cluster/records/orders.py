"""Orders to a run: one known key of the root, and answers in the run's manifest.

Whoever wants something of a run *creates* ``runs/RUN/order.json``: of several who do so at once one is first, and the
others wait until the run has taken it. The run looks at this one key, takes what is there away, does it or refuses, and
says so in its manifest, in its events and in the ledger. Nothing is listed, which an object store would charge for.
"""

from __future__ import annotations

import getpass
import secrets
import socket
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from cluster.records.reader import LOST_RUN, alive, seems_alive
from cluster.storage.documents import MANIFEST, read_document
from cluster.storage.root import Root
from schemas.errors import BadInput, RunIncomplete
from schemas.manifest import RunManifest
from schemas.orders import Action, Answered, Order

KEY = "order.json"
LOOK_SECONDS = 0.3
REMOTE_SECONDS = 1.0
ANSWER_SECONDS = 60.0
"""How long a run may take to answer: it looks every second or two, and may be waiting for its storage."""


def author() -> str:
    """Return who gives orders from here: this process's user, at this machine."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a container's number without a name
        user = "somebody"
    return f"{user}@{socket.gethostname()}"


def new_order(
    action: Action, by: str = "", reason: str = "", values: dict[str, Any] | None = None, problem: str = ""
) -> Order:
    """Return an order of now.

    Raises:
        BadInput: an author or a reason that is too long.
    """
    try:
        return Order(
            id=secrets.token_hex(8), action=action, by=by or author(), reason=reason, time=datetime.now(UTC),
            values=values or {}, problem=problem,
        )  # fmt: skip
    except ValidationError as error:
        first = error.errors()[0]
        raise BadInput(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def take(root: Root, run_id: str) -> Order | str | None:
    """Take the order that waits for a run away.

    Returns:
        The order; where it is damaged, what is wrong with it; None where there is none.
    """
    place = ("runs", run_id, KEY)
    if not root.exists(*place):
        return None
    try:
        data = root.read_bytes(*place)
    except FileNotFoundError:  # withdrawn just now
        return None
    root.remove(*place)
    try:
        return Order.model_validate_json(data)
    except (ValidationError, ValueError) as error:
        return f"an order that can't be read was thrown away: {str(error).splitlines()[0]}"


def give(
    root: Root,
    run_id: str,
    order: Order,
    seconds: float = ANSWER_SECONDS,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Answered:
    """Give a run an order, and wait for its answer.

    Raises:
        BadInput: the run isn't at work, or it refuses.
        RunIncomplete: it doesn't answer in time; the order is withdrawn, unless the run has taken it.
    """
    until, pause = clock() + seconds, LOOK_SECONDS if root.is_local else REMOTE_SECONDS
    _check_at_work(root, _manifest(root, run_id), certain=True)
    place, data = ("runs", run_id, KEY), order.model_dump_json().encode()
    given = root.create(data, *place)
    while True:
        manifest = _manifest(root, run_id)
        answer = next((one for one in manifest.orders if one.id == order.id), None)
        if answer is not None and answer.result == "refused":
            raise BadInput(f"run {run_id} refuses: {answer.answer}")
        if answer is not None:
            return answer
        if clock() > until or manifest.state != "running" or not seems_alive(root, run_id):
            return _give_up(root, manifest, order, given)
        sleep(pause)
        given = given or root.create(data, *place)


def _give_up(root: Root, manifest: RunManifest, order: Order, given: bool) -> Answered:
    """Withdraw an order; say why it came to nothing.

    Raises:
        BadInput, RunIncomplete: as ``give``.
    """
    place = ("runs", manifest.run_id, KEY)
    waits = given and root.exists(*place)
    if waits and (still := take(root, manifest.run_id)) is not None and not isinstance(still, str):
        waits = still.id == order.id
        if not waits:  # somebody else's, who came after ours was taken
            root.create(still.model_dump_json().encode(), *place)
    _check_at_work(root, manifest)
    if not given:
        raise RunIncomplete(f"run {manifest.run_id} hasn't taken another order yet that came before; give it again")
    if waits:
        raise RunIncomplete(f"run {manifest.run_id} doesn't look for orders just now; the order was withdrawn")
    raise RunIncomplete(
        f"run {manifest.run_id} has taken the order and hasn't answered yet; what becomes of it: gristmill ctl "
        f"{manifest.run_id}"
    )


def _manifest(root: Root, run_id: str) -> RunManifest:
    found = read_document(root, RunManifest, LOST_RUN, "runs", run_id, MANIFEST)
    if found is None:
        raise BadInput(f"the manifest of run {run_id} is damaged")
    return found


def _check_at_work(root: Root, manifest: RunManifest, certain: bool = False) -> None:
    """Refuse a run that nobody is at work on.

    Args:
        certain: look for a while where that isn't clear.

    Raises:
        BadInput: it has ended, or was killed.
    """
    name = manifest.run_id
    if manifest.state != "running":
        ended = f", at {manifest.finished:%Y-%m-%d %H:%M} UTC" if manifest.finished else ""
        raise BadInput(f"run {name} has ended ({manifest.state}{ended}), so there is nothing to tell it")
    if not (alive(root, name) if certain else seems_alive(root, name)):
        again = f". The same command goes on with it:\n  {manifest.command}" if manifest.command else ""
        stays = ", and stays paused until it is told to resume" if manifest.paused else ""
        raise BadInput(f"nobody is at work on run {name} any more (was it killed?){stays}{again}")
