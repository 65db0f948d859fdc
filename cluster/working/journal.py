"""What an engine answered in work that isn't finished: kept, so that nothing which was paid is asked a second time.

Work that asks an engine (judging, scoring, changing traces) may be ended in the middle: its engine dies, one of its
rows raises, the money is at its end, or the driver is killed. The answers so far lie in files of a folder of the stage;
whoever does the work again, in this run or in a later one, finds them there. What is finished and committed has no
files. Sampling keeps none: there, an answer is a sample.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import time
import uuid
from collections import defaultdict
from typing import Any

import xxhash

from cluster.storage.root import Root
from operators.engine import Completion, Request, Scored, ScoreRequest
from operators.token_tree import Grown, Took, Tree, TreeRequest
from schemas.datasets import ANSWERS_FOLDER
from schemas.errors import GristmillError

FLUSH_SECONDS = 1.0
"""How long an answer is only in memory. Work that takes no longer writes nothing."""
Paid = Request | ScoreRequest | TreeRequest
Answer = list[Completion] | Scored | Tree


class Answers:
    """The answers that unfinished work of one stage left, as one worker knows them."""

    def __init__(self, root: Root, folder: str) -> None:
        self.root = root
        self.folder = f"{ANSWERS_FOLDER}/{folder}"
        self._known: defaultdict[bytes, list[Answer]] = defaultdict(list)
        self._read: set[str] = set()

    def read(self) -> None:
        """Read the files that weren't there before; one that can't be read is as good as none."""
        for name in set(self.root.list(self.folder)) - self._read:
            self._read.add(name)
            try:
                lines = self.root.read_bytes(self.folder, name).decode().splitlines()
                for key, answer in map(_parsed, lines):
                    self._known[key].append(answer)
            except (GristmillError, OSError, ValueError, KeyError, TypeError):
                continue

    def find(self, key: bytes, place: int) -> Answer | None:
        """Return the answer to a request that was asked before; of several that are equal, one of them."""
        found = self._known.get(key, [])
        return found[place] if place < len(found) else None


class Journal:
    """What the engine answered to one piece of work."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self._lines: list[str] = []
        self._since = time.monotonic()
        self._writing: asyncio.Task[None] | None = None
        self.files: list[str] = []
        """Those that were written, by their names in the stage's folder."""

    def find(self, key: bytes, place: int) -> Answer | None:
        """Return the answer to a request that was asked before, in what this work repeats."""
        return self._answers.find(key, place)

    def note(self, key: bytes, answer: Answer) -> None:
        """Keep an answer; now and then all that came since are written."""
        self._lines.append(_written(key, answer))
        late = time.monotonic() - self._since >= FLUSH_SECONDS
        if late and (self._writing is None or self._writing.done()):
            self._writing = asyncio.create_task(self.flush())

    async def flush(self) -> None:
        """Write what isn't written. Work that ends without a result calls it once more."""
        self._since = time.monotonic()
        lines, self._lines = self._lines, []
        if lines:
            name = f"{uuid.uuid4().hex}.jsonl"
            self.files.append(name)
            data = "".join(lines).encode()
            await asyncio.to_thread(self._answers.root.write_bytes, data, self._answers.folder, name)


def forget(root: Root, folder: str, files: list[str] | tuple[str, ...]) -> None:
    """Remove the answers of work that is committed."""
    for name in files:
        root.remove(ANSWERS_FOLDER, folder, name)


def forget_all(root: Root, folder: str) -> None:
    """Remove all answers of a stage that is complete."""
    forget(root, folder, root.list(ANSWERS_FOLDER, folder))


def key_of(request: Paid) -> bytes:
    """Return the same key for requests that ask the same, whatever they are called."""
    asked = dataclasses.asdict(request)
    for name in ("request_id", "problem_id"):
        asked.pop(name, None)
    if isinstance(request, Request):
        asked["params"] = request.params.model_dump(mode="json")
        if not request.params.keep_stop:
            del asked["params"]["keep_stop"]  # keys of answers that are kept from before it was there
    return xxhash.xxh3_128_digest(json.dumps(asked, sort_keys=True).encode())


def _written(key: bytes, answer: Answer) -> str:
    if isinstance(answer, Scored):
        said: dict[str, Any] = {"scored": dataclasses.asdict(answer)}
    elif isinstance(answer, Tree):
        said = {"tree": dataclasses.asdict(answer)}
    else:
        said = {"completions": [dataclasses.asdict(one) for one in answer]}
    return json.dumps({"key": key.hex(), **said}) + "\n"


def _parsed(line: str) -> tuple[bytes, Answer]:
    row = json.loads(line)
    if "scored" in row:
        scored = row["scored"]
        return bytes.fromhex(row["key"]), Scored(**{**scored, "steps": tuple(scored["steps"])})
    if "tree" in row:
        finals = tuple(Grown(**one) for one in row["tree"]["finals"])
        return bytes.fromhex(row["key"]), Tree(finals, Took(**row["tree"]["took"]))
    return bytes.fromhex(row["key"]), [Completion(**one) for one in row["completions"]]
