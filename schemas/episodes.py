"""Contracts of strategies: their calls and episodes, and what measures say of these."""

from __future__ import annotations

from schemas import columns
from schemas.contract import Contract

CALL_KINDS = ("generate", "score", "likelihood", "search", "tool", "verdict")
ENDINGS = ("done", "max_steps", "cap", "first_right", "agreed", "nothing")
"""Why an episode ended."""


class Call(Contract):
    """One answer to one call that an episode made. A call was asked again where it is there in a later attempt."""

    index = "episode"
    repeats = True

    problem_key = columns.String(primary_key=True)
    episode = columns.key(minimum=0)
    call = columns.String(primary_key=True)
    """Its path: branches, number of the group, slot: ``0.3``, ``chain2/1.0``; ``:k`` behind it is its k-th completion.
    Of scores ``s/`` and the digest: the same text is scored once."""
    attempt = columns.key(minimum=0)
    """How often the episode was begun before: answers of all attempts are kept."""
    parent_call = columns.text(nullable=True)
    """The call whose text comes before this one's."""
    branch = columns.text()
    """Where in the episode the call stands: calls of different branches don't wait for one another."""
    role = columns.text()
    """Whose engine was asked: ``policy``, or one of the strategy's other roles."""
    kind = columns.one_of(CALL_KINDS)
    """What was asked for: see ``CALL_KINDS``."""
    digest = columns.text()
    """Of what was asked: role, kind, prompt, beginning, parameters, n and seed."""
    seed = columns.Int64(nullable=True)
    """The engine's seed of this call."""
    prompt_hash = columns.text()
    """xxh3_64 of what was asked."""
    lead = columns.text()
    """What stands between the parent's text and this one's, or before this one's where it has no parent."""
    prefix_length = columns.count()
    """Characters of the completion that were given, or of the text that was scored."""
    text = columns.text()
    """What was written new."""
    finish = columns.text(nullable=True)
    """Why the answer ended: see ``FINISH_REASONS``."""
    prompt_tokens = columns.count()
    """The cached ones included."""
    cached_prompt_tokens = columns.count()
    completion_tokens = columns.count()
    sum_logprob = columns.Float64(nullable=True)
    """Of the sampled tokens, in nats."""
    value = columns.Float64(nullable=True)
    """The score, or the sum of log-probs of a text whose likelihood was asked; of a text that a search by tokens found
    the reward predicted for its last token."""
    values = columns.List(columns.Float64(nullable=True), nullable=True)
    """Scores of the steps, or log-probs of the tokens. Of a search by tokens, whose row has what all of it took:
    predictions of rewards, tokens that a model of rewards read, tokens computed, texts found; of each of these (its
    ``parent_call`` is the search): how many tokens it has."""
    reasoning = columns.text(nullable=True)
    """What the model thought, where the engine tells it apart."""
    tool_calls = columns.tools()
    """The tools it called, as a JSON list in OpenAI's words."""
    stop = columns.text(nullable=True)
    """The stop string that ended it."""
    status = columns.one_of(("ok", "error"))
    """``ok`` or ``error``."""
    error = columns.text(nullable=True)
    """What the server, engine or tool said, where the call was refused."""
    run_id = columns.text()


class Episode(Contract):
    """One run of a strategy for one problem (collect.episodes)."""

    added = frozenset({"roles"})

    problem_key = columns.String(primary_key=True)
    episode = columns.key(minimum=0)
    problem_id = columns.text()
    strategy = columns.text()
    """The strategy's name."""
    rows = columns.count()
    """Sample rows that it gave."""
    finals = columns.count()
    """Those with a text."""
    chosen = columns.count(nullable=True)
    """``sample_index`` of the row that it stands for; null where it found nothing."""
    ended_by = columns.one_of(ENDINGS)
    """Why it ended: see ``ENDINGS``."""
    oracle = columns.Bool(nullable=False)
    """Whether it looked at the answer: an upper bound, not a method."""
    calls = columns.count()
    """Calls of all roles."""
    prompt_tokens = columns.count()
    """Read by all generating calls, the cached ones included."""
    cached_prompt_tokens = columns.count()
    completion_tokens = columns.count()
    """Written by all calls, also in paths that were given up."""
    scorer_passes = columns.count()
    """Texts that scorers were asked about."""
    scorer_tokens = columns.count()
    """Tokens that scorers read."""
    lineages = columns.count()
    """Distinct ancestors of the first step among the finals: 1 means that all paths share it."""
    distinct_texts = columns.count()
    """Rows with texts that no row before them has."""
    note = columns.json_object(nullable=False)
    """Numbers that the strategy noted."""
    roles = columns.json_object(nullable=True)
    """What was paid to the engine of each role: tokens read (the cached and the scored ones included), of these the
    cached ones, and tokens written; null of episodes that didn't tell."""


