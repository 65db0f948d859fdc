"""The datasets that flow between stages, one row contract each (a public interface: names and dtypes).

All integers are 64-bit signed; `nullable=True` columns may be absent from a user's own table.
"""

from __future__ import annotations

import dataframely as dy
import polars as pl

from schemas.contract import Contract
from schemas.conversation import MORE
from schemas.measures import MEASURES
from schemas.studies import STUDIES

SCHEMA_VERSION = 1
"""Raised by hand when a contract changes; a newer major is a new store."""

SAMPLE_STATUS = ("ok", "error", "none")
"""``none``: a strategy gave no text for this row of its episode."""
FINISH_REASONS = ("stop", "length", "stop_string", "cut", "error", "cap", "unfinished", "none", "refusal")
"""``stop``: the model's own end; ``stop_string``: one of ``stop``; ``length``: ``max_tokens``; ``cut``: somebody else's
end (a confidence cut, a word of the server's that isn't known); ``error``: the request was refused; ``cap``: the
episode's cap; ``unfinished``: a search ended before it; ``none``: there is no text; ``refusal``: the server marked the
text as the model's refusal to answer."""
CALL_KINDS = ("generate", "score", "likelihood", "tool", "verdict")
ENDINGS = ("done", "max_steps", "cap", "first_right", "agreed", "nothing")
"""Why an episode ended."""
CALIBRATION = ("calibrated", "uncalibrated")
VERDICT_STATUS = ("ok", "unparseable", "timeout", "error", "skipped")


def _key(minimum: int | None = None) -> dy.Int64:
    return dy.Int64(primary_key=True, min=minimum)


def _text(nullable: bool = False) -> dy.String:
    return dy.String(nullable=nullable)


def _one_of(values: tuple[str, ...]) -> dy.String:
    return dy.String(nullable=False, regex=f"^({'|'.join(values)})$")


def _count(nullable: bool = False) -> dy.Int64:
    return dy.Int64(nullable=nullable, min=0)


def _share(nullable: bool = False) -> dy.Float64:
    return dy.Float64(nullable=nullable, min=0.0, max=1.0)


def _json(nullable: bool = True) -> dy.String:
    """A UTF-8 string that holds a JSON object."""
    return dy.String(nullable=nullable, regex=r"^\{(.|\n)*\}$")


def _messages(nullable: bool = False) -> dy.List:
    """Turns, as ``schemas.conversation`` says."""
    said = {"role": dy.String(nullable=False), "content": dy.String(nullable=False)}
    more = {name: dy.String(nullable=True) for name in MORE}
    return dy.List(dy.Struct({**said, **more}, nullable=False), nullable=nullable)


def _tools() -> dy.String:
    """A JSON list, in OpenAI's words, of the tools that a conversation may call, or of what an answer calls."""
    return dy.String(nullable=True, regex=r"^\[(.|\n)*\]$")


SAMPLE_KEY = ["problem_key", "sample_index"]
"""What a sample is known by, in every dataset that is about samples."""
EPISODE = frozenset({"episode", "chosen"})
"""What rows about samples copy from them, so that what counts draws can tell which rows are some
(``operators.draws``)."""


class Problem(Contract):
    """One thing to solve."""

    added = frozenset({"tools", "prompt_key"})

    problem_key = dy.String(primary_key=True)
    problem_id = _text()
    prompt = _text()
    messages = _messages(nullable=True)
    tools = _tools()
    answer = _text(nullable=True)
    task_type = _text()
    verification = _json()
    metadata = _json()
    prompt_key = _text(nullable=True)
    """A hash of what the model reads (prompt, messages, tools), whatever the answer is said to be."""

    @dy.rule()
    def problem_id_is_unique(cls) -> pl.Expr:
        return pl.col("problem_id").is_unique()


