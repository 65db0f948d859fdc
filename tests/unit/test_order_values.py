"""What people write to tell a run something."""

from __future__ import annotations

import pytest

from jobs.looking.orders import order_values
from schemas.errors import BadInput


def test_values_are_yaml() -> None:
    assert order_values(["concurrency=16", "run.budget.tokens=null", "policy={name: uniform}"]) == {
        "concurrency": 16,
        "run.budget.tokens": None,
        "policy": {"name": "uniform"},
    }


@pytest.mark.parametrize("written", ["run.budget.tokens=", "run.budget.tokens=  "])
def test_no_value_takes_no_cap_away(written: str) -> None:
    with pytest.raises(BadInput, match="has no value; to take a cap or a limit away say null"):
        order_values([written])
