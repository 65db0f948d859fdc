"""A root whose every write is watched: processes that die or fall asleep at one of them, and what must be there after.

A *process* is a driver, a merge or a garbage collection in a thread of its own. It reaches the root by a path of its
own (a link), so the hooks at the outermost edge know whose write it is. A dead process writes nothing any more; one
that sleeps does nothing until it is woken, whatever others did meanwhile. Every commit is noted the moment it takes
effect, before its process may die of it: from then on its rows are facts.
"""

from __future__ import annotations

import itertools
import json
import re
import shutil
import tempfile
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple
from urllib.parse import urlsplit

import polars as pl
import pytest
from deltalake import DeltaTable
from deltalake.transaction import AddAction

from cluster.engines.scripted import ScriptedEngine
from cluster.storage import parts
from cluster.storage.lease import Lease, read_lease, write_lease
from cluster.storage.root import Root
from cluster.storage.store import EPOCH
from cluster.working.compaction import next_merge

Key = tuple[str, int]
KEY = ["problem_key", "sample_index"]
TOLD = {"samples": ["completion", "finish_reason"], "verdicts": ["predicted_answer", "is_correct"]}
"""Kind of store -> the columns that are held against the model."""
SERIALS = itertools.count(100_000)
SERIAL = re.compile(r"\d{6}")
FAN_IN, TARGET = 3, 2**15
"""Merges in small."""
PATIENCE = 600.0
"""Seconds after which a process that neither ends nor sleeps hangs."""


class Killed(BaseException):
    """The process is dead."""


Kind = Literal["any", "take", "commit", "lease", "part", "table", "file", "remove", "vacuum"]
"""Kinds of writes; ``take`` is the commit that makes a store's new writer."""


class Fate(NamedTuple):
    """What happens to a process at its ``at``-th write of a kind, right before it takes effect or right after."""

    kill: bool
    kind: Kind
    at: int
    after: bool


class Unrepeatable(ScriptedEngine):
    """Like real engines: what is drawn twice comes out differently. ``{seed}`` is a number that never comes again."""

    def _complete(self, prompt: str, params: Any, seed: int, draws: Any) -> Any:
        return super()._complete(prompt, params, next(SERIALS), draws)


