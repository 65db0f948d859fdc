"""The datasets that flow between stages, one row contract each (a public interface: names and dtypes).

All integers are 64-bit signed; `nullable=True` columns may be absent from a user's own table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import dataframely as dy
import polars as pl

from schemas import columns
from schemas.books import BOOKS
from schemas.contract import Contract
from schemas.episodes import EPISODES, Call
from schemas.experts import EXPERTS
from schemas.measures import MEASURES
from schemas.moved import names
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
CALIBRATION = ("calibrated", "uncalibrated")
VERDICT_STATUS = ("ok", "unparseable", "timeout", "error", "skipped")

SAMPLE_KEY = ["problem_key", "sample_index"]
"""What a sample is known by, in every dataset that is about samples."""
EPISODE = frozenset({"episode", "chosen"})
"""What rows about samples copy from them, so that what counts draws can tell which rows are some
(``operators.draws``)."""


class Problem(Contract):
    """One thing to solve."""

    added = frozenset({"tools", "prompt_key"})

    problem_key = dy.String(primary_key=True)
    problem_id = columns.text()
    prompt = columns.text()
    messages = columns.messages(nullable=True)
    tools = columns.tools()
    answer = columns.text(nullable=True)
    task_type = columns.text()
    verification = columns.json_object()
    metadata = columns.json_object()
    prompt_key = columns.text(nullable=True)
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
    sample_index = columns.key(minimum=0)
    problem_id = columns.text()
    completion = columns.text()
    reasoning = columns.text(nullable=True)
    tool_calls = columns.tools()
    completion_hash = dy.Int64(nullable=False)
    status = columns.one_of(SAMPLE_STATUS)
    finish_reason = columns.one_of(FINISH_REASONS)
    prompt_tokens = columns.count()
    cached_prompt_tokens = columns.count()
    completion_tokens = columns.count()
    sum_logprob = dy.Float64(nullable=True)
    mean_logprob = dy.Float64(nullable=True)
    lowest_group_confidence = dy.Float32(nullable=True)
    tail_confidence = dy.Float32(nullable=True)
    bottom_group_confidence = dy.Float32(nullable=True)
    mean_confidence = dy.Float32(nullable=True)
    seed = dy.Int64(nullable=False)
    worker = columns.text(nullable=True)
    run_id = columns.text()
    error = columns.text(nullable=True)
    thought_open = dy.Bool(nullable=True)
    """Whether the prompt ended inside a thought that its template, or the beginning of the completion, had opened."""
    tokens_estimated = dy.Bool(nullable=True)
    """Whether its tokens aren't the engine's own count, but the most that they can be."""
    episode = columns.count(nullable=True)
    """Of a strategy's rows: which run of it for this problem the row is from. Rows of one aren't independent draws."""
    slot = columns.count(nullable=True)
    """Its place in the episode: ``sample_index`` is episode x rows of an episode + slot."""
    chosen = dy.Bool(nullable=True)
    """Whether it is the one row that the episode stands for."""
    search_score = dy.Float64(nullable=True)
    """What the strategy's own scorer said of it; a search picks what its scorer likes, so this is no measure of it."""
    lineage = columns.count(nullable=True)
    """Slot of its ancestor of the search's first step."""
    turns = columns.messages(nullable=True)
    """All that was said behind the problem, where the row is more than one completion: tools and what they said,
    revisions."""
    episode_facts = columns.json_object()
    """In the episode's first row: how it ended and what it took (``episodes`` are made of these)."""


class Verdict(Contract):
    """What one verifier says of one sample. `answer_key` is canonical and depends on this answer alone."""

    added = EPISODE

    problem_key = dy.String(primary_key=True)
    sample_index = columns.key(minimum=0)
    verifier = dy.String(primary_key=True)
    problem_id = columns.text()
    predicted_answer = columns.text(nullable=True)
    answer_key = columns.text(nullable=True)
    is_correct = dy.Bool(nullable=True)
    credit = dy.Float64(nullable=True, min=0.0, max=1.0)
    status = columns.one_of(VERDICT_STATUS)
    detail = columns.text(nullable=True)
    seconds = dy.Float32(nullable=False, min=0.0)
    episode = columns.count(nullable=True)
    """The sample's, as ``chosen`` is."""
    chosen = dy.Bool(nullable=True)