class Sample(Contract):
    """One completion for one problem."""

    added = frozenset(
        {
            *("tool_calls", "bottom_group_confidence", "mean_confidence", "thought_open"),
            *("episode", "slot", "chosen", "search_score", "lineage", "turns", "episode_facts", "tokens_estimated"),
        }
    )

    problem_key = dy.String(primary_key=True)
    sample_index = _key(minimum=0)
    problem_id = _text()
    completion = _text()
    reasoning = _text(nullable=True)
    tool_calls = _tools()
    completion_hash = dy.Int64(nullable=False)
    status = _one_of(SAMPLE_STATUS)
    finish_reason = _one_of(FINISH_REASONS)
    prompt_tokens = _count()
    cached_prompt_tokens = _count()
    completion_tokens = _count()
    sum_logprob = dy.Float64(nullable=True)
    mean_logprob = dy.Float64(nullable=True)
    lowest_group_confidence = dy.Float32(nullable=True)
    tail_confidence = dy.Float32(nullable=True)
    bottom_group_confidence = dy.Float32(nullable=True)
    mean_confidence = dy.Float32(nullable=True)
    seed = dy.Int64(nullable=False)
    worker = _text(nullable=True)
    run_id = _text()
    error = _text(nullable=True)
    thought_open = dy.Bool(nullable=True)
    """Whether the prompt ended inside a thought that its template, or the beginning of the completion, had opened."""
    tokens_estimated = dy.Bool(nullable=True)
    """Whether its tokens aren't the engine's own count, but the most that they can be."""
    episode = _count(nullable=True)
    """Of a strategy's rows: which run of it for this problem the row is from. Rows of one aren't independent draws."""
    slot = _count(nullable=True)
    """Its place in the episode: ``sample_index`` is episode x rows of an episode + slot."""
    chosen = dy.Bool(nullable=True)
    """Whether it is the one row that the episode stands for."""
    search_score = dy.Float64(nullable=True)
    """What the strategy's own scorer said of it; a search picks what its scorer likes, so this is no measure of it."""
    lineage = _count(nullable=True)
    """Slot of its ancestor of the search's first step."""
    turns = _messages(nullable=True)
    """All that was said behind the problem, where the row is more than one completion: tools and what they said,
    revisions."""
    episode_facts = _json()
    """In the episode's first row: how it ended and what it took (``episodes`` are made of these)."""


class Call(Contract):
    """One answer to one call that an episode made. A call was asked again where it is there in a later attempt."""

    index = "episode"
    repeats = True

    problem_key = dy.String(primary_key=True)
    episode = _key(minimum=0)
    call = dy.String(primary_key=True)
    """Its path: branches, number of the group, slot: ``0.3``, ``chain2/1.0``; ``:k`` behind it is its k-th completion.
    Of scores ``s/`` and the digest: the same text is scored once."""
    attempt = _key(minimum=0)
    parent_call = _text(nullable=True)
    """The call whose text comes before this one's."""
    branch = _text()
    role = _text()
    kind = _one_of(CALL_KINDS)
    digest = _text()
    """Of what was asked: role, kind, prompt, beginning, parameters, n and seed."""
    seed = dy.Int64(nullable=True)
    prompt_hash = _text()
    lead = _text()
    """What stands between the parent's text and this one's, or before this one's where it has no parent."""
    prefix_length = _count()
    """Characters of the completion that were given, or of the text that was scored."""
    text = _text()
    """What was written new."""
    finish = _text(nullable=True)
    prompt_tokens = _count()
    """The cached ones included."""
    cached_prompt_tokens = _count()
    completion_tokens = _count()
    sum_logprob = dy.Float64(nullable=True)
    """Of the sampled tokens, in nats."""
    value = dy.Float64(nullable=True)
    """The score, or the sum of log-probs of a text whose likelihood was asked."""
    values = dy.List(dy.Float64(nullable=True), nullable=True)
    """Scores of the steps, or log-probs of the tokens."""
    reasoning = _text(nullable=True)
    tool_calls = _tools()
    stop = _text(nullable=True)
    """The stop string that ended it."""
    status = _one_of(("ok", "error"))
    error = _text(nullable=True)
    run_id = _text()


class Episode(Contract):
    """One run of a strategy for one problem (collect.episodes)."""

    added = frozenset({"roles"})

    problem_key = dy.String(primary_key=True)
    episode = _key(minimum=0)
    problem_id = _text()
    strategy = _text()
    rows = _count()
    """Sample rows that it gave."""
    finals = _count()
    """Those with a text."""
    chosen = _count(nullable=True)
    """``sample_index`` of the row that it stands for; null where it found nothing."""
    ended_by = _one_of(ENDINGS)
    oracle = dy.Bool(nullable=False)
    """Whether it looked at the answer: an upper bound, not a method."""
    calls = _count()
    prompt_tokens = _count()
    """Read by all generating calls, the cached ones included."""
    cached_prompt_tokens = _count()
    completion_tokens = _count()
    """Written by all calls, also in paths that were given up."""
    scorer_passes = _count()
    scorer_tokens = _count()
    lineages = _count()
    """Distinct ancestors of the first step among the finals: 1 means that all paths share it."""
    distinct_texts = _count()
    note = _json(nullable=False)
    """Numbers that the strategy noted."""
    roles = _json(nullable=True)
    """What was paid to the engine of each role: tokens read (the cached and the scored ones included), of these the
    cached ones, and tokens written; null of episodes that didn't tell."""


