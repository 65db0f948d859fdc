"""Rows that are made again while a run goes on: what is refused, seen without a run."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from cluster.driving.requeue import Requeue
from cluster.storage.ranges import Ranges
from schemas.errors import BadInput


class Sampling(SimpleNamespace):
    """As much of a sampling stage as is looked at."""

    __hash__ = object.__hash__


def test_rows_that_are_being_taken_out_are_not_taken_out_again() -> None:
    nothing: Any = None
    requeue = Requeue(nothing, nothing, nothing, nothing, nothing)
    held = SimpleNamespace(present=lambda rows: rows)  # the store has them until the cut is committed
    store = SimpleNamespace(held=held, lease="ours")
    for cutting in (False, True):
        sampling: Any = Sampling(name="sample", cutting=cutting, store=store)
        if not cutting:
            requeue._check({"sample": sampling}, {sampling: Ranges.of(0, 0, 2)}, 0)
            continue
        with pytest.raises(BadInput, match="stage sample are being taken out just now; give the order again"):
            requeue._check({"sample": sampling}, {sampling: Ranges.of(0, 0, 2)}, 0)
