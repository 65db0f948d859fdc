"""docs/strategies.md says of every strategy what its class says."""

from __future__ import annotations

from operators.strategies.names import STRATEGIES
from tests.unit.strategies.page import BEGIN, END, EQUAL, PAGE, table, written


def test_the_page_is_up_to_date() -> None:
    text = PAGE.read_text()
    assert text.count(BEGIN) == text.count(END) == 1
    assert text == written(text), "run: python -m tests.unit.strategies.page"


def test_the_table_has_every_strategy_once() -> None:
    rows = [line.split(" | ") for line in table().splitlines()[2:]]
    assert [row[0].strip("| `") for row in rows] == list(STRATEGIES) and set(EQUAL) <= set(STRATEGIES)
    assert len({len(row) for row in rows}) == 1 and all(len(row[1]) > 30 for row in rows)
    by_name = {row[0].strip("| `"): row for row in rows}
    assert by_name["best_of"][4:6] == ["16", "16"] and by_name["best_of"][6] == "16.0"
    assert "likelihoods" in by_name["thinksum"][2] and "sandbox" in by_name["tools"][2]
    assert by_name["cascade"][2].startswith("`large`") and "`metadata`" in by_name["hedged"][2]
