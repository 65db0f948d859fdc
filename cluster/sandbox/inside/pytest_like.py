"""What of pytest tests use, without pytest: fixtures, marks, ``raises``, ``approx``; running functions and classes."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import io
import itertools
import re
import sys
import tempfile
import types
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from . import channels
from .approximate import approx
from .outcomes import Cannot, is_own


class Skipped(Exception):
    """A test that isn't to be run."""


def install() -> None:
    """Have ``import pytest`` find this."""
    made: Any = types.ModuleType("pytest")
    made.raises, made.approx, made.fixture, made.param, made.mark = raises, approx, fixture, _Values, _Marks()
    made.fail, made.skip, made.xfail, made.importorskip = _fail, _skip, _skip, _import_or_skip
    made.main = lambda *_, **__: 0  # tests are collected and run here
    sys.modules["pytest"] = made


def _fail(reason: str = "", *_: Any, **__: Any) -> NoReturn:
    raise AssertionError(reason)


def _skip(reason: str = "", *_: Any, **__: Any) -> NoReturn:
    raise Skipped(reason)


def _import_or_skip(name: str, *_: Any, **__: Any) -> Any:
    try:
        return __import__(name)
    except ImportError as error:
        raise Skipped(name) from error


class raises:
    """Expect an exception, as a context or of a call."""

    def __new__(cls, expected: Any, *args: Any, **kwargs: Any) -> Any:
        made = super().__new__(cls)
        if not args or not callable(args[0]):
            return made
        made.__init__(expected)
        with made:
            args[0](*args[1:], **kwargs)
        return made

    def __init__(self, expected: Any, *_: Any, match: str | None = None, **__: Any) -> None:
        self._expected, self._match = expected, match
        self.value: Any = None
        self.type: Any = None

    def __enter__(self) -> raises:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> bool:
        if error is None or kind is None:
            raise AssertionError(f"did not raise {self._expected}")
        if not issubclass(kind, self._expected):
            return False
        self.value, self.type = error, kind
        if self._match is not None:
            self.match(self._match)
        return True

    def match(self, pattern: str) -> bool:
        """Whether the exception's text has the pattern in it."""
        if re.search(pattern, str(self.value)) is None:
            raise AssertionError(f"'{self.value}' doesn't match '{pattern}'")
        return True


class _Values:
    """The arguments of one case of a parametrized test."""

    def __init__(self, *values: Any, **about: Any) -> None:
        marks = about.get("marks") or ()
        self.values, self.marks = values, marks if isinstance(marks, list | tuple) else (marks,)


class _Mark:
    """One mark: what it is called, and what it says."""

    def __init__(self, name: str, args: tuple[Any, ...] = (), about: dict[str, Any] | None = None) -> None:
        self.name, self.args, self.about = name, args, about or {}

    def __call__(self, *args: Any, **about: Any) -> Any:
        if len(args) == 1 and not about and (isinstance(args[0], type) or is_own(args[0])):
            args[0]._marks = [*getattr(args[0], "_marks", ()), self]
            return args[0]
        return _Mark(self.name, args, about)

    def skips(self) -> bool:
        """Whether a test with this mark isn't run."""
        return self.name in ("skip", "xfail") or (self.name == "skipif" and bool(self.args and self.args[0]))


class _Marks:
    """``pytest.mark``."""

    def __getattr__(self, name: str) -> _Mark:
        return _Mark(name)


class _Fixture:
    """A function that makes what tests ask for by its name."""

    def __init__(self, make: Callable[..., Any], about: dict[str, Any]) -> None:
        self.make, self.name = make, about.get("name") or make.__name__
        self.autouse, self.params = bool(about.get("autouse")), about.get("params")


def fixture(make: Any = None, *_: Any, **about: Any) -> Any:
    """Declare a fixture."""
    return _Fixture(make, about) if callable(make) else lambda function: _Fixture(function, about)


def run(namespace: dict[str, Any], source: str) -> None:
    """Run the functions and classes among the tests that pytest would run.

    Args:
        source: of the tests.

    Raises:
        Cannot: a test asks for what isn't known here; or whatever a test raises.
    """
    fixtures = {value.name: value for value in namespace.values() if isinstance(value, _Fixture)}
    _call_if(namespace, "setup_module")
    for name, value in list(namespace.items()):
        if name.startswith("test") and is_own(value):
            _call_if(namespace, "setup_function")
            _each(value, fixtures, getattr(value, "_marks", ()), source)
        elif name.startswith("Test") and isinstance(value, type) and value.__module__ == "__main__":
            _run_class(value, fixtures, source)


def _run_class(kind: type, fixtures: dict[str, _Fixture], source: str) -> None:
    unittest = sys.modules.get("unittest")
    if "__init__" in vars(kind) or (unittest is not None and issubclass(kind, unittest.TestCase)):
        return
    own = {value.name: value for value in vars(kind).values() if isinstance(value, _Fixture)}
    _call_if({"setup_class": getattr(kind, "setup_class", None)}, "setup_class")
    for name in dir(kind):
        if name.startswith("test") and callable(getattr(kind, name)):
            instance = kind()
            bound = {key: _bound(value, instance) for key, value in own.items()}
            method = getattr(instance, name)
            for before in ("setup_method", "setup"):
                _call_if({before: getattr(instance, before, None)}, before, method)
            marks = [*getattr(kind, "_marks", ()), *getattr(method, "_marks", ())]
            _each(method, {**fixtures, **bound}, marks, source)
            for after in ("teardown_method", "teardown"):
                _call_if({after: getattr(instance, after, None)}, after, method)


