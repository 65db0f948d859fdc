"""verify.math on rewritten golds: every writing of an answer is right, what only looks like one is wrong, in votes too.

    python -m tests.benchmarks.answer_forms --data DIR

``DIR/math_problems.jsonl`` has a problem and its answer a line. Golds are rewritten in the ways below, and judged in
both directions: the form as the answer, and as the gold.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import polars as pl

from cluster.tools.processes import ProcessWorkers
from operators.select.classes import equivalent_keys
from operators.verify.math import VerifyMath

Form = tuple[str, str]
"""Kind and text."""
Pair = tuple[str, str, str]
"""Question, gold, answer."""


def number_of(gold: str) -> Fraction | None:
    """Return the value of a gold that is a plain number."""
    text = gold.replace("\\!", "").replace("\\$", "").strip()
    if re.fullmatch(r"-?\d{1,3}(?:,\s*\d{3})*|-?\d+", text):
        return Fraction(re.sub(r"[,\s]", "", text))
    ratio = re.fullmatch(r"(-?)\\d?frac\s*\{?(\d+)\}?\s*\{?(\d+)\}?", text)
    if ratio:
        return Fraction(int(ratio[2]), int(ratio[3])) * (-1 if ratio[1] else 1)
    return Fraction(text) if re.fullmatch(r"-?\d*\.\d+", text) else None


def forms(gold: str) -> Iterator[Form]:
    """Yield other writings of a gold."""
    yield from (("dollars", f"${gold}$"), ("display", rf"\displaystyle {gold}"), ("brackets", rf"\({gold}\)"))
    yield from (("full stop", f"{gold}."), ("spaces", f" {gold} "))
    if "frac" in gold:
        plain = gold.replace(r"\dfrac", r"\frac")
        yield from (("dfrac", plain.replace(r"\frac", r"\dfrac")), ("tfrac", plain.replace(r"\frac", r"\tfrac")))
    value = number_of(gold)
    if value is not None:
        yield from numbers(gold, value)
    if "sqrt" in gold:
        yield "root sign", re.sub(r"\\sqrt\{(\d+)\}", r"√\1", gold)
        yield "root in parentheses", re.sub(r"\\sqrt\{(\d+)\}", r"\\sqrt(\1)", gold)
    if r"\pi" in gold:
        yield "pi sign", gold.replace(r"\pi", "π")
    if re.search(r"\di\b", gold):
        yield "upright i", re.sub(r"(?<=\d)i\b", r"\\mathrm{i}", gold)
    if r"^\circ" in gold:
        yield from (("degrees", gold.replace(r"^\circ", " degrees")), ("no degrees", gold.replace(r"^\circ", "")))
        yield "degree sign", gold.replace(r"^\circ", "°")
    if re.fullmatch(r"\([^()]*,[^()]*\)", gold) and "infty" not in gold:
        yield from (("bare tuple", gold[1:-1]), ("angles", rf"\langle {gold[1:-1]} \rangle"))
    yield from lists(gold)
    if gold.startswith(r"\text{"):
        word = gold[6:-1]
        yield from (("word", word), ("bold", rf"\textbf{{{word}}}"), ("upright", rf"\mathrm{{{word}}}"))
        yield from (("lower case", word.lower()), ("quoted", f'"{word}"'))
    based = re.fullmatch(r"(\d+)_\{?(\d+)\}?", gold)
    if based:
        yield from (("base in braces", f"{based[1]}_{{{based[2]}}}"), ("no base", based[1]))
        yield "base in words", f"{based[1]} base {based[2]}"
    if "pmatrix" in gold:
        yield "other matrix", gold.replace("pmatrix", "bmatrix")
    if r"\pm" in gold:
        yield "both signs", both(gold)
    ray = re.fullmatch(r"\((.*),\s*\\infty\)", gold)
    if ray:
        yield from (("relation", f"x > {ray[1]}"), ("reversed relation", f"{ray[1]} < t"))


def both(gold: str) -> str:
    """Write plus-minus as two."""
    return gold.replace(r"\pm", "+") + ", " + gold.replace(r"\pm", "-")


def numbers(gold: str, value: Fraction) -> Iterator[Form]:
    """Yield other writings of a number."""
    yield from (("name", f"x = {gold}"), ("label", rf"{gold}\text{{ widgets}}"), ("noun", f"{gold} apples"))
    yield from (("square units", rf"{gold}\text{{ square units}}"), ("minus sign", gold.replace("-", "\N{MINUS SIGN}")))
    if "$" not in gold:
        yield "unit", f"{gold} cm"
    yield "not reduced", rf"\frac{{{2 * value.numerator}}}{{{2 * value.denominator}}}"
    sign = "-" if value < 0 else ""
    if value.denominator == 1:
        grouped = f"{int(value):,}"
        yield from (("decimal", f"{value}.0"), ("grouped", grouped), ("braced groups", grouped.replace(",", "{,}")))
        yield from (
            ("thin groups", grouped.replace(",", r"\,")),
            ("ratio", f"{3 * value}/3"),
            ("sum", f"{value - 7} + 7"),
        )
        yield from (
            ("root of a square", rf"{sign}\sqrt{{{value * value}}}"),
            ("plus", f"+{value}" if value > 0 else gold),
        )
        return
    above, below = abs(value.numerator), value.denominator
    yield from (("slash", f"{value.numerator}/{below}"), ("sign before", rf"{sign}\frac{{{above}}}{{{below}}}"))
    yield from (("sign within", rf"\frac{{{value.numerator}}}{{{below}}}"), ("decimals", f"{float(value):.8f}"))
    if above > below:
        yield "mixed", rf"{sign}{above // below}\frac{{{above % below}}}{{{below}}}"
    if (100 * value).denominator == 1:
        yield "per cent", rf"{100 * value}\%"


def lists(gold: str) -> Iterator[Form]:
    """Yield other writings of a bare list."""
    if number_of(gold) is not None or not re.fullmatch(r"-?\d+(,\s*-?\d+)+", gold):
        return
    members = [member.strip() for member in gold.split(",")]
    yield from (("reversed", ", ".join(reversed(members))), ("semicolons", "; ".join(members)))
    yield from (("and", ", ".join(members[:-1]) + " and " + members[-1]), ("set", rf"\{{{','.join(members[::-1])}\}}"))
    yield from (("tuple", f"({','.join(members)})"), ("names", " or ".join(f"x={member}" for member in members)))


def look_alikes(gold: str) -> Iterator[Form]:
    """Yield texts that aren't the gold."""
    value = number_of(gold)
    if value is not None and value.denominator == 1 and abs(value) > 1:
        yield from (("next", f"{value + 1}"), ("negative", f"{-value}"), ("ten times", f"{10 * value}"))
        yield from (("half", f"{value / 2}"), ("root", rf"{value}\sqrt{{2}}"), ("letter", f"{value}x"))
        yield from (("e", rf"{value}\mathrm{{e}}"), ("remainder", rf"{value}\frac"), ("raised", f"{abs(value)}²"))
        yield from (("pair", f"({value},{value})"), ("scale", f"{value} thousand"), ("base", f"{abs(value)}_{{37}}"))
        yield from (("list", f"{value}, {value + 1}"), ("a little more", f"{value}.0001"))
    elif not re.search(r"[,=_\]]|matrix|deg|text|circ|\$|infty|pm", gold):
        yield from (("half more", f"{gold}+\\frac{{1}}{{2}}"), ("one more", f"{gold}+1"), ("other", "12345"))
        if value != 0:
            yield "negative", f"-({gold})"
    if re.fullmatch(r"\([^()]*,[^()]*\)", gold):
        members = gold[1:-1].split(",")
        yield "set", rf"\{{{','.join(members)}\}}"
        if members != members[::-1]:
            yield "swapped", f"({','.join(members[::-1])})"
    based = re.fullmatch(r"(\d+)_\{?(\d+)\}?", gold)
    if based:
        yield from (("other base", f"{based[1]}_{{36}}"), ("value", str(int(based[1], int(based[2])))))
    if gold.startswith(r"\text{"):
        yield from (("other word", "blue"), ("number", "12"))


