"""Accuracy from expensive verdicts on a part of the samples, sharpened by what is cheap to know of all of them."""

from __future__ import annotations

import json
from typing import Any, ClassVar

from operators.draws import draws
from operators.measure.counts import DRAWN
from operators.measure.labels import with_chances
from operators.numeric.control_variates import Expectation, Sampled, estimate
from operators.piecewise import PiecewiseOperator
from operators.select.classes import one_verifier
from schemas.contract import polars_schema
from schemas.datasets import SAMPLE_KEY, Problem, Sample, Score, Verdict
from schemas.errors import BadInput
from schemas.later import Bools, Floats, np, pl
from schemas.measures import Estimate, Label

LEAST = 20
"""Judged samples that a group must have."""
UNSEEN = 0.025
"""What may be as likely as this, and not be seen: one side of an interval."""
LENGTHS = ("short", "medium", "long")
SHARES = (1 / 3, 2 / 3)
AGREEMENTS = ("rare", "common")
VERDICT = Verdict.select(*SAMPLE_KEY, "verifier", "predicted_answer", "answer_key", "is_correct", "status")


class MeasureEstimate(PiecewiseOperator):
    """Estimate several accuracies at once from the same judged samples, with control variates.

    ``verdicts`` are the expensive ones, on a part of the samples that was chosen by lot (samples, or whole problems).
    Where it was chosen by something else, ``labels`` say how, and each counts by the inverse of its probability. What
    is cheap and known of all samples explains a part of the verdicts, and what it explains adds nothing to the error:

    * of ``samples``: mean log-prob, length, whether it was cut off;
    * of ``cheap``, another verifier's verdicts: whether they accept, and how frequent the answer is in its problem;
    * of ``scores``: every scorer's score.

    Intervals are 95%, Student's (exact ones where all that were judged are right, or all wrong); how they are made, and
    why cheap scores that say nothing cost nothing, is said in ``operators.numeric.control_variates``. ``gain`` is what
    the scores are worth. A group needs 20 judged samples.
    """

    version: ClassVar[int] = 2
    inputs = {
        "samples": Sample.select(*SAMPLE_KEY, "mean_logprob", "completion_tokens", "finish_reason", "status", "chosen"),
        "verdicts": VERDICT,
        "labels": Label.select(),
        "cheap": VERDICT,
        "scores": Score.select(*SAMPLE_KEY, "scorer", "score"),
        "problems": Problem.select("problem_key", "task_type", "metadata"),
    }
    optional = frozenset({"verdicts", "labels", "cheap", "scores", "problems"})
    asks = "measure.next_labels"
    output = Estimate

    by: tuple[str, ...] = ()
    """Estimate groups of samples too: by ``length`` (thirds of the completions), ``agreement`` (the answer's frequency,
    below or above half), ``task_type``, or a field of the problems' metadata, such as ``level``."""
    seed: int = 0
    """Seed of how problems are shared out among the folds."""

    def partial(self, samples: pl.DataFrame | None = None, **others: pl.DataFrame | None) -> pl.DataFrame:
        """Return a row per sample: its key, y, chance (null where it wasn't judged), cheap features and groups."""
        assert samples is not None
        drawn = draws(samples).filter(pl.col("status") == "ok")
        table = drawn.select(
            *SAMPLE_KEY,
            f_likelihood=pl.col("mean_logprob"),
            f_length=(pl.col("completion_tokens") + 1).cast(pl.Float64).log(),
            f_cut=(pl.col("finish_reason") == "length").cast(pl.Float64),
            tokens=pl.col("completion_tokens"),
        )
        cheap, scores, problems = (others.get(name) for name in ("cheap", "scores", "problems"))
        none = pl.lit(None, pl.Float64)
        table = table.join(_cheap(cheap), on=SAMPLE_KEY, how="left") if cheap is not None else table.with_columns(
            f_accepted=none, f_frequency=none, f_silent=none
        )  # fmt: skip
        said = (
            pl.DataFrame(schema={**dict.fromkeys(SAMPLE_KEY), "scored": _scored()})
            if scores is None
            else _listed(scores)
        )
        said = said.cast({"problem_key": pl.String, "sample_index": pl.Int64})
        table = table.join(said, on=SAMPLE_KEY, how="left").join(self._judged(others), on=SAMPLE_KEY, how="left")
        return table.join(self._about(table, problems), on="problem_key", how="left")

    def _judged(self, tables: dict[str, pl.DataFrame | None]) -> pl.DataFrame:
        """Return y of the judged samples; chance is null where nobody said."""
        labels, verdicts = tables.get("labels"), tables.get("verdicts")
        if labels is not None:  # how large a stratum is is known of the whole only
            given = labels.filter(pl.col("is_correct").is_not_null()).unique(SAMPLE_KEY, keep="last")
            return given.select(*SAMPLE_KEY, "stratum", "stratum_size", y=pl.col("is_correct").cast(pl.Float64))
        if verdicts is None:
            raise BadInput("measure.estimate needs 'verdicts' or 'labels' of some of the samples")
        known = one_verifier(verdicts).filter(pl.col("status").is_in(DRAWN), pl.col("is_correct").is_not_null())
        nothing = {"stratum": pl.lit(None, pl.String), "stratum_size": pl.lit(None, pl.Int64)}
        return known.select(*SAMPLE_KEY, **nothing, y=pl.col("is_correct").cast(pl.Float64))

    def _about(self, table: pl.DataFrame, problems: pl.DataFrame | None) -> pl.DataFrame:
        """Return what groups a problem is in, as ``field=value``, by problem."""
        keys = table.select(pl.col("problem_key").unique())
        fields = [name for name in self.by if name not in ("length", "agreement")]
        if problems is None or not fields:
            return keys.with_columns(groups=pl.lit([], pl.List(pl.String)))
        found: dict[str, list[str]] = {}
        for key, task_type, text in problems.iter_rows():
            known: dict[str, Any] = {**json.loads(text or "{}"), "task_type": task_type}
            found[key] = [f"{name}={known[name]}" for name in fields if known.get(name) is not None]
        said = pl.DataFrame({"problem_key": list(found), "groups": list(found.values())},
                            schema={"problem_key": pl.String, "groups": pl.List(pl.String)})  # fmt: skip
        return keys.join(said, on="problem_key", how="left").with_columns(pl.col("groups").fill_null([]))

    def merge(self, partials: pl.DataFrame) -> pl.DataFrame:
        """Return one row per expectation.

        Raises:
            BadInput: too few samples were judged, or there is no such group.
        """
        table = partials.sort(SAMPLE_KEY)
        judged = table["y"].is_not_null().to_numpy()
        if judged.sum() < LEAST:
            raise BadInput(f"measure.estimate: {judged.sum()} samples were judged; an interval needs at least {LEAST}")
        sampled = self._sampled(table, judged)
        groups = self._groups(table)
        enough = {name: rows for name, rows in groups.items() if (rows & judged).sum() >= LEAST}
        found = estimate(sampled, np.stack(list(enough.values()), axis=1), self.seed)
        how = "whole problems were judged" if sampled.whole else "samples were judged one by one"
        lacking = [name for name in groups if name not in enough]
        few = f"; too few judged of {', '.join(lacking)}" if lacking else ""
        rows = [_row(name, one, f"{how}{few}") for name, one in zip(enough, found, strict=True)]
        return pl.DataFrame(rows, schema=polars_schema(Estimate), orient="row")

    def _sampled(self, table: pl.DataFrame, judged: Bools) -> Sampled:
        problem = table["problem_key"].rank("dense").to_numpy().astype(np.int64) - 1
        size, known = np.bincount(problem), np.bincount(problem, judged)
        asked = table.filter(pl.col("stratum").is_not_null())
        chance = np.full(len(table), judged.mean())
        whole = bool(((known == 0) | (known == size)).all()) and bool((size > 1).any()) and asked.is_empty()
        if whole:
            chance = np.full(len(table), (known > 0).mean())
        if len(asked):
            given = asked.select(*SAMPLE_KEY, "stratum", "stratum_size", is_correct=pl.col("y") > 0.5)
            said = table.select(SAMPLE_KEY).join(with_chances(given), on=SAMPLE_KEY, how="left", maintain_order="left")
            chance = said["chance"].fill_null(1.0).to_numpy()
        y = table["y"].fill_null(0.0).to_numpy()
        return Sampled(y, judged, chance, _features(table), problem, whole)

    def _groups(self, table: pl.DataFrame) -> dict[str, Bools]:
        found = {"all": np.ones(len(table), dtype=np.bool_)}
        if "length" in self.by:
            ends = [table["tokens"].quantile(share, "nearest") for share in SHARES]
            place = np.searchsorted(np.array(ends, dtype=np.float64), table["tokens"].to_numpy(), side="left")
            found |= {f"length={name}": place == number for number, name in enumerate(LENGTHS)}
        if "agreement" in self.by:
            often = table["f_frequency"].fill_null(0.0).to_numpy() > 0.5
            found |= {f"agreement={name}": often == bool(at) for at, name in enumerate(AGREEMENTS)}
        for name in table["groups"].explode().drop_nulls().unique().sort().to_list():
            found[name] = table["groups"].list.contains(name).to_numpy()
        lacking = [name for name in self.by if not any(group.startswith(f"{name}=") for group in found)]
        if lacking:
            raise BadInput(f"measure.estimate: no problem says its {', '.join(lacking)}; give 'problems' that do")
        return {name: rows for name, rows in found.items() if rows.any()}


