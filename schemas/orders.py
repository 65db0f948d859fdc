"""Orders: what people tell a run while it goes on, and what it answered."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Action = Literal["pause", "resume", "cancel", "set", "requeue"]
LONGEST = 2_000
"""Characters of a reason."""


class Order(BaseModel):
    """One order, as it lies in the root until the run takes it.

    Attributes:
        id: that no other order has.
        by: who gave it: a person, at a machine.
        reason: in the words of whoever gave it; may be empty.
        time: when it was given, UTC, by the clock of whoever gave it.
        values: of ``set``: setting -> new value.
        problem: of ``requeue``: the problem_id or problem_key whose rows are made again.
    """

    model_config = ConfigDict(extra="forbid")

    id: str = Field(pattern=r"^[0-9a-f]{8,64}$")
    action: Action
    by: str = Field(min_length=1, max_length=200)
    reason: str = Field(default="", max_length=LONGEST)
    time: datetime
    values: dict[str, Any] = {}
    problem: str = Field(default="", max_length=LONGEST)

    @property
    def what(self) -> str:
        """The order in a few words."""
        if self.action == "set":
            return f"set {', '.join(f'{name}={value}' for name, value in self.values.items())}"
        return f"{self.action} {self.problem}".strip()

    @property
    def whose(self) -> str:
        """Who gave it, and why."""
        return f"{self.by} ({self.reason})" if self.reason else self.by


class Answered(Order):
    """An order with what became of it.

    Attributes:
        result: whether the run did it.
        answer: what it did, or why it didn't, for people.
        answered: when, UTC, by the run's clock.
    """

    model_config = ConfigDict(extra="ignore")

    result: Literal["applied", "refused"]
    answer: str
    answered: datetime
