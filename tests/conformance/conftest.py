"""Each engine is loaded once, for all tests of the suite."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conformance.cases import CASES, Case
from tests.engines import Running, running, shared


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out the tests of what an engine doesn't promise."""
    items[:] = [item for item in items if all(_case(item).keeps(need) for need in _needs(item))]


def _needs(item: pytest.Item) -> list[str]:
    return [need for mark in item.iter_markers("needs") for need in mark.args]


def _case(item: pytest.Item) -> Case:
    assert isinstance(item, pytest.Function)
    return item.callspec.params["subject"]


class Subject:
    """An engine under test, with what it promises."""

    def __init__(self, case: Case, loaded: Running) -> None:
        self.case = case
        self.engine = loaded.engine
        self.spec = loaded.spec
        self.do = loaded.do

    def prompt(self, text: str) -> str:
        """Return the prompt for a text, as the sampling stage makes it."""
        return self.do(self.engine.render([{"role": "user", "content": text}], chat=self.case.chat))


@pytest.fixture(scope="session", params=[pytest.param(case, id=case.name, marks=case.marks) for case in CASES])
def subject(request: pytest.FixtureRequest) -> Iterator[Subject]:
    case: Case = request.param
    with case.serving() as spec, (shared if spec.kind == "vllm" else running)(spec) as loaded:
        yield Subject(case, loaded)