class Verdict(Contract):
    """What one verifier says of one sample. `answer_key` is canonical and depends on this answer alone."""

    added = EPISODE

    problem_key = dy.String(primary_key=True)
    sample_index = _key(minimum=0)
    verifier = dy.String(primary_key=True)
    problem_id = _text()
    predicted_answer = _text(nullable=True)
    answer_key = _text(nullable=True)
    is_correct = dy.Bool(nullable=True)
    credit = dy.Float64(nullable=True, min=0.0, max=1.0)
    status = _one_of(VERDICT_STATUS)
    detail = _text(nullable=True)
    seconds = dy.Float32(nullable=False, min=0.0)
    episode = _count(nullable=True)
    """The sample's, as ``chosen`` is."""
    chosen = dy.Bool(nullable=True)


class Score(Contract):
    """What one reward model or likelihood says of one sample."""

    added = EPISODE

    problem_key = dy.String(primary_key=True)
    sample_index = _key(minimum=0)
    scorer = dy.String(primary_key=True)
    problem_id = _text()
    score = dy.Float64(nullable=True)
    step_scores = dy.List(dy.Float32(nullable=True), nullable=True)
    status = _text()
    detail = _text(nullable=True)
    episode = _count(nullable=True)
    """The sample's, as ``chosen`` is."""
    chosen = dy.Bool(nullable=True)


class Path(Contract):
    """A sample's weight after pruning, with the reason where it was dropped."""

    problem_key = dy.String(primary_key=True)
    sample_index = _key(minimum=0)
    problem_id = _text()
    weight = dy.Float64(nullable=False, min=0.0)
    kept = dy.Bool(nullable=False)
    reason = _text(nullable=True)


class Answer(Contract):
    """The answer one selection method gives to one problem."""

    added = frozenset({"confidence_low", "confidence_high", "calibration"})

    problem_key = dy.String(primary_key=True)
    method = dy.String(primary_key=True)
    problem_id = _text()
    answer = _text(nullable=True)
    answer_class = dy.Int64(nullable=True)
    confidence = dy.Float64(nullable=False, min=0.0, max=1.0)
    n_samples = _count()
    runner_up = _text(nullable=True)
    runner_up_confidence = dy.Float64(nullable=True, min=0.0, max=1.0)
    is_correct = dy.Bool(nullable=True)
    confidence_low = dy.Float64(nullable=True, min=0.0, max=1.0)
    confidence_high = dy.Float64(nullable=True, min=0.0, max=1.0)
    """95% interval of how often answers of this confidence are right, where it was fitted to known answers."""
    calibration = dy.String(nullable=True, regex=f"^({'|'.join(CALIBRATION)})$")
    """Of methods whose confidence is the chance of a model: whether it was fitted to known answers. Null of others."""


class Sft(Contract):
    """One supervised fine-tuning row."""

    added = frozenset({"tools"})

    problem_key = dy.String(primary_key=True)
    sample_index = _key(minimum=0)
    problem_id = _text()
    messages = _messages()
    tools = _tools()
    completion_tokens = _count()
    score = dy.Float64(nullable=True)
    lineage = _json(nullable=False)


class Preference(Contract):
    """One preference pair (DPO, SimPO): a right and a wrong completion of the same problem."""

    added = frozenset({"tools"})

    problem_id = _text()
    prompt = _messages()
    tools = _tools()
    chosen = _messages()
    rejected = _messages()
    margin = dy.Float64(nullable=True)
    lineage = _json(nullable=False)


