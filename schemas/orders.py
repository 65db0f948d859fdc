"""Orders: what people tell a run while it goes on, and what it answered."""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationInfo, field_validator

Action = Literal["pause", "resume", "cancel", "set", "requeue"]
LONGEST = 2_000
"""Characters of a reason, and of all settings of an order together."""

ODD = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Control characters, and those that let a line read otherwise than it is written."""


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
    by: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
    reason: str = Field(default="", max_length=LONGEST)
    time: datetime
    values: dict[str, Any] = {}
    problem: str = Field(default="", max_length=LONGEST)

    @field_validator("by", "reason", "problem")
    @classmethod
    def _shown(cls, text: str, info: ValidationInfo) -> str:
        """Put what people say into one line; refuse what would do something to a terminal on which it is read."""
        if info.field_name != "problem":
            text = " ".join(text.split())
        if ODD.search(text):
            raise ValueError("has characters that can't be shown")
        if not text and info.field_name == "by":
            raise ValueError("says nobody")
        return text

    @field_validator("values")
    @classmethod
    def _plain(cls, values: dict[str, Any]) -> dict[str, Any]:
        try:
            text = json.dumps(values, allow_nan=False, ensure_ascii=False)
            text.encode()
            odd = _odd(values)
        except (TypeError, ValueError, RecursionError) as error:
            raise ValueError("they take names, numbers and texts that can be written") from error
        if odd or len(text) > LONGEST:
            raise ValueError(f"they take {LONGEST:,} characters at most, of those that can be shown")
        return values

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
    """An order with what became of it, as it stands in manifests, also in those that earlier versions wrote.

    Attributes:
        result: whether the run did it.
        answer: what it did, or why it didn't, for people.
        answered: when, UTC, by the run's clock.
    """

    model_config = ConfigDict(extra="ignore")

    result: Literal["applied", "refused"]
    answer: str
    answered: datetime

    @field_validator("by", "reason", "problem")
    @classmethod
    def _shown(cls, text: str, info: ValidationInfo) -> str:
        return text

    @field_validator("values")
    @classmethod
    def _plain(cls, values: dict[str, Any]) -> dict[str, Any]:
        return values


def _odd(value: Any) -> bool:
    if isinstance(value, dict):
        value = [*value.keys(), *value.values()]  # pyright: ignore[reportUnknownVariableType,reportUnknownMemberType]
    if isinstance(value, list):
        return any(_odd(one) for one in value)  # pyright: ignore[reportUnknownVariableType]
    return isinstance(value, str) and ODD.search(value) is not None
