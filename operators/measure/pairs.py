"""Second-order calibration: does a model know what it doesn't know?"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, ClassVar

from pydantic import Field

from operators.draws import draws
from operators.measure.intervals import ENDS
from operators.piecewise import PiecewiseOperator
from operators.select.classes import answer_key, classify, distinct_answers, in_n, one_verifier
from operators.transform.pairs import FIELD
from schemas.contract import polars_schema
from schemas.datasets import SAMPLE_KEY, Problem, Verdict
from schemas.errors import BadInput
from schemas.later import Bools, Floats, np, pl
from schemas.measures import PairCalibration

VERDICTS = Verdict.select(*SAMPLE_KEY, "verifier", "predicted_answer", "answer_key", "is_correct", "status", "chosen")


class MeasurePairs(PiecewiseOperator):
    """How much a model cheats when it is shown a first answer (Johnson et al. 2024, "Experts Don't Cheat").

    With p(y) the chance of an answer and p(y | y') that of a second one when y' was shown, a model that is calibrated
    for pairs has

        doubt = sum_y p(y) (p(y | y) - p(y)) = P(the second repeats the first) - P(two samples agree)

    as the variance of what it doesn't know of the true chances, given what it can tell apart (their V_cheat, summed
    over answers). It is 0 where the model knows them, however random answers are. Both chances are estimated without
    bias: ``repeat`` from second answers, each shown answer as often as it was given, ``collision`` from all pairs of
    first samples: sum c_y (c_y - 1) / (n (n - 1)). A doubt well below 0 says that being asked for a second answer
    changes what the model says at all: the template doesn't suit it, and nothing can be concluded.

    ``doubt`` has a row per problem and one for the mean (problems drawn with replacement; of one problem first and
    second answers are). ``auc``: the chance that a problem whose majority is wrong has more of it than one whose
    majority is right, for ``doubt``, the answers' ``entropy``, and their ``agreement`` (less of it).
    """

    version: ClassVar[int] = 1
    inputs = {
        "verdicts": VERDICTS,
        "pairs": Problem.select("problem_key", "metadata"),
        "second": VERDICTS,
    }
    output = PairCalibration

    bootstrap: int = Field(default=1000, ge=100)
    """How many times problems are drawn anew for the intervals."""
    seed: int = 0
    """Of the random draws: the same seed, the same intervals."""

    def partial(
        self,
        verdicts: pl.DataFrame | None = None,
        pairs: pl.DataFrame | None = None,
        second: pl.DataFrame | None = None,
    ) -> pl.DataFrame:
        """Return ``kind``, problem, answer and counts: of first samples, or of second answers and repetitions."""
        found = [pl.DataFrame(schema=_partial())]
        if verdicts is not None and len(verdicts):
            rows = draws(one_verifier(verdicts))
            classes = classify(distinct_answers(rows)).select("problem_key", "answer_key", "answer_class")
            voted = rows.filter(in_n()).with_columns(answer_key(rows.columns))
            voted = voted.join(classes, on=["problem_key", "answer_key"], how="left")
            counts = voted.group_by("problem_key", pl.col("answer_class").cast(pl.String).alias("answer")).agg(
                n=pl.len().cast(pl.Int64), right=pl.col("is_correct").max()
            )
            found.append(counts.with_columns(kind=pl.lit("first")))
        if pairs is not None and second is not None and len(pairs):
            shown = [json.loads(text or "{}").get(FIELD) for text in pairs["metadata"]]
            about = pl.DataFrame(
                [
                    (key, one["of"], one["first"], one["times"])
                    for key, one in zip(pairs["problem_key"], shown, strict=True)
                    if one
                ],
                schema={"problem_key": pl.String, "of": pl.String, "first": pl.String, "times": pl.Int64},
                orient="row",
            )
            rows = draws(one_verifier(second))
            said = rows.filter(in_n()).with_columns(key=answer_key(rows.columns)).join(about, on="problem_key")
            again = (pl.col("key") == pl.col("first")).fill_null(False)
            counts = said.group_by("of", "first").agg(
                n=pl.len().cast(pl.Int64), same=again.sum().cast(pl.Int64), times=pl.col("times").first()
            )
            found.append(counts.rename({"of": "problem_key", "first": "answer"}).with_columns(kind=pl.lit("second")))
        return pl.concat(found, how="diagonal").select(list(_partial()))

    def merge(self, partials: pl.DataFrame) -> pl.DataFrame:
        """Return one row per metric and name.

        Raises:
            BadInput: no problem has two first samples and a second answer.
        """
        first = partials.filter(kind="first").sort("problem_key", "answer", nulls_last=True)
        second = partials.filter(kind="second").sort("problem_key", "answer")
        both = sorted(set(first["problem_key"]) & set(second["problem_key"]))
        firsts = {str(key): rows for (key,), rows in first.group_by("problem_key")}
        seconds = {str(key): rows for (key,), rows in second.group_by("problem_key")}
        problems = [_Problem(key, firsts[key], seconds[key]) for key in both if firsts[key]["n"].sum() > 1]
        if not problems:
            raise BadInput("measure.pairs: no problem has both two first samples and a second answer to one shown")
        rng = np.random.default_rng(self.seed)
        rows = [*self._doubts(problems, rng), *self._aucs(problems, rng)]
        return pl.DataFrame(rows, schema=polars_schema(PairCalibration), orient="row")

    def _doubts(self, problems: list[_Problem], rng: np.random.Generator) -> Iterator[tuple[object, ...]]:
        for one in problems:
            low, high = np.quantile(one.draws(self.bootstrap, rng), ENDS).tolist()
            yield ("doubt", one.key, one.repeat - one.collision, low, high, 1, one.asked)
        asked = sum(one.asked for one in problems)
        chosen = rng.integers(0, len(problems), (self.bootstrap, len(problems)))
        for metric in ("repeat", "collision", "doubt"):
            each = np.array([one.figure(metric) for one in problems])
            low, high = np.quantile(each[chosen].mean(axis=1), ENDS).tolist()
            yield (metric, "", float(each.mean()), low, high, len(problems), asked)

    def _aucs(self, problems: list[_Problem], rng: np.random.Generator) -> Iterator[tuple[object, ...]]:
        known = [one for one in problems if one.right is not None]
        wrong = np.array([not one.right for one in known])
        if not wrong.any() or wrong.all():
            return
        asked = sum(one.asked for one in known)
        chosen = rng.integers(0, len(known), (self.bootstrap, len(known)))
        for name in ("doubt", "entropy", "agreement"):
            score = np.array([one.figure(name) for one in known]) * (-1.0 if name == "agreement" else 1.0)
            drawn = [auc(score[some], wrong[some]) for some in chosen if 0 < wrong[some].sum() < len(some)]
            low, high = np.quantile(drawn, ENDS).tolist() if drawn else (None, None)
            yield ("auc", name, auc(score, wrong), low, high, len(known), asked)


def _partial() -> dict[str, Any]:
    """Return the dtypes of its columns."""
    return {
        **{"kind": pl.String(), "problem_key": pl.String(), "answer": pl.String(), "n": pl.Int64()},
        **{"right": pl.Boolean(), "same": pl.Int64(), "times": pl.Int64()},
    }


class _Problem:
    """One problem's first samples and second answers.

    Attributes:
        repeat, collision: the estimates.
        entropy: of the answers, in nats; agreement: the share of the most frequent one.
        right: whether the most frequent answer is right; None where nobody knows.
        asked: second answers.
    """

    def __init__(self, key: str, first: pl.DataFrame, second: pl.DataFrame) -> None:
        self.key = key
        votes = first.filter(pl.col("answer").is_not_null())
        self._total = int(first["n"].sum())
        self._counts = votes["n"].to_numpy().astype(np.float64)
        self._n, self._same, self._times = (
            second[name].to_numpy().astype(np.float64) for name in ("n", "same", "times")
        )
        self.asked = int(self._n.sum())
        self.repeat = float(self._times @ (self._same / self._n)) / float(self._times.sum())
        self.collision = float((self._counts * (self._counts - 1)).sum()) / (self._total * (self._total - 1))
        share = self._counts / self._total
        self.entropy = float(-(share * np.log(share)).sum())
        self.agreement = float(share.max(initial=0.0))
        lead = votes.sort("n", "answer", descending=[True, False])
        self.right: bool | None = lead["right"][0] if len(lead) else False

    def figure(self, name: str) -> float:
        """Return a figure by its name."""
        return self.repeat - self.collision if name == "doubt" else float(getattr(self, name))

    def draws(self, count: int, rng: np.random.Generator) -> Floats:
        """Return draws of doubt: first answers with replacement, and second ones given each that was shown."""
        silent = self._total - self._counts.sum()
        chances = np.append(self._counts, silent) / self._total
        counts = rng.multinomial(self._total, chances, count)[:, :-1].astype(np.float64)
        # drawn again, samples meet themselves: of all pairs 1/n more
        collision = (counts * (counts - 1)).sum(axis=1) / (self._total * (self._total - 1))
        collision += self.collision - float((chances[:-1] ** 2).sum())
        rates = rng.beta(self._same + 0.5, self._n - self._same + 0.5, (count, len(self._n)))
        shown = rng.multinomial(int(self._times.sum()), self._times / self._times.sum(), count)
        return (shown * rates).sum(axis=1) / self._times.sum() - collision


def auc(score: Floats, positive: Bools) -> float:
    """Return the chance that a positive one has the larger score, ties counting half (Mann and Whitney 1947)."""
    order = np.argsort(score, kind="stable")
    ranks = np.empty(len(score))
    ranks[order] = np.arange(1, len(score) + 1)
    _, where, times = np.unique(score, return_inverse=True, return_counts=True)
    mean = np.bincount(where, ranks) / times
    ones = int(positive.sum())
    return float((mean[where][positive].sum() - ones * (ones + 1) / 2) / (ones * (len(score) - ones)))
