"""Contracts of strategies: their calls and episodes, and what measures say of these."""

from __future__ import annotations

import dataframely as dy

from schemas import columns
from schemas.contract import Contract

CALL_KINDS = ("generate", "score", "likelihood", "tool", "verdict")
ENDINGS = ("done", "max_steps", "cap", "first_right", "agreed", "nothing")
"""Why an episode ended."""


class Call(Contract):
    """One answer to one call that an episode made. A call was asked again where it is there in a later attempt."""

    index = "episode"
    repeats = True

    problem_key = dy.String(primary_key=True)
    episode = columns.key(minimum=0)
    call = dy.String(primary_key=True)
    """Its path: branches, number of the group, slot: ``0.3``, ``chain2/1.0``; ``:k`` behind it is its k-th completion.
    Of scores ``s/`` and the digest: the same text is scored once."""
    attempt = columns.key(minimum=0)
    parent_call = columns.text(nullable=True)
    """The call whose text comes before this one's."""
    branch = columns.text()
    role = columns.text()
    kind = columns.one_of(CALL_KINDS)
    digest = columns.text()
    """Of what was asked: role, kind, prompt, beginning, parameters, n and seed."""
    seed = dy.Int64(nullable=True)
    prompt_hash = columns.text()
    lead = columns.text()
    """What stands between the parent's text and this one's, or before this one's where it has no parent."""
    prefix_length = columns.count()
    """Characters of the completion that were given, or of the text that was scored."""
    text = columns.text()
    """What was written new."""
    finish = columns.text(nullable=True)
    prompt_tokens = columns.count()
    """The cached ones included."""
    cached_prompt_tokens = columns.count()
    completion_tokens = columns.count()
    sum_logprob = dy.Float64(nullable=True)
    """Of the sampled tokens, in nats."""
    value = dy.Float64(nullable=True)
    """The score, or the sum of log-probs of a text whose likelihood was asked."""
    values = dy.List(dy.Float64(nullable=True), nullable=True)
    """Scores of the steps, or log-probs of the tokens."""
    reasoning = columns.text(nullable=True)
    tool_calls = columns.tools()
    stop = columns.text(nullable=True)
    """The stop string that ended it."""
    status = columns.one_of(("ok", "error"))
    error = columns.text(nullable=True)
    run_id = columns.text()


class Episode(Contract):
    """One run of a strategy for one problem (collect.episodes)."""

    added = frozenset({"roles"})

    problem_key = dy.String(primary_key=True)
    episode = columns.key(minimum=0)
    problem_id = columns.text()
    strategy = columns.text()
    rows = columns.count()
    """Sample rows that it gave."""
    finals = columns.count()
    """Those with a text."""
    chosen = columns.count(nullable=True)
    """``sample_index`` of the row that it stands for; null where it found nothing."""
    ended_by = columns.one_of(ENDINGS)
    oracle = dy.Bool(nullable=False)
    """Whether it looked at the answer: an upper bound, not a method."""
    calls = columns.count()
    prompt_tokens = columns.count()
    """Read by all generating calls, the cached ones included."""
    cached_prompt_tokens = columns.count()
    completion_tokens = columns.count()
    """Written by all calls, also in paths that were given up."""
    scorer_passes = columns.count()
    scorer_tokens = columns.count()
    lineages = columns.count()
    """Distinct ancestors of the first step among the finals: 1 means that all paths share it."""
    distinct_texts = columns.count()
    note = columns.json_object(nullable=False)
    """Numbers that the strategy noted."""
    roles = columns.json_object(nullable=True)
    """What was paid to the engine of each role: tokens read (the cached and the scored ones included), of these the
    cached ones, and tokens written; null of episodes that didn't tell."""


class Navigator(Contract):
    """A trained navigator of the strategy rlot, one row a layer (train.navigator)."""

    layer = dy.String(primary_key=True)
    values = dy.List(dy.Float64(nullable=False), nullable=False)
    """The layer's matrix, inputs by outputs in row-major order, and its biases behind it."""
    note = columns.json_object(nullable=False)


