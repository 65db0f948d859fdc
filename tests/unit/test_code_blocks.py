"""Which block of a completion is the program, and what its tests test."""

from __future__ import annotations

import pytest

from operators.load.code_columns import from_columns, from_ground_truth, with_starter_code
from operators.verify import names as names_in
from operators.verify.blocks import blocks_of, find_program
from operators.verify.calls import read_calls
from operators.verify.code_tests import read_tests
from operators.verify.lean import FORBIDDEN, TRUSTED, against_axioms, theorem_of
from schemas.errors import BadInput

F = "def f():\n    return 1\n"
WANTED = frozenset({"f"})


def fenced(code: str, label: str = "python", fence: str = "```", indent: str = "") -> str:
    lines = [f"{fence}{label}", *code.rstrip("\n").split("\n"), fence]
    return "\n".join(indent + line for line in lines)


@pytest.mark.parametrize(
    "completion",
    [
        fenced(F),
        fenced(F, "py"),
        fenced(F, "Python3"),
        fenced(F, ""),
        fenced(F, "{.python}"),
        fenced(F, "solution.py"),
        fenced(F, fence="~~~"),
        fenced(F, fence="~~~~"),
        fenced(F, fence="`````"),
        "1. So:\n\n" + fenced(F, indent="   ") + "\n\n2. Done.",
        "- So:\n" + fenced(F, indent="\t"),
        "> " + fenced(F).replace("\n", "\n> "),
        fenced(F).removesuffix("\n```"),
        fenced(F).replace("\n```", "```"),
        fenced(F) + "\nUsage:\n" + fenced("print(f())"),
        fenced(F) + "\nIt prints:\n" + fenced("1", ""),
        fenced(F) + "\nIt prints:\n" + fenced("1", "text"),
        fenced(F) + "\nRun it:\n" + fenced("python f.py", "bash"),
        fenced(F) + "\nTests:\n" + fenced("assert f() == 1"),
        fenced(F) + "\nIn C++:\n" + fenced("int f() { return 1; }", "cpp"),
        fenced("def f():\n    return 0\n") + "\nNo, better:\n" + fenced(F),
        fenced(F) + "\nIts head:\n" + fenced("def f():\n    ..."),
        fenced(F) + "\nor\n" + fenced("def f(:\n    return 2"),
        fenced("def f():\n    return 0\n", "text") + "\n" + fenced(F),
        "Here it is:\n\n" + F + "\nThat is all.",
        "Here it is:\n\n    def f():\n        return 1\n\nThat is all.",
        "[BEGIN]\n" + F + "[DONE]",
        "<code>\n" + F + "</code>",
        F,
    ],
)
def test_the_block_that_defines_what_is_tested(completion: str) -> None:
    assert (find_program(completion, "py", WANTED) or "").strip() == F.strip()


def test_blocks_are_joined_where_one_needs_another() -> None:
    parts = [
        fenced("import math"),
        fenced("def g():\n    return math.pi\n"),
        fenced("g()"),
        fenced("def f():\n    return g()\n"),
    ]
    joined = find_program("\nthen\n".join(parts), "py", WANTED)
    assert joined == "import math\n\ndef g():\n    return math.pi\n\ndef f():\n    return g()\n"
    behind = find_program(
        fenced("def f():\n    return g()\n") + "\n" + fenced("def g():\n    return 1\n"), "py", WANTED
    )
    assert behind is not None and "def g" in behind
    both = find_program(fenced("def f(): pass") + "\n" + fenced("def h(): return 1"), "py", frozenset({"f", "h"}))
    assert both is not None and "def f" in both and "def h" in both


def test_fences_within_a_program_are_its_own() -> None:
    code = "def f():\n    '''\n    ```\n    f()\n    ```\n    '''\n    return 1\n"
    assert find_program(fenced(code), "py", WANTED) == code
    assert find_program(fenced(code.replace("```", "~~~")), "py", WANTED) == code.replace("```", "~~~")
    assert len(blocks_of(fenced(code))) == 1


