"""Tools that a model may call in an episode: Python in the sandbox, and functions of a user's in killable workers.

What a tool says is a text that the model reads, errors included; it never ends an episode. Programs of one episode
share their names, as cells of a notebook do: each runs behind all that came before, whose output is thrown away.
"""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import json
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, TypeAdapter, ValidationError, create_model

from operators.sandbox import CommandJob, Limits, Mounts, Outcome, Sandbox
from operators.verify.own_function import find, source_of
from operators.workers import TimedOut, WorkerFailed, WorkerPool
from schemas.settings import Settings

SESSION = """
import ast, contextlib, json, os, sys, traceback
with open("cells.json", encoding="utf-8") as file:
    cells = json.load(file)
names = {"__name__": "__main__"}
def run(text):
    tree = ast.parse(text, "cell")
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "cell", "exec"), names)
    if last is not None:
        value = eval(compile(ast.Expression(last.value), "cell", "eval"), names)
        if value is not None:
            print(repr(value))
for text in cells[:-1]:
    with open(os.devnull, "w") as nothing, contextlib.redirect_stdout(nothing), contextlib.redirect_stderr(nothing):
        try:
            run(text)
        except BaseException:
            pass
try:
    run(cells[-1])
except SystemExit:
    pass
except BaseException as error:
    for line in traceback.format_exception(type(error), error, error.__traceback__):
        if line.startswith('  File "cell"') or not line.startswith("  File"):
            sys.stdout.write(line)
sys.stdout.flush()
"""
"""Runs the last of some programs with what those before it left, and prints the value of its last line."""


class Tool(Settings, ABC):
    """Base of the tools."""

    output: int = Field(default=4000, ge=16)
    """Characters of what it says that the model reads; of more, the beginning and the end."""

    @property
    @abstractmethod
    def called(self) -> str:
        """The name by which the model calls it."""

    @property
    @abstractmethod
    def needs(self) -> str:
        """Which of an operator's tools it is built on."""

    @abstractmethod
    def described(self) -> dict[str, Any]:
        """Return how OpenAI's API describes it."""

    @abstractmethod
    def use(self, arguments: Mapping[str, Any], before: Sequence[Mapping[str, Any]], given: Any) -> str:
        """Return what it says.

        Args:
            before: arguments of earlier calls of the episode to the same tool.
            given: the sandbox, or the pool of workers.
        """

    def cut(self, text: str) -> str:
        """Return as much of a text as the model reads."""
        if len(text) <= self.output:
            return text
        half = self.output // 2
        return f"{text[:half]}\n[{len(text) - 2 * half:,} characters are left out]\n{text[-half:]}"

    def fingerprint(self) -> dict[str, Any]:
        """Return what makes two uses the same."""
        return self.model_dump(mode="json")


class Python(Tool):
    """Python programs in the sandbox: no network, no files, no patience."""

    kind: Literal["python"] = "python"
    limits: Limits = Limits()
    """Limits of all programs of an episode together, since each runs behind those before it."""
    packages: tuple[str, ...] = ()
    """Installed packages that programs may import."""

    @property
    def called(self) -> str:
        return "python"

    @property
    def needs(self) -> str:
        return "sandbox"

    def described(self) -> dict[str, Any]:
        code = {"type": "string", "description": "The program; the value of its last line is printed."}
        about = "Run a Python program and read what it prints. Names are kept from one call to the next."
        parameters = {"type": "object", "properties": {"code": code}, "required": ["code"]}
        return {"type": "function", "function": {"name": "python", "description": about, "parameters": parameters}}

    def use(self, arguments: Mapping[str, Any], before: Sequence[Mapping[str, Any]], given: Sandbox) -> str:
        code = arguments.get("code")
        if not isinstance(code, str):
            return "error: python takes the argument 'code', a text"
        cells = json.dumps([*(one["code"] for one in before if isinstance(one.get("code"), str)), code])
        job = CommandJob(("python3", "session.py"), (("session.py", SESSION), ("cells.json", cells)))
        [outcome] = given.run([job], self.limits, Mounts(packages=self.packages))
        return self.cut(_told(outcome))


def _told(outcome: Outcome) -> str:
    if outcome.status == "passed":
        return outcome.stdout.rstrip("\n")
    return f"{outcome.stdout}error: {outcome.detail or outcome.status}"


class Function(Tool):
    """A function of a user's, ``package.module:name``, in a worker process that is killed when it takes too long.

    Its parameters, their types and its docstring are what the model is told. It returns a text, or what JSON has.
    """

    kind: Literal["function"] = "function"
    target: str
    """``package.module:name``."""
    seconds: float = Field(default=10.0, gt=0.0)
    """A call may take."""

    @property
    def called(self) -> str:
        return self.target.rpartition(":")[2].rpartition(".")[2]

    @property
    def needs(self) -> str:
        return "workers"

    def described(self) -> dict[str, Any]:
        function = find(self.target)
        parameters = _parameters(function).model_json_schema()
        parameters.pop("title", None)
        about = inspect.getdoc(function) or ""
        return {"type": "function", "function": {"name": self.called, "description": about, "parameters": parameters}}

    def use(self, arguments: Mapping[str, Any], before: Sequence[Mapping[str, Any]], given: WorkerPool) -> str:
        try:
            _parameters(find(self.target)).model_validate(dict(arguments))
        except ValidationError as error:
            wrong = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
            return self.cut(f"error: {self.called}: {wrong}")
        [found] = given.map(call, [(self.target, tuple(sys.path), dict(arguments))], self.seconds)
        if isinstance(found, TimedOut):
            return f"error: {self.called} took longer than {self.seconds:g} s"
        return self.cut(f"error: {found.message}" if isinstance(found, WorkerFailed) else str(found))

    def fingerprint(self) -> dict[str, Any]:
        """Return what makes two uses the same: the function's own text among it."""
        return {**super().fingerprint(), "source": hashlib.blake2b(source_of(self.target).encode()).hexdigest()[:32]}


def call(target: str, path: Sequence[str], arguments: dict[str, Any]) -> str:
    """Call a user's function, in a worker. What it prints goes to standard error."""
    sys.path.extend(place for place in path if place not in sys.path)
    with contextlib.redirect_stdout(sys.stderr):
        found = find(target)(**arguments)
    return found if isinstance(found, str) else TypeAdapter(Any).dump_json(found).decode()


def _parameters(function: Callable[..., Any]) -> type[BaseModel]:
    """Return a model of what a function takes."""
    hints = inspect.get_annotations(function, eval_str=True)
    fields: dict[str, Any] = {
        name: (hints.get(name, Any), ... if parameter.default is parameter.empty else parameter.default)
        for name, parameter in inspect.signature(function).parameters.items()
    }
    return create_model("Arguments", __config__={"extra": "forbid"}, **fields)


AnyTool = Annotated[Python | Function, Field(discriminator="kind")]
