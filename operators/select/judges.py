"""Bayesian aggregation of judges: what several fallible verifiers, taken together, say about a problem's answers."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from operators.select.calibrated import LABELS, Fitted, calibrated, usable
from operators.select.classes import answer_key, class_votes, classify, distinct_answers, one_verifier
from operators.select.selection import VERDICTS, as_answers, plain_vote, problems_of, rank
from schemas.datasets import SAMPLE_KEY
from schemas.errors import BadInput
from schemas.later import Floats, Ints, np, pl, special

ROUNDS, CLOSE = 500, 1e-10
RECURS, RECURS_SHARE = 20, 0.1
"""An answer that so many problems have, and such a share of them, is one that judges may have habits about."""


class SelectJudges(Fitted):
    """Pick each problem's most probably right answer, given the verdicts of several verifiers.

    A Bayesian Dawid-Skene model ("Judging LLMs on a Simplex" says why judges can't be ranked without priors). At most
    one answer class of a problem is right; before any verdict that is class c with probability proportional to its
    votes, or none at all, how often being learnt. Judge j says yes to a right answer with its completeness, no to a
    wrong one with its soundness; both have Beta priors. What a judge says about the samples of one class is one
    observation, the mean: ten thousand verdicts on the same answer aren't independent. Posteriors are found by
    variational inference, over all problems together. Where answers recur in many problems (letters, yes or no), judges
    may have habits, that is rates of their own for each: one who always says yes to "A" tells nothing by it. That is
    taken to be so where more known answers come out right then, or, with fewer than 50 of them, where it makes the
    verdicts likelier.

    Confidence is the posterior probability. ``reference`` names a verifier that isn't a judge, whose verdicts say what
    is right in ``is_correct``, of all problems or of some. With 50 such problems or more confidences are fitted to
    them, and judges who do worse than the plain vote aren't listened to (``operators.select.calibrated``). With fewer
    the posterior stays as it is, marked as ``uncalibrated``: judges err on the same problems, so it is often near 1
    where accuracy isn't.
    """

    version: ClassVar[int] = 2
    scope = "dataset"
    inputs = {"verdicts": VERDICTS}

    completeness: tuple[float, float] = (4.0, 1.0)
    """Beta prior of P(yes | right)."""
    soundness: tuple[float, float] = (4.0, 1.0)
    """Beta prior of P(no | wrong)."""
    vote_weight: float = Field(default=1.0, ge=0.0)
    """Exponent of a class's votes in its prior; 0: all classes alike."""
    reference: str = ""
    """A verifier that is no judge: where it gives a verdict, that is what is right; empty: there is none."""

    def run(self, verdicts: pl.LazyFrame) -> pl.DataFrame:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return one row per problem of ``verdicts``.

        Raises:
            BadInput: no verdicts of judges, or no verifier of the name ``reference``.
        """
        table = verdicts.lazy().collect(engine="streaming")
        names: list[str] = table["verifier"].unique().sort().to_list()
        if self.reference and self.reference not in names:
            raise BadInput(f"select.judges: reference = '{self.reference}' is none of the verifiers {names}")
        judges = [name for name in names if name != self.reference]
        if not judges and len(table):
            raise BadInput(f"select.judges: the only verifier is the reference, '{self.reference}'")
        main = self._main(table)
        classes = class_votes(main).sort("problem_key", "answer_class")
        keys = classify(distinct_answers(main)).select("problem_key", "answer_key", "answer_class")
        of = main.select(*SAMPLE_KEY, answer_key(main.columns)).join(keys, on=["problem_key", "answer_key"])
        said = (
            table.filter(pl.col("verifier").is_in(judges) & pl.col("is_correct").is_not_null())
            .join(of.drop("answer_key"), on=SAMPLE_KEY)
            .group_by("problem_key", "answer_class", "verifier")
            .agg(pl.col("is_correct").mean().alias("yes"))
        )
        often = pl.max_horizontal(pl.lit(RECURS), pl.col("problem_key").n_unique() * RECURS_SHARE)
        recurs = pl.when(pl.len().over("answer") >= often).then("answer")
        numbered = classes.with_row_index("row").select("row", "problem_key", "answer_class", recurs.alias("habit"))
        said = said.join(numbered, on=["problem_key", "answer_class"]).sort("row", "verifier")
        problems = problems_of(main, pl.lit(1.0).alias("total"))
        found: list[tuple[pl.DataFrame, float]] = []
        for weights, evidence in self._posteriors(classes, said):
            ranked = rank(problems, classes.with_columns(weight=pl.Series(weights, dtype=pl.Float64)))
            answers = as_answers(ranked, self.method, pl.col("weight"), pl.col("runner_up_weight"))
            found.append((answers, evidence))
        if not self.reference or usable(found[0][0], self.holdout).sum() < LABELS:
            return max(found, key=lambda fit: fit[1])[0].with_columns(calibration=pl.lit("uncalibrated"))
        best = max((answers for answers, _ in found), key=self._right)
        return calibrated(best, plain_vote(main, self.method), self.holdout)

    def _right(self, answers: pl.DataFrame) -> int:
        return int(answers.filter(usable(answers, self.holdout))["is_correct"].sum())

    def _main(self, verdicts: pl.DataFrame) -> pl.DataFrame:
        """Return one row per sample; with a reference, correct is what it says, and unknown where it says nothing."""
        if not self.reference:
            return one_verifier(verdicts)
        says = pl.col("verifier") == self.reference
        return (
            verdicts.with_columns(pl.when(says).then("is_correct"), judge=~says)
            .sort(*SAMPLE_KEY, "judge", "verifier")
            .unique(SAMPLE_KEY, keep="first", maintain_order=True)
            .drop("judge")
        )

    def _posteriors(self, classes: pl.DataFrame, said: pl.DataFrame) -> list[tuple[Floats, float]]:
        """Return what classes' probabilities are if judges have no habits, and if they have, each with its evidence."""
        if classes.is_empty():
            return [(np.zeros(0), 0.0)]
        problem = classes["problem_key"].rank("dense").to_numpy().astype(np.int64) - 1
        votes = classes["votes"].to_numpy().astype(np.float64) ** self.vote_weight
        prior = votes / np.bincount(problem, weights=votes)[problem]
        row, yes = said["row"].to_numpy().astype(np.int64), said["yes"].to_numpy()
        return [
            posterior(problem, prior, row, judge, yes, self.completeness, self.soundness)
            for judge in (_numbered(said, "verifier"), _numbered(said, "verifier", "habit"))
        ]


def _numbered(said: pl.DataFrame, *names: str) -> Ints:
    """Number the rows by what they have in some columns."""
    return said.select(pl.struct(names).rank("dense").alias("number"))["number"].to_numpy().astype(np.int64) - 1


def posterior(
    problem: Ints,
    prior: Floats,
    row: Ints,
    judge: Ints,
    yes: Floats,
    completeness: tuple[float, float],
    soundness: tuple[float, float],
) -> tuple[Floats, float]:
    """Return the probability that each class is its problem's right answer, shape [classes], and a lower bound on the
    observations' log-likelihood (but for what is common to all numberings of judges).

    Args:
        problem: of each class, ascending from 0.
        prior: of each class, given that one of its problem's is right.
        row, judge, yes: what was observed: the class, the judge, and the share of yes.
        completeness, soundness: Beta priors.
    """
    judges = int(judge.max(initial=-1)) + 1
    right = prior / 2

    def beta(weight: Floats, hits: Floats, base: tuple[float, float]) -> tuple[Floats, Floats, float]:
        """Return E[ln s] and E[ln (1 - s)] of each judge's Beta posterior, and how far these are from their priors."""
        hit = np.bincount(judge, weights=weight * hits, minlength=judges)
        miss = np.bincount(judge, weights=weight * (1 - hits), minlength=judges)
        both = special.digamma(base[0] + hit + base[1] + miss)
        yes_, no_ = special.digamma(base[0] + hit) - both, special.digamma(base[1] + miss) - both
        apart = special.betaln(*base) - special.betaln(base[0] + hit, base[1] + miss) + hit * yes_ + miss * no_
        return yes_, no_, float(apart.sum())

    evidence = -np.inf

    for step in range(ROUNDS):
        # judges are first taken as the prior has them: begun with the votes, popular wrong answers would teach which
        # judge is good
        known = float(step > 0)
        log_yes_right, log_no_right, apart = beta(known * right[row], yes, completeness)
        log_no_wrong, log_yes_wrong, apart_wrong = beta(known * (1 - right[row]), 1 - yes, soundness)
        gain = yes * (log_yes_right - log_yes_wrong)[judge] + (1 - yes) * (log_no_right - log_no_wrong)[judge]
        solved = np.bincount(problem, weights=right)
        some, none = float(special.digamma(1 + solved.sum())), float(special.digamma(1 + (1 - solved).sum()))
        score: Floats = np.log(prior) + some + np.bincount(row, weights=gain, minlength=len(prior))
        peak = np.maximum(np.maximum.reduceat(score, np.flatnonzero(np.diff(problem, prepend=-1))), none)
        mass = np.exp(score - peak[problem])
        total = np.bincount(problem, weights=mass) + np.exp(none - peak)
        new = mass / total[problem]
        if_wrong = yes * log_yes_wrong[judge] + (1 - yes) * log_no_wrong[judge]
        evidence = float((np.log(total) + peak).sum() + if_wrong.sum()) - apart - apart_wrong
        close = np.abs(new - right).max() < CLOSE
        right = new
        if close:
            break
    return right, evidence