@pytest.mark.parametrize(
    ("completion", "program"),
    [
        (fenced("print(int(input()))") + "\n" + fenced("echo 3 | python a.py", "sh"), "print(int(input()))\n"),
        (fenced("print(int(input()))", "") + "\n" + fenced("3", ""), "print(int(input()))\n"),
        (
            fenced("n = int(input())\nprint(n)") + "\nFor example:\n" + fenced("print(3)"),
            "n = int(input())\nprint(n)\n",
        ),
        (
            fenced("def main():\n    print(input())") + "\n" + fenced("main()"),
            "def main():\n    print(input())\n\nmain()\n",
        ),
        (fenced("print(input() + 'a')") + "\nBetter:\n" + fenced("print(input() + 'b')"), "print(input() + 'b')\n"),
    ],
)
def test_scripts_are_what_reads(completion: str, program: str) -> None:
    assert find_program(completion, "py", reads=True) == program


def test_other_languages_have_their_own_blocks() -> None:
    text = fenced("int main() { return 0; }", "c++") + "\n" + fenced("print(1)") + "\n" + fenced("g++ a.cpp", "bash")
    assert find_program(text, "cpp") == "int main() { return 0; }\n"
    assert find_program(fenced("rfl", "lean4") + "\n" + fenced("lake build", "bash"), "lean") == "rfl\n"


def test_names() -> None:
    found = names_in.names_of("import math\ndef f(a):\n    return g(a) + math.pi + len(a)\nclass K: pass\nx: int = 1\n")
    assert found is not None
    assert (found.defined, found.used) == ({"math", "f", "K", "x"}, {"g"})
    assert names_in.names_of("def f(:") is None


@pytest.mark.parametrize(
    ("tests", "entry_point", "names", "imported"),
    [
        ("assert f(1) == 2", None, {"f"}, []),
        ("assert math.isclose(f(1), 2)", None, {"f"}, ["import math"]),
        ("assert isclose(f(1), 2)", None, {"f"}, ["from math import isclose"]),
        ("assert gcd(4, 6) == 2", None, {"gcd"}, []),
        ("assert np.allclose(f(), 1)", "f", {"f"}, ["import numpy as np"]),
        ("assert f() == datetime.date(1, 1, 1)", None, {"f"}, ["import datetime"]),
        ("assert f() == datetime(1, 1, 1)", None, {"f"}, ["from datetime import datetime"]),
        ("def check(candidate):\n    assert candidate(1) == 2", "f", {"f"}, []),
        ("s = Stack()\nassert s.pop() == 1", None, {"Stack"}, []),
    ],
)  # fmt: skip
def test_what_tests_test(tests: str, entry_point: str | None, names: set[str], imported: list[str]) -> None:
    found = names_in.tested(tests, entry_point, "")
    assert found.names == names
    assert [line.strip() for line in found.imports.splitlines() if "import " in line] == imported


@pytest.mark.parametrize(
    ("given", "args", "kwargs"),
    [
        ([1, [2]], (1, [2]), {}),
        ("1\n[2]", (1, [2]), {}),
        ("[\n1,\n2\n]", ([1, 2],), {}),
        ("True\n'a'", (True, "a"), {}),
        ("nums = [2, 7], target = 9", (), {"nums": [2, 7], "target": 9}),
        ({"n": 1}, (), {"n": 1}),
        ([{"1": "a"}], ({1: "a"},), {}),
        ("", (), {}),
    ],
)
def test_arguments_in_every_writing(given: object, args: tuple[object, ...], kwargs: dict[str, object]) -> None:
    [call] = read_calls([given], [3])
    assert (call.args, call.kwargs, call.expected) == (args, kwargs, 3)


def test_calls_are_refused_in_words() -> None:
    with pytest.raises(BadInput, match=r"problem 'p': verification.code: inputs.0: 'two and three' says no arguments"):
        read_tests('{"code": {"fn_name": "f", "inputs": ["two and three"], "outputs": [1]}}', "p")
    with pytest.raises(BadInput, match="2 inputs and 1 outputs"):
        read_tests('{"code": {"inputs": ["1", "2"], "outputs": ["1"]}}', "p")
    with pytest.raises(BadInput, match="has tests and cases; a program is checked in one way"):
        read_tests('{"code": {"tests": "assert f()", "cases": [{"stdin": "1", "stdout": "2"}]}}', "p")
    assert read_tests('{"code": {"tests": "assert f()", "cases": null}}', "p").tests == "assert f()"