def _scored() -> pl.List:
    """Return the dtype of what scorers say of a sample."""
    return pl.List(pl.Struct({"scorer": pl.String, "score": pl.Float64}))


def _cheap(cheap: pl.DataFrame) -> pl.DataFrame:
    """Return what another verifier's verdicts tell of each sample."""
    one = one_verifier(cheap)
    key = pl.coalesce("answer_key", "predicted_answer")
    same = pl.len().over("problem_key", key) / pl.len().over("problem_key")
    return one.select(
        *SAMPLE_KEY,
        f_accepted=pl.col("is_correct").cast(pl.Float64),
        f_frequency=pl.when(key.is_not_null()).then(same).otherwise(0.0),
        f_silent=key.is_null().cast(pl.Float64),
    )


def _listed(scores: pl.DataFrame) -> pl.DataFrame:
    rows = scores.sort(*SAMPLE_KEY, "scorer").group_by(SAMPLE_KEY, maintain_order=True)
    return rows.agg(scored=pl.struct("scorer", "score")).cast({"scored": _scored()})


def _features(table: pl.DataFrame) -> Floats:
    """Return the cheap features of all samples, and for each that some lack whether it is there."""
    columns = [table[name] for name in table.columns if name.startswith("f_")]
    rows = table.select("scored").with_row_index("row").explode("scored").unnest("scored").drop_nulls("scorer")
    for (scorer,), some in rows.sort("scorer", "row").group_by("scorer", maintain_order=True):
        wide = table.select(row=pl.int_range(pl.len(), dtype=pl.UInt32)).join(some, on="row", how="left")
        columns.append(wide.sort("row")["score"].alias(f"score_{scorer}"))
    found: list[Floats] = []
    for column in columns:
        finite = pl.when(column.is_finite()).then(column).otherwise(None)  # NaN says as little as nothing
        column = pl.select(finite).to_series()
        if column.null_count() == len(column):
            continue
        found.append(column.fill_null(float(column.mean() or 0.0)).to_numpy().astype(np.float64))  # type: ignore[arg-type]
        if column.null_count():
            found.append(column.is_null().cast(pl.Float64).to_numpy())
    return np.stack(found, axis=1) if found else np.zeros((len(table), 0))


