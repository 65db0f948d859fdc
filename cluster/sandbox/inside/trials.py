"""Running tests: what they execute at once, ``check`` functions, unittest's cases, pytest's functions and classes."""

from __future__ import annotations

import builtins
import contextlib
import signal
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any, NoReturn, Protocol

from . import channels
from .outcomes import Cannot, Failed, is_own

CANDIDATES = ("candidate", "func", "fn", "function", "solution")
"""What the parameter of a ``check`` function is called that gets the entry point."""


class OutOfTime(BaseException):
    """The alarm: whatever was going on took too long. No ``except Exception`` of a test's swallows it."""


class Names(Protocol):
    """Where tests find what they don't define."""

    def name(self, name: str) -> tuple[bool, Any]:
        """Return (whether there is such a name, its value)."""
        ...


def _alarm(*_: Any) -> NoReturn:
    raise OutOfTime


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise OutOfTime when what is done within takes longer."""
    signal.signal(signal.SIGALRM, _alarm)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


class Trial:
    """Tests of one problem, compiled, with what they rely on.

    Raises:
        Cannot: they don't compile.
    """

    def __init__(self, tests: str, prefix: str) -> None:
        try:
            self._code = compile(tests, "tests", "exec")
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise Cannot(f"the tests don't compile: {error}") from error
        self._tests, self._prefix = tests, prefix
        both = tests + prefix
        if "unittest" in both:
            _without_main()
        # what few tests need is loaded for them alone: forks of a small process are fast
        self._for_pytest = "pytest" in tests or "def test" in tests or "class Test" in tests
        if self._for_pytest:
            from . import pytest_like

            pytest_like.install()
        if "os." in both:
            channels.watch()
        if "numpy" in both:
            from . import arrays

            with contextlib.suppress(ImportError):
                arrays.guard()

    def run(self, candidate: Names, entry_point: str | None, value: Any) -> None:
        """Run the tests once; return if all pass.

        Args:
            candidate: what they test.
            value: the entry point.

        Raises:
            Failed, Cannot, or whatever a test raises.
        """
        known = _Known(candidate, self._prefix)
        namespace: dict[str, Any] = {"__name__": "__main__", "__builtins__": known}
        if entry_point:
            namespace[entry_point] = value
        if "import" in self._tests:
            from . import imports

            imports.lend(self._tests, known.__getitem__)
        exec(self._code, namespace)
        for check in _checks(namespace, entry_point):
            check(value)
        _unittests(namespace)
        if self._for_pytest:
            from . import pytest_like

            pytest_like.run(namespace, self._tests)


class _Known(dict[str, Any]):
    """The tests' builtins; a name that is none of them, nor of the tests' own, is the prefix's, or the program's.

    Functions that the prompt gave are its own: the program could change them. Classes that it gave are the program's,
    whose objects live there.
    """

    def __init__(self, candidate: Names, prefix: str) -> None:
        super().__init__(vars(builtins))
        self._candidate, self._prefix = candidate, prefix
        self._classes: dict[str, Any] = {}

    def __missing__(self, name: str) -> Any:
        if self._prefix:  # few tests need it
            prefix, self._prefix = self._prefix, ""
            for known, value in _executed(prefix).items():
                own = isinstance(value, type) and value.__module__ == "prefix"
                (self._classes if own else self).setdefault(known, value)
            if name in self:
                return self[name]
        found, value = self._candidate.name(name)
        if not found:
            if name not in self._classes:
                raise KeyError(name)
            value = self._classes[name]
        return self.setdefault(name, value)


def _executed(prefix: str) -> dict[str, Any]:
    """Execute what the tests rely on; a prompt that ends in a function's head is made whole first."""
    namespace: dict[str, Any] = {"__name__": "prefix"}
    for text in (prefix, prefix.rstrip() + "\n    pass\n", prefix.rstrip() + "\n        pass\n"):
        with contextlib.suppress(SyntaxError):
            code = compile(text, "prefix", "exec")
            with contextlib.suppress(Exception):
                exec(code, namespace)
            break
    return namespace


def _checks(namespace: dict[str, Any], entry_point: str | None) -> list[Callable[[Any], Any]]:
    """Return the functions among the tests that are to be given the entry point: ``check``, or named like it."""
    if not entry_point:
        return []
    known = (*CANDIDATES, entry_point)
    found = {name: value for name, value in namespace.items() if is_own(value)}
    checks = [value for name, value in found.items() if name.startswith(("check", "test")) and _asks_for(value, known)]
    plain = found.get("check")
    return [plain] if plain is not None and plain not in checks and not checks else checks


def _asks_for(function: types.FunctionType, known: tuple[str, ...]) -> bool:
    """Whether all that a function needs is one argument of a known name."""
    code = function.__code__
    needed = code.co_varnames[: code.co_argcount - len(function.__defaults__ or ())]
    return len(needed) == 1 and needed[0] in known and code.co_kwonlyargcount == len(function.__kwdefaults__ or ())


def _without_main() -> None:
    """Tests are collected and run here, whatever they would start by themselves."""
    import unittest

    unittest.main = lambda *_, **__: None  # pyright: ignore[reportAttributeAccessIssue]
    channels.watch_patches()


def _unittests(namespace: dict[str, Any]) -> None:
    """Run the TestCases among the tests.

    Raises:
        Failed: not all pass.
    """
    unittest = sys.modules.get("unittest")
    if unittest is None:
        return
    kinds = [v for v in namespace.values() if isinstance(v, type) and issubclass(v, unittest.TestCase)]
    if kinds and callable(begin := namespace.get("setUpModule")):
        begin()
    for kind in kinds:
        result = unittest.TestResult()
        result.failfast = True
        unittest.TestLoader().loadTestsFromTestCase(kind).run(result)
        for case, trace in [*result.failures, *result.errors]:
            raise Failed(f"{case.id()}: {trace.strip().splitlines()[-1][:500]}")
        for case in result.unexpectedSuccesses:
            raise Failed(f"{case.id()}: passes, and should have failed")


def place(error: BaseException) -> str:
    """Return in which line of the tests an error was raised."""
    line, trace = None, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == "tests":
            line = trace.tb_lineno
        trace = trace.tb_next
    return f" (line {line} of the tests)" if line else ""
