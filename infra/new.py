"""Begin a new operator or strategy: ``make new-operator NAME=select.longest``, ``make new-strategy NAME=twice``.

Writes the class and a test, and names it in the table of public names. What it writes runs as it stands and does
something plain; the checklists in CONTRIBUTING.md say what comes next.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

HOME = Path(__file__).resolve().parents[1]

OPERATOR = '''"""One sentence: what comes in, what is done to it, what comes out."""

from __future__ import annotations

from typing import ClassVar

import polars as pl

from operators.base import Operator
from schemas.datasets import Answer, Verdict


class {cls}(Operator):
    """Pick the first answer of each problem. (Say what it does, its units and its source: paper and equation.)"""

    version: ClassVar[int] = 1
    scope = "problem"
    inputs = {{
        "verdicts": Verdict.select("problem_key", "sample_index", "problem_id", "predicted_answer", "is_correct"),
    }}
    output = Answer

    least: int = 1
    """Samples that a problem must have. (Every setting says what it means, with its unit.)"""

    def run(self, verdicts: pl.DataFrame) -> pl.DataFrame:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return one row per problem."""
        first = verdicts.sort("sample_index").group_by("problem_key", maintain_order=True).first()
        counted = verdicts.group_by("problem_key").agg(n_samples=pl.len())
        return (
            first.join(counted, on="problem_key")
            .filter(pl.col("n_samples") >= self.least)
            .select(
                "problem_key",
                "problem_id",
                method=pl.lit("{short}"),
                answer="predicted_answer",
                answer_class=pl.lit(None, pl.String),
                confidence=pl.lit(1.0),
                n_samples="n_samples",
                runner_up=pl.lit(None, pl.String),
                runner_up_confidence=pl.lit(None, pl.Float64),
                is_correct="is_correct",
                confidence_low=pl.lit(None, pl.Float64),
            )
        )
'''

OPERATOR_TEST = '''"""What {name} gives for a few rows whose answer is known by hand."""

from __future__ import annotations

import polars as pl

from {module} import {cls}
from schemas.contract import validate


def test_it_picks_the_first_answer_of_each_problem() -> None:
    verdicts = pl.DataFrame(
        {{
            "problem_key": ["a", "a", "b"],
            "sample_index": [1, 0, 0],
            "problem_id": ["a", "a", "b"],
            "predicted_answer": ["2", "1", "3"],
            "is_correct": [True, False, None],
        }}
    )
    found = validate({cls}().run(verdicts), {cls}.output, "test")
    assert found.select("problem_key", "answer", "n_samples").rows() == [("a", "1", 2), ("b", "3", 1)]
    assert {cls}(least=2).run(verdicts)["problem_key"].to_list() == ["a"]
'''

STRATEGY = '''"""One sentence: how the calls of an episode are spent. (Paper, equation, and what differs from it.)"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from operators.strategies.episode import Episode
from operators.strategies.strategy import Strategy
from operators.strategies.words import Ask, Bill, Node, Result


class {cls}(Strategy):
    """Draw ``width`` completions and choose the shortest."""

    version: ClassVar[int] = 1

    width: int = Field(default=2, ge=1)
    """Completions of an episode, each a row."""

    @property
    def rows(self) -> int:
        return self.width

    def worst(self, prompt: int, most: int) -> Bill:
        return Bill(self.width, self.width * prompt, 0, self.width * most)

    async def play(self, ep: Episode) -> Result:
        said = await ep.generate([Ask() for _ in range(self.width)])
        finals = tuple(Node.whole(one, slot) for slot, one in enumerate(said))
        return Result(finals, min(range(len(finals)), key=lambda slot: len(finals[slot].text)))
'''

STRATEGY_TEST = '''"""What {name} asks, and what it chooses."""

from __future__ import annotations

from {module} import {cls}
from operators.strategies.words import Bill


def test_it_says_what_it_takes_at_most() -> None:
    assert {cls}(width=3).worst(10, 20) == Bill(3, 30, 0, 60)
    assert {cls}(width=3).rows == 3
'''


def operator(name: str) -> list[Path]:
    """Write an operator ``room.short`` and its test; return the files."""
    room, _, short = name.partition(".")
    if not re.fullmatch(r"[a-z]\w*\.[a-z]\w*", name):
        raise SystemExit(f"NAME={name}: it is ROOM.NAME in lower case, such as select.longest")
    folder = HOME / "operators" / room
    if not (folder / "__init__.py").is_file():
        rooms = sorted(path.parent.name for path in (HOME / "operators").glob("*/__init__.py"))
        raise SystemExit(f"there is no operators/{room}/; rooms: {', '.join(rooms)}")
    cls = _class_of(f"{room}_{short}")
    about = {"name": name, "cls": cls, "short": short, "module": f"operators.{room}.{short}"}
    files = {
        folder / f"{short}.py": OPERATOR.format(**about),
        HOME / "tests" / "unit" / f"test_{room}_{short}.py": OPERATOR_TEST.format(**about),
    }
    return _write(files, HOME / "operators" / "names.py", f'    "{name}": "operators.{room}.{short}:{cls}",\n')


def strategy(name: str) -> list[Path]:
    """Write a strategy and its test; return the files."""
    if not re.fullmatch(r"[a-z]\w*", name):
        raise SystemExit(f"NAME={name}: it is a name in lower case, such as shortest_of")
    cls, folder = _class_of(name), HOME / "operators" / "strategies"
    about = {"name": name, "cls": cls, "module": f"operators.strategies.{name}"}
    files = {
        folder / f"{name}.py": STRATEGY.format(**about),
        HOME / "tests" / "unit" / "strategies" / f"test_{name}.py": STRATEGY_TEST.format(**about),
    }
    return _write(files, folder / "names.py", f'    "{name}": "operators.strategies.{name}:{cls}",\n')


def _class_of(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))


def _write(files: dict[Path, str], table: Path, line: str) -> list[Path]:
    """Write files, and put a line at the end of a table of names."""
    taken = [str(path.relative_to(HOME)) for path in files if path.exists()]
    if taken:
        raise SystemExit(f"there already: {', '.join(taken)}")
    for path, text in files.items():
        path.write_text(text)
    text = table.read_text()
    place = text.rindex("\n}")
    table.write_text(f"{text[: place + 1]}{line}{text[place + 1 :]}")
    return [*files, table]


if __name__ == "__main__":
    kind, name = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else ""
    for written in {"operator": operator, "strategy": strategy}[kind](name):
        print(written.relative_to(HOME))
    print(f"next: CONTRIBUTING.md, 'A new {kind}'")