def _bound(one: _Fixture, instance: Any) -> _Fixture:
    made = _Fixture(types.MethodType(one.make, instance), {"name": one.name, "autouse": one.autouse})
    made.params = one.params
    return made


def _call_if(names: dict[str, Any], name: str, *args: Any) -> None:
    function = names.get(name)
    if callable(function):
        takes = len(inspect.signature(function).parameters)
        function(*[*args, None][:takes])


def _each(test: Any, fixtures: dict[str, _Fixture], marks: Any, source: str) -> None:
    """Run a test for each of its parameters."""
    if any(mark.skips() for mark in marks):
        return
    lists = [_cases(mark) for mark in marks if mark.name == "parametrize"]
    for chosen in itertools.product(*lists):
        given: dict[str, Any] = {}
        for values in chosen:
            given.update(values)
        for made in _with_params(test, fixtures, given):
            with contextlib.suppress(Skipped), contextlib.ExitStack() as stack:
                _once(test, fixtures, {**given, **made}, stack, source)


def _cases(mark: _Mark) -> list[dict[str, Any]]:
    names, values, *_ = [*mark.args, *(mark.about[key] for key in ("argnames", "argvalues") if key in mark.about)]
    split = [name.strip() for name in names.split(",")] if isinstance(names, str) else list(names)
    cases: list[dict[str, Any]] = []
    for value in values:
        if isinstance(value, _Values):
            if any(mark.skips() for mark in value.marks):
                continue
            value = value.values if len(split) > 1 else value.values[0]
        cases.append(dict(zip(split, value, strict=True)) if len(split) > 1 else {split[0]: value})
    return cases


def _with_params(test: Any, fixtures: dict[str, _Fixture], given: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the values for fixtures that are made once for each of their parameters."""
    wanted = [fixtures[name] for name in inspect.signature(test).parameters if name in fixtures and name not in given]
    lists = [[(f"{one.name} param", value) for value in one.params] for one in wanted if one.params is not None]
    return [dict(chosen) for chosen in itertools.product(*lists)]


def _once(test: Any, fixtures: dict[str, _Fixture], given: dict[str, Any], stack: Any, source: str) -> None:
    made = dict(given)
    for one in fixtures.values():
        if one.autouse:
            _make(one.name, fixtures, made, stack)
    args: dict[str, Any] = {}
    patched = sum(type(one.new).__name__ == "_SentinelObject" for one in getattr(test, "patchings", ()))
    for name, parameter in [*inspect.signature(test).parameters.items()][patched:]:
        if name in made:
            args[name] = made[name]
        elif name in fixtures or name in _BUILT_IN:
            args[name] = _make(name, fixtures, made, stack)
        elif parameter.default is parameter.empty and parameter.kind <= parameter.KEYWORD_ONLY:
            if len(re.findall(rf"\b{re.escape(test.__name__)}\b", source)) > 1:
                return  # a helper of the tests' own, which only sounds like a test
            raise Cannot(f"the test {test.__name__} asks for '{name}', which nothing here gives")
    result = test(**args)
    if inspect.iscoroutine(result):
        asyncio.run(result)


def _make(name: str, fixtures: dict[str, _Fixture], made: dict[str, Any], stack: Any) -> Any:
    if name in made:
        return made[name]
    if name not in fixtures:
        made[name] = stack.enter_context(contextlib.contextmanager(_BUILT_IN[name])())
        return made[name]
    one = fixtures[name]
    args: dict[str, Any] = {}
    for wanted in inspect.signature(one.make).parameters:
        if wanted == "request":
            args[wanted] = types.SimpleNamespace(param=made.get(f"{name} param"), addfinalizer=stack.callback)
        elif wanted in fixtures or wanted in _BUILT_IN or wanted in made:
            args[wanted] = _make(wanted, fixtures, made, stack)
        else:
            raise Cannot(f"the fixture '{name}' asks for '{wanted}', which nothing here gives")
    value = one.make(**args)
    if inspect.isgenerator(value):
        generator = value
        value = next(generator)
        stack.callback(lambda: next(generator, None))
    made[name] = value
    return value


def _tmp_path() -> Iterator[Any]:
    import pathlib

    with tempfile.TemporaryDirectory() as folder:
        yield pathlib.Path(folder)


class _Captured:
    """What was printed since the last look."""

    def __init__(self) -> None:
        self.out, self.err = io.StringIO(), io.StringIO()

    def readouterr(self) -> Any:
        """Return what was printed, and forget it."""
        texts = types.SimpleNamespace(out=self.out.getvalue(), err=self.err.getvalue())
        for stream in (self.out, self.err):
            stream.seek(0)
            stream.truncate()
        return texts


def _capsys() -> Iterator[Any]:
    captured = _Captured()
    with contextlib.redirect_stdout(captured.out), contextlib.redirect_stderr(captured.err):
        yield captured


class _Patches:
    """Replaces what isn't in the program's process: noticed, so that a failure counts for nothing."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_, **__: channels.notice("replace names")


def _monkeypatch() -> Iterator[Any]:
    yield _Patches()


_BUILT_IN: dict[str, Callable[[], Iterator[Any]]] = {
    "tmp_path": _tmp_path,
    "capsys": _capsys,
    "monkeypatch": _monkeypatch,
}
