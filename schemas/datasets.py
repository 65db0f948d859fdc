"""The datasets that flow between stages, one row contract each (a public interface: names and dtypes).

All integers are 64-bit signed; `nullable=True` columns may be absent from a user's own table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from schemas import columns
from schemas.books import BOOKS
from schemas.contract import Contract
from schemas.episodes import EPISODES, Call
from schemas.experts import EXPERTS
from schemas.later import pl
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

    problem_key = columns.String(primary_key=True)
    problem_id = columns.text()
    prompt = columns.text()
    messages = columns.messages(nullable=True)
    """The prompt as a conversation, where it is one."""
    tools = columns.tools()
    """The tools that the conversation may call, as a JSON list in OpenAI's words."""
    answer = columns.text(nullable=True)
    """The expected answer, as the source has it."""
    task_type = columns.text()
    """What kind of task it is: which verifier judges it (``verify.by_task``), and by what a mixture counts."""
    verification = columns.json_object()
    """What a verifier needs beside the answer (tests, options, steps, a tolerance), as a JSON object."""
    metadata = columns.json_object()
    """Whatever else the source had, as a JSON object. Nothing here changes what the problem is."""
    prompt_key = columns.text(nullable=True)
    """A hash of what the model reads (prompt, messages, tools), whatever the answer is said to be."""

    @columns.rule()
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

    problem_key = columns.String(primary_key=True)
    sample_index = columns.key(minimum=0)
    problem_id = columns.text()
    completion = columns.text()
    """What the model wrote, without its reasoning where the engine tells the two apart."""
    reasoning = columns.text(nullable=True)
    """What it thought, where the engine tells it apart."""
    tool_calls = columns.tools()
    """The tools it called, as a JSON list in OpenAI's words."""
    completion_hash = columns.Int64(nullable=False)
    """xxh3_64 of the completion, by which equal texts are found."""
    status = columns.one_of(SAMPLE_STATUS)
    """``ok``, ``error`` (refused), or ``none`` (a strategy gave no text for this row)."""
    finish_reason = columns.one_of(FINISH_REASONS)
    """Why it ended: see ``FINISH_REASONS``."""
    prompt_tokens = columns.count()
    cached_prompt_tokens = columns.count()
    completion_tokens = columns.count()
    sum_logprob = columns.Float64(nullable=True)
    """The sum of the tokens' log-probs, in nats."""
    mean_logprob = columns.Float64(nullable=True)
    """The mean of the tokens' log-probs, in nats."""
    lowest_group_confidence = columns.Float32(nullable=True)
    """The least confidence of a group of tokens on end (DeepConf: Fu et al. 2025)."""
    tail_confidence = columns.Float32(nullable=True)
    """The confidence of the last group of tokens."""
    bottom_group_confidence = columns.Float32(nullable=True)
    """The mean confidence of the tenth of groups that have least."""
    mean_confidence = columns.Float32(nullable=True)
    """The mean confidence of all tokens."""
    seed = columns.Int64(nullable=False)
    """The engine's seed, made from the stage's seed, the problem and the index."""
    worker = columns.text(nullable=True)
    """The model that wrote it."""
    run_id = columns.text()
    error = columns.text(nullable=True)
    """What the server or engine said, where the request was refused."""
    thought_open = columns.Bool(nullable=True)
    """Whether the prompt ended inside a thought that its template, or the beginning of the completion, had opened."""
    tokens_estimated = columns.Bool(nullable=True)
    """Whether its tokens aren't the engine's own count, but the most that they can be."""
    episode = columns.count(nullable=True)
    """Of a strategy's rows: which run of it for this problem the row is from. Rows of one aren't independent draws."""
    slot = columns.count(nullable=True)
    """Its place in the episode: ``sample_index`` is episode x rows of an episode + slot."""
    chosen = columns.Bool(nullable=True)
    """Whether it is the one row that the episode stands for."""
    search_score = columns.Float64(nullable=True)
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

    problem_key = columns.String(primary_key=True)
    sample_index = columns.key(minimum=0)
    verifier = columns.String(primary_key=True)
    """The name of what gave it."""
    problem_id = columns.text()
    predicted_answer = columns.text(nullable=True)
    """The answer that was found in the completion."""
    answer_key = columns.text(nullable=True)
    """The answer in one canonical form: equal keys are equal answers. Null: there is no answer."""
    is_correct = columns.Bool(nullable=True)
    """Null where nobody can tell."""
    credit = columns.Float64(nullable=True, min=0.0, max=1.0)
    """From 0 to 1, where the verifier gives shares."""
    status = columns.one_of(VERDICT_STATUS)
    """``ok``; ``unparseable``: no answer was found; ``timeout``, ``error``: the verifier gave none; ``skipped``: it
    wasn't asked."""
    detail = columns.text(nullable=True)
    """More about the verdict, in the verifier's words."""
    seconds = columns.Float32(nullable=False, min=0.0)
    """How long it took."""
    episode = columns.count(nullable=True)
    """The episode of the sample, if a strategy drew it."""
    chosen = columns.Bool(nullable=True)


