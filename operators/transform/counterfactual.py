"""Counterfactual multiple choice (Wang et al. 2025, "Thought-Path Contrastive Learning via Premise-Oriented Data
Augmentation for Logical Reading Comprehension", PODA).

A model that reasons over options should go from the premises, not from what sounds right. For each problem an engine
writes a rationale per option, with the premises that were found and those that are missing; then a context in which a
wrong option becomes the right one, and the rationales that go with it. ``SynthesizeThoughtPairs`` sets the two paths
against each other: what is right in one context is what to reject in the other.
"""

from __future__ import annotations

import json
import random
import re
import string
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic import Field

from operators.asking import AskingOperator
from operators.base import Operator
from operators.engine import Engine, EngineError, Request
from operators.text import fill
from operators.transform.transformation import with_transformation
from operators.verify.choice import Options, VerifyChoice
from schemas.contract import polars_schema
from schemas.datasets import SAMPLE_KEY, Preference, Problem, Sft
from schemas.engine import SamplingParams
from schemas.identity import sample_seed
from schemas.later import pl

_RATIONALE = (
    "Here is a multiple-choice problem. Option {letter} is {verdict}. Explain why from the premises.\n\n{problem}\n\n"
    "Answer in exactly three lines:\nFOUND: the premises in the text that bear on option {letter}\nMISSING: the "
    "premises that option {letter} would need but that the text doesn't give, or none\nREASON: why option {letter} "
    "is {verdict}"
)
_COUNTERFACTUAL = (
    "Here is a multiple-choice problem whose right answer is {right}. Change the facts in its text as little as "
    "possible, so that option {letter} becomes the right answer and {right} becomes wrong. Use what option {letter} "
    "was missing: {missing}\nKeep the question, and don't write the options.\n\n{problem}\n\nAnswer with one line "
    "TEXT: followed by the whole changed text and its question."
)
_LINES = re.compile(r"(?ims)^\W*(FOUND|MISSING|REASON)\W*:\s*(.*?)(?=^\W*(?:FOUND|MISSING|REASON)\W*:|\Z)")
_OPTION_LINE = re.compile(r"(?m)^[ \t]*\(?([A-Z])[).:][ \t]+(\S.*)$")
Row = dict[str, Any]


@dataclass(frozen=True)
class Choice:
    """A multiple-choice problem: ``stem`` (text and question), ``listed`` (its options as they were written)."""

    key: str
    stem: str
    listed: str
    letters: str
    right: str

    @property
    def prompt(self) -> str:
        return f"{self.stem.rstrip()}\n\n{self.listed}"


@dataclass(frozen=True)
class Rationale:
    """What speaks for and against one option."""

    found: str
    missing: str
    reason: str


