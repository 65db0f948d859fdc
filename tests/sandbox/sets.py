"""Hand-made problems in the shapes of known data sets, each with a program that is right and one that isn't."""

from __future__ import annotations

from typing import Any

Problem = tuple[dict[str, Any], str, str]
"""verification.code, a right completion, a wrong one."""

_FENCE = "```"


def block(program: str, label: str = "python") -> str:
    """Return a completion with a program in a block."""
    return f"Let me see.\n\n{_FENCE}{label}\n{program}\n{_FENCE}\nThat is all.\n"


MBPP: dict[str, Problem] = {
    name: ({"tests": tests}, block(right), block(wrong))
    for name, tests, right, wrong in [
        ("sum", ["assert total([1, 2]) == 3", "assert total([]) == 0"], "def total(x): return sum(x)", "def total(x): return len(x)"),
        ("reverse", ["assert turn('abc') == 'cba'"], "def turn(s): return s[::-1]", "def turn(s): return s"),
        ("squares", ["assert squares(3) == [0, 1, 4]"], "def squares(n): return [i * i for i in range(n)]", "def squares(n): return [i for i in range(n)]"),
        ("gcd", ["assert gcd(12, 18) == 6"], "from math import gcd", "def gcd(a, b): return 1"),
        ("volume", ["assert math.isclose(volume(2), 33.510321638, rel_tol=0.001)"], "import math\ndef volume(r): return 4 / 3 * math.pi * r ** 3", "def volume(r): return r ** 3"),
        ("tuple", ["assert pair(1) == (1, 2)"], "def pair(x): return x, x + 1", "def pair(x): return [x, x + 1]"),
        ("set", ["assert set(common([1, 2], [2, 3])) == {2}"], "def common(a, b): return [x for x in a if x in b]", "def common(a, b): return a"),
        ("dict", ["assert count('aab') == {'a': 2, 'b': 1}"], "from collections import Counter\ndef count(s): return Counter(s)", "def count(s): return {}"),
        ("bool", ["assert prime(7) == True", "assert prime(9) == False"], "def prime(n): return all(n % i for i in range(2, n))", "def prime(n): return True"),
        ("none", ["assert find([1], 2) is None", "assert find([1], 1) == 0"], "def find(x, y): return x.index(y) if y in x else None", "def find(x, y): return -1"),
        ("nested", ["assert flat([1, [2, [3]]]) == [1, 2, 3]"], "def flat(x): return sum(map(flat, x), []) if isinstance(x, list) else [x]", "def flat(x): return x"),
        ("sorted", ["assert by_len(['bb', 'a']) == ['a', 'bb']"], "def by_len(x): return sorted(x, key=len)", "def by_len(x): return x"),
        ("in place", ["a = [2, 1]\nput(a)\nassert a == [1, 2]"], "def put(x): x.sort()", "def put(x): return sorted(x)"),
        ("class", ["s = Stack()\ns.push(1)\nassert s.pop() == 1\nassert len(s) == 0"],
         "class Stack:\n    def __init__(self): self.x = []\n    def push(self, v): self.x.append(v)\n    def pop(self): return self.x.pop()\n    def __len__(self): return len(self.x)",
         "class Stack:\n    def push(self, v): pass\n    def pop(self): return None\n    def __len__(self): return 0"),
        ("raises", ["try:\n    root(-1)\nexcept ValueError:\n    ok = True\nassert ok", "assert root(4) == 2"], "def root(x):\n    if x < 0:\n        raise ValueError(x)\n    return x ** .5", "def root(x): return abs(x) ** .5"),
        ("two functions", ["assert half(4) == 2 and twice(2) == 4"], "def half(x): return x // 2\ndef twice(x): return 2 * x", "def half(x): return x // 2\ndef twice(x): return x"),
        ("big", ["assert fact(25) == 15511210043330985984000000"], "def fact(n): return 1 if n < 2 else n * fact(n - 1)", "def fact(n): return float(n)"),
        ("words", ["assert words('a b') == ['a', 'b']"], "def words(s): return s.split()", "def words(s): return list(s)"),
        ("higher order", ["assert apply(lambda x: x + 1, [1]) == [2]"], "def apply(f, x): return list(map(f, x))", "def apply(f, x): return x"),
        ("generator", ["assert list(evens(5)) == [0, 2, 4]"], "def evens(n): yield from range(0, n, 2)", "def evens(n): yield from range(n)"),
    ]
}  # fmt: skip