class Score(Contract):
    """What one reward model or likelihood says of one sample."""

    added = EPISODE

    problem_key = columns.String(primary_key=True)
    sample_index = columns.key(minimum=0)
    scorer = columns.String(primary_key=True)
    """The name of what gave it."""
    problem_id = columns.text()
    score = columns.Float64(nullable=True)
    """Higher is better; its scale is the scorer's."""
    step_scores = columns.List(columns.Float32(nullable=True), nullable=True)
    """A score for each step, where the scorer gives them."""
    status = columns.text()
    """``ok``, or ``error``: the scorer gave none."""
    detail = columns.text(nullable=True)
    """More about the score, in the scorer's words."""
    episode = columns.count(nullable=True)
    """The episode of the sample, if a strategy drew it."""
    chosen = columns.Bool(nullable=True)


class Path(Contract):
    """A sample's weight after pruning, with the reason where it was dropped."""

    problem_key = columns.String(primary_key=True)
    sample_index = columns.key(minimum=0)
    problem_id = columns.text()
    weight = columns.Float64(nullable=False, min=0.0)
    """Its weight in a vote; 0 if it was dropped."""
    kept = columns.Bool(nullable=False)
    """Whether it is kept."""
    reason = columns.text(nullable=True)
    """Why it was dropped."""


class Answer(Contract):
    """The answer one selection method gives to one problem."""

    added = frozenset({"confidence_low", "confidence_high", "calibration"})

    problem_key = columns.String(primary_key=True)
    method = columns.String(primary_key=True)
    problem_id = columns.text()
    answer = columns.text(nullable=True)
    """The answer, as a completion has it; null: none was given."""
    answer_class = columns.Int64(nullable=True)
    """The canonical form by which votes were counted."""
    confidence = columns.Float64(nullable=False, min=0.0, max=1.0)
    """How sure the method is, from 0 to 1."""
    n_samples = columns.count()
    """Samples that it looked at."""
    runner_up = columns.text(nullable=True)
    """The second best answer."""
    runner_up_confidence = columns.Float64(nullable=True, min=0.0, max=1.0)
    """How sure the method is of the runner-up."""
    is_correct = columns.Bool(nullable=True)
    """Whether a verifier accepts it; null where nobody can tell."""
    confidence_low = columns.Float64(nullable=True, min=0.0, max=1.0)
    """The lower end of the confidence's interval, where the method gives one."""
    confidence_high = columns.Float64(nullable=True, min=0.0, max=1.0)
    """95% interval of how often answers of this confidence are right, where it was fitted to known answers."""
    calibration = columns.String(nullable=True, regex=f"^({'|'.join(CALIBRATION)})$")
    """Of methods whose confidence is the chance of a model: whether it was fitted to known answers. Null of others."""


class Sft(Contract):
    """One supervised fine-tuning row."""

    added = frozenset({"tools"})

    problem_key = columns.String(primary_key=True)
    sample_index = columns.key(minimum=0)
    problem_id = columns.text()
    messages = columns.messages()
    """The conversation, the model's answer last."""
    tools = columns.tools()
    """The tools that the conversation may call, as a JSON list in OpenAI's words."""
    completion_tokens = columns.count()
    """Tokens of the answer."""
    score = columns.Float64(nullable=True)
    """Its score, where there was a scorer."""
    lineage = columns.json_object(nullable=False)
    """How the row came about, as a JSON object."""


class Preference(Contract):
    """One preference pair (DPO, SimPO): a right and a wrong completion of the same problem."""

    added = frozenset({"tools"})

    problem_id = columns.text()
    prompt = columns.messages()
    """The conversation up to the answer."""
    tools = columns.tools()
    """The tools that the conversation may call, as a JSON list in OpenAI's words."""
    chosen = columns.messages()
    """The better answer, as turns."""
    rejected = columns.messages()
    """The worse answer, as turns."""
    margin = columns.Float64(nullable=True)
    """By how much the scores, or mean log-probs, differ."""
    lineage = columns.json_object(nullable=False)
    """How the pair came about, as a JSON object."""


class StepReward(Contract):
    """One trace with a label per step, in the layout TRL's PRMTrainer reads."""

    problem_id = columns.text()
    sample_index = columns.Int64(nullable=False, min=0)
    prompt = columns.text()
    completions = columns.List(columns.String(nullable=False), nullable=False)
    """The steps."""
    labels = columns.List(columns.Bool(nullable=False), nullable=False)
    """Whether each step is good."""

    @columns.rule()
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
