"""What ``set`` may change of a run that goes on: caps, the policy, how many calls are under way, their priority.

All values of one order are looked at before any is changed, so an order is done as a whole or not at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pydantic import ValidationError

from cluster.driving.caps import refuse_caps, with_caps
from cluster.driving.control import Control
from cluster.pools.replicas import Replicas
from cluster.stages.sample_state import SampleState
from cluster.stages.states import StageState
from operators.policies.named import AnyPolicy, policy_spec
from schemas.errors import BadInput

BUDGET = "run.budget."
POLICY = "policy"
KNOWN = ("run.budget.tokens (samples, dollars, gpu_hours, hours)", "policy (STAGE.policy)", "concurrency", "priority")
MOST_PRIORITY = 2**31 - 1

Change = Callable[[Mapping[str, str]], None]
"""Does one thing; it is told who wanted it."""


class Changing:
    """The settings of one run that can be changed while it goes on."""

    def __init__(self, control: Control, replicas: Replicas) -> None:
        self._control = control
        self._money = control.money
        self._replicas = replicas
        self._sampling: list[SampleState] = []
        self._shared = False
        """Whether an engine may serve others beside this run."""
        self.begun = False
        """Whether the account is open and the policies have begun."""

    def know(self, states: Iterable[StageState]) -> None:
        """Hear which stages there are."""
        stages = [state.plan.stage for state in states]
        engines = [spec for stage in stages for spec in (stage.engine, *stage.engines.values()) if spec is not None]
        self._shared = any(spec.shared for spec in engines)
        self._sampling = [state for state in states if isinstance(state, SampleState)]

    def now(self, key: str) -> Any:
        """Return what a setting is now, as plain values; None where that is nothing."""
        if key.startswith(BUDGET):
            budget = self._money.budget
            return None if budget is None else getattr(budget, key.removeprefix(BUDGET), None)
        if key == "concurrency":
            return self._replicas.most
        if key == "priority":
            return self._replicas.priority
        for state in self._stages(key):
            spec = self._control.policy_of(state)
            return None if spec is None else spec.model_dump(mode="json")
        return None

    def change(self, values: Mapping[str, Any], by: Mapping[str, str]) -> dict[str, tuple[Any, Any]]:
        """Change settings, all or none; return what each was before, and is now.

        Args:
            values: setting -> new value; null takes a cap, or a limit of calls, away.
            by: who wants it, for the log.

        Raises:
            BadInput: one isn't known, doesn't fit, or can't be now.
        """
        if not values:
            raise BadInput(f"say what to set: {', '.join(KNOWN)}")
        caps: dict[str, Any] = {}
        policies: dict[str, Any] = {}
        changes: list[Change] = []
        for key, value in values.items():
            if key.startswith(BUDGET):
                caps[key.removeprefix(BUDGET)] = value
            elif key == "concurrency":
                changes.append(self._calls(value))
            elif key == "priority":
                changes.append(self._urgency(value))
            elif POLICY in (parts := key.split(".")) and all(parts):
                self._gather(policies, key, value)
            else:
                raise BadInput(f"there is no '{key}' to set while a run goes on; there are {', '.join(KNOWN)}")
        if caps:
            changes.insert(0, self._caps(caps))
        changes += [self._policy(key, value) for key, value in policies.items()]
        keys = [*(key for key in values if POLICY not in key.split(".")), *policies]
        before = {key: self.now(key) for key in keys}
        for change in changes:
            change(by)
        return {key: (before[key], self.now(key)) for key in keys}

    # -- each ------------------------------------------------------------------------------------------------------

    def _caps(self, values: Mapping[str, Any]) -> Change:
        budget = with_caps(self._money.budget, values)

        def change(by: Mapping[str, str]) -> None:
            if not self.begun:
                self._money.budget = budget
                return
            self._money.change(budget)
            self._control.on_caps_changed(by)

        if self.begun and (why := refuse_caps(self._money, budget)):
            raise BadInput(why)
        return change

    def _calls(self, value: Any) -> Change:
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
            raise BadInput(f"concurrency={value}: it takes a number from 1 on (to stand still there is pause), or null")
        most = self._replicas.capacity
        if value is not None and most is not None and value > most:
            raise BadInput(
                f"concurrency={value}: an engine of this run takes {most} calls at once, which is decided when it is "
                "started (engine.concurrency, engine.slots); fewer can be set"
            )
        return lambda by: self._replicas.steer(value, self._replicas.priority)

    def _urgency(self, value: Any) -> Change:
        if not isinstance(value, int) or isinstance(value, bool) or abs(value) > MOST_PRIORITY:
            raise BadInput(f"priority={value}: it takes a whole number; smaller ones go first, 0 is the usual one")
        if not self._shared:
            raise BadInput(
                "priority: the engines of this run are its own, so nobody else's calls wait behind its own; servers "
                "(engine.kind=openai) have priorities, concurrency=N leaves them or this machine more room"
            )
        return lambda by: self._replicas.steer(self._replicas.most, value)

    def _gather(self, policies: dict[str, Any], key: str, value: Any) -> None:
        """Put ``sample.policy.target=4`` into what is wanted of ``sample.policy``."""
        stage, _, field = f".{key}.".partition(f".{POLICY}.")
        name = f"{stage.strip('.')}.{POLICY}".strip(".")
        field = field.strip(".")
        if not field:
            policies[name] = {"name": value} if isinstance(value, str) else value
        else:
            wanted = policies.setdefault(name, dict(self.now(name) or {}))
            if not isinstance(wanted, dict):
                raise BadInput(f"{key}: '{name}' was set to a plain value before")
            if field == "name":
                wanted.clear()
            wanted[field] = value

    def _stages(self, key: str) -> Iterable[SampleState]:
        stage = key.removesuffix(POLICY).strip(".")
        return [state for state in self._sampling if stage in ("", state.name)]

    def _policy(self, key: str, value: Any) -> Change:
        states = list(self._stages(key))
        if not states:
            raise BadInput(f"{key}: stages that sample are {', '.join(state.name for state in self._sampling)}")
        spec = _spec_of(key, value)
        if not self.begun:
            return lambda by: self._control.instead.update(dict.fromkeys([state.name for state in states], spec))
        for state in states:
            if why := self._control.refuse_policy(state, spec):
                raise BadInput(f"{key}: stage {state.name}: {why}")
        known = self._control.known(spec)

        def change(by: Mapping[str, str]) -> None:
            for state in states:
                self._control.change_policy(state, spec, known, by)

        return change


def _spec_of(key: str, value: Any) -> AnyPolicy:
    if not isinstance(value, dict):
        raise BadInput(
            f"{key}={value}: it takes a policy's name, or its settings: policy={{name: marginal, target: 4}}"
        )
    try:
        return policy_spec(value)
    except ValidationError as error:
        first = error.errors()[0]
        raise BadInput(f"{key}.{'.'.join(map(str, first['loc'][1:]))}: {first['msg']}") from error