def _stdin(inputs: list[str], outputs: list[str]) -> dict[str, Any]:
    return {"inputs": inputs, "outputs": outputs}


def _calls(name: str, inputs: list[Any], outputs: list[Any], starter: str = "") -> dict[str, Any]:
    return {"fn_name": name, "inputs": inputs, "outputs": outputs, "starter_code": starter}


APPS: dict[str, Problem] = {
    name: (code, block(right), block(wrong))
    for name, code, right, wrong in [
        ("double", _stdin(["3\n", "0"], ["6\n", "0"]), "print(2 * int(input()))", "print(int(input()))"),
        ("sum of line", _stdin(["1 2 3\n"], ["6"]), "print(sum(map(int, input().split())))", "print(6 + len(input()) - 4)"),
        ("lines", _stdin(["2\na\nb\n"], ["a\nb\n"]), "for _ in range(int(input())): print(input())", "print(input())"),
        ("whole stdin", _stdin(["1\n2\n"], ["3"]), "import sys\nprint(sum(map(int, sys.stdin.read().split())))", "import sys\nprint(len(sys.stdin.read()))"),
        ("decimals", _stdin(["2"], ["1.41421356"]), "print(int(input()) ** .5)", "print(int(input()) / 2)"),
        ("guard", _stdin(["4"], ["16"]), "def main():\n    print(int(input()) ** 2)\nif __name__ == '__main__':\n    main()", "def main():\n    print(int(input()))\nif __name__ == '__main__':\n    main()"),
        ("yes", _stdin(["4", "5"], ["YES", "NO"]), "print('NO' if int(input()) % 2 else 'YES')", "print('YES')"),
        ("listed lines", {"inputs": [["1", "2"]], "outputs": [["3"]]}, "print(int(input()) + int(input()))", "print(input())"),
        ("numbers", {"inputs": ["7"], "outputs": [7]}, "print(input())", "print(1)"),
        ("empty", _stdin([""], ["hello"]), "print('hello')", "print('bye')"),
        ("call", _calls("add", [[1, 2], [0, 0]], [3, 0]), "def add(a, b): return a + b", "def add(a, b): return a"),
        ("wrapped", _calls("add", [[1, 2], [2, 2]], [[3], [4]]), "def add(a, b): return a + b", "def add(a, b): return [a]"),
        ("list of one", _calls("one", [[1], [2]], [[1], [2]]), "def one(x): return [x]", "def one(x): return [x + 1]"),
        ("method", _calls("add", [[1, 2]], [3], "class Solution:\n    def add(self, a: int, b: int) -> int:\n        "),
         "class Solution:\n    def add(self, a: int, b: int) -> int:\n        return a + b", "class Solution:\n    def add(self, a, b):\n        return b"),
        ("method as function", _calls("add", [[1, 2]], [3], "class Solution:\n    def add(self, a, b):\n"), "def add(a, b): return a + b", "def add(a, b): return 0"),
        ("continued", _calls("twice", [[2]], [4], "def twice(x):\n"), "    return 2 * x", "    return x"),
        ("tuples", _calls("pair", [[1]], [[1, 2]]), "def pair(x): return (x, x + 1)", "def pair(x): return (x, x)"),
        ("keys", _calls("names", [[{"1": "a"}]], [{"a": 1}]), "def names(d): return {v: k for k, v in d.items()}", "def names(d): return d"),
        ("state", _calls("push", [[1], [2]], [[1], [2]], "class Solution:\n    def push(self, x):\n"),
         "class Solution:\n    def __init__(self): self.all = []\n    def push(self, x):\n        self.all.append(x)\n        return self.all",
         "everything = []\nclass Solution:\n    def push(self, x):\n        everything.append(x)\n        return everything"),
        ("text", _calls("shout", [["a"]], ["A"]), "def shout(s): return s.upper()", "def shout(s): return s"),
    ]
}  # fmt: skip


