"""What the verifiers share: from samples to predicted answers, from judgements per distinct answer back to rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from operators.base import Operator
from operators.verify.extract import NUMBER, Rule, extract_answers
from schemas.contract import complete
from schemas.datasets import EPISODE, SAMPLE_KEY, Sample, Verdict
from schemas.identity import digest
from schemas.later import pl

if TYPE_CHECKING:
    from operators.sandbox import Outcome

SAMPLES = Sample.select(
    "problem_key", "sample_index", "problem_id", "completion", "status", "thought_open", *sorted(EPISODE)
)
"""What verifiers read of samples. What they judge is what ``operators.thinking.answers_only`` leaves of it."""


def predicted(
    samples: pl.DataFrame,
    problems: pl.DataFrame,
    rules: Iterable[Rule],
    pattern: str | None = None,
    number: str = NUMBER,
) -> pl.DataFrame:
    """Return the samples with their problem's columns and a ``predicted_answer`` (null where none was found).

    Equal completions are searched once; failed samples have no answer.
    """
    texts = samples.filter(pl.col("status") == "ok").select("completion").unique()
    texts = texts.with_columns(predicted_answer=extract_answers(texts["completion"], rules, pattern, number))
    found = samples.join(texts, on="completion", how="left", maintain_order="left")
    found = found.with_columns(
        predicted_answer=pl.when(pl.col("status") == "ok").then(pl.col("predicted_answer")),
    )
    return found.join(problems, on="problem_key", how="left", maintain_order="left")


def join_answers(found: pl.DataFrame, keys: pl.DataFrame) -> pl.DataFrame:
    """Join a table of distinct answers (by ``predicted_answer``) to the rows that gave them."""
    return found.join(keys, on="predicted_answer", how="left", maintain_order="left")


def read_answers(samples: pl.DataFrame, texts: pl.DataFrame, golds: dict[str, str | None]) -> pl.DataFrame:
    """Return the samples with what was read in them, for verifiers whose answers are their own keys.

    Args:
        texts: completion, predicted_answer and what else tells completions apart (problem_key); each pair once.
        golds: problem_key -> expected answer.

    Returns:
        The samples with predicted_answer, answer (expected), answer_key and key_status.
    """
    expected = pl.DataFrame(
        {"problem_key": list(golds), "answer": list(golds.values())},
        schema={"problem_key": pl.String, "answer": pl.String},
    )
    on = [name for name in ("problem_key", "completion") if name in texts.columns]
    rows = samples.join(texts, on=on, how="left", maintain_order="left")
    rows = rows.with_columns(predicted_answer=pl.when(pl.col("status") == "ok").then("predicted_answer"))
    rows = rows.with_columns(answer_key="predicted_answer", key_status=pl.lit("ok"))
    return rows.join(expected, on="problem_key", how="left", maintain_order="left")


def verdicts(operator: Operator, found: pl.DataFrame, judged: pl.DataFrame, seconds: float) -> pl.DataFrame:
    """Return the verdicts of ``found``, from judgements per distinct (answer, answer_key).

    Args:
        found: samples with predicted_answer, answer (expected), answer_key and key_status.
        judged: answer, answer_key, is_correct, judged_status, detail; optionally credit.
        seconds: spent on all of them; each row carries its share.
    """
    rows = found.join(judged, on=["answer", "answer_key"], how="left", maintain_order="left")
    status = (
        pl.when(pl.col("status") != "ok")
        .then(pl.lit("skipped"))
        .when(pl.col("predicted_answer").is_null())
        .then(pl.lit("unparseable"))
        .otherwise(pl.coalesce("judged_status", "key_status"))
    )
    unparseable = (pl.col("status") == "ok") & pl.col("predicted_answer").is_null()
    known = pl.col("answer").is_not_null()
    rows = rows.with_columns(
        verifier=pl.lit(operator.public_name()),
        is_correct=pl.when(unparseable & known).then(False).otherwise(pl.col("is_correct")),
        credit=pl.col("credit") if "credit" in rows.columns else pl.lit(None, dtype=pl.Float64),
        status=status,
        seconds=pl.lit(seconds / max(1, len(rows)), dtype=pl.Float32),
    )
    return complete(rows, Verdict)


def of_episodes(verdicts: pl.DataFrame, samples: pl.DataFrame) -> pl.DataFrame:
    """Return verdicts with what the samples say of their episodes."""
    told = [name for name in sorted(EPISODE) if name in samples.columns]
    about = samples.select(*SAMPLE_KEY, *told)
    rows = verdicts.drop(EPISODE, strict=False).join(about, on=SAMPLE_KEY, how="left", maintain_order="left")
    return complete(rows, Verdict)


def candidates(samples: pl.DataFrame, extract: Callable[[str, str], str | None]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return what there is to run: each distinct completion's candidate, and each distinct candidate of a problem.

    Args:
        extract: (problem_key, completion) -> the candidate, None where there is none.

    Returns:
        (problem_key, completion, predicted_answer, answer_key), and the first row of each problem_key and answer_key.
    """
    texts = samples.filter(pl.col("status") == "ok").select("problem_key", "completion").unique(maintain_order=True)
    # a loop, since each candidate costs a process anyway
    found = [extract(key, text) for key, text in texts.iter_rows()]
    texts = texts.with_columns(
        predicted_answer=pl.Series(found, dtype=pl.String),
        answer_key=pl.Series([text and digest(text.strip())[:16] for text in found], dtype=pl.String),
    )
    known = texts.filter(pl.col("answer_key").is_not_null())
    return texts, known.unique(["problem_key", "answer_key"], keep="first", maintain_order=True)


def outcome_verdicts(
    operator: Operator,
    samples: pl.DataFrame,
    found: pl.DataFrame,
    distinct: pl.DataFrame,
    outcomes: Sequence[Outcome],
    seconds: float,
) -> pl.DataFrame:
    """Return the verdicts of programs that were run: passed is right, failed or too slow is wrong.

    Args:
        found: problem_key, completion, predicted_answer, answer_key (null: there was nothing to run).
        distinct: one row of ``found`` for each outcome, unique in problem_key and answer_key.
        seconds: spent on all of them; each row carries its share.
    """
    status = {"passed": "ok", "failed": "ok", "timeout": "timeout", "refused": "error"}
    passed = {"passed": True, "failed": False, "timeout": False, "refused": None}
    judged = distinct.select("problem_key", "answer_key").with_columns(
        is_correct=pl.Series([passed[o.status] for o in outcomes], dtype=pl.Boolean),
        judged_status=pl.Series([status[o.status] for o in outcomes], dtype=pl.String),
        detail=pl.Series([o.detail for o in outcomes], dtype=pl.String),
    )  # fmt: skip
    rows = samples.join(found, on=["problem_key", "completion"], how="left", maintain_order="left")
    rows = rows.join(judged, on=["problem_key", "answer_key"], how="left", maintain_order="left")
    ran, asked = pl.col("answer_key").is_not_null(), pl.col("status") == "ok"
    rows = rows.with_columns(
        verifier=pl.lit(operator.public_name()),
        is_correct=pl.when(asked & ~ran).then(False).otherwise(pl.col("is_correct")),
        status=pl.when(~asked)
        .then(pl.lit("skipped"))
        .when(~ran)
        .then(pl.lit("unparseable"))
        .otherwise("judged_status"),
        seconds=pl.lit(seconds / max(1, len(rows)), dtype=pl.Float32),
    )
    rows = rows.with_columns(credit=pl.col("is_correct").cast(pl.Float64))
    return complete(rows, Verdict)
