"""Other caps for a run that goes on: which can be, and why others can't."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from cluster.driving.money import Money
from cluster.records.bill import Amount
from schemas.budget import Budget
from schemas.errors import BadInput
from schemas.prices import MICRO

CAPS = ("samples", "tokens", "dollars", "gpu_hours", "hours")
"""Fields of ``run.budget`` that can be changed."""
HARD = CAPS[:3]


def with_caps(budget: Budget | None, values: Mapping[str, Any]) -> Budget:
    """Return a budget with other caps.

    Args:
        values: of ``CAPS``, those that change; None for no cap.

    Raises:
        BadInput: there is no budget, or no such cap, or a value that can't be.
    """
    unknown = sorted(set(values) - {*CAPS})
    if unknown:
        raise BadInput(
            f"run.budget.{unknown[0]} can't be changed while a run goes on; {', '.join(CAPS)} can, as run.budget.tokens"
        )
    if budget is None or not budget.is_capped:
        raise BadInput(
            "the run began without a cap, so nothing is set apart for what is under way, and a cap couldn't hold. "
            "Cancel it, and start it with --set run.budget...: nothing that was drawn is paid for twice"
        )
    try:
        changed = Budget.model_validate({**budget.model_dump(), **values})
    except ValidationError as error:
        first = error.errors()[0]
        raise BadInput(f"run.budget.{'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    if not changed.is_capped:
        raise BadInput("a run that began with a cap keeps one: what it takes is decided by how far its money goes")
    if changed.dollars is not None and budget.dollars is None:
        raise BadInput(
            "run.budget.dollars: the run began without a cap in dollars, so what is under way isn't set apart in "
            "dollars; cap its tokens, or cancel it and start it with one"
        )
    return changed


def refuse_caps(money: Money, budget: Budget) -> str:
    """Return why other caps can't hold from now on, with the least that could; empty where they can."""
    account = money.account
    if account is None:
        return "the run has no account"
    if money.reached is not None and not any(state.draws for state in money.sampling):
        return f"nothing more is sent in this run ({money.reached}); the same command with another budget goes on"
    kept = sum((keeper() for keeper in account.keepers), Amount())
    taken = account.spent + account.reserved + account.gpu_time + kept
    spent = account.spent + account.gpu_time
    caps = (budget.samples, budget.tokens, None if budget.dollars is None else int(budget.dollars * MICRO))
    for name, cap, least, gone in zip(HARD, caps, taken.parts, spent.parts, strict=True):
        if cap is not None and cap < least:
            unit = MICRO if name == "dollars" else 1
            apart = (least - gone) / unit
            return (
                f"run.budget.{name} = {cap / unit:,.12g}, and {gone / unit:,.12g} are spent and {apart:,.12g} set "
                "apart for what is under way and for judging it. The least that can hold now is "
                f"{least / unit:,.12g}; to end the run there are cancel and pause"
            )
    if budget.gpu_hours is not None and money.gpu_hours >= budget.gpu_hours:
        return (
            f"run.budget.gpu_hours = {budget.gpu_hours:g}, and {money.gpu_hours:.3g} are used up; cancel ends the run"
        )
    hours = (time.monotonic() - money.began) / 3600
    if budget.hours is not None and hours >= budget.hours:
        return f"run.budget.hours = {budget.hours:g}, and {hours:.3g} have passed; cancel ends the run"
    return ""