class StepReward(Contract):
    """One trace with a label per step, in the layout TRL's PRMTrainer reads."""

    problem_id = _text()
    sample_index = dy.Int64(nullable=False, min=0)
    prompt = _text()
    completions = dy.List(dy.String(nullable=False), nullable=False)
    labels = dy.List(dy.Bool(nullable=False), nullable=False)

    @dy.rule()
    def one_label_per_step(cls) -> pl.Expr:
        return pl.col("completions").list.len() == pl.col("labels").list.len()


class Allocation(Contract):
    """One decision of a sampling policy, written before it is dispatched: ``count`` samples of one problem.

    ``worst_tokens`` and ``worst_microdollars`` are what each of them may take at most, ``value`` what one was thought
    to gain, and ``observed_through`` how many outcomes were known then.

    A row with ``count`` 0 and ``reason`` "rule" says by what rule a problem is sampled from ``first_index`` on. Every
    run under a policy begins with one for each of its problems, and measures go by them (``measure.pass_at_k``).
    """

    added = frozenset({"rule", "hints"})

    sequence = _key(minimum=0)
    stage = dy.String(primary_key=True)
    problem_key = _text()
    first_index = _count()
    count = _count()
    worst_tokens = _count()
    worst_microdollars = _count()
    observed_through = dy.Int64(nullable=False, min=-1)
    value = dy.Float64(nullable=False)
    shadow_price = dy.Float64(nullable=True)
    reason = _text()
    rule = _json(nullable=True)
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

    sequence = _key(minimum=0)
    kind = _one_of(("credit", "bill", "return", "lost"))
    stage = _text()
    role = _text()
    """What the engine is to the stage: ``policy`` samples, ``scorer`` is asked about samples."""
    samples = _count()
    """Those that the calls brought."""
    calls = _count()
    prompt_tokens = _count()
    """The cached ones included."""
    cached_prompt_tokens = _count()
    completion_tokens = _count()
    passes = _count()
    """Texts that were scored."""
    credit_samples = _count()
    credit_tokens = _count()
    credit_microdollars = _count()


class LedgerEntry(Contract):
    """What was spent (``settle``) or counts as spent (``orphan``), in integer micro-dollars."""

    added = frozenset({"role", "calls", "passes"})

    sequence = _key(minimum=0)
    run_id = dy.String(primary_key=True)
    time = dy.Datetime(nullable=False, time_unit="us", time_zone="UTC")
    kind = _one_of(("settle", "orphan"))
    stage = _text()
    engine = _text()
    samples = _count()
    prompt_tokens = _count()
    cached_prompt_tokens = _count()
    completion_tokens = _count()
    engine_seconds = dy.Float64(nullable=False, min=0.0)
    gpu_seconds = dy.Float64(nullable=False, min=0.0)
    microdollars = _count()
    role = _text(nullable=True)
    """What the engine is to the stage (``Payment``)."""
    calls = _count(nullable=True)
    passes = _count(nullable=True)


class ExpertCount(Contract):
    """How many tokens one expert of one layer served on one night."""

    model = dy.String(primary_key=True)
    revision = dy.String(primary_key=True)
    quantization = dy.String(primary_key=True)
    """How the weights are stored, as the engine was told; empty where their own configuration says it."""
    job_class = dy.String(primary_key=True)
    night = dy.Date(primary_key=True)
    layer = _key(minimum=0)
    expert = _key(minimum=0)
    tokens = _count()


class Routing(Contract):
    """Which experts one layer chose for one token of a completion: from an engine that tells."""

    problem_key = dy.String(primary_key=True)
    sample_index = _key(minimum=0)
    position = _key(minimum=0)
    layer = _key(minimum=0)
    token = _text()
    experts = dy.List(dy.Int64(nullable=False, min=0), nullable=False)


class ExpertRelevance(Contract):
    """How closely an expert goes with tokens that mark reasoning (measure.rice)."""

    layer = _key(minimum=0)
    expert = _key(minimum=0)
    npmi = dy.Float64(nullable=False, min=-1.0, max=1.0)
    """The mean over the markers that occur."""
    rank = dy.Int64(nullable=False, min=1)
    weight = dy.Float64(nullable=False, min=0.0)
    """What its routing weight is multiplied with."""
    tokens = _count()
    """Tokens that it was chosen for."""