@dataclass
class World:
    """One root, and the model of it.

    Attributes:
        facts: store folder -> key -> what its row says, from the first commit on.
        epochs: store folder -> the highest epoch in which anything was committed.
        wrong: what went against the rules at the moment of a commit.
    """

    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="gristmill-model-")))
    facts: dict[str, dict[Key, tuple[Any, ...]]] = field(default_factory=dict)
    epochs: dict[str, int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    files: dict[str, dict[str, set[Key]]] = field(default_factory=dict)
    processes: list[Process] = field(default_factory=list)

    def __post_init__(self) -> None:
        (self.folder / "root").mkdir()
        self.root = Root.at(self.folder / "root")

    def close(self) -> None:
        for process in self.processes:
            process.die()
            _PROCESSES.pop(process.root.url)
        shutil.rmtree(self.folder, ignore_errors=True)

    def stores(self) -> list[str]:
        logs = (self.folder / "root").glob("*/**/_delta_log")
        return sorted(str(log.parent.relative_to(self.folder / "root")) for log in logs)

    def state(self, folder: str) -> frozenset[tuple[str, int, int]]:
        """Return what tells whether a folder was touched: files but the lease, when they were written, how large."""
        files = [file for file in Path(self.root.uri(folder)).rglob("*") if file.suffix in (".json", ".parquet")]
        stats = [(file.as_posix(), file.stat()) for file in files if file.name != "_lease.json"]
        return frozenset((name, stat.st_mtime_ns, stat.st_size) for name, stat in stats)

    def rows(self, folder: str, files: list[str] | None = None) -> dict[Key, tuple[Any, ...]]:
        """Read what a store, or some files of it, say; a key that is there twice is a violation."""
        columns = [*KEY, *TOLD[folder.split("/")[0]]]
        if files is None:
            files = [urlsplit(uri).path for uri in DeltaTable(self.root.uri(folder)).file_uris()]
        found: dict[Key, tuple[Any, ...]] = {}
        for file in files:
            rows = [((key, index), tuple(told)) for key, index, *told in pl.read_parquet(file, columns=columns).rows()]
            keys = [key for key, _ in rows]
            if keys != sorted(set(keys)) or found.keys() & set(keys):
                self.wrong.append(f"{file} isn't sorted by key, or has keys twice, or that another file has: {keys}")
            found.update(rows)
        return found

    def committed(self, process: Process, folder: str, actions: list[Any], epoch: int | None) -> None:
        """Note a commit that just took effect; the keys it brings must be new, or those of the files it takes out."""
        if epoch is not None:
            process.epochs[folder] = epoch
        highest = self.epochs[folder] = max(self.epochs.get(folder, 0), epoch or 0)
        if process.epochs.get(folder) != highest:
            self.wrong.append(f"{process} committed to {folder} in epoch {process.epochs.get(folder)} of {highest}")
        facts, files = self.facts.setdefault(folder, {}), self.files.setdefault(folder, {})
        added = {action.path: action for action in actions if isinstance(action, AddAction)}
        removed = [action.path for action in actions if not isinstance(action, AddAction)]
        gone = [name for name in added if not self.root.exists(folder, name)]
        if gone:
            self.wrong.append(f"{process} committed files to {folder} that aren't there: {gone}")
            return
        rows = {name: self.rows(folder, [self.root.uri(folder, name)]) for name in added}
        new = {key: row for found in rows.values() for key, row in found.items()}
        if len(new) < sum(len(found) for found in rows.values()):
            self.wrong.append(f"{process} committed keys to {folder} twice at once")
        old = {key: facts[key] for name in removed for key in files.pop(name)}
        if removed and new != old:
            self.wrong.append(f"{process} merged other rows into {folder} than it took out: {new} for {old}")
        if not removed and new.keys() & facts.keys():
            self.wrong.append(f"{process} committed keys to {folder} that were there: {new.keys() & facts.keys()}")
        files.update((name, set(found)) for name, found in rows.items())
        if folder.startswith("verdicts/"):
            self._check_verdicts(process, folder, new)
        facts.update(new)

    def _check_verdicts(self, process: Process, folder: str, rows: dict[Key, tuple[Any, ...]]) -> None:
        """A verdict is about the text that is a fact: texts carry serial numbers, and so do answers."""
        samples = self.facts.get(f"samples/{folder.split('/')[1]}", {})
        for key, (answer, _) in rows.items():
            text = samples[key][0] if key in samples else ""
            if answer is None or answer not in text or not SERIAL.search(answer):
                self.wrong.append(f"{process} committed a verdict on {key}: '{answer}', of the text '{text}'")

    def change_leases(self, process: Process, **changes: Any) -> None:
        """Change the leases that a process has published and still holds, and its heartbeat."""
        places = [(folder, "_lease.json") for folder in self.stores()]
        places += [(f"runs/{run_id}", "heartbeat.json") for run_id in process.run_ids]
        for folder, name in places:
            lease = read_lease(self.root, folder, name)
            if lease is not None and lease.run_id in process.run_ids:
                write_lease(self.root, folder, lease.model_copy(update=changes), name)

    def holder(self, folder: str) -> Lease | None:
        """Return the lease on a store if it is alive."""
        lease = read_lease(self.root, folder)
        return lease if lease is not None and lease.alive() else None


class Process:
    """Something that works on a root in a thread of its own."""

    def __init__(self, world: World, name: str, work: Callable[[Root], Any], fate: Fate | None) -> None:
        self.world = world
        self.name = f"{name} {len(world.processes)}"
        link = world.folder / f"process-{len(world.processes)}"
        link.symlink_to(world.folder / "root")
        self.root = Root.at(link)
        self.work = work
        self.fate = fate
        self.dead = False
        self.killed = False
        self.slept = False
        self.result: Any = None
        self.error: BaseException | None = None
        self.run_ids: set[str] = set()
        """The names under which it took leases."""
        self.epochs: dict[str, int] = {}
        """Store folder -> in which epoch it is the writer."""
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._awake = threading.Event()
        self._awake.set()
        self._news = threading.Event()
        self._thread = threading.Thread(target=self._live, name=self.name, daemon=True)
        world.processes.append(self)
        _PROCESSES[self.root.url] = self

    def __repr__(self) -> str:
        return self.name

    @property
    def ended(self) -> bool:
        return not self._thread.is_alive()

    def start(self) -> None:
        """Start it; return when it ended or fell asleep."""
        self._thread.start()
        self._wait()

    def wake(self) -> None:
        """Let it go on to its end."""
        self._news.clear()
        self._awake.set()
        self._wait()

    def die(self) -> None:
        """End it where it is."""
        self.dead = self.killed = True
        if not self.ended:
            self.wake()

    def _wait(self) -> None:
        assert self._news.wait(PATIENCE), f"{self} hangs"
        if self._awake.is_set():
            self._thread.join(PATIENCE)
            assert self.ended, f"{self} hangs"
            self.dead = True  # threads it may have left write nothing any more

    def _live(self) -> None:
        _here.process = self
        try:
            self.result = self.work(self.root)
        except BaseException as error:
            self.error = error
        self._news.set()

    @contextmanager
    def write(self, kind: Kind, litter: Path | None = None) -> Iterator[None]:
        """Do one write, unless it is the one before which the process dies; that may leave half a file."""
        with self._lock:
            self._counts.update((kind, "any"))
            fated = self.fate is not None and self._counts[self.fate.kind] == self.fate.at
            fated = fated and self.fate.kind in (kind, "any")  # pyright: ignore[reportOptionalMemberAccess]
        self._pass(fated, after=False, litter=litter)
        yield
        self._pass(fated, after=True)

    def _pass(self, fated: bool, after: bool, litter: Path | None = None) -> None:
        if self.fate is not None and fated and self.fate.after == after and not self.dead:
            if not self.fate.kill:
                self.slept = True
                self._awake.clear()
                self._news.set()
            else:
                self.dead = self.killed = True
                if litter is not None:
                    litter.parent.mkdir(parents=True, exist_ok=True)
                    litter.write_bytes(b"PAR1 and no more")
        self._awake.wait()
        if self.dead:
            raise Killed


_PROCESSES: dict[str, Process] = {}
_here = threading.local()


def _writing(kind: Kind, url: str, litter: Path | None = None) -> Any:
    """Return the context in which whoever reaches the root by ``url`` writes."""
    process = next((found for link, found in _PROCESSES.items() if f"{url}/".startswith(f"{link}/")), None)
    return nullcontext() if process is None else process.write(kind, litter)


@contextmanager
def watched_writes() -> Iterator[None]:
    """Hook all ways in which anything gets written, and make merges and texts as the model wants them."""
    write, remove, whole_file = Root._write, Root.remove, parts._whole_file
    create, commit, vacuum = DeltaTable.create, DeltaTable.create_write_transaction, DeltaTable.vacuum

    def write_watched(root: Root, data: bytes, path: str) -> None:
        process = _PROCESSES.get(root.url)
        if process is not None and path.endswith(("_lease.json", "heartbeat.json")):
            process.run_ids.add(json.loads(data)["run_id"])
        with _writing("lease" if path.endswith("_lease.json") else "file", root.url):
            write(root, data, path)

    def remove_watched(root: Root, *names: str, recursive: bool = False) -> None:
        with _writing("remove", root.url):
            remove(root, *names, recursive=recursive)

    @contextmanager
    def whole_file_watched(root: Root, folder: str, name: str) -> Iterator[Any]:
        litter = Path(root.uri(folder, f"{uuid.uuid4().hex}.partial"))
        with _writing("part", root.url, litter), whole_file(root, folder, name) as file:
            yield file

    def create_watched(uri: str, *args: Any, **kwargs: Any) -> DeltaTable:
        with _writing("table", uri):
            return create(uri, *args, **kwargs)

    def commit_watched(table: DeltaTable, actions: list[Any], *args: Any, **kwargs: Any) -> None:
        process: Process | None = getattr(_here, "process", None)
        assert process is not None, "nobody else commits"
        numbers = {number.app_id: number.version for number in kwargs["commit_properties"].app_transactions}
        folder = Path(urlsplit(table.table_uri).path).relative_to(process.world.folder / "root").as_posix()
        with process.write("take" if EPOCH in numbers else "commit"):
            commit(table, actions, *args, **kwargs)
            process.world.committed(process, folder, actions, numbers.get(EPOCH))

    def vacuum_watched(table: DeltaTable, *args: Any, dry_run: bool = True, **kwargs: Any) -> list[str]:
        process: Process | None = getattr(_here, "process", None)
        with nullcontext() if process is None or dry_run else process.write("vacuum"):
            return vacuum(table, *args, dry_run=dry_run, **kwargs)

    patch = pytest.MonkeyPatch()
    patch.setattr(Root, "_write", write_watched)
    patch.setattr(Root, "remove", remove_watched)
    patch.setattr(parts, "_whole_file", whole_file_watched)
    patch.setattr(DeltaTable, "create", staticmethod(create_watched))
    patch.setattr(DeltaTable, "create_write_transaction", commit_watched)
    patch.setattr(DeltaTable, "vacuum", vacuum_watched)
    patch.setattr("cluster.working.engine_worker.build_engine", Unrepeatable)
    patch.setattr("cluster.stages.merging.next_merge", lambda sizes: next_merge(sizes, FAN_IN, TARGET))
    try:
        yield
    finally:
        patch.undo()
