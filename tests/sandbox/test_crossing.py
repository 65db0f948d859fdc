"""What crosses between tests and programs: right programs are right, fakes aren't, and what can't cross is an error."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import polars as pl
import pytest

from cluster.sandbox.pool import SandboxPool
from operators.sandbox import Limits
from operators.verify.code import VerifyCode

pytestmark = pytest.mark.sandbox

RIGHT: dict[str, tuple[str, str]] = {
    "date": ("import datetime\nassert f() == datetime.date(2020, 1, 2)", "from datetime import date\ndef f(): return date(2020, 1, 2)"),
    "datetime with zone": ("from datetime import *\nassert f() == datetime(2020, 1, 2, 3, tzinfo=timezone.utc) and f().tzinfo is timezone.utc", "from datetime import *\ndef f(): return datetime(2020, 1, 2, 3, tzinfo=timezone.utc)"),
    "named zone": ("from zoneinfo import ZoneInfo\nassert f().tzinfo == ZoneInfo('Europe/Paris')", "from datetime import *\nfrom zoneinfo import ZoneInfo\ndef f(): return datetime(2020, 1, 2, tzinfo=ZoneInfo('Europe/Paris'))"),
    "time and span": ("import datetime as d\nassert f() == [d.time(1, 2), d.timedelta(1, 2, 3)]", "import datetime as d\ndef f(): return [d.time(1, 2), d.timedelta(1, 2, 3)]"),
    "date as argument": ("import datetime\nassert f(datetime.date(2020, 1, 2)) == 2020", "def f(d): return d.year"),
    "uuid": ("import uuid\nassert f() == uuid.UUID(int=5)", "import uuid\ndef f(): return uuid.UUID(int=5)"),
    "paths": ("from pathlib import Path, PurePosixPath\nassert f(Path('/a')) == {PurePosixPath('/a/b'): Path('x')}", "from pathlib import *\ndef f(p): return {PurePosixPath(p / 'b'): Path('x')}"),
    "pattern": ("import re\nassert f() == re.compile('a', re.I)\nassert f().match('A')", "import re\ndef f(): return re.compile('a', re.I)"),
    "match": ("assert f('ab').group(1) == 'a'", "import re\ndef f(s): return re.match('(a)b', s)"),
    "named tuple": ("p = f()\nassert p.x == 1 and p == (1, 2) and p._replace(x=3).x == 3", "from collections import namedtuple\nP = namedtuple('P', 'x y')\ndef f(): return P(1, 2)"),
    "named tuple class": ("assert f(P(1, 2)) == 3 and isinstance(f2(), P)", "from typing import NamedTuple\nclass P(NamedTuple):\n    x: int\n    y: int\n    def sum(self): return self.x + self.y\ndef f(p): return p.sum()\ndef f2(): return P(3, 4)"),
    "method of a named tuple": ("assert f().sum() == 3", "from typing import NamedTuple\nclass P(NamedTuple):\n    x: int\n    y: int\n    def sum(self): return self.x + self.y\ndef f(): return P(1, 2)"),
    "enum": ("assert f() == Color.RED and f() is Color.RED and f().name == 'RED' and f().value == 1 and f() in [Color.RED] and f() != Color.BLUE", "from enum import Enum\nclass Color(Enum):\n    RED = 1\n    BLUE = 2\ndef f(): return Color.RED"),
    "int enum": ("assert f() == 1 and f() is Color.RED and f().name == 'RED' and g(f()) is True", "from enum import IntEnum\nclass Color(IntEnum):\n    RED = 1\ndef f(): return Color.RED\ndef g(c): return c is Color.RED"),
    "Python's enum": ("from http import HTTPStatus\nassert f() is HTTPStatus.OK", "from http import HTTPStatus\ndef f(): return HTTPStatus.OK"),
    "own exception": ("try:\n    f()\n    assert False\nexcept Broke as e:\n    assert str(e) == 'why' and e.code == 7", "class Broke(Exception):\n    def __init__(self, why, code):\n        super().__init__(why)\n        self.code = code\ndef f(): raise Broke('why', 7)"),
    "own exception, unittest": ("import unittest\nclass T(unittest.TestCase):\n    def test_a(self):\n        with self.assertRaises(Broke) as c:\n            f()\n        self.assertIsInstance(c.exception, ValueError)\n        self.assertNotIsInstance(c.exception, Other)", "class Broke(ValueError): pass\nclass Other(ValueError): pass\ndef f(): raise Broke('x')"),
    "own exception, pytest": ("import pytest\ndef test_f():\n    with pytest.raises(Base, match='^x$'):\n        f()", "class Base(Exception): pass\nclass Broke(Base): pass\ndef f(): raise Broke('x')"),
    "exception of a module": ("import json, pytest\ndef test_f():\n    with pytest.raises(json.JSONDecodeError):\n        f('{')", "import json\ndef f(s): return json.loads(s)"),
    "exception as result": ("e = f()\nassert isinstance(e, ValueError) and e.args == ('x', 1)", "def f(): return ValueError('x', 1)"),
    "exits": ("try:\n    f()\n    assert False\nexcept SystemExit as e:\n    assert e.code == 3", "import sys\ndef f(): sys.exit(3)"),
    "ends an iterator": ("it = f()\nassert next(it) == 1\ntry:\n    next(it)\n    assert False\nexcept StopIteration:\n    pass", "def f(): return iter([1])"),
    "says that it ends": ("s = S()\ntry:\n    s.take()\n    assert False\nexcept StopIteration:\n    pass", "class S:\n    def take(self): raise StopIteration"),
    "ordered, default, counter": ("from collections import *\na, b, c = f()\nassert a == OrderedDict([(1, 2), (3, 4)]) and b[9] == [] and c.most_common(1) == [('a', 2)]", "from collections import *\ndef f(): return OrderedDict([(1, 2), (3, 4)]), defaultdict(list), Counter('aab')"),
    "views and arrays": ("import array\nk, a, s, e, t = f()\nassert k == {1, 2} and a == array.array('i', [1]) and s == slice(1, 2) and e is Ellipsis and t is int", "import array\ndef f(): return {1: 0, 2: 0}.keys(), array.array('i', [1]), slice(1, 2), ..., int"),
    "coroutine": ("import asyncio\nassert asyncio.run(f()) == 3", "async def f(): return 3"),
    "async test": ("import pytest\n@pytest.mark.asyncio\nasync def test_f():\n    assert await f() == 3", "async def f(): return 3"),
    "generator": ("import types\ng = f()\nassert isinstance(g, types.GeneratorType) and next(g) == 1 and list(g) == [2]", "def f():\n    yield 1\n    yield 2"),
    "iterator as argument": ("assert f(iter([1, 2])) == 3 and f(x for x in [1]) == 1", "def f(x): return sum(x)"),
    "printed": ("import io, contextlib\nout = io.StringIO()\nwith contextlib.redirect_stdout(out):\n    f()\nassert out.getvalue() == 'hi\\n'", "def f(): print('hi')"),
    "printed, patched": ("import io\nfrom unittest.mock import patch\nwith patch('sys.stdout', new_callable=io.StringIO) as out:\n    f()\nassert out.getvalue() == 'hi\\n'", "def f(): print('hi')"),
    "printed, pytest": ("def test_f(capsys):\n    f()\n    assert capsys.readouterr().out == 'hi\\n'", "def f(): print('hi')"),
    "operators": ("assert V(1) + V(2) == V(3) and V(2) * 3 == V(6) and V(1) < V(2) and -V(1) == V(-1) and str(V(1)) == 'V1' and repr(V(1)) == 'V1' and isinstance(V(1), V) and not isinstance(1, V)", "class V:\n    def __init__(self, x): self.x = x\n    def __add__(self, o): return V(self.x + o.x)\n    def __mul__(self, k): return V(self.x * k)\n    def __lt__(self, o): return self.x < o.x\n    def __eq__(self, o): return self.x == o.x\n    def __neg__(self): return V(-self.x)\n    def __repr__(self): return f'V{self.x}'"),
    "attributes are set": ("b = Box()\nb.x = 3\nassert b.get() == 3\ndel b.x\nassert not hasattr(b, 'x')", "class Box:\n    def get(self): return self.x"),
    "a context": ("with Door() as d:\n    assert d.is_open\nassert not d.is_open", "class Door:\n    def __enter__(self):\n        self.is_open = True\n        return self\n    def __exit__(self, *a): self.is_open = False"),
    "contains": ("t = Trie(['ab'])\nassert 'ab' in t and 'x' not in t", "class Trie:\n    def __init__(self, w): self.w = w\n    def __contains__(self, x): return x in self.w"),
    "keyword is changed": ("a = [2, 1]\nf(xs=a)\nassert a == [1, 2]", "def f(xs): xs.sort()"),
    "inner list is changed": ("row = [0]\ngrid = [row]\nf(grid)\nassert row == [1]", "def f(g): g[0][0] = 1"),
    "the same object": ("a = [1]\nassert f(a) is a", "def f(a):\n    a.append(2)\n    return a"),
    "deep list": ("x = f(400)\nfor _ in range(400):\n    [x] = x\nassert x == []", "def f(n):\n    x = []\n    for _ in range(n): x = [x]\n    return x"),
    "numpy": ("import numpy as np\nassert (f() == np.array([1, 2])).all() and np.allclose(f(), [1, 2]) and f().dtype == np.int64", "import numpy as np\ndef f(): return np.array([1, 2])"),
    "NumPy's days": ("import numpy as np\nassert f()[0] == np.datetime64('2020-01-02') and g().tolist() == ['a', None]", "import numpy as np\ndef f(): return np.array(['2020-01-02'], 'M8[D]')\ndef g(): return np.array(['a', None], object)"),
    "empty array": ("import numpy as np\nassert f().size == 0 and np.array_equal(f(), np.array([]))", "import numpy as np\ndef f(): return np.array([])"),
    "fixtures and parameters": ("import pytest\n@pytest.fixture\ndef one():\n    yield 1\n@pytest.mark.parametrize('x, y', [(1, 2), pytest.param(2, 3)])\ndef test_f(one, x, y):\n    assert f(x) == pytest.approx(y) == x + one\nclass TestF:\n    def setup_method(self): self.x = 1\n    def test_g(self): assert f(self.x) == 2", "def f(x): return x + 1"),
    "a guard": ("import unittest\nclass T(unittest.TestCase):\n    def test_f(self): self.assertEqual(f(), 1)\nif __name__ == '__main__':\n    unittest.main()", "def f(): return 1"),
    "forgot to import": ("assert math.isclose(f(), 1.5) and isclose(f(), 1.5) and Counter(f2()) == Counter('aa')", "def f(): return 1.5\ndef f2(): return 'aa'"),
    "files": (
        "open('x', 'w').write('a')\nassert f('x') == 'a'\ng()\nassert open('/tmp/y').read() == 'b'",
        "def f(p): return open(p).read()\ndef g():\n    with open('/tmp/y', 'w') as y: y.write('b')",
    ),
    "a class that the prompt gave": ("n = Node(1)\nassert f(n) == 1", "class Node:\n    def __init__(self, v): self.v = v\ndef f(n): return n.v"),
}  # fmt: skip

WRONG: dict[str, tuple[str, str]] = {
    "ends a loop of the tests": ("assert list(map(f, [1, 2])) == []\nassert f.x if False else True", "def f(x): raise StopIteration"),
    "ends map": ("for found, wanted in zip(map(f, [1, 2]), [2, 3]):\n    assert found == wanted\nassert f(1) != 3", "class f:\n    def __new__(cls, x): raise StopIteration"),
    "contains everything": ("assert 3 in f()\nassert 4 in f()", "class A:\n    def __contains__(self, x): return True\ndef f(): return A()"),
    "a list that contains everything": ("assert 3 in f()", "class A(list):\n    def __contains__(self, x): return True\ndef f(): return A()"),
    "contains everything, is empty": ("assert 3 in f()", "class A:\n    def __contains__(self, x): return True\n    def __iter__(self): return iter([])\ndef f(): return A()"),
    "near to everything": ("assert abs(f() - 3.5) < 1e-6", "class A:\n    def __sub__(self, o): return 0.0\n    def __abs__(self): return 0.0\ndef f(): return A()"),
    "less than everything": ("assert f() < 3\nassert f() > 1", "class A:\n    def __lt__(self, o): return True\n    __gt__ = __lt__\ndef f(): return A()"),
    "empty array": ("import numpy as np\nassert (f() == np.array([1])).all()", "import numpy as np\ndef f(): return np.array([])"),
    "empty array, allclose": ("import numpy as np\nassert np.allclose(f(), [1.0])", "import numpy as np\ndef f(): return np.zeros(0)"),
    "empty list, allclose": ("import numpy as np\nassert np.allclose(f(), [1.0])", "def f(): return []"),
    "empty list made an array": ("import numpy as np\nassert (np.array(f()) == 1).all()", "def f(): return []"),
    "empty, nested": ("import numpy as np\na, b = f()\nassert (a == 1).all()", "import numpy as np\ndef f(): return np.empty((0, 3)), 1"),
    "fakes a module": ("assert math.isclose(f(), 1.5)", "class math:\n    isclose = lambda *a, **k: True\ndef f(): return 9"),
    "fakes NumPy": ("assert np.allclose(f(), [1.5])", "class np:\n    allclose = lambda *a, **k: True\ndef f(): return 9"),
    "fakes a function": ("assert isclose(f(), 1.5)", "def isclose(*a): return True\ndef f(): return 9"),
    "another order": ("from collections import OrderedDict\nassert f() == OrderedDict([(1, 2), (3, 4)])", "from collections import OrderedDict\ndef f(): return OrderedDict([(3, 4), (1, 2)])"),
    "another exception": ("import pytest\ndef test_f():\n    with pytest.raises(Broke):\n        f()", "class Broke(Exception): pass\nclass Other(Exception): pass\ndef f(): raise Other"),
    "another date": ("import datetime\nassert f() == datetime.date(2020, 1, 2)", "import datetime\nclass D(datetime.date):\n    def __eq__(self, o): return True\ndef f(): return D(2021, 1, 2)"),
    "one test of several": ("def test_a():\n    assert f() == 1\ndef test_b():\n    assert f() == 2", "def f(): return 1"),
    "skips the tests": ("import unittest\nclass T(unittest.TestCase):\n    def test_f(self): self.assertEqual(f(), 1)", "import unittest\ndef f(): raise unittest.SkipTest"),
    "an own object": ("assert f() == 3", "def f(): return object()"),
}  # fmt: skip

UNKNOWN: dict[str, tuple[str, str]] = {
    "contains itself": ("assert f() == [1]", "def f():\n    x = [1]\n    x.append(x)\n    return x"),
    "a kind that can't cross": ("assert f() == b'a'", "def f(): return memoryview(b'a')"),
    "the tests' own object": ("class P:\n    x = 1\nassert f(P()) == 1", "def f(p): return p.x"),
    "replaces what isn't there": ("from unittest.mock import patch\nwith patch('builtins.input', return_value='3'):\n    assert f() == 3", "def f(): return int(input())"),
    "an unknown fixture": ("def test_f(database):\n    assert f() == 1", "def f(): return 1"),
    "derives a class": ("class B(A):\n    pass\nassert B().f() == 1", "class A:\n    def f(self): return 1"),
}  # fmt: skip

VACUOUS: dict[str, str] = {
    "a comment": "# to be written",
    "a docstring": '"""Tests."""',
    "all is caught": "try:\n    assert f() == 1\nexcept Exception:\n    pass",
    "bare except": "try:\n    assert f() == 1\nexcept:\n    pass",
    "functions that nobody calls": "def helper():\n    assert f() == 1",
    "only that it is there": "assert callable(f)",
    "only that it is called": "f()\nf(1)",
    "not none": "assert f() is not None",
    "assert on a tuple": "assert (f() == 1, 'message')",
    "skipped": "import pytest\n@pytest.mark.skip\ndef test_f():\n    assert f() == 1",
    "skipped with a reason": "import pytest\n@pytest.mark.skip(reason='later')\ndef test_f():\n    assert f() == 1",
    "no parameters": "import pytest\n@pytest.mark.parametrize('x', [])\ndef test_f(x):\n    assert f(x) == 1",
    "an empty class": "import unittest\nclass T(unittest.TestCase):\n    pass",
    "any exception will do": "import pytest\ndef test_f():\n    with pytest.raises(Exception):\n        f(-1)",
    "methods without assertions": "s = f()\ns.push(1)\ns.pop()",
    "a check that nobody is given to": "def check(candidate):\n    assert candidate() == 1",
    "a loop over nothing": "for x, y in []:\n    assert f(x) == y",
}


@pytest.fixture(scope="module")
def pool() -> Iterator[SandboxPool]:
    with SandboxPool(2) as pool:
        yield pool


def judge(pool: SandboxPool, rows: dict[str, tuple[str, str]]) -> dict[str, tuple[Any, str, Any]]:
    """Return (is_correct, status, detail) of programs under their tests."""
    samples = [(key, 0, key, program, "ok") for key, (_, program) in rows.items()]
    schema = ["problem_key", "sample_index", "problem_id", "completion", "status"]
    about = [(key, key, json.dumps({"code": {"tests": tests}})) for key, (tests, _) in rows.items()]
    table = pl.DataFrame(about, schema=["problem_key", "problem_id", "verification"], orient="row")
    operator = VerifyCode(limits=Limits(seconds=5))
    found = operator.run(pl.DataFrame(samples, schema=schema, orient="row"), table, pool)
    return {
        row["problem_key"]: (row["is_correct"], row["status"], row["detail"]) for row in found.iter_rows(named=True)
    }


@pytest.mark.parametrize(
    ("rows", "is_correct", "status"),
    [
        (RIGHT, True, "ok"),
        (WRONG, False, "ok"),
        (UNKNOWN, None, "error"),
        ({name: (tests, "def f(*a): return 99") for name, tests in VACUOUS.items()}, None, "error"),
    ],
    ids=["right", "wrong", "unknown", "vacuous"],
)
def test_verdicts(pool: SandboxPool, rows: dict[str, tuple[str, str]], is_correct: Any, status: str) -> None:
    found = judge(pool, rows)
    assert {name: told for name, told in found.items() if told[:2] != (is_correct, status)} == {}


def test_a_lone_surrogate_costs_its_own_verdict_alone(pool: SandboxPool) -> None:
    rows = {
        "raised": ("assert f() == 1", "def f(): raise ValueError('\\ud800')"),
        "returned": ("assert f() == 1, f()", "def f(): return '\\udfff'"),
        "at once": ("assert f() == 1", "raise KeyError('\\ud83d')"),
        "fine": ("assert f() == 1", "def f(): return 1"),
    }
    found = judge(pool, rows)
    assert [told[:2] for told in found.values()] == [(False, "ok")] * 3 + [(True, "ok")]
    assert all(isinstance((told[2] or "").encode(), bytes) for told in found.values())