class PassAtK(Contract):
    """Coverage at k with 95% intervals (measure.pass_at_k)."""

    added = frozenset({"same_low", "same_high", "least", "most"})

    k = _key(minimum=1)
    coverage = dy.Float64(nullable=False, min=0.0, max=1.0)
    low = dy.Float64(nullable=False, min=0.0, max=1.0)
    """``low`` to ``high``: what the mean over many problems like these may be."""
    high = dy.Float64(nullable=False, min=0.0, max=1.0)
    same_low = _share(nullable=True)
    """``same_low`` to ``same_high``: what endless sampling of these very problems may find. Narrower, since the choice
    of problems isn't in it."""
    same_high = _share(nullable=True)
    least = _share(nullable=True)
    """Where some problem has fewer than k samples: coverage if all samples that weren't drawn had failed."""
    most = _share(nullable=True)
    """The same if all of them were right."""
    n_problems = _count()
    note = _text()


class Forecast(Contract):
    """Coverage to be expected at k samples, by several methods (measure.forecast)."""

    model = dy.String(primary_key=True)
    """Which model the row is about; empty where there is only one."""
    k = _key(minimum=1)
    method = dy.String(primary_key=True)
    coverage = _share()
    low = _share()
    high = _share()
    saturation = dy.Int64(nullable=True, min=0)
    """``ttspm``: samples from which one more adds next to nothing."""
    n_problems = _count()
    note = _text()


class SelectionAccuracy(Contract):
    """Accuracy of a selection method when it sees n samples a problem (measure.selection).

    `accuracy` is the mean over `subsets` random subsets, `first_n` that of the first n samples.
    """

    added = frozenset({"first_n", "subsets", "n_problems"})

    n = _key(minimum=1)
    method = dy.String(primary_key=True)
    accuracy = dy.Float64(nullable=False, min=0.0, max=1.0)
    low = dy.Float64(nullable=False, min=0.0, max=1.0)
    """``low`` to ``high``: what the accuracy over many problems like these may be."""
    high = dy.Float64(nullable=False, min=0.0, max=1.0)
    first_n = dy.Float64(nullable=True, min=0.0, max=1.0)
    subsets = dy.Int64(nullable=True, min=1)
    n_problems = dy.Int64(nullable=True, min=1)


class Calibration(Contract):
    """How well a selection method's confidence predicts that it is right (measure.calibration)."""

    added = frozenset({"rmsce", "rmsce_low", "rmsce_high"})

    method = dy.String(primary_key=True)
    n = _count()
    confidence = _share()
    accuracy = _share()
    accuracy_low = _share()
    accuracy_high = _share()
    ece = _share()
    """The mean absolute gap of the bins; chance makes it too large, so it has no interval."""
    ece_low = dy.Float64(nullable=True, min=0.0, max=1.0)
    ece_high = dy.Float64(nullable=True, min=0.0, max=1.0)
    """Null but in results of versions before 2, whose interval didn't hold."""
    brier = _share()
    brier_low = _share()
    brier_high = _share()
    bins = dy.List(
        dy.Struct(
            {
                "low": dy.Float64(nullable=False),
                "high": dy.Float64(nullable=False),
                "n": dy.Int64(nullable=False),
                "confidence": dy.Float64(nullable=True),
                "accuracy": dy.Float64(nullable=True),
            },
            nullable=False,
        ),
        nullable=False,
    )
    """The reliability table: one entry for each bin of confidence (low, high]."""
    rmsce = dy.Float64(nullable=True, min=0.0, max=1.0)
    rmsce_low = dy.Float64(nullable=True, min=0.0, max=1.0)
    rmsce_high = dy.Float64(nullable=True, min=0.0, max=1.0)
    """The root of the bins' mean squared gap, less what chance adds to it, with its 95% interval."""


class Multiplicity(Contract):
    """How many answers hang on the choice among nearly equal methods, in long form (measure.multiplicity)."""

    metric = dy.String(primary_key=True)
    method = dy.String(primary_key=True)
    value = dy.Float64(nullable=True)
    low = dy.Float64(nullable=True)
    high = dy.Float64(nullable=True)
    n = _count()
    """Problems it is about."""
    note = _text()


class VerifierAudit(Contract):
    """How far a verifier can be trusted, in long form: one row a measure (measure.verifier_audit)."""

    metric = dy.String(primary_key=True)
    k = _key(minimum=0)
    """Tries, for ``metric = "value"``; else 0."""
    prior = dy.String(primary_key=True)
    """Beta prior of completeness and soundness, where one was used; else ""."""
    value = dy.Float64(nullable=True)
    low = dy.Float64(nullable=True)
    high = dy.Float64(nullable=True)
    n = _count()
    """Samples it is about."""
    note = _text()


