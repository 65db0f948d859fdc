"""What an engine worker and the driver tell each other: small, picklable, never a text."""

from __future__ import annotations

from dataclasses import dataclass, field

from cluster.records.bill import Amount, Bill
from cluster.records.timeline import Activity
from cluster.storage.parts import Part
from cluster.storage.ranges import Ints, Ranges
from cluster.working.overrun import Overrun
from operators.engine import EngineInfo
from operators.sample.lengths import TooLong


@dataclass(frozen=True)
class Ready:
    """What a worker says once its engines are loaded.

    Attributes:
        capacity: how many requests its engine wants in flight.
        draws: how many draws keep it busy: as many, or fewer episodes.
        roles: what is recorded of the engines that play other roles.
        counts, patience: as of ``operators.engine.Engine``.
    """

    info: EngineInfo
    capacity: int
    draws: int
    roles: dict[str, EngineInfo] = field(default_factory=dict[str, EngineInfo])
    counts: bool = True
    patience: float = 0.0


@dataclass
class Dues:
    """What one role's calls took since the last report, and what they wait for.

    Attributes:
        bill: by the engine's own count.
        paid, lost: what that cost of the worker's credit, and how much of it brought nothing.
        returned: credit that the worker doesn't need any more.
        wants, first: credit that would keep calls from waiting, and that the first which waits needs.
        in_flight: calls that were paid and aren't answered.
    """

    bill: Bill = field(default_factory=Bill)
    paid: Amount = field(default_factory=Amount)
    lost: Amount = field(default_factory=Amount)
    returned: Amount = field(default_factory=Amount)
    wants: Amount = field(default_factory=Amount)
    first: Amount = field(default_factory=Amount)
    in_flight: int = 0


@dataclass(frozen=True)
class Failed:
    """A draw whose transient fault the worker couldn't heal.

    Attributes:
        served: it may have been paid for.
        again: it was no try, since the engine couldn't just now and is still waited for, or was never asked.
    """

    number: int
    index: int
    message: str
    served: bool
    again: bool


@dataclass
class Report:
    """What happened since the last report, and how things stand.

    Attributes:
        calls: parts with calls of episodes; what samples came of stands in them before the samples do.
        failed: draws whose transient fault outlived the retries.
        unsent: draws that were assigned, and won't be begun here.
        unwritten: (problem_key, sample index, why) of rows that no table takes.
        estimated: calls whose tokens aren't the engine's own count.
        overrun: what the engine takes beyond what was asked of it, at most so far.
        refusal: why nothing that the engine was asked was ever taken (``Engine.refusal``).
        drawn: draws since the worker started, flushed or not.
        activity: what the engine did since the worker started.
        dues: by role.
    """

    parts: list[Part] = field(default_factory=list[Part])
    calls: list[Part] = field(default_factory=list[Part])
    failed: list[Failed] = field(default_factory=list[Failed])
    unsent: Ranges = field(default_factory=Ranges.none)
    unwritten: list[tuple[str, int, str]] = field(default_factory=list[tuple[str, int, str]])
    estimated: int = 0
    overrun: Overrun = field(default_factory=Overrun)
    refusal: str = ""
    drawn: int = 0
    activity: Activity = field(default_factory=Activity)
    dues: dict[str, Dues] = field(default_factory=dict[str, Dues])

    @property
    def called(self) -> bool:
        """Whether any engine answered."""
        return any(dues.bill.calls for dues in self.dues.values())


@dataclass(frozen=True)
class Prompts:
    """What was found of the prompts of some problems.

    Attributes:
        too_long: those that leave no room for ``max_tokens``, by number.
        tokens: how many each has at most, where that was asked for.
    """

    too_long: list[tuple[int, TooLong]]
    tokens: Ints