class Navigator(Contract):
    """A trained navigator of the strategy rlot, one row a layer (train.navigator)."""

    layer = columns.String(primary_key=True)
    """Which layer of the network."""
    values = columns.List(columns.Float64(nullable=False), nullable=False)
    """The layer's matrix, inputs by outputs in row-major order, and its biases behind it."""
    note = columns.json_object(nullable=False)


class EpisodeMeasure(Contract):
    """What episodes of a strategy came to and took, in long form: one row a measure (measure.episodes)."""

    strategy = columns.String(primary_key=True)
    """The strategy's name."""
    metric = columns.String(primary_key=True)
    value = columns.Float64(nullable=True)
    low = columns.Float64(nullable=True)
    """``low`` to ``high``: 95% interval for problems like these."""
    high = columns.Float64(nullable=True)
    same_low = columns.Float64(nullable=True)
    """``same_low`` to ``same_high``: 95% interval for these very problems, had they more episodes."""
    same_high = columns.Float64(nullable=True)
    n = columns.count()
    """Episodes it is about."""
    n_problems = columns.count()
    note = columns.text()


class EqualBill(Contract):
    """A strategy's accuracy beside that of plain sampling at an equal bill (measure.equal_bill)."""

    arm = columns.String(primary_key=True)
    """The strategy's name in the comparison."""
    unit = columns.String(primary_key=True)
    """Of the bill: ``completion_tokens``, ``tokens`` (read and written, by all roles), ``scorer_passes`` or
    ``dollars``."""
    method = columns.String(primary_key=True)
    """Of plain sampling: ``majority``, ``rpc``, ``best_of_n``, or ``coverage`` (some sample is right); beside arms that
    stop by what came out, ``until_right`` or ``until_agreed``: plain sampling that stops by the same rule."""
    n_equal = columns.Float64(nullable=True, min=0.0)
    """N*: plain samples that cost what an episode does; where plain sampling stops by itself, the most it draws."""
    bill = columns.Float64(nullable=True, min=0.0)
    """Of an episode, on average; null where a price isn't known."""
    accuracy = columns.share()
    """Of what episodes chose; for ``coverage``, how often some row of theirs is right."""
    baseline = columns.share(nullable=True)
    """Of plain sampling at N*."""
    difference = columns.Float64(nullable=True, min=-1.0, max=1.0)
    """Its accuracy less plain sampling's."""
    low = columns.Float64(nullable=True)
    """``low`` to ``high``: 95% interval of the difference, on problems like these."""
    high = columns.Float64(nullable=True)
    n_problems = columns.count()
    note = columns.text()


class PlainCurve(Contract):
    """Plain sampling against its bill: the curve beside which searches stand (measure.plain_curve)."""

    unit = columns.String(primary_key=True)
    """Of the bill, as in ``EqualBill``."""
    method = columns.String(primary_key=True)
    """As in ``EqualBill``."""
    n = columns.key()
    """Samples of each problem; where sampling stops by itself, the most."""
    bill = columns.Float64(nullable=False, min=0.0)
    """Of these samples of a problem, on average."""
    accuracy = columns.share()
    """For ``coverage``, how often some sample is right."""
    low = columns.share()
    """``low`` to ``high``: 95% interval, for problems like these."""
    high = columns.share()
    n_problems = columns.count()


class ScorerSteps(Contract):
    """How well a scorer's values of unfinished texts tell right ones from wrong ones (measure.scorer_steps)."""

    scorer = columns.String(primary_key=True)
    """Whose scores."""
    reduce = columns.String(primary_key=True)
    """What is made of the steps' scores: the ``last`` one, or the ``min`` of them."""
    depth = columns.String(primary_key=True)
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