class Score(Contract):
    """What one reward model or likelihood says of one sample."""

    added = EPISODE

    problem_key = dy.String(primary_key=True)
    sample_index = columns.key(minimum=0)
    scorer = dy.String(primary_key=True)
    problem_id = columns.text()
    score = dy.Float64(nullable=True)
    step_scores = dy.List(dy.Float32(nullable=True), nullable=True)
    status = columns.text()
    detail = columns.text(nullable=True)
    episode = columns.count(nullable=True)
    """The sample's, as ``chosen`` is."""
    chosen = dy.Bool(nullable=True)


class Path(Contract):
    """A sample's weight after pruning, with the reason where it was dropped."""

    problem_key = dy.String(primary_key=True)
    sample_index = columns.key(minimum=0)
    problem_id = columns.text()
    weight = dy.Float64(nullable=False, min=0.0)
    kept = dy.Bool(nullable=False)
    reason = columns.text(nullable=True)


class Answer(Contract):
    """The answer one selection method gives to one problem."""

    added = frozenset({"confidence_low", "confidence_high", "calibration"})

    problem_key = dy.String(primary_key=True)
    method = dy.String(primary_key=True)
    problem_id = columns.text()
    answer = columns.text(nullable=True)
    answer_class = dy.Int64(nullable=True)
    confidence = dy.Float64(nullable=False, min=0.0, max=1.0)
    n_samples = columns.count()
    runner_up = columns.text(nullable=True)
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
    sample_index = columns.key(minimum=0)
    problem_id = columns.text()
    messages = columns.messages()
    tools = columns.tools()
    completion_tokens = columns.count()
    score = dy.Float64(nullable=True)
    lineage = columns.json_object(nullable=False)


class Preference(Contract):
    """One preference pair (DPO, SimPO): a right and a wrong completion of the same problem."""

    added = frozenset({"tools"})

    problem_id = columns.text()
    prompt = columns.messages()
    tools = columns.tools()
    chosen = columns.messages()
    rejected = columns.messages()
    margin = dy.Float64(nullable=True)
    lineage = columns.json_object(nullable=False)


class StepReward(Contract):
    """One trace with a label per step, in the layout TRL's PRMTrainer reads."""

    problem_id = columns.text()
    sample_index = dy.Int64(nullable=False, min=0)
    prompt = columns.text()
    completions = dy.List(dy.String(nullable=False), nullable=False)
    labels = dy.List(dy.Bool(nullable=False), nullable=False)

    @dy.rule()
    def one_label_per_step(cls) -> pl.Expr:
        return pl.col("completions").list.len() == pl.col("labels").list.len()


STORES: dict[type[Contract], str] = {Sample: "samples", Call: "calls", Verdict: "verdicts", Score: "scores"}
"""Contracts whose rows are append-only facts, and the folder of their stores; all others become snapshots."""

CONTRACTS: dict[str, type[Contract]] = {folder: contract for contract, folder in STORES.items()}
"""Folder of stores -> the contract of their rows."""

SAMPLES_FOLDER = STORES[Sample]
CALLS_FOLDER = STORES[Call]
ANSWERS_FOLDER = "answers"
"""What engines answered to work that isn't committed yet; a folder for each stage that asks."""

DATASETS: dict[str, type[Contract]] = {
    "problems": Problem,
    "samples": Sample,
    "verdicts": Verdict,
    "scores": Score,
    "paths": Path,
    "answers": Answer,
    "sft": Sft,
    "preferences": Preference,
    "step_rewards": StepReward,
    **EPISODES,
    **BOOKS,
    **EXPERTS,
    **MEASURES,
    **STUDIES,
}
"""Dataset names, as inputs of operators and manifests use them."""


def dataset_name(contract: type[Contract]) -> str:
    """Return the dataset name of a contract; a user's own contract is known by its class name."""
    return next((name for name, known in DATASETS.items() if known is contract), contract.__name__)


if not TYPE_CHECKING:  # to a type checker every name would be there
    __getattr__ = names(
        __name__, {one.__name__: one.__module__ for one in DATASETS.values() if one.__module__ != __name__}
    )
