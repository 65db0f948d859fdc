"""Near-duplicates and contamination on planted cases."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.overlap import shingles
from operators.overlap.decontaminate import SynthesizeDecontaminate
from operators.overlap.deduplicate import SynthesizeDeduplicate
from operators.overlap.minhash import bands
from schemas.contract import polars_schema, validate
from schemas.datasets import Path as Decision
from schemas.datasets import Sft
from schemas.errors import BadInput
from schemas.messages import conversations

VOCABULARY = [f"{a}{b}{c}" for a in "bdfgk" for b in "aeiou" for c in "lmnrst"]


def text(rng: random.Random, words: int = 60) -> str:
    return " ".join(str(rng.randrange(100)) if rng.random() < 0.1 else rng.choice(VOCABULARY) for _ in range(words))


def rows(texts: list[str], prompts: list[str] | None = None, **columns: list[float]) -> pl.DataFrame:
    count = len(texts)
    made = [
        [{"role": "user", "content": ask}, {"role": "assistant", "content": said}]
        for ask, said in zip(prompts or [""] * count, texts, strict=True)
    ]
    frame = pl.DataFrame(
        {
            "problem_key": [f"k{i:05d}" for i in range(count)],
            "sample_index": [0] * count,
            "problem_id": [f"p{i}" for i in range(count)],
            "messages": conversations(pl.Series(made)),
            "tools": [None] * count,
            "completion_tokens": [len(said) for said in texts],
            "score": columns.get("score", [1.0] * count),
            "lineage": ["{}"] * count,
        }
    )
    return frame.select(pl.col(name).cast(dtype) for name, dtype in polars_schema(Sft).items())


def reasons(operator: SynthesizeDeduplicate | SynthesizeDecontaminate, table: pl.DataFrame) -> dict[str, str | None]:
    found = validate(operator.run(table.lazy()), Decision, "sift")
    assert len(found) == len(table)
    return dict(zip(found["problem_id"], found["reason"], strict=True))


def replaced(words: str, share: float, rng: random.Random) -> str:
    return " ".join(rng.choice(VOCABULARY) if rng.random() < share else word for word in words.split())


def test_planted_duplicates() -> None:
    rng = random.Random(7)
    originals = [text(rng) for _ in range(300)]
    planted = {
        "exact": originals[:60],
        "whitespace": [original.replace(" ", "\n ", 9).upper() for original in originals[60:120]],
        "rewritten": [replaced(original, 0.5, rng) for original in originals[120:180]],
    }
    table = rows(originals + [said for many in planted.values() for said in many])
    found = reasons(SynthesizeDeduplicate(), table)
    names = iter(range(300, len(table)))
    dropped = {kind: [found[f"p{next(names)}"] for _ in many] for kind, many in planted.items()}
    assert dropped["exact"] == [f"near-duplicate of p{i}/0" for i in range(60)]
    assert dropped["whitespace"] == [f"near-duplicate of p{i}/0" for i in range(60, 120)]
    assert dropped["rewritten"] == [None] * 60
    assert not any(found[f"p{i}"] for i in range(300))


def test_numbers_alone_make_a_difference_unless_told_otherwise() -> None:
    table = rows(["Ann has 3 pears and eats 2 of 15.5", "Ann has 40 pears and eats 1 of 1,200"])
    assert not any(reasons(SynthesizeDeduplicate(), table).values())
    assert reasons(SynthesizeDeduplicate(mask_numbers=True), table)["p1"] == "near-duplicate of p0/0"


def test_signs_make_a_difference() -> None:
    table = rows(["x = a + b * c", "x = a - b / c"])
    assert not any(reasons(SynthesizeDeduplicate(), table).values())


def test_the_estimate_follows_the_similarity() -> None:
    rng = random.Random(3)
    originals = [text(rng, 400) for _ in range(80)]
    near = [replaced(original, 0.02, rng) for original in originals]  # about .94 of 3-grams stay: Jaccard .89
    far = [replaced(original, 0.12, rng) for original in originals]  # about .68 of them: Jaccard .52
    found = reasons(SynthesizeDeduplicate(), rows(originals + near + far))
    assert sum(found[f"p{i}"] is not None for i in range(80, 160)) >= 76
    assert sum(found[f"p{i}"] is not None for i in range(160, 240)) == 0


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000))
def test_the_order_of_rows_does_not_matter(seed: int) -> None:
    rng = random.Random(seed)
    originals = [text(rng, 30) for _ in range(12)]
    table = rows(originals + [replaced(rng.choice(originals), 0.04, rng) for _ in range(25)])
    shuffled = table.sample(fraction=1.0, shuffle=True, seed=seed)
    operator = SynthesizeDeduplicate(threshold=0.7)
    assert operator.run(table.lazy()).equals(operator.run(shuffled.lazy()))


def test_the_best_of_a_group_stays() -> None:
    table = rows(["one two three four"] * 3, score=[0.1, 0.9, 0.5])
    assert reasons(SynthesizeDeduplicate(keep="score"), table)["p1"] is None
    assert reasons(SynthesizeDeduplicate(keep="first"), table)["p0"] is None


def test_answers_are_compared_without_their_questions_when_asked() -> None:
    table = rows(["13", "13"], prompts=["6 + 7 =", "5 + 8 ="])
    assert not any(reasons(SynthesizeDeduplicate(), table).values())
    assert reasons(SynthesizeDeduplicate(text="completion"), table)["p1"] == "near-duplicate of p0/0"


def test_what_was_dropped_before_stays_dropped_and_is_nobodys_original() -> None:
    table = rows(["one two three"] * 3)
    before = (
        SynthesizeDeduplicate()
        .run(table.lazy())
        .with_columns(
            kept=pl.col("problem_id") != "p0",
            reason=pl.when(pl.col("problem_id") == "p0").then(pl.lit("truncated")),
        )
    )
    found = SynthesizeDeduplicate().run(table.lazy(), before.lazy())
    assert found["reason"].to_list() == ["truncated", None, "near-duplicate of p1/0"]


def test_bands_find_what_is_at_the_threshold() -> None:
    for threshold in (0.5, 0.7, 0.8, 0.9, 1.0):
        count, size = bands(128, threshold)
        assert count * size <= 128
        assert 1 - (1 - threshold**size) ** count >= 0.98


def test_repetition_is_a_share_of_ngrams() -> None:
    lists = pl.Series([["a", "b"] * 10, list("abcdefghij"), ["a"], []], dtype=pl.List(pl.String))
    found = shingles.repetition(shingles.hashed_words(lists), 2)
    assert found.tolist() == [17 / 19, 0.0, 0.0, 0.0]


def test_ngrams_are_those_of_each_text_alone() -> None:
    lists = pl.Series([list("abcd"), list("ab"), [], list("bcd")], dtype=pl.List(pl.String))
    grams, offsets = shingles.ngrams(shingles.hashed_words(lists), 3)
    assert offsets.tolist() == [0, 2, 3, 3, 4]
    assert grams[1] == grams[3] and len(np.unique(grams)) == 3


def test_scripts_without_blanks_have_words() -> None:
    table = rows(["我有三个苹果和两个梨子还有水", "我有三个苹果和两个梨子还有酒水和面包与茶叶"])
    assert not any(reasons(SynthesizeDeduplicate(), table).values())
    assert pl.select(shingles.words(pl.lit("ab我有")).alias("w"))["w"].to_list() == [["ab", "我", "有"]]


def benchmark_file(folder: Path, questions: list[str]) -> str:
    path = folder / "bench.jsonl"
    lines = [json.dumps({"id": f"b{i}", "question": question}) for i, question in enumerate(questions)]
    path.write_text("\n".join(lines))
    return str(path)


def quoting(question: str, words: int, rng: random.Random) -> str:
    return f"{text(rng)} before {' '.join(question.split()[5 : 5 + words])} after {text(rng)}"


def test_planted_contamination(tmp_path: Path) -> None:
    rng = random.Random(11)
    questions = [text(rng, 40) for _ in range(50)] + ["What is 2 + 2?"]
    path = benchmark_file(tmp_path, questions)
    clean = [text(rng, 40) for _ in range(100)]
    planted = {
        "exact": (questions[:20], True),
        "punctuation and case": ([question.upper().replace(" ", ",  ", 15) for question in questions[20:30]], True),
        "13 words quoted": ([quoting(question, 13, rng) for question in questions[:50]], True),
        "12 words quoted": ([quoting(question, 12, rng) for question in questions[:50]], False),
        "short, whole": (["what is 2+2"], True),
        "short, in part": (["What is 2 + 2 + 2?"], False),
        "rewritten": ([replaced(question, 0.4, rng) for question in questions[:20]], False),
    }
    prompts = clean + [said for many, _ in planted.values() for said in many]
    found = reasons(SynthesizeDecontaminate(benchmarks=(path,)), rows(["It is so."] * len(prompts), prompts=prompts))
    names = iter(range(len(clean), len(prompts)))
    for kind, (many, contaminated) in planted.items():
        for _ in many:
            reason = found[f"p{next(names)}"]
            assert (reason is not None) == contaminated, (kind, reason)
    assert not any(found[f"p{i}"] for i in range(len(clean)))
    assert found["p100"] == f"contaminated: is {path} row 1 (id b0)"


def test_renamed_numbers_are_contamination_when_asked(tmp_path: Path) -> None:
    path = benchmark_file(tmp_path, ["Tom has 12 apples and buys 30 more at the market then gives 5 away"])
    table = rows(["x"], prompts=["Tom has 17 apples and buys 41 more at the market then gives 2 away"])
    assert reasons(SynthesizeDecontaminate(benchmarks=(path,)), table)["p0"] is None
    found = reasons(SynthesizeDecontaminate(benchmarks=(path,), mask_numbers=True), table)["p0"]
    assert found is not None and "row 1 (id b0)" in found


def test_the_reason_quotes_what_was_found(tmp_path: Path) -> None:
    words = [f"word{chr(97 + i)}" for i in range(20)]
    path = benchmark_file(tmp_path, ["other text", " ".join(words)])
    table = rows(["Before, " + " ".join(words[3:17]) + " after."])
    quoted = " ".join(words[3:16])
    assert reasons(SynthesizeDecontaminate(benchmarks=(path,)), table)["p0"] == (
        f'contaminated: "{quoted}" is in {path} row 2 (id b1)'
    )


def test_identity_is_what_the_benchmarks_say_not_where_they_lie(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    first.mkdir(), second.mkdir()
    one = SynthesizeDecontaminate(benchmarks=(benchmark_file(first, ["some words"]),))
    same = SynthesizeDecontaminate(benchmarks=(benchmark_file(second, ["some words"]),))
    assert one.fingerprint() == same.fingerprint()
    other = SynthesizeDecontaminate(benchmarks=(benchmark_file(second, ["other words"]),))
    assert one.fingerprint() != other.fingerprint()


def test_a_benchmark_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="doesn't exist"):
        SynthesizeDecontaminate(benchmarks=(str(tmp_path / "none.jsonl"),)).fingerprint()


def test_without_benchmarks_all_stays() -> None:
    assert not any(reasons(SynthesizeDecontaminate(), rows(["a", "b"])).values())
