"""Whatever comes down a program's descriptor: a message, or one of a few errors; never a verdict that isn't earned."""

from __future__ import annotations

import base64
import json
import os
import random
import socket
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.sandbox.inside.candidate import Program, ProgramFailed
from cluster.sandbox.inside.frames import Closed, Frames, Malformed, TooLarge, TooSlow
from cluster.sandbox.inside.references import NotCrossing
from cluster.sandbox.pool import SandboxPool
from operators.sandbox import Case, CasesJob, CheckJob, Limits, Mounts
from tests.sandbox.hostile import TESTS, WRONG

LARGEST = 1 << 12
TAGS = [
    *("i", "t", "T", "l", "d", "s", "f", "q", "b", "c", "F", "D", "r", "n", "N", "e", "E", "ref", "fault", "class"),
    *("function", "iterator", "value", "missing", "raised", "broken", "callback", "changed", "same", "printed", "foreign"),
    *("too_deep", "status", "arguments", "kind", "factory", "most", "mutable", "type", "message", "scalar", "serves"),
]  # fmt: skip
PLAIN = [None, True, False, 0, 1, -1, 5, 1 << 70, 0.5, float("nan"), "", "x", "0x5", "SystemExit", "passed", "add"]


def answer(dice: random.Random, depth: int = 0) -> Any:
    """Return something that looks like what sandboxes say to each other."""
    kind = dice.random()
    if depth > 4 or kind < 0.3:
        return dice.choice(PLAIN)
    many = dice.randrange(4)
    if kind < 0.5:
        return [answer(dice, depth + 1) for _ in range(many)]
    return {dice.choice(TAGS): answer(dice, depth + 1) for _ in range(many + 1)}


def framed(message: Any) -> bytes:
    data = json.dumps(message).encode()
    return len(data).to_bytes(4, "big") + data


def hostile(dice: random.Random) -> bytes:
    """Return some frames, of which one may be damaged."""
    sent = bytearray(
        b"".join(framed({"value": answer(dice)} | dict.fromkeys(dice.sample(TAGS, 2), answer(dice))) for _ in range(4))
    )
    match dice.randrange(4):
        case 0:
            sent[dice.randrange(len(sent))] ^= 1 << dice.randrange(8)
        case 1:
            del sent[dice.randrange(len(sent)) :]
        case 2:
            at = dice.randrange(len(sent))
            sent[at:at] = dice.randbytes(dice.randrange(1, 9))
        case _:
            pass
    return bytes(sent)


@settings(max_examples=300)
@given(
    st.lists(st.binary(max_size=40), max_size=6) | st.randoms(use_true_random=False).map(lambda dice: [hostile(dice)])
)
def test_a_reader_gets_a_message_or_says_that_it_is_none(parts: list[bytes]) -> None:
    read, write = os.pipe()
    try:
        for part in parts:
            os.write(write, part)
        os.close(write)
        frames = Frames(read, read, largest=LARGEST)
        for _ in range(10):
            assert isinstance(frames.receive(time.monotonic() + 60), dict)
    except (Closed, Malformed, TooLarge):
        pass
    finally:
        os.close(read)


@settings(max_examples=300)
@given(st.lists(st.dictionaries(st.text(max_size=5), st.integers() | st.text()), min_size=1, max_size=5), st.data())
def test_messages_come_through_in_any_pieces(messages: list[dict[str, Any]], data: st.DataObject) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        sent = b"".join(framed(message) for message in messages)
        frames = Frames(ours.fileno(), ours.fileno())
        cut = data.draw(st.integers(0, len(sent)))
        theirs.sendall(sent[:cut])
        found: list[dict[str, Any]] = []
        try:
            while len(found) < len(messages):
                found.append(frames.receive(time.monotonic()))
        except TooSlow:
            theirs.sendall(sent[cut:])
            found += [frames.receive(time.monotonic() + 60) for _ in range(len(messages) - len(found))]
        assert found == messages


def test_whoever_sends_without_end_is_watched_and_too_slow_all_the_same() -> None:
    looks: list[float] = []

    class Trickling(Frames):
        """A byte is there whenever one looks."""

        def _read_more(self, size: int, until: float | None, due: float | None) -> None:
            super()._read_more(min(size, len(self._buffer) + 1), until, due)

    read, write = os.pipe()
    os.write(write, b"\0\1\0\0" + bytes(5000))
    until = time.monotonic() + 0.1
    with pytest.raises(TooSlow):
        Trickling(read, read, exact=True).receive(until, lambda: looks.append(os.write(write, bytes(4000))))
    assert looks
    os.close(read)
    os.close(write)


@settings(max_examples=300)
@given(st.randoms(use_true_random=False))
def test_answers_of_any_kind_are_errors_or_values(dice: random.Random) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(hostile(dice))
        theirs.shutdown(socket.SHUT_WR)
        program = Program(ours.fileno(), time.monotonic() + 60)
        try:
            program.start()
            program.name("add")
            program.ask(0, "call", [1], b=2)
        except (Exception, NotCrossing, ProgramFailed, SystemExit, KeyboardInterrupt, GeneratorExit):
            pass  # which the tester takes for the program's failure; nothing else


@pytest.mark.sandbox
def test_no_frames_of_a_programs_make_it_right_or_break_the_sandbox() -> None:
    jobs: list[CheckJob | CasesJob] = []
    for seed in range(60):
        sent = base64.b64encode(hostile(random.Random(seed))).decode()
        program = f"import base64, os\nsent = base64.b64decode('{sent}')\nos.write(3, sent)\n{WRONG}"
        jobs += [CheckJob(program, TESTS, "add"), CasesJob(program, (Case(stdout="42"),))]
    broken = f"import os\nos.write(3, {framed({'broken': 'no namespaces here'})!r})\n{WRONG}"
    jobs.append(CheckJob(broken, TESTS, "add"))
    with SandboxPool(2) as pool:
        outcomes = pool.run(jobs, Limits(seconds=2), Mounts())
        [good] = pool.run([CheckJob("def add(a, b): return a + b", TESTS, "add")], Limits(), Mounts())
    assert not [outcome for outcome in outcomes if outcome.status in ("passed", "missing")]
    assert good.status == "passed"


FORGED: dict[str, bytes] = {
    "no sandbox": framed({"status": "broken", "detail": "no namespaces here"}),
    "another field": framed({"status": "failed", "more": 1}),
    "another status": framed({"status": "right"}),
    "another type": framed({"status": "failed", "detail": ["x"]}),
    "no time": framed({"status": "timeout", "waited": "long"}),
    "no outcome": framed({"serves": 1}),
    "half of one": b"\0\0\0\x0d{",
    "no message": b"\0\0\0\x02[]",
    "far too much": b"\xff\xff\xff\xff",
}


@pytest.mark.sandbox
def test_tests_that_write_to_what_runs_them_end_nobody_elses_work() -> None:
    """Tests are data, too: they may spoil their own problem's verdicts, and nothing else."""
    good = CheckJob("def add(a, b): return a + b", TESTS, "add")
    jobs = []
    for sent in FORGED.values():
        tests = f"import os\nfor fd in range(3, 40):\n    try:\n        os.write(fd, {sent!r})\n    except OSError:\n        pass\n"
        jobs += [CheckJob(good.program, f"{tests}os._exit(0)"), good]
    with SandboxPool(1) as pool:
        outcomes = pool.run(jobs, Limits(seconds=1), Mounts())
    assert [outcome.status for outcome in outcomes[1::2]] == ["passed"] * len(FORGED)
    assert {outcome.status for outcome in outcomes[::2]} <= {"refused", "failed", "timeout"}
