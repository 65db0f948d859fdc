"""Mixing of instructions: several kinds of tasks in one training set, each with its quota.

As EshopInstruct (Peng et al. 2024) and PRefLexOR (Buehler 2024) mix theirs. Quotas are rows or shares; which rows fill
them is a draw that depends on the seed and each row alone, so it is the same whatever the order of the rows.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from operators.overlap.sifting import Sifting
from schemas.datasets import SAMPLE_KEY, Path, Problem, Sft
from schemas.errors import BadInput
from schemas.identity import sample_seed
from schemas.later import np, pl

OTHERS = "*"


class SynthesizeMix(Sifting):
    """Keep of each kind of task at most its quota; say of the other rows that they are beyond it.

    A row's kind is its problem's ``task_type``, or the last transformation of its trace (``by``). ``rows`` are numbers
    of rows. ``shares`` are shares of the mixture: it becomes as large as they allow, or as ``total`` says; a kind that
    hasn't enough rows is an error where ``total`` is given, and makes the mixture smaller where it isn't. Kinds without
    a quota are left out, unless ``*`` gives them one together.
    """

    version: ClassVar[int] = 1
    inputs = {
        "sft": Sft.select(*SAMPLE_KEY, "problem_id", "lineage"),
        "paths": Path.select(*SAMPLE_KEY, "kept", "reason"),
        "problems": Problem.select("problem_key", "task_type"),
    }

    by: Literal["task_type", "transformation"] = "task_type"
    """``transformation``: the operator that last changed the row (``synthesize.concise``, ...), with drop_trace's level
    (``synthesize.drop_trace:4``); ``none`` where there is none."""
    rows: dict[str, Annotated[int, Field(ge=0)]] = {}
    """Most rows of each kind."""
    shares: dict[str, Annotated[float, Field(gt=0.0, le=1.0)]] = {}
    """Each kind's share of the mixture."""
    total: Annotated[int, Field(ge=1)] | None = None
    """Rows of a mixture by ``shares``."""
    seed: int = 0
    """Of the lot by which rows of a kind are kept."""

    @model_validator(mode="after")
    def _one_way(self) -> SynthesizeMix:
        if bool(self.rows) == bool(self.shares):
            raise ValueError("give each kind of task its quota in rows or in shares, in one of the two")
        if self.shares and abs(sum(self.shares.values()) - 1.0) > 1e-6:
            raise ValueError(f"shares must add up to 1; these come to {sum(self.shares.values()):g}")
        if self.total is not None and not self.shares:
            raise ValueError("total needs shares; rows say how many there are")
        return self

    def reasons(self, sft: pl.LazyFrame, **others: pl.LazyFrame) -> pl.DataFrame:
        rows = self._kinds(sft, others["problems"])
        quotas = self.rows or self._from_shares(dict(rows.group_by("kind").len().iter_rows()))
        place = pl.Series("place", [
            sample_seed(self.seed, key, index) for key, index in rows.select(SAMPLE_KEY).iter_rows()
        ], dtype=pl.Int64)  # fmt: skip
        order = pl.struct("place", *SAMPLE_KEY).rank("ordinal").over("kind")
        quota = pl.col("kind").replace_strict(quotas, default=0, return_dtype=pl.Int64)
        table = rows.with_columns(place).with_columns(quota=quota, order=order)
        said = pl.when(pl.col("named").is_null()).then(pl.lit("no quota for its kind of task"))
        reason = said.otherwise(pl.lit("beyond the quota of its kind of task"))
        return table.filter(pl.col("order") > pl.col("quota")).select(*SAMPLE_KEY, reason=reason)

    def _kinds(self, sft: pl.LazyFrame, problems: pl.LazyFrame) -> pl.DataFrame:
        """Return the rows with their ``kind``: that of the quota, and ``named`` null where it has none."""
        if self.by == "task_type":
            own = sft.select(SAMPLE_KEY).join(problems, on="problem_key", how="left", maintain_order="left")
            kinds = own.rename({"task_type": "own"}).collect()
        else:
            last = pl.col("lineage").str.json_path_match("$.transformations[-1:].operator").str.split(" ").list.first()
            level = pl.lit(":") + pl.col("lineage").str.json_path_match("$.transformations[-1:].level")
            own = pl.concat_str(last.fill_null("none"), level, ignore_nulls=True)
            kinds = sft.select(*SAMPLE_KEY, own=own).collect()
        quotas = self.rows or self.shares
        named = pl.when(pl.col("own").is_in(list(quotas))).then("own")
        if OTHERS in quotas:
            named = named.otherwise(pl.lit(OTHERS))
        return kinds.with_columns(named=named).with_columns(kind=pl.coalesce("named", "own", pl.lit("?")))

    def _from_shares(self, there: dict[str, int]) -> dict[str, int]:
        """Return rows for each kind: the largest mixture of these shares, or the one of ``total`` rows."""
        if self.total is None:
            size = min(there.get(kind, 0) / share for kind, share in self.shares.items())
            return {kind: int(np.floor(size * share + 1e-9)) for kind, share in self.shares.items()}
        # the largest remainders get the rows that rounding down leaves
        exact = {kind: self.total * share for kind, share in self.shares.items()}
        quotas = {kind: int(value) for kind, value in exact.items()}
        for kind in sorted(exact, key=lambda kind: (quotas[kind] - exact[kind], kind))[
            : self.total - sum(quotas.values())
        ]:
            quotas[kind] += 1
        short = {kind: quota for kind, quota in quotas.items() if there.get(kind, 0) < quota}
        if short:
            told = ", ".join(f"{quota} of '{kind}', there are {there.get(kind, 0)}" for kind, quota in short.items())
            raise BadInput(f"synthesize.mix: a mixture of {self.total} rows needs {told}; lower total, or leave it out")
        return quotas
