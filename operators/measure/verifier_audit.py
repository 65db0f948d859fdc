"""An audit of a verifier by a stronger one: how often it errs, and what its errors do to numbers and to resampling."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import Field

from operators.base import Operator
from operators.draws import draws
from operators.measure.flaws import best_tries, ceiling, reward, tasks
from operators.measure.intervals import ENDS
from operators.measure.labels import KINDS, kinds_of, with_chances
from operators.measure.pass_at_k import powers_of_two
from operators.select.classes import one_verifier
from schemas.contract import polars_schema
from schemas.datasets import SAMPLE_KEY, Verdict
from schemas.errors import BadInput
from schemas.later import Floats, Ints, np, pl
from schemas.measures import Label, VerifierAudit

PRIORS = ((1.0, 1.0), (0.5, 0.5), (4.0, 1.0))
"""Beta priors of completeness and soundness: uniform, Jeffreys', and one that expects a good verifier."""


Counted = Ints | Floats
"""Samples, or what they stand for."""


class MeasureVerifierAudit(Operator):
    """Estimate completeness P(accepted | right) and soundness P(rejected | wrong) of ``verdicts`` by ``reference``.

    The reference may know a part of the samples only (choose it at random). In its place may come ``labels`` that
    people gave to what ``--next`` asked for: each counts for as many samples as it stands for. Rows:

    * ``completeness``, ``soundness``, ``precision`` (P(right | accepted) of one draw): on what both judged.
    * ``accuracy_judged``: the verifier's own word on all its samples; ``accuracy_corrected``: what it means, given its
      errors (Rogan and Gladen 1978), with Beta priors on completeness and soundness (``PRIORS``; one row each, to show
      how much they matter).
    * ``ceiling``: P(right | accepted) when a problem is drawn until something is accepted: what no amount of
      resampling passes (Stroebl et al. 2024); problems are the types of tasks there, each with its own success rate.
    * ``best_tries`` (K*) and ``value``, rows at K = 1, 2, 4, ...: the expected value R(K) with ``value_correct`` for a
      right answer and ``value_wrong`` for a wrong one.

    95% intervals are about problems like these, not about these alone. Samples of one problem are alike, in how often
    they are right and in how often the verifier errs, so problems are what is weighed: Dirichlet(1, ..., 1) over them
    and one more that wasn't seen, with as many samples as they have on average (none or all of which are such, for the
    low and the high end of a share; drawn from the prior, for the corrected accuracy).
    """

    version: ClassVar[int] = 3
    scope = "dataset"
    inputs = {
        "verdicts": Verdict.select("problem_key", "sample_index", "verifier", "is_correct", "chosen"),
        "reference": Verdict.select("problem_key", "sample_index", "verifier", "is_correct"),
        "labels": Label.select(),
    }
    optional = frozenset({"reference", "labels"})
    output = VerifierAudit
    asks = "measure.next_labels"

    value_correct: float = 1.0
    """What an accepted answer that is right is worth, in the unit of ``value_wrong``."""
    value_wrong: Annotated[float, Field(le=0.0)] = -1.0
    """What a wrong answer that was accepted costs."""
    tries: int = Field(default=1000, ge=1)
    """The largest K that is looked at."""
    bootstrap: int = Field(default=2000, ge=100)
    """Draws that intervals are made of."""
    seed: int = 0
    """Of the random draws: the same seed, the same intervals."""

    def run(
        self, verdicts: pl.LazyFrame, reference: pl.LazyFrame | None = None, labels: pl.LazyFrame | None = None
    ) -> pl.DataFrame:
        """Return the audit.

        Raises:
            BadInput: no sample was judged by both, or the reference says that none is right, or none wrong.
        """
        judged = draws(one_verifier(verdicts)).filter(pl.col("is_correct").is_not_null())
        own = judged.select(*SAMPLE_KEY, accepted="is_correct")
        both = own.join(_known(reference, labels), on=SAMPLE_KEY).collect(engine="streaming")
        if both.is_empty():
            raise BadInput(
                "measure.verifier_audit: no sample was judged by both; 'verdicts' and 'reference' (or 'labels') have "
                "to share problem_key and sample_index"
            )
        # together they count for as many as there are, however unequal
        both = both.with_columns(weight=pl.col("weight") / pl.col("weight").mean())
        counts = _counts(both)
        if not counts[:, :2].any() or not counts[:, 2:].any():
            missing = "right" if not counts[:, :2].any() else "wrong"
            raise BadInput(f"measure.verifier_audit: of {len(both)} samples that both judged the reference calls none "
                           f"{missing}; completeness and soundness need both kinds")  # fmt: skip
        rng = np.random.default_rng(self.seed)
        said, judged_counts = _all(own, both)
        if labels is None:
            rows = [*self._errors(counts, rng), *self._accuracy(said, judged_counts, rng)]
        else:
            rows = self._labelled(both, said, rng)
        rows += self._resampling(counts)
        schema = polars_schema(VerifierAudit)
        return pl.DataFrame(rows, schema=schema, orient="row")

    def _errors(self, counts: Floats, rng: np.random.Generator) -> list[tuple[object, ...]]:
        weights = rng.standard_exponential((self.bootstrap, len(counts) + 1))
        names = {"completeness": (0, 0, 1), "soundness": (3, 2, 3), "precision": (0, 0, 2)}
        note = f"on problems like these {len(counts)}"
        rows: list[tuple[object, ...]] = []
        for name, (top, one, other) in names.items():
            of = counts[:, one] + counts[:, other]
            total = float(of.sum())
            low, high = _share(counts[:, top], of, weights) if total else (None, None)
            value = float(counts[:, top].sum()) / total if total else None
            rows.append((name, 0, "", value, low, high, round(total), note))
        return rows

    def _labelled(self, both: pl.DataFrame, said: Ints, rng: np.random.Generator) -> list[tuple[object, ...]]:
        """Return errors and accuracy by labels that were asked for, stratum by stratum.

        Args:
            said: how many samples of each problem the verifier accepted, and how many there are, [problems, 2].
        """
        weights = rng.standard_exponential((self.bootstrap, len(said)))
        weights /= weights.mean(axis=1, keepdims=True)
        sides = np.stack([said[:, 0], said[:, 1] - said[:, 0]], axis=1).astype(np.float64)
        totals = np.concatenate([sides.sum(axis=0)[None], weights @ sides])
        value, drawn = kinds_of(both, totals[:, 0], totals[:, 1], rng)
        note = f"{len(both):,} labels in {both['stratum'].n_unique()} strata, of problems like these {len(said)}"
        yes, n = said.sum(axis=0).tolist()
        judged = np.quantile(totals[1:, 0] / totals[1:].sum(axis=1), ENDS).tolist()
        rows: list[tuple[object, ...]] = [
            ("accuracy_judged", 0, "", yes / n, *judged, n, f"of problems like these {len(said)}; as the verifier says")
        ]
        of = {"completeness": (0, (0, 1)), "soundness": (3, (2, 3)), "precision": (0, (0, 2))}
        for name, (top, all_of) in of.items():
            whole, drawn_whole = float(value[list(all_of)].sum()), drawn[:, all_of].sum(axis=1)
            drawn_share = drawn[drawn_whole > 0, top] / drawn_whole[drawn_whole > 0]
            share = float(value[top]) / whole if whole > 0 else None
            # where all or none of few are such, what is drawn lies on one side of the share
            there = [] if share is None else [share]
            low, high = np.quantile(drawn_share, ENDS).tolist() if len(drawn_share) else (None, None)
            ends = (None, None) if low is None or high is None else (min([low, *there]), max([high, *there]))
            rows.append((name, 0, "", share, *ends, len(both), note))
        low, high = np.quantile(drawn[:, :2].sum(axis=1) / drawn.sum(axis=1), ENDS).tolist()
        rows.append(("accuracy_corrected", 0, "", float(value[:2].sum() / value.sum()), low, high, len(both), note))
        return rows

    def _accuracy(self, said: Ints, counts: Floats, rng: np.random.Generator) -> list[tuple[object, ...]]:
        """Return the accuracy by the verifier's word, and corrected.

        Args:
            said: how many samples of each problem the verifier accepted, and how many there are, [problems, 2].
            counts: of what both judged, of the same problems, [problems, 4].
        """
        yes, n = said.sum(axis=0).tolist()
        where = f"of problems like these {len(said)}, sampled as these were"
        weights = rng.standard_exponential((self.bootstrap, len(said) + 1))
        low, high = _share(said[:, 0], said[:, 1], weights)
        row = ("accuracy_judged", 0, "", yes / n, low, high, n, f"{where}; as the verifier says")
        rows: list[tuple[object, ...]] = [row]
        caught, missed, fooled, refused = (float(number) for number in counts.sum(axis=0))
        share = _with_another(said[:, 0], said[:, 1], weights, rng.random(self.bootstrap))
        for a, b in PRIORS:
            unseen = rng.beta(a, b, (2, self.bootstrap))
            complete = _with_another(counts[:, 0], counts[:, :2].sum(axis=1), weights, unseen[0])
            sound = _with_another(counts[:, 3], counts[:, 2:].sum(axis=1), weights, unseen[1])
            some = complete + sound > 1  # a verifier no better than chance tells nothing
            usual = (a + caught) / (a + b + caught + missed), (a + refused) / (a + b + refused + fooled)
            if not some.any() or sum(usual) <= 1:
                continue
            value = float(_corrected(yes / n, *usual))
            low, high = np.quantile(_corrected(share[some], complete[some], sound[some]), ENDS).tolist()
            note = f"{where}; corrected after Rogan and Gladen"
            rows.append(
                ("accuracy_corrected", 0, f"Beta({a:g}, {b:g})", value, min(low, value), max(high, value), n, note)
            )
        return rows

    def _resampling(self, counts: Floats) -> list[tuple[object, ...]]:
        right, all_of = counts[:, :2].sum(axis=1), counts.sum(axis=1)
        caught, missed, fooled, refused = (float(number) for number in counts.sum(axis=0))
        given = tasks(np.ones(len(counts)), right / all_of, caught / (caught + missed), refused / (fooled + refused))
        note = f"{len(counts)} problems, each a type of task with its own success rate"
        best, value = best_tries(given, self.value_correct, self.value_wrong, self.tries)
        top = ceiling(given)
        values = f"value {self.value_correct:g} if right, {self.value_wrong:g} if wrong"
        found = f"{values}; R = {value:.4f}" + (
            f"; the largest K looked at is {self.tries}" if best == self.tries else ""
        )
        rows: list[tuple[object, ...]] = [
            ("ceiling", 0, "", None if np.isnan(top) else top, None, None, round(float(all_of.sum())), note),
            ("best_tries", 0, "", float(best), None, None, round(float(all_of.sum())), found),
        ]
        curve = reward(given, self.tries, self.value_correct, self.value_wrong)
        rows += [
            ("value", k, "", float(curve[k]), None, None, round(float(all_of.sum())), values)
            for k in powers_of_two(self.tries)
        ]
        return rows


