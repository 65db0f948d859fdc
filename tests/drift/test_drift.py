"""No operator says something else under the same version."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import pytest

from operators import OPERATORS, operator_class
from tests.drift.cases import CASES
from tests.drift.goldens import COMMAND, FOLDER, current, difference, kept, path

HOME = Path(__file__).parents[2]


def place(name: str) -> str:
    return str(Path(inspect.getfile(operator_class(name))).relative_to(HOME))


@pytest.mark.parametrize("name", OPERATORS)
def test_an_output_that_changes_has_a_new_version(name: str) -> None:
    version, known = operator_class(name).version, kept(name)
    assert known is not None, f"it isn't known yet what {name} {version} says: write it down with `{COMMAND}`"
    found = difference(known, current(name))
    assert found is None, (
        f"{name} {version} says something else than it did ({found}). If that is meant, raise `version` in "
        f"{place(name)}, so that earlier rows aren't taken for its own, and write down what it says now with "
        f"`{COMMAND}`. If only the question has changed (tests/drift/cases.py, inputs/, tools.py), and not the "
        f"operator: `{COMMAND} --rewrite`"
    )


@pytest.mark.parametrize("name", OPERATORS)
def test_every_question_gets_rows(name: str) -> None:
    assert all(entry["rows"] for entry in kept(name) or []), f"{name}: a case that gives no rows guards nothing"


def test_what_is_kept_is_of_operators_and_versions_that_there_are() -> None:
    assert not CASES.keys() - OPERATORS.keys()
    for file in FOLDER.iterdir():
        name, _, version = file.stem.rpartition(".v")
        assert name in OPERATORS, f"{file.name}: there is no operator '{name}' any more; remove the file"
        assert 1 <= int(version) <= operator_class(name).version, f"{file.name} is of a version still to come"


ANSWERS: list[dict[str, Any]] = [{"settings": {}, "rows": [{"key": "a", "value": 0.25, "list": [1, None, 3]}]}]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"value": 0.25 * (1 + 1e-9)}, None),
        ({"value": 0.2501}, "case 0, rows 0 value: it was 0.25 and is 0.2501"),
        ({"value": None}, "case 0, rows 0 value: it was 0.25 and is None"),
        ({"key": "b"}, "case 0, rows 0 key: it was 'a' and is 'b'"),
        ({"list": [1, 2, 3]}, "case 0, rows 0 list 1: it was None and is 2"),
        ({"list": [1]}, "case 0, rows 0 list: it was [1, None, 3] and is [1]"),
        ({"more": None}, None),
        ({"more": False}, None),
        ({"list": None}, "case 0, rows 0 list: it was [1, None, 3] and is None"),
        ({"more": 1}, "case 0, rows 0 more: it was None and is 1"),
    ],
)
def test_a_difference_is_found_and_told(change: dict[str, Any], told: str | None) -> None:
    now = json.loads(json.dumps(ANSWERS))
    now[0]["rows"][0] |= change
    found = difference(ANSWERS, now)
    assert found is None if told is None else str(found).startswith(told)


def test_other_rows_and_other_cases_are_differences() -> None:
    assert difference(ANSWERS, [{**ANSWERS[0], "rows": []}]) is not None
    assert difference(ANSWERS, ANSWERS * 2) is not None
    assert difference(ANSWERS, [{**ANSWERS[0], "settings": {"k": 1}}]) is not None
    assert not path("select.nothing", 1).exists()