def judged(pairs: list[Pair], workers: ProcessWorkers) -> pl.DataFrame:
    """Return the verdict of each pair, a problem of its own."""
    keys = [str(number) for number in range(len(pairs))]
    samples = pl.DataFrame({"problem_key": keys, "completion": [rf"\boxed{{{answer}}}" for _, _, answer in pairs]})
    samples = samples.with_columns(
        sample_index=pl.lit(0, dtype=pl.Int64), problem_id="problem_key", status=pl.lit("ok")
    )
    problems = pl.DataFrame({"problem_key": keys, "problem_id": keys})
    problems = problems.with_columns(
        prompt=pl.Series([question for question, _, _ in pairs]), answer=pl.Series([gold for _, gold, _ in pairs])
    )
    return VerifyMath(timeout=60.0).run(samples, problems, workers)


def united(pairs: list[Pair], workers: ProcessWorkers) -> list[bool]:
    """Return whether the two answers of each pair vote together."""
    both = [
        judged([(question, "?", text) for question, *texts in pairs for text in [texts[side]]], workers)
        for side in (0, 1)
    ]
    keys = pl.concat([side.select("problem_key", "answer_key") for side in both])
    keys = keys.group_by("problem_key", "answer_key").agg(votes=pl.len().cast(pl.Int64))
    counts = dict(equivalent_keys(keys).group_by("problem_key").agg(pl.col("united").n_unique()).iter_rows())
    return [counts[str(number)] == 1 for number in range(len(pairs))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    lines = (parser.parse_args().data / "math_problems.jsonl").read_text().splitlines()
    problems = [json.loads(line) for line in lines]
    with ProcessWorkers(2) as workers:
        for what, make, expected in (("right", forms, True), ("wrong", look_alikes, False)):
            made = [
                (one["problem"], one["answer"], kind, text) for one in problems for kind, text in make(one["answer"])
            ]
            print(f"{len(made):,} {what} forms of {len({kind for _, _, kind, _ in made})} kinds")
            pairs = [(question, gold, text) for question, gold, _, text in made]
            turned = [(question, text, gold) for question, gold, text in pairs]
            for name, results in (
                ("judge", judged(pairs, workers)["is_correct"].to_list()),
                ("judge, the other way round", judged(turned, workers)["is_correct"].to_list()),
                ("votes", united(pairs, workers)),
            ):
                wrong = [row[1:] for row, result in zip(made, results, strict=True) if result is not expected]
                print(f"  {name}: {len(wrong)} differ ({len(wrong) / len(made):.2%})", *wrong[:12], sep="\n    ")


if __name__ == "__main__":
    main()
