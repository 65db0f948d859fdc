"""Orders to a run: one known key of the root, and answers in the run's manifest.

Whoever wants something of a run *creates* ``runs/RUN/order.json``: of several who do so at once one is first, and the
others wait until the run has taken it. The run looks at this one key, takes what is there away, does it or refuses, and
says so in its manifest, in its events and in the ledger. Nothing is listed, which an object store would charge for.

An order is done by whoever *claims* it, by creating ``runs/RUN/taken/ID``, which only one can: the run, to do it; or
whoever gave it, to withdraw it. So an order that is withdrawn is never done, and none is done twice, though two should
find it at the same moment, or it should come again.
"""

from __future__ import annotations

import contextlib
import getpass
import secrets
import socket
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import ValidationError

from cluster.records.reader import LOST_RUN, alive, seems_alive
from cluster.storage.documents import MANIFEST, read_document
from cluster.storage.root import Root
from schemas.errors import BadInput, GristmillError, RunIncomplete
from schemas.manifest import RunManifest
from schemas.orders import ODD, Action, Answered, Order

KEY = "order.json"
TAKEN = "taken"
"""The folder of claims in a run's folder."""
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
        raise BadInput(_first(error)) from error


def _first(error: ValidationError) -> str:
    """Return the first thing that is wrong."""
    first = error.errors(include_input=False, include_url=False)[0]
    place = ODD.sub("?", ".".join(map(str, first["loc"])))[:100]  # names of fields are whatever somebody wrote
    return f"{place}: {first['msg']}".removeprefix(": ")


def take(root: Root, run_id: str, ending: Callable[[], bool] = lambda: False) -> Order | str | None:
    """Take the order that waits for a run away, for the run to do.

    Args:
        ending: whether the run takes none any more: then what waits is left to whoever gave it.

    Returns:
        The order; where it is damaged, what is wrong with it; None where there is none, or it was withdrawn.
    """
    data = _waiting(root, run_id)
    if data is None or ending():
        return None
    try:
        order = Order.model_validate_json(data)
    except ValidationError as error:
        root.remove("runs", run_id, KEY)
        return f"an order that can't be read was thrown away: {_first(error)}"
    mine = _claim(root, run_id, order, "done")
    with contextlib.suppress(GristmillError, OSError):  # it is nobody else's any more, and goes at the next look
        if mine or _waiting(root, run_id) == data:
            root.remove("runs", run_id, KEY)
    return order if mine else None


def _waiting(root: Root, run_id: str) -> bytes | None:
    """Return what waits for a run; None where nothing does."""
    place = ("runs", run_id, KEY)
    try:
        return root.read_bytes(*place) if root.exists(*place) else None
    except FileNotFoundError:  # it went just now
        return None


def _claim(root: Root, run_id: str, order: Order, to_be: Literal["done", "withdrawn"]) -> bool:
    """Claim an order; False where somebody else has (which is looked at, as not every storage can create only)."""
    if root.exists("runs", run_id, TAKEN, order.id):
        return False
    return root.create(f"to be {to_be}: {secrets.token_hex(8)}".encode(), "runs", run_id, TAKEN, order.id)


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
        KeyboardInterrupt: as it came; the order is withdrawn, too.
    """
    until, pause = clock() + seconds, LOOK_SECONDS if root.is_local else REMOTE_SECONDS
    _check_at_work(root, _manifest(root, run_id), certain=True)
    place, data = ("runs", run_id, KEY), order.model_dump_json().encode()
    given = False
    try:
        given = root.create(data, *place)
        while True:
            manifest = _manifest(root, run_id)
            if (answer := _answer(manifest, order)) is not None:
                return answer
            if clock() > until or manifest.state != "running" or not seems_alive(root, run_id):
                return _give_up(root, run_id, order, given)
            sleep(pause)
            given = given or root.create(data, *place)
    except (BadInput, RunIncomplete):
        raise
    except BaseException:  # who doesn't wait for the answer doesn't want it done any more
        with contextlib.suppress(GristmillError, OSError):
            _withdraw(root, run_id, order)
        raise


def _answer(manifest: RunManifest, order: Order) -> Answered | None:
    """Return what a run answered to an order; None where it hasn't yet.

    Raises:
        BadInput: it refused.
    """
    answer = next((one for one in manifest.orders if one.id == order.id), None)
    if answer is not None and answer.result == "refused":
        raise BadInput(f"run {manifest.run_id} refuses: {answer.answer}")
    return answer


def _withdraw(root: Root, name: str, order: Order) -> bool:
    """Take an order back; False where the run has taken it before."""
    if not _claim(root, name, order, "withdrawn"):
        return False
    if _waiting(root, name) == order.model_dump_json().encode():
        root.remove("runs", name, KEY)
    return True


def _give_up(root: Root, name: str, order: Order, given: bool) -> Answered:
    """Withdraw an order, and say why it came to nothing; where the run was faster, return its answer.

    Raises:
        BadInput, RunIncomplete: as ``give``.
    """
    withdrawn = given and _withdraw(root, name, order)
    manifest = _manifest(root, name)
    if given and not withdrawn and (answer := _answer(manifest, order)) is not None:
        return answer
    _check_at_work(root, manifest)
    if not given:
        raise RunIncomplete(f"run {name} hasn't taken another order yet that came before; give it again")
    if withdrawn:
        raise RunIncomplete(f"run {name} doesn't look for orders just now; the order was withdrawn")
    raise RunIncomplete(
        f"run {name} has taken the order and hasn't answered yet; what becomes of it: gristmill ctl {name}"
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
