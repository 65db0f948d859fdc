"""Whatever a job file, ``--set`` or a file of problems says: an error in words, or none; never a traceback."""

from __future__ import annotations

import gzip
import json
import os
import string
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from jobs.config.job_file import read_job, with_assignments
from jobs.config.settings import build_pipeline, parse_assignments, run_settings
from jobs.config.validate import find_problems
from operators.load import Load
from pipelines import PIPELINES
from schemas.errors import BadInput, GristmillError

FEW = settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
SECONDS = 1.0
"""Beyond the start of a command, an error takes no longer, by this process's own time."""

NUMBERS = st.one_of(
    st.integers(),
    st.floats(),
    st.sampled_from([10**30, -(10**400), 2**63, -1, 0, True, False, 1e308, float("inf"), float("nan")]),
)
TEXTS = st.one_of(
    st.text(max_size=20),
    st.sampled_from(["\ud800", "\0", "(?P<", "[", "a{99999}", "*", "../../x", "/dev/zero", "${env:HOME}", "${env:}"]),
    st.text(alphabet=string.printable, max_size=200),
)
VALUES = st.recursive(
    st.one_of(st.none(), NUMBERS, TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXTS, inner, max_size=4)),
    max_leaves=8,
)
STAGES = ("load", "sample", "verify", "select", "coverage", "sft", "engine")
KEYS = st.one_of(
    TEXTS,
    st.sampled_from(
        [
            *STAGES,
            *(f"{stage}.{field}" for stage in STAGES for field in ("n", "operator", "kind", "pattern", "source")),
            *("sample.temperature", "sample.stop", "engine.model", "engine.url", "engine.slots", "load.columns"),
            *("run.budget.tokens", "run.flush_seconds", "run.limit", "run.prices", "load.limit", "load.split"),
        ]
    ),
)


class Quick:
    """A block that has to end within ``SECONDS`` of this process's time."""

    def __enter__(self) -> None:
        self.began = time.process_time()

    def __exit__(self, *_: object) -> None:
        took = time.process_time() - self.began
        assert took < SECONDS, f"it took {took:.1f} s"


def attempt(action: Any, *arguments: Any) -> None:
    """Do something that may fail, in words."""
    with Quick():
        try:
            action(*arguments)
        except GristmillError as error:
            assert str(error).strip()
            assert error.exit_code == 2, error


@pytest.fixture(autouse=True, scope="module")
def _imported() -> None:
    """Pay for imports before anything is timed."""
    for name in PIPELINES:
        build_pipeline(name, {})


@FEW
@given(key=KEYS, value=st.one_of(TEXTS, VALUES.map(lambda value: yaml.safe_dump(value, allow_unicode=True))))
@example(key="sample.n", value="9" * 20_000)
@example(key="sample.n", value="[" * 5_000)
@example(key="sample.n", value="&a [*a]")
@example(key="sample.n", value="0x" + "f" * 20_000)
@example(key="sample.n", value="2026-13-45")
@example(key="sample.n", value="!!python/object/apply:os.system [x]")
@example(key="sample.n", value="1" + ":59" * 10_000)
@example(key=".".join("a" * 3_000), value="1")
def test_set(key: str, value: str) -> None:
    def build() -> None:
        assigned = parse_assignments([f"{key}={value}"])
        run = assigned.pop("run", {})
        run_settings(run if isinstance(run, dict) else {}, None)
        build_pipeline("math", assigned)

    attempt(build)


@FEW
@given(
    document=st.dictionaries(
        st.one_of(KEYS, st.sampled_from(["pipeline", "settings", "run", "schedule", "notify"])), VALUES, max_size=5
    ),
    known=st.booleans(),
)
@example(document={"pipeline": "../../etc/passwd"}, known=False)
@example(document={"pipeline": ["math"]}, known=False)
@example(document={"settings": [1]}, known=True)
@example(document={"settings": {"sample": {"n": True}}}, known=True)
@example(document={"run": {"budget": {"tokens": float("inf")}}}, known=True)
@example(document={"settings": {"verify": {"operator": "verify.exact", "extract": {"pattern": "("}}}}, known=True)
@example(document={"secrets": {"a": 1}}, known=True)
@example(document={"environment": {"A": 1, "": "x", "B=C": "\0"}}, known=True)
@example(document={"schedule": {"cron": "* * * * * * *"}}, known=True)
@example(document={"notify": [{"kind": "webhook"}]}, known=True)
def test_job_files(document: dict[Any, Any], known: bool) -> None:
    text = yaml.safe_dump({**({"pipeline": "math"} if known else {}), **document}, allow_unicode=True)
    check_job(text.encode("utf-8", "surrogatepass"))