def _functional(name: str, cases: list[tuple[str, str]], starter: str) -> dict[str, Any]:
    return {
        "fn_name": name,
        "cases": [{"input": one, "output": other} for one, other in cases],
        "starter_code": starter,
    }


def _solution(signature: str) -> str:
    return f"class Solution:\n    def {signature}:\n        "


def _method(signature: str, body: str) -> str:
    return f"class Solution:\n    def {signature}:\n        {body}"


LIVE_CODE_BENCH: dict[str, Problem] = {
    name: (_functional(signature.partition("(")[0], cases, _solution(signature)), block(_method(signature, right)), block(_method(signature, wrong)))
    for name, signature, cases, right, wrong in [
        ("sum", "total(self, nums: List[int]) -> int", [("[1, 2, 3]", "6"), ("[]", "0")], "return sum(nums)", "return len(nums)"),
        ("two arguments", "at(self, nums: List[int], k: int) -> int", [("[4, 5]\n1", "5")], "return nums[k]", "return k"),
        ("text", "turn(self, s: str) -> str", [('"ab"', '"ba"')], "return s[::-1]", "return s"),
        ("bool", "even(self, n: int) -> bool", [("2", "true"), ("3", "false")], "return n % 2 == 0", "return True"),
        ("float", "half(self, n: int) -> float", [("3", "1.50000")], "return n / 2", "return n // 2"),
        ("nested", "cross(self, grid: List[List[int]]) -> List[List[int]]", [("[[1, 2], [3, 4]]", "[[1, 3], [2, 4]]")], "return [list(x) for x in zip(*grid)]", "return grid"),
        ("tuples in lists", "cross(self, grid: List[List[int]])", [("[[1, 2], [3, 4]]", "[[1, 3], [2, 4]]")], "return list(zip(*grid))", "return []"),
        ("unimported", "count(self, s: str) -> Dict[str, int]", [('"aab"', '{"a": 2, "b": 1}')], "return Counter(s)", "return defaultdict(int)"),
        ("heap", "least(self, x: List[int]) -> int", [("[3, 1]", "1")], "heapify(x); return heappop(x)", "return heappop(x)"),
        ("cache", "fib(self, n: int) -> int", [("30", "832040")], "\n        @lru_cache(None)\n        def f(k): return k if k < 2 else f(k - 1) + f(k - 2)\n        return f(n)", "return n"),
        ("inf", "most(self, x: List[int]) -> int", [("[1, 2]", "2")], "best = -inf\n        for i in x: best = max(best, i)\n        return best", "return inf"),
        ("pow with modulus", "power(self, a: int, b: int) -> int", [("2\n10", "24")], "return pow(a, b, 1000)", "return pow(a, b)"),
        ("none", "nothing(self, x: int) -> Optional[int]", [("1", "null"), ("2", "2")], "return None if x == 1 else x", "return x"),
        ("long", "big(self, n: int) -> int", [("100", str(2**100))], "return 2 ** n", "return 2 ** n - 1"),
        ("words", "words(self, s: str) -> List[str]", [('"a b"', '["a", "b"]')], "return s.split()", "return [s]"),
        ("unicode", "first(self, s: str) -> str", [('"\\u00e9t"', '"\\u00e9"')], "return s[0]", "return s[1]"),
        ("argument changed", "ordered(self, x: List[int]) -> List[int]", [("[2, 1]", "[1, 2]")], "x.sort(); return x", "x.sort()"),
        ("helper", "f(self, n: int) -> int", [("3", "9")], "return self.g(n)\n    def g(self, n):\n        return n * n", "return self.h(n)"),
        ("numpy-like", "flags(self, x: List[int]) -> List[bool]", [("[1, 2]", "[false, true]")], "return [i % 2 == 0 for i in x]", "return [False, False]"),
        ("bisect", "place(self, x: List[int], y: int) -> int", [("[1, 3]\n2", "1")], "return bisect_left(x, y)", "return bisect_left(x, y) + 1"),
    ]
}  # fmt: skip