class SynthesizeCounterfactual(AskingOperator, SamplingParams):
    """Add rows with a rationale for every option, of each problem and of up to ``counterfactuals`` changed ones.

    A problem needs an answer and options, which ``verification.choices`` or lines of its prompt (``A) ...``) give, and
    at least two of them. A changed problem is kept if the engine, asked ``votes`` times without being told, mostly
    picks the option that was to become right. Rows of ``sft`` come first, as they are; new ones have the
    sample indices after theirs, and the lineage says which kind they are and what their answer is. Why a problem gave
    nothing is in the lineage of its own rows, where it has any.
    """

    version: ClassVar[int] = 1
    scope = "problem"
    inputs = {
        "problems": Problem.select("problem_key", "problem_id", "prompt", "answer", "verification"),
        "sft": Sft.select(),
    }
    optional = frozenset({"sft"})
    output = Sft

    counterfactuals: int = Field(default=1, ge=0)
    """Changed problems for each problem, at most; the wrong options are tried in a drawn order."""
    votes: int = Field(default=3, ge=1)
    """How often a changed problem's answer is asked for."""
    seed: int = 0
    """The seed by which options that are to become right are drawn."""
    letters: str = string.ascii_uppercase[:10]
    """The letters that options can have."""
    template_rationale: str = _RATIONALE
    """A template, filled in with {problem}, {letter} and {verdict} (right or wrong)."""
    template: str = _COUNTERFACTUAL
    """Asks for the changed text: with {problem}, {letter}, {right} and {missing}."""
    conclusion: str = "The answer is ({letter})."
    """How a rationale ends, with {letter}."""
    max_tokens: Annotated[int, Field(ge=1)] = 1024
    """The most tokens of each reply."""
    chat: bool = True
    """The model is asked through its chat template; else the prompt is its text."""

    async def ask(self, engine: Engine, **inputs: Any) -> pl.DataFrame:
        """Return ``sft``'s rows and the new ones, sorted by problem and sample_index."""
        schema = polars_schema(Sft)
        own: pl.DataFrame | None = inputs.get("sft")
        sft = pl.DataFrame(schema=schema) if own is None else own
        problems = inputs["problems"].to_dicts()
        found = await self.ask_each(engine, problems, lambda problem: self._augment(engine, problem))
        first = dict(sft.group_by("problem_key").agg(pl.col("sample_index").max() + 1).iter_rows())
        new: list[Row] = []
        faults: dict[str, str] = {}
        for problem, rows in zip(problems, found, strict=True):
            if isinstance(rows, EngineError | str):
                faults[problem["problem_key"]] = str(rows)
                continue
            for index, row in enumerate(rows, first.get(problem["problem_key"], 0)):
                new.append(self._row(problem, index, row))
        name = f"{self.public_name()} {self.version}"
        told = [
            with_transformation(lineage, {"operator": name, "unchanged": faults[key]}) if key in faults else lineage
            for key, lineage in sft.select("problem_key", "lineage").iter_rows()
        ]
        sft = sft.with_columns(lineage=pl.Series(told, dtype=pl.String))
        return pl.concat([sft, pl.DataFrame(new, schema=schema, orient="row")]).sort(SAMPLE_KEY)

    def _row(self, problem: Row, index: int, row: Row) -> Row:
        note = {"operator": f"{self.public_name()} {self.version}", "kind": row["kind"], "answer": row["answer"]}
        lineage = {"problem_key": problem["problem_key"], "sample_index": None, "transformations": [note]}
        turns = [{"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": row["text"]}]
        return {
            "problem_key": problem["problem_key"],
            "sample_index": index,
            "problem_id": problem["problem_id"],
            "messages": turns,
            "tools": None,
            "completion_tokens": row["tokens"],
            "score": None,
            "lineage": json.dumps(lineage, ensure_ascii=False),
        }

    async def _augment(self, engine: Engine, problem: Row) -> list[Row] | str:
        """Return what a problem gives: its own rationale, then its counterfactuals'; or why nothing."""
        choice = read_choice(problem, self.letters)
        if isinstance(choice, str):
            return choice
        known = await self._rationales(engine, choice)
        if isinstance(known, str):
            return known
        rows = [await self._told(engine, choice, known, "original")]
        wrong = [letter for letter in choice.letters if letter != choice.right]
        order = random.Random(sample_seed(self.seed, choice.key, 0)).sample(wrong, len(wrong))
        for letter in order:
            if len(rows) > self.counterfactuals:
                break
            changed = await self._changed(engine, choice, letter, known[letter].missing)
            if changed is None or not await self._agrees(engine, changed):
                continue
            why = await self._rationales(engine, changed)
            if not isinstance(why, str):
                rows.append(await self._told(engine, changed, why, "counterfactual"))
        return rows

    async def _told(self, engine: Engine, choice: Choice, rationales: dict[str, Rationale], kind: str) -> Row:
        parts = [
            f"({letter}) Premises found: {why.found}\nPremises missing: {why.missing}\n{why.reason}"
            for letter, why in rationales.items()
        ]
        text = "\n\n".join([*parts, fill(self.conclusion, {"letter": choice.right})])
        tokens = await engine.count_tokens(text)
        return {"kind": kind, "prompt": choice.prompt, "text": text, "answer": choice.right, "tokens": tokens}

    async def _rationales(self, engine: Engine, choice: Choice) -> dict[str, Rationale] | str:
        found: dict[str, Rationale] = {}
        for letter in choice.letters:
            verdict = "right" if letter == choice.right else "wrong"
            places = {"problem": choice.prompt, "letter": letter, "verdict": verdict}
            text = await self._say(engine, fill(self.template_rationale, places), choice, f"rationale {letter}")
            lines = {name.upper(): said.strip() for name, said in _LINES.findall(text)}
            if not lines.get("REASON") or "FOUND" not in lines:
                return f"the rationale of option {letter} can't be read"
            found[letter] = Rationale(lines["FOUND"] or "none", lines.get("MISSING") or "none", lines["REASON"])
        return found

    async def _changed(self, engine: Engine, choice: Choice, letter: str, missing: str) -> Choice | None:
        places = {"problem": choice.prompt, "letter": letter, "right": choice.right, "missing": missing}
        text = await self._say(engine, fill(self.template, places), choice, f"counterfactual {letter}")
        stem = re.search(r"(?is)^\W*TEXT\W*?:\s*(.+)$", text, re.MULTILINE)
        if stem is None:
            return None
        # options that it wrote all the same aren't part of the text
        changed = _OPTION_LINE.split(stem[1])[0].strip()
        if not changed or changed == choice.stem.strip():
            return None
        return Choice(choice.key, changed, choice.listed, choice.letters, letter)

    async def _agrees(self, engine: Engine, choice: Choice) -> bool:
        """Return whether most votes pick what is to be right."""
        texts = [await self._say(engine, choice.prompt, choice, f"vote {choice.right} {i}") for i in range(self.votes)]
        keys = {"problem_key": choice.key, "problem_id": choice.key}
        samples = pl.DataFrame(
            [{**keys, "sample_index": i, "completion": text, "status": "ok"} for i, text in enumerate(texts)]
        )
        options = pl.DataFrame([{**keys, "answer": choice.right, "verification": None}])
        judged = VerifyChoice(letters=choice.letters).run(samples, options)
        return 2 * int(judged["is_correct"].fill_null(False).sum()) > self.votes

    async def _say(self, engine: Engine, text: str, choice: Choice, what: str) -> str:
        prompt = await engine.render([{"role": "user", "content": text}], chat=self.chat)
        name = f"{choice.key}/{what}"
        [said] = await engine.generate(Request(prompt, self.params, sample_seed(self.seed, name, 0), 1, name))
        return said.text