@FEW
@given(
    data=st.one_of(
        st.binary(max_size=300), st.text(alphabet="{}[]:,-&*!|>'\"#%@`? \n\tab01", max_size=300).map(str.encode)
    )
)
@example(
    data=b"a: &a [x, x]\n"
    + b"".join(b"%c: &%c [%s]\n" % (98 + i, 98 + i, b", ".join([b"*%c" % (97 + i)] * 9)) for i in range(12))
)
@example(data=b"pipeline: " + b"{a: " * 3_000)
@example(data=b"\xef\xbb\xbfpipeline: math\n")
@example(data=b"\xff\xfep\0i\0")
@example(data=b"pipeline: math\nsettings: {sample: {n: " + b"7" * 20_000 + b"}}\n")
@example(data=b"? " * 5_000)
@example(data=b"- " * 20_000)
@example(data=b"<<: *x")
@example(data=b"pipeline: math\npipeline: code\n")
def test_texts_of_job_files(data: bytes) -> None:
    check_job(data)


def check_job(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "job.yaml")
        path.write_bytes(data)

        def read() -> None:
            job = with_assignments(read_job(str(path)), [])
            run_settings(job.run, job.limit)
            build_pipeline(job.pipeline, job.settings)

        attempt(read)


ROWS = st.dictionaries(
    st.one_of(st.sampled_from(["id", "prompt", "question", "answer", "messages", "tests", "options"]), TEXTS),
    VALUES,
    max_size=5,
)


@FEW
@given(rows=st.lists(st.one_of(ROWS, VALUES), max_size=4), suffix=st.sampled_from([".jsonl", ".json"]))
@example(rows=[{"id": "a", "prompt": "\ud83d", "answer": "1"}], suffix=".jsonl")
@example(rows=[{"id": None, "prompt": "p", "answer": 10**400}], suffix=".jsonl")
@example(rows=[{"id": True, "prompt": "p", "answer": [[]]}], suffix=".json")
def test_problems(rows: list[Any], suffix: str) -> None:
    lines = [json.dumps(row) for row in rows]
    check_problems("\n".join(lines) if suffix == ".jsonl" else f"[{','.join(lines)}]", suffix)


@FEW
@given(
    data=st.one_of(st.binary(max_size=200), TEXTS),
    suffix=st.sampled_from([".jsonl", ".json", ".csv", ".tsv", ".parquet"]),
)
@example(data=b'{"id":1,"prompt":' + b"[" * 100_000, suffix=".jsonl")
@example(data=b'{"id":1,"prompt":"p","answer":' + b"9" * 20_000 + b"}", suffix=".jsonl")
@example(data=b"\xef\xbb\xbf" + b'{"id":"1","prompt":"p","answer":"1"}', suffix=".jsonl")
@example(data=b'"' * 5_001, suffix=".csv")
@example(data=b"PAR1" + bytes(100) + b"PAR1", suffix=".parquet")
def test_bytes_of_problems(data: bytes | str, suffix: str) -> None:
    check_problems(data, suffix)


def check_problems(data: bytes | str, suffix: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"problems{suffix}")
        path.write_bytes(data if isinstance(data, bytes) else data.encode("utf-8", "surrogatepass"))
        attempt(Load(source=str(path)).run)


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".parquet", ".yaml"])
@pytest.mark.parametrize("what", ["pipe", "device", "folder", "link to itself"])
def test_what_is_no_file(tmp_path: Path, suffix: str, what: str) -> None:
    path = tmp_path / f"x{suffix}"
    if what == "pipe":
        os.mkfifo(path)
    elif what == "device":
        path.symlink_to("/dev/zero")
    elif what == "folder":
        path.mkdir()
    else:
        path.symlink_to(path)
    with Quick(), pytest.raises(GristmillError) as caught:
        if suffix == ".yaml":
            read_job(str(path))
        else:
            Load(source=str(path)).run()
    assert caught.value.exit_code == 2
    if suffix == ".yaml":
        assert find_problems(str(path))[0]


@pytest.mark.parametrize("kind", ["cut", "flipped", "other", "nested"])
def test_what_is_packed_wrongly(tmp_path: Path, kind: str) -> None:
    rows = b'{"id": "a", "question": "1 + 1?", "answer": "2"}\n' * 50
    packed = bytearray(gzip.compress(rows))
    if kind == "flipped":
        packed[len(packed) // 2] ^= 0xFF
    data = {"cut": bytes(packed[:-9]), "other": b"PK\x03\x04" + packed, "nested": gzip.compress(packed)}
    path = tmp_path / "problems.jsonl.gz"
    path.write_bytes(data.get(kind, bytes(packed)))
    with pytest.raises(BadInput, match=r"problems\.jsonl\.gz"):
        Load(source=str(path)).run()


def test_a_file_that_the_system_does_not_let_be_read() -> None:
    with pytest.raises(BadInput, match="can't be read"):
        Load(source="/proc/self/mem").run()