def test_columns_of_calls() -> None:
    apps = {"input_output": '{"fn_name": "add", "inputs": [[1, 2]], "outputs": [3]}', "starter_code": "def add(a, b):"}
    found = from_columns(apps)
    assert found == {"code": {"fn_name": "add", "inputs": [[1, 2]], "outputs": [3], "starter_code": "def add(a, b):"}}
    live = {
        "public_test_cases": '[{"input": "1\\n2", "output": "3", "testtype": "functional"}]',
        "private_test_cases": "",
        "metadata": '{"func_name": "add"}',
        "starter_code": "class Solution:\n    def add(self, a, b):\n        ",
    }
    about = (from_columns(live) or {})["code"]
    assert (about["fn_name"], about["cases"]) == ("add", [{"input": "1\n2", "output": "3"}])
    script = from_columns({"public_test_cases": '[{"input": "1", "output": "2", "testtype": "stdin"}]'})
    assert script == {"code": {"cases": [{"input": "1", "output": "2"}]}}
    assert from_ground_truth('{"inputs": ["1"], "outputs": ["2"]}') == {"code": {"inputs": ["1"], "outputs": ["2"]}}
    assert from_ground_truth('{"x": 1}') is None
    with pytest.raises(ValueError, match="'func_name'"):
        from_columns({**live, "metadata": "{}"})


def test_packed_cases_are_text_and_nothing_else() -> None:
    import base64
    import os
    import pickle
    import zlib

    cases = '[{"input": "1", "output": "2", "testtype": "stdin"}]'
    packed = base64.b64encode(zlib.compress(pickle.dumps(cases))).decode()
    assert from_columns({"private_test_cases": packed}) == {"code": {"cases": [{"input": "1", "output": "2"}]}}
    harmful = base64.b64encode(zlib.compress(pickle.dumps(os.getcwd))).decode()
    with pytest.raises(ValueError, match="packed tests are no text"):
        from_columns({"private_test_cases": harmful})


def test_starter_code_is_part_of_the_prompt() -> None:
    asked = with_starter_code("Add two numbers.", "\ndef add(a, b):\n    ")
    assert asked == "Add two numbers.\n\nStarter code:\ndef add(a, b):\n"
    assert with_starter_code(asked, "def add(a, b):") == asked
    assert with_starter_code("Add.", None) == with_starter_code("Add.", "  ") == "Add."


@pytest.mark.parametrize(
    "proof",
    [
        "by sorry", "by admit", "exact sorryAx _ false", "by native_decide", "by decide +native", "by stop",
        "run_elab x", "run_cmd x", "run_tac x", "#eval 1", "#exit", "# print x", "axiom a : False", "unsafe def x := 1",
        "unsafeCast x", "initialize x : Nat ← pure 1", "set_option debug.skipKernelTC true in",
        "macro \"x\" : term => `(1)",
        "elab \"x\" : tactic => x", "notation \"x\" => 1", "infixl:65 \"+\" => f", "@[implemented_by f]", "IO.println",
        "Lean.ofReduceBool", "import Lean", "by_elab x", "@[extern \"f\"]",
    ],
)  # fmt: skip
def test_what_no_proof_needs_is_forbidden(proof: str) -> None:
    import re

    assert any(re.search(pattern, proof) for pattern in FORBIDDEN)
    fine = "by\n  intro n\n  induction n with\n  | zero => simp\n  | succ n ih => rw [Nat.add_succ, ih]; decide"
    assert not any(re.search(pattern, fine) for pattern in FORBIDDEN)


def test_axioms() -> None:
    prompt = "theorem old : True := trivial\nnamespace N\ntheorem new (n : Nat) : n = n := by"
    assert theorem_of(prompt) == "new"
    ordinary = "'N.new' depends on axioms: [propext,\n Classical.choice]"
    assert against_axioms(ordinary, prompt, TRUSTED) is None
    assert against_axioms("'new' does not depend on any axioms", prompt, TRUSTED) is None
    assert against_axioms("'N.new' depends on axioms: [propext, sorryAx]", prompt, TRUSTED) == "rests on sorryAx"
    assert "told nothing" in (against_axioms("'X.new' does not depend on any axioms", prompt, TRUSTED) or "")
    assert "told nothing" in (against_axioms("", prompt, TRUSTED) or "")
