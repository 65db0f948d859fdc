"""Minimum Bayes risk: the answer that agrees best, on average, with everything that was sampled."""

from __future__ import annotations

from itertools import combinations
from typing import Any, ClassVar, Literal

from pydantic import Field

from operators.asking import AskingOperator
from operators.engine import Engine, Request
from operators.select.classes import class_votes, in_n, one_verifier
from operators.select.selection import VERDICTS, Selection, as_answers, problems_of, rank, units
from operators.text import fill, said_last
from schemas.datasets import Problem, Sample
from schemas.engine import SamplingParams
from schemas.identity import digest, sample_seed
from schemas.later import Floats, asyncio, np, pl, sparse

TOKEN = r"\w+|[^\w\s]"  # noqa: S105 (of a text)
_ASK = (
    "Two answers to the same problem are given. Do they say the same?\n\nProblem:\n{prompt}\n\nAnswer 1:\n{first}\n\n"
    "Answer 2:\n{second}\n\nThink briefly. End with one line: VERDICT: SAME or VERDICT: DIFFERENT"
)


class SelectMbr(Selection, AskingOperator, SamplingParams):
    """Pick argmax_i mean_j u(i, j) over the samples j (Kumar and Byrne 2004; Bertsch et al. 2023).

    ``utility`` u: ``exact`` (both are of one answer class: then this is the majority), ``f1`` (of tokens, as multisets;
    of the answers, or of whole completions), ``judge`` (a model says whether two answers say the same; the
    ``candidates`` most frequent classes are compared in pairs, half of the votes in either order). Confidence is the
    mean utility.

    ``evidence`` are verdicts on samples of the same problems in another language, or from another model: they are
    compared with, and can't be picked (X-MBR: Khairi et al. 2025, "When Life Gives You Samples").
    """

    version: ClassVar[int] = 1
    inputs = {
        "verdicts": VERDICTS,
        "samples": Sample.select("problem_key", "sample_index", "completion"),
        "problems": Problem.select("problem_key", "prompt"),
        "evidence": VERDICTS,
        "evidence_samples": Sample.select("problem_key", "sample_index", "completion"),
    }
    optional = frozenset({"samples", "problems", "evidence", "evidence_samples"})

    utility: Literal["exact", "f1", "judge"] = "exact"
    """How alike two samples are: of one answer class, by F1 of tokens, or by a judge's word."""
    text: Literal["answer", "completion"] = "answer"
    """What ``f1`` compares."""
    evidence_weight: float = Field(default=1.0, ge=0.0)
    """Weight of a sample of the evidence; a sample of one's own has 1."""
    candidates: int = Field(default=8, ge=2)
    """Classes that a judge compares, at most."""
    votes: int = Field(default=2, ge=1)
    """Judgements of a pair."""
    max_tokens: int = Field(default=256, ge=1)
    """The most tokens of a judge's vote."""
    seed: int = 0
    """Base seed of the judgements."""
    template: str = _ASK
    """A template, filled in with {prompt}, {first} and {second}."""
    same: str = r"(?i)VERDICT\W+(?:SAME|YES)\b"
    """A regular expression of a vote that two answers say the same."""
    different: str = r"(?i)VERDICT\W+(?:DIFFERENT|NO)\b"
    """A regular expression of a vote that they don't."""
    chat: bool = True
    """Ask the judge through its chat template; otherwise the prompt is plain text."""

    @property
    def tools(self) -> tuple[str, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return ("engine",) if self.utility == "judge" else ()

    def run(self, engine: Engine | None = None, **inputs: pl.DataFrame | None) -> pl.DataFrame:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return one row per problem of ``verdicts``."""
        if self.utility == "judge":
            assert engine is not None
            return asyncio.run(self.ask(engine, **inputs))
        ballots, problems = self._ballots(inputs)
        if self.utility == "exact":
            return self._best(problems, _classes(ballots, pl.col("units").sum() / pl.col("all").first()))
        return self._best(problems, self._by_f1(ballots))

    async def ask(self, engine: Engine, **inputs: Any) -> pl.DataFrame:
        """Return one row per problem of ``verdicts``, with a judge's utilities."""
        ballots, problems = self._ballots(inputs)
        classes = _classes(ballots, pl.col("units").sum() / pl.col("all").first())
        asked = inputs["problems"]
        prompts = {} if asked is None else dict(asked.select("problem_key", "prompt").iter_rows())
        tables = {key: table.head(self.candidates) for (key,), table in classes.group_by("problem_key")}
        pairs = [
            (str(key), a, b, vote)
            for key, table in sorted(tables.items())
            for a, b in combinations(table["answer"].to_list(), 2)
            for vote in range(self.votes)
        ]

        async def one(pair: tuple[str, str, str, int]) -> bool | None:
            key, a, b, vote = pair
            first, second = (b, a) if vote % 2 else (a, b)
            text = fill(self.template, {"prompt": prompts.get(key, ""), "first": first, "second": second})
            prompt = await engine.render([{"role": "user", "content": text}], chat=self.chat)
            seed = sample_seed(self.seed, f"{key}/{digest([a, b])}", vote)
            [answer] = await engine.generate(Request(prompt, self.params, seed, request_id=f"{key}/{vote}"))
            return said_last(answer.text, self.same, self.different)

        said = await self.ask_each(engine, pairs, one)
        agreed: dict[tuple[str, str, str], list[bool]] = {}
        for (key, a, b, _), vote in zip(pairs, said, strict=True):
            if isinstance(vote, bool):
                agreed.setdefault((key, a, b), []).append(vote)
        return self._best(problems, pl.concat([_judged(table, agreed) for table in tables.values()] or [classes]))

    def _ballots(self, inputs: dict[str, pl.DataFrame | None]) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Return the rows that are compared, evidence behind the problem's own; and the problems, with n as total."""
        verdicts, evidence = inputs["verdicts"], inputs.get("evidence")
        assert verdicts is not None
        own = _with_text(one_verifier(verdicts), inputs.get("samples")).with_columns(own=pl.lit(True), each=1.0)
        ballots = own
        if evidence is not None and len(own):
            behind = _with_text(one_verifier(evidence), inputs.get("evidence_samples"))
            behind = behind.filter(in_n()).with_columns(
                pl.col("sample_index") + int(own["sample_index"].max() or 0) + 1,  # type: ignore[arg-type]
                own=pl.lit(False),
                each=pl.lit(self.evidence_weight),
                is_correct=pl.lit(None, dtype=pl.Boolean),
            )
            behind = behind.join(own.select("problem_key").unique(), on="problem_key", how="semi")
            ballots = pl.concat([own, behind])
        ballots = ballots.with_columns(units=units(pl.col("each")))
        ballots = ballots.with_columns(all=pl.col("units").filter(in_n()).sum().over("problem_key"))
        return ballots, problems_of(own, pl.lit(1.0).alias("total"))

    def _best(self, problems: pl.DataFrame, classes: pl.DataFrame) -> pl.DataFrame:
        return as_answers(rank(problems, classes), self.method, pl.col("weight"), pl.col("runner_up_weight"))

    def _by_f1(self, ballots: pl.DataFrame) -> pl.DataFrame:
        """Give each class the best mean F1 of its texts."""
        chosen = pl.col("predicted_answer") if self.text == "answer" else pl.col("completion")
        readable = in_n() & pl.col("predicted_answer").is_not_null()
        texts = (
            ballots.filter(in_n())
            .with_columns(text=chosen.fill_null(""))
            .group_by("problem_key", "text")
            .agg((pl.col("units").sum() / pl.col("all").first()).alias("share"))
            .sort("problem_key", "text")
        )
        texts = texts.with_columns(utility=pl.Series(mean_f1(texts), dtype=pl.Float64))
        rows = ballots.with_columns(text=chosen.fill_null("")).join(
            texts.drop("share"), on=["problem_key", "text"], how="left", maintain_order="left"
        )
        best = pl.when(readable & pl.col("own")).then(pl.col("utility"))
        return _classes(rows.with_columns(best=best), pl.col("best").max(), largest=True)


def _with_text(verdicts: pl.DataFrame, samples: pl.DataFrame | None) -> pl.DataFrame:
    if samples is None:
        return verdicts.with_columns(completion=pl.lit(None, dtype=pl.String))
    return verdicts.join(samples, on=["problem_key", "sample_index"], how="left", maintain_order="left")


def _classes(ballots: pl.DataFrame, weight: pl.Expr, largest: bool = False) -> pl.DataFrame:
    """Return the classes of a problem's own answers; weights are of all rows."""
    classes = class_votes(ballots, weight.alias("weight"), largest=largest)
    own = class_votes(ballots.filter("own")).select("problem_key", "first_index")
    return classes.join(own, on=["problem_key", "first_index"], how="semi", maintain_order="left")


def _judged(table: pl.DataFrame, agreed: dict[tuple[str, str, str], list[bool]]) -> pl.DataFrame:
    """Replace the weights of one problem's classes by their mean utility."""
    key, answers, shares = table["problem_key"][0], table["answer"].to_list(), table["weight"].to_numpy()
    utility = np.eye(len(answers))
    for (a, first), (b, second) in combinations(enumerate(answers), 2):
        votes = agreed.get((key, first, second), [])
        utility[a, b] = utility[b, a] = float(np.mean(votes)) if votes else 0.0
    return table.with_columns(weight=pl.Series(utility @ shares))


def mean_f1(texts: pl.DataFrame) -> Floats:
    """Return each text's expected F1 with the texts of its problem, in the order of the rows.

    F1 of two multisets of tokens is 2 |a & b| / (|a| + |b|); two empty texts agree. An intersection is a dot product of
    indicators of (token, occurrence), and the texts of one length share their denominator, so their indicators are
    added up before they are multiplied: the cost grows with the number of lengths, not of pairs.

    Args:
        texts: problem_key, text, share (of the samples, adding up to 1 or less in a problem); unique together.
    """
    rows = texts.with_row_index("row").with_columns(tokens=pl.col("text").str.to_lowercase().str.extract_all(TOKEN))
    lengths = rows["tokens"].list.len().to_numpy().astype(np.int64)
    shares = rows["share"].to_numpy()
    problem = rows["problem_key"].rank("dense").to_numpy().astype(np.int64) - 1
    group, numbers = np.unique(np.stack([problem, lengths]), axis=1, return_inverse=True)
    tokens = (
        rows.select("row", pl.lit(pl.Series(problem)).alias("problem"), "tokens")
        .explode("tokens")
        .drop_nulls("tokens")
        .with_columns(occurrence=pl.int_range(pl.len()).over("row", "tokens"))
        .with_columns(feature=pl.struct("problem", "tokens", "occurrence").rank("dense").cast(pl.Int64) - 1)
    )
    result = np.zeros(len(rows))
    empty = lengths == 0
    none = np.bincount(problem[empty], weights=shares[empty], minlength=int(problem.max(initial=-1)) + 1)
    result[empty] = none[problem[empty]]
    if len(tokens):
        where = (tokens["row"].to_numpy().astype(np.int64), tokens["feature"].to_numpy())
        has = sparse.csr_array((np.ones(len(tokens)), where), shape=(len(rows), int(where[1].max()) + 1))
        adds = sparse.csr_array((shares, (numbers.ravel(), np.arange(len(rows)))), shape=(group.shape[1], len(rows)))
        common = (has @ (adds @ has).T).tocoo()
        both = lengths[common.row] + group[1][common.col]
        result += np.bincount(common.row, weights=2 * common.data / both, minlength=len(rows))
    return result