class Navigator(Contract):
    """A trained navigator of the strategy rlot, one row a layer (train.navigator)."""

    layer = dy.String(primary_key=True)
    values = dy.List(dy.Float64(nullable=False), nullable=False)
    """The layer's matrix, inputs by outputs in row-major order, and its biases behind it."""
    note = _json(nullable=False)


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
    n = _count()
    """Episodes it is about."""
    n_problems = _count()
    note = _text()


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
    accuracy = _share()
    """Of what episodes chose; for ``coverage``, how often some row of theirs is right."""
    baseline = _share(nullable=True)
    """Of plain sampling at N*."""
    difference = dy.Float64(nullable=True, min=-1.0, max=1.0)
    low = dy.Float64(nullable=True)
    """``low`` to ``high``: 95% interval of the difference, on problems like these."""
    high = dy.Float64(nullable=True)
    n_problems = _count()
    note = _text()


class PlainCurve(Contract):
    """Plain sampling against its bill: the curve beside which searches stand (measure.plain_curve)."""

    unit = dy.String(primary_key=True)
    """Of the bill, as in ``EqualBill``."""
    method = dy.String(primary_key=True)
    """As in ``EqualBill``."""
    n = _key()
    """Samples of each problem; where sampling stops by itself, the most."""
    bill = dy.Float64(nullable=False, min=0.0)
    """Of these samples of a problem, on average."""
    accuracy = _share()
    """For ``coverage``, how often some sample is right."""
    low = _share()
    """``low`` to ``high``: 95% interval, for problems like these."""
    high = _share()
    n_problems = _count()


class ScorerSteps(Contract):
    """How well a scorer's values of unfinished texts tell right ones from wrong ones (measure.scorer_steps)."""

    scorer = dy.String(primary_key=True)
    reduce = dy.String(primary_key=True)
    """What is made of the steps' scores: the ``last`` one, or the ``min`` of them."""
    depth = dy.String(primary_key=True)
    """Where in their texts the prefixes end: ``first``, ``middle`` or ``last`` third, or ``all``."""
    auc = _share(nullable=True)
    """The chance that a prefix of a right text has a larger value than one of a wrong text; null without both kinds."""
    low = _share(nullable=True)
    high = _share(nullable=True)
    within = _share(nullable=True)
    """The same among prefixes of one problem, which is what a search compares."""
    n = _count()
    """Prefixes."""
    n_problems = _count()
    note = _text()


STORES: dict[type[Contract], str] = {Sample: "samples", Call: "calls", Verdict: "verdicts", Score: "scores"}
"""Contracts whose rows are append-only facts, and the folder of their stores; all others become snapshots."""

SAMPLES_FOLDER = STORES[Sample]
CALLS_FOLDER = STORES[Call]

DATASETS: dict[str, type[Contract]] = {
    "problems": Problem,
    "samples": Sample,
    "verdicts": Verdict,
    "scores": Score,
    "calls": Call,
    "episodes": Episode,
    "paths": Path,
    "answers": Answer,
    "sft": Sft,
    "preferences": Preference,
    "step_rewards": StepReward,
    "allocations": Allocation,
    "payments": Payment,
    "ledger": LedgerEntry,
    "expert_counts": ExpertCount,
    "routing": Routing,
    "expert_relevance": ExpertRelevance,
    "pass_at_k": PassAtK,
    "forecast": Forecast,
    "selection_accuracy": SelectionAccuracy,
    "calibration": Calibration,
    "multiplicity": Multiplicity,
    "verifier_audit": VerifierAudit,
    **MEASURES,
    **STUDIES,
    "navigator": Navigator,
    "episode_measures": EpisodeMeasure,
    "equal_bill": EqualBill,
    "plain_curve": PlainCurve,
    "scorer_steps": ScorerSteps,
}
"""Dataset names, as inputs of operators and manifests use them."""


def dataset_name(contract: type[Contract]) -> str:
    """Return the dataset name of a contract; a user's own contract is known by its class name."""
    return next((name for name, known in DATASETS.items() if known is contract), contract.__name__)
