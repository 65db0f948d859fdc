"""Whether programs that a model wrote can be contained where a run works."""

from __future__ import annotations

from collections.abc import Callable, Collection

from cluster.runners.runner import Runner
from cluster.sandbox import UNSAFE
from cluster.stages.states import StageState


def check_sandbox(
    states: Collection[StageState], runner: Runner, allow_unsafe: bool, say: Callable[[str], None]
) -> None:
    """See that programs that a model wrote can be contained, or say loudly that they aren't."""
    running = [s for s in states if "sandbox" in s.plan.stage.operator.tools and not s.complete]
    if not running:
        return
    if not allow_unsafe:
        weaker = runner.check_sandbox()
        if weaker is not None:
            say(weaker)
        return
    say(UNSAFE.format(stages=", ".join(state.name for state in running)))
    for state in running:
        state.unsafe = True
