"""Engines that share GPUs in turn (``takes_turns``): while one works the others sleep, their weights in main memory.

A stage's turn ends when it has nothing left to do, or after ``turn_seconds`` while another of its group has. It is then
given nothing more, finishes what is in its engines, and puts them to sleep; then the next one's wake, or are loaded.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol

from cluster.stages.states import StageState


class Member(Protocol):
    """A stage's engines, as turns see them."""

    @property
    def waiting(self) -> bool:
        """Whether there is something to begin."""
        ...

    @property
    def under_way(self) -> bool:
        """Whether the engines are working on something."""
        ...

    def sleep(self) -> list[Future[None]]:
        """Put all engines that are loaded to sleep."""
        ...

    def wake(self) -> list[Future[None]]:
        """Wake them."""
        ...


@dataclass(eq=False)
class _Group:
    members: dict[StageState, Member]
    current: StageState | None = None
    since: float = 0.0
    leaving: bool = False
    changing: list[Future[None]] | None = None
    """What ``current`` is waiting for: the others falling asleep, or its own engines waking."""
    next: StageState | None = None

    def wanted(self) -> StageState | None:
        """Return the next stage, in turn, that has something to do."""
        order = list(self.members)
        at = order.index(self.current) + 1 if self.current in order else 0
        others = [*order[at:], *order[:at]]
        return next((state for state in others if state is not self.current and self.members[state].waiting), None)


class Turns:
    """Whose turn it is. The driver's loop calls it; nothing here runs in another thread."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._groups: list[_Group] = []
        self._of: dict[StageState, _Group] = {}

    def add_all(self, members: Iterable[tuple[StageState, Member]]) -> None:
        """Let stages, in the order of the pipeline, take turns with those with which an engine of theirs does.

        A stage whose engines have several names brings all who use one of them together: it works while all of its
        engines are awake, so none of them may wait for it with something that it needs.
        """
        groups: list[tuple[set[str], dict[StageState, Member]]] = []
        for state, member in members:
            names = set(state.plan.stage.turns)
            if not names:
                continue
            mine = [group for group in groups if group[0] & names]
            groups = [group for group in groups if group not in mine]
            all_names = names.union(*(group[0] for group in mine))
            together = {key: value for group in mine for key, value in group[1].items()}
            groups.append((all_names, together | {state: member}))
        for _, together in groups:
            self._add(together.items())

    def _add(self, members: Iterable[tuple[StageState, Member]]) -> None:
        group = _Group(dict(members))
        self._groups.append(group)
        self._of |= dict.fromkeys(group.members, group)

    def awake(self, state: StageState) -> bool:
        """Whether a stage may be given work."""
        group = self._of.get(state)
        return group is None or (group.current is state and not group.leaving and group.changing is None)

    @property
    def unfinished(self) -> bool:
        """Whether somebody waits for a turn."""
        return any(
            group.changing is not None or any(member.waiting for member in group.members.values())
            for group in self._groups
        )

    def go_on(self) -> None:
        """See whether it is somebody else's turn."""
        for group in self._groups:
            self._step(group)

    def _step(self, group: _Group) -> None:
        if group.changing is not None:
            if not all(future.done() for future in group.changing):
                return
            for future in group.changing:
                future.result()
            self._on_changed(group)
        elif group.current is None:
            group.current, group.since = group.wanted(), time.monotonic()
        elif group.leaving:
            if not group.members[group.current].under_way:
                group.changing = group.members[group.current].sleep()
        else:
            member = group.members[group.current]
            idle = not (member.waiting or member.under_way)
            late = time.monotonic() - group.since > self.seconds
            group.leaving = group.wanted() is not None and (idle or late)

    def _on_changed(self, group: _Group) -> None:
        """The engines fell asleep: wake the next ones; or they woke: it is their turn."""
        if group.leaving:
            group.next = group.wanted() or group.current
            assert group.next is not None
            group.leaving = False
            group.changing = group.members[group.next].wake()
        else:
            group.current, group.next, group.changing = group.next, None, None
            group.since = time.monotonic()