def _with_another(some: Counted, of: Counted, weights: Floats, unseen: Floats) -> Floats:
    """Return weighted shares of ``some`` in ``of``, given one problem more whose share is ``unseen``: [draws].

    Args:
        some, of: samples of each problem, shape [problems].
        weights: shape [draws, problems + 1].
    """
    size = float(of.sum() / max(1, int((of > 0).sum())))
    more = weights[:, -1] * size
    return (weights[:, :-1] @ some + more * unseen) / (weights[:, :-1] @ of + more)


def _share(some: Counted, of: Counted, weights: Floats) -> tuple[float, float]:
    """Return the ends of the 95% interval of a share."""
    ends = [_with_another(some, of, weights, np.full(len(weights), end)) for end in (0.0, 1.0)]
    low, high = (float(np.quantile(drawn, end)) for drawn, end in zip(ends, ENDS, strict=True))
    return low, high


def _corrected(share: Any, complete: Any, sound: Any) -> Any:
    """Return the accuracy behind a share of accepted samples, given the verifier's errors."""
    return np.clip((share + sound - 1.0) / (complete + sound - 1.0), 0.0, 1.0)


def _all(own: pl.LazyFrame, both: pl.DataFrame) -> tuple[Ints, Floats]:
    """Return, for each problem of the verifier, samples accepted and all, and the counts of what both judged."""
    said = own.group_by("problem_key").agg(pl.col("accepted").sum().cast(pl.Int64), pl.len().cast(pl.Int64))
    table = said.collect(engine="streaming").join(_kinds(both), on="problem_key", how="left").sort("problem_key")
    return table.select("accepted", "len").to_numpy(), table.select(pl.col(KINDS).fill_null(0)).to_numpy()


def _known(reference: pl.LazyFrame | None, labels: pl.LazyFrame | None) -> pl.LazyFrame:
    """Return which samples are right, and for how many each stands."""
    if labels is not None:
        return with_chances(labels.collect()).lazy().with_columns(weight=1.0 / pl.col("chance"))
    if reference is None:
        raise BadInput("measure.verifier_audit needs 'reference', or 'labels'")
    known = one_verifier(reference).filter(pl.col("is_correct").is_not_null())
    return known.select(*SAMPLE_KEY, right="is_correct", weight=pl.lit(1.0))


def _counts(both: pl.DataFrame) -> Floats:
    """Return, for each problem, how many samples are (right, accepted), (right, rejected), (wrong, accepted), (wrong,
    rejected): shape [problems, 4], in the order of the problems' keys."""
    return _kinds(both).sort("problem_key").select(KINDS).to_numpy()


def _kinds(both: pl.DataFrame) -> pl.DataFrame:
    yes, right = pl.col("accepted"), pl.col("right")
    kinds = zip(KINDS, (right & yes, right & ~yes, ~right & yes, ~right & ~yes), strict=True)
    return both.group_by("problem_key").agg(**{name: pl.col("weight").filter(kind).sum() for name, kind in kinds})
