"""Contracts of a run's books and the ledger: what was decided, lent and spent."""

from __future__ import annotations

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
    """The number of the decision in its run."""
    stage = columns.String(primary_key=True)
    """The sampling stage."""
    problem_key = columns.text()
    first_index = columns.count()
    """The first sample index."""
    count = columns.count()
    """How many samples."""
    worst_tokens = columns.count()
    """What a sample may take at most, in tokens."""
    worst_microdollars = columns.count()
    """What a sample may take at most, in millionths of a dollar."""
    observed_through = columns.Int64(nullable=False, min=-1)
    """The last decision whose results the policy had seen."""
    value = columns.Float64(nullable=False)
    """What the policy expected of a sample."""
    shadow_price = columns.Float64(nullable=True)
    """What a unit of the budget was worth to it then."""
    reason = columns.text()
    """Why, in a word."""
    rule = columns.json_object(nullable=True)
    """Policy, limit of samples (n), caps, and how many ``features`` are in ``hints``, in a row that says the rule."""
    hints = columns.List(columns.Float64(nullable=True), nullable=True)
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
    """The number of the entry in its run."""
    kind = columns.one_of(("credit", "bill", "return", "lost"))
    """``credit``, ``bill``, ``return`` or ``lost``, as above."""
    stage = columns.text()
    """The stage that asked."""
    role = columns.text()
    """What the engine is to the stage: ``policy`` samples, ``scorer`` is asked about samples."""
    samples = columns.count()
    """Those that the calls brought."""
    calls = columns.count()
    """Calls that the bill covers."""
    prompt_tokens = columns.count()
    """The cached ones included."""
    cached_prompt_tokens = columns.count()
    completion_tokens = columns.count()
    passes = columns.count()
    """Texts that were scored."""
    credit_samples = columns.count()
    """Samples that were lent."""
    credit_tokens = columns.count()
    """Tokens that were lent."""
    credit_microdollars = columns.count()
    """Millionths of a dollar that were lent."""
    estimated_tokens = columns.count(nullable=True)
    """Of the tokens that calls took, those that aren't the engine's own count, but the most that there can be."""


class LedgerEntry(Contract):
    """What was spent (``settle``) or counts as spent (``orphan``), in integer micro-dollars; and what people told runs
    while they went on (``order``), which spends nothing by itself."""

    added = frozenset({"role", "calls", "passes", "estimated_tokens", "action", "author", "reason"})

    sequence = columns.key(minimum=0)
    """The number of the entry in the root."""
    run_id = columns.String(primary_key=True)
    time = columns.Datetime()
    """When it was written, UTC."""
    kind = columns.one_of(("settle", "orphan", "order"))
    """``settle``, ``orphan`` or ``order``."""
    stage = columns.text()
    """The stage that asked."""
    engine = columns.text()
    """The engine that was asked."""
    samples = columns.count()
    """Samples that were drawn."""
    prompt_tokens = columns.count()
    cached_prompt_tokens = columns.count()
    completion_tokens = columns.count()
    engine_seconds = columns.Float64(nullable=False, min=0.0)
    """Seconds that the engine worked, all replicas together."""
    gpu_seconds = columns.Float64(nullable=False, min=0.0)
    """Seconds that GPUs were held, all of them together."""
    microdollars = columns.count()
    """Millionths of a dollar."""
    role = columns.text(nullable=True)
    """What the engine is to the stage (``Payment``)."""
    calls = columns.count(nullable=True)
    """Calls of all kinds."""
    passes = columns.count(nullable=True)
    """Texts that were scored."""
    estimated_tokens = columns.count(nullable=True)
    """As in ``Payment``."""
    action = columns.text(nullable=True)
    """Of an order: what the run was told, and whether it did it."""
    author = columns.text(nullable=True)
    """Of an order: who gave it."""
    reason = columns.text(nullable=True)
    """Of an order: why, in the words of whoever gave it."""


class Annotation(Contract):
    """What a person says of one verdict. Rows are only ever added; of a sample's the last one counts.

    Samples that were asked for (``measure.next_labels``) were chosen by lot, and say of what. Others were chosen by
    whoever annotated them, so nothing can be estimated from them.
    """

    id = columns.String(primary_key=True)
    """That no other annotation has."""
    time = columns.Datetime()
    """When it was made, UTC."""
    author = columns.text()
    """Who made it."""
    store = columns.text()
    """The store of the verdicts, relative to the root: annotations hold for all runs that read it."""
    run_id = columns.text()
    """The run in which it was looked at."""
    problem_key = columns.text()
    problem_id = columns.text()
    sample_index = columns.count()
    verifier = columns.text(nullable=True)
    """Whose verdict it is about."""
    accepted = columns.Bool(nullable=True)
    """What that verdict said then."""
    is_correct = columns.Bool(nullable=True)
    """Whether the sample is right, as the person says; null takes back what was said before."""
    note = columns.text()
    """Why, in the person's words; may be empty."""
    stratum = columns.text(nullable=True)
    """The samples that it was drawn from by lot; null where nobody asked for it."""
    stratum_size = columns.Int64(nullable=True, min=1)
    """How many there are of those."""


BOOKS: dict[str, type[Contract]] = {
    "allocations": Allocation,
    "payments": Payment,
    "ledger": LedgerEntry,
    "annotations": Annotation,
}
"""Dataset names."""