class EpisodeMeasure(Contract):
    """What episodes of a strategy came to and took, in long form: one row a measure (measure.episodes)."""

    strategy = dy.String(primary_key=True)
    metric = dy.String(primary_key=True)
    value = dy.Float64(nullable=True)
    low = dy.Float64(nullable=True)
    """``low`` to ``high``: 95% interval for problems like these."""
    high = dy.Float64(nullable=True)
    same_low = dy.Float64(nullable=True)
    """``same_low`` to ``same_high``: 95% interval for these very problems, had they more episodes."""
    same_high = dy.Float64(nullable=True)
    n = columns.count()
    """Episodes it is about."""
    n_problems = columns.count()
    note = columns.text()


class EqualBill(Contract):
    """A strategy's accuracy beside that of plain sampling at an equal bill (measure.equal_bill)."""

    arm = dy.String(primary_key=True)
    unit = dy.String(primary_key=True)
    """Of the bill: ``completion_tokens``, ``tokens`` (read and written, by all roles), ``scorer_passes`` or
    ``dollars``."""
    method = dy.String(primary_key=True)
    """Of plain sampling: ``majority``, ``rpc``, ``best_of_n``, or ``coverage`` (some sample is right); beside arms that
    stop by what came out, ``until_right`` or ``until_agreed``: plain sampling that stops by the same rule."""
    n_equal = dy.Float64(nullable=True, min=0.0)
    """N*: plain samples that cost what an episode does; where plain sampling stops by itself, the most it draws."""
    bill = dy.Float64(nullable=True, min=0.0)
    """Of an episode, on average; null where a price isn't known."""
    accuracy = columns.share()
    """Of what episodes chose; for ``coverage``, how often some row of theirs is right."""
    baseline = columns.share(nullable=True)
    """Of plain sampling at N*."""
    difference = dy.Float64(nullable=True, min=-1.0, max=1.0)
    low = dy.Float64(nullable=True)
    """``low`` to ``high``: 95% interval of the difference, on problems like these."""
    high = dy.Float64(nullable=True)
    n_problems = columns.count()
    note = columns.text()


class PlainCurve(Contract):
    """Plain sampling against its bill: the curve beside which searches stand (measure.plain_curve)."""

    unit = dy.String(primary_key=True)
    """Of the bill, as in ``EqualBill``."""
    method = dy.String(primary_key=True)
    """As in ``EqualBill``."""
    n = columns.key()
    """Samples of each problem; where sampling stops by itself, the most."""
    bill = dy.Float64(nullable=False, min=0.0)
    """Of these samples of a problem, on average."""
    accuracy = columns.share()
    """For ``coverage``, how often some sample is right."""
    low = columns.share()
    """``low`` to ``high``: 95% interval, for problems like these."""
    high = columns.share()
    n_problems = columns.count()


class ScorerSteps(Contract):
    """How well a scorer's values of unfinished texts tell right ones from wrong ones (measure.scorer_steps)."""

    scorer = dy.String(primary_key=True)
    reduce = dy.String(primary_key=True)
    """What is made of the steps' scores: the ``last`` one, or the ``min`` of them."""
    depth = dy.String(primary_key=True)
    """Where in their texts the prefixes end: ``first``, ``middle`` or ``last`` third, or ``all``."""
    auc = columns.share(nullable=True)
    """The chance that a prefix of a right text has a larger value than one of a wrong text; null without both kinds."""
    low = columns.share(nullable=True)
    high = columns.share(nullable=True)
    within = columns.share(nullable=True)
    """The same among prefixes of one problem, which is what a search compares."""
    n = columns.count()
    """Prefixes."""
    n_problems = columns.count()
    note = columns.text()


EPISODES: dict[str, type[Contract]] = {
    "calls": Call,
    "episodes": Episode,
    "navigator": Navigator,
    "episode_measures": EpisodeMeasure,
    "equal_bill": EqualBill,
    "plain_curve": PlainCurve,
    "scorer_steps": ScorerSteps,
}
"""Dataset names."""
