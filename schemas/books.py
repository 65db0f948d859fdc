"""Contracts of a run's books and the ledger: what was decided, lent and spent."""

from __future__ import annotations

import dataframely as dy

from schemas import columns
from schemas.contract import Contract


class Allocation(Contract):
    """One decision of a sampling policy, written before it is dispatched: ``count`` samples of one problem.

    ``worst_tokens`` and ``worst_microdollars`` are what each of them may take at most, ``value`` what one was thought
    to gain, and ``observed_through`` how many outcomes were known then.

    A row with ``count`` 0 and ``reason`` "rule" says by what rule a problem is sampled from ``first_index`` on. Every
    run under a policy begins with one for each of its problems, and measures go by them (``measure.pass_at_k``).
    """

    added = frozenset({"rule", "hints"})

    sequence = columns.key(minimum=0)
    stage = dy.String(primary_key=True)
    problem_key = columns.text()
    first_index = columns.count()
    count = columns.count()
    worst_tokens = columns.count()
    worst_microdollars = columns.count()
    observed_through = dy.Int64(nullable=False, min=-1)
    value = dy.Float64(nullable=False)
    shadow_price = dy.Float64(nullable=True)
    reason = columns.text()
    rule = columns.json_object(nullable=True)
    """Policy, limit of samples (n), caps, and how many ``features`` are in ``hints``, in a row that says the rule."""
    hints = dy.List(dy.Float64(nullable=True), nullable=True)
    """What the policy was told of the problem beforehand: log odds of success by each source (null: nothing), then as
    many features as the rule says."""


class Payment(Contract):
    """One entry of a run's own books, written before what it paid for is committed.

    ``credit``: money was lent to a worker, before it was told. ``bill``: calls took what is said here, and closed so
    much credit. ``return``: credit came back unused. ``lost``: credit was closed by requests that brought nothing, and
    counts as spent. Credit that nothing closed when a run ended is lost too. Ranges of samples are their own credit
    (``Allocation``).
    """

    added = frozenset({"estimated_tokens"})

    sequence = columns.key(minimum=0)
    kind = columns.one_of(("credit", "bill", "return", "lost"))
    stage = columns.text()
    role = columns.text()
    """What the engine is to the stage: ``policy`` samples, ``scorer`` is asked about samples."""
    samples = columns.count()
    """Those that the calls brought."""
    calls = columns.count()
    prompt_tokens = columns.count()
    """The cached ones included."""
    cached_prompt_tokens = columns.count()
    completion_tokens = columns.count()
    passes = columns.count()
    """Texts that were scored."""
    credit_samples = columns.count()
    credit_tokens = columns.count()
    credit_microdollars = columns.count()
    estimated_tokens = columns.count(nullable=True)
    """Of the tokens that calls took, those that aren't the engine's own count, but the most that there can be."""


class LedgerEntry(Contract):
    """What was spent (``settle``) or counts as spent (``orphan``), in integer micro-dollars."""

    added = frozenset({"role", "calls", "passes", "estimated_tokens"})

    sequence = columns.key(minimum=0)
    run_id = dy.String(primary_key=True)
    time = dy.Datetime(nullable=False, time_unit="us", time_zone="UTC")
    kind = columns.one_of(("settle", "orphan"))
    stage = columns.text()
    engine = columns.text()
    samples = columns.count()
    prompt_tokens = columns.count()
    cached_prompt_tokens = columns.count()
    completion_tokens = columns.count()
    engine_seconds = dy.Float64(nullable=False, min=0.0)
    gpu_seconds = dy.Float64(nullable=False, min=0.0)
    microdollars = columns.count()
    role = columns.text(nullable=True)
    """What the engine is to the stage (``Payment``)."""
    calls = columns.count(nullable=True)
    passes = columns.count(nullable=True)
    estimated_tokens = columns.count(nullable=True)
    """As in ``Payment``."""


BOOKS: dict[str, type[Contract]] = {
    "allocations": Allocation,
    "payments": Payment,
    "ledger": LedgerEntry,
}
"""Dataset names."""
