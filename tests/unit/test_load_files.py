"""Files as people have them: encodings, line ends, JSON that isn't clean, folders with splits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from operators.load import Load
from operators.load.checks import Notes
from operators.load.places import split_of
from schemas.errors import BadInput

Row = dict[str, Any]


def loaded(path: Path, content: bytes | str, **settings: Any) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    """Return the problems of a file with this content, in its order, and what was told."""
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    notes = Notes()
    return Load(source=str(path), **settings).read(notes).to_dicts(), notes.sentences()


def refused(path: Path, content: bytes | str, **settings: Any) -> str:
    with pytest.raises(BadInput) as found:
        loaded(path, content, **settings)
    assert path.name in str(found.value)
    return str(found.value)


@pytest.mark.parametrize(
    ("content", "prompts"),
    [
        ('{"prompt": "a\u2028b"}\n{"prompt": "c\u0085d"}\n', ["a\u2028b", "c\u0085d"]),
        ('{"prompt": "a\x0bb"}\n'.replace("\x0b", "\\u000b"), ["a\x0bb"]),
        (b'\xef\xbb\xbf{"prompt": "a"}\n', ["a"]),
        ('{"prompt": "a"}\r\n{"prompt": "b"}\r\n\r\n', ["a", "b"]),
        ('{"prompt": "a"}\r{"prompt": "b"}\r', ["a", "b"]),
        ('{"prompt": "\u00fc"}\n'.encode("utf-16"), ["\u00fc"]),
        ('{"prompt": "\\ud83d\\ude00"}\n', ["\U0001f600"]),
    ],
)
def test_lines_and_marks(tmp_path: Path, content: bytes | str, prompts: list[str]) -> None:
    problems, told = loaded(tmp_path / "p.jsonl", content)
    assert [row["prompt"] for row in problems] == prompts
    assert told == () or "NO PROBLEM HAS AN ANSWER" in told[0]


def test_halves_of_surrogate_pairs_are_replaced_and_counted(tmp_path: Path) -> None:
    content = '{"prompt": "a\\ud83d?", "tags": ["\\udc00"]}\n{"prompt": "b", "answer": "1"}\n'
    problems, told = loaded(tmp_path / "p.jsonl", content)
    assert problems[0]["prompt"] == "a\ufffd?"
    assert json.loads(problems[0]["metadata"]) == {"tags": ["\ufffd"]}
    assert told[0].startswith("1 row with half of a surrogate pair")


@pytest.mark.parametrize("name", ["p.jsonl", "p.csv", "p.json"])
def test_another_encoding_is_refused_with_its_place_or_read_where_it_is_said(tmp_path: Path, name: str) -> None:
    text = {"p.jsonl": '{"prompt": "ab"}\n{"prompt": "caf\xe9"}\n', "p.csv": "prompt\nab\ncaf\xe9\n"}
    content = text.get(name, '[{"prompt": "ab"},\n{"prompt": "caf\xe9"}]').encode("latin-1")
    message = refused(tmp_path / name, content)
    assert "0xe9" in message and "isn't UTF-8" in message and "load.encoding=latin-1" in message
    assert f"line {2 if name != 'p.csv' else 3}" in message
    problems, _ = loaded(tmp_path / name, content, encoding="latin-1")
    assert [row["prompt"] for row in problems] == ["ab", "caf\xe9"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"prompt": "a"}\n{"prompt": "b", "prompt": "c"}\n', ["line 2", "'prompt' stands there twice"]),
        ('{"prompt": "a", "about": {"x": 1, "x": 2}}\n', ["line 1", "'x' stands there twice"]),
        ('{"prompt": "a"}\n{"prompt": "b", "n": ' + "9" * 5000 + "}\n", ["line 2", "4300 digits"]),
        ('{"prompt": ' + "[" * 100_000 + "\n", ["line 1", "nested too deeply"]),
        ('{"prompt": "a", "m": ' + "[" * 300 + "]" * 300 + "}\n", ["line 1", "nested more than 200 deep"]),
        ('{"prompt": "a"}\n{"prompt": "b"\n', ["line 2", "not valid JSON"]),
        ('{"prompt": "a"}\n"b"\n', ["line 2", "not a JSON object"]),
    ],
)
def test_json_that_is_not_clean_is_refused_with_its_line(tmp_path: Path, content: str, words: list[str]) -> None:
    message = refused(tmp_path / "p.jsonl", content)
    assert all(word in message for word in words), message


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('[{"prompt": "a"},\n {"prompt": "b"}', ["line 2"]),
        ('[{"prompt": "a"},\n "b"]', ["line 2", "element 2 is not a JSON object"]),
        ('[{"prompt": "a"}\n {"prompt": "b"}]', ["line 2", "expecting ','"]),
        ('{"train": [{"prompt": "a"}], "test": [{"prompt": "b"}]}', ["2 tables: train, test"]),
        ('"text"', ["line 1", "not a JSON object or an array"]),
    ],
)
def test_json_arrays_are_refused_with_their_line(tmp_path: Path, content: str, words: list[str]) -> None:
    message = refused(tmp_path / "p.json", content)
    assert all(word in message for word in words), message


@pytest.mark.parametrize(
    "content",
    [
        '[{"prompt": "a"}, {"prompt": "b"}]',
        '{"prompt": "a"}\n{"prompt": "b"}\n',
        '{"data": [{"prompt": "a"}, {"prompt": "b"}], "version": 1}',
    ],
)
def test_json_files_are_arrays_lines_or_an_object_with_an_array(tmp_path: Path, content: str) -> None:
    assert [row["prompt"] for row in loaded(tmp_path / "p.json", content)[0]] == ["a", "b"]


def test_numbers_and_ids_stay_what_they_are(tmp_path: Path) -> None:
    rows = '{"id": "007", "prompt": "a", "answer": 9007199254740993}\n{"id": "8", "prompt": "b", "answer": 0.5}\n'
    rows += '{"id": "9", "prompt": "c", "answer": 72, "big": 123456789012345678901234567890}\n'
    problems, _ = loaded(tmp_path / "p.jsonl", rows)
    assert [(row["problem_id"], row["answer"]) for row in problems] == [
        ("007", "9007199254740993"),
        ("8", "0.5"),
        ("9", "72"),
    ]
    assert json.loads(problems[2]["metadata"]) == {"big": 123456789012345678901234567890}


def test_tab_separated_and_double_headers(tmp_path: Path) -> None:
    problems, _ = loaded(tmp_path / "p.tsv", "id\tquestion\tanswer\n007\tQ, R?\t1.50\n")
    assert (problems[0]["problem_id"], problems[0]["prompt"], problems[0]["answer"]) == ("007", "Q, R?", "1.50")
    assert "'answer' stands twice" in refused(tmp_path / "p.csv", "question,answer,answer\nQ,1,2\n")


@pytest.mark.parametrize(
    ("path", "split"),
    [
        ("train-00000-of-00002.parquet", "train"),
        ("data/test-00000-of-00001.parquet", "test"),
        ("main/validation-00000-of-00001-abc.parquet", "validation"),
        ("train/0000.parquet", "train"),
        ("gsm8k_test.jsonl", "test"),
        ("hard-00001-of-00003.parquet", "hard"),
        ("dev.jsonl.gz", "dev"),
        ("part-00000.parquet", None),
        ("train/data-00000-of-00001.arrow", "train"),
        ("data-00000-of-00001.parquet", None),
        ("latest.parquet", None),
        ("trainer.parquet", None),
    ],
)
def test_the_split_that_a_file_names(path: str, split: str | None) -> None:
    assert split_of(path) == split


def test_a_folder_with_splits_reads_the_one_asked_for(tmp_path: Path) -> None:
    for name in ("train-00000-of-00002", "train-00001-of-00002", "validation-00000-of-00001"):
        pl.DataFrame({"question": [name], "answer": ["1"]}).write_parquet(tmp_path / f"{name}.parquet")
    with pytest.raises(BadInput, match=r"several splits: train \(2 files\), validation \(1 file\).*load.split=train"):
        Load(source=str(tmp_path)).run()
    assert len(Load(source=str(tmp_path), split="train").run()) == 2
    assert len(Load(source=str(tmp_path), split="dev").run()) == 1
    with pytest.raises(BadInput, match=r"no split 'test'; it has train \(2 files\)"):
        Load(source=str(tmp_path), split="test").run()


def test_a_folder_of_json_files_keeps_the_shape_of_each_row(tmp_path: Path) -> None:
    (tmp_path / "1.json").write_text('{"problem": "a", "answer": ["3", "5"]}')
    (tmp_path / "2.json").write_text('{"problem": "b", "answer": "7", "level": 2}')
    problems = Load(source=str(tmp_path)).run()
    assert problems["answer"].to_list() == ["3", "7"]
    assert [json.loads(text or "{}") for text in problems["verification"]] == [{"answers": {"any": ["3", "5"]}}, {}]


def folder(root: Path, files: dict[str, Row]) -> Path:
    for name, row in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".parquet"):
            pl.DataFrame([row]).write_parquet(root / name)
        else:
            (root / name).write_text(json.dumps(row))
    return root


ONE, TWO = {"question": "a", "answer": "1"}, {"question": "b", "answer": "2"}


@pytest.mark.parametrize(
    ("names", "split", "words"),
    [
        (
            ("main/train-00000-of-00001.parquet", "socratic/train-00000-of-00001.parquet"),
            "train",
            "main (1 file), socratic",
        ),
        (("ARC-Easy/test.jsonl", "ARC-Challenge/test.jsonl"), None, "ARC-Challenge (1 file), ARC-Easy (1 file)"),
        (("main/test/0.parquet", "socratic/test/0.parquet"), "test", "load.source=FOLDER/main"),
        (("all/test.jsonl", "test.jsonl"), None, "load.source=FOLDER/all"),
        (("train/algebra/1.json", "train/geometry/2.json"), "train", None),
        (("algebra/1.json", "geometry/2.json"), None, None),
        (("year=2023/train.parquet", "year=2024/train.parquet"), None, None),
        (("data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet"), "train", None),
    ],
)
def test_configurations_of_a_data_set_are_not_merged(
    tmp_path: Path, names: tuple[str, str], split: str | None, words: str | None
) -> None:
    source = str(folder(tmp_path / "set", dict(zip(names, (ONE, TWO), strict=True))))
    if words is None:
        assert Load(source=source, split=split).run()["prompt"].to_list() == ["a", "b"]
        return
    with pytest.raises(BadInput, match="several configurations") as refused:
        Load(source=source, split=split).run()
    assert words.replace("FOLDER", source) in str(refused.value)


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"problem": "b", "answer": "2"}, r"1.json asks in 'question', 2.json in 'problem'"),
        ({"messages": [{"role": "user", "content": "b"}]}, r"1.json asks in 'question', 2.json in 'messages'"),
        ({"question": "b", "final_answer": "2"}, r"1.json has its answers in 'answer', 2.json in 'final_answer'"),
    ],
)
def test_files_of_several_kinds_are_not_merged(tmp_path: Path, other: Row, words: str) -> None:
    source = folder(tmp_path / "set", {"1.json": ONE, "2.json": other})
    with pytest.raises(BadInput, match=f"several kinds: {words}.*load.source=.*/2.json"):
        Load(source=str(source)).run()
    (source / "2.json").write_text(json.dumps({"question": "b"}))
    assert len(Load(source=str(source)).run()) == 2


def test_splits_stand_in_folders_files_and_columns(tmp_path: Path) -> None:
    column = [{**ONE, "split": "train"}, {**TWO, "split": "test"}]
    sources = {
        "column.jsonl": "".join(json.dumps(row) + "\n" for row in column),
        "tables.json": json.dumps({"train": [ONE], "test": [TWO]}),
    }
    for name, content in sources.items():
        source = tmp_path / name
        source.write_text(content)
        assert Load(source=str(source), split="test").run()["prompt"].to_list() == ["b"], name
        with pytest.raises(BadInput, match=r"has no split 'dev'; its column|2 tables: train, test"):
            Load(source=str(source), split="dev").run()
    with pytest.raises(BadInput, match=r"2 tables: train, test. Say which: load.split=train"):
        Load(source=str(tmp_path / "tables.json")).run()
    notes = Notes()
    assert len(Load(source=str(tmp_path / "column.jsonl")).read(notes)) == 2
    assert "1 row of the split 'test': load.split=test reads no others (row 2)" in notes.sentences()
    many = folder(tmp_path / "many", {"1.json": column[0], "2.json": column[1]})
    assert Load(source=str(many), split="training").run()["prompt"].to_list() == ["a"]
    plain = folder(tmp_path / "plain", {"gsm_test.json": ONE})
    assert len(Load(source=str(plain / "gsm_test.json"), split="test").run()) == 1
    with pytest.raises(BadInput, match=r"no split 'train': neither its name nor a column 'split'"):
        Load(source=str(plain / "gsm_test.json"), split="train").run()


@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
@pytest.mark.parametrize(
    "written",
    [
        lambda rows: json.dumps(rows),
        lambda rows: json.dumps(rows, indent=2),
        lambda rows: "\n".join(json.dumps(row, indent=2) for row in rows),
        lambda rows: "\n".join(json.dumps(row) for row in rows) + "\n\n",
    ],
)
def test_json_in_whatever_lines_it_is_written(tmp_path: Path, suffix: str, written: Any) -> None:
    (tmp_path / f"p{suffix}").write_text(written([ONE, TWO]))
    assert Load(source=str(tmp_path / f"p{suffix}")).run()["prompt"].to_list() == ["a", "b"]


def test_the_line_of_an_object_over_several_lines_is_told(tmp_path: Path) -> None:
    text = json.dumps(ONE, indent=1) + '\n{\n"question": "b",\n"question": "c"\n}'
    assert "line 5: the key 'question' stands there twice" in refused(tmp_path / "p.json", text)
    assert "line 5: something" in refused(tmp_path / "p.json", json.dumps(ONE, indent=1) + "\n7")


def test_data_sets_as_they_are_saved(tmp_path: Path) -> None:
    for split in ("train", "test"):
        place = tmp_path / "saved" / split
        place.mkdir(parents=True)
        pl.DataFrame({"question": [split], "answer": ["1"]}).write_ipc_stream(place / "data-00000-of-00001.arrow")
        (place / "dataset_info.json").write_text("{}")
    with pytest.raises(BadInput, match=r"several splits: test \(1 file\), train \(1 file\)"):
        Load(source=str(tmp_path / "saved")).run()
    assert Load(source=str(tmp_path / "saved"), split="test").run()["prompt"].to_list() == ["test"]
    pl.DataFrame([ONE]).write_ipc(tmp_path / "p.arrow")
    assert Load(source=str(tmp_path / "p.arrow")).run()["prompt"].to_list() == ["a"]


def test_a_table_without_a_first_line_of_names(tmp_path: Path) -> None:
    told = refused(tmp_path / "p.csv", f"{'What? ' * 40},1,2,A\nWhy?,3,4,B\n")
    assert "does its first line name the columns?" in told and len(told) < 400
