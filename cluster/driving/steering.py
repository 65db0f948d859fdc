"""Steering: a run does what people tell it while it goes on, or refuses; in both cases it says so.

An order is heard outside the loop (``cluster.driving.ear``) and done in it, between two turns, so nothing here needs a
lock. What was answered stands in the manifest, in the events and in the ledger, with who wanted it and why. What holds
until it is taken back (a pause, changed settings) is kept for the run that goes on with this one's work, should this
one be killed (``cluster.records.standing``).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Literal

from cluster.driving.changing import Changing
from cluster.driving.control import Control
from cluster.driving.ear import Ear
from cluster.driving.left_out import LeftOut
from cluster.driving.requeue import Requeue
from cluster.driving.watch import Watch
from cluster.pools.replicas import Replicas
from cluster.records.recorder import RunRecorder
from cluster.records.standing import Changed, Standing, StandingOrders
from cluster.runners.interruption import Interruption
from cluster.spending.history import append_orders
from cluster.stages.sample_state import SampleState
from cluster.stages.states import StageState
from cluster.storage.root import Root
from schemas.errors import BadInput, GristmillError
from schemas.orders import Answered, Order


class Steering:
    """The orders of one run. The driver's loop calls it."""

    def __init__(
        self,
        root: Root,
        control: Control,
        replicas: Replicas,
        left_out: LeftOut,
        recorder: RunRecorder,
        watch: Watch,
        interruption: Interruption,
    ) -> None:
        self.root = root
        self.manifest = recorder.manifest
        self._recorder = recorder
        self._watch = watch
        self._interruption = interruption
        self._changing = Changing(control, replicas)
        self._requeue = Requeue(root, control, left_out, recorder, watch.say)
        self._ear = Ear(root, self.manifest.run_id)
        self._states: Mapping[str, StageState] = {}
        self._standing = Standing()
        self._file: StandingOrders | None = None
        self._ending = False

    def begin(self, states: Mapping[str, StageState]) -> None:
        """Take over what stands of orders to the run that this one goes on with; nothing is opened yet.

        Args:
            states: of all stages, kept by the driver.
        """
        self._states = states
        self._changing.know(states.values())
        sampled = [state for state in states.values() if isinstance(state, SampleState)]
        folders = [state.plan.folder for state in sampled or states.values()]
        self._file = StandingOrders(self.root, self.manifest, folders)
        self._standing = found = self._file.read()
        for key, changed in list(found.settings.items()):
            order = changed.order
            where = f"{key}={changed.value}, which was set for run {found.run_id},"
            try:
                if self._changing.now(key) != changed.before:
                    raise BadInput("this command says something else")
                self._changing.change({key: changed.value}, _by(order))
                self._tell(order, "applied", f"{key} holds on, as for run {found.run_id}")
            except BadInput as error:
                del found.settings[key]
                self._watch.say(f"{where} doesn't hold any more: {error}")
        if found.paused is not None:
            self._pause(True)
            why = f"this run goes on with run {found.run_id}, which was paused, and stays so until it is told to resume"
            self.manifest.paused = self._tell(found.paused, "applied", why)

    def open(self) -> None:
        """From now on listen: the account is open, the policies have begun, and the manifest is there."""
        self._changing.begun = True
        self._keep()
        self._book()
        self._ear.start()

    @property
    def paused(self) -> bool:
        """Whether nothing new is to be begun, though there is something to do."""
        return self.manifest.paused is not None and not all(state.complete for state in self._states.values())

    def look(self) -> None:
        """Do what was heard."""
        for heard in self._ear.heard():
            self._answer(heard)

    def close(self, done: bool) -> None:
        """Listen no more; what was heard too late is refused.

        Args:
            done: whether there is nothing left that anybody could go on with.
        """
        self._ear.stop()
        self._ending = True
        self.look()
        if done:
            self.manifest.paused = None
            self._forget()

    def conclude(self) -> None:
        """Refuse what a look that took long has heard after ``close``; the last manifest is written by now."""
        self._ear.stop()
        self.look()

    # -- one order -------------------------------------------------------------------------------------------------

    def _answer(self, heard: Order | str) -> None:
        if isinstance(heard, str):
            self._watch.say(heard)
            return
        try:
            if self._ending or self._interruption.requested:
                raise BadInput("the run is ending")
            said = self._do(heard)
        except BadInput as error:
            self._tell(heard, "refused", str(error))
            self._show()
            return
        answered = self._tell(heard, "applied", said)
        if heard.action == "pause":
            self.manifest.paused = self._standing.paused = answered
        for changed in self._standing.settings.values():
            if changed.order.id == heard.id:
                changed.order = answered
        if heard.action in ("pause", "resume", "set"):
            self._keep()
        self._show()

    def _show(self) -> None:
        """Let everybody see the answer."""
        self._recorder.show()
        self._book()

    def _book(self) -> None:
        """Write down in the ledger what isn't there yet."""
        try:
            append_orders(self.root, self.manifest)
        except GristmillError as error:
            self._watch.say(f"an order couldn't be written into the ledger yet: {error}")

    def _do(self, order: Order) -> str:
        """Do what is ordered; return what was done.

        Raises:
            BadInput: it can't be.
        """
        if order.action == "pause":
            if self.manifest.paused is not None:
                raise BadInput(f"it is paused already, by {self.manifest.paused.whose}")
            self._pause(True)
            return "nothing new is begun; what is under way is finished, and the engines stay loaded"
        if order.action == "resume":
            if self.manifest.paused is None:
                raise BadInput("it isn't paused")
            self._pause(False)
            self.manifest.paused = self._standing.paused = None
            return "it goes on"
        if order.action == "cancel":
            self._interruption.requested = f"cancelled by {order.whose}"
            self.manifest.error = self._interruption.requested
            self.manifest.paused = None
            self._forget()
            return "it ends in good order; what was committed stays, and the same command goes on"
        if order.action == "requeue":
            return self._requeue.order(self._states, order.problem)
        changed = self._changing.change(order.values, _by(order))
        for key, (before, value) in changed.items():
            first = self._standing.settings[key].before if key in self._standing.settings else before
            noted = _answered(order, "applied", "")
            self._standing.settings[key] = Changed(value=value, before=first, order=noted)
        return "; ".join(f"{key} {_short(before)} -> {_short(value)}" for key, (before, value) in changed.items())

    def _pause(self, paused: bool) -> None:
        for state in self._states.values():
            state.paused = paused

    def _forget(self) -> None:
        """Let nothing stand any more."""
        try:
            if self._file is not None:
                self._file.forget()
        except GristmillError as error:
            self._watch.say(f"what was ordered of this run may hold for the next one: {error}")

    def _keep(self) -> None:
        """Keep what stands for whoever goes on; no file where nothing does."""
        self._standing.run_id = self.manifest.run_id
        assert self._file is not None
        try:
            self._file.write(self._standing)
        except GristmillError as error:
            self._watch.say(
                f"what was ordered holds for this run alone, since it couldn't be kept for later ones: {error}"
            )

    # -- what is said ----------------------------------------------------------------------------------------------

    def _tell(self, order: Order, result: Literal["applied", "refused"], answer: str) -> Answered:
        answered = _answered(order, result, answer)
        self.manifest.orders.append(answered)
        self._watch.on_order(answered)
        return answered


def _answered(order: Order, result: Literal["applied", "refused"], answer: str) -> Answered:
    told = order.model_dump(exclude={"result", "answer", "answered"})
    return Answered(**told, result=result, answer=answer, answered=datetime.now(UTC))


def _by(order: Order) -> dict[str, str]:
    return {"by": order.by, "reason": order.reason, "time": f"{order.time:%Y-%m-%dT%H:%M:%SZ}"}


def _short(value: object) -> str:
    if isinstance(value, dict):
        return str(value.get("name", value))
    return "none" if value is None else f"{value:,}" if isinstance(value, int) else str(value)
