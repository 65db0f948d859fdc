"""Figures of the chaos runs: each test leaves some, and they are printed at the end."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

FIGURES = pytest.StashKey[list[str]]()


class Figures(dict[str, object]):
    """What one test measured; printed in the order in which it was added."""


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> Iterator[Figures]:
    found, began = Figures(), time.monotonic()
    yield found
    said = ", ".join(f"{name} {value}" for name, value in found.items())
    lines = request.config.stash.setdefault(FIGURES, [])
    lines.append(f"{request.node.name}: {said}, seconds {time.monotonic() - began:.0f}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    lines = config.stash.get(FIGURES, [])
    if lines:
        terminalreporter.section("chaos")
        for line in lines:
            terminalreporter.line(line)
