"""Large files are read a piece at a time, and give what they give as a whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from operators.load import Load
from operators.load.checks import Notes
from operators.load.pieces import LARGE
from schemas.errors import BadInput

LONG = "Think of what was said before, and of what follows from it, before you answer with a number. " * 60


def rows(count: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {"id": number, "question": f"{LONG} What is {number} + 1?", "answer": number + 1, "level": number % 3}
        for number in range(count)
    ]
    found[-1] |= {"level": "hard", "answer": None, "source": {"book": ["é", 2]}}  # what only the last piece shows
    found[-2]["answer"] = 0.5
    found[3]["hint"] = None
    return found


def write(path: Path, found: list[dict[str, Any]]) -> Path:
    if path.suffix == ".parquet":
        told = [
            {
                **row,
                "answer": None if row["answer"] is None else str(row["answer"]),
                "level": str(row["level"]),
                "source": None,
            }
            for row in found
        ]
        pl.DataFrame(told, infer_schema_length=None).write_parquet(path, compression="uncompressed", row_group_size=700)
    else:
        path.write_text("\n".join(json.dumps(row) for row in found))
    assert path.stat().st_size > LARGE
    return path


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_pieces_give_what_the_whole_gives(tmp_path: Path, suffix: str) -> None:
    source = write(tmp_path / f"p{suffix}", rows(LARGE // len(LONG) + 100))
    for load in (Load(source=str(source)), Load(source=str(source), limit=1700)):
        told: list[str] = []
        pieces = list(load.batches(told.append))
        assert len(pieces) > 3
        assert max(int(piece.estimated_size()) for piece in pieces) < LARGE // 2
        notes = Notes()
        assert pl.concat(pieces).equals(load.read(notes))
        assert tuple(told) == notes.sentences()
        assert bool(told) == (load.limit is None)


def test_what_is_wrong_in_a_late_piece_is_told_with_its_row(tmp_path: Path) -> None:
    found = rows(LARGE // len(LONG) + 100)
    found[-5]["question"] = " "
    source = write(tmp_path / "p.jsonl", found)
    with pytest.raises(BadInput, match=f"row {len(found) - 4}: 'question' is empty"):
        list(Load(source=str(source)).batches(lambda _: None))
    text = source.read_text()
    source.write_text(text + "\n{broken")
    with pytest.raises(BadInput, match=f"line {len(found) + 1} is not valid JSON"):
        list(Load(source=str(source)).batches(lambda _: None))