class SynthesizeThoughtPairs(Operator):
    """Pair the thought paths of a problem and its counterfactuals: each is rejected in the other's context.

    From rows of ``synthesize.counterfactual``: for every changed problem two pairs, one asked as the original and one
    as the changed problem.
    """

    version: ClassVar[int] = 1
    scope = "problem"
    inputs = {"sft": Sft.select(*SAMPLE_KEY, "problem_id", "messages", "tools", "lineage")}
    output = Preference

    def run(self, sft: pl.DataFrame) -> pl.DataFrame:
        """Return the pairs, sorted by problem and counterfactual; ``margin`` is null."""
        pairs: list[Row] = []
        for part in sft.sort(SAMPLE_KEY).partition_by("problem_key", maintain_order=True):
            kinds: dict[str, list[Row]] = {}
            for row in part.iter_rows(named=True):
                for entry in json.loads(row["lineage"]).get("transformations", []):
                    if "kind" in entry:
                        kinds.setdefault(entry["kind"], []).append(row)
            for original in kinds.get("original", [])[:1]:
                for other in kinds.get("counterfactual", []):
                    pairs += [self._pair(original, other), self._pair(other, original)]
        return pl.DataFrame(pairs, schema=polars_schema(Preference), orient="row")

    def _pair(self, chosen: Row, rejected: Row) -> Row:
        lineage = {
            "problem_key": chosen["problem_key"],
            "chosen": chosen["sample_index"],
            "rejected": rejected["sample_index"],
            "operator": f"{self.public_name()} {self.version}",
        }
        return {
            "problem_id": chosen["problem_id"],
            "prompt": chosen["messages"][:-1],
            "tools": chosen["tools"],
            "chosen": chosen["messages"][-1:],
            "rejected": rejected["messages"][-1:],
            "margin": None,
            "lineage": json.dumps(lineage),
        }


def read_choice(problem: Row, letters: str = string.ascii_uppercase[:10]) -> Choice | str:
    """Return a problem as text, question and options, or why it isn't multiple choice.

    Args:
        problem: problem_key, problem_id, prompt, answer and verification.
        letters: those that options can have, where the problem doesn't list its options.

    Raises:
        BadInput: its answer is none of its options.
    """
    prompt: str = problem["prompt"]
    listed = [match for match in _OPTION_LINE.finditer(prompt) if match[1] in letters]
    given: dict[str, Any] = json.loads(problem["verification"] or "{}")
    choices = [str(text) for text in given.get("choices") or ()]
    if not choices and not listed:
        return "it has no options"
    stem = prompt[: listed[0].start()] if listed else prompt
    lines = prompt[listed[0].start() :] if listed else "\n".join(
        f"{letter}) {text}" for letter, text in zip(string.ascii_uppercase, choices, strict=False)
    )  # fmt: skip
    if not choices:
        choices = [match[2].strip() for match in listed]
        problem = {**problem, "verification": json.dumps({**given, "choices": choices})}
    options = Options(problem, letters)
    if options.right is None:
        return "it has no answer"
    return (
        Choice(problem["problem_key"], stem, lines, options.letters, options.right)
        if len(choices) > 1
        else "it has one option"
    )