def _row(name: str, found: Expectation, note: str) -> tuple[object, ...]:
    from scipy import stats as _stats  # pyright: ignore[reportMissingTypeStubs]: 30 MB, for one number

    stats: Any = _stats
    wide = found.error * float(stats.t.ppf(0.975, found.freedom))
    same_wide = found.same_error * float(stats.t.ppf(0.975, found.same_freedom))
    plain_wide = found.plain_error * float(stats.t.ppf(0.975, found.plain_freedom))
    if found.plain_error == 0.0:  # all are right, or all wrong: how many of the others may not be (Clopper and Pearson)
        wide = plain_wide = 1.0 - UNSEEN ** (1.0 / found.problems)
        same_wide = (1.0 - UNSEEN ** (1.0 / found.n)) * (1.0 - found.n / found.of)
    if found.problems < 2:  # one problem says nothing about others
        wide = plain_wide = 1.0
    spans = [(found.value, wide), (found.value, same_wide), (found.plain, plain_wide)]
    ends = [end for centre, off in spans for end in (centre - off, centre + off)]
    low, high, same_low, same_high, plain_low, plain_high = (float(np.clip(end, 0.0, 1.0)) for end in ends)
    gain = (found.plain_error / found.error) ** 2 if found.error > 0 and found.problems > 1 else 1.0
    same_gain = (found.plain_same_error / found.same_error) ** 2 if found.same_error > 0 else 1.0
    value = float(np.clip(found.value, 0.0, 1.0))
    middle = (found.plain, plain_low, plain_high, gain, same_gain, found.n * same_gain)
    return (name, value, low, high, same_low, same_high, *middle, found.n, found.of, note)
